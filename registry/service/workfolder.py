"""A user's folder, or a single file: which files a push takes, and how a pull puts a folder in place at once.

Knows nothing of where files are kept; never follows a symbolic link.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from registry.domain.digest import sha256_stream
from registry.domain.errors import InvalidFile, TargetTaken
from registry.domain.paths import check_paths, is_by_product, is_kept, travels
from registry.domain.records import FileEntry, Version
from registry.service.landing import landing

NOTE = ".adapter.json"  # hidden, so that a push of a pulled folder leaves it out
_NOTE_LIMIT = 1 << 20  # bytes

_SINGLE = ".safetensors"


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
        directories[:] = [name for name in directories if not is_by_product(name)]
        here = Path(root)
        for name in names:
            path = (here / name).relative_to(folder).as_posix()
            (kept if travels(path) and not name.startswith(".") else left_out).append(path)
        _refuse_links(here, [*names, *directories])
    if not kept:
        raise InvalidFile(str(folder), "the folder", "holds no files of an adapter")
    return Selection(folder, check_paths(kept), tuple(sorted(path for path in left_out if path != NOTE)))


def select_model(folder: Path) -> Selection:
    """Sort the files of a base model's folder: its weights, and what `select_files` keeps, but for other weights.

    Raises InvalidFile for a folder that holds no whole model of safetensors, a symbolic link (but for those of the
    Hugging Face cache, which has a model's files elsewhere) or a bad name.
    """
    from registry.formats.base_files import read_base  # lazy: start-up time

    stored = read_base(folder)
    if stored.format != "safetensors" or not folder.is_dir():
        raise InvalidFile(str(folder), "format", "what is published is a folder with a model's safetensors files")
    weights = {tensor.file.relative_to(folder).as_posix() for tensor in stored.tensors}
    kept: list[str] = []
    left_out: list[str] = []
    for root, directories, names in os.walk(folder):
        directories[:] = [name for name in directories if not is_by_product(name)]
        here = Path(root)
        paths = {(here / name).relative_to(folder).as_posix(): name for name in names}
        wanted = [path for path in paths if path in weights or _is_companion(path)]
        _refuse_links(here, [*directories, *(paths[path] for path in wanted)], cache=folder.parent.parent / "blobs")
        kept += wanted
        left_out += paths.keys() - set(wanted)
    return Selection(folder, check_paths(kept), tuple(sorted(left_out)))


def _is_companion(path: str) -> bool:
    name = path.rpartition("/")[2]
    adapters = name.startswith("adapter_") or name == "merge.progress.json"
    return is_kept(path) and not name.startswith(".") and not path.endswith(_SINGLE) and not adapters


def _refuse_links(folder: Path, names: list[str], *, cache: Path | None = None) -> None:
    for name in names:
        path = folder / name
        if path.is_symlink() and (cache is None or path.resolve().parent != cache.resolve()):
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


@dataclass(frozen=True, slots=True)
class Pull:
    """Where a version lies now, and how many bytes had to move for it."""

    folder: Path
    files: int
    bytes_moved: int


def renew(to: Path, version: Version, fill: Callable[[Path, list[FileEntry]], int]) -> Pull:
    """Put a version's files at `to`, the folder as a whole at once.

    `fill` gets a folder and files, and puts each there under its sha256, verified; it returns how many bytes had to
    move. What an earlier pull left, there or in the landing, and is still right isn't among them. Raises TargetTaken
    for a folder that no pull left.
    """
    to = to.absolute()
    kept = _unchanged(to, version)
    missing = [file for file in version.files if file.path not in kept]
    if not missing and _same_note(to, version):
        return Pull(to, len(version.files), 0)
    to.parent.mkdir(parents=True, exist_ok=True)
    with landing(to) as folder:
        contents = {file.sha256: file for file in missing}.values()
        moved = fill(folder, [file for file in contents if not _holds(folder / file.sha256, file)])
        fresh = folder / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        for file in version.files:
            make_room(fresh, file.path)
            os.link(to / file.path if file.path in kept else folder / file.sha256, fresh / file.path)
        write_note(fresh, Note(version.reference, version.digest, version.files))
        _swap(fresh, to)
    return Pull(to, len(version.files), moved)


def _unchanged(to: Path, version: Version) -> frozenset[str]:
    """Paths of the version that an earlier pull left at `to` and whose bytes are still right."""
    if not to.exists() and not to.is_symlink():
        return frozenset()
    note = read_note(to) if to.is_dir() and not to.is_symlink() else None
    if note is None:
        if to.is_dir() and not any(to.iterdir()):
            return frozenset()
        raise TargetTaken(str(to))
    return frozenset(file.path for file in version.files if _holds(to / file.path, file))


def _holds(path: Path, file: FileEntry) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as stream:
        return sha256_stream(stream)[0] == file.sha256


def _same_note(to: Path, version: Version) -> bool:
    note = read_note(to)
    return note is not None and note.files == version.files


def make_room(folder: Path, path: str) -> None:
    """Make the folders that a file of this path lies in."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)


def _swap(fresh: Path, to: Path) -> None:
    """Put `fresh` where `to` is: one rename when nothing is there, else two, undone if the second fails."""
    fresh.chmod(0o755)
    if not to.exists():
        fresh.rename(to)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{to.name}.old.", dir=to.parent))
    to.rename(old / "was")
    try:
        fresh.rename(to)
    except OSError as error:
        (old / "was").rename(to)
        raise InvalidFile(str(to), "the folder", f"could not be put in place: {error.strerror}") from error
    finally:
        shutil.rmtree(old, ignore_errors=True)
