"""Methods on the true delta, against dense float64 references that say each paper's steps plainly."""

import pytest
import torch

from composition.methods.method import Input
from composition.sparsify import uniform
from composition.true_delta import TrueDeltas
from tests.composition.method_cases import IN, OUT, call, delta, dense, distance, inputs, whole

WEIGHTS = [(1.0, 1.0), (1.0, -0.5), (0.3, 0.7, -2.0), (2.0,)]


def top(values: torch.Tensor, count: int) -> torch.Tensor:
    """A mask of the count largest magnitudes."""
    mask = torch.zeros(values.numel(), dtype=torch.bool)
    mask[values.abs().flatten().argsort(descending=True)[:count]] = True
    return mask.view(values.shape)


def trimmed(values: torch.Tensor, density: float) -> torch.Tensor:
    return values * top(values, int(density * values.numel()))


def elected(parts: list[torch.Tensor], weights: list[float], sign: str, elect: str, normalise: str) -> torch.Tensor:
    """Consensus, an element at a time."""
    result = torch.zeros_like(parts[0])
    for i in range(result.shape[0]):
        for j in range(result.shape[1]):
            values = [(float(part[i, j]), weight) for part, weight in zip(parts, weights, strict=True)]
            votes = [value * weight if elect == "weighted" else value for value, weight in values]
            vote = sum(votes) if sign == "total" else sum((v > 0) - (v < 0) for v in votes)
            winner = (1 if vote >= 0 else -1) if elect == "peft" else (vote > 0) - (vote < 0)
            agreeing = [pair for pair, v in zip(values, votes, strict=True) if v * winner > 0]
            divisor = {"count": len(agreeing), "weights": sum(abs(w) for _, w in agreeing), "none": 1}[normalise]
            result[i, j] = sum(v * w for v, w in agreeing) / divisor if agreeing else 0.0
    return result


def mask(item: Input, seed: int) -> torch.Tensor:
    return uniform(item.stream, seed, start=0, shape=(OUT, IN), device=torch.device("cpu"))


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("density", [0.2, 0.7, 1.0])
def test_magnitude_keeps_the_largest_elements_and_adds(weights: tuple[float, ...], density: float) -> None:
    given = inputs(*weights)
    wanted = 1.5 * sum(item.weight * trimmed(dense(item), density) for item in given)
    assert distance(whole("magnitude", given, density=density, **{"lambda": 1.5}), wanted) < 1e-6


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("sign", ["total", "frequency"])
@pytest.mark.parametrize("elect", ["weighted", "peft"])
@pytest.mark.parametrize("normalise", ["count", "weights", "none"])
def test_ties_trims_elects_and_merges(weights: tuple[float, ...], sign: str, elect: str, normalise: str) -> None:
    given = inputs(*weights)
    wanted = elected([trimmed(dense(item), 0.6) for item in given], list(weights), sign, elect, normalise)
    found = whole("ties", given, density=0.6, sign=sign, elect=elect, normalise=normalise)
    assert distance(found, wanted) < 1e-6


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("rescale", ["yes", "no"])
def test_dare_drops_at_random_and_rescales(weights: tuple[float, ...], rescale: str) -> None:
    given = inputs(*weights)
    scale = 1 / 0.7 if rescale == "yes" else 1.0
    parts = [scale * dense(item) * (mask(item, 9) < 0.7) for item in given]
    found = whole("dare_linear", given, drop=0.3, seed=9, rescale=rescale)
    assert distance(found, sum(w * part for w, part in zip(weights, parts, strict=True))) < 1e-6
    found = whole("dare_ties", given, drop=0.3, seed=9, rescale=rescale)
    assert distance(found, elected(parts, list(weights), "total", "weighted", "count")) < 1e-6


@pytest.mark.parametrize("weights", WEIGHTS)
def test_della_drops_small_elements_of_a_row_likelier(weights: tuple[float, ...]) -> None:
    given, parts = inputs(*weights), []
    for item in given:
        values, numbers = dense(item), mask(item, 4)
        part = torch.zeros_like(values)
        for i, row in enumerate(values):
            for place, j in enumerate(row.abs().argsort(descending=True)):
                stay = 1 - (0.4 - 0.15 + 0.3 * place / (IN - 1))
                part[i, j] = row[j] / stay if numbers[i, j] < stay else 0.0
        parts.append(part)
    wanted = elected(parts, list(weights), "total", "weighted", "count")
    assert distance(whole("della", given, drop=0.4, epsilon=0.3, seed=4), wanted) < 1e-6


@pytest.mark.parametrize("weights", WEIGHTS)
def test_breadcrumbs_drops_both_tails(weights: tuple[float, ...]) -> None:
    given, size = inputs(*weights), OUT * IN
    kept, outliers = int(0.5 * size), int(0.1 * size)
    wanted = sum(
        item.weight * dense(item) * (top(dense(item), kept + outliers) & ~top(dense(item), outliers)) for item in given
    )
    assert distance(whole("breadcrumbs", given, density=0.5, gamma=0.1), wanted) < 1e-6


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, -0.5), (0.3, 0.7, -2.0)])
def test_sce_selects_calculates_and_erases(weights: tuple[float, ...]) -> None:
    given = inputs(*weights)
    parts = torch.stack([item.weight * dense(item) for item in given])
    variance = parts.var(0, unbiased=False)
    parts = parts * top(variance, int(0.6 * variance.count_nonzero()))
    energies = parts.square().sum((1, 2))
    agrees = parts.sign() == parts.sum(0).sign()
    divisor = (energies.view(-1, 1, 1) * agrees * (parts != 0)).sum(0)
    wanted = (energies.view(-1, 1, 1) * agrees * parts).sum(0) / divisor.where(divisor > 0, torch.ones(()))
    assert distance(whole("sce", given, density=0.6), wanted) < 1e-5


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("ties", {"density": 1.0}),
        ("magnitude", {"density": 1.0}),
        ("dare_linear", {"drop": 0.0}),
        ("dare_ties", {"drop": 0.0}),
        ("della", {"drop": 0.0, "epsilon": 0.0}),
        ("breadcrumbs", {"density": 1.0, "gamma": 0.0}),
    ],
)
def test_one_input_of_which_nothing_is_dropped_is_itself(name: str, params: dict[str, float]) -> None:
    (item,) = inputs(1.0)
    result = call(name, [item], **params)
    assert result.delta.rank == item.delta.rank
    assert distance(result.delta.dense(), item.delta.dense()) < 1e-6
    assert result.error < 1e-5 * result.norm


@pytest.mark.parametrize("name", ["ties", "magnitude", "dare_linear", "della", "breadcrumbs", "sce"])
def test_dropping_everything_leaves_nothing(name: str) -> None:
    params = {"drop": 1.0, "epsilon": 0.0} if name == "della" else {"density": 0.0}
    params = {"drop": 1.0} if name == "dare_linear" else params
    result = call(name, inputs(1.0, 1.0), **params)
    assert (result.delta.rank, result.norm, result.error) == (0, 0.0, 0.0)


@pytest.mark.parametrize("rank", [2, 6, 20])
@pytest.mark.parametrize("name", ["ties", "dare_linear"])
def test_a_merge_is_fitted_nearly_as_well_as_can_be_and_says_how_well(name: str, rank: int) -> None:
    given = inputs(1.0, 0.5, out=150, inside=130, rank=4)
    exact = call(name, given, rank=130).delta.dense()
    result = call(name, given, rank=rank)
    best = float(torch.linalg.svdvals(exact)[rank:].norm())
    error = float((exact - result.delta.dense()).norm())
    assert result.delta.rank == rank
    assert result.norm == pytest.approx(float(exact.norm()), rel=1e-6)
    assert result.error == pytest.approx(error, rel=1e-4)
    assert best <= error * (1 + 1e-6) <= best * 1.02


def test_without_a_rank_a_merge_gets_the_sum_of_the_ranks() -> None:
    assert call("ties", inputs(1.0, 1.0, out=60, inside=50, rank=4)).delta.rank == 8


def test_the_height_of_tiles_changes_no_selection_and_no_result() -> None:
    deltas = [delta(seed, out=70, inside=40) for seed in range(2)]
    wanted = TrueDeltas(deltas)
    result = wanted.fit(lambda tile: tile.values.clamp(min=0.1).sum(0), 5).delta
    for tile in (1, 7, 64, 70):
        rows = TrueDeltas(deltas, tile)
        assert rows.thresholds(1000) == wanted.thresholds(1000)
        found = rows.fit(lambda tile: tile.values.clamp(min=0.1).sum(0), 5).delta
        assert torch.equal(found.A, result.A) and torch.equal(found.B, result.B)


def test_a_fit_is_the_best_of_its_rank_where_the_spectrum_is_flat() -> None:
    """TIES's holes leave a long tail, which a short Krylov space mistakes for what it seeks."""
    deltas = [delta(seed, out=200, inside=160) for seed in range(2)]
    found = TrueDeltas(deltas).fit(lambda tile: torch.where(tile.values.abs() > 2, tile.values, 0).sum(0), 8)
    whole = torch.stack([part.folded().B @ part.folded().A for part in deltas])
    left, values, right = torch.linalg.svd(torch.where(whole.abs() > 2, whole, 0).sum(0).double())
    best = (left[:, :8] * values[:8]) @ right[:8]
    assert distance(found.delta.dense(), best) < 1e-5
    assert found.error == pytest.approx(float(values[8:].norm()), rel=1e-6)
