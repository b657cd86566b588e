"""Spherical linear interpolation between two deltas, each module's delta taken as one vector.

    sin((1 - t) θ) / sin θ · Δ_0 + sin(t θ) / sin θ · Δ_1,  cos θ = <Δ_0, Δ_1> / (|Δ_0| |Δ_1|)

The inner product and the norms come from the factors, so that nothing is formed, and the result is a sum: exact. Where
the deltas are parallel, opposite or zero there is no arc, and the interpolation is linear. Never on A and B apart: the
arc between factors isn't the arc between deltas.
Source: Shoemake 1985, section 3.3.
"""

import math
from collections.abc import Mapping, Sequence

from composition.low_rank import LowRank, Truncation, concatenate, inner, interpolate
from composition.methods.method import Input, exact, number
from registry.domain.method import Value

_PARALLEL = 1e-9  # of 1 - |cos θ|


def slerp(inputs: Sequence[Input], params: Mapping[str, Value]) -> Truncation:
    """Interpolate; t=0 and t=1 are the inputs themselves. Parameters: t."""
    start, end = (item.scaled for item in inputs)
    return exact(_slerp(start, end, number(params, "t")))


def _slerp(start: LowRank, end: LowRank, t: float) -> LowRank:
    lengths = start.norm() * end.norm()
    cosine = inner(start, end) / lengths if lengths else 1.0
    if t in (0.0, 1.0) or abs(cosine) > 1 - _PARALLEL:
        return interpolate(start, end, t)
    angle = math.acos(cosine)
    first, second = math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)
    return concatenate((start.scaled(first), end.scaled(second)))
