"""Statistics from the weights equal those of the dense delta, and what is broken is found."""

from hashlib import sha256
from pathlib import Path

import pytest
import torch

from composition.inspect import inspect_weights
from registry.domain.errors import RankMismatch
from tests.composition.models import DTYPES, SHAPES, factors, write_lora
from tests.factories import EXAMPLES


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("rslora", [False, True])
def test_norms_and_spectra_are_those_of_the_dense_delta(tmp_path: Path, dtype: torch.dtype, rslora: bool) -> None:
    made = factors(1)
    write_lora(tmp_path / "a", made, dtype=dtype, use_rslora=rslora, alpha_pattern={"q_proj": 3})
    statistics = inspect_weights(tmp_path / "a")
    assert len(statistics.modules) == 2 * len(SHAPES) and not statistics.findings
    total = 0.0
    for found in statistics.modules:
        a, b = made[found.module.removeprefix("model.")]
        alpha = 3.0 if found.module.endswith("q_proj") else 8.0
        delta = alpha / (2.0 if rslora else 4.0) * (b.to(dtype).double() @ a.to(dtype).double())
        values = torch.linalg.svdvals(delta)[:4]
        assert found.singular == pytest.approx(values.tolist(), rel=1e-9)
        assert found.norm == pytest.approx(float(delta.norm()), rel=1e-12)
        assert found.stable_rank == pytest.approx(float((delta.norm() / values[0]) ** 2), rel=1e-9)
        shares = values / values.sum()
        assert found.effective_rank == pytest.approx(float(torch.exp(-(shares * shares.log()).sum())), rel=1e-9)
        assert found.numerical_rank == 4
        total += float(delta.square().sum())
    assert statistics.norm == pytest.approx(total**0.5)


def test_dead_broken_and_thin_modules_are_found(tmp_path: Path) -> None:
    made = factors(1)
    a, b = made["layers.0.q_proj"]
    made["layers.0.q_proj"] = (a, torch.zeros_like(b))
    a, b = made["layers.0.v_proj"]
    made["layers.0.v_proj"] = (a, torch.full_like(b, float("nan")))
    a, b = made["layers.1.v_proj"]
    made["layers.1.v_proj"] = (a, b[:, :1].expand(-1, 4))
    statistics = inspect_weights(write_lora(tmp_path / "a", made))
    found = {module.module.removeprefix("model."): module for module in statistics.modules}
    assert found["layers.0.q_proj"].dead and found["layers.0.q_proj"].norm == 0.0
    assert found["layers.0.v_proj"].not_finite == 160 and found["layers.0.v_proj"].norm is None
    assert found["layers.1.v_proj"].numerical_rank == 1
    broken, dead, thin = statistics.findings
    assert "NaN" in broken and "layers.0.v_proj" in broken
    assert "layers.0.q_proj" in dead
    assert "layers.1.v_proj" in thin


def test_whole_heads_and_tokenizers_are_told_with_their_digests(tmp_path: Path) -> None:
    head = torch.randn(3, 40)
    folder = write_lora(
        tmp_path / "a", factors(1), extra={"base_model.model.score.weight": head}, modules_to_save=["score"]
    )
    (folder / "added_tokens.json").write_text('{"<new>": 17}')
    statistics = inspect_weights(folder)
    (whole,) = statistics.whole
    assert (whole.module, whole.kind, whole.shape) == ("score", "saved", (3, 40))
    assert whole.sha256 == sha256(head.numpy().tobytes()).hexdigest()
    assert statistics.tokenizer == {"added_tokens.json": sha256(b'{"<new>": 17}').hexdigest()}
    assert "score" in statistics.findings[0]


def test_a_head_and_a_router_that_are_saved_whole_are_told_apart(tmp_path: Path) -> None:
    extra = {"base_model.model.score.weight": torch.randn(3, 40)}
    extra |= {f"base_model.model.model.layers.{n}.mlp.gate.weight": torch.randn(8, 40) for n in range(2)}
    folder = write_lora(tmp_path / "a", factors(1), extra=extra, modules_to_save=["score", "gate"])
    (found,) = inspect_weights(folder).findings
    assert "score.weight (head)" in found
    assert found.count("(router)") == 2


def test_a_rank_that_contradicts_the_configuration_is_refused(tmp_path: Path) -> None:
    folder = write_lora(tmp_path / "a", factors(1), r=8)
    with pytest.raises(RankMismatch):
        inspect_weights(folder)


def test_a_variant_that_is_no_product_is_listed_without_figures() -> None:
    statistics = inspect_weights(EXAMPLES / "minilm-debian-r4-dora-fp16")
    assert statistics.modules and all(module.norm is None for module in statistics.modules)
    assert {tensor.kind for tensor in statistics.whole} == {"linear"}  # the magnitudes
    assert not statistics.findings
    assert statistics.document()["modules"][0]["norm"] is None
