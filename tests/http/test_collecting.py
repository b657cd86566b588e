"""Collecting and purging from a client, with a worker that does it."""

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from cli.remote.connection import Connection
from cli.remote.registry import RemoteRegistry
from composition.worker import Worker
from registry.domain.reference import AdapterName, Reference
from registry.service.publishing import Submission
from tests.factories import write_adapter
from tests.http.conftest import Server

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], scope="session", indirect=True)
NAME = AdapterName("ours", "a")


def test_a_client_collects_and_purges_as_an_embedded_command_does(server: Server, tmp_path: Path) -> None:
    registry, stopping = server.registry, threading.Event()
    remote = RemoteRegistry(Connection(server.url, registry.create_token("op", operator=True).secret))
    worker = threading.Thread(target=Worker(registry, "one", stopping).run)
    worker.start()
    try:
        registry.push_folder(write_adapter(tmp_path / "a"), Submission(NAME, ()))
        registry.blobs.ingest(lambda: [b"left by a killed push"])
        assert remote.collect(grace=timedelta(0), dry_run=True).unknown == 1
        assert remote.collect(grace=timedelta(0)).blobs == 1
        assert remote.purge(Reference.parse("ours/a@v1"), reason="leaked").blobs == 3
        assert remote.purge_adapter(NAME, reason="they leave").blobs == 0
    finally:
        stopping.set()
        worker.join()
    assert list(registry.blobs.list()) == []
