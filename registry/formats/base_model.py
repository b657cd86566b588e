"""Registering a base: the sha256 of every tensor's bytes, in parallel, at the speed of the disk or of sha256.

Each worker reads into one small buffer of its own (a memory map would count as memory, and erratically), and hashlib
leaves the interpreter to the others meanwhile. What lies in a store comes as streams, each of many small tensors or of
one large one.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from registry.domain.bases import BaseIndex, BaseTensor
from registry.domain.errors import InvalidFile
from registry.formats.base_files import BaseTree, StoredBase, StoredTensor, read_base

_BUFFER = 1 << 20  # bytes a worker reads at once: stays in the processor's cache between read and hash
_SPAN = 64 << 20  # bytes after which a stream of a store ends with the tensor that it is in
_STREAMS = 4  # streams of a store that are read at once

Progress = Callable[[int, int], None]


def index_base(path: Path, *, progress: Progress | None = None, workers: int | None = None) -> BaseIndex:
    """Read and hash a base model: a folder of safetensors (sharded or diffusers too), one such file, or a GGUF file.

    `progress` is called with (bytes done, bytes in all), from one worker at a time. `workers` is the number of threads;
    one a processor where None.

    Raises InvalidFile for a base that is absent, incomplete, pickled or malformed, or whose shards disagree.
    """
    stored = read_base(path)
    hashes = _hash_all(stored.tensors, _Counter(stored.tensors, progress), workers or len(os.sched_getaffinity(0)))
    return _index(stored, hashes, path)


def index_tree(tree: BaseTree, stored: StoredBase, *, progress: Progress | None = None) -> BaseIndex:
    """The same of a base whose files lie in a store, and whose headers were read there.

    Raises InvalidFile for shards that disagree, or end too soon.
    """
    spans, counter = _spans(stored.tensors), _Counter(stored.tensors, progress)

    def work(span: Sequence[int]) -> list[str]:
        return _hash_span(tree, [stored.tensors[index] for index in span], counter)

    with ThreadPoolExecutor(_STREAMS) as pool:
        digests = {
            index: sha256
            for span, found in zip(spans, pool.map(work, spans), strict=True)
            for index, sha256 in zip(span, found, strict=True)
        }
    return _index(stored, [digests[index] for index in range(len(stored.tensors))], tree.root)


def _index(stored: StoredBase, hashes: Sequence[str], path: Path) -> BaseIndex:
    tensors = (
        BaseTensor(tensor.component, tensor.name, tensor.dtype, tensor.shape, tensor.size, sha256)
        for tensor, sha256 in zip(stored.tensors, hashes, strict=True)
    )
    return BaseIndex(stored.format, stored.model_type, tuple(_unique(tensors, path)))


def _spans(tensors: Sequence[StoredTensor]) -> list[list[int]]:
    """The places of tensors that are read in one go: neighbours in a file, as their headers promise."""
    spans: list[list[int]] = []
    size = 0
    for index in sorted(range(len(tensors)), key=lambda place: (tensors[place].file, tensors[place].start)):
        if not spans or tensors[spans[-1][0]].file != tensors[index].file or size >= _SPAN:
            spans.append([])
            size = 0
        spans[-1].append(index)
        size += tensors[index].size
    return spans


def _hash_span(tree: BaseTree, tensors: Sequence[StoredTensor], counter: "_Counter") -> list[str]:
    first, last = tensors[0], tensors[-1]
    path, length = first.file.relative_to(tree.root).as_posix(), last.start + last.size - first.start
    with tree.open_file(path, start=first.start, length=length) as stream:
        return [_hash_next(stream, tensor, counter) for tensor in tensors]


def _hash_next(stream: BinaryIO, tensor: StoredTensor, counter: "_Counter") -> str:
    digest, left = hashlib.sha256(), tensor.size
    while left:
        data = stream.read(min(_BUFFER, left))
        if not data:
            raise InvalidFile(str(tensor.file), f"tensor {tensor.name!r}", "the file ends inside it")
        digest.update(data)
        left -= len(data)
        counter.add(len(data))
    return digest.hexdigest()


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
