"""The tokens of servers, each for one origin, in a file of the user's own: ADAPTERS_HOME/tokens.json."""

import json
import os
import stat
import tempfile
from pathlib import Path

from registry.domain.errors import Failure

FILE = "tokens.json"


class Keyring:
    """Tokens by origin (scheme://host:port). The file is readable by its owner only, and replaced as a whole."""

    def __init__(self, home: Path) -> None:
        self.path = home / FILE

    def token(self, origin: str) -> str | None:
        """The token kept for exactly this origin. Raises Failure for a file that others can read, or that is broken."""
        return self._read().get(origin)

    def keep(self, origin: str, token: str) -> None:
        """Keep a token in place of the one before."""
        self._write({**self._read(), origin: token})

    def forget(self, origin: str) -> bool:
        """Drop an origin's token; whether there was one."""
        tokens = self._read()
        known = tokens.pop(origin, None) is not None
        if known:
            self._write(tokens)
        return known

    def _read(self) -> dict[str, str]:
        try:
            if stat.S_IMODE(self.path.stat().st_mode) & 0o077:
                raise Failure(f"{self.path} can be read by others: chmod 600 it, and make new tokens")
            tokens = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            tokens = None
        if not isinstance(tokens, dict) or not all(isinstance(token, str) for token in tokens.values()):
            raise Failure(f"{self.path} is not a file of tokens: remove it, and log in again")
        return tokens

    def _write(self, tokens: dict[str, str]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(prefix=f".{FILE}.", dir=self.path.parent)  # mode 0600
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(tokens, file, indent=1)
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
