"""Electing a sign for each element, and merging what agrees with it: the second half of TIES, and of what came after.

Source: TIES-Merging, arXiv 2306.01708, algorithm 1, "elect final signs" and "disjoint merge".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from registry.domain.method import Value


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

    def merged(self, values: Tensor, weights: Tensor) -> Tensor:
        """values: (inputs, …), zero where dropped; weights: (inputs, 1, …). Returns (…)."""
        weighted = values * weights
        agrees = self.agrees(weighted if self.elect == "weighted" else values)
        total = torch.where(agrees, weighted, 0).sum(0)
        if self.normalise == "none":
            return total
        if self.normalise == "count":
            return total / agrees.sum(0).clamp(min=1)
        divisor = torch.where(agrees, weights.abs(), 0).sum(0)
        return torch.where(divisor > 0, total / divisor, 0)

    def agrees(self, votes: Tensor) -> Tensor:
        """Which values have the elected sign: (inputs, …), bool."""
        signs = votes.sign()
        vote = votes.sum(0) if self.sign == "total" else signs.sum(0)
        elected = torch.where(vote >= 0, 1.0, -1.0) if self.elect == "peft" else vote.sign()
        return (signs == elected) & (signs != 0)
