"""Reading an adapter where it lies, in the store or in a folder: its configuration and tensor header, no more."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from registry.blobs.store import BlobStore
from registry.domain.records import FileEntry
from registry.domain.spec import AdapterSpec

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_CONFIGS = ("adapter_config.json",)


def inspect_files(blobs: BlobStore, files: Sequence[FileEntry]) -> AdapterSpec | None:
    """What adapter these files hold, read again from the store; None if they hold none yet.

    Raises InvalidFile, InvalidAdapter, RankMismatch or UnsupportedAdapter, naming the file and the tensor or key.
    """
    digests = {file.path: file.sha256 for file in files}
    if not _promises_adapter(digests):
        return None

    from registry.formats import detect  # lazy: start-up time

    def open_file(path: str, /, *, start: int, length: int) -> AbstractContextManager[BinaryIO]:
        return blobs.open(digests[path], start=start, length=length)

    return detect(digests).read_files({file.path: file.size for file in files}, open_file)


def inspect_folder(folder: Path, paths: Sequence[str]) -> AdapterSpec | None:
    """What adapter these files of a folder hold; like `inspect_files`."""
    if not _promises_adapter(paths):
        return None

    from registry.formats import detect  # lazy: start-up time

    @contextmanager
    def open_file(path: str, /, *, start: int, length: int) -> Iterator[BinaryIO]:
        with (folder / path).open("rb") as stream:
            stream.seek(start)
            yield stream

    return detect(paths).read_files({path: (folder / path).stat().st_size for path in paths}, open_file)


def _promises_adapter(paths: Sequence[str] | dict[str, str]) -> bool:
    """Whether there is something to check: a README alone is a commit without an adapter yet."""
    return any(path.endswith(_WEIGHTS) or path.rpartition("/")[2] in _CONFIGS for path in paths)
