"""The gate for file names: what a path inside an adapter may look like, and which files belong to one.

Names come from strangers and end up on other people's disks. Nothing here opens a file.
"""

import re
import unicodedata
from collections.abc import Iterable

from registry.domain.errors import InvalidFile

MAX_FILES = 1_000
MAX_COMPONENT = 255  # bytes: what ext4, APFS and NTFS all take
MAX_PATH = 1_024  # bytes

_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"}
)
_DRIVE = re.compile(r"[A-Za-z]:")

# What travels with an adapter. Everything else in a training folder (optimizer states, arguments, logs) stays behind.
_KEPT_SUFFIXES = (".json", ".jsonl", ".safetensors", ".md", ".txt", ".model", ".jinja", ".tiktoken", ".vocab")
_KEPT_NAMES = frozenset({"license", "notice", ".gitattributes", ".gitignore"})
_TRAINING_STATE = frozenset({"optimizer.safetensors", "scheduler.json", "trainer_state.json"})
_BY_PRODUCTS = (".", "checkpoint-", "last-checkpoint", "global_step", "runs", "__pycache__")  # how folders begin
_PICKLED_WEIGHTS = frozenset({"adapter_model.bin", "adapter_model.pt", "adapter_model.pth"})

_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_ARCHIVES = {b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"\x1f\x8b": "gzip", b"7z\xbc\xaf": "7z", b"Rar!": "rar"}


def check_path(path: str) -> str:
    """Return a path that is safe on every system. Raises InvalidFile with the rule that it breaks."""
    if not path:
        raise InvalidFile("''", "path", "it is empty")
    if not path.isprintable():
        raise InvalidFile(repr(path), "path", "it holds a control, bidirectional or unprintable character")
    if "\\" in path or path.startswith("/") or _DRIVE.match(path):
        raise InvalidFile(path, "path", "it must be relative, with '/' between components")
    if len(path.encode()) > MAX_PATH:
        raise InvalidFile(f"{path[:80]}…", "path", f"it is longer than {MAX_PATH} bytes")
    for component in path.split("/"):
        _check_component(component, path)
    return path


def _check_component(component: str, path: str) -> None:
    if component in {"", ".", ".."}:
        raise InvalidFile(path, "path", f"the component {component!r} is not allowed")
    if len(component.encode()) > MAX_COMPONENT:
        raise InvalidFile(f"{path[:80]}…", "path", f"a component is longer than {MAX_COMPONENT} bytes")
    if component.endswith((".", " ")) or component.startswith(" "):
        raise InvalidFile(path, "path", f"{component!r} begins or ends in a blank, or ends in a dot")
    if any(character in component for character in ':*?"<>|'):
        raise InvalidFile(path, "path", f'{component!r} holds one of : * ? " < > |')
    if component.split(".")[0].rstrip(" ").lower() in _RESERVED:
        raise InvalidFile(path, "path", f"{component!r} is a device name on Windows")


def path_key(path: str) -> str:
    """The form that must be unique: names that differ only in case or in Unicode composition are one file."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def check_paths(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the paths of a file tree, sorted.

    Raises InvalidFile for an unsafe path, two paths that some file system takes for one, a file that is also a
    folder, or more than MAX_FILES files.
    """
    taken: dict[str, str] = {}
    folders: dict[str, str] = {}
    for count, path in enumerate(paths, start=1):
        if count > MAX_FILES:
            raise InvalidFile(path, "path", f"there are more than {MAX_FILES} files")
        key = path_key(check_path(path))
        if (other := taken.setdefault(key, path)) != path or count > len(taken):
            raise InvalidFile(path, "path", f"on some file systems it is the same file as {other!r}")
        while "/" in key:
            key = key.rpartition("/")[0]
            folders.setdefault(key, path)
    for key in taken.keys() & folders.keys():
        raise InvalidFile(taken[key], "path", f"it is also a folder, of {folders[key]!r}")
    return tuple(sorted(taken.values()))


def is_kept(path: str) -> bool:
    """Whether a file of a training folder belongs to the adapter: weights, configuration, tokenizer, README."""
    name = path.rsplit("/", 1)[-1].lower()
    if name in _TRAINING_STATE:
        return False
    return name in _KEPT_NAMES or name.endswith(_KEPT_SUFFIXES)


def is_by_product(folder: str) -> bool:
    """Whether a folder of that name, with all that is below it, stays behind."""
    return folder.startswith(_BY_PRODUCTS)


def is_pickled_weights(path: str) -> bool:
    """Whether a file is an adapter's weights in a form that is refused, by its name."""
    return path.rsplit("/", 1)[-1].lower() in _PICKLED_WEIGHTS


def travels(path: str) -> bool:
    """Whether a file at this place of a training folder goes with the adapter.

    Pickled weights do, so that they are refused by name instead of missed.
    """
    *folders, name = path.split("/")
    if any(map(is_by_product, folders)) or (name.startswith(".") and name.lower() not in _KEPT_NAMES):
        return False
    return is_kept(name) or is_pickled_weights(name)


def pickled_as(head: bytes) -> str | None:
    """How a file that begins with `head` (16 bytes will do) is serialised, if it may hold code: "pickle", "zip", …

    The bytes decide, never the extension. torch.save writes a zip; before 1.6 a pickle.
    """
    for magic, name in _ARCHIVES.items():
        if head.startswith(magic):
            return name
    # A safetensors file begins with a 64-bit length, so 0x80 0x02 … may be a length: then JSON's "{" follows at byte 8.
    if _PICKLE.match(head) and head[8:9] != b"{":
        return "pickle"
    return None
