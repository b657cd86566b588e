"""The folder store's own: what lies on the disk, processes that die, full disks, links and bounded memory."""

import hashlib
import os
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.blobs.filesystem import FolderStore
from registry.domain.errors import DigestMismatch, StorageFailure

DATA = b"a few bytes"
SHA256 = hashlib.sha256(DATA).hexdigest()

# A program's argument is the store's folder.
ENDLESS_PUT = """
import itertools, sys
from pathlib import Path
from registry.blobs.filesystem import FolderStore
FolderStore(Path(sys.argv[1])).put(itertools.repeat(b"x" * 100_000), sha256="0" * 64, size=1 << 60)
"""
WRITE_ONE = """
import hashlib, sys
from pathlib import Path
from registry.blobs.filesystem import FolderStore
data = bytes(1_000_000)
sys.stdin.readline()
FolderStore(Path(sys.argv[1])).put([data] * 3, sha256=hashlib.sha256(data * 3).hexdigest(), size=3_000_000)
"""
FULL_DISK = """
import itertools, resource, sys
from pathlib import Path
from registry.blobs.filesystem import FolderStore
from registry.domain.errors import StorageFailure
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000_000, 40_000_000))
store = FolderStore(Path(sys.argv[1]))
for attempt in (
    lambda: store.put(itertools.repeat(b"x" * 1_000_000, 100), sha256="0" * 64, size=100_000_000),
    lambda: store.stage("upload-1", itertools.repeat(b"x" * 1_000_000, 100)),
):
    try:
        attempt()
    except StorageFailure as error:
        print(error)
"""
HALF_A_GIGABYTE = """
import hashlib, resource, sys
from pathlib import Path
from registry.blobs.filesystem import FolderStore
from registry.domain.digest import sha256_stream
store, count, chunk = FolderStore(Path(sys.argv[1])), 512, bytes(1 << 20)
digest = hashlib.sha256()
for _ in range(count):
    digest.update(chunk)
sha256 = digest.hexdigest()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store.stage("upload-1", (bytes(1 << 20) for _ in range(count)))
store.complete("upload-1", sha256=sha256, size=count << 20)
with store.open(sha256) as stream:
    assert sha256_stream(stream) == (sha256, count << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def run(program: str, store: FolderStore) -> str:
    done = subprocess.run([sys.executable, "-c", program, str(store.root)], check=True, capture_output=True, text=True)
    return done.stdout


def put(store: FolderStore) -> Path:
    store.put([DATA], sha256=SHA256, size=len(DATA))
    return store.root / "blobs" / SHA256[:2] / SHA256


def files(store: FolderStore) -> list[Path]:
    return [path for path in store.root.rglob("*") if not path.is_dir()]


def test_a_blob_is_one_read_only_file_in_private_folders(store: FolderStore) -> None:
    blob = put(store)
    assert files(store) == [blob]
    assert stat.S_IMODE(blob.stat().st_mode) == 0o400
    for folder in (store.root, store.root / "blobs", blob.parent, store.root / "staging"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_process_killed_in_a_put_leaves_no_blob_and_its_bytes_are_found_and_discarded(store: FolderStore) -> None:
    with subprocess.Popen([sys.executable, "-c", ENDLESS_PUT, str(store.root)]) as writer:
        end = time.monotonic() + 30
        while not any(staged.size > 1_000_000 for staged in store.staged()):
            assert time.monotonic() < end
            assert writer.poll() is None
            time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)
    assert list(store.list()) == []
    (left,) = store.staged()
    store.discard(left.upload_id)
    assert files(store) == []


def test_processes_that_write_one_content_at_once_make_one_blob(store: FolderStore) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE_ONE, str(store.root)], stdin=subprocess.PIPE) for _ in range(6)
    ]
    for writer in writers:
        writer.communicate(b"go\n")
    assert [writer.returncode for writer in writers] == [0] * 6
    (blob,) = store.list()
    assert blob.size == 3_000_000
    assert list(store.staged()) == []


def test_a_full_disk_is_reported_and_leaves_nothing(store: FolderStore) -> None:
    assert run(FULL_DISK, store).count("File too large") == 2
    assert files(store) == []


def test_half_a_gigabyte_moves_in_and_out_within_a_hundred_megabytes(store: FolderStore) -> None:
    assert int(run(HALF_A_GIGABYTE, store)) < 100_000


def test_a_damaged_blob_is_repaired_by_another_put(store: FolderStore) -> None:
    blob = put(store)
    blob.unlink()  # it is read-only
    blob.write_bytes(b"A few bytes")
    assert put(store).read_bytes() == DATA


def test_a_reader_keeps_its_bytes_while_the_blob_is_replaced_or_deleted(store: FolderStore) -> None:
    put(store)
    with store.open(SHA256) as stream:
        put(store)
        store.delete(SHA256)
        assert stream.read() == DATA


def test_a_symbolic_link_is_not_a_blob(store: FolderStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(DATA)
    blob = put(store)
    blob.unlink()
    blob.symlink_to(secret)
    for attempt in (lambda: store.open(SHA256), lambda: store.stat(SHA256)):
        with pytest.raises(StorageFailure, match="symbolic link"):
            attempt()
    assert list(store.list()) == []
    assert put(store).is_symlink() is False
    assert secret.read_bytes() == DATA


def test_a_symbolic_link_in_staging_is_not_an_upload(store: FolderStore, tmp_path: Path) -> None:
    put(store)
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (store.root / "staging" / "upload-1").symlink_to(secret)
    with pytest.raises(StorageFailure, match="symbolic link"):
        store.complete("upload-1", sha256=hashlib.sha256(b"secret").hexdigest(), size=6)
    assert list(store.staged()) == []


def test_a_pipe_in_a_blobs_place_does_not_block(store: FolderStore) -> None:
    blob = put(store)
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(StorageFailure, match="special file"):
        store.open(SHA256)


def test_foreign_files_are_not_listed(store: FolderStore) -> None:
    blob = put(store)
    (blob.parent / "README").write_text("foreign")
    (store.root / "blobs" / "aa").mkdir(exist_ok=True)
    (store.root / "blobs" / "aa" / ("b" * 64)).write_text("in the wrong folder")
    (store.root / "staging" / "Not An Upload").write_text("foreign")
    assert [found.sha256 for found in store.list()] == [SHA256]
    assert list(store.staged()) == []


def test_an_upload_replaced_while_it_is_verified_is_refused(store: FolderStore) -> None:
    size = 200_000_000
    expected = hashlib.sha256(bytes(size)).hexdigest()
    store.stage("upload-1", [])
    upload = store.root / "staging" / "upload-1"
    os.truncate(upload, size)
    with ThreadPoolExecutor(1) as thread:
        completing = thread.submit(store.complete, "upload-1", sha256=expected, size=size)
        time.sleep(0.03)
        assert not completing.done()
        store.stage("upload-1", [DATA])
        with pytest.raises((StorageFailure, DigestMismatch)):
            completing.result()
    assert files(store) == []


def test_uploads_replaced_all_the_time_are_published_as_verified_or_refused(store: FolderStore) -> None:
    other = bytes(len(DATA))

    def replace(_: int) -> None:
        for turn in range(100):
            store.stage("upload-1", [DATA if turn % 2 else other])

    def complete(_: int) -> None:
        for _ in range(100):
            try:
                store.complete("upload-1", sha256=SHA256, size=len(DATA))
            except Exception as error:  # which refusal it is depends on the moment
                assert type(error).__name__ in {"DigestMismatch", "BlobNotFound", "StorageFailure"}
            if store.stat(SHA256):
                with store.open(SHA256) as stream:
                    assert stream.read() == DATA

    with ThreadPoolExecutor(2) as threads:
        replacing = threads.submit(replace, 0)
        completing = threads.submit(complete, 0)
        replacing.result()
        completing.result()


def test_a_folder_that_can_not_be_created_is_a_storage_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageFailure, match="creating"):
        put(FolderStore(tmp_path / "file" / "store"))
