"""Methods inside expressions: they nest, don't mind the order, and report what their ranks hold."""

import pytest
import torch

from composition.engine import Composition, compose
from composition.methods import METHODS
from composition.report import energy_kept
from registry.domain import methods as table
from registry.domain.errors import UnsupportedAdapter
from tests.composition.cases import Dense, assert_close, by_digest, dense, dense_sum, pin, random_adapter

INPUTS = by_digest(
    **{name: random_adapter(name) for name in "abc"}, part=random_adapter("part", modules=("layers.0.q",))
)
NAMES = sorted(METHODS)
FUNCTIONS = [name for name in NAMES if table.METHODS[name].commutative]


def composed(text: str, dtype: str = "float32") -> Composition:
    return compose(pin(text, dtype), INPUTS, device="cpu")


def same_bits(left: Composition, right: Composition) -> bool:
    pairs = zip(left.modules, right.modules, strict=True)
    return all(torch.equal(a.delta.A, b.delta.A) and torch.equal(a.delta.B, b.delta.B) for a, b in pairs)


def test_every_method_of_the_table_is_computed_and_no_other() -> None:
    exact = {"linear", "lerp", "truncate", "given_init"}  # the engine's own
    assert METHODS.keys() | exact == table.METHODS.keys()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_order_of_inputs_changes_no_bit(name: str) -> None:
    left, right = composed(f"{name}(t/a, 0.5*t/b, t/c)"), composed(f"{name}(t/c, t/a, 0.5*t/b)")
    assert same_bits(left, right)
    assert left.report == right.report


@pytest.mark.parametrize("name", NAMES)
def test_one_and_two_threads_give_the_same_bits(name: str) -> None:
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(composed(f"truncate({name}(t/a, 0.5*t/b) + t/c, rank=4)", "bfloat16"))
    finally:
        torch.set_num_threads(before)
    assert same_bits(*results)
    assert results[0].report == results[1].report


@pytest.mark.parametrize("name", NAMES)
def test_a_method_nests_in_sums_truncations_and_methods(name: str) -> None:
    inner = dense(composed(f"{name}(t/a, t/b)"))
    total: Dense = {key: 0.5 * inner[key] - delta for key, delta in dense_sum({"c": 1}, INPUTS).items()}
    assert_close(dense(composed(f"0.5*{name}(t/a, t/b) - t/c")), total, 2e-6)
    truncated = composed(f"truncate(0.5*{name}(t/a, t/b) - t/c, rank=2)")
    for module in truncated.modules:
        best = float(torch.linalg.svdvals(total[module.name])[2:].norm())
        assert float((total[module.name] - module.delta.dense()).norm()) == pytest.approx(best, rel=1e-5)
    assert composed(f"{name}({name}(t/a, t/b), truncate(t/c, rank=1))").report.rank > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_module_that_only_some_inputs_have_is_kept(name: str) -> None:
    result = composed(f"{name}(t/a, t/part)")
    assert [module.name for module in result.modules] == ["layers.0.q", "layers.0.v", "layers.1.q"]


@pytest.mark.parametrize("name", NAMES)
def test_a_negated_blend_is_the_blend_of_the_negated(name: str) -> None:
    left, right = dense(composed(f"-{name}(t/a, t/b)")), dense(composed(f"{name}(-t/a, -t/b)"))
    assert_close(left, right, 1e-5)


def test_a_mask_belongs_to_its_input_its_module_and_its_seed() -> None:
    def dare(inner: str) -> Dense:
        return dense(composed(f"dare_linear({inner}, rank=12)"))

    both, first, second = dare("t/a, t/b"), dare("t/a"), dare("t/b")
    assert_close(both, {key: first[key] + second[key] for key in both}, 1e-5)
    assert_close(dare("t/a, 0.5*t/b"), {key: first[key] + 0.5 * second[key] for key in both}, 1e-5)
    dropped = {key: value.abs() < 1e-5 for key, value in first.items()}
    assert not torch.equal(dropped["layers.0.q"], dropped["layers.1.q"])
    assert not torch.equal(dropped["layers.0.q"], dare("t/a, seed=1")["layers.0.q"].abs() < 1e-5)


def test_the_report_says_what_the_rank_of_a_merge_holds() -> None:
    whole, fitted = dense(composed("ties(t/a, t/b, rank=12)")), composed("3*ties(t/a, t/b, rank=2)")
    for module in fitted.report.modules:
        exact = 3 * whole[module.name]
        found = next(item for item in fitted.modules if item.name == module.name).delta.dense()
        assert module.merged == pytest.approx(float(exact.norm()), rel=1e-5)
        assert module.lost == pytest.approx(float((exact - found).norm()), rel=1e-4)
    norm = sum(module.merged**2 for module in fitted.report.modules) ** 0.5
    lost = sum(module.lost**2 for module in fitted.report.modules) ** 0.5
    assert fitted.report.merge_kept == pytest.approx(energy_kept(norm, lost))
    assert fitted.report.document()["total"]["merge_kept"] == fitted.report.merge_kept
    assert composed("knots(t/a, t/b)").report.merge_kept is None


def test_truncations_inside_a_method_are_its_own_and_around_it_are_reported() -> None:
    assert composed("ties(truncate(t/a, rank=1), t/b)").report.error == 0.0
    report = composed("truncate(ties(t/a, t/b), energy=0.8)").report
    assert 0.8 <= report.energy_kept < 1.0


def test_the_end_points_of_slerp_are_the_inputs() -> None:
    assert same_bits(composed("slerp(t/a, t/b, t=0)"), composed("t/a"))
    assert same_bits(composed("slerp(t/a, t/b, t=1)"), composed("t/b"))


def test_a_merge_that_drops_everything_is_refused() -> None:
    with pytest.raises(UnsupportedAdapter, match="rank 0"):
        composed("ties(t/a, t/b, density=0)")
