"""Bringing the factors of many modules to a device at once, while another group is computed there.

All factors of a group go through one buffer: pinned and copied on a stream of its own where the device is a GPU, so
that the copy overlaps what the GPU computes. On a CPU it is the same buffer without a second copy. Knows factors and
devices, no modules and no recipes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from composition.low_rank import LowRank


@dataclass(frozen=True, slots=True, eq=False)
class Staged:
    """Factors on their way: `deltas` may be used after `wait`."""

    deltas: tuple[LowRank, ...]
    buffer: Tensor
    copied: torch.cuda.Event | None

    def wait(self) -> tuple[LowRank, ...]:
        """The deltas, once the copy is done: what the current stream is given from now on waits for it."""
        if self.copied is not None:
            stream = torch.cuda.current_stream(self.buffer.device)
            stream.wait_event(self.copied)
            self.buffer.record_stream(stream)  # or the side stream would give the memory to the next copy too early
        return self.deltas


class Staging:
    """A way to one device. Copies of float32 factors are started at once and end in their order."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def bring(self, deltas: Sequence[LowRank]) -> Staged:
        """Start to copy. Raises torch.OutOfMemoryError."""
        host = torch.empty(size_of(deltas) // 4, dtype=torch.float32, pin_memory=self._side is not None)
        _filled(host, deltas)
        if self._side is None:
            return Staged(tuple(_views(host, deltas)), host, None)
        with torch.cuda.stream(self._side):
            there = host.to(self._device, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(self._side)
        return Staged(tuple(_views(there, deltas)), there, copied)


def size_of(deltas: Sequence[LowRank]) -> int:
    """Bytes of the factors as float32."""
    return 4 * sum(delta.A.numel() + delta.B.numel() for delta in deltas)


def _filled(buffer: Tensor, deltas: Sequence[LowRank]) -> None:
    at = 0
    for delta in deltas:
        for factor in (delta.A, delta.B):
            buffer[at : at + factor.numel()].view(factor.shape).copy_(factor)
            at += factor.numel()


def _views(buffer: Tensor, deltas: Sequence[LowRank]) -> list[LowRank]:
    parts = buffer.split([factor.numel() for delta in deltas for factor in (delta.A, delta.B)])  # type: ignore[no-untyped-call]
    pairs = zip(deltas, parts[::2], parts[1::2], strict=True)
    return [LowRank(a.view(delta.A.shape), b.view(delta.B.shape), delta.scaling) for delta, a, b in pairs]
