"""DoRA, given the base: its true delta, truncated, is what PEFT merges; without the base it is refused."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from composition.adapter import LoadedAdapter
from composition.base_weights import BaseWeights
from composition.engine import compose
from composition.files import WEIGHTS_NAME, load_adapter, save_composition
from composition.jobs import Inputs, blend
from registry.blobs.filesystem import FolderStore
from registry.domain.bases import match
from registry.domain.errors import BaseConflict, InvalidAdapter, UnsupportedAdapter
from registry.domain.expression import parse
from registry.domain.recipe import Recipe
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.domain.spec import AdapterSpec
from registry.formats.base_model import index_base
from registry.formats.peft import read_folder
from registry.service import Registry
from registry.service.publishing import Submission
from registry.sql.engine import Database
from registry.sql.schema import ensure_schema
from tests.composition.cases import assert_close, by_digest, dense, load, pin, weights_entry
from tests.composition.kinds import BASE, deltas, layers, save_trained, weighted
from tests.factories import EXAMPLES, minilm_folder

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third parties' deprecations at import
    from peft import PeftModel
    from transformers import AutoModel

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft of transformers

DORA: dict[str, Any] = {
    "target_modules": ["embed", "q", "conv1", "conv2", "pointwise", "conv3"],
    "use_dora": True,
}
PLAIN: dict[str, Any] = {**DORA, "use_dora": False}


def write_base(folder: Path, scale: float = 1.0) -> Path:
    folder.mkdir()
    state = {name: scale * tensor.float() for name, tensor in layers().state_dict().items()}
    save_file(state, folder / "model.safetensors")
    return folder


def loaded(folder: Path, base: Path) -> LoadedAdapter:
    spec = match(read_folder(folder), index_base(base), base=BASE)
    with (folder / WEIGHTS_NAME).open("rb") as stream:
        return load_adapter(
            stream, spec, subject=f"t/{folder.name}@v1", file=weights_entry(folder), base=BaseWeights(base)
        )


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    save_trained(tmp_path / "a", 1, **{**DORA, "r": 3, "lora_alpha": 4})
    save_trained(tmp_path / "b", 2, **{**DORA, "r": 2, "lora_alpha": 1})
    save_trained(tmp_path / "plain", 3, **{**PLAIN, "r": 2})
    return {name: tmp_path / name for name in ("a", "b", "plain")}


@pytest.fixture
def inputs(folders: dict[str, Path], tmp_path: Path) -> dict[str, LoadedAdapter]:
    base = write_base(tmp_path / "base")
    return by_digest(**{name: loaded(folder, base) for name, folder in folders.items()})


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("truncate(t/a, rank=64)", {"a": 1}),
        ("truncate(0.7*t/a - 0.3*t/b, rank=64)", {"a": 0.7, "b": -0.3}),
        ("truncate(t/a, rank=64) + 2*t/plain", {"a": 1, "plain": 2}),
    ],
)
def test_peft_computes_from_our_plain_adapter_what_it_merges_of_dora(
    tmp_path: Path,
    folders: dict[str, Path],
    inputs: dict[str, LoadedAdapter],
    text: str,
    weights: dict[str, float],
) -> None:
    (tmp_path / "out").mkdir()
    save_composition(compose(pin(text), inputs, device="cpu"), tmp_path / "out")
    assert_close(deltas(tmp_path / "out"), weighted(folders, weights), 1e-6)


def test_a_truncation_of_dora_is_the_best_one_and_tells_its_error(inputs: dict[str, LoadedAdapter]) -> None:
    exact = dense(compose(pin("truncate(t/a, rank=64)"), inputs, device="cpu"))
    result = compose(pin("truncate(t/a, rank=2)"), inputs, device="cpu")
    for module, report in zip(result.modules, result.report.modules, strict=True):
        best = float(torch.linalg.svdvals(exact[module.name])[2:].norm())
        assert module.delta.rank == min(2, *module.delta.shape)
        assert report.error == pytest.approx(best, rel=1e-5, abs=1e-6)
        assert float((exact[module.name] - module.delta.dense()).norm()) == pytest.approx(best, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("text", ["t/a", "t/a + t/plain", "ties(t/a, t/plain)", "truncate(ties(t/a, t/plain), rank=2)"])
def test_dora_that_nothing_truncates_is_refused(inputs: dict[str, LoadedAdapter], text: str) -> None:
    with pytest.raises(UnsupportedAdapter, match=r"t/a@v1: dora without a truncation.*truncate\(t/a@v1, rank=R\)"):
        compose(pin(text), inputs, device="cpu")


def test_methods_take_dora_truncated(inputs: dict[str, LoadedAdapter]) -> None:
    assert compose(pin("ties(truncate(t/a, rank=2), t/plain)"), inputs, device="cpu").modules


def test_dora_without_the_base_is_refused_with_what_to_do(folders: dict[str, Path]) -> None:
    with (
        (folders["a"] / WEIGHTS_NAME).open("rb") as stream,
        pytest.raises(UnsupportedAdapter, match=r"dora.*--base DIR"),
    ):
        load_adapter(stream, read_folder(folders["a"]), subject="t/a@v1", file=weights_entry(folders["a"]))


def test_dora_whose_tensor_in_the_base_is_unknown_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    base = BaseWeights(write_base(tmp_path / "base"))
    with (folders["a"] / WEIGHTS_NAME).open("rb") as stream, pytest.raises(UnsupportedAdapter, match="isn't known"):
        load_adapter(stream, read_folder(folders["a"]), subject="t/a@v1", file=weights_entry(folders["a"]), base=base)


def test_a_row_without_length_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    save_trained(tmp_path / "still", 4, still=True, **{**DORA, "target_modules": ["q"], "r": 2})
    adapter = loaded(tmp_path / "still", write_base(tmp_path / "base", scale=0.0))
    with pytest.raises(InvalidAdapter, match="cancel"):
        compose(pin("truncate(t/still, rank=2)"), by_digest(still=adapter), device="cpu")


def test_a_trained_dora_adapter_of_a_real_model_is_what_peft_merges() -> None:
    folder = EXAMPLES / "minilm-debian-r4-dora-fp16"
    result = compose(pin("truncate(t/dora, rank=384)"), by_digest(dora=loaded(folder, minilm_folder())), device="cpu")
    base = AutoModel.from_pretrained(str(minilm_folder())).double()
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    model = PeftModel.from_pretrained(base, str(folder)).double()
    after = model.merge_and_unload().state_dict()
    found = dense(result)
    wanted = {name: after[f"{name}.weight"] - before[f"{name}.weight"] for name in found}
    assert_close(found, wanted, 1e-6)


def test_a_blend_takes_the_base_by_its_fingerprint(folders: dict[str, Path], tmp_path: Path) -> None:
    base, other = write_base(tmp_path / "base"), write_base(tmp_path / "other", scale=2.0)
    database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    ensure_schema(database, migrate=True)
    registry = Registry(database, FolderStore(tmp_path / "blobs"))
    try:
        registry.add_base(BASE, index_base(base))
        registry.push_folder(folders["a"], Submission(AdapterName.parse("t/a"), ()))
        recipe, into = parse("truncate(t/a, rank=2)"), AdapterName.parse("t/blend")
        with pytest.raises(UnsupportedAdapter, match="--base DIR"):
            blend(registry, recipe, into, device="cpu")
        with pytest.raises(BaseConflict, match="t/a@v1"):
            blend(registry, recipe, into, device="cpu", base=other)
        result = blend(registry, recipe, into, device="cpu", base=base)
        version = registry.find_version(Reference.parse("t/blend"))
        assert result.version and result.version.digest == version.digest
        assert result.report and result.report.error > 0
        document = result.recipe.document()
        assert document.pop("base") == index_base(base).fingerprint  # the result is a function of it
        assert Recipe.from_document(document).pin(Inputs(registry).resolve).digest != result.recipe.digest
        again = blend(registry, Recipe.from_document(document), into, device="cpu", base=base)
        assert again.report is None and again.recipe.digest == result.recipe.digest
        assert "dora" not in AdapterSpec(version.summary, registry.modules(version)).summary.variants
        (base / "config.json").write_text('{"model_type": "toy"}')
        registry.publish_base(base, Submission(AdapterName.parse("models/base"), ()))
        stored = blend(registry, recipe, AdapterName.parse("t/stored"), device="cpu")  # the registry has the weights
        assert stored.recipe.digest == result.recipe.digest
        assert stored.version and stored.version.digest == version.digest
        registry.set_role("t", registry.create_token("ann", principal="ann").token.principal, Role.WRITER)
        ann = registry.on_behalf_of(registry.authenticate(registry.create_token("ann", principal="ann").secret))
        with pytest.raises(UnsupportedAdapter):  # which are not hers to read
            blend(ann, recipe, AdapterName.parse("t/hers"), device="cpu")
    finally:
        registry.close()


@pytest.mark.parametrize("changed", [False, True])
def test_embeddings_saved_along_are_left_out_if_they_are_the_bases_own(tmp_path: Path, changed: bool) -> None:
    base = write_base(tmp_path / "base")
    folder = save_trained(tmp_path / "a", 1, target_modules=["embed"], r=2)
    tensors = load_file(folder / WEIGHTS_NAME)
    tensors["base_model.model.embed.base_layer.weight"] = layers().embed.weight.detach().float()
    if changed:
        tensors["base_model.model.embed.base_layer.weight"][5, 1] += 1e-3
    save_file(tensors, folder / WEIGHTS_NAME)
    if changed:
        with pytest.raises(UnsupportedAdapter, match=r"modules_to_save.*not the base's own"):
            loaded(folder, base)
        return
    assert [module.form.kind for module in loaded(folder, base).modules] == ["embedding"]
    with pytest.raises(UnsupportedAdapter, match=r"modules_to_save.*--base DIR"):
        load(folder)


@pytest.mark.parametrize(
    ("target", "match"), [("head", "modules_to_save.*not the base's own"), ("embed", "modules_to_save")]
)
def test_modules_that_were_trained_whole_are_refused_with_the_base_too(tmp_path: Path, target: str, match: str) -> None:
    base = write_base(tmp_path / "base")
    save_trained(tmp_path / "a", 1, target_modules=["q"], modules_to_save=[target], r=2)
    with pytest.raises(UnsupportedAdapter, match=match):
        loaded(tmp_path / "a", base)
