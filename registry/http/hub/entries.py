"""Files of a commit as clients list them: regular ones, and large ones ("LFS"), which are named by their sha256.

A regular file is named by its git blob id, which nothing of ours is: it is computed from the bytes once and remembered.

Source: git-scm.com/book, "Git Objects"; the pointer files of the Git LFS specification.
"""

import hashlib
import threading
from collections import OrderedDict
from typing import Any

from registry.domain.digest import json_digest, read_chunks
from registry.domain.records import Commit, FileEntry
from registry.service import Registry

_LARGE = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt")
MOST_REGULAR = 1 << 20  # bytes: a regular file comes within the body of a commit
_MOST = 50_000  # ids kept in mind, about 10 MB


def is_large(path: str, size: int) -> bool:
    """Whether clients send and fetch a file as a large one. An empty file never is."""
    return size > MOST_REGULAR or (size > 0 and path.lower().endswith(_LARGE))


def pointer(file: FileEntry) -> bytes:
    """What git has of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{file.sha256}\nsize {file.size}\n".encode()


class GitIds:
    """The ids that git gives to files. Of one process, for its threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def tag(self, registry: Registry, tree: Commit, file: FileEntry) -> str:
        """The name of a file's content: a large one's sha256, a regular one's git blob id."""
        return file.sha256 if is_large(file.path, file.size) else self.blob(registry, tree, file)

    def blob(self, registry: Registry, tree: Commit, file: FileEntry) -> str:
        """The git blob id of a file of a commit: of a large one, that of its pointer. Blocks."""
        if is_large(file.path, file.size):
            text = pointer(file)
            return str(_begun(len(text), text).hexdigest())
        with self._lock:
            if known := self._known.get(file.sha256):
                self._known.move_to_end(file.sha256)
                return known
        digest = _begun(file.size)
        with registry.open_file(tree, file.path) as stream:
            for chunk in read_chunks(stream):
                digest.update(chunk)
        with self._lock:
            found = self._known[file.sha256] = str(digest.hexdigest())
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return found


def _begun(size: int, data: bytes = b"") -> Any:
    return hashlib.sha1(b"blob %d\0" % size + data, usedforsecurity=False)


def file_entry(file: FileEntry, blob_id: str) -> dict[str, Any]:
    """A file as a tree lists it."""
    entry: dict[str, Any] = {"type": "file", "oid": blob_id, "size": file.size, "path": file.path}
    if is_large(file.path, file.size):
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": len(pointer(file))}
    return entry


def folder_entry(tree: Commit, path: str) -> dict[str, Any]:
    """A folder as a tree lists it; its id is as long as git's, and as good a name for what is in it."""
    inside = sorted([file.path, file.sha256] for file in tree.files if file.path.startswith(f"{path}/"))
    return {"type": "directory", "oid": json_digest(inside)[:40], "size": 0, "path": path}


def sibling(file: FileEntry, blob_id: str | None) -> dict[str, Any]:
    """A file as a repository's facts list it; with its id, all that is known of it."""
    found: dict[str, Any] = {"rfilename": file.path}
    if blob_id is not None:
        found |= {"size": file.size, "blobId": blob_id}
        if is_large(file.path, file.size):
            found["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": len(pointer(file))}
    return found


def folders(tree: Commit) -> list[str]:
    """The paths of a commit's folders."""
    found: set[str] = set()
    for file in tree.files:
        path = file.path
        while "/" in path:
            path = path.rpartition("/")[0]
            found.add(path)
    return sorted(found)
