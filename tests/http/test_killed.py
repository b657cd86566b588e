"""Clients and servers that are killed in the middle of a transfer, and what a server holds in memory meanwhile."""

import hashlib
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from cli.remote.connection import Connection
from cli.remote.downloads import download_file
from cli.remote.registry import RemoteRegistry
from cli.remote.uploads import upload_file
from registry.bootstrap import open_registry
from registry.domain.errors import ServerFailure
from registry.domain.records import FileEntry
from registry.domain.reference import AdapterName, Reference
from registry.service import Registry
from registry.service.arrivals import State
from registry.service.publishing import Submission
from tests.factories import write_adapter
from tests.http.processes import ServerProcess, doomed_client, server_process

MIB = 1 << 20
SIZE = 96 * MIB  # six parts, of which four are under way at once
ENOUGH = 70 * MIB  # so much has moved only when a part has arrived
TOGETHER = 8
EACH = 64 * MIB
GROWTH = 64 * MIB


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = open_registry({"ADAPTERS_HOME": str(tmp_path / "home")})
    yield registry
    registry.close()


@pytest.fixture
def server(registry: Registry, tmp_path: Path) -> Iterator[ServerProcess]:
    with server_process({"ADAPTERS_HOME": str(tmp_path / "home")}) as server:
        yield server


@pytest.fixture
def token(registry: Registry) -> str:
    return registry.create_token("test", principal="root", operator=True).secret


def noise(path: Path, size: int, seed: int = 0) -> str:
    """Write random bytes to a file; returns their digest."""
    digest, generator = hashlib.sha256(), random.Random(seed)
    with path.open("wb") as stream:
        for _ in range(size // MIB):
            chunk = generator.randbytes(MIB)
            digest.update(chunk)
            stream.write(chunk)
    return digest.hexdigest()


def publish(registry: Registry, sha256: str, size: int, folder: Path) -> str:
    """Add stored bytes to an adapter; returns their address."""
    name = AdapterName("ours", "a")
    version = registry.push_folder(write_adapter(folder), Submission(name, ())).version
    assert version is not None
    files = (*(file for file in version.files if file.path != "README.md"), FileEntry("README.md", sha256, size))
    commit = registry.publish(Submission(name, files)).commit
    return f"/v1/adapters/{name}/versions/{commit}/files/README.md"


def test_an_upload_survives_its_client_and_its_server(
    server: ServerProcess, registry: Registry, token: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    sha256 = noise(file, SIZE)
    doomed_client("up", server.url, token, "ours", file, sha256, SIZE, ENOUGH)
    connection, wanted = Connection(server.url, token), {"team": "ours", "sha256": sha256, "size": SIZE}
    begun = connection.request("POST", "/v1/uploads", json=wanted).document
    there = sum(part["size"] for part in begun["parts"] if part["there"])
    assert 0 < there < SIZE
    moving = threading.Event()
    restarting = threading.Thread(target=restart, args=(server, moving))
    restarting.start()
    sent = upload_file(connection, "ours", file, sha256=sha256, size=SIZE, progress=lambda _: moving.set())
    restarting.join()
    assert 0 < sent <= SIZE - there
    assert [blob.sha256 for blob in registry.blobs.list()] == [sha256]
    assert list(registry.blobs.staged()) == []


def restart(server: ServerProcess, moving: threading.Event) -> None:
    moving.wait()
    server.kill()
    server.start()


def test_a_download_goes_on_after_its_client_was_killed(
    server: ServerProcess, registry: Registry, token: str, tmp_path: Path
) -> None:
    source, to = tmp_path / "source", tmp_path / "target" / "file"
    sha256 = noise(source, SIZE)
    upload_file(Connection(server.url, token), "ours", source, sha256=sha256, size=SIZE)
    address = publish(registry, sha256, SIZE, tmp_path / "adapter")
    doomed_client("down", server.url, token, address, to, sha256, SIZE, SIZE // 2)
    (partial,) = to.parent.iterdir()
    assert not to.exists()
    assert 0 < partial.stat().st_size < SIZE
    left = SIZE - partial.stat().st_size
    assert download_file(Connection(server.url, token), address, to, sha256=sha256, size=SIZE) == left
    assert to.read_bytes() == source.read_bytes()
    assert list(to.parent.iterdir()) == [to]
    until_closed(server, sha256)


def test_a_pull_from_a_server_goes_on_after_its_client_was_killed(
    server: ServerProcess, registry: Registry, token: str, tmp_path: Path
) -> None:
    folder, to = write_adapter(tmp_path / "adapter"), tmp_path / "pulled"
    sha256 = noise(folder / "vocabulary.txt", SIZE)
    registry.push_folder(folder, Submission(AdapterName("ours", "a"), ()))
    doomed_client("pull", server.url, token, "ours/a@v1", to, sha256, SIZE, SIZE // 2)
    assert not to.exists()
    came = sum(path.stat().st_size for path in (tmp_path / ".pulled.pull").iterdir())
    remote = RemoteRegistry(Connection(server.url, token))
    version = remote.find_version(Reference.parse("ours/a@v1"))
    assert remote.pull(version, to).bytes_moved == version.size - came < SIZE
    assert sha256_of(to / "vocabulary.txt") == sha256
    assert not (tmp_path / ".pulled.pull").exists()


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def test_an_upload_whose_server_was_killed_while_it_read_is_read_by_the_next(
    server: ServerProcess, registry: Registry, token: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    sha256 = noise(file, SIZE)
    connection = Connection(server.url, token)
    upload = registry.on_behalf_of(registry.authenticate(token)).begin_upload("ours", sha256, SIZE).upload
    assert upload is not None
    with file.open("rb") as stream:
        for number in range(1, SIZE // upload.part_size + 1):
            part = registry.open_part(upload.id, number)
            part.write(stream.read(upload.part_size))
            part.finish()
            part.close()
    with suppress(ServerFailure), ThreadPoolExecutor(1) as threads:
        answer = threads.submit(connection.request, "POST", f"/v1/uploads/{upload.id}/complete")
        while registry.upload(upload.id).state is State.OPEN:
            time.sleep(0.002)
        server.kill()
        answer.result()
    left = registry.upload(upload.id)
    assert left.state is State.VERIFYING
    assert left.upload is not None
    server.start()
    with registry.database.writing() as catalog:  # half a minute later
        catalog.uploads.go_on(upload.id, verified=left.upload.verified, until=registry.clock())
    assert upload_file(connection, "ours", file, sha256=sha256, size=SIZE) == 0
    assert [blob.sha256 for blob in registry.blobs.list()] == [sha256]
    assert list(registry.blobs.staged()) == []


def until_closed(server: ServerProcess, sha256: str) -> None:
    end = time.monotonic() + 10
    while any(sha256 in name for name in server.open_files):
        assert time.monotonic() < end, "the file of a killed client is still open"
        time.sleep(0.05)


def test_eight_transfers_at_once_take_little_memory(
    server: ServerProcess, registry: Registry, token: str, tmp_path: Path
) -> None:
    files = [tmp_path / str(number) for number in range(TOGETHER)]
    digests = [noise(file, EACH, seed) for seed, file in enumerate(files)]
    warm = tmp_path / "warm"
    upload_file(Connection(server.url, token), "ours", warm, sha256=noise(warm, MIB, -1), size=MIB)
    before = server.memory

    def send(file: Path, sha256: str) -> int:
        return upload_file(Connection(server.url, token), "ours", file, sha256=sha256, size=EACH)

    with ThreadPoolExecutor(TOGETHER) as threads:
        assert list(threads.map(send, files, digests)) == [EACH] * TOGETHER
    addresses = [publish(registry, sha256, EACH, tmp_path / f"a{number}") for number, sha256 in enumerate(digests)]

    def fetch(address: str, sha256: str) -> int:
        to = tmp_path / "fetched" / sha256
        return download_file(Connection(server.url, token), address, to, sha256=sha256, size=EACH)

    with ThreadPoolExecutor(TOGETHER) as threads:
        assert list(threads.map(fetch, addresses, digests)) == [EACH] * TOGETHER
    assert server.peak_memory - before < GROWTH
