"""The compose use case on a real registry: SQLite and a folder."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from composition.files import load_adapter
from composition.jobs import BlendResult, blend
from registry.blobs.filesystem import FolderStore
from registry.domain.errors import (
    AdapterNotFound,
    BaseConflict,
    DigestMismatch,
    Gone,
    InvalidSetting,
    UnsupportedAdapter,
    VersionNotFound,
)
from registry.domain.expression import parse
from registry.domain.methods import METHODS
from registry.domain.records import Evidence, Status, Version
from registry.domain.reference import AdapterName, Reference
from registry.domain.spec import AdapterSpec
from registry.service import Registry
from registry.service.bases import BaseClaim
from registry.service.publishing import Submission
from registry.sql.engine import Database
from registry.sql.schema import ensure_schema
from tests.composition.cases import Dense, assert_close
from tests.factories import TOY, toy_base, write_adapter

INTO = AdapterName.parse("demo/blend")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry with demo/a and demo/b of the toy base."""
    database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    ensure_schema(database, migrate=True)
    registry = Registry(database, FolderStore(tmp_path / "blobs"))
    registry.add_base(TOY, toy_base())
    push(registry, tmp_path, "demo/a", seed=1)
    push(registry, tmp_path, "demo/b", seed=2, rank=2)
    yield registry
    registry.close()


def push(
    registry: Registry,
    folder: Path,
    name: str,
    *,
    seed: int,
    base: BaseClaim | None = None,
    rank: int = 4,
    **config: object,
) -> Version:
    path = write_adapter(folder / "adapters" / f"{name}-{seed}", seed=seed, rank=rank, **config)
    publication = registry.push_folder(path, Submission(AdapterName.parse(name), (), base=base))
    assert publication.version is not None
    return publication.version


def run(registry: Registry, text: str, **options: object) -> BlendResult:
    return blend(registry, parse(text), INTO, device="cpu", **options)  # type: ignore[arg-type]


def deltas(registry: Registry, reference: str) -> Dense:
    version = registry.find_version(Reference.parse(reference))
    file = next(file for file in version.files if file.path == "adapter_model.safetensors")
    spec = AdapterSpec(version.summary, registry.modules(version))
    with registry.open_file(version, file.path) as stream:
        adapter = load_adapter(stream, spec, subject=reference, file=file)
    return {module.name: module.delta.dense() for module in adapter.modules}


def test_a_blend_is_published_with_its_lineage_and_its_sum_is_true(registry: Registry) -> None:
    result = run(registry, "0.7*demo/a + 0.3*demo/b", aliases=("staging",))
    assert result.created and result.version is not None
    assert result.version.reference == "demo/blend@v1"
    assert result.version.base.fingerprint == toy_base().fingerprint
    left, right = deltas(registry, "demo/a"), deltas(registry, "demo/b")
    wanted = {name: 0.7 * left[name] + 0.3 * right[name] for name in left}
    assert_close(deltas(registry, "demo/blend@staging"), wanted)
    provenance = registry.lineage(result.version).provenance[0]
    assert {str(parent.adapter) for parent in provenance.parents} == {"demo/a", "demo/b"}
    assert provenance.recipe_digest == result.recipe.digest
    assert provenance.recipe == result.recipe.document()
    a = registry.find_version(Reference.parse("demo/a"))
    assert [str(child.adapter) for child in registry.lineage(a).descendants] == ["demo/blend"]


def test_a_recipe_that_has_a_version_returns_it_without_computing_and_moves_the_aliases(registry: Registry) -> None:
    first = run(registry, "demo/a + demo/b")
    again = run(registry, "demo/b@v1 + demo/a@v1", aliases=("production",))
    assert again.version == first.version
    assert (again.created, again.report) == (False, None)
    found = registry.find_version(Reference.parse("demo/blend@production"))
    assert first.version is not None and found.number == first.version.number


def test_force_computes_again_and_finds_the_same_content(registry: Registry) -> None:
    first = run(registry, "truncate(demo/a + demo/b, rank=3)")
    again = run(registry, "truncate(demo/a + demo/b, rank=3)", force=True)
    assert again.report is not None and not again.created
    assert first.version is not None and again.version is not None
    assert again.version.digest == first.version.digest


def test_a_dry_run_reports_and_keeps_nothing(registry: Registry) -> None:
    result = run(registry, "truncate(demo/a + demo/b, rank=3)", dry_run=True)
    assert result.version is None and not result.created
    assert result.report is not None and result.report.rank == 3
    with pytest.raises(AdapterNotFound, match="demo/blend"):
        registry.adapter(INTO)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "given_init"])  # its inputs are PiSSA's
def test_every_method_reports_in_a_dry_run_what_it_publishes(registry: Registry, method: str) -> None:
    written = METHODS[method].written.replace("- 0.5*C", "").replace("rank=16", "rank=3")
    text = re.sub(r"\b([AB])\b", lambda found: f"demo/{found[1].lower()}", written).strip()
    dry = run(registry, text, dry_run=True)
    assert dry.version is None and dry.report is not None
    with pytest.raises(AdapterNotFound, match="demo/blend"):
        registry.adapter(INTO)
    assert run(registry, text).report == dry.report
    total = dry.report.total()
    assert 0 < total["rank_90"] <= total["rank_99"]
    assert len(dry.report.parents) == (1 if method == "truncate" else 2)
    assert (total["conflicts"] is None) == (method == "truncate")


def test_the_description_holds_the_recipe_and_the_report_and_is_not_content(registry: Registry) -> None:
    result = run(registry, "truncate(demo/a + demo/b, rank=3)")
    assert result.version is not None and result.report is not None
    with registry.open_file(result.version, "composition.json") as stream:
        document = json.loads(stream.read())
    assert document["expression"] == "truncate(demo/a + demo/b, rank=3)"
    assert document["recipe"] == result.recipe.document()
    assert document["report"] == result.report.document()
    with registry.open_file(result.version, "README.md") as stream:
        card = stream.read().decode()
    assert "truncate(demo/a + demo/b, rank=3)" in card and f'base_model: "{TOY}"' in card
    assert "of the energy is kept" in card
    assert "90% of the energy lies within rank" in card and "signs differ in" in card


def test_a_blend_of_a_blend_is_the_sum_of_all(registry: Registry) -> None:
    run(registry, "demo/a + demo/b")
    result = blend(registry, parse("demo/blend - demo/b"), AdapterName.parse("demo/back"), device="cpu")
    assert result.version is not None
    found, wanted = deltas(registry, "demo/back"), deltas(registry, "demo/a")
    for name, delta in wanted.items():
        assert torch.allclose(found[name], delta, atol=1e-6 * float(delta.norm()))


def test_inputs_of_different_bases_are_refused_naming_both(registry: Registry, tmp_path: Path) -> None:
    registry.add_base("toys/other", toy_base("other"))
    push(registry, tmp_path, "demo/c", seed=3, base=BaseClaim("toys/other"))
    with pytest.raises(BaseConflict) as caught:
        run(registry, "demo/a + demo/b + demo/c")
    labels = {caught.value.left_base, caught.value.right_base}
    assert labels == {TOY, "toys/other"}
    assert "demo/c@v1" in (caught.value.left, caught.value.right)


def test_without_a_fingerprint_bases_are_compared_by_the_declared_name(registry: Registry, tmp_path: Path) -> None:
    push(registry, tmp_path, "demo/x", seed=4, base_model_name_or_path="org/unknown")
    push(registry, tmp_path, "demo/y", seed=5, base_model_name_or_path="org/unknown")
    push(registry, tmp_path, "demo/z", seed=6, base_model_name_or_path=None)
    result = run(registry, "demo/x + demo/y")
    assert result.version is not None
    assert (result.version.base.evidence, result.version.base.name) == (Evidence.DECLARED, "org/unknown")
    for text in ("demo/x + demo/a", "demo/x + demo/z", "demo/z + demo/a"):
        with pytest.raises(BaseConflict):
            run(registry, text)


@pytest.mark.parametrize(("hashed", "evidence"), [((True, True), Evidence.EXACT), ((True, False), Evidence.STRUCTURAL)])
def test_a_blend_carries_the_weakest_evidence(
    registry: Registry, tmp_path: Path, hashed: tuple[bool, bool], evidence: Evidence
) -> None:
    for index, exact in enumerate(hashed):
        push(registry, tmp_path, f"demo/e{index}", seed=10 + index, base=BaseClaim(TOY, exact))
    result = run(registry, "demo/e0 + demo/e1")
    assert result.version is not None and result.version.base.evidence is evidence


def test_refusals_come_before_anything_is_kept(registry: Registry, tmp_path: Path) -> None:
    push(registry, tmp_path, "demo/moved", seed=7, init_lora_weights="pissa")
    with pytest.raises(UnsupportedAdapter, match="demo/moved@v1: pissa"):
        run(registry, "demo/a + demo/moved")
    with pytest.raises(UnsupportedAdapter, match="rank 0"):
        run(registry, "demo/a - demo/a")
    with pytest.raises(VersionNotFound):
        run(registry, "demo/a@v9")
    with pytest.raises(InvalidSetting):
        blend(registry, parse("demo/a"), INTO, device="tpu")
    registry.set_status(Reference.parse("demo/b@v1"), Status.REVOKED, reason="test")
    with pytest.raises(Gone, match="demo/b"):
        run(registry, "demo/a + demo/b@v1")
    with pytest.raises(AdapterNotFound, match="demo/blend"):
        registry.adapter(INTO)


def test_a_damaged_blob_is_refused(registry: Registry, tmp_path: Path) -> None:
    version = registry.find_version(Reference.parse("demo/a"))
    file = next(file for file in version.files if file.path == "adapter_model.safetensors")
    blob = next(path for path in (tmp_path / "blobs").rglob(file.sha256))
    blob.chmod(0o644)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(DigestMismatch, match="demo/a@v1"):
        run(registry, "demo/a + demo/b")


def test_progress_tells_what_is_done(registry: Registry) -> None:
    seen: list[tuple[str, int, int]] = []
    run(registry, "demo/a + demo/b", progress=lambda what, done, of: seen.append((what, done, of)))
    assert {"loading", "composing"} <= {what for what, _, _ in seen}
    assert all(0 <= done <= of for _, done, of in seen)
