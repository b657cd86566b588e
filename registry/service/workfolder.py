"""A user's folder, or a single file: which files a push takes, and the note that a pull leaves in a folder.

Knows nothing of versions beyond what the note holds; never follows a symbolic link.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from registry.domain.errors import InvalidFile
from registry.domain.paths import check_paths, is_kept
from registry.domain.records import FileEntry

NOTE = ".adapter.json"  # hidden, so that a push of a pulled folder leaves it out
_NOTE_LIMIT = 1 << 20  # bytes

_BY_PRODUCT_FOLDERS = ("checkpoint-", "global_step", "runs", "__pycache__")
_SINGLE = ".safetensors"
_WEIGHT_NAMES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth")


@dataclass(frozen=True, slots=True)
class Selection:
    """The relative paths of a folder that a push takes, and those that it leaves out."""

    folder: Path
    kept: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """What a pulled folder holds."""

    reference: str
    digest: str
    files: tuple[FileEntry, ...]


def select_files(folder: Path) -> Selection:
    """Sort a folder's files: what belongs to an adapter is kept, training state, hidden and other files are left out.

    A .safetensors file in place of a folder is an adapter by itself. Pickled weights are kept, so that the gate
    refuses them by name instead of finding no weights. Raises InvalidFile for a folder that isn't one, holds nothing,
    or holds a symbolic link or a bad name.
    """
    if folder.is_file() and folder.suffix == _SINGLE:
        _refuse_links(folder.parent, [folder.name])
        return Selection(folder.parent, check_paths([folder.name]), ())
    if not folder.is_dir():
        raise InvalidFile(str(folder), "the path", "there is no such folder")
    kept: list[str] = []
    left_out: list[str] = []
    for root, directories, names in os.walk(folder):
        directories[:] = [name for name in directories if not name.startswith((".", *_BY_PRODUCT_FOLDERS))]
        here = Path(root)
        for name in names:
            path = (here / name).relative_to(folder).as_posix()
            wanted = not name.startswith(".") and (is_kept(path) or name in _WEIGHT_NAMES)
            (kept if wanted else left_out).append(path)
        _refuse_links(here, [*names, *directories])
    if not kept:
        raise InvalidFile(str(folder), "the folder", "holds no files of an adapter")
    return Selection(folder, check_paths(kept), tuple(sorted(path for path in left_out if path != NOTE)))


def _refuse_links(folder: Path, names: list[str]) -> None:
    for name in names:
        if (folder / name).is_symlink():
            raise InvalidFile(str(folder / name), "the path", "is a symbolic link; push real files")


def read_note(folder: Path) -> Note | None:
    """The note of an earlier pull, or None if the folder isn't one of ours."""
    path = folder / NOTE
    try:
        if path.is_symlink() or path.stat().st_size > _NOTE_LIMIT:
            return None
        document = json.loads(path.read_text())
        files = tuple(FileEntry(**file) for file in document["files"])
        check_paths([file.path for file in files])
        return Note(document["reference"], document["digest"], files)
    except (OSError, ValueError, TypeError, KeyError, InvalidFile):
        return None


def write_note(folder: Path, note: Note) -> None:
    """Leave the note of a pull."""
    (folder / NOTE).write_text(json.dumps(asdict(note), indent=1) + "\n")
