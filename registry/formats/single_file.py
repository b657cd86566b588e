"""Adapters that are one safetensors file without a configuration: which format it is stands in its tensors' names."""

from collections.abc import Collection, Mapping

from registry.domain.errors import InvalidAdapter
from registry.domain.spec import AdapterSpec
from registry.formats import diffusers, kohya
from registry.formats.safetensors import Limits
from registry.formats.tensor_file import OpenFile, read_file_header, read_scalars

_SUFFIX = ".safetensors"
_PEFT_PREFIX = "base_model.model."
# Files that trainers wrote before safetensors aligned its tensors are read too.
_LIMITS = Limits(aligned=False)


def weights_file(names: Collection[str]) -> str | None:
    """The one safetensors file among these, or None where there is none or several."""
    found = [name for name in names if name.endswith(_SUFFIX)]
    return found[0] if len(found) == 1 else None


def detect(names: Collection[str]) -> bool:
    """Whether these files look like an adapter in a single file."""
    return weights_file(names) is not None


def read_files(sizes: Mapping[str, int], open_file: OpenFile, *, limits: Limits = _LIMITS) -> AdapterSpec:
    """Read an adapter out of its files {path: bytes}: the header, and the alphas among the tensors.

    Raises InvalidFile, InvalidAdapter, RankMismatch or UnsupportedAdapter naming the file or the tensor.
    """
    path = weights_file(sizes)
    if path is None:
        raise InvalidAdapter("files", "an adapter in a single file has one file that ends in .safetensors")
    header = read_file_header(path, sizes[path], open_file, limits=limits)
    names = [tensor.name for tensor in header.tensors]
    alphas = [tensor for tensor in header.tensors if tensor.name.endswith(kohya.ALPHA)]
    for recognises, read in ((kohya.recognises, kohya.read), (diffusers.recognises, diffusers.read)):
        if recognises(names):
            return read(header, read_scalars(path, alphas, open_file))
    if any(name.startswith(_PEFT_PREFIX) for name in names):
        raise InvalidAdapter(path, "its tensors are a PEFT adapter's, whose adapter_config.json is missing")
    shown = f"; its first is {names[0]!r}" if names else ""
    raise InvalidAdapter(path, f"its tensors have the names of no known format (kohya, diffusers){shown}")
