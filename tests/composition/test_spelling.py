"""Adapters of one base that were trained inside different wrappers."""

import pytest
import torch

from composition.adapter import LoadedAdapter, LoadedModule
from composition.engine import compose
from composition.low_rank import LowRank
from composition.spelling import spellings
from registry.domain.errors import UnsupportedAdapter
from tests.composition.cases import SUMMARY, assert_close, by_digest, dense, pin


def adapter(subject: str, names: dict[str, str | None]) -> LoadedAdapter:
    delta = LowRank(torch.randn(2, 4, generator=torch.Generator().manual_seed(1)), torch.ones(4, 2))
    return LoadedAdapter(subject, SUMMARY, tuple(LoadedModule(name, base, delta) for name, base in names.items()))


PLAIN = adapter(
    "t/plain@v1", {"encoder.0.query": "encoder.0.query.weight", "encoder.0.value": "encoder.0.value.weight"}
)
WRAPPED = adapter(
    "t/wrapped@v1", {"bert.encoder.0.query": "encoder.0.query.weight", "bert.encoder.1.query": "encoder.1.query.weight"}
)
NESTED = adapter("t/nested@v1", {"encoder.0.query": "bert.encoder.0.query.weight"})


def test_modules_of_one_base_tensor_are_combined_under_the_shortest_wrapping() -> None:
    assert list(spellings([WRAPPED, PLAIN]).values()) == ["encoder.0.query", "encoder.0.value", "encoder.1.query"]
    result = compose(pin("t/a + t/b"), by_digest(a=PLAIN, b=WRAPPED), device="cpu")
    one = PLAIN.modules[0].delta.dense()
    assert_close(dense(result), {"encoder.0.query": 2 * one, "encoder.0.value": one, "encoder.1.query": one})


def test_the_order_of_the_inputs_does_not_matter() -> None:
    assert spellings([WRAPPED, PLAIN]) == spellings([PLAIN, WRAPPED])


def test_one_adapter_keeps_its_own_names() -> None:
    assert list(spellings([WRAPPED]).values()) == ["bert.encoder.0.query", "bert.encoder.1.query"]
    assert list(spellings([NESTED]).values()) == ["encoder.0.query"]


def test_names_without_a_base_are_combined_as_they_are() -> None:
    left, right = adapter("t/a@v1", {"x.q": None, "x.v": None}), adapter("t/b@v1", {"x.q": None})
    assert spellings([left, right]) == {"x.q": "x.q", "x.v": "x.v"}


def test_names_by_a_table_are_combined_by_the_base_tensor() -> None:
    gguf = {"model.layers.0.q_proj": "blk.0.attn_q.weight"}
    assert spellings([adapter("t/a@v1", gguf), adapter("t/b@v1", gguf)]) == {
        "blk.0.attn_q.weight": "model.layers.0.q_proj"
    }


def test_two_names_of_one_base_tensor_that_no_wrapping_explains_are_refused() -> None:
    left = adapter("t/a@v1", {"model.layers.0.q_proj": "blk.0.attn_q.weight"})
    right = adapter("t/b@v1", {"layers.0.q_proj": "blk.0.attn_q.weight"})
    with pytest.raises(UnsupportedAdapter, match=r"another input calls the same module 'model.layers.0.q_proj'"):
        spellings([left, right])


def test_a_module_outside_the_shorter_wrapping_is_refused() -> None:
    inner = adapter("t/a@v1", {"0.query": "encoder.0.query.weight"})
    outer = adapter("t/b@v1", {"m.encoder.0.query": "encoder.0.query.weight", "m.pooler": "pooler.weight"})
    with pytest.raises(UnsupportedAdapter, match=r"m\.pooler"):
        spellings([inner, outer])


def test_two_modules_of_one_tied_tensor_stay_two() -> None:
    tied = adapter("t/a@v1", {"embed": "embed.weight", "lm_head": "embed.weight"})
    assert spellings([tied]) == {"embed": "embed", "lm_head": "lm_head"}


def test_names_that_may_be_the_same_module_are_refused_while_the_base_is_unknown() -> None:
    left, right = adapter("t/a@v1", {"bert.x.q": None}), adapter("t/b@v1", {"x.q": None})
    for pair in ([left, right], [right, left]):
        with pytest.raises(UnsupportedAdapter, match=r"t/a@v1.*'x\.q', which may be the same module"):
            spellings(pair)


def test_a_tower_inside_another_model_is_no_lookalike() -> None:
    both = adapter("t/a@v1", {"vision.model.q": None, "model.q": None})
    assert len(spellings([both, adapter("t/b@v1", {"model.q": None})])) == 2
