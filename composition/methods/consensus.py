"""Electing a sign for each element, and merging what agrees with it: the second half of TIES, and of what came after.

Source: TIES-Merging, arXiv 2306.01708, algorithm 1, "elect final signs" and "disjoint merge".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from composition.methods.method import weighted
from registry.domain.method import Value


def added(parts: Tensor) -> Tensor:
    """The sum over the inputs, in their order and element by element; torch's `sum` is slower, and minds the shape."""
    total = parts[0] + parts[1] if len(parts) > 1 else parts[0].clone()
    for part in parts[2:]:
        total += part
    return total


def one_for_zero(total: Tensor) -> Tensor:
    """What is positive as it is, and 1 for 0; in place."""
    return total.add_(1 - total.sign())


@dataclass(frozen=True, slots=True)
class Consensus:
    """How to elect and to normalise.

    `sign`: "total" sums the values, "frequency" counts their signs. `elect`: "weighted" votes with weight * value, and
    where the vote is even keeps nothing; "peft" votes with the bare values, and an even vote counts as +.
    `normalise`: divide by the number of inputs that agree ("count"), by the sum of their absolute weights ("weights"),
    or by nothing ("none").
    """

    sign: str
    elect: str
    normalise: str

    @classmethod
    def of(cls, params: Mapping[str, Value]) -> Self:
        return cls(str(params["sign"]), str(params["elect"]), str(params["normalise"]))

    def merged(self, values: Tensor, weights: Sequence[float]) -> Tensor:
        """values: (inputs, …), zero where dropped, and overwritten; one weight an input. Returns (…)."""
        votes = weighted(values, weights) if self.elect == "weighted" else values
        elected = self.elected(votes)
        agreeing = votes.mul_(elected).clamp_(min=0)  # what disagrees is negative
        is_plain = self.elect == "weighted" or set(weights) == {1.0}
        total = added(agreeing if is_plain else weighted(agreeing.clone(), weights)).mul_(elected)
        return total if self.normalise == "none" else total.div_(self._divisor(agreeing.sign_(), weights))

    def elected(self, votes: Tensor) -> Tensor:
        """The elected signs: (…), of votes: (inputs, …)."""
        signs = added(votes if self.sign == "total" else votes.sign()).sign_()
        return signs.add_(0.5).sign_() if self.elect == "peft" else signs  # `where` takes ten times as long

    def _divisor(self, agrees: Tensor, weights: Sequence[float]) -> Tensor:
        """What sums are divided by; 1 where nothing agrees. agrees: (inputs, …), 1 or 0, and overwritten."""
        if self.normalise == "count":
            return added(agrees).clamp_(min=1)
        return one_for_zero(added(weighted(agrees, map(abs, weights))))
