"""Servers in processes of their own, to be measured and killed; and clients that kill themselves."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import urllib3

SERVER = """
import os, sys, uvicorn
from registry.bootstrap import open_registry
from registry.http.app import create_app
from registry.http.settings import ServerSettings
port = int(sys.argv[1])
settings = ServerSettings.from_environment({}, host="127.0.0.1", port=port)
uvicorn.run(create_app(lambda: open_registry(os.environ), settings), host="127.0.0.1", port=port, log_level="error")
"""

# Arguments: up|down, URL, token, path or address, file, sha256, size, and the bytes after which it kills itself.
CLIENT = """
import os, signal, sys
from pathlib import Path
from cli.remote.connection import Connection
from cli.remote.downloads import download_file
from cli.remote.uploads import upload_file
way, url, token, where, file, sha256, size, most = sys.argv[1:]
moved = 0
def progress(count):
    global moved
    moved += count
    if moved > int(most):
        os.kill(os.getpid(), signal.SIGKILL)
connection = Connection(url, token)
if way == "up":
    upload_file(connection, where, Path(file), sha256=sha256, size=int(size), progress=progress)
else:
    download_file(connection, where, Path(file), sha256=sha256, size=int(size), progress=progress)
"""


class ServerProcess:
    """A server on a port that stays its own over restarts."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = {**os.environ, **environment}
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", SERVER, str(self.port)]
        self._process = subprocess.Popen(command, env=self._environment)
        while True:
            assert self._process.poll() is None, "the server ended"
            try:
                urllib3.request("GET", f"{self.url}/healthz", retries=False)
                return
            except urllib3.exceptions.HTTPError:
                time.sleep(0.05)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    @property
    def memory(self) -> int:
        """Bytes that it holds in memory now (RSS)."""
        return self._status("VmRSS")

    @property
    def peak_memory(self) -> int:
        """Bytes that it held at most."""
        return self._status("VmHWM")

    @property
    def open_files(self) -> list[str]:
        """What its descriptors stand for."""
        links = Path(f"/proc/{self._process.pid}/fd").iterdir()
        return [str(link.readlink()) for link in links if link.is_symlink()]

    def _status(self, field: str) -> int:
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) << 10
        raise AssertionError(field)


@contextmanager
def server_process(environment: Mapping[str, str]) -> Iterator[ServerProcess]:
    server = ServerProcess(environment)
    try:
        yield server
    finally:
        server.kill()


def doomed_client(*arguments: object) -> None:
    """Run a client until it kills itself."""
    ended = subprocess.run([sys.executable, "-c", CLIENT, *map(str, arguments)], timeout=60)
    assert ended.returncode == -signal.SIGKILL


@contextmanager
def worker_process(database_url: str, blobs: Path, *, machine: Path | None = None) -> Iterator[str]:
    """The address of a worker on a database; with `machine`, a new folder, one with temporary files of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    if machine:
        machine.mkdir()
        environment["TMPDIR"] = str(machine)
    command = [sys.executable, "-m", "tests.http.worker", database_url, str(blobs)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def wait_until_up(*urls: str) -> None:
    for url in urls:
        urllib3.request("GET", f"{url}/healthz", retries=urllib3.Retry(20, backoff_factor=0.1))
