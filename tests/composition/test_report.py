"""The figures of a report are those of the dense deltas: energy, ranks, cosines, conflicts of sign."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from composition import parents
from composition.adapter import LoadedAdapter, LoadedModule
from composition.engine import Composition, compose
from composition.low_rank import LowRank
from composition.parents import Measured, Parents, count_conflicts
from composition.report import ModuleReport, conflict_share, rank_needed
from registry.domain.recipe import canonical
from tests.composition.cases import SHAPES, SUMMARY, by_digest, dense_sum, digest, pin, random_adapter

INPUTS = by_digest(**{name: random_adapter(name) for name in "abc"})
EVERY = [
    "0.7*t/a + 0.3*t/b - 2*t/c",
    "truncate(t/a - 0.5*t/b, rank=2)",
    "truncate(t/a, rank=2) + t/b - t/c",
    "ties(t/a, 0.5*t/b, density=0.5)",
    "knots(t/a, -1*t/b) + t/c",
    "slerp(t/a, t/b, t=0.25)",
]


def composed(text: str) -> Composition:
    return compose(pin(text), INPUTS, device="cpu")


def names(composition: Composition) -> list[str]:
    """The parents' names, in the report's order."""
    known = {digest(name): name for name in "abc"}
    return [known[found] for found, _ in composition.report.parents]


def delta(seed: int, shape: tuple[int, int], rank: int = 4, scaling: float = 1.0) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    out, inside = shape
    a, b = torch.randn(rank, inside, generator=generator), torch.randn(out, rank, generator=generator)
    return LowRank(a, b, scaling)


@pytest.mark.parametrize("text", EVERY)
def test_cosines_are_those_of_the_parents_deltas_whatever_their_weights(text: str) -> None:
    result = composed(text)
    document = result.report.document()
    found, parts = names(result), {name: dense_sum({name: 1.0}, INPUTS) for name in "abc"}
    assert len(document["pairs"]) == len(found) * (len(found) - 1) // 2
    for place, (i, j) in enumerate(document["pairs"]):
        left, right = parts[found[i]], parts[found[j]]
        for module in document["modules"]:
            one, other = left[module["name"]].flatten(), right[module["name"]].flatten()
            assert module["cosines"][place] == pytest.approx(float(torch.cosine_similarity(one, other, 0)), abs=1e-6)
        one, other = (torch.cat([part[name].flatten() for name in sorted(part)]) for part in (left, right))
        expected = float(torch.cosine_similarity(one, other, 0))
        assert document["total"]["cosines"][place] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("text", EVERY)
def test_conflicts_of_sign_are_counted_with_the_parents_weights(text: str) -> None:
    result = composed(text)
    weighted = [
        dense_sum({name: weight}, INPUTS)
        for name, (_, weight) in zip(names(result), result.report.parents, strict=True)
    ]
    found = 0
    for module in result.report.document()["modules"]:
        deltas = torch.stack([part[module["name"]] for part in weighted])
        both = ((deltas > 0).any(0) & (deltas < 0).any(0)).double()
        assert module["conflicts"]["share"] == pytest.approx(float(both.mean()))
        assert module["conflicts"]["counted"] == module["conflicts"]["entries"] == both.numel()
        found += int(both.sum())
    total = result.report.total()["conflicts"]
    assert total["share"] == pytest.approx(found / total["entries"])


@pytest.mark.parametrize("text", EVERY)
def test_ranks_for_the_energy_are_the_least_that_keep_it(text: str) -> None:
    result = composed(text)
    for module in result.report.modules:
        energies = [value**2 for value in module.measured.spectrum]
        assert math.fsum(energies) == pytest.approx(module.norm**2)
        for share in (0.9, 0.99):
            least = rank_needed([module], share)
            assert least is not None
            assert math.fsum(energies[:least]) >= share * math.fsum(energies) * (1 - 1e-12)
            assert math.fsum(energies[: least - 1]) < share * math.fsum(energies)


def test_spectra_are_those_of_the_exact_result_before_truncation() -> None:
    exact = dense_sum({"a": 1.0, "b": -0.5}, INPUTS)
    for text in ("t/a - 0.5*t/b", "truncate(t/a - 0.5*t/b, rank=2)"):
        for module in composed(text).report.modules:
            values = torch.linalg.svdvals(exact[module.name])[:6]
            assert module.measured.spectrum == pytest.approx(values.tolist(), rel=1e-6)


def test_the_rank_of_all_modules_together_is_one_that_each_would_need() -> None:
    spectra = [(3.0, 0.1, 0.0), (1.0, 1.0)]
    modules = [ModuleReport("a", 3, 3, 1.0, 0.0, 0.0, measured=Measured(spectrum)) for spectrum in spectra]
    assert [rank_needed([module], 0.9) for module in modules] == [1, 2]
    assert rank_needed(modules, 0.90) == 1  # 10 of 11.01
    assert rank_needed(modules, 0.99) == 2


def test_an_unknown_spectrum_gives_no_rank_and_a_delta_of_zero_needs_none() -> None:
    assert rank_needed([ModuleReport("a", 3, 3, 1.0, 0.0, 0.0)], 0.9) is None
    assert rank_needed([ModuleReport("a", 0, 0, 0.0, 0.0, 0.0)], 0.9) == 0


def test_one_parent_has_nobody_to_be_compared_with() -> None:
    document = composed("2*t/a").report.document()
    assert document["parents"] == [{"digest": digest("a"), "weight": 2.0}]
    assert document["pairs"] == document["total"]["cosines"] == []
    assert document["total"]["conflicts"] is None


def test_a_parent_without_a_module_has_no_cosine_there_and_no_conflict() -> None:
    inputs = by_digest(a=random_adapter("a"), b=random_adapter("b", modules=("layers.0.q",)))
    report = compose(pin("t/a + t/b"), inputs, device="cpu").report
    modules = {module["name"]: module for module in report.document()["modules"]}
    assert modules["layers.0.q"]["cosines"][0] is not None and modules["layers.0.q"]["conflicts"] is not None
    assert modules["layers.0.v"]["cosines"] == [None] and modules["layers.0.v"]["conflicts"] is None
    json.dumps(report.document(), allow_nan=False)


@pytest.mark.parametrize("weight", ["1e-36", "1e33"])
def test_weights_out_of_all_proportion_change_no_cosine(weight: str) -> None:
    ordinary = composed("t/a + t/b").report.document()["total"]
    extreme = composed(f"t/a + {weight}*t/b").report.document()["total"]
    assert extreme["cosines"] == pytest.approx(ordinary["cosines"], abs=1e-7)


def test_weights_add_up_over_a_parents_places_and_functions_count_as_one() -> None:
    root = canonical(pin("2*ties(t/a, 0.5*t/b, density=0.5) - 0.5*t/a").root)
    assert dict(Parents.of(root).weights) == {digest("a"): 1.5, digest("b"): 1.0}


def test_many_parents_are_not_compared_pair_by_pair() -> None:
    count = parents.LIMIT + 1
    inputs = by_digest(**{f"x{i}": random_adapter(f"x{i}", rank=1) for i in range(count)})
    document = compose(pin(" + ".join(f"t/x{i}" for i in range(count))), inputs, device="cpu").report.document()
    assert len(document["parents"]) == count
    assert document["pairs"] == document["total"]["cosines"] == []
    assert document["total"]["conflicts"]["share"] > 0.99


def test_more_ranks_than_dimensions_are_measured_alike() -> None:
    inputs = by_digest(**{name: random_adapter(name, rank=9) for name in "ab"})
    deltas = [dense_sum({name: 1.0}, inputs) for name in "ab"]
    for module in compose(pin("t/a + t/b"), inputs, device="cpu").report.modules:
        one, other = (part[module.name] for part in deltas)
        values = torch.linalg.svdvals(one + other)
        assert module.measured.spectrum == pytest.approx(values.tolist(), rel=1e-5, abs=1e-5)
        assert module.measured.products[0][1] == pytest.approx(float((one * other).sum()), rel=1e-5, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1.0, 1.0), st.integers(1, 8))
def test_a_sample_of_a_large_module_tells_its_size_and_is_near_the_count(seed: int, shared: float, rank: int) -> None:
    one, other = delta(seed, (700, 600), rank), delta(seed + 1, (700, 600), rank)
    mixed = LowRank(other.A, shared * one.B + (1 - abs(shared)) * other.B, 0.5)
    sampled, counted = count_conflicts([one, mixed]), count_conflicts([one, mixed], every_entry=True)
    assert sampled is not None and counted is not None
    assert (sampled.entries, sampled.size) == (128 * 128, 700 * 600)
    assert counted.entries == counted.size == 700 * 600
    assert sampled.share == pytest.approx(counted.share, abs=0.1)
    assert count_conflicts([one, mixed]) == sampled


def test_a_delta_and_its_opposite_conflict_everywhere() -> None:
    one = delta(1, (300, 300))
    assert conflict_share([_module(one, one.scaled(-3.0))]) == 1.0
    assert conflict_share([_module(one, one.scaled(3.0))]) == 0.0


def _module(one: LowRank, other: LowRank) -> ModuleReport:
    return ModuleReport("a", 4, 4, 1.0, 0.0, 0.0, measured=Measured((), (), count_conflicts([one, other])))


def test_every_entry_of_a_large_module_is_counted_where_that_is_asked() -> None:
    big = {
        name: LoadedAdapter(f"t/{name}@v1", SUMMARY, (LoadedModule("big", None, delta(seed, (300, 400))),))
        for seed, name in enumerate("ab")
    }
    shares = []
    for every_entry, counted in ((False, 128 * 128), (True, 300 * 400)):
        report = compose(pin("t/a + t/b"), by_digest(**big), device="cpu", every_entry=every_entry).report
        conflicts = report.total()["conflicts"]
        assert (conflicts["counted"], conflicts["entries"]) == (counted, 300 * 400)
        shares.append(conflicts["share"])
    assert shares[0] == pytest.approx(shares[1], abs=0.05)


def test_the_document_is_plain_json_with_a_row_for_every_module() -> None:
    document = json.loads(json.dumps(composed("t/a - t/b").report.document(), allow_nan=False))
    assert [module["name"] for module in document["modules"]] == sorted(SHAPES)
    assert document["modules"][0].keys() - {"name", "merged", "lost"} == document["total"].keys() - {"merge_kept"}
