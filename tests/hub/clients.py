"""Real clients in processes of their own, which call the functions in calls/ with the packages that they have.

    client.do("hub.upload", repo=…)     the result of calls/hub.py's upload, or ClientError with what its user sees
    client.hf("auth", "whoami")         the `hf` command

A client is told where the registry is by HF_ENDPOINT and HF_TOKEN, and nothing else. It starts once and is used again,
since loading its packages takes longer than most tests.
"""

import json
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hub.environments import Environment

_LOOP = Path(__file__).parent / "loop.py"
_WITHIN = 240.0  # seconds


class ClientError(Exception):
    """What the client raised: its classes, and all that its user sees."""

    def __init__(self, kinds: list[str], text: str) -> None:
        super().__init__(text)
        self.kinds = kinds
        self.text = text


class ClientGone(Exception):
    """The client's process ended, or took too long."""


@dataclass
class Client:
    """A client's Python with its own HF_HOME."""

    environment: Environment
    settings: Mapping[str, str]
    log: Path
    _process: subprocess.Popen[str] | None = field(default=None, init=False)

    def do(self, call: str, **arguments: Any) -> Any:
        """Call a function over there. Raises ClientError, ClientGone."""
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        given = {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}
        process.stdin.write(json.dumps({"name": call, "arguments": given}) + "\n")
        process.stdin.flush()
        watch = threading.Timer(_WITHIN, process.kill)
        watch.start()
        line = process.stdout.readline()
        watch.cancel()
        if not line:
            raise ClientGone(f"it ended, or took more than {_WITHIN:.0f} s: {self.log.read_text()[-2000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise ClientError(answer["error"], answer["text"])
        return answer["result"]

    def hf(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run the `hf` command."""
        command = [self.environment.python.parent / "hf", *map(str, arguments)]
        return subprocess.run(command, env=self.variables, capture_output=True, text=True, timeout=_WITHIN)

    @property
    def variables(self) -> dict[str, str]:
        """The environment of the client's processes."""
        ours = {name: text for name, text in os.environ.items() if not name.startswith(("HF_", "ADAPTERS_", "PYTHON"))}
        return {**ours, "OMP_NUM_THREADS": "1", **self.settings}

    def kill(self) -> None:
        """End it at once, whatever it does."""
        assert self._process is not None
        self._process.kill()

    def close(self) -> None:
        """End it; there is nothing that it would lose."""
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [self.environment.python, _LOOP],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=self.variables,
                    text=True,
                )
        return self._process


@contextmanager
def client_of(environment: Environment, url: str, token: str, home: Path, **more: str) -> Iterator[Client]:
    """A client at a server; `home` is where it keeps its cache."""
    home.mkdir(parents=True, exist_ok=True)
    settings = {"HF_ENDPOINT": url, "HF_TOKEN": token, "HF_HOME": str(home), **more}
    client = Client(environment, settings, home / "log")
    try:
        yield client
    finally:
        client.close()
