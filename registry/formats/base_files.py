"""Where a base model's tensors lie: a safetensors file, a folder of them, diffusers' component folders, or a GGUF file.

Headers only; `registry.formats.base_model` reads the bytes. A base is a file of whoever registers it, but its headers
are checked as strictly as a stranger's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.domain.errors import InvalidFile
from registry.domain.paths import check_path
from registry.formats.gguf import read_gguf
from registry.formats.json_document import JsonLimits, parse_object
from registry.formats.safetensors import Limits, read_header

# Files of large checkpoints, written by older tools too: those don't align their tensors.
_LIMITS = Limits(header=100 << 20, tensors=1_000_000, name=1024, dimensions=8, aligned=False)
_INDEX_LIMITS = JsonLimits(size=256 << 20)
_CONFIG_LIMITS = JsonLimits()

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_NOT_WEIGHTS = frozenset({"adapter_model.safetensors", "optimizer.safetensors"})


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor and the bytes that it takes in a file."""

    component: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class StoredBase:
    """What the headers of a base say; `tensors` may name one twice, where two shards hold it."""

    format: str
    model_type: str | None
    tensors: tuple[StoredTensor, ...]


def read_base(path: Path) -> StoredBase:
    """Read the headers of a base. Raises InvalidFile for one that is absent, incomplete, pickled or malformed."""
    if not path.exists():
        raise InvalidFile(str(path), "path", "there is no such file or folder")
    if path.is_dir():
        return _read_folder(path)
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic == b"GGUF":
        model_type, rows = read_gguf(path)
        stored = tuple(StoredTensor("", *row[:3], path, *row[3:]) for row in rows)
        return StoredBase("gguf", model_type, stored)
    if path.suffix != ".safetensors":
        raise InvalidFile(str(path), "format", "a base is a folder of safetensors, a .safetensors or a GGUF file")
    return StoredBase("safetensors", _model_type(path.parent), tuple(_tensors(path, "")))


def _read_folder(folder: Path) -> StoredBase:
    files = _weight_files(folder)
    if files:
        tensors = tuple(tensor for file in files for tensor in _tensors(file, ""))
        return StoredBase("safetensors", _model_type(folder), tensors)
    components = {child.name: _weight_files(child) for child in sorted(folder.iterdir()) if child.is_dir()}
    if (folder / "model_index.json").is_file() and any(components.values()):
        tensors = tuple(
            tensor for component, files in components.items() for file in files for tensor in _tensors(file, component)
        )
        return StoredBase("safetensors", _model_type(folder), tensors)
    return _read_single_gguf(folder)


def _read_single_gguf(folder: Path) -> StoredBase:
    files = sorted(folder.glob("*.gguf"))
    if len(files) == 1:
        return read_base(files[0])
    if files:
        raise InvalidFile(str(folder), "folder", f"it holds {len(files)} GGUF files; name the one that is the base")
    if any(next(folder.glob(f"{under}{pattern}"), None) for pattern in _PICKLES for under in ("", "*/")):
        raise InvalidFile(
            str(folder),
            "weights",
            "they are pickled, and loading those can run code. Where you trust them, load the model with "
            "from_pretrained and save it again with save_pretrained, which writes safetensors",
        )
    raise InvalidFile(str(folder), "folder", "it holds no .safetensors and no .gguf file")


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold one model, leaving out second copies of it in other precisions or layouts."""
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    plain = [index for index in indexes if index.name.count(".") == 3] or indexes
    if plain:
        return _shards(plain[0])
    files = sorted(file for file in folder.glob("*.safetensors") if file.name not in _NOT_WEIGHTS)
    for preferred in ("model.safetensors", "diffusion_pytorch_model.safetensors"):
        if folder / preferred in files:
            return [folder / preferred]
    return files


def _shards(index: Path) -> list[Path]:
    """The files that a sharding index names, each checked to be there and to hold what it should."""
    weight_map = _read_json(index, _INDEX_LIMITS).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise InvalidFile(str(index), "weight_map", "it is not a table from tensor to file")
    files = [index.parent / check_path(name) for name in sorted(set(weight_map.values()))]
    for file in files:
        if not file.is_file():
            raise InvalidFile(str(index), "weight_map", f"the file {file.name} is missing")
    held = {tensor.name for file in files for tensor in _tensors(file, "")}
    if missing := sorted(weight_map.keys() - held):
        raise InvalidFile(str(index), "weight_map", f"no file holds the tensor {missing[0]!r}")
    return files


def _tensors(file: Path, component: str) -> Iterator[StoredTensor]:
    with file.open("rb") as stream:
        header = read_header(stream, size=file.stat().st_size, path=str(file), limits=_LIMITS)
    for tensor in header.tensors:
        size = tensor.end - tensor.start
        yield StoredTensor(component, tensor.name, tensor.dtype, tensor.shape, file, tensor.start, size)


def _model_type(folder: Path) -> str | None:
    for name, key in (("config.json", "model_type"), ("model_index.json", "_class_name")):
        if (folder / name).is_file():
            value = _read_json(folder / name, _CONFIG_LIMITS).get(key)
            return value if isinstance(value, str) and value.isprintable() else None
    return None


def _read_json(path: Path, limits: JsonLimits) -> dict[str, Any]:
    with path.open("rb") as stream:
        return parse_object(stream.read(limits.size + 1), path=str(path), limits=limits)
