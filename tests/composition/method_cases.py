"""Inputs for the tests of methods, and a way to call one as an expression would."""

from typing import Any

import torch

from composition.low_rank import LowRank, Truncation
from composition.methods import METHODS
from composition.methods.method import Input
from registry.domain.methods import validate

OUT, IN, RANK = 14, 11, 3


def delta(seed: int, *, out: int = OUT, inside: int = IN, rank: int = RANK) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rank, inside, generator=generator), torch.randn(out, rank, generator=generator)
    return LowRank(a, b, 0.7)


def inputs(*weights: float, **shape: int) -> list[Input]:
    return [Input(weight, delta(seed, **shape), 100 + seed) for seed, weight in enumerate(weights)]


def call(name: str, given: list[Input], **params: Any) -> Truncation:
    """A method with its options checked and completed."""
    return METHODS[name](given, validate(name, params, inputs=len(given)))


def whole(name: str, given: list[Input], **params: Any) -> torch.Tensor:
    """What a method on the true delta gives, at full rank and formed in float64."""
    return call(name, given, rank=min(given[0].delta.shape), **params).delta.dense()


def dense(item: Input) -> torch.Tensor:
    """An input's delta as methods see it: float32 values, in float64."""
    folded = item.delta.folded()
    return (folded.B @ folded.A).double()


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())
