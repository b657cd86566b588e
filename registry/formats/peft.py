"""PEFT adapters, LoRA, LoHa and LoKr: what a configuration and a tensor header say, without reading a weight.

Factors are checked against the rank that the configuration gives each module, and every tensor of the file is
accounted for. What changes the forward pass beyond B·A is recorded by name in `variants`; nothing is dropped.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import BinaryIO

from registry.domain.errors import InvalidAdapter, InvalidFile, UnsupportedAdapter
from registry.domain.spec import AdapterSpec, AdapterSummary, ModuleSpec
from registry.formats import ia3
from registry.formats.json_document import JsonLimits, parse_object
from registry.formats.peft_config import LoraSettings, read_settings, read_texts
from registry.formats.peft_lycoris import KINDS, read_lycoris_settings
from registry.formats.peft_modules import SHOWN_BY_TENSORS, build_modules
from registry.formats.peft_tensors import sort_tensors
from registry.formats.safetensors import Header, Limits
from registry.formats.tensor_file import CONVERT_PICKLE, OpenFile, read_file_header

NAME = "peft"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

_FACTOR_KINDS = frozenset({"linear", "embedding", "conv", "parameter", "loha", "lokr"})
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def detect(names: Collection[str]) -> bool:
    """Whether these files look like a PEFT adapter."""
    return CONFIG in names


def read(config: bytes, header: Header, *, config_path: str = CONFIG) -> AdapterSpec:
    """Read an adapter from its configuration and its tensors' header.

    Raises InvalidFile, InvalidAdapter or RankMismatch naming the key or the tensor; UnsupportedAdapter naming the kind.
    """
    document = parse_object(config, path=config_path)
    if document.get("peft_type") == ia3.PEFT_TYPE:
        return ia3.read(document, header, texts=read_texts(document, path=config_path))
    is_lycoris = document.get("peft_type") in KINDS
    settings = (read_lycoris_settings if is_lycoris else read_settings)(document, path=config_path)
    modules = build_modules(sort_tensors(header.tensors, settings), settings)
    if not any(module.kind in _FACTOR_KINDS for module in modules):
        raise InvalidAdapter("tensors", f"none of them is a factor of {settings.peft_type}")
    parameters = sum(prod(tensor.shape) for tensor in header.tensors)
    return AdapterSpec(_summary(modules, settings, parameters), modules, settings.document)


def read_files(sizes: Mapping[str, int], open_file: OpenFile, *, limits: Limits | None = None) -> AdapterSpec:
    """Read an adapter out of its files {path: bytes}; only the configuration and the tensors' header are read.

    Raises what `read` does, and UnsupportedAdapter for weights that are pickled.
    """
    if CONFIG not in sizes:
        raise InvalidAdapter(CONFIG, "it is missing")
    if WEIGHTS not in sizes:
        raise _without_weights(sizes)
    config_limit = JsonLimits().size
    if sizes[CONFIG] > config_limit:
        raise InvalidFile(CONFIG, "size", f"{sizes[CONFIG]} bytes of JSON; {config_limit} are allowed")
    with open_file(CONFIG, start=0, length=sizes[CONFIG]) as stream:
        config = stream.read()
    return read(config, read_file_header(WEIGHTS, sizes[WEIGHTS], open_file, limits=limits))


def read_folder(folder: Path) -> AdapterSpec:
    """Read an adapter from a folder; raises what `read_files` does."""
    sizes = {entry.name: entry.stat().st_size for entry in folder.iterdir() if entry.is_file()}

    @contextmanager
    def open_file(path: str, *, start: int, length: int) -> Iterator[BinaryIO]:
        with (folder / path).open("rb") as stream:
            stream.seek(start)
            yield stream

    return read_files(sizes, open_file)


def _without_weights(names: Collection[str]) -> InvalidAdapter | UnsupportedAdapter:
    pickled = [name for name in sorted(names) if name.endswith(_PICKLE_SUFFIXES)]
    if pickled:
        return UnsupportedAdapter(pickled[0], "weights in a pickle", CONVERT_PICKLE)
    return InvalidAdapter(WEIGHTS, "it is missing")


def _summary(modules: tuple[ModuleSpec, ...], settings: LoraSettings, parameters: int) -> AdapterSummary:
    factors = [module for module in modules if module.kind in _FACTOR_KINDS]
    rank = max(module.rank for module in factors)
    shown = {variant for module in modules for variant in module.variants}
    return AdapterSummary(
        format=NAME,
        peft_type=settings.peft_type,
        rank=rank,
        alpha=settings.alpha,
        ranks={module.name: module.rank for module in factors if module.rank != rank},
        targets=tuple(sorted({module.name.rpartition(".")[2] for module in factors})),
        variants=tuple(sorted(shown | settings.variants - SHOWN_BY_TENSORS)),
        dtype=Counter(module.dtype for module in factors).most_common(1)[0][0],
        parameters=parameters,
        base_name=settings.base_name,
        base_revision=settings.base_revision,
        task_type=settings.task_type,
    )
