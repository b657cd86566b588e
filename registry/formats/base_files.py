"""Where a base model's tensors lie: a safetensors file, a folder of them, diffusers' component folders, or a GGUF file.

Headers only; `registry.formats.base_model` reads the bytes. Folders are read on a disk, or where a commit's files lie
in a store, and then with the limits of a stranger's files.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from registry.domain.errors import InvalidFile
from registry.domain.paths import check_path
from registry.formats.gguf import read_gguf
from registry.formats.json_document import JsonLimits, parse_object
from registry.formats.safetensors import Header, Limits, read_header
from registry.formats.tensor_file import OpenFile, take

# Files of large checkpoints, written by older tools too: those don't align their tensors.
_LIMITS = Limits(header=100 << 20, tensors=1_000_000, name=1024, dimensions=8, aligned=False)
_INDEX_LIMITS = JsonLimits(size=256 << 20)
_CONFIG_LIMITS = JsonLimits()

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_PIPELINE = "model_index.json"
_PREFERRED = ("model.safetensors", "diffusion_pytorch_model.safetensors")
_WHOLE = frozenset({_PIPELINE, *_PREFERRED})
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


@dataclass(frozen=True, slots=True)
class BaseTree:
    """The files {relative path: bytes} that may hold a base, and how they are opened; `root` stands before them."""

    root: Path
    sizes: Mapping[str, int]
    open_file: OpenFile
    limits: Limits = _LIMITS
    index_limits: JsonLimits = _INDEX_LIMITS

    def names(self, under: str) -> list[str]:
        """The paths of the files that lie in a folder ("" is the top) itself."""
        return sorted(path for path in self.sizes if path.rpartition("/")[0] == under)

    def json(self, path: str, limits: JsonLimits) -> dict[str, Any]:
        """A JSON object of the tree. Raises InvalidFile."""
        with self.open_file(path, start=0, length=min(self.sizes[path], limits.size + 1)) as stream:
            return parse_object(take(stream, limits.size + 1), path=str(self.root / path), limits=limits)


def looks_whole(names: Collection[str]) -> str | None:
    """The file that tells that these are a whole model and no adapter, if one does."""
    if "adapter_config.json" in names:
        return None
    told = [name for name in names if name in _WHOLE or name.endswith(".safetensors.index.json")]
    return min(told) if told and not any(name.endswith(".gguf") for name in names) else None


def read_base(path: Path) -> StoredBase:
    """Read the headers of a base. Raises InvalidFile for one that is absent, incomplete, pickled or malformed."""
    if not path.exists():
        raise InvalidFile(str(path), "path", "there is no such file or folder")
    if path.is_dir():
        tree = _folder(path)
        return read_tree(tree) if _parts(tree) else _read_single_gguf(path)
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic == b"GGUF":
        model_type, rows = read_gguf(path)
        stored = tuple(StoredTensor("", *row[:3], path, *row[3:]) for row in rows)
        return StoredBase("gguf", model_type, stored)
    if path.suffix != ".safetensors":
        raise InvalidFile(str(path), "format", "a base is a folder of safetensors, a .safetensors or a GGUF file")
    tree = _folder(path.parent)
    return StoredBase("safetensors", _model_type(tree), tuple(_tensors(tree, path.name, "")))


def read_tree(tree: BaseTree) -> StoredBase:
    """Read the headers of a base of safetensors; its tensors' files begin with the tree's root. Raises InvalidFile."""
    parts = _parts(tree)
    if not parts:
        raise InvalidFile(str(tree.root), "weights", "there is no .safetensors file of a model")
    tensors = tuple(
        tensor for component, files in parts.items() for file in files for tensor in _tensors(tree, file, component)
    )
    return StoredBase("safetensors", _model_type(tree), tensors)


def _folder(folder: Path) -> BaseTree:
    """A folder on a disk, and the folders in it, but not what those hold."""
    here = sorted(folder.iterdir())
    found = [*here, *(file for child in here if child.is_dir() for file in sorted(child.iterdir()))]
    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in found if file.is_file()}

    @contextmanager
    def open_file(path: str, /, *, start: int, length: int) -> Iterator[BinaryIO]:
        with (folder / path).open("rb") as stream:
            stream.seek(start)
            yield stream

    return BaseTree(folder, sizes, open_file)


def _parts(tree: BaseTree) -> dict[str, list[str]]:
    """The files with the weights of each component, which is "" where there is one model; none of no model."""
    if files := _weight_files(tree, ""):
        return {"": files}
    if _PIPELINE not in tree.sizes:
        return {}
    folders = sorted({path.rpartition("/")[0] for path in tree.sizes} - {""})
    found = {folder: _weight_files(tree, folder) for folder in folders if "/" not in folder}
    return {component: files for component, files in found.items() if files}


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


def _weight_files(tree: BaseTree, under: str) -> list[str]:
    """The files that hold one model, leaving out second copies of it in other precisions or layouts."""
    names = {path.rpartition("/")[2]: path for path in tree.names(under)}
    indexes = [name for name in names if name.endswith(".safetensors.index.json")]
    plain = [name for name in indexes if name.count(".") == 3] or indexes
    if plain:
        return _shards(tree, names[plain[0]])
    files = [name for name in names if name.endswith(".safetensors") and name not in _NOT_WEIGHTS]
    preferred = [name for name in _PREFERRED if name in files]
    return [names[name] for name in preferred[:1] or files]


def _shards(tree: BaseTree, index: str) -> list[str]:
    """The files that a sharding index names, each checked to be there and to hold what it should."""
    shown = str(tree.root / index)
    weight_map = tree.json(index, tree.index_limits).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise InvalidFile(shown, "weight_map", "it is not a table from tensor to file")
    under = index.rpartition("/")[0]
    files = [f"{under}/{name}".lstrip("/") for name in map(check_path, sorted(set(weight_map.values())))]
    for file in files:
        if file not in tree.sizes:
            raise InvalidFile(shown, "weight_map", f"the file {file.rpartition('/')[2]} is missing")
    held = {tensor.name for file in files for tensor in _tensors(tree, file, "")}
    if missing := sorted(weight_map.keys() - held):
        raise InvalidFile(shown, "weight_map", f"no file holds the tensor {missing[0]!r}")
    return files


def _tensors(tree: BaseTree, file: str, component: str) -> Iterator[StoredTensor]:
    where = tree.root / file
    for tensor in _header(tree, file).tensors:
        size = tensor.end - tensor.start
        yield StoredTensor(component, tensor.name, tensor.dtype, tensor.shape, where, tensor.start, size)


def _header(tree: BaseTree, file: str) -> Header:
    size = tree.sizes[file]
    with tree.open_file(file, start=0, length=min(8, size)) as stream:
        length = int.from_bytes(take(stream, 8), "little")
    with tree.open_file(file, start=0, length=min(size, 8 + min(length, tree.limits.header))) as stream:
        return read_header(stream, size=size, path=str(tree.root / file), limits=tree.limits)


def _model_type(tree: BaseTree) -> str | None:
    for name, key in (("config.json", "model_type"), (_PIPELINE, "_class_name")):
        if name in tree.sizes:
            value = tree.json(name, _CONFIG_LIMITS).get(key)
            return value if isinstance(value, str) and value.isprintable() else None
    return None
