"""What composing can't take less than: converting the factors, their products, and one decomposition a module.

    truncate   Gram matrices of both factors at the summed rank, a singular value decomposition, and the new factors
    cat        the Gram matrices, which the report needs
    ties       every parent's delta formed once, in float32
    knots      the products of truncate

All but `ties` in float64, by plain calls of torch in one thread on factors as they are stored: no report, no checks, no
recipe, no file. Reading, hashing and writing are floors of `compose_files`, and measured there.
"""

import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Shape = tuple[int, int]
"""(out, in) of a module."""

_ROUNDS = 9
_BLOCK = 2048  # rows that are converted at once: they stay in a core's second cache


def seconds(
    kind: str,
    shapes: Iterable[Shape],
    rank: int,
    *,
    parents: int = 2,
    dtype: torch.dtype = torch.float32,
    copies: int = 1,
) -> float:
    """One thread's time for modules of these shapes, parents of a rank, and a result of that rank; the best of some.

    `copies` of each, with numbers of their own, are done in turn, so that they don't wait in the cache.
    """
    works = [_work(kind, shape, rank, parents=parents, dtype=dtype) for _ in range(copies) for shape in shapes]
    before, best = torch.get_num_threads(), float("inf")
    torch.set_num_threads(1)
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        for work in works:
            work()
        best = min(best, time.perf_counter() - started)
    torch.set_num_threads(before)
    return best / copies


def _work(kind: str, shape: Shape, rank: int, *, parents: int, dtype: torch.dtype) -> Callable[[], object]:
    left, right = (torch.randn(size, parents * rank).to(dtype) for size in shape)
    if kind == "ties":
        pairs = list(zip(left.float().split(rank, dim=1), right.float().split(rank, dim=1), strict=True))
        return lambda: [one @ other.T for one, other in pairs]
    return (lambda: (_gram(left), _gram(right))) if kind == "cat" else (lambda: _truncate(left, right, rank))


def _truncate(left: Tensor, right: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    vectors, _, others = torch.linalg.svd(_gram(left) @ _gram(right))
    return _formed(left, vectors[:, :rank]), _formed(right, others[:rank].T)


def _gram(tall: Tensor) -> Tensor:
    total = torch.zeros(tall.shape[1], tall.shape[1], dtype=torch.float64)
    for rows in tall.split(_BLOCK):
        wide = rows.double()
        total.addmm_(wide.T, wide)
    return total


def _formed(tall: Tensor, small: Tensor) -> Tensor:
    return torch.cat([(rows.double() @ small).to(tall.dtype) for rows in tall.split(_BLOCK)])
