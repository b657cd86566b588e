"""LoHa and LoKr that PEFT itself trained and saved are composed as what PEFT adds to the base's weights."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from composition.adapter import LoadedAdapter
from composition.convert import convert
from composition.engine import compose
from composition.files import CONFIG_NAME, WEIGHTS_NAME, save_composition
from composition.inspect import inspect_weights
from composition.jobs import blend
from composition.merge_job import merge
from registry.domain.bases import match
from registry.domain.errors import InvalidAdapter, RankMismatch, UnsupportedAdapter
from registry.domain.expression import parse
from registry.domain.reference import AdapterName
from registry.formats.base_model import index_base
from registry.formats.peft import read_folder
from tests.composition.cases import Dense, assert_close, by_digest, load, pin
from tests.composition.kinds import BASE, deltas, layers, weighted
from tests.composition.models import read_tensors, world

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third parties' deprecations at import
    from peft import LoHaConfig, LoKrConfig, PeftConfig, get_peft_model

LINEAR = ["q", "head"]
LAYERS = [*LINEAR, "conv1", "conv2", "pointwise"]
SPREAD = {"rank_pattern": {"conv2": 1, "^q": 3}, "alpha_pattern": {"head": 7}}
KINDS: dict[str, PeftConfig] = {
    "loha": LoHaConfig(r=2, alpha=3, target_modules=LAYERS, **SPREAD),
    "loha-cores": LoHaConfig(r=2, alpha=5, target_modules=LAYERS, use_effective_conv2d=True),
    "lokr": LoKrConfig(r=1, alpha=3, target_modules=[*LINEAR, "conv2", "pointwise"], **SPREAD),
    "lokr-parts": LoKrConfig(r=1, alpha=2, target_modules=LINEAR, decompose_both=True, decompose_factor=3),
    "lokr-whole": LoKrConfig(r=4, alpha=6, target_modules=LINEAR, decompose_factor=2),
    "lokr-cores": LoKrConfig(r=1, alpha=3, target_modules=LAYERS, use_effective_conv2d=True, decompose_factor=1),
    "saved": LoHaConfig(r=2, alpha=3, target_modules=["q"], modules_to_save=["head"]),
}


def save(folder: Path, config: PeftConfig, seed: int) -> Path:
    """An adapter of random numbers, as PEFT saves it."""
    model = get_peft_model(layers().float(), config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no configuration of the base was found
        model.save_pretrained(str(folder))
    path = folder / CONFIG_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": BASE}))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {name: save(root / name, config, seed) for seed, (name, config) in enumerate(KINDS.items())}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    save_file({name: tensor.float() for name, tensor in layers().state_dict().items()}, folder / "model.safetensors")
    return folder


def test_every_tensor_is_accounted_for_and_the_base_tells_the_kernels(folders: dict[str, Path], base: Path) -> None:
    index, weights = index_base(base), layers().state_dict()
    for name, folder in folders.items():
        spec = match(read_folder(folder), index, base=BASE)
        assert spec.summary.peft_type == type(KINDS[name]).__name__.removesuffix("Config").upper()
        named = [tensor for module in spec.modules for tensor in module.tensors.values()]
        assert sorted(named) == sorted(load_file(folder / WEIGHTS_NAME))
        for module in spec.modules:
            assert module.base_shape == weights[f"{module.name}.weight"].shape or module.kind == "saved"


@pytest.fixture(scope="module")
def inputs(folders: dict[str, Path], base: Path) -> dict[str, LoadedAdapter]:
    index = index_base(base)
    return by_digest(**{name: load(folder, index) for name, folder in folders.items() if name != "saved"})


@pytest.mark.parametrize("name", [name for name in KINDS if name != "saved"])
def test_one_adapter_is_the_delta_that_peft_adds(
    folders: dict[str, Path], inputs: dict[str, LoadedAdapter], name: str, tmp_path: Path
) -> None:
    assert_close(composed(f"t/{name}", inputs, tmp_path), deltas(folders[name]), 1e-6)


def composed(text: str, inputs: dict[str, LoadedAdapter], folder: Path) -> Dense:
    """What PEFT adds to the base with the LoRA that an expression gives."""
    save_composition(compose(pin(text), inputs, device="cpu"), folder)
    return deltas(folder)


def test_sums_of_all_of_them_are_the_dense_sum(
    folders: dict[str, Path], inputs: dict[str, LoadedAdapter], tmp_path: Path
) -> None:
    weights = {"loha": 0.7, "lokr": -1.3, "loha-cores": 0.5, "lokr-whole": 1.0}
    text = "0.7*t/loha - 1.3*t/lokr + 0.5*t/loha-cores + t/lokr-whole"
    assert_close(composed(text, inputs, tmp_path), weighted(folders, weights), 1e-6)


def test_pushed_blended_and_merged_they_are_what_peft_merges(folders: dict[str, Path], tmp_path: Path) -> None:
    tensors = {name: tensor.float() for name, tensor in layers().state_dict().items()}
    with world(tmp_path, tensors) as made:
        made.registry.add_base(BASE, index_base(made.base))
        for name in ("loha", "lokr-cores"):
            made.push(f"t/{name}", folders[name])
        recipe = parse("t/loha + 0.5*t/lokr-cores")
        result = blend(made.registry, recipe, AdapterName.parse("t/both"), device="cpu")
        assert result.version is not None and result.version.summary.peft_type == "LORA"
        merge(made.registry, recipe, base=made.base, out=tmp_path / "out", device="cpu")
    after = read_tensors(tmp_path / "out")
    found = {name: after[name].double() - before.double() for name, before in tensors.items()}
    wanted = weighted(folders, {"loha": 1, "lokr-cores": 0.5})
    assert_close({name: delta for name, delta in found.items() if delta.any()}, wanted, 1e-5)


@pytest.mark.parametrize("name", ["loha", "lokr-whole", "lokr-cores"])
def test_converted_to_lora_and_inspected_they_have_the_same_delta(
    folders: dict[str, Path], base: Path, name: str, tmp_path: Path
) -> None:
    wanted = deltas(folders[name])
    convert(folders[name], tmp_path / "out", "peft", base=base)
    assert_close(deltas(tmp_path / "out"), wanted, 1e-6)
    norms = {f"{module.module}.weight": module.norm for module in inspect_weights(folders[name]).modules}
    assert norms == {key: pytest.approx(float(delta.norm()), rel=1e-6) for key, delta in wanted.items()}


def test_without_the_base_nobody_knows_what_is_a_convolution(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedAdapter, match=r"LOHA .*which layers are convolutions.*--base"):
        convert(folders["loha"], tmp_path / "out", "peft")
    with pytest.raises(UnsupportedAdapter, match=r"loha in the module .*register it"):
        load(folders["loha"])


def changed(folder: Path, out: Path, tensors: Any = None, **config: Any) -> Path:
    out.mkdir()
    held = {**load_file(folder / WEIGHTS_NAME), **(tensors or {})}
    save_file({name: tensor for name, tensor in held.items() if tensor is not None}, out / WEIGHTS_NAME)
    (out / CONFIG_NAME).write_text(json.dumps({**json.loads((folder / CONFIG_NAME).read_text()), **config}))
    return out


Q = "base_model.model.q."
REFUSALS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "another rank": ({"r": 5}, RankMismatch, "hada_w"),
    "a key of LoRA": ({"use_dora": True}, UnsupportedAdapter, "use_dora"),
    "no alpha": ({"alpha": None}, InvalidAdapter, "lora_alpha"),
    "a factor of LoRA": ({"tensors": {f"{Q}lora_A.weight": torch.ones(2, 6)}}, InvalidAdapter, "no factor of LOHA"),
    "a factor of LoKr": ({"tensors": {f"{Q}lokr_w1": torch.ones(2, 2)}}, InvalidAdapter, "two kinds"),
    "a missing factor": ({"tensors": {f"{Q}hada_w2_b": None}}, InvalidAdapter, "hada_w2_b"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_does_not_fit_together_is_refused_by_name(folders: dict[str, Path], case: str, tmp_path: Path) -> None:
    config, error, text = REFUSALS[case]
    with pytest.raises(error, match=text):
        read_folder(changed(folders["saved"], tmp_path / "a", **config))


def test_a_lokr_that_peft_multiplies_along_the_wrong_axes_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", LoKrConfig(r=4, target_modules=["conv1"]), 1)
    with pytest.raises(UnsupportedAdapter, match="1-D convolution with a whole w2"):
        read_folder(folder)


def test_modules_saved_whole_beside_a_loha_need_a_choice(folders: dict[str, Path]) -> None:
    with pytest.raises(UnsupportedAdapter, match="modules_to_save"):
        load(folders["saved"])
