"""Whether anything changed since: a mark that is another one after each commit, cheap enough to read for each look-up.

SQLite tells by itself, for every process that writes the file. PostgreSQL doesn't without a question, so processes of
one machine and user share a few bytes, which whoever commits replaces; processes elsewhere are not seen: whoever keeps
answers asks the log of events too, from time to time.

Source: https://www.sqlite.org/pragma.html#pragma_data_version
"""

import hashlib
import mmap
import os
import sqlite3
import stat
import tempfile
import threading
from pathlib import Path
from typing import Protocol

_BYTES = 16

Mark = int | bytes


class Changes(Protocol):
    """Marks of the state of a database."""

    def mark(self) -> Mark | None:
        """The present mark; None if it can't be told, and so every state counts as another one."""

    def moved(self) -> None:
        """Something was committed here."""

    def close(self) -> None:
        """Let go of files."""


class FileChanges:
    """Of a SQLite file: seen by a connection of its own, which never writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def mark(self) -> Mark | None:
        try:
            with self._lock:
                if self._connection is None:
                    uri = f"{self._path.absolute().as_uri()}?mode=rw"
                    self._connection = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
                (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return None
        return int(version)

    def moved(self) -> None:
        """Nothing to do: the database tells it itself."""

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class SharedChanges:
    """Of a server: random bytes in a file that the processes of this machine and user map into memory.

    Bytes are replaced, not counted up, so that writers need no lock: whoever is last, the mark is a new one.
    """

    def __init__(self, database: str, folder: Path | None = None) -> None:
        """`database` tells databases apart; `folder` is where the file lies (None: ours among temporary files)."""
        self._folder = folder or Path(tempfile.gettempdir()) / f"adapters-{os.getuid()}"
        self._file = hashlib.sha256(database.encode()).hexdigest()[:32]
        self._lock = threading.Lock()
        self._opened = False
        self._bytes: mmap.mmap | None = None

    def mark(self) -> Mark | None:
        shared = self._shared()
        return None if shared is None else shared[:_BYTES]

    def moved(self) -> None:
        shared = self._shared()
        if shared is not None:
            shared[:_BYTES] = os.urandom(_BYTES)

    def close(self) -> None:
        with self._lock:
            shared, self._bytes, self._opened = self._bytes, None, False
        if shared is not None:
            shared.close()

    def _shared(self) -> mmap.mmap | None:
        with self._lock:
            if not self._opened:
                self._opened = True
                self._bytes = _mapped(self._folder, self._file)
            return self._bytes


def _mapped(folder: Path, name: str) -> mmap.mmap | None:
    """The shared bytes; None where there is no folder that nobody else can write to."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            return None
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _BYTES)
            return mmap.mmap(descriptor, _BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        return None
