"""kohya's, LyCORIS's and diffusers' files are composed as what the peers that wrote them compute."""

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from composition.adapter import LoadedAdapter, LoadedModule
from composition.convert import convert
from composition.engine import compose
from composition.files import load_adapter, save_composition
from composition.jobs import blend
from composition.low_rank import LowRank
from registry.blobs.filesystem import FolderStore
from registry.domain.errors import DigestMismatch, UnsupportedAdapter
from registry.domain.expression import parse
from registry.domain.records import FileEntry
from registry.domain.reference import AdapterName, Reference
from registry.domain.spec import AdapterSpec
from registry.formats.folder import read_path
from registry.service import Registry
from registry.service.publishing import Submission
from registry.sql.engine import Database
from registry.sql.schema import ensure_schema
from tests.composition.cases import Dense, assert_close, by_digest, pin, random_adapter

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third parties' deprecations at import
    from peft import PeftModel

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = {"lora": "lycoris-lora", "loha": "lycoris-loha", "lokr": "lycoris-lokr", "diff": "diffusers"}


def loaded(path: Path, data: bytes | None = None) -> LoadedAdapter:
    data = path.read_bytes() if data is None else data
    entry = FileEntry(path.name, sha256(data).hexdigest(), len(data))
    with path.open("rb") as stream:
        return load_adapter(stream, spec_of(path), subject=f"t/{path.stem}@v1", file=entry)


def spec_of(path: Path) -> AdapterSpec:
    return read_path(path.parent if path.name == "adapter_model.safetensors" else path).spec


@pytest.fixture(scope="module")
def inputs() -> dict[str, LoadedAdapter]:
    return by_digest(**{name: loaded(GOLDEN / f"{file}.safetensors") for name, file in FILES.items()})


def peers(name: str) -> Dense:
    """The deltas that the peer computed, under the names that files use."""
    tensors = load_file(GOLDEN / f"{FILES[name]}.deltas.safetensors")
    return {key.replace("r.encoder.", "r.text_model.encoder."): delta.double() for key, delta in tensors.items()}


def summed(weights: dict[str, float]) -> Dense:
    total: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        for key, delta in peers(name).items():
            total[key] = total.get(key, torch.zeros_like(delta)) + weight * delta
    return total


def written(text: str, inputs: dict[str, LoadedAdapter], folder: Path) -> Path:
    folder.mkdir()
    save_composition(compose(pin(text), inputs, device="cpu"), folder)
    return folder


def of_peft(folder: Path, like: Dense, tmp_path: Path) -> Dense:
    """What PEFT merges of a result, converted to its folders, into zeros {tensor: delta}."""
    convert(folder, tmp_path / "peft", "peft")
    found: dict[str, torch.Tensor] = {}
    for config in (tmp_path / "peft").rglob("adapter_config.json"):
        component = "" if config.parent == tmp_path / "peft" else f"{config.parent.name}."
        prefix = component or f"{next(iter(like)).partition('.')[0]}."
        shapes = {key.removeprefix(prefix): delta.shape for key, delta in like.items() if key.startswith(prefix)}
        model = PeftModel.from_pretrained(zeros(shapes), str(config.parent)).double()
        merged = model.merge_and_unload().state_dict()
        found |= {f"{prefix}{key}": value for key, value in merged.items()}
    return found


def zeros(shapes: dict[str, torch.Size]) -> nn.Module:
    """A model of linear layers and convolutions without a bias, all zero {parameter: shape}."""
    root = nn.Module()
    for name, shape in shapes.items():
        *path, last, _ = name.split(".")
        holder = root
        for part in path:
            if part not in dict(holder.named_children()):
                holder.add_module(part, nn.Module())
            holder = getattr(holder, part)
        out, inside, *kernel = shape
        made = nn.Conv2d(inside, out, tuple(kernel), bias=False) if kernel else nn.Linear(inside, out, bias=False)
        nn.init.zeros_(made.weight)
        holder.add_module(last, made)
    return root


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("t/loha", {"loha": 1}),
        ("t/lokr", {"lokr": 1}),
        ("0.7*t/lora - 1.3*t/loha", {"lora": 0.7, "loha": -1.3}),
        ("lerp(t/lokr, t/loha, t=0.25)", {"lokr": 0.75, "loha": 0.25}),
        ("t/lora + 0.5*t/diff", {"lora": 1, "diff": 0.5}),
        ("t/diff + t/lora - t/loha + 2*t/lokr", {"diff": 1, "lora": 1, "loha": -1, "lokr": 2}),
    ],
)
def test_peft_computes_from_the_result_the_sum_of_what_the_peers_compute(
    inputs: dict[str, LoadedAdapter], tmp_path: Path, text: str, weights: dict[str, float]
) -> None:
    wanted = summed(weights)
    assert_close(of_peft(written(text, inputs, tmp_path / "out"), wanted, tmp_path), wanted, 2e-6)


def test_the_result_is_a_file_of_diffusers_that_needs_no_alpha_and_is_read_again(
    inputs: dict[str, LoadedAdapter], tmp_path: Path
) -> None:
    folder = written("t/diff + t/loha", inputs, tmp_path / "out")
    assert [path.name for path in folder.iterdir()] == ["pytorch_lora_weights.safetensors"]
    names = load_file(folder / "pytorch_lora_weights.safetensors").keys()
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in names)
    assert {name.partition(".")[0] for name in names} == {"unet", "text_encoder"}
    again = by_digest(again=loaded(folder / "pytorch_lora_weights.safetensors"))
    wanted = summed({"diff": 1, "loha": 1})
    assert_close(of_peft(written("t/again", again, tmp_path / "two"), wanted, tmp_path), wanted, 2e-6)


def test_a_peft_folder_of_a_known_component_is_added_to_such_a_file(tmp_path: Path) -> None:
    """PEFT says `mid_block…` where kohya says `unet.mid_block…`: the base that both are matched with tells."""
    convert(GOLDEN / "lycoris-loha.safetensors", tmp_path / "folder", "peft")
    one, other = GOLDEN / "lycoris-lora.safetensors", tmp_path / "folder" / "adapter_model.safetensors"
    matched = {"lora": with_base(loaded(one), ""), "loha": with_base(loaded(other), "unet.")}
    wanted = summed({"lora": 1, "loha": -2})
    out = written("t/lora - 2*t/loha", by_digest(**matched), tmp_path / "out")
    assert_close(of_peft(out, wanted, tmp_path), wanted, 2e-6)


def with_base(adapter: LoadedAdapter, component: str) -> LoadedAdapter:
    """An adapter as it is once its version was matched with a base of several components."""
    names = {module.name: f"{component}{module.name}".replace("unet.", "unet/", 1) for module in adapter.modules}
    modules = tuple(replace(module, base_tensor=f"{names[module.name]}.weight") for module in adapter.modules)
    return replace(adapter, modules=modules)


def test_loha_and_lokr_have_the_ranks_that_their_forms_imply(inputs: dict[str, LoadedAdapter]) -> None:
    loha = next(adapter for adapter in inputs.values() if "loha" in adapter.subject)
    conv = loha.by_key["unet.mid_block.resnets.0.conv1"]
    assert (conv.delta.rank, conv.delta.shape, conv.form.kernel) == (4, (8, 72), (3, 3))


def test_a_product_of_more_ranks_than_its_matrix_has_is_stored_at_the_matrix_rank(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    prefix = "lora_unet_mid_block_attentions_0_proj_in"
    shapes = {"hada_w1_a": (6, 4), "hada_w1_b": (4, 5), "hada_w2_a": (6, 4), "hada_w2_b": (4, 5)}
    tensors = {f"{prefix}.{role}": torch.randn(shape, generator=generator) for role, shape in shapes.items()}
    save_file(tensors, tmp_path / "a.safetensors")
    (module,) = loaded(tmp_path / "a.safetensors").modules
    a1, b1, a2, b2 = (tensors[f"{prefix}.{role}"].double() for role in shapes)
    assert module.delta.rank == 5
    assert torch.allclose(module.delta.dense(), (a1 @ b1) * (a2 @ b2), rtol=1e-6, atol=1e-6)


def test_fluxs_fused_layers_meet_those_that_diffusers_keeps_apart(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    down, up = torch.randn(2, 8, generator=generator), torch.randn(24, 2, generator=generator)
    fused = {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": down}
    save_file(fused | {"lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": up}, tmp_path / "bfl.safetensors")
    name = "transformer.transformer_blocks.0.attn.to_k"
    a, b = torch.randn(3, 8, generator=generator), torch.randn(8, 3, generator=generator)
    save_file({f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}, tmp_path / "apart.safetensors")
    inputs = by_digest(bfl=loaded(tmp_path / "bfl.safetensors"), apart=loaded(tmp_path / "apart.safetensors"))
    result = {module.name: module.delta for module in compose(pin("t/bfl - t/apart"), inputs, device="cpu").modules}
    wanted = (up.double() @ down.double()).chunk(3)
    assert sorted(result) == [f"transformer.transformer_blocks.0.attn.to_{part}" for part in "kqv"]
    assert torch.allclose(result[name].dense(), wanted[1] - b.double() @ a.double(), atol=1e-6)
    assert torch.allclose(result[name.replace("to_k", "to_v")].dense(), wanted[2], atol=1e-6)


def test_a_truncation_and_a_method_see_the_true_delta(inputs: dict[str, LoadedAdapter]) -> None:
    for text in ("truncate(t/loha + t/lokr, rank=2)", "ties(t/lora, t/loha, rank=2)"):
        plain = {
            digest: LoadedAdapter(
                adapter.subject,
                adapter.summary,
                tuple(LoadedModule(m.name, None, exact(m.delta), m.form) for m in adapter.modules),
            )
            for digest, adapter in inputs.items()
        }
        found, wanted = (compose(pin(text), given, device="cpu") for given in (inputs, plain))
        for one, other in zip(found.modules, wanted.modules, strict=True):
            assert torch.allclose(one.delta.dense(), other.delta.dense(), rtol=1e-4, atol=1e-5)


def exact(delta: LowRank) -> LowRank:
    """The same delta by its singular vectors."""
    left, values, right = torch.linalg.svd(delta.dense(), full_matrices=False)
    return LowRank(right.float(), (left * values).float())


# -- what is refused --------------------------------------------------------------------------------------------------


def test_an_input_whose_modules_have_no_component_is_refused(inputs: dict[str, LoadedAdapter]) -> None:
    both = inputs | by_digest(plain=random_adapter("plain"))
    with pytest.raises(UnsupportedAdapter, match=r"the module layers\.0\.q is .*isn't known"):
        compose(pin("t/loha + t/plain"), both, device="cpu")


def test_magnitudes_of_such_files_are_refused_without_the_base(tmp_path: Path) -> None:
    tensors = load_file(GOLDEN / "lycoris-lora.safetensors")
    tensors["lora_unet_mid_block_attentions_0_proj_in.dora_scale"] = torch.ones(8, 1, 1, 1)
    save_file(tensors, tmp_path / "dora.safetensors")
    with pytest.raises(UnsupportedAdapter, match=r"t/dora@v1: dora.*--base DIR"):
        loaded(tmp_path / "dora.safetensors")


def test_damaged_bytes_are_told_before_anything_else() -> None:
    with pytest.raises(DigestMismatch):
        loaded(GOLDEN / "lycoris-loha.safetensors", b"other")


# -- through the registry ---------------------------------------------------------------------------------------------


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    ensure_schema(database, migrate=True)
    registry = Registry(database, FolderStore(tmp_path / "blobs"))
    for name, file in FILES.items():
        folder = tmp_path / name
        folder.mkdir()
        tensors = load_file(GOLDEN / f"{file}.safetensors")
        save_file(tensors, folder / f"{file}.safetensors", {"ss_sd_model_name": "toys/unet"})
        registry.push_folder(folder, Submission(AdapterName.parse(f"t/{name}"), ()))
    yield registry
    registry.close()


def test_blend_publishes_what_pull_and_another_blend_read(registry: Registry, tmp_path: Path) -> None:
    first = blend(registry, parse("t/loha + t/lokr"), AdapterName.parse("t/both"), device="cpu")
    assert first.version and first.version.summary.format == "diffusers"
    assert first.version.summary.base_name == "toys/unet"
    second = blend(registry, parse("t/both - t/lokr"), AdapterName.parse("t/back"), device="cpu")
    assert second.version
    pulled = registry.pull(registry.find_version(Reference.parse("t/back")), tmp_path / "pulled").folder
    assert "library_name: diffusers" in (pulled / "README.md").read_text()
    assert json.loads((pulled / "composition.json").read_text())["expression"] == "t/both - t/lokr"
    assert_close(of_peft(pulled, peers("loha"), tmp_path), peers("loha"), 2e-6)
