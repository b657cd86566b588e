"""A user's folder: which of its files a push takes, and the note that a pull leaves in it.

Knows nothing of versions beyond what the note holds; never follows a symbolic link.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from registry.domain.errors import InvalidFile
from registry.domain.paths import check_paths
from registry.domain.records import FileEntry

NOTE = ".adapter.json"  # hidden, so that a push of a pulled folder leaves it out
_NOTE_LIMIT = 1 << 20  # bytes

# What trainers leave beside an adapter and nobody serves. Pickles among them are never read.
_BY_PRODUCTS = frozenset(
    {
        "training_args.bin",
        "optimizer.pt",
        "optimizer.bin",
        "scheduler.pt",
        "scaler.pt",
        "trainer_state.json",
        "latest",
        "zero_to_fp32.py",
    }
)
_BY_PRODUCT_FOLDERS = ("checkpoint-", "global_step", "runs", "__pycache__")


@dataclass(frozen=True, slots=True)
class Note:
    """What a pulled folder holds."""

    reference: str
    digest: str
    files: tuple[FileEntry, ...]


def select_files(folder: Path) -> list[str]:
    """The relative paths of a folder that a push takes: no hidden files, no by-products of training.

    Raises InvalidFile for a folder that isn't one, holds nothing, or holds a symbolic link or a bad name.
    """
    if not folder.is_dir():
        raise InvalidFile(str(folder), "the path", "there is no such folder")
    paths: list[str] = []
    for root, directories, names in os.walk(folder):
        directories[:] = sorted(name for name in directories if not _skipped_folder(name))
        here = Path(root)
        for name in [*names, *directories]:
            if (here / name).is_symlink():
                raise InvalidFile(str(here / name), "the path", "is a symbolic link; push real files")
        paths += [(here / name).relative_to(folder).as_posix() for name in sorted(names) if not _skipped(name)]
    if not paths:
        raise InvalidFile(str(folder), "the folder", "holds no files to push")
    check_paths(paths)
    return sorted(paths)


def _skipped(name: str) -> bool:
    return name.startswith((".", "rng_state")) or name.lower() in _BY_PRODUCTS


def _skipped_folder(name: str) -> bool:
    return name.startswith((".", *_BY_PRODUCT_FOLDERS))


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
