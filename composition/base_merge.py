"""Merging into a base model's files: one pass, one rounding, and everything else byte for byte.

A changed tensor is computed in float32 (see `changes`) and rounded to its dtype once. Blocks of a shape's own size
make the bits independent of threads and of how the base is sharded. Shards are the unit of parallel work and of
continuing after a kill. This room knows no registry and no names of adapters; see `base_jobs`.
"""

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from composition.changes import Addend, Change
from composition.merge_folder import (
    check_space,
    companions,
    copy,
    finished,
    locked,
    put_in_place,
    record,
    sync_folder,
    write_manifest,
)
from composition.merge_plan import Merged, MergedShard, Plan, Progress, check_output
from composition.output_file import OutputFile
from composition.shards import CHUNK, DTYPES, OpenFiles, Shard, block_rows, label
from registry.domain.errors import InvalidAdapter, Refused
from registry.formats.base_files import StoredTensor


def merge_shards(plan: Plan, changes: Mapping[str, Change], *, workers: int, progress: Progress) -> Merged:
    """Write the merged model. `changes` is by the tensors' labels.

    The folder appears whole or not at all; what a killed run has finished is verified and kept.
    Raises OutputTaken, NotEnoughSpace, InvalidAdapter for a result that overflows, InvalidFile for a base that changes.
    """
    check_output(plan.out)
    plan.partial.mkdir(parents=True, exist_ok=True)
    with locked(plan.partial):
        done = finished(plan, progress)
        copied, left_out = companions(plan)
        check_space(plan, done)
        merger = _Merger(plan, changes, progress, done)
        try:
            merger.run(workers)
        except Refused:
            shutil.rmtree(plan.partial)  # the same merge would be refused again
            raise
        merged = Merged(plan.out, merger.shards, copied, left_out, len(done))
        write_manifest(plan, merged, [copy(plan, path) for path in copied])
    put_in_place(plan)
    return merged


class _Merger:
    """The shards of one merge, several at once."""

    def __init__(
        self, plan: Plan, changes: Mapping[str, Change], progress: Progress, done: Mapping[str, MergedShard]
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
        record(self._plan, self._finished.values())
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
        with OpenFiles.of([shard.file]) as files, OutputFile(part, self._advance) as out:
            unchanged = _ShardWriter(shard.file, files, out).write(shard, self._changes)
            digest = out.finish()
        part.rename(target)
        sync_folder(target.parent)
        with self._lock:
            self._finished[shard.path] = MergedShard(shard.path, shard.size, digest, tuple(unchanged))
            record(self._plan, self._finished.values())

    def _advance(self, count: int) -> None:
        if self._stopped:
            raise CancelledError
        with self._lock:
            self._bytes += count
            self._progress("merging", self._bytes, self._total)


class _ShardWriter:
    """A shard from front to back: what a change covers is computed, all other bytes are copied."""

    def __init__(self, file: Path, files: OpenFiles, out: OutputFile) -> None:
        self._file = file
        self._files = files
        self._out = out
        self._position = 0

    def write(self, shard: Shard, changes: Mapping[str, Change]) -> list[str]:
        """Write all of it; returns the tensors whose change changes nothing."""
        unchanged = []
        for tensor in shard.tensors:
            change = changes.get(label(tensor))
            if change is not None and not self._change(tensor, change):
                unchanged.append(label(tensor))
        self._copy_until(shard.size)
        return unchanged

    def _copy_until(self, stop: int) -> None:
        while self._position < stop:
            self._out.put(self._read(min(CHUNK, stop - self._position)))

    def _read(self, size: int) -> memoryview:
        piece = self._out.buffer(size)
        self._files.read_into(self._file, piece, self._position)
        self._position += size
        return piece

    def _change(self, tensor: StoredTensor, change: Change) -> bool:
        """Write a tensor up to its last change; returns whether that changed anything."""
        row = change.width * DTYPES[tensor.dtype].itemsize
        kernel = _Kernel(change)
        for run in change.runs:
            self._copy_until(tensor.start + run.start * row)
            addends = [term.prepared(change.dtype) for term in run.terms]
            largest = max(kernel.step, CHUNK // row // kernel.step * kernel.step)
            for start in range(0, run.stop - run.start, largest):
                count = min(largest, run.stop - run.start - start)
                piece = self._read(count * row)
                kernel.apply(torch.frombuffer(piece, dtype=DTYPES[tensor.dtype]).view(count, -1), addends, start)
                self._out.put(piece)
        return kernel.changed


class _Kernel:
    """Adds a change's terms to rows of its tensor, block by block, in one buffer."""

    def __init__(self, change: Change) -> None:
        self.step = block_rows(change.width)
        self.changed = False
        self._change = change
        self._work = torch.empty(self.step, change.width, dtype=change.dtype)

    def apply(self, rows: Tensor, addends: Sequence[Addend], start: int) -> None:
        """Change rows in place; the first of them is row `start` of a run, and of a block."""
        for block in torch.split(rows, self.step):
            total = self._work[: len(block)].copy_(block)
            for addend in addends:
                addend.add(total, block, slice(start, start + len(block)))
            start += len(block)
            if not self.changed:
                before = block.clone()
                self.changed = not torch.equal(block.copy_(total), before)
            else:
                block.copy_(total)
            if (self._change.may_overflow or block.dtype == torch.float16) and not block.isfinite().all():
                reason = f"the merged weights overflow {str(block.dtype).removeprefix('torch.')}, the base's dtype"
                raise InvalidAdapter(f"module {self._change.module}", reason)
