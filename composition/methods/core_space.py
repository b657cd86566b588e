"""Core Space: merge cores of rank x rank in bases that all inputs share.

    U: left singular vectors of [B_1 … B_n],  V: right singular vectors of [A_1; …; A_n]
    M_i = Uᵀ B_i A_i V,  Δ = U · merge(M_1 … M_n) · Vᵀ

The bases hold every input whole, so that merging by `sum` is the exact linear sum, in fewer ranks where inputs overlap.
`ties` trims, elects and merges the elements of the M_i. The bases follow from the factors as they are stored, as in the
paper; equal deltas in other factors turn them, and TIES then merges other elements.
Source: Panariello et al. 2025, arXiv 2509.17786, section 3 and algorithm 1.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from composition.low_rank import LowRank, Truncation
from composition.methods.knots import merged_by_ties, noise
from composition.methods.method import Input, exact, number, weighted, weights_of
from registry.domain.method import Value


def core_space(inputs: Sequence[Input], params: Mapping[str, Value]) -> Truncation:
    """Merge in core space. Parameters: merge, density, sign, elect, normalise, lambda."""
    deltas = [item.delta.folded() for item in inputs]
    left = _basis(torch.cat([delta.B.double() for delta in deltas], dim=1))
    right = _basis(torch.cat([delta.A.double() for delta in deltas]).T)
    cores = torch.stack([(left.T @ delta.B.double()) @ (delta.A.double() @ right) for delta in deltas])
    merged = _merged(cores, inputs, params)
    return exact(LowRank((merged @ right.T).float(), left.float()))


def _basis(tall: Tensor) -> Tensor:
    """Left singular vectors: (n, k)."""
    q, r = torch.linalg.qr(tall)
    vectors, values, _ = torch.linalg.svd(r, full_matrices=False)
    return torch.matmul(q, vectors[:, values > noise(values)])


def _merged(cores: Tensor, inputs: Sequence[Input], params: Mapping[str, Value]) -> Tensor:
    if params["merge"] == "sum":
        return number(params, "lambda") * weighted(cores, weights_of(inputs)).sum(0)
    return merged_by_ties(cores, inputs, params)
