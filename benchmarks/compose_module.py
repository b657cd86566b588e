"""One module, in memory: ours against PEFT's `add_weighted_adapter` or a formula on materialised deltas.

    truncate   the sum at the inputs' rank                  PEFT: combination_type="svd"
    cat        the exact sum                                PEFT: combination_type="cat"
    ties       TIES on the true delta, at that rank         PEFT: combination_type="ties_svd"
    knots      KnOTS, truncated to that rank                its formula: SVDs of [Δ1 Δ2] and of the result

Both sides start from factors in memory and end with factors in memory, in one thread; ours computes its report too.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from composition.adapter import LoadedAdapter, LoadedModule
from composition.engine import compose
from composition.low_rank import LowRank
from registry.domain.expression import parse
from registry.domain.records import Parent
from registry.domain.spec import AdapterSummary

NAMES = ("left", "right")
SUMMARY = AdapterSummary("peft", "LORA", 16, 32.0, {}, ("linear",), (), "F32", 0)
DENSITY = 0.5
RACES = {"truncate": "peft svd", "cat": "peft cat", "ties": "peft ties_svd", "knots": "knots formula"}
SLOW = ("peft svd", "peft ties_svd", "knots formula")  # of many seconds a round

Work = Callable[[], LowRank]


@dataclass(frozen=True)
class Case:
    """A square module, and the rank of both adapters and of the truncated result."""

    size: int
    rank: int

    def factors(self, name: str) -> LowRank:
        generator = torch.Generator().manual_seed(NAMES.index(name))
        a, b = (torch.randn(self.rank, self.size, generator=generator) / self.size**0.5 for _ in "AB")
        return LowRank(a, b.T.contiguous(), 2.0)

    def expression(self, name: str) -> str:
        return {
            "truncate": f"truncate(t/left + t/right, rank={self.rank})",
            "cat": "t/left + t/right",
            "ties": f"ties(t/left, t/right, density={DENSITY}, rank={self.rank}, preset=peft)",
            "knots": f"truncate(knots(t/left, t/right, density={DENSITY}), rank={self.rank})",
        }[name]


def contestant(name: str, case: Case) -> Work:
    """What is timed: everything before it (factors, models, parsing) is done here."""
    if name.startswith("peft"):
        return theirs(case, name.removeprefix("peft "))
    return formula(case) if name == "knots formula" else ours(case, case.expression(name))


def ours(case: Case, text: str) -> Work:
    inputs = {
        sha256(name.encode()).hexdigest(): LoadedAdapter(
            name, SUMMARY, (LoadedModule("linear", None, case.factors(name)),)
        )
        for name in NAMES
    }
    recipe = parse(text).pin(
        lambda reference: Parent(reference.adapter, 1, sha256(reference.adapter.name.encode()).hexdigest())
    )
    return lambda: compose(recipe, inputs, device="cpu").modules[0].delta


def theirs(case: Case, kind: str) -> Work:
    model = torch.nn.Sequential()
    model.add_module("linear", torch.nn.Linear(case.size, case.size, bias=False, device="meta").to_empty(device="cpu"))
    config = LoraConfig(r=case.rank, lora_alpha=2 * case.rank, target_modules=["linear"])
    peft: Any = get_peft_model(model, config, adapter_name="left")
    peft.add_adapter("right", config)
    layer = peft.base_model.model.linear
    for name in NAMES:
        layer.lora_A[name].weight.data = case.factors(name).A
        layer.lora_B[name].weight.data = case.factors(name).B

    def combine() -> LowRank:
        if "both" in peft.peft_config:
            peft.delete_adapter("both")
        options: dict[str, Any] = {"svd_rank": case.rank} if kind.endswith("svd") else {}
        options |= {"density": DENSITY} if kind == "ties_svd" else {}
        peft.add_weighted_adapter(list(NAMES), [1.0, 1.0], "both", combination_type=kind, **options)
        return LowRank(layer.lora_A["both"].weight.data, layer.lora_B["both"].weight.data, layer.scaling["both"])

    return combine


def formula(case: Case) -> Work:
    """KnOTS as its paper writes it, on full matrices in float32, then a truncated SVD."""
    parts = [case.factors(name) for name in NAMES]

    def combine() -> LowRank:
        deltas = [part.scaling * (part.B @ part.A) for part in parts]
        left, values, right = torch.linalg.svd(torch.cat(deltas, dim=1), full_matrices=False)
        kept = values > 1e-6 * values[0]
        blocks = torch.stack((values[kept, None] * right[kept]).chunk(2, dim=1))
        least = [block.abs().flatten().kthvalue(int((1 - DENSITY) * block.numel()) + 1).values for block in blocks]
        trimmed = torch.stack([torch.where(b.abs() >= bound, b, 0) for b, bound in zip(blocks, least, strict=True)])
        agrees = (trimmed * trimmed.sum(0).sign()) > 0
        merged = left[:, kept] @ (torch.where(agrees, trimmed, 0).sum(0) / agrees.sum(0).clamp(min=1))
        u, s, v = torch.linalg.svd(merged, full_matrices=False)
        root = s[: case.rank].sqrt()
        return LowRank(root[:, None] * v[: case.rank], u[:, : case.rank] * root)

    return combine


# -- measuring --------------------------------------------------------------------------------------------------------


def measure(case: Case, rounds: dict[str, int]) -> tuple[dict[str, list[tuple[float, float]]], dict[str, LowRank]]:
    """(seconds, CPU seconds) per round, and the last result, of each contestant; interleaved."""
    work = {name: contestant(name, case) for name in rounds}
    work["truncate"]()  # LAPACK's first call
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in rounds}
    results: dict[str, LowRank] = {}
    for number in range(max(rounds.values())):
        for name in rounds:
            if number < rounds[name]:
                started, cpu = time.perf_counter(), time.process_time()
                results[name] = work[name]()
                times[name].append((time.perf_counter() - started, time.process_time() - cpu))
    return times, results


# -- exactness --------------------------------------------------------------------------------------------------------


def distance_to_optimum(case: Case, result: LowRank) -> float:
    """Of a truncated sum to the best one in float64, relative to its norm: both through small cores."""
    parts = [case.factors(name) for name in NAMES]
    a, b = torch.cat([part.A.double() for part in parts]), torch.cat([2.0 * part.B.double() for part in parts], dim=1)
    q, r = torch.linalg.qr(b)
    p, t = torch.linalg.qr(a.T)
    u, s, v = torch.linalg.svd(r @ t.T)
    left, right = q @ u[:, : case.rank] * s[: case.rank], v[: case.rank] @ p.T
    apart = LowRank(torch.cat((right, result.A.double())), torch.cat((left, -result.B.double()), dim=1))
    return apart.norm() / float(s[: case.rank].norm())


def excess_residual(case: Case, result: LowRank) -> float:
    """How much more of TIES's delta is lost than must be, relative: |M - X| / best - 1. Forms M in float64."""
    deltas = torch.stack([(2.0 * part.B) @ part.A for part in map(case.factors, NAMES)])
    count = int(DENSITY * deltas[0].numel())
    least = [part.abs().flatten().kthvalue(part.numel() - count + 1).values for part in deltas]
    trimmed = torch.stack(
        [torch.where(part.abs() >= bound, part, 0) for part, bound in zip(deltas, least, strict=True)]
    )
    sign = torch.where(trimmed.sum(0) >= 0, 1.0, -1.0)
    agrees = trimmed * sign > 0
    whole = (torch.where(agrees, trimmed, 0).sum(0) / agrees.sum(0).clamp(min=1)).double()
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(case.size, 4 * case.rank, generator=generator, dtype=torch.float64))[0]
    for _ in range(40):
        basis = torch.linalg.qr(whole.T @ (whole @ basis))[0]
    best = torch.linalg.svdvals(whole @ basis)[: case.rank]
    left = float(whole.norm()) ** 2 - float(best.square().sum())
    return float((whole - result.dense()).norm()) / left**0.5 - 1
