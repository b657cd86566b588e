"""The similarity of two adapters is that of their dense deltas: cosines, norms, principal angles."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from composition.adapter import LoadedAdapter, LoadedModule
from composition.low_rank import LowRank
from composition.similarity import Similarity, compare, cosine, document, norm_ratio
from tests.composition.cases import SUMMARY, random_adapter


def adapter(**modules: LowRank) -> LoadedAdapter:
    loaded = tuple(LoadedModule(name, None, delta) for name, delta in modules.items())
    return LoadedAdapter("t/x@v1", SUMMARY, loaded)


def delta(seed: int, shape: tuple[int, int] = (12, 10), rank: int = 3) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    out, inside = shape
    return LowRank(
        torch.randn(rank, inside, generator=generator), torch.randn(out, rank, generator=generator), seed % 5 - 2.5
    )


def only(left: LowRank, right: LowRank) -> Similarity:
    (found,) = compare(adapter(a=left), adapter(a=right))
    return found


def dense_overlap(left: Tensor, right: Tensor) -> float:
    """The mean squared cosine of the angles between two column spaces, from complete decompositions."""
    bases = []
    for matrix in (left, right):
        vectors, values, _ = torch.linalg.svd(matrix, full_matrices=False)
        bases.append(vectors[:, values > 1e-10 * values[0]])
    angles = torch.linalg.svdvals(bases[0].T @ bases[1])
    return float(angles.square().mean())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.sampled_from([(12, 10), (5, 9), (9, 5)]))
def test_figures_are_those_of_the_dense_deltas(seed: int, rank: int, other: int, shape: tuple[int, int]) -> None:
    left, right = delta(seed, shape, rank), delta(seed + 1, shape, other)
    found, one, two = only(left, right), left.dense(), right.dense()
    assert found.norms == pytest.approx((float(one.norm()), float(two.norm())), rel=1e-9)
    assert found.cosine == pytest.approx(float(torch.cosine_similarity(one.flatten(), two.flatten(), 0)), abs=1e-9)
    assert found.overlap_out == pytest.approx(dense_overlap(one, two), abs=1e-7)
    assert found.overlap_in == pytest.approx(dense_overlap(one.T, two.T), abs=1e-7)


def test_an_adapter_is_like_itself_and_like_no_opposite() -> None:
    one = delta(1)
    same, turned = only(one, one.scaled(3.0)), only(one, -one)
    assert same.cosine == pytest.approx(1.0) and norm_ratio([same]) == pytest.approx(3.0)
    assert turned.cosine == pytest.approx(-1.0) and norm_ratio([turned]) == pytest.approx(1.0)
    assert turned.overlap_out == pytest.approx(1.0) and turned.overlap_in == pytest.approx(1.0)


def test_other_factors_of_one_delta_change_nothing() -> None:
    one = delta(1)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(4)))[0]
    found = only(one, LowRank(turn @ one.A, one.B @ turn.T, one.scaling))
    assert found.cosine == pytest.approx(1.0) and found.overlap_in == pytest.approx(1.0)


def test_the_subspace_of_a_smaller_rank_lies_within_a_larger_one() -> None:
    one = delta(1)
    found = only(one, LowRank(one.A[:2], one.B[:, :2], 1.0))
    assert found.overlap_out == pytest.approx(1.0) and found.overlap_in == pytest.approx(1.0)
    assert found.cosine is not None and abs(found.cosine) < 1.0


def test_orthogonal_deltas_share_nothing() -> None:
    eye = torch.eye(8)
    found = only(LowRank(eye[:2], eye[:, :2]), LowRank(eye[2:4], eye[:, 2:4]))
    assert (found.cosine, found.overlap_out, found.overlap_in) == (0.0, 0.0, 0.0)


def test_what_cannot_be_compared_has_no_figures() -> None:
    zero = LowRank(torch.ones(2, 10), torch.zeros(12, 2))
    found = {
        module.module: module
        for module in compare(
            adapter(a=delta(1), b=delta(2), c=zero, d=delta(1, (3, 3))),
            adapter(a=delta(3), c=delta(4), d=delta(1, (4, 3)), e=delta(5)),
        )
    }
    assert found["a"].cosine is not None
    assert all(found[name].cosine is None and found[name].overlap_out is None for name in "bcde")
    assert found["b"].norms[1] is None and found["e"].norms[0] is None and found["c"].norms[0] == 0.0
    shown = document(list(found.values()))
    assert shown["modules"]["e"]["norm_ratio"] is None
    json.dumps(shown, allow_nan=False)


def test_modules_together_are_one_vector() -> None:
    left, right = random_adapter("a"), random_adapter("b")
    found = compare(left, right)
    one, two = (torch.cat([m.delta.dense().flatten() for m in part.modules]) for part in (left, right))
    assert cosine(found) == pytest.approx(float(torch.cosine_similarity(one, two, 0)), abs=1e-9)
    assert norm_ratio(found) == pytest.approx(float(two.norm() / one.norm()))
    assert cosine([]) is None


def test_modules_in_another_wrapper_are_the_same_ones() -> None:
    def wrapped(prefix: str) -> LoadedAdapter:
        modules = random_adapter("a").modules
        return LoadedAdapter(
            f"t/{prefix}@v1",
            SUMMARY,
            tuple(replace(m, name=f"{prefix}{m.name}", base_tensor=f"{m.name}.weight") for m in modules),
        )

    assert all(module.cosine == pytest.approx(1.0) for module in compare(wrapped("bert."), wrapped("")))
