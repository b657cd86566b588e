"""Iso-C: the sum with a flat spectrum.

    Σ_i w_i Δ_i = U Σ Vᵀ,  Δ = λ · σ̄ · U Vᵀ,  σ̄ = the mean of the singular values

The paper's matrices have full rank; here the mean and the vectors are those of the sum's own rank, as in the authors'
later work on LoRA (arXiv 2509.17786). One adapter at weight 1 is not itself: its spectrum is flattened too.
Source: Marczak et al. 2025, arXiv 2502.04959, equation 7.
"""

from collections.abc import Mapping, Sequence

from composition.low_rank import LowRank, Truncation, concatenate, svd
from composition.methods.knots import noise
from composition.methods.method import Input, exact, number
from registry.domain.method import Value


def iso_c(inputs: Sequence[Input], params: Mapping[str, Value]) -> Truncation:
    """Merge by Iso-C. Parameters: lambda."""
    total = concatenate([item.scaled for item in inputs])
    left, values, right = svd(total)
    live = values > noise(values)
    if not live.any():
        return exact(LowRank(total.A[:0], total.B[:, :0]))
    mean = number(params, "lambda") * float(values[live].mean())
    root = abs(mean) ** 0.5
    signed = root if mean >= 0 else -root
    return exact(LowRank((right[:, live].T * root).float().contiguous(), (left[:, live] * signed).float()))
