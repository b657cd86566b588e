"""PEFT reads what we write, and computes the dense sum from it; and its own mistakes, which we don't make."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from composition.adapter import LoadedAdapter
from composition.engine import compose
from composition.files import save_composition
from registry.domain.digest import content_digest
from tests.composition.cases import Dense, assert_close, by_digest, dense_sum, minilm, pin
from tests.factories import EXAMPLES, minilm_folder

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third parties' deprecations at import
    from peft import PeftModel
    from transformers import AutoModel

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft of transformers

NAMES = {
    "sentiment": "sentiment-r8",
    "wordnet": "wordnet-r8",
    "genre": "genre-r16-rslora-bf16",
    "pattern": "sentiment-rank-pattern",
}


@pytest.fixture(scope="module")
def inputs() -> dict[str, LoadedAdapter]:
    return by_digest(**{short: minilm(name) for short, name in NAMES.items()})


@pytest.fixture
def base() -> Iterator[Any]:
    yield AutoModel.from_pretrained(str(minilm_folder()))


def peft_deltas(model: Any, adapter: str = "default") -> Dense:
    """What PEFT computes, {module: delta}, as it computes it."""
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight(adapter).double()
        for name, module in model.named_modules()
        if adapter in getattr(module, "lora_A", {})
    }


def composed(folder: Path, text: str, inputs: Mapping[str, LoadedAdapter], base: Any, dtype: str = "float32") -> Dense:
    save_composition(compose(pin(text, dtype), inputs, device="cpu"), folder)
    return peft_deltas(PeftModel.from_pretrained(base, str(folder), autocast_adapter_dtype=False))


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("t/sentiment + t/wordnet", {"sentiment": 1, "wordnet": 1}),
        ("0.7*t/sentiment - 0.3*t/wordnet", {"sentiment": 0.7, "wordnet": -0.3}),
        ("t/genre", {"genre": 1}),
        ("0.5*t/genre + 0.25*t/pattern", {"genre": 0.5, "pattern": 0.25}),
        ("lerp(t/pattern, t/wordnet, t=0.25)", {"pattern": 0.75, "wordnet": 0.25}),
        ("t/sentiment + t/wordnet + t/genre - t/pattern", {"sentiment": 1, "wordnet": 1, "genre": 1, "pattern": -1}),
    ],
)
def test_peft_computes_the_dense_sum_from_our_file(
    tmp_path: Path, inputs: dict[str, LoadedAdapter], base: Any, text: str, weights: dict[str, float]
) -> None:
    assert_close(composed(tmp_path, text, inputs, base), dense_sum(weights, inputs), 1e-6)


def test_peft_computes_the_best_approximation_from_a_truncated_file(
    tmp_path: Path, inputs: dict[str, LoadedAdapter], base: Any
) -> None:
    found = composed(tmp_path, "truncate(t/sentiment + t/genre, rank=8)", inputs, base)
    exact = dense_sum({"sentiment": 1, "genre": 1}, inputs)
    for name, delta in list(exact.items())[::6]:
        best = float(torch.linalg.svdvals(delta)[8:].norm())
        assert float((delta - found[name]).norm()) == pytest.approx(best, rel=1e-5, abs=1e-6 * float(delta.norm()))


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 2**-7), ("float16", 2**-10)])
def test_peft_reads_half_precision_within_its_rounding(
    tmp_path: Path, inputs: dict[str, LoadedAdapter], base: Any, dtype: str, tolerance: float
) -> None:
    found = composed(tmp_path, "t/sentiment + t/wordnet", inputs, base, dtype)
    assert_close(found, dense_sum({"sentiment": 1, "wordnet": 1}, inputs), tolerance)


def with_peft(kind: str, **adapters: str) -> Dense:
    """What PEFT's own combination gives, at weight 1 each, of example adapters {adapter name: short name}."""
    base = AutoModel.from_pretrained(str(minilm_folder()))
    folders = {name: str(EXAMPLES / f"minilm-{NAMES[short]}") for name, short in adapters.items()}
    first, *others = folders
    model = PeftModel.from_pretrained(base, folders[first], adapter_name=first)
    for name in others:
        model.load_adapter(folders[name], adapter_name=name)
    model.add_weighted_adapter(list(folders), [1.0] * len(folders), "both", combination_type=kind)
    return peft_deltas(model, "both")


def flat(deltas: Dense) -> torch.Tensor:
    return torch.cat([deltas[name].flatten() for name in sorted(deltas)])


def test_a_sum_has_no_cross_terms_as_in_pefts_linear(
    tmp_path: Path, inputs: dict[str, LoadedAdapter], base: Any
) -> None:
    exact = flat(dense_sum({"sentiment": 1, "wordnet": 1}, inputs))
    ours = flat(composed(tmp_path, "t/sentiment + t/wordnet", inputs, base))
    theirs = flat(with_peft("linear", one="sentiment", two="wordnet"))
    assert float((ours - exact).norm() / exact.norm()) <= 1e-6
    assert float((theirs - exact).norm() / exact.norm()) > 0.5


def test_rslora_is_not_inherited_by_the_result_as_in_pefts_cat(
    tmp_path: Path, inputs: dict[str, LoadedAdapter], base: Any
) -> None:
    twin = by_digest(twin=minilm(NAMES["genre"]))  # the same weights under another digest, so that ranks add up
    exact = flat(dense_sum({"genre": 2}, inputs))
    ours = flat(composed(tmp_path, "t/genre + t/twin", inputs | twin, base))
    theirs = flat(with_peft("cat", one="genre", two="genre"))
    assert float((ours - exact).norm() / exact.norm()) <= 1e-6
    assert float(theirs.norm() / exact.norm()) == pytest.approx(32**0.5, rel=1e-3)


def test_the_content_of_a_composition_is_the_same_every_time(tmp_path: Path, inputs: dict[str, LoadedAdapter]) -> None:
    digests = set()
    for name, text in (("one", "t/sentiment + t/wordnet"), ("two", "t/wordnet + t/sentiment")):
        (tmp_path / name).mkdir()
        save_composition(compose(pin(text), inputs, device="cpu"), tmp_path / name)
        files = {path.name: path.read_bytes().hex() for path in (tmp_path / name).iterdir()}
        digests.add(content_digest(files))
    assert len(digests) == 1
