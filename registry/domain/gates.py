"""Gates: what a version must show before an alias may point at it. Pure: records in, reasons out.

A gate belongs to an alias of an adapter and outlives its moves. Rolling back is never gated: its target passed before.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from registry.domain.errors import WrongUsage
from registry.domain.records import Evaluation
from registry.domain.reference import AdapterName

_TEXT = re.compile(r"\s*([^\s<>=]{1,200})\s*(>=|<=)\s*([-+0-9.eE]+)\s*")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A metric with a bound, measured on a data set: any, one of that name, or exactly that content."""

    metric: str
    comparison: str  # >= | <=
    bound: float
    dataset: str | None = None
    dataset_sha256: str | None = None

    @classmethod
    def parse(cls, text: str, *, dataset: str | None = None, dataset_sha256: str | None = None) -> Self:
        """Read `metric>=0.8` or `metric<=0.1`. Raises WrongUsage."""
        found = _TEXT.fullmatch(text)
        try:
            bound = float(found[3]) if found else float("nan")
        except ValueError:
            bound = float("nan")
        if not found or bound != bound or abs(bound) == float("inf"):
            raise WrongUsage(f"{text!r} is no requirement: write metric>=0.8 or metric<=0.1")
        return cls(found[1], found[2], bound, dataset, dataset_sha256)

    def __str__(self) -> str:
        where = f" on {self.dataset}" if self.dataset else ""
        pinned = f" (sha256:{self.dataset_sha256[:12]})" if self.dataset_sha256 else ""
        return f"{self.metric}{self.comparison}{self.bound:.12g}{where}{pinned}"

    def concerns(self, evaluation: Evaluation) -> bool:
        """Whether an evaluation measured what is required, where it is required."""
        return (
            self.metric in evaluation.metrics
            and self.dataset in (None, evaluation.dataset)
            and self.dataset_sha256 in (None, evaluation.dataset_sha256)
        )

    def holds(self, value: float) -> bool:
        """Whether a value is on the right side of the bound."""
        return value >= self.bound if self.comparison == ">=" else value <= self.bound


@dataclass(frozen=True, slots=True)
class Gate:
    """What stands before an alias: requirements, and how many others must approve."""

    adapter: AdapterName
    alias: str
    requirements: tuple[Requirement, ...]
    approvals: int
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Approval:
    """Somebody's word that a version may become what an alias points at."""

    adapter: AdapterName
    version: int
    alias: str
    principal: str
    comment: str
    at: datetime


def unmet(
    gate: Gate,
    evaluations: Sequence[Evaluation],
    approvals: Iterable[Approval],
    *,
    author: str,
    requester: str,
) -> tuple[str, ...]:
    """Why a version may not pass; empty if it may.

    Of several evaluations that a requirement concerns the newest counts (`evaluations` are newest first). Those who
    made the version and who ask for the move can't approve it.
    """
    reasons = [reason for line in gate.requirements if (reason := _failure(line, evaluations))]
    involved = {author.lower(), requester.lower()}
    others = {approval.principal.lower() for approval in approvals} - involved
    if len(others) < gate.approvals:
        reasons.append(f"{len(others)} of {gate.approvals} approvals by others than {author} and {requester}")
    return tuple(reasons)


def _failure(requirement: Requirement, evaluations: Sequence[Evaluation]) -> str | None:
    for evaluation in evaluations:
        if requirement.concerns(evaluation):
            value = evaluation.metrics[requirement.metric]
            return None if requirement.holds(value) else f"{requirement} is required, it has {value:g}"
    return f"{requirement} is required, and was not measured"


def requirement_document(requirement: Requirement) -> dict[str, Any]:
    """A requirement as a JSON value."""
    return {
        "metric": requirement.metric,
        "comparison": requirement.comparison,
        "bound": requirement.bound,
        "dataset": requirement.dataset,
        "dataset_sha256": requirement.dataset_sha256,
    }
