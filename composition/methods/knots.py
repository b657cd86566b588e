"""KnOTS: TIES on the coordinates of all deltas in one output basis that they share.

    [Δ_1 … Δ_n] = U Σ [V_1 … V_n],  M_i = Σ V_i = Uᵀ Δ_i,  Δ = U · TIES(M_1 … M_n)

The side-by-side matrix is never formed: with B = [B_1 … B_n] = Q [R_1 … R_n] and A_iᵀ = P_i T_i, its singular vectors
are Q times those of [R_1 T_1ᵀ … R_n T_nᵀ], at most rank x rank. The M_i are rank x in, and the result has that rank:
nothing is lost after the merge. As in the authors' code, the coordinates that TIES trims are Σ V_i.
Source: Stoica et al. 2024, arXiv 2410.19735, section 4.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from composition.low_rank import LowRank, Truncation
from composition.methods.consensus import Consensus
from composition.methods.method import Input, exact, number, weights_of
from composition.methods.ties import trimmed
from composition.sparsify import thresholds
from registry.domain.method import Value


def knots(inputs: Sequence[Input], params: Mapping[str, Value]) -> Truncation:
    """Merge by KnOTS-TIES. Parameters: density, sign, elect, normalise, lambda."""
    deltas = [item.delta.folded() for item in inputs]
    basis = shared_basis(deltas)
    coordinates = torch.stack([basis.T @ delta.B.double() @ delta.A.double() for delta in deltas])
    merged = merged_by_ties(coordinates, inputs, params)
    return exact(LowRank(merged.float(), basis.float()))


def shared_basis(deltas: Sequence[LowRank]) -> Tensor:
    """Left singular vectors of the deltas side by side, (out, k), float64, without those at the noise of float32."""
    q, r = torch.linalg.qr(torch.cat([delta.B.double() for delta in deltas], dim=1))
    parts = r.split([delta.rank for delta in deltas], dim=1)
    triangles = [torch.linalg.qr(delta.A.double().T, mode="r")[1] for delta in deltas]
    core = torch.cat([part @ triangle.T for part, triangle in zip(parts, triangles, strict=True)], dim=1)
    left, values, _ = torch.linalg.svd(core, full_matrices=False)
    return torch.matmul(q, left[:, values > noise(values)])


def noise(values: Tensor) -> float:
    """What singular values of float32 factors are meaningless below."""
    return 1e-6 * float(values.max()) if len(values) else 0.0


def merged_by_ties(values: Tensor, inputs: Sequence[Input], params: Mapping[str, Value]) -> Tensor:
    """TIES of small matrices that are all in memory. values: (inputs, rows, columns), float64."""
    kept = int(number(params, "density") * values[0].numel())
    single = values.float()
    least = thresholds(lambda: [single], [kept] * len(inputs))
    survivors = torch.where(trimmed(single, least) != 0, values, 0)
    return Consensus.of(params).merged(survivors, weights_of(inputs)) * number(params, "lambda")
