"""Modules saved whole and trained biases: composed by an explicit choice, as PEFT then loads them, or refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from composition.adapter import LoadedAdapter
from composition.base_weights import BaseWeights
from composition.engine import compose
from composition.files import CONFIG_NAME, WEIGHTS_NAME, load_adapter, save_composition
from composition.jobs import blend
from registry.blobs.filesystem import FolderStore
from registry.domain.bases import match
from registry.domain.errors import BaseConflict, InvalidAdapter, InvalidRecipe, UnsupportedAdapter
from registry.domain.expression import parse
from registry.domain.recipe import Recipe
from registry.domain.records import Parent
from registry.domain.reference import AdapterName
from registry.domain.replacements import Replacements
from registry.formats.base_model import index_base
from registry.formats.peft import read_folder
from registry.service import Registry
from registry.service.publishing import Submission
from registry.sql.engine import Database
from registry.sql.schema import ensure_schema
from tests.composition.cases import Dense, assert_close, by_digest, digest, weights_entry
from tests.composition.kinds import BASE, deltas, layers, output, save_trained, weighted

KINDS: dict[str, dict[str, Any]] = {
    "saved": {"target_modules": ["q"], "modules_to_save": ["head", "embed"]},
    "all": {"target_modules": ["q", "conv1"], "bias": "all"},
    "lora_only": {"target_modules": ["q", "conv1"], "bias": "lora_only"},
    "both": {"target_modules": ["q"], "modules_to_save": ["head"], "bias": "all"},
    "both_only": {"target_modules": ["q"], "modules_to_save": ["head"], "bias": "lora_only"},
    "plain": {"target_modules": ["q", "conv1"]},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    save_file({name: tensor.float() for name, tensor in layers().state_dict().items()}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """{kind: adapter} and {kind2: another}."""
    root = tmp_path_factory.mktemp("adapters")
    made = {}
    for seed, (name, config) in enumerate(KINDS.items()):
        made[name] = save_trained(root / name, 10 + seed, r=3, lora_alpha=4, **config)
        made[f"{name}2"] = save_trained(root / f"{name}2", 20 + seed, r=2, **config)
    return made


def loaded(folder: Path, base: Path | None) -> LoadedAdapter:
    spec = read_folder(folder)
    spec = match(spec, index_base(base), base=BASE) if base else spec
    with (folder / WEIGHTS_NAME).open("rb") as stream:
        return load_adapter(
            stream,
            spec,
            subject=f"t/{folder.name}@v1",
            file=weights_entry(folder),
            base=BaseWeights(base) if base else None,
            replacing=True,
        )


def pinned(text: str, choice: str | None) -> Recipe:
    recipe = parse(text)
    recipe = recipe.with_replacements(Replacements.parse(choice)) if choice else recipe
    return recipe.pin(lambda reference: Parent(reference.adapter, 1, digest(reference.adapter.name)))


class Blends:
    def __init__(self, folders: dict[str, Path], out: Path, base: Path | None) -> None:
        self.inputs = by_digest(**{name: loaded(folder, base) for name, folder in folders.items()})
        self._out = out

    def save(self, text: str, choice: str) -> Path:
        self._out.mkdir(exist_ok=True)
        save_composition(compose(pinned(text, choice), self.inputs, device="cpu"), self._out)
        return self._out


@pytest.fixture
def blends(folders: dict[str, Path], tmp_path: Path, base: Path) -> Blends:
    return Blends(folders, tmp_path / "out", base)


@pytest.fixture
def without_base(folders: dict[str, Path], tmp_path: Path) -> Blends:
    return Blends(folders, tmp_path / "out", None)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("t/saved + t/saved2", {"saved": 1, "saved2": 1}),
        ("0.7*t/saved - 1.3*t/saved2 + t/plain", {"saved": 0.7, "saved2": -1.3, "plain": 1}),
        ("lerp(t/all, t/all2, t=0.25)", {"all": 0.75, "all2": 0.25}),
        ("t/lora_only - t/lora_only2", {"lora_only": 1, "lora_only2": -1}),
        ("t/lora_only + 0.5*t/all", {"lora_only": 1, "all": 0.5}),
        ("truncate(0.5*t/saved + t/plain, rank=64)", {"saved": 0.5, "plain": 1}),
        ("0.5*t/both + t/both_only", {"both": 0.5, "both_only": 1}),
    ],
)
def test_by_difference_peft_loads_the_base_and_the_weighted_sum_of_all_differences(
    blends: Blends, folders: dict[str, Path], text: str, weights: dict[str, float]
) -> None:
    assert_close(deltas(blends.save(text, "difference")), weighted(folders, weights), 1e-6)


@pytest.mark.parametrize("name", ["saved", "all", "lora_only", "both", "both_only"])
@pytest.mark.parametrize("choice", ["average", "difference", "from=t/{}"])
def test_one_adapter_at_weight_one_is_unchanged_by_every_rule(
    blends: Blends, folders: dict[str, Path], name: str, choice: str
) -> None:
    folder = blends.save(f"t/{name}", choice.format(name))
    assert_close(deltas(folder), deltas(folders[name]), 1e-6)
    assert torch.allclose(output(folder), output(folders[name]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["saved", "all"])
def test_an_average_is_by_weight_over_those_who_replace_and_needs_no_base(
    without_base: Blends, folders: dict[str, Path], kind: str
) -> None:
    found = replaced(without_base.save(f"t/{kind} + 3*t/{kind}2 + 9*t/plain", "average"), folders[kind])
    one, other = (replaced(folders[name], folders[kind]) for name in (kind, f"{kind}2"))
    assert found.keys() == one.keys() and len(found) > 2
    assert_close(found, {name: (one[name] + 3 * other[name]) / 4 for name in one}, 1e-6)


def replaced(folder: Path, like: Path) -> Dense:
    """What PEFT has in the place of the base's tensors that another adapter replaces, merged."""
    base = layers().state_dict()
    names = {
        name.removeprefix("base_model.model.").replace(".base_layer", "")
        for name in load_file(like / WEIGHTS_NAME)
        if "lora_" not in name
    }
    changed = deltas(folder)
    return {name: base[name] + changed.get(name, 0.0) for name in names}


def test_from_takes_one_inputs_tensors_as_they_are(without_base: Blends, folders: dict[str, Path]) -> None:
    tensors = load_file(without_base.save("t/saved - 2*t/saved2", "from=t/saved2") / WEIGHTS_NAME)
    for name, values in load_file(folders["saved2"] / WEIGHTS_NAME).items():
        assert "lora_" in name or torch.equal(tensors[name], values)


def test_the_result_says_what_it_replaces_and_is_read_again(blends: Blends, base: Path) -> None:
    folder = blends.save("t/saved + t/saved2", "difference")
    config = json.loads((folder / CONFIG_NAME).read_text())
    assert (config["modules_to_save"], config["bias"]) == (["embed", "head"], "none")
    again = loaded(folder, base)
    assert {(item.module, item.parameter) for item in again.replacements} == {
        ("embed", "weight"),
        ("head", "weight"),
        ("head", "bias"),
    }
    config = json.loads((blends.save("t/lora_only + t/plain", "difference") / CONFIG_NAME).read_text())
    assert (config["modules_to_save"], config["bias"]) == (None, "lora_only")
    assert json.loads((blends.save("t/all", "average") / CONFIG_NAME).read_text())["bias"] == "all"


def test_modules_within_a_saved_module_are_named_by_the_outermost() -> None:
    # PEFT wraps each name, and nests no wrappers.
    from composition.files import _saved_modules
    from composition.replaced import ComposedTensor

    items = [ComposedTensor(name, "weight", torch.ones(1), False) for name in ("head.a", "head", "tail.b", "headed")]
    assert _saved_modules(items) == ["head", "headed", "tail.b"]


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "choice", "match"),
    [
        ("t/saved", "difference", r"t/saved@v1: modules_to_save difference .*--base DIR"),
        ("t/saved + t/plain", "from=t/plain", r"t/plain@v1 doesn't replace it"),
        ("t/saved - t/saved2", "average", "gives no average"),
        ("ties(t/saved, t/saved2)", "average", "ties is defined on deltas"),
        ("t/saved + t/all", "average", r"t/.*: a trained bias of head"),
    ],
)
def test_what_a_rule_cannot_do_is_refused_by_name(without_base: Blends, text: str, choice: str, match: str) -> None:
    with pytest.raises(UnsupportedAdapter, match=match):
        without_base.save(text, choice)


def test_a_choice_for_nothing_is_refused(blends: Blends) -> None:
    with pytest.raises(InvalidRecipe, match="modules_to_save: no input replaces"):
        blends.save("t/plain", "average")


def test_a_module_that_one_input_replaces_and_another_adapts_is_refused(
    blends: Blends, tmp_path: Path, base: Path
) -> None:
    adapts = loaded(save_trained(tmp_path / "adapts", 3, target_modules=["head"], r=2), base)
    blends.inputs |= by_digest(adapts=adapts)
    with pytest.raises(UnsupportedAdapter, match=r"t/saved@v1: modules_to_save \(head\).*as a linear"):
        blends.save("t/saved + t/adapts", "difference")


def test_without_a_choice_the_refusal_says_how_to_choose(folders: dict[str, Path]) -> None:
    for name in ("saved", "all"):
        with (
            (folders[name] / WEIGHTS_NAME).open("rb") as stream,
            pytest.raises(UnsupportedAdapter, match=r"--modules-to-save average, from=team/name, or difference"),
        ):
            load_adapter(stream, read_folder(folders[name]), subject="t/x@v1", file=weights_entry(folders[name]))


def test_a_bias_that_is_stored_twice_must_be_the_same(folders: dict[str, Path], tmp_path: Path, base: Path) -> None:
    tensors = load_file(folders["both"] / WEIGHTS_NAME)
    name = "base_model.model.head.modules_to_save.bias"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / CONFIG_NAME).write_text((folders["both"] / CONFIG_NAME).read_text())
    save_file(tensors | {name: tensors[name] + 1}, tmp_path / "a" / WEIGHTS_NAME)
    with pytest.raises(InvalidAdapter, match=r"head\.modules_to_save\.bias.*twice"):
        loaded(tmp_path / "a", base)
    tensors.pop("base_model.model.head.bias")
    save_file(tensors, tmp_path / "a" / WEIGHTS_NAME)
    with pytest.raises(InvalidAdapter, match=r"head\.(modules_to_save|original_module)\.bias.*doesn't have"):
        read_folder(tmp_path / "a")


def test_replacements_of_different_shapes_are_refused(blends: Blends) -> None:
    adapter = blends.inputs[digest("saved2")]
    items = tuple(replace(item, values=item.values[:2]) for item in adapter.replacements)
    blends.inputs[digest("saved2")] = replace(adapter, replacements=items)
    with pytest.raises(UnsupportedAdapter, match="have the shapes"):
        blends.save("t/saved + t/saved2", "average")


# -- heads that the base doesn't have ---------------------------------------------------------------------------------


def test_a_head_keeps_the_names_of_the_model_that_it_was_trained_in(
    folders: dict[str, Path], base: Path, tmp_path: Path
) -> None:
    """An adapter of a classifier says `model.q` where the plain model's says `q`; only the first has the head."""
    wrapped = tmp_path / "wrapped"
    wrapped.mkdir()
    tensors = load_file(folders["plain"] / WEIGHTS_NAME)
    renamed = {name.replace("base_model.model.", "base_model.model.model."): value for name, value in tensors.items()}
    save_file(renamed | {"base_model.model.score.weight": torch.ones(2, 6)}, wrapped / WEIGHTS_NAME)
    config = json.loads((folders["plain"] / CONFIG_NAME).read_text())
    (wrapped / CONFIG_NAME).write_text(json.dumps({**config, "modules_to_save": ["score"]}))
    inputs = by_digest(head=loaded(wrapped, base), plain=loaded(folders["plain"], base))
    result = compose(pinned("t/head + t/plain", "average"), inputs, device="cpu")
    assert {module.name for module in result.modules} == {"model.q", "model.conv1"}
    assert [(item.module, item.parameter) for item in result.replaced] == [("score", "weight")]
    with pytest.raises(UnsupportedAdapter, match=r"difference \(score.weight\).*isn't known"):
        compose(pinned("t/head + t/plain", "difference"), inputs, device="cpu")


# -- through the registry ---------------------------------------------------------------------------------------------


def test_the_choice_and_the_base_are_part_of_the_recipe(folders: dict[str, Path], base: Path, tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    ensure_schema(database, migrate=True)
    registry = Registry(database, FolderStore(tmp_path / "blobs"))
    try:
        fingerprint = index_base(base).fingerprint
        registry.add_base(BASE, index_base(base))
        for name in ("saved", "saved2"):
            registry.push_folder(folders[name], Submission(AdapterName.parse(f"t/{name}"), ()))
        recipe, into = parse("t/saved + t/saved2"), AdapterName.parse("t/blend")
        with pytest.raises(UnsupportedAdapter, match="--modules-to-save"):
            blend(registry, recipe, into, device="cpu")
        results = {}
        for choice in ("average", "difference", "from=t/saved"):
            chosen = recipe.with_replacements(Replacements.parse(choice))
            results[choice] = blend(registry, chosen, into, device="cpu", base=base)
        assert len({result.recipe.digest for result in results.values()}) == 3
        document = results["difference"].recipe.document()
        assert (document["modules_to_save"], document["base"]) == ("difference", fingerprint)
        assert "base" not in results["average"].recipe.document()
        again = blend(registry, Recipe.from_document(document), into, device="cpu", base=base)
        assert again.report is None and again.version == results["difference"].version
        other = Recipe.from_document({**document, "base": "0" * 64})
        with pytest.raises(BaseConflict, match="the recipe"):
            blend(registry, other, into, device="cpu", base=base)
    finally:
        registry.close()
