"""Registering a base: the sha256 of every tensor's bytes, in parallel, at the speed of the disk or of sha256.

The index that comes out is all that the registry keeps of a base. Each worker reads into one small buffer of its own
(a memory map would count as memory, and erratically), and hashlib leaves the interpreter to the others meanwhile.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Lock

from registry.domain.bases import BaseIndex, BaseTensor
from registry.domain.errors import InvalidFile
from registry.formats.base_files import StoredTensor, read_base

_BUFFER = 1 << 20  # bytes a worker reads at once: stays in the processor's cache between read and hash

Progress = Callable[[int, int], None]


def index_base(path: Path, *, progress: Progress | None = None, workers: int | None = None) -> BaseIndex:
    """Read and hash a base model: a folder of safetensors (sharded or diffusers too), one such file, or a GGUF file.

    `progress` is called with (bytes done, bytes in all), from one worker at a time. `workers` is the number of threads;
    one a processor where None.

    Raises InvalidFile for a base that is absent, incomplete, pickled or malformed, or whose shards disagree.
    """
    stored = read_base(path)
    hashes = _hash_all(stored.tensors, _Counter(stored.tensors, progress), workers or len(os.sched_getaffinity(0)))
    tensors = (
        BaseTensor(tensor.component, tensor.name, tensor.dtype, tensor.shape, tensor.size, sha256)
        for tensor, sha256 in zip(stored.tensors, hashes, strict=True)
    )
    return BaseIndex(stored.format, stored.model_type, tuple(_unique(tensors, path)))


class _Counter:
    """Adds up the bytes of all workers for the caller's progress."""

    def __init__(self, tensors: Sequence[StoredTensor], progress: Progress | None) -> None:
        self._progress = progress
        self._lock = Lock()
        self._done = 0
        self._total = sum(tensor.size for tensor in tensors)

    def add(self, count: int) -> None:
        if self._progress is not None:
            with self._lock:
                self._done += count
                self._progress(self._done, self._total)


def _hash_all(tensors: Sequence[StoredTensor], counter: _Counter, workers: int) -> list[str]:
    """Digests in the tensors' order. The largest go first, so that none is left alone at the end."""
    order = sorted(range(len(tensors)), key=lambda index: -tensors[index].size)
    with ExitStack() as stack:
        files = {file: stack.enter_context(file.open("rb", buffering=0)) for file in {t.file for t in tensors}}

        def work(index: int) -> str:
            return _hash(files[tensors[index].file].fileno(), tensors[index], counter)

        pool = stack.enter_context(ThreadPoolExecutor(workers))
        digests = dict(zip(order, pool.map(work, order), strict=True))
    return [digests[index] for index in range(len(tensors))]


def _hash(descriptor: int, tensor: StoredTensor, counter: _Counter) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(_BUFFER, tensor.size)))
    position, end = tensor.start, tensor.start + tensor.size
    while position < end:
        count = os.preadv(descriptor, [buffer[: end - position]], position)
        if not count:
            raise InvalidFile(str(tensor.file), f"tensor {tensor.name!r}", "the file became shorter while it was read")
        digest.update(buffer[:count])
        position += count
        counter.add(count)
    return digest.hexdigest()


def _unique(tensors: Iterator[BaseTensor], path: Path) -> Iterator[BaseTensor]:
    """Each tensor once: shards may repeat one, if they agree about it."""
    seen: dict[tuple[str, str], BaseTensor] = {}
    for tensor in tensors:
        if (other := seen.setdefault((tensor.component, tensor.name), tensor)) is tensor:
            yield tensor
        elif other != tensor:
            raise InvalidFile(str(path), f"tensor {tensor.label!r}", "two files hold it, with different content")
