"""Extraction: the difference of two models comes back as factors that keep what they say, or is refused by name."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from composition.base_jobs import Extracted, extract_adapter
from composition.extract import Target, low_rank
from composition.merge_job import merge
from registry.domain.errors import BaseMismatch, BaseNotFound, UnsupportedAdapter
from registry.domain.expression import parse
from registry.domain.records import Evidence
from registry.domain.reference import AdapterName
from registry.formats.base_model import index_base
from tests.composition.models import (
    SHAPES,
    Tensors,
    World,
    base_tensors,
    factors,
    read_tensors,
    world,
    write_base,
    write_lora,
)

INTO = AdapterName.parse("demo/extracted")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, base_tensors(torch.float32)) as made:
        yield made


def tuned_tensors(tensors: Tensors, *, rank: int = 4) -> Tensors:
    """The base with a delta of a known rank in every matrix, in float32."""
    result = dict(tensors)
    for module, (a, b) in factors(1, rank=rank).items():
        result[f"model.{module}.weight"] = tensors[f"model.{module}.weight"] + 2.0 * b @ a
    return result


def run(made: World, tensors: Tensors, target: Target, **options: object) -> Extracted:
    tuned = made.root / "tuned"
    if not tuned.exists():
        write_base(tuned, tensors, shards=3)
    return extract_adapter(made.registry, INTO, base=made.base, tuned=tuned, target=target, **options)  # type: ignore[arg-type]


def test_an_extracted_adapter_merged_into_the_base_is_the_tuned_model(small: World) -> None:
    tensors = tuned_tensors(base_tensors(torch.float32))
    result = run(small, tensors, Target(rank=4))
    assert result.created and result.version.summary.rank == 4
    merge(small.registry, parse("demo/extracted"), base=small.base, out=small.root / "out", device="cpu")
    merged = read_tensors(small.root / "out")
    for name, wanted in tensors.items():
        assert torch.allclose(merged[name], wanted, rtol=0, atol=2e-7), name


def test_the_base_is_known_exactly_and_the_tuned_model_is_named_by_its_digest(small: World) -> None:
    result = run(small, tuned_tensors(base_tensors(torch.float32)), Target(rank=2))
    assert result.version.base.evidence is Evidence.EXACT
    assert result.version.base.fingerprint == index_base(small.base).fingerprint
    tuned = index_base(small.root / "tuned").fingerprint
    assert result.version.metadata == {"extracted_from": f"sha256:{tuned}"}
    with small.registry.open_file(result.version, "composition.json") as stream:
        document = json.loads(stream.read())
    assert document["extracted"] == {"base": result.version.base.fingerprint, "tuned": tuned}


@pytest.mark.parametrize("rank", [1, 3])
def test_the_energy_kept_is_that_of_the_best_approximation(small: World, rank: int) -> None:
    base = base_tensors(torch.float32)
    tensors = tuned_tensors(base)
    report = run(small, tensors, Target(rank=rank)).extraction.composition.report
    assert len(report.modules) == 2 * len(SHAPES)
    for module in report.modules:
        name = f"{module.name}.weight"
        values = torch.linalg.svdvals(tensors[name].double() - base[name].double())
        assert module.norm == pytest.approx(float(values.norm()), rel=1e-6)
        assert module.error == pytest.approx(float(values[rank:].norm()), rel=1e-5)


def test_an_energy_chooses_the_smallest_rank_that_keeps_it(small: World) -> None:
    base = base_tensors(torch.float32)
    tensors = tuned_tensors(base)
    report = run(small, tensors, Target(energy=0.9)).extraction.composition.report
    for module in report.modules:
        values = torch.linalg.svdvals((tensors[f"{module.name}.weight"] - base[f"{module.name}.weight"]).double())
        shares = values.square().cumsum(0) / values.square().sum()
        assert module.rank == int((shares < 0.9).sum()) + 1
        assert 1 - (module.error / module.norm) ** 2 >= 0.9


def test_what_is_no_matrix_is_refused_by_name_unless_it_is_left_behind(small: World) -> None:
    tensors = tuned_tensors(base_tensors(torch.float32))
    tensors["model.layers.0.norm.weight"] = tensors["model.layers.0.norm.weight"] + 1
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"] + 1
    with pytest.raises(UnsupportedAdapter) as caught:
        run(small, tensors, Target(rank=4))
    assert "model.layers.0.norm.weight" in caught.value.reason and "model.embed_tokens.weight" in caught.value.reason
    result = run(small, tensors, Target(rank=4), ignore_other=True)
    assert {other.tensor for other in result.extraction.others} == {
        "model.layers.0.norm.weight",
        "model.embed_tokens.weight",
    }
    with small.registry.open_file(result.version, "README.md") as stream:
        assert "model.embed_tokens.weight: it is an embedding" in stream.read().decode()


def test_only_what_differs_is_in_the_adapter(small: World) -> None:
    tensors = base_tensors(torch.float32)
    a, b = factors(1)["layers.1.v_proj"]
    tensors["model.layers.1.v_proj.weight"] = tensors["model.layers.1.v_proj.weight"] + b @ a
    result = run(small, tensors, Target(rank=4))
    assert [module.name for module in result.extraction.composition.modules] == ["model.layers.1.v_proj"]
    assert result.extraction.equal == len(tensors) - 1


def test_equal_models_and_other_architectures_are_refused(small: World) -> None:
    with pytest.raises(UnsupportedAdapter, match="no matrix differs"):
        run(small, base_tensors(torch.float32), Target(rank=4))
    other = write_base(small.root / "other", base_tensors(torch.float32, layers=3))
    with pytest.raises(BaseMismatch, match=r"layers\.2"):
        extract_adapter(small.registry, INTO, base=small.base, tuned=other, target=Target(rank=4))


def test_an_unregistered_base_is_refused(small: World) -> None:
    other = write_base(small.root / "other", base_tensors(torch.float16))
    with pytest.raises(BaseNotFound):
        extract_adapter(small.registry, INTO, base=other, tuned=small.base, target=Target(rank=4))


def test_transposed_models_give_a_transposed_adapter(tmp_path: Path) -> None:
    tensors = base_tensors(torch.float32, transposed=True)
    tuned = dict(tensors)
    for module, (a, b) in factors(1).items():
        tuned[f"model.{module}.weight"] = tensors[f"model.{module}.weight"] + 2.0 * (b @ a).T
    with world(tmp_path, tensors, model_type="gpt2") as made:
        tuned_folder = write_base(tmp_path / "tuned", tuned, model_type="gpt2")
        result = extract_adapter(made.registry, INTO, base=made.base, tuned=tuned_folder, target=Target(rank=4))
        assert "fan_in_fan_out" in result.version.summary.variants
        merge(made.registry, parse("demo/extracted"), base=made.base, out=tmp_path / "out", device="cpu")
    merged = read_tensors(tmp_path / "out")
    assert all(torch.allclose(merged[name], wanted, atol=2e-7) for name, wanted in tuned.items())


def test_half_precision_is_reported_with_its_rounding(small: World) -> None:
    result = run(small, tuned_tensors(base_tensors(torch.float32)), Target(rank=4), dtype="bfloat16")
    report = result.extraction.composition.report
    assert result.version.summary.dtype == "BF16"
    assert all(0 < module.rounding < 0.01 * module.norm for module in report.modules)


@pytest.mark.parametrize("target", [Target(rank=12), Target(energy=0.8)])
def test_a_large_matrix_is_approximated_as_well_as_exactly(target: Target) -> None:
    generator = torch.Generator().manual_seed(3)
    left, right = torch.randn(1100, 40, generator=generator), torch.randn(40, 1200, generator=generator)
    matrix = (left * torch.logspace(0, -2, 40)) @ right + 1e-3 * torch.randn(1100, 1200, generator=generator)
    delta = low_rank(matrix, target)
    values = torch.linalg.svdvals(matrix.double())
    best = float(values[delta.rank :].norm())
    assert float((matrix.double() - delta.dense()).norm()) == pytest.approx(best, rel=1e-4)
    if target.energy:
        shares = values.square().cumsum(0) / values.square().sum()
        assert delta.rank == int((shares < target.energy).sum()) + 1


def test_an_adapter_survives_merging_and_extracting(small: World) -> None:
    small.push("demo/a", write_lora(small.root / "a", factors(1)))
    merge(small.registry, parse("demo/a"), base=small.base, out=small.root / "tuned", device="cpu")
    result = run(small, {}, Target(rank=4))
    for module in result.extraction.composition.modules:
        a, b = factors(1)[module.name.removeprefix("model.")]
        wanted = 2.0 * b.double() @ a.double()
        assert float((module.delta.dense() - wanted).norm()) <= 1e-5 * float(wanted.norm())
