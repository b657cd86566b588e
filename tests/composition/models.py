"""Small base models in safetensors shards, adapters of them, and a registry that knows both."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from registry.blobs.filesystem import FolderStore
from registry.domain.records import Version
from registry.domain.reference import AdapterName
from registry.formats.base_model import index_base
from registry.service import Registry
from registry.service.publishing import Submission
from registry.sql.engine import Database
from registry.sql.schema import ensure_schema

NAME = "toys/small"
SHAPES = {"q_proj": (24, 40), "v_proj": (40, 40), "down_proj": (40, 24)}
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
Tensors = dict[str, torch.Tensor]


def base_tensors(dtype: torch.dtype = torch.bfloat16, *, layers: int = 2, transposed: bool = False) -> Tensors:
    """The weights of a small model; a transposed one stores (in, out)."""
    generator = torch.Generator().manual_seed(11)
    tensors = {"model.embed_tokens.weight": torch.randn(17, 40, generator=generator)}
    for layer in range(layers):
        for part, (out, inside) in SHAPES.items():
            shape = (inside, out) if transposed else (out, inside)
            tensors[f"model.layers.{layer}.{part}.weight"] = 0.05 * torch.randn(*shape, generator=generator)
        tensors[f"model.layers.{layer}.norm.weight"] = torch.ones(40)
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}


def write_base(folder: Path, tensors: Tensors, *, shards: int = 2, model_type: str = "toy") -> Path:
    """Write a model into `shards` files, with an index, a configuration and a tokenizer."""
    folder.mkdir(parents=True)
    names = sorted(tensors)
    files: dict[str, Tensors] = {}
    for position, name in enumerate(names):
        number = 1 + position * shards // len(names)
        file = "model.safetensors" if shards == 1 else f"model-{number:05}-of-{shards:05}.safetensors"
        files.setdefault(file, {})[name] = tensors[name].contiguous()
    for file, held in files.items():
        save_file(held, folder / file, metadata={"format": "pt", "shard": file})
    if shards > 1:
        weight_map = {name: file for file, held in files.items() for name in held}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"weights in another format")
    return folder


def read_tensors(folder: Path) -> Tensors:
    """Every tensor of a folder's safetensors files."""
    found: Tensors = {}
    for file in sorted(folder.glob("model*.safetensors")):
        found |= load_file(file)
    return found


def factors(
    seed: int, *, rank: int = 4, layers: int = 2, size: float = 0.05, parts: tuple[str, ...] = tuple(SHAPES)
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Random A (rank, in) and B (out, rank) of each module."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for layer in range(layers):
        for part in parts:
            out, inside = SHAPES[part]
            a, b = torch.randn(rank, inside, generator=generator), torch.randn(out, rank, generator=generator)
            found[f"layers.{layer}.{part}"] = (size * a, size * b)
    return found


def write_lora(
    folder: Path,
    modules: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    *,
    dtype: torch.dtype = torch.float32,
    extra: Tensors | None = None,
    **config: object,
) -> Path:
    """Write a PEFT adapter of factors {module: (A, B)}; alpha is 2 r unless said."""
    folder.mkdir(parents=True)
    rank = next(iter(modules.values()))[0].shape[0]
    document = {
        "peft_type": "LORA",
        "base_model_name_or_path": NAME,
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": sorted(modules),
    }
    (folder / "adapter_config.json").write_text(json.dumps(document | config))
    tensors: Tensors = {}
    for name, (a, b) in modules.items():
        tensors[f"base_model.model.model.{name}.lora_A.weight"] = a.to(dtype).contiguous()
        tensors[f"base_model.model.model.{name}.lora_B.weight"] = b.to(dtype).contiguous()
    save_file(tensors | (extra or {}), folder / "adapter_model.safetensors")
    return folder


@dataclass(frozen=True)
class World:
    """A registry, and the folder of its base."""

    registry: Registry
    root: Path
    base: Path

    def push(self, name: str, folder: Path) -> Version:
        publication = self.registry.push_folder(folder, Submission(AdapterName.parse(name), ()))
        assert publication.version is not None
        return publication.version


@contextmanager
def world(root: Path, tensors: Tensors, *, shards: int = 2, model_type: str = "toy") -> Iterator[World]:
    """A registry that knows a base of these tensors."""
    database = Database(f"sqlite:///{root / 'registry.db'}")
    ensure_schema(database, migrate=True)
    registry = Registry(database, FolderStore(root / "blobs"))
    base = write_base(root / "base", tensors, shards=shards, model_type=model_type)
    registry.add_base(NAME, index_base(base))
    yield World(registry, root, base)
    registry.close()
