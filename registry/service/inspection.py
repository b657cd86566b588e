"""Reading an adapter where it lies, in the store or in a folder: its configuration and tensor header, no more.

And a base model in the store: its headers, and the digest of each tensor.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from registry.blobs.store import BlobStore
from registry.domain.bases import BaseIndex
from registry.domain.errors import InvalidBase, WholeModel
from registry.domain.paths import is_kept
from registry.domain.records import FileEntry
from registry.domain.spec import AdapterSpec

if TYPE_CHECKING:
    from registry.formats.base_files import BaseTree
    from registry.formats.tensor_file import OpenFile

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_CONFIGS = ("adapter_config.json",)
_CONFIGURATIONS = ("config.json", "model_index.json")  # of a whole model
_MOST_TENSORS = 200_000  # of a base: as many as one may be registered with
_INDEX_LIMIT = 64 << 20  # bytes of the file that says which shard holds what


def inspect_files(blobs: BlobStore, files: Sequence[FileEntry]) -> AdapterSpec | None:
    """What adapter these files hold, read again from the store; None if they hold none yet.

    Raises InvalidFile, InvalidAdapter, RankMismatch or UnsupportedAdapter, naming the file and the tensor or key.
    """
    sizes = {file.path: file.size for file in files}
    if not _promises_adapter(sizes):
        return None

    from registry.formats import detect  # lazy: start-up time

    _refuse_whole(sizes)
    return detect(sizes).read_files(sizes, _opener(blobs, files))


def inspect_base(
    blobs: BlobStore, files: Sequence[FileEntry], *, progress: Callable[[int, int], None] | None = None
) -> BaseIndex:
    """The index of the base model that these files are, every tensor hashed where it lies; they are nothing besides.

    `progress` is called with bytes done and in all. Raises InvalidFile, InvalidBase naming the file.
    """
    from registry.formats.base_files import read_tree  # lazy: start-up time
    from registry.formats.base_model import index_tree  # lazy: start-up time

    sizes = {file.path: file.size for file in files}
    if not sizes.keys() & set(_CONFIGURATIONS):
        raise InvalidBase("files", f"there is no {' and no '.join(_CONFIGURATIONS)}")
    tree = stored_tree(blobs, files)
    stored = read_tree(tree)
    if len(stored.tensors) > _MOST_TENSORS:
        raise InvalidBase("weights", f"they are {len(stored.tensors):,} tensors; {_MOST_TENSORS:,} are allowed")
    weights = {tensor.file.as_posix() for tensor in stored.tensors}
    for path in sizes:
        if path not in weights and (path.endswith(_WEIGHTS) or path in _CONFIGS or not is_kept(path)):
            raise InvalidBase(path, "it is no file of the model's")
    return index_tree(tree, stored, progress=progress)


def stored_tree(blobs: BlobStore, files: Sequence[FileEntry]) -> "BaseTree":
    """The files of a base model in the store, read with the limits of a stranger's."""
    from registry.formats.base_files import BaseTree  # lazy: start-up time
    from registry.formats.json_document import JsonLimits  # lazy: start-up time
    from registry.formats.safetensors import Limits  # lazy: start-up time

    limits = Limits(tensors=_MOST_TENSORS, name=1024, dimensions=8, aligned=False)
    sizes = {file.path: file.size for file in files}
    return BaseTree(Path(), sizes, _opener(blobs, files), limits, JsonLimits(size=_INDEX_LIMIT))


def _opener(blobs: BlobStore, files: Sequence[FileEntry]) -> "OpenFile":
    digests = {file.path: file.sha256 for file in files}

    def open_file(path: str, /, *, start: int, length: int) -> AbstractContextManager[BinaryIO]:
        return blobs.open(digests[path], start=start, length=length)

    return open_file


def inspect_folder(folder: Path, paths: Sequence[str]) -> AdapterSpec | None:
    """What adapter these files of a folder hold; like `inspect_files`."""
    if not _promises_adapter(paths):
        return None

    from registry.formats import detect  # lazy: start-up time

    _refuse_whole(paths)

    @contextmanager
    def open_file(path: str, /, *, start: int, length: int) -> Iterator[BinaryIO]:
        with (folder / path).open("rb") as stream:
            stream.seek(start)
            yield stream

    return detect(paths).read_files({path: (folder / path).stat().st_size for path in paths}, open_file)


def _refuse_whole(paths: Collection[str]) -> None:
    from registry.formats.base_files import looks_whole  # lazy: start-up time

    if told := looks_whole(paths):
        raise WholeModel(told)


def _promises_adapter(paths: Collection[str]) -> bool:
    """Whether there is something to check: a README alone is a commit without an adapter yet."""
    return any(path.endswith(_WEIGHTS) or path.rpartition("/")[2] in _CONFIGS for path in paths)
