"""A delta of full rank: the matrix itself as one factor, and an identity as the other."""

import torch
from torch import Tensor

from composition.low_rank import LowRank


def whole(matrix: Tensor) -> LowRank:
    """A matrix, (out, in), as a delta whose rank is its shorter side."""
    out, inside = matrix.shape
    if out <= inside:
        return LowRank(matrix, torch.eye(out, dtype=matrix.dtype, device=matrix.device))
    return LowRank(torch.eye(inside, dtype=matrix.dtype, device=matrix.device), matrix)


def at_most_full(delta: LowRank) -> LowRank:
    """The same delta; as a matrix, rounded once, where its rank is larger than the matrix has room for."""
    return whole(delta.dense().to(delta.A.dtype)) if delta.rank > min(delta.shape) else delta
