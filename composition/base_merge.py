"""Merging a composed adapter into a base model's files: one pass, one rounding, and everything else byte for byte.

    OUT.partial/                  while it is written, next to OUT and under a lock
        merge.progress.json       which merge this is, and the digest of each shard that is finished
        <shard>                   finished: complete and on the disk
        .<shard>.part             being written
    OUT/                          renamed as a whole, once everything is there
        merge.json                the recipe, the base's fingerprint and the digest of every file
        <shard> …                 each with the header and the layout of the base's
        config.json, tokenizer …  copies

A changed tensor is computed in float32, W + ΔW, and rounded to its dtype once. Blocks of a shape's own size make the
bits independent of threads and of how the base is sharded. A run that was killed continues after the last finished
shard. This room knows no registry and no names of adapters; see `base_jobs`.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import torch
from torch import Tensor

from composition.placement import Addition
from composition.shards import CHUNK, DTYPES, OpenFiles, Shard, block_rows, label, row_count, row_width
from registry.domain.digest import json_digest, sha256_stream
from registry.domain.errors import InvalidAdapter, InvalidFile, NotEnoughSpace, OutputTaken, Refused
from registry.formats.base_files import StoredTensor
from registry.formats.json_document import JsonLimits, parse_object

MANIFEST = "merge.json"
REVISION = 1  # goes up when the same merge would give other bytes

_PROGRESS = "merge.progress.json"
_LOCK = ".lock"
_LARGEST_NORM = 1e38  # of a delta: no element of it leaves float32's range
_BUFFERS = 3  # pieces of a shard in flight between computing, hashing and writing
_LIMITS = JsonLimits(size=256 << 20)
# What makes the base's folder a model besides its weights. Other files may hold weights that are not merged.
_COPIED = frozenset({".json", ".txt", ".md", ".model", ".jinja", ".tiktoken", ".vocab", ".py", ".spm"})
_COPIED_NAMES = frozenset({"license", "notice", ".gitattributes"})

Progress = Callable[[str, int, int], None]  # what is being done, done so far, of how much


@dataclass(frozen=True, slots=True)
class MergedShard:
    """A finished shard. `unchanged` are tensors whose delta is too small to change a single element."""

    path: str
    size: int
    sha256: str
    unchanged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Merged:
    """What lies in the output folder. `resumed` counts shards that an earlier run had finished."""

    folder: Path
    shards: tuple[MergedShard, ...]
    copied: tuple[str, ...]
    left_out: tuple[str, ...]
    resumed: int

    @property
    def unchanged(self) -> tuple[str, ...]:
        """Tensors that have a delta which changes nothing of them."""
        return tuple(sorted(name for shard in self.shards for name in shard.unchanged))


@dataclass(frozen=True, slots=True)
class Plan:
    """A merge: where from, where to, and what it is. `origin` goes into the manifest and decides what is resumed."""

    base: Path
    out: Path
    shards: tuple[Shard, ...]
    origin: Mapping[str, Any]

    @property
    def partial(self) -> Path:
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def digest(self) -> str:
        """Identity of everything that decides the output's bytes."""
        layout = [[s.path, s.size, [[label(t), t.start] for t in s.tensors]] for s in self.shards]
        return json_digest({"revision": REVISION, "origin": self.origin, "layout": layout})


def check_output(out: Path) -> None:
    """Raises OutputTaken where something lies already, OSError where no folder can be made."""
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise OutputTaken(str(out))


def merge_shards(
    plan: Plan, changes: Mapping[str, Addition], *, norms: Mapping[str, float], workers: int, progress: Progress
) -> Merged:
    """Write the merged model. `changes` is by the tensors' labels, `norms` by their modules' names.

    The folder appears whole or not at all; what a killed run has finished is verified and kept.
    Raises OutputTaken, NotEnoughSpace, InvalidAdapter for a result that overflows, InvalidFile for a base that changes.
    """
    _check_norms(norms)
    check_output(plan.out)
    plan.partial.mkdir(parents=True, exist_ok=True)
    with _locked(plan.partial):
        done = _finished(plan, progress)
        copied, left_out = _companions(plan)
        _check_space(plan, done)
        merger = _Merger(plan, changes, progress, done)
        try:
            merger.run(workers)
        except Refused:
            shutil.rmtree(plan.partial)  # the same merge would be refused again
            raise
        merged = Merged(plan.out, merger.shards, copied, left_out, len(done))
        files = [_copy(plan.base / path, plan.partial / path, path) for path in copied]
        _write_manifest(plan, merged, files)
    _put_in_place(plan)
    return merged


def _check_norms(norms: Mapping[str, float]) -> None:
    for module, norm in norms.items():
        if not norm < _LARGEST_NORM:
            raise InvalidAdapter(f"module {module}", f"its delta has the norm {norm:g}, beyond what float32 holds")


# -- computing --------------------------------------------------------------------------------------------------------


class _Merger:
    """The shards of one merge, several at once; each is computed in one thread, hashed and written in another."""

    def __init__(
        self, plan: Plan, changes: Mapping[str, Addition], progress: Progress, done: Mapping[str, MergedShard]
    ) -> None:
        self._plan = plan
        self._changes = changes
        self._progress = progress
        self._finished = dict(done)
        self._lock = Lock()
        self._stopped = False
        self._bytes = sum(shard.size for shard in done.values())
        self._total = sum(shard.size for shard in plan.shards)

    @property
    def shards(self) -> tuple[MergedShard, ...]:
        return tuple(self._finished[shard.path] for shard in self._plan.shards)

    def run(self, workers: int) -> None:
        missing = [shard for shard in self._plan.shards if shard.path not in self._finished]
        self._record()
        pool = ThreadPoolExecutor(max(1, min(workers, len(missing))))
        try:
            for future in [pool.submit(self._merge, shard) for shard in missing]:
                future.result()
        except BaseException:
            self._stopped = True
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _merge(self, shard: Shard) -> None:
        target = self._plan.partial / shard.path
        part = target.with_name(f".{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        unchanged: list[str] = []
        with part.open("wb", buffering=0) as stream, OpenFiles.of([shard.file]) as files:
            writer = _Writer(stream, self._advance)
            try:
                self._write(shard, files, writer, unchanged)
                digest = writer.finish()
            finally:
                writer.close()
            os.fsync(stream.fileno())
        part.rename(target)
        _sync_folder(target.parent)
        with self._lock:
            self._finished[shard.path] = MergedShard(shard.path, shard.size, digest, tuple(unchanged))
            self._record()

    def _write(self, shard: Shard, files: OpenFiles, writer: "_Writer", unchanged: list[str]) -> None:
        position = 0
        for tensor in shard.tensors:
            addition = self._changes.get(label(tensor))
            if addition is not None:
                _copy_bytes(files, shard.file, position, stop=tensor.start, writer=writer)
                if not _add(files, tensor, addition, writer):
                    unchanged.append(label(tensor))
                position = tensor.start + tensor.size
        _copy_bytes(files, shard.file, position, stop=shard.size, writer=writer)

    def _advance(self, count: int) -> None:
        if self._stopped:
            raise CancelledError
        with self._lock:
            self._bytes += count
            self._progress("merging", self._bytes, self._total)

    def _record(self) -> None:
        document = {"plan": self._plan.digest, "shards": [asdict(shard) for shard in self._finished.values()]}
        _write_json(self._plan.partial / _PROGRESS, document)


def _copy_bytes(files: OpenFiles, file: Path, start: int, *, stop: int, writer: "_Writer") -> None:
    while start < stop:
        piece = writer.buffer(min(CHUNK, stop - start))
        files.read_into(file, piece, start)
        writer.put(piece)
        start += len(piece)


def _add(files: OpenFiles, tensor: StoredTensor, addition: Addition, writer: "_Writer") -> bool:
    """Write a tensor with its delta added; returns whether that changed anything."""
    dtype, width, rows = DTYPES[tensor.dtype], row_width(tensor), row_count(tensor)
    step = block_rows(width)
    piece_rows = max(step, CHUNK // (width * dtype.itemsize) // step * step)
    work = torch.empty(step, width)
    changed = False
    for start in range(0, rows, piece_rows):
        count = min(piece_rows, rows - start)
        piece = writer.buffer(count * width * dtype.itemsize)
        files.read_into(tensor.file, piece, tensor.start + start * width * dtype.itemsize)
        stored = torch.frombuffer(piece, dtype=dtype).view(count, width)
        for block in range(0, count, step):
            changed |= _add_block(stored[block : block + step], addition, start + block, work=work, seen=changed)
        writer.put(piece)
    return changed


def _add_block(stored: Tensor, addition: Addition, start: int, *, work: Tensor, seen: bool) -> bool:
    """Add the delta's rows from `start` on to a block in place; `seen` spares looking whether that changes it."""
    total = work[: len(stored)]
    total.copy_(stored).addmm_(addition.left[start : start + len(stored)], addition.right)
    before = None if seen else stored.clone()
    stored.copy_(total)
    if stored.dtype == torch.float16 and not stored.isfinite().all():
        raise InvalidAdapter(f"module {addition.module}", "the merged weights overflow float16, the base's dtype")
    return before is not None and not torch.equal(before, stored)


class _Writer:
    """Hashes and writes pieces in their order, in a thread of its own, while the next ones are computed."""

    def __init__(self, stream: BinaryIO, advance: Callable[[int], None]) -> None:
        self._stream = stream
        self._advance = advance
        self._digest = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1)
        self._flying: deque[tuple[Future[None], bytearray]] = deque()
        self._taken: bytearray | None = None

    def buffer(self, size: int) -> memoryview:
        """A buffer to fill and `put`: one that was written already, or a new one."""
        if len(self._flying) < _BUFFERS:
            self._taken = bytearray(size)
        else:
            future, self._taken = self._flying.popleft()
            future.result()
            if len(self._taken) < size:
                self._taken = bytearray(size)
        return memoryview(self._taken)[:size]

    def put(self, piece: memoryview) -> None:
        assert self._taken is not None
        self._flying.append((self._pool.submit(self._consume, piece), self._taken))

    def finish(self) -> str:
        """Wait for everything; returns the sha256 of what was written."""
        for future, _ in self._flying:
            future.result()
        return self._digest.hexdigest()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _consume(self, piece: memoryview) -> None:
        rest = piece
        while rest:
            rest = rest[self._stream.write(rest) :]
        self._digest.update(piece)
        self._advance(len(piece))


# -- around the shards ------------------------------------------------------------------------------------------------


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; it ends with the process. Raises OutputTaken while another one holds it."""
    with (folder / _LOCK).open("wb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputTaken(str(folder)) from None
        yield


def _finished(plan: Plan, progress: Progress) -> dict[str, MergedShard]:
    """The shards {path: shard} that an earlier run of the same merge finished, each hashed again.

    Raises OutputTaken if the folder belongs to another merge.
    """
    path = plan.partial / _PROGRESS
    if not path.exists():
        if any(not entry.name.startswith(".") for entry in plan.partial.iterdir()):
            raise OutputTaken(str(plan.partial))
        return {}
    document = parse_object(path.read_bytes(), path=str(path), limits=_LIMITS)
    if document.get("plan") != plan.digest:
        raise OutputTaken(str(plan.partial))
    shards = [MergedShard(**{**entry, "unchanged": tuple(entry["unchanged"])}) for entry in document["shards"]]
    found: dict[str, MergedShard] = {}
    for done, shard in enumerate(shards):
        progress("verifying", done, len(shards))
        if _holds(plan.partial / shard.path, shard):
            found[shard.path] = shard
    return found


def _holds(path: Path, shard: MergedShard) -> bool:
    if not path.is_file() or path.stat().st_size != shard.size:
        return False
    with path.open("rb") as stream:
        return sha256_stream(stream) == (shard.sha256, shard.size)


def _companions(plan: Plan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The other files of the base {relative path}: those that are copied, and those that are left out."""
    shards = {shard.path for shard in plan.shards}
    copied: list[str] = []
    left_out: list[str] = []
    for root, folders, names in os.walk(plan.base):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = (Path(root) / name).relative_to(plan.base).as_posix()
            wanted = Path(name).suffix.lower() in _COPIED or name.lower() in _COPIED_NAMES
            if path not in shards and path not in (MANIFEST, _PROGRESS):
                (copied if wanted else left_out).append(path)
    return tuple(copied), tuple(left_out)


def _check_space(plan: Plan, done: Mapping[str, MergedShard]) -> None:
    needed = sum(shard.size for shard in plan.shards if shard.path not in done)
    free = shutil.disk_usage(plan.partial).free
    if needed > free:
        raise NotEnoughSpace(str(plan.out.parent), needed, free)


def _copy(source: Path, target: Path, path: str) -> dict[str, Any]:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    with target.open("rb") as stream:
        digest, size = sha256_stream(stream)
        os.fsync(stream.fileno())
    return {"path": path, "size": size, "sha256": digest}


def _write_manifest(plan: Plan, merged: Merged, files: list[dict[str, Any]]) -> None:
    document = {
        "schema": 1,
        **plan.origin,
        "shards": [{key: value for key, value in asdict(s).items() if key != "unchanged"} for s in merged.shards],
        "files": files,
        "left_out": list(merged.left_out),
        "unchanged": list(merged.unchanged),
    }
    _write_json(plan.partial / MANIFEST, document)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a merged folder says of itself. Raises InvalidFile."""
    path = folder / MANIFEST
    return parse_object(path.read_bytes(), path=str(path), limits=_LIMITS)


def _put_in_place(plan: Plan) -> None:
    """Turn the finished folder into the output."""
    _sync_folder(plan.partial)
    check_output(plan.out)
    plan.partial.rename(plan.out)
    for name in (_PROGRESS, _LOCK):
        (plan.out / name).unlink()
    _sync_folder(plan.out.parent)


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a file at once: the old content or the new, never a part."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    part.rename(path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_format(base_format: str, folder: Path) -> None:
    """Raises InvalidFile for a base that isn't a folder of safetensors."""
    if base_format != "safetensors" or not folder.is_dir():
        raise InvalidFile(str(folder), "format", "merging needs a folder with the base's safetensors files")
