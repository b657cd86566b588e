"""What composing can't take less than: its matrix products, at the rate that this machine multiplies such shapes.

    truncate   Gram matrices of both factors at the summed rank, and the new factors, in float64
    cat        the Gram matrices, which the report needs
    ties       every parent's delta formed once, in float32
    knots      the products of truncate

Reading, hashing and writing are floors of `compose_files`, and measured there.
"""

import time
from collections.abc import Iterable

import torch

Shape = tuple[int, int]
"""(out, in) of a module."""


def rate(rows: int, rank: int, dtype: torch.dtype) -> float:
    """Multiplications and additions a second of one thread, in a Gram matrix of (rows, rank); the best of many."""
    tall = torch.randn(rows, rank, dtype=dtype)
    before, best = torch.get_num_threads(), float("inf")
    torch.set_num_threads(1)
    for _ in range(50):
        started = time.perf_counter()
        tall.T @ tall
        best = min(best, time.perf_counter() - started)
    torch.set_num_threads(before)
    return 2 * rows * rank**2 / best


def seconds(kind: str, shapes: Iterable[Shape], rank: int, parents: int = 2) -> float:
    """The products of one thread for modules of these shapes, parents of a rank, and a result of that rank."""
    whole = parents * rank
    if kind == "ties":
        flops = sum(2 * parents * out * inside * rank for out, inside in shapes)
        return flops / rate(4096, 256, torch.float32)
    sides = sum(out + inside for out, inside in shapes)
    flops = 2 * sides * whole**2 + (0 if kind == "cat" else 2 * sides * whole * rank)
    return flops / rate(4096, whole, torch.float64)
