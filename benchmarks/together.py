"""Memory of a server that takes and gives eight large files at once, and how fast they move.

    python -m benchmarks.together [--megabytes N]

One server process on SQLite and a folder, eight clients in this process, each with parts in parallel. The figure is by
how much the server's resident memory grows at most over what it held when it had served one small file; the promise
is less than 64 MiB for 8 x 1 GB, and the exit code 1 above that. The peer of the rates is `cp` plus one sha256 of one
such file.
"""

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.transfer import copy
from cli.remote.connection import Connection
from cli.remote.registry import RemoteRegistry
from cli.remote.uploads import upload_file
from registry.bootstrap import open_registry
from registry.domain.reference import AdapterName, Reference
from registry.service import Registry
from registry.service.publishing import Submission
from tests.factories import write_adapter
from tests.http.processes import ServerProcess, server_process

TOGETHER = 8
MIB = 1 << 20
MOST = 64 * MIB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1024)
    megabytes = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory(prefix="adapters-bench-") as folder:
        environment = {"ADAPTERS_HOME": f"{folder}/home"}
        registry = open_registry(environment)
        with server_process(environment) as server:
            found = measure(Path(folder), registry, server, megabytes)
        registry.close()
    print(f"{TOGETHER} x {megabytes} MB at once, up and down, through one server process")
    for name, value in found.items():
        print(f"  {name:22s} {value:8.1f}")
    print(json.dumps({"benchmark": "together", "megabytes": megabytes, **found}))
    return int(found["memory growth, MiB"] * MIB > MOST)


def measure(folder: Path, registry: Registry, server: ServerProcess, megabytes: int) -> dict[str, float]:
    """The server's growth in MiB, and rates in MB/s of all files together."""
    secret = registry.create_token("bench", principal="root", operator=True).secret
    files = [noise(folder / f"{number}", megabytes, seed=number) for number in range(TOGETHER)]
    warm = noise(folder / "warm", 1, seed=-1)
    send(server, secret, *warm)
    before = server.memory
    with ThreadPoolExecutor(TOGETHER) as threads:
        up = timed(lambda: list(threads.map(lambda file: send(server, secret, *file), files)))
        for number, (path, _) in enumerate(files):
            publish(registry, folder / f"adapter-{number}", number, path)
        down = timed(lambda: list(threads.map(lambda n: fetch(server, secret, n, folder), range(TOGETHER))))
    peer = timed(lambda: copy(files[0][0], folder / "copy", durable=True))
    total = TOGETHER * megabytes
    return {
        "memory growth, MiB": (server.peak_memory - before) / MIB,
        "memory before, MiB": before / MIB,
        "up, MB/s": total / up,
        "down, MB/s": total / down,
        "cp, fsync + sha256, MB/s": megabytes / peer,
    }


def noise(path: Path, megabytes: int, *, seed: int) -> tuple[Path, str]:
    """Write a file that is like no other; it and its digest. Its blocks repeat: nothing here compresses."""
    block, digest = os.urandom(MIB), hashlib.sha256()
    with path.open("wb") as stream:
        for number in range(megabytes):
            chunk = f"{seed}-{number:>16}".encode() + block[32:]
            digest.update(chunk)
            stream.write(chunk)
    return path, digest.hexdigest()


def send(server: ServerProcess, secret: str, path: Path, sha256: str) -> int:
    connection = Connection(server.url, secret)
    return upload_file(connection, "bench", path, sha256=sha256, size=path.stat().st_size)


def publish(registry: Registry, folder: Path, number: int, payload: Path) -> None:
    """An adapter with the file in it, which the store has by now; the link costs no copy."""
    write_adapter(folder, seed=number)
    os.link(payload, folder / "vocabulary.txt")
    registry.push_folder(folder, Submission(AdapterName("bench", f"a{number}"), ()))


def fetch(server: ServerProcess, secret: str, number: int, folder: Path) -> None:
    remote = RemoteRegistry(Connection(server.url, secret))
    version = remote.find_version(Reference(AdapterName("bench", f"a{number}")))
    remote.pull(version, folder / f"pulled-{number}")


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    raise SystemExit(main())
