"""Converting keeps every delta: against what peers compute themselves, from format to format and back."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from composition.adapter_source import read_adapter
from composition.convert import convert
from composition.layers import Layer, join_rows, loha_factors, lokr_factors, split_rows, with_scaling
from registry.domain.errors import InvalidAdapter, UnsupportedAdapter, WrongUsage
from registry.formats.folder import read_path
from tests.factories import EXAMPLES

GOLDEN = Path(__file__).parents[1] / "golden"
WRITTEN = ("diffusers", "lycoris-lora", "lycoris-loha", "lycoris-lokr")
Dense = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def dense(layer: Layer) -> torch.Tensor:
    return layer.scaling * (layer.B.double().flatten(1) @ layer.A.double().flatten(1))


def deltas(path: Path) -> Dense:
    return {layer.name: dense(layer) for layer in read_adapter(path).layers}


def assert_same(found: Dense, wanted: Dense, tolerance: float = 1e-7) -> None:
    """Relative to each layer's norm."""
    assert found.keys() == wanted.keys()
    for name, delta in wanted.items():
        assert float((found[name] - delta).norm()) <= tolerance * float(delta.norm()), name


@pytest.mark.parametrize("name", WRITTEN)
def test_the_deltas_are_those_that_the_peer_computes(name: str) -> None:
    computed = load_file(GOLDEN / f"{name}.deltas.safetensors")
    wanted = {key.removesuffix(".weight"): delta.double().flatten(1) for key, delta in computed.items()}
    assert all(float(delta.norm()) > 0.1 for delta in wanted.values())
    assert_same(deltas(GOLDEN / f"{name}.safetensors"), wanted, 2e-6)  # float32 sums on their side


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("target", ["peft", "kohya", "diffusers"])
def test_every_target_holds_the_same_deltas(name: str, target: str, tmp_path: Path) -> None:
    out = tmp_path / ("out" if target == "peft" else "out.safetensors")
    convert(GOLDEN / f"{name}.safetensors", out, target)
    before = deltas(GOLDEN / f"{name}.safetensors")
    if target == "peft" and name != "diffusers":  # one component, whose name PEFT's folder doesn't say
        before = {key.removeprefix("unet."): delta for key, delta in before.items()}
    if target != "peft":  # transformers 5 leaves out what every file has
        before = {key.replace("r.encoder.", "r.text_model.encoder."): delta for key, delta in before.items()}
    assert_same(deltas(out), before)


def unet_adapter(folder: Path, dtype: torch.dtype = torch.float32, **config: Any) -> Path:
    """A PEFT adapter of a U-Net with two ranks, saved as PEFT saves it."""
    generator = torch.Generator().manual_seed(3)
    shapes = {"mid_block.attentions.0.proj_in": (2, 6, 8), "down_blocks.0.resnets.0.time_emb_proj": (3, 5, 4)}
    tensors = {}
    for name, (rank, inside, out) in shapes.items():
        prefix = f"base_model.model.{name}"
        tensors[f"{prefix}.lora_A.weight"] = torch.randn(rank, inside, generator=generator).to(dtype)
        tensors[f"{prefix}.lora_B.weight"] = torch.randn(out, rank, generator=generator).to(dtype)
    folder.mkdir()
    document = {"peft_type": "LORA", "r": 2, "lora_alpha": 3, "rank_pattern": {"time_emb_proj": 3}, **config}
    (folder / "adapter_config.json").write_text(json.dumps(document))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize("target", ["kohya", "diffusers"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rslora", [False, True])
def test_there_and_back_changes_no_delta(target: str, dtype: torch.dtype, rslora: bool, tmp_path: Path) -> None:
    source = unet_adapter(tmp_path / "peft", dtype, use_rslora=rslora, alpha_pattern={"proj_in": 5.0})
    convert(source, tmp_path / "there.safetensors", target)
    convert(tmp_path / "there.safetensors", tmp_path / "back", "peft")
    assert_same(deltas(tmp_path / "back"), deltas(source))


def test_a_kohya_file_has_the_keys_that_sd_scripts_expects(tmp_path: Path) -> None:
    source = unet_adapter(tmp_path / "peft", torch.bfloat16, base_model_name_or_path="org/sd15")
    convert(source, tmp_path / "k.safetensors", "kohya")
    found = load_file(tmp_path / "k.safetensors")
    layers = ("lora_unet_mid_block_attentions_0_proj_in", "lora_unet_down_blocks_0_resnets_0_time_emb_proj")
    suffixes = ("lora_down.weight", "lora_up.weight", "alpha")
    assert found.keys() == {f"{layer}.{suffix}" for layer in layers for suffix in suffixes}
    assert {float(found[f"{layer}.alpha"]) for layer in layers} == {3.0}
    assert found[f"{layers[0]}.lora_down.weight"].dtype == torch.bfloat16
    with safe_open(tmp_path / "k.safetensors", "pt") as file:
        noted = file.metadata()
    assert noted["ss_sd_model_name"] == "org/sd15"
    assert (noted["ss_network_dim"], noted["ss_network_alpha"]) == ("Dynamic", "3")
    assert noted["modelspec.architecture"] == "stable-diffusion-v1/lora"


def test_what_the_trainer_noted_travels_without_what_was_about_its_file(tmp_path: Path) -> None:
    convert(unet_adapter(tmp_path / "peft"), tmp_path / "k.safetensors", "kohya")
    tensors = load_file(tmp_path / "k.safetensors")
    save_file(
        tensors, tmp_path / "k.safetensors", {"ss_tag_frequency": "{}", "sshs_model_hash": "12", "ss_network_dim": "7"}
    )
    convert(tmp_path / "k.safetensors", tmp_path / "d.safetensors", "diffusers")
    with safe_open(tmp_path / "d.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "ss_tag_frequency": "{}"}


def test_a_scaling_is_folded_for_diffusers_and_halves_stay_halves_where_nothing_is_rounded(tmp_path: Path) -> None:
    for alpha, dtype in ((4, torch.float16), (3, torch.float32)):
        source = unet_adapter(
            tmp_path / f"peft{alpha}", torch.float16, lora_alpha=alpha, rank_pattern={"time_emb_proj": 3}
        )
        done = convert(source, tmp_path / f"{alpha}.safetensors", "diffusers")
        found = load_file(tmp_path / f"{alpha}.safetensors")
        assert found["unet.mid_block.attentions.0.proj_in.lora_B.weight"].dtype == dtype
        assert found["unet.mid_block.attentions.0.proj_in.lora_A.weight"].dtype == torch.float16
        assert done.widened == {4: 1, 3: 1}[alpha]


def test_several_components_become_one_folder_each_and_come_back(tmp_path: Path) -> None:
    done = convert(GOLDEN / "diffusers.safetensors", tmp_path / "peft", "peft")
    assert {path.parent.name for path in done.files} == {"unet", "text_encoder"}
    convert(tmp_path / "peft", tmp_path / "back.safetensors", "diffusers")
    wanted = deltas(GOLDEN / "diffusers.safetensors")
    found = {key.replace(".text_model.", "."): delta for key, delta in deltas(tmp_path / "back.safetensors").items()}
    assert_same(found, wanted)


@pytest.mark.parametrize("target", ["peft", "kohya", "diffusers"])
def test_the_same_adapter_gives_the_same_bytes(target: str, tmp_path: Path) -> None:
    files = []
    for number in range(2):
        out = tmp_path / (f"out{number}" if target == "peft" else f"{number}.safetensors")
        done = convert(GOLDEN / "lycoris-loha.safetensors", out, target)
        files.append([path.read_bytes() for path in done.files])
    assert files[0] == files[1]


def test_a_peft_folder_says_each_scaling_without_rslora(tmp_path: Path) -> None:
    spec = read_path(unet_adapter(tmp_path / "a", use_rslora=True)).spec
    convert(tmp_path / "a", tmp_path / "b", "peft")
    again = read_path(tmp_path / "b").spec
    assert [(m.name, m.rank) for m in again.modules] == [(m.name, m.rank) for m in spec.modules]
    assert [m.scaling for m in again.modules] == pytest.approx([m.scaling for m in spec.modules], rel=1e-15)
    assert not json.loads((tmp_path / "b" / "adapter_config.json").read_text())["use_rslora"]


# -- Flux -------------------------------------------------------------------------------------------------------------


def flux_file(path: Path, layers: dict[str, tuple[int, int]], rank: int = 2) -> Path:
    tensors: Dense = {}
    for index, (flat, (inside, out)) in enumerate(layers.items()):
        generator = torch.Generator().manual_seed(index)
        tensors[f"lora_unet_{flat}.lora_down.weight"] = torch.randn(rank, inside, generator=generator)
        tensors[f"lora_unet_{flat}.lora_up.weight"] = torch.randn(out, rank, generator=generator)
        tensors[f"lora_unet_{flat}.alpha"] = torch.tensor(1.0)
    save_file(tensors, path)
    return path


FLUX = {
    "double_blocks_3_img_attn_qkv": (3072, 9216),
    "double_blocks_3_txt_attn_qkv": (3072, 9216),
    "double_blocks_3_txt_mlp_2": (12288, 3072),
    "single_blocks_7_linear1": (3072, 21504),
    "single_blocks_7_modulation_lin": (3072, 9216),
    "final_layer_adaLN_modulation_1": (3072, 6144),
}


def test_fluxs_fused_layers_are_taken_apart_and_put_together_bit_for_bit(tmp_path: Path) -> None:
    source = flux_file(tmp_path / "a.safetensors", FLUX)
    convert(source, tmp_path / "peft", "peft")
    names = {layer.name for layer in read_adapter(tmp_path / "peft").layers}
    assert {f"transformer_blocks.3.attn.{part}" for part in ("to_q", "to_k", "to_v", "add_k_proj")} <= names
    assert {"single_transformer_blocks.7.attn.to_q", "single_transformer_blocks.7.proj_mlp"} <= names
    convert(tmp_path / "peft", tmp_path / "back.safetensors", "kohya")
    before, after = load_file(source), load_file(tmp_path / "back.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_halves_of_fluxs_last_modulation_change_places(tmp_path: Path) -> None:
    source = flux_file(tmp_path / "a.safetensors", {"final_layer_adaLN_modulation_1": (3072, 6144)})
    convert(source, tmp_path / "d.safetensors", "diffusers")
    (before,), (after,) = deltas(source).values(), deltas(tmp_path / "d.safetensors").values()
    assert torch.equal(after, before.roll(3072, 0))


def test_a_transformer_that_is_not_fluxs_is_not_called_so(tmp_path: Path) -> None:
    tensors = {
        "transformer.transformer_blocks.0.attn.to_q.lora_A.weight": torch.ones(2, 1536),
        "transformer.transformer_blocks.0.attn.to_q.lora_B.weight": torch.ones(1536, 2),
    }
    save_file(tensors, tmp_path / "sd3.safetensors")
    with pytest.raises(UnsupportedAdapter, match="1536 inputs"):
        convert(tmp_path / "sd3.safetensors", tmp_path / "k.safetensors", "kohya")


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target", "text"),
    [
        ("minilm-debian-r4-dora-fp16", "peft", "dora"),
        ("minilm-sentiment-r8", "kohya", "no known U-Net"),
        ("smollm2-gloss-r8", "diffusers", "no known U-Net"),
    ],
)
def test_what_the_target_cannot_express_is_refused_by_name_and_leaves_nothing(
    name: str, target: str, text: str, tmp_path: Path
) -> None:
    out = tmp_path / ("out" if target == "peft" else "out.safetensors")
    with pytest.raises(UnsupportedAdapter, match=text):
        convert(EXAMPLES / name, out, target)
    assert not list(tmp_path.iterdir())


def test_an_impossible_request_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    missing = tmp_path / "missing"
    for out, target in (
        ("there", "peft"),
        ("x.bin", "kohya"),
        ("x.safetensors", "gguf"),
        ("x.gguf", "gguf"),
        ("x", "y"),
    ):
        with pytest.raises(WrongUsage):
            convert(missing, tmp_path / out, target)


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    source = unet_adapter(tmp_path / "a")
    tensors = load_file(source / "adapter_model.safetensors")
    tensors[next(iter(tensors))][0, 0] = torch.inf
    save_file(tensors, source / "adapter_model.safetensors")
    with pytest.raises(InvalidAdapter, match="NaN or infinite"):
        convert(source, tmp_path / "b.safetensors", "kohya")


# -- laws -------------------------------------------------------------------------------------------------------------

sizes = st.integers(1, 6)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(out=sizes, inside=sizes, rank=st.integers(1, 3), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_loha_is_a_lora_of_its_ranks_square(out: int, inside: int, rank: int, seed: int) -> None:
    shapes = {
        "hada_w1_a": (out, rank),
        "hada_w1_b": (rank, inside),
        "hada_w2_a": (out, rank),
        "hada_w2_b": (rank, inside),
    }
    roles = {role: normal(seed + i, *shape) for i, (role, shape) in enumerate(shapes.items())}
    a, b = loha_factors(roles)
    w1, w2 = (roles[f"hada_w{i}_a"].double() @ roles[f"hada_w{i}_b"].double() for i in (1, 2))
    assert a.shape[0] == rank**2
    torch.testing.assert_close(b.double() @ a.double(), w1 * w2, rtol=1e-5, atol=1e-5)


@given(p=sizes, q=sizes, s=sizes, t=sizes, whole=st.tuples(st.booleans(), st.booleans()), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_a_lokr_is_a_lora_of_the_product_of_its_ranks(
    p: int, q: int, s: int, t: int, whole: tuple[bool, bool], seed: int
) -> None:
    roles, sides, ranks = {}, [], []
    for index, (rows, columns, is_whole) in enumerate(((p, q, whole[0]), (s, t, whole[1])), start=1):
        name = f"lokr_w{index}"
        if is_whole:
            roles[name] = normal(seed + index, rows, columns)
            sides.append(roles[name].double())
            ranks.append(min(rows, columns))
        else:
            roles[f"{name}_a"], roles[f"{name}_b"] = normal(seed + index, rows, 2), normal(seed - index, 2, columns)
            sides.append(roles[f"{name}_a"].double() @ roles[f"{name}_b"].double())
            ranks.append(2)
    a, b = lokr_factors(roles)
    assert a.shape[0] == ranks[0] * ranks[1]
    torch.testing.assert_close(b.double() @ a.double(), torch.kron(*sides), rtol=1e-5, atol=1e-5)


@given(rows=st.lists(sizes, min_size=1, max_size=4), seed=st.integers(0, 99), missing=st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_joining_parts_stacks_their_deltas(rows: list[int], seed: int, missing: int) -> None:
    parts: list[Layer | None] = [
        Layer(str(i), normal(seed + i, 2, 5), normal(seed - i, count, 2), 0.5 + i) for i, count in enumerate(rows)
    ]
    if missing < len(parts) and len(parts) > 1:
        parts[missing] = None
    wanted = [
        dense(part) if part else torch.zeros(count, 5, dtype=torch.float64)
        for part, count in zip(parts, rows, strict=True)
    ]
    joined = join_rows("all", parts, rows)
    torch.testing.assert_close(dense(joined), torch.cat(wanted), rtol=1e-6, atol=1e-6)


@given(rows=st.lists(sizes, min_size=1, max_size=4), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_joining_what_was_split_gives_the_same_bits(rows: list[int], seed: int) -> None:
    layer = Layer("all", normal(seed, 2, 5), normal(seed + 1, sum(rows), 2), 0.75)
    parts = list(split_rows(layer, [str(i) for i in range(len(rows))], rows))
    joined = join_rows("all", parts, rows)
    assert torch.equal(joined.B, layer.B) and joined.A is layer.A and joined.scaling == layer.scaling


@given(
    scaling=st.floats(0.01, 100),
    other=st.floats(0.01, 100),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_another_scaling_gives_the_same_delta(scaling: float, other: float, dtype: torch.dtype) -> None:
    layer = Layer("a", normal(0, 2, 5).to(dtype), normal(1, 4, 2).to(dtype), scaling)
    rescaled = with_scaling(layer, other)
    assert rescaled.scaling == other
    assert float((dense(rescaled) - dense(layer)).norm()) <= 1e-7 * float(dense(layer).norm())
