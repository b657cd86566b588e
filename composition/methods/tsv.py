"""TSV-Merge: make the inputs' singular vectors orthogonal to each other, so that the inputs interfere least.

    Δ_i ≈ U_i Σ_i V_iᵀ (`keep` values),  U = [U_1 … U_n],  V = [V_1 … V_n]
    Δ = λ · U⊥ · diag(w_i Σ_i) · V⊥ᵀ,  X⊥ = P Qᵀ for X = P D Qᵀ

X⊥ is the orthogonal matrix nearest to X (Procrustes). Directions that inputs share exactly (D = 0) are left out of it,
so that an input given twice is counted once. The paper keeps 1/n of the values of a full matrix, which is more than all
of a LoRA's; hence `keep` is all by default.
Source: Gargiulo et al. 2024, arXiv 2412.00081, section 4.2 and algorithm 1.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from composition.low_rank import LowRank, Truncation, svd
from composition.methods.knots import noise
from composition.methods.method import Input, exact, number, whole
from registry.domain.method import Value


def tsv(inputs: Sequence[Input], params: Mapping[str, Value]) -> Truncation:
    """Merge by TSV-Merge. Parameters: keep, lambda."""
    keep, factor = whole(params, "keep"), number(params, "lambda")
    parts = [svd(item.delta) for item in inputs]
    left = orthogonal(torch.cat([u[:, :keep] for u, _, _ in parts], dim=1))
    right = orthogonal(torch.cat([v[:, :keep] for _, _, v in parts], dim=1))
    scaled = [item.weight * s[:keep] for item, (_, s, _) in zip(inputs, parts, strict=True)]
    values = factor * torch.cat(scaled)
    root = values.abs().sqrt()
    return exact(LowRank((right * root).T.float().contiguous(), (left * root * values.sign()).float()))


def orthogonal(tall: Tensor) -> Tensor:
    """The nearest matrix whose singular values are 1, or 0 where they were: (n, k)."""
    q, r = torch.linalg.qr(tall)
    left, values, right = torch.linalg.svd(r, full_matrices=False)
    live = values > noise(values)
    return torch.matmul(q, left[:, live] @ right[live])
