"""The secret of a server that nobody gave one: made when it is first needed, and kept in a file of the user's own.

Servers on one database need the same: then somebody sets ADAPTERS_SECRET, and no file is read.
"""

import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from registry.domain.errors import Failure

FILE = "secret"
_BYTES = 32


def kept_secret(home: Path) -> str:
    """The secret in a folder. However many ask at once for the first time, they get the same.

    Raises Failure for a file that others can read, or a folder that can't be written to.
    """
    path = home / FILE
    try:
        if not path.exists():
            _make(path)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise Failure(f"{path} can be read by others: remove it, and a new one is made")
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Failure(f"{path} can't be kept ({reason}): set ADAPTERS_SECRET") from error


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(prefix=f".{FILE}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(_BYTES) + "\n")
        with suppress(FileExistsError):  # somebody else was first
            os.link(name, path)
    finally:
        Path(name).unlink(missing_ok=True)
