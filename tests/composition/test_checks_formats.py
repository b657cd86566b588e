"""inspect and verify-merge read what convert reads: kohya's, LyCORIS's and diffusers' files, and PEFT's folders.

The golden files and their deltas come from the peers' own code.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from composition.convert import convert
from composition.engine import silent
from composition.inspect import inspect_weights
from composition.verify_merge import FAULT, MATCHES, Verdict, verify_merge
from registry.domain.errors import InvalidAdapter
from tests.composition.models import Tensors

GOLDEN = Path(__file__).parents[1] / "golden"
WRITTEN = ("diffusers", "lycoris-lora", "lycoris-loha", "lycoris-lokr")
FILES = {"unet": "diffusion_pytorch_model.safetensors", "text_encoder": "model.safetensors"}


def computed(name: str) -> Tensors:
    """The deltas that the peer computes {component.module.weight: delta}."""
    return load_file(GOLDEN / f"{name}.deltas.safetensors")


def pipeline(folder: Path, deltas: Tensors, factor: float, dtype: torch.dtype = torch.bfloat16) -> Path:
    """A pipeline of diffusers' whose weights are random, with so many times the deltas on top."""
    generator = torch.Generator().manual_seed(5)
    parts: dict[str, Tensors] = {}
    for name, delta in sorted(deltas.items()):
        component, _, path = name.partition(".")
        base = torch.randn(delta.shape, generator=generator).to(dtype)
        parts.setdefault(component, {})[path] = (base.float() + factor * delta.float()).to(dtype) if factor else base
    for component, tensors in parts.items():
        (folder / component).mkdir(parents=True)
        save_file({**tensors, "conv_out.weight": torch.ones(3)}, folder / component / FILES[component])
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return folder


def verify(root: Path, adapter: Path, deltas: Tensors, factor: float) -> Verdict:
    base, merged = pipeline(root / "base", deltas, 0.0), pipeline(root / "merged", deltas, factor)
    return verify_merge(merged, base=base, adapter=adapter, progress=silent)


@pytest.mark.parametrize("name", WRITTEN)
def test_norms_are_those_of_the_deltas_that_the_peer_computes(name: str) -> None:
    statistics, deltas = inspect_weights(GOLDEN / f"{name}.safetensors"), computed(name)
    assert {f"{module.module}.weight" for module in statistics.modules} == deltas.keys()
    for module in statistics.modules:
        delta = deltas[f"{module.module}.weight"].double().flatten(1)
        assert module.norm == pytest.approx(float(delta.norm()), rel=1e-6)
        assert module.singular[0] == pytest.approx(float(torch.linalg.svdvals(delta)[0]), rel=1e-6)
        assert module.numerical_rank == int(torch.linalg.matrix_rank(delta, rtol=1e-5))
    assert not statistics.whole and not statistics.findings  # a layer's alpha is no weight


@pytest.mark.parametrize("name", WRITTEN)
def test_a_merge_of_what_the_peer_computes_matches(name: str, tmp_path: Path) -> None:
    deltas = computed(name)
    verdict = verify(tmp_path, GOLDEN / f"{name}.safetensors", deltas, 1.0)
    assert verdict.verdict == MATCHES, verdict.document()
    assert len(verdict.checks) == len(deltas)
    assert verdict.untouched == len({key.partition(".")[0] for key in deltas})


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize(("factor", "fault"), [(0.0, "not_applied"), (-1.0, "sign_flipped"), (2.0, "applied_twice")])
def test_faults_are_named_in_every_format(name: str, factor: float, fault: str, tmp_path: Path) -> None:
    verdict = verify(tmp_path, GOLDEN / f"{name}.safetensors", computed(name), factor)
    assert verdict.verdict == FAULT
    assert max(verdict.faults, key=lambda found: verdict.faults[found]) == fault


@pytest.mark.parametrize("target", ["kohya", "peft"])
def test_the_same_adapter_in_another_format_is_read_alike(target: str, tmp_path: Path) -> None:
    source = GOLDEN / "diffusers.safetensors"
    out = tmp_path / ("out" if target == "peft" else "out.safetensors")
    convert(source, out, target)
    if target == "peft":
        assert {path.name for path in out.iterdir()} == {"unet", "text_encoder"}
    before, after = (sorted(module.norm or 0 for module in inspect_weights(path).modules) for path in (source, out))
    assert after == pytest.approx(before, rel=1e-6)
    deltas = computed("diffusers")
    if target == "kohya":  # it has the names of before transformers 5, as the published bases do
        deltas = {name.replace("r.encoder.", "r.text_model.encoder."): delta for name, delta in deltas.items()}
    assert verify(tmp_path, out, deltas, 1.0).verdict == MATCHES


def test_a_dead_and_a_broken_layer_of_a_kohya_file_are_found(tmp_path: Path) -> None:
    tensors = load_file(GOLDEN / "lycoris-lora.safetensors")
    first, second, *_ = (name for name in tensors if name.endswith("lora_up.weight"))
    tensors[first].zero_()
    tensors[second][0] = torch.nan
    save_file(tensors, tmp_path / "k.safetensors", {"ss_network_module": "lycoris.kohya"})
    broken, dead = inspect_weights(tmp_path / "k.safetensors").findings
    assert "NaN" in broken and "no effect" in dead


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(InvalidAdapter):
        inspect_weights(tmp_path)
