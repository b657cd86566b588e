"""The servers that benchmarks.http asks: ours as `adapters serve` starts it, and MLflow's as its manual says."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3

MODELS = 20  # registered at MLflow, each with two versions and an alias
STARTS_WITHIN = 300.0  # seconds


@dataclass(frozen=True)
class Served:
    """A server: its port on this machine, and the process group of all its processes."""

    port: int
    group: int


@contextmanager
def adapters_server(database_url: str, workers: int) -> Iterator[Served]:
    """Our program on a database, with its log, its figures and its checks of tokens, as it is used."""
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("wb") as log:
        environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("ADAPTERS_")},
            "ADAPTERS_HOME": f"{folder}/home",
            "ADAPTERS_DATABASE_URL": database_url,
            "ADAPTERS_BLOBS_URL": f"file://{folder}/blobs",
            "PYTHONPATH": str(Path.cwd()),
        }
        command = [sys.executable, "-c", "import cli.main; cli.main.run()", "serve", "--port", "0", "--json"]
        process = subprocess.Popen(
            [*command, "--workers", str(workers)],
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            port = _document(process)["port"]
            _wait_for(f"http://127.0.0.1:{port}/healthz", process)
            time.sleep(workers)  # the other workers come up too
            yield Served(port, process.pid)
        finally:
            _end(process)


def _document(process: subprocess.Popen[bytes]) -> dict[str, int]:
    """The first JSON document that a program prints."""
    text = ""
    assert process.stdout is not None
    for line in process.stdout:
        text += line.decode()
        try:
            found: dict[str, int] = json.loads(text)
        except json.JSONDecodeError:
            continue
        return found
    raise AssertionError(f"the server ended: {text}")


@contextmanager
def mlflow_environment(given: Path | None) -> Iterator[Path]:
    """The `mlflow` program: of an environment that has it, or of a new one, gone afterwards."""
    if given is not None:
        yield given / "bin" / "mlflow"
        return
    with tempfile.TemporaryDirectory(prefix="adapters-mlflow-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
        subprocess.run([*pip, "mlflow"], check=True)
        yield Path(folder) / "bin" / "mlflow"


def mlflow_version(program: Path) -> str:
    """As it tells itself."""
    return subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]


@contextmanager
def mlflow_server(program: Path) -> Iterator[Served]:
    """MLflow's server with a SQLite backend and everything else as by default, filled with models that have aliases.

    Source: https://mlflow.org/docs/latest/self-hosting/architecture/tracking-server
    """
    with tempfile.TemporaryDirectory() as folder, Path(folder, "log").open("wb") as log, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        backend = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
        process = subprocess.Popen(
            [program, "server", *backend, "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            start_new_session=True,
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process)
            _fill(f"http://127.0.0.1:{port}/api/2.0/mlflow")
            yield Served(port, process.pid)
        finally:
            _end(process)


def mlflow_look_up(number: int) -> str:
    """The path of the look-up of an alias."""
    return f"/api/2.0/mlflow/registered-models/alias?name=support-{number}&alias=production"


def _fill(api: str) -> None:
    for number in range(MODELS):
        name = f"support-{number}"
        _post(f"{api}/registered-models/create", {"name": name})
        for version in ("1", "2"):
            _post(f"{api}/model-versions/create", {"name": name, "source": f"s3://models/{name}/{version}"})
        _post(f"{api}/registered-models/alias", {"name": name, "alias": "production", "version": "2"})


def _post(url: str, document: dict[str, str]) -> None:
    # A worker of MLflow that is slow to answer is replaced by its supervisor, and the request lost with it.
    retries = urllib3.Retry(5, allowed_methods=None, backoff_factor=1)
    answer = urllib3.request("POST", url, json=document, retries=retries, timeout=60)
    known = b"RESOURCE_ALREADY_EXISTS" in answer.data
    assert answer.status == 200 or known, answer.data[:300]


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        assert process.poll() is None, "the server ended"
        try:
            if urllib3.request("GET", url, retries=False).status == 200:
                return
        except urllib3.exceptions.HTTPError:
            assert time.monotonic() < deadline, "the server did not come up"
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
