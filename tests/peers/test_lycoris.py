"""Files that LyCORIS writes through its entry point for sd-scripts: we read them, and give the deltas it computes."""

import warnings
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from composition.adapter_source import read_adapter
from composition.base_weights import BaseWeights
from composition.files import load_adapter
from registry.domain.bases import match
from registry.domain.records import FileEntry
from registry.formats.base_model import index_base
from registry.formats.folder import read_path

pytest.importorskip("lycoris", reason="`make test-peers` installs it in an environment of its own")
pytest.importorskip("diffusers", reason="`make test-peers` installs it in an environment of its own")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third parties' deprecations at import
    from lycoris.kohya import create_network

    from tests.peers.image_models import Deltas, text_encoder, unet

pytestmark = pytest.mark.filterwarnings("default")  # the peers' own warnings are not ours to mend

ALGORITHMS: dict[str, dict[str, Any]] = {
    "LoCon": {"algo": "lora"},
    "LoHa": {"algo": "loha"},
    "LoKr": {"algo": "lokr", "factor": 2},
    "LoKr, both decomposed": {"algo": "lokr", "factor": 2, "decompose_both": True},
    "LoKr, whole": {"algo": "lokr", "factor": 2, "full_matrix": True},
    "LoCon, Tucker": {"algo": "lora", "use_tucker": True},
    "LoHa, Tucker": {"algo": "loha", "use_tucker": True},
    "LoKr, Tucker": {"algo": "lokr", "factor": 2, "use_tucker": True},
}
DORA = [{"algo": algorithm, "wd_on_output": on_output} for algorithm in ("lora", "loha") for on_output in (True, False)]
# LyCORIS 4.1.3's own preset `full` takes the time embedding of a U-Net twice, and stops.
PRESET = """
enable_conv = true
unet_target_module = ["Transformer2DModel", "ResnetBlock2D"]
unet_target_name = []
text_encoder_target_module = ["CLIPAttention", "CLIPMLP"]
"""


def network(folder: Path, **options: Any) -> Any:
    """What `--network_module lycoris.kohya` makes, on a small U-Net and its text encoder, with random factors."""
    torch.manual_seed(5)
    (folder / "preset.toml").write_text(PRESET)
    models = text_encoder(), unet()
    preset = str(folder / "preset.toml")
    made = create_network(1.0, 2, 3.0, None, *models, conv_dim=2, conv_alpha=1.0, preset=preset, **options)
    made.apply_to(*models, True, True)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def computed(made: Any) -> Deltas:
    """What LyCORIS adds to each weight in its forward pass, by the name that it has for the layer: (out, all others).

    In 4.1.3 `get_diff_weight`, which merges, multiplies a LoHa by alpha / rank twice; what was trained is `get_weight`.
    """
    with torch.no_grad():
        return {
            layer.lora_name: (
                layer.get_weight(layer.shape) if hasattr(layer, "get_weight") else layer.get_diff_weight()[0]
            ).flatten(1)
            for layer in (*made.unet_loras, *made.text_encoder_loras)
        }


def flat(name: str) -> str:
    """What LyCORIS calls a layer on transformers 5, whose CLIP has no `text_model` any more."""
    component, _, path = name.partition(".")
    prefix = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[component]
    return prefix + path.removeprefix("text_model.").replace(".", "_")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_file_of_lycoris_gives_the_deltas_that_lycoris_computes(algorithm: str, tmp_path: Path) -> None:
    made = network(tmp_path, **ALGORITHMS[algorithm])
    made.save_weights(str(tmp_path / "theirs.safetensors"), torch.float32, {"ss_network_module": "lycoris.kohya"})
    wanted = computed(made)
    read = {flat(layer.name): layer for layer in read_adapter(tmp_path / "theirs.safetensors").layers}
    assert read.keys() == wanted.keys()
    assert len(wanted) > 80
    for name, delta in wanted.items():
        layer = read[name]
        ours = layer.scaling * (layer.B.double().flatten(1) @ layer.A.double().flatten(1))
        assert float((ours - delta).norm()) <= 2e-6 * float(delta.norm()), name
        assert delta.any(), name


@pytest.mark.parametrize("options", DORA, ids=lambda options: "-".join(map(str, options.values())))
def test_dora_of_lycoris_is_what_lycoris_merges_given_the_base(options: dict[str, Any], tmp_path: Path) -> None:
    made = network(tmp_path, **options, dora_wd=True)
    file, base = tmp_path / "theirs.safetensors", tmp_path / "base"
    made.save_weights(str(file), torch.float32, {})
    tensors = {name: tensor for name, tensor in load_file(file).items() if name.startswith("lora_unet_")}
    save_file(tensors, file)
    base.mkdir()
    torch.manual_seed(5)  # as `network` has made them
    _, model = text_encoder(), unet()
    save_file({f"unet.{name}": tensor for name, tensor in model.state_dict().items()}, base / "model.safetensors")
    spec = match(read_path(file).spec, index_base(base), base="base")
    entry = FileEntry(file.name, sha256(file.read_bytes()).hexdigest(), file.stat().st_size)
    with file.open("rb") as stream:
        ours = load_adapter(stream, spec, subject="t/dora@v1", file=entry, base=BaseWeights(base))
    found = {flat(module.name): module.true_delta.dense() for module in ours.modules}
    assert len(found) > 50 and found.keys() == {layer.lora_name for layer in made.unet_loras}
    for layer in made.unet_loras:
        with torch.no_grad():
            before = layer.org_module[0].weight
            wanted = (merged(layer, before) - before).double().flatten(1)
        assert float((found[layer.lora_name] - wanted).norm()) <= 1e-5 * float(wanted.norm()), layer.lora_name


def merged(layer: Any, weight: torch.Tensor) -> torch.Tensor:
    """The weight that LyCORIS computes with in its forward pass."""
    delta = layer.get_weight(layer.shape) if hasattr(layer, "get_weight") else layer.get_diff_weight()[0]
    moved: torch.Tensor = layer.apply_weight_decompose(weight + delta)
    return moved
