"""Methods in the small space, against dense float64 references that form every matrix."""

import pytest
import torch

from composition.low_rank import LowRank
from composition.methods.method import Input
from tests.composition.method_cases import call, delta, dense, distance, inputs

WEIGHTS = [(1.0, 1.0), (1.0, -0.5), (0.3, 0.7, -2.0), (2.0,)]


def svd(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Without the values at the noise of float32 factors."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    live = values > 1e-6 * values[0]
    return left[:, live], values[live], right[live]


def ties(parts: list[torch.Tensor], weights: tuple[float, ...], density: float) -> torch.Tensor:
    """Trim, elect by weighted sums, and average what agrees."""
    kept = int(density * parts[0].numel())
    trimmed = []
    for part, weight in zip(parts, weights, strict=True):
        bound = part.abs().flatten().sort(descending=True).values[kept - 1]
        trimmed.append(weight * part * (part.abs() >= bound))
    stack = torch.stack(trimmed)
    agrees = (stack.sign() == stack.sum(0).sign()) & (stack != 0)
    return (stack * agrees).sum(0) / agrees.sum(0).clamp(min=1)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("density", [0.4, 0.9])
def test_knots_is_ties_on_the_shared_coordinates(weights: tuple[float, ...], density: float) -> None:
    given = inputs(*weights)
    left, values, right = svd(torch.cat([dense(item) for item in given], dim=1))
    parts = (values[:, None] * right).chunk(len(given), dim=1)
    wanted = left @ ties(list(parts), weights, density)
    result = call("knots", given, density=density)
    assert distance(result.delta.dense(), wanted) < 1e-5
    assert (result.delta.rank, result.error) == (len(values), 0.0)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_core_space_is_ties_on_the_cores(weights: tuple[float, ...]) -> None:
    given = inputs(*weights)
    left, _, _ = svd(torch.cat([item.delta.folded().B.double() for item in given], dim=1))
    _, _, right = svd(torch.cat([item.delta.A.double() for item in given]))
    cores = [left.T @ dense(item) @ right.T for item in given]
    wanted = left @ ties(cores, weights, 0.6) @ right
    assert distance(call("core_space", given, density=0.6).delta.dense(), wanted) < 1e-5


@pytest.mark.parametrize("weights", WEIGHTS)
def test_merging_cores_by_their_sum_is_the_linear_sum(weights: tuple[float, ...]) -> None:
    given = inputs(*weights)
    wanted = sum(item.weight * dense(item) for item in given)
    assert distance(call("core_space", given, merge="sum").delta.dense(), wanted) < 1e-6


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("keep", [2, None])
def test_tsv_makes_singular_vectors_orthogonal(weights: tuple[float, ...], keep: int | None) -> None:
    given = inputs(*weights)
    parts = [svd(dense(item)) for item in given]
    left, _, left_turn = torch.linalg.svd(torch.cat([u[:, :keep] for u, _, _ in parts], 1), full_matrices=False)
    turn, _, right = torch.linalg.svd(torch.cat([v[:keep] for _, _, v in parts]), full_matrices=False)
    values = torch.cat([item.weight * s[:keep] for item, (_, s, _) in zip(given, parts, strict=True)])
    wanted = left @ left_turn @ torch.diag(values) @ turn @ right
    found = call("tsv", given, **({} if keep is None else {"keep": keep})).delta.dense()
    assert distance(found, wanted) < 1e-5


@pytest.mark.parametrize("weights", WEIGHTS)
def test_iso_c_flattens_the_spectrum_of_the_sum(weights: tuple[float, ...]) -> None:
    given = inputs(*weights)
    left, values, right = svd(sum(item.weight * dense(item) for item in given))
    result = call("iso_c", given, **{"lambda": -1.5}).delta
    assert distance(result.dense(), -1.5 * values.mean() * left @ right) < 1e-5


@pytest.mark.parametrize(
    ("name", "params"), [("knots", {"density": 1.0}), ("core_space", {"density": 1.0}), ("tsv", {})]
)
def test_one_input_at_weight_one_is_itself(name: str, params: dict[str, float]) -> None:
    (item,) = inputs(1.0)
    result = call(name, [item], **params).delta
    assert result.rank == item.delta.rank
    assert distance(result.dense(), item.delta.dense()) < 1e-6


@pytest.mark.parametrize("name", ["knots", "core_space", "tsv"])
def test_an_input_given_twice_counts_as_its_mean(name: str) -> None:
    item = inputs(1.0)[0]
    params = {} if name == "tsv" else {"density": 1.0}
    result = call(name, [item, item], **params).delta
    assert result.rank == item.delta.rank * (2 if name == "tsv" else 1)
    assert distance(result.dense(), item.delta.dense()) < 1e-6


@pytest.mark.parametrize("name", ["knots", "core_space", "tsv", "iso_c"])
def test_a_module_that_an_input_lacks_is_a_delta_of_zeros(name: str) -> None:
    item = inputs(1.0)[0]
    nothing = Input(1.0, LowRank(item.delta.A[:0], item.delta.B[:, :0]))
    zeros = Input(1.0, LowRank(torch.zeros(1, 11), torch.zeros(14, 1)))
    alone = call(name, [item]).delta.dense()
    for absent in (nothing, zeros):
        assert distance(call(name, [item, absent]).delta.dense(), alone) < 1e-6
    assert call(name, [nothing, zeros]).delta.dense().norm() == 0.0


@pytest.mark.parametrize("name", ["knots", "core_space", "tsv", "iso_c"])
def test_ranks_beyond_the_matrix_are_no_harm(name: str) -> None:
    given = [Input(1.0, delta(seed, out=5, inside=4, rank=3)) for seed in range(3)]
    result = call(name, given).delta
    assert result.shape == (5, 4) and result.dense().isfinite().all()


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 1.0])
def test_slerp_follows_the_arc_between_whole_deltas(t: float) -> None:
    given = inputs(1.0, -0.5)
    first, second = (item.weight * dense(item) for item in given)
    angle = torch.acos((first * second).sum() / first.norm() / second.norm())
    wanted = (torch.sin((1 - t) * angle) * first + torch.sin(t * angle) * second) / torch.sin(angle)
    assert distance(call("slerp", given, t=t).delta.dense(), wanted) < 1e-6


def test_slerp_of_equal_lengths_keeps_the_length() -> None:
    given = inputs(1.0, 1.0)
    given[1] = Input(float(dense(given[0]).norm() / dense(given[1]).norm()), given[1].delta)
    for t in (0.1, 0.5, 0.9):
        assert call("slerp", given, t=t).norm == pytest.approx(float(dense(given[0]).norm()), rel=1e-6)


@pytest.mark.parametrize("weight", [3.0, -3.0, 0.0])
def test_slerp_is_linear_where_there_is_no_arc(weight: float) -> None:
    item = inputs(1.0)[0]
    result = call("slerp", [item, Input(weight, item.delta)], t=0.25).delta
    wanted = (0.75 + 0.25 * weight) * dense(item)
    assert float((result.dense() - wanted).norm()) < 1e-6 * float(dense(item).norm())
