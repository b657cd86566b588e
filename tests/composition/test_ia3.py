"""IA3 is composed as the product of powers that PEFT then computes, or refused by name."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from composition.adapter import LoadedAdapter, Scale
from composition.engine import compose, silent
from composition.files import CONFIG_NAME, WEIGHTS_NAME, load_adapter, save_composition
from composition.jobs import blend
from composition.merge_job import merge
from composition.placement import by_label, scaling
from composition.verify_merge import verify_merge
from registry.blobs.filesystem import FolderStore
from registry.domain.bases import match
from registry.domain.errors import BaseMismatch, InvalidAdapter, UnsupportedAdapter
from registry.domain.expression import parse
from registry.domain.reference import AdapterName
from registry.formats.base_files import read_base
from registry.formats.base_model import index_base
from registry.formats.peft import read_folder
from registry.service import Registry
from registry.service.publishing import Submission
from registry.sql.engine import Database
from registry.sql.schema import ensure_schema
from tests.composition.cases import by_digest, pin, weights_entry
from tests.composition.kinds import BASE, TOKENS, layers, opened, output, save_trained

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third parties' deprecations at import
    from peft import IA3Config, get_peft_model

Vectors = dict[str, torch.Tensor]


def write(folder: Path, seed: int, *, low: float = 0.5, **config: object) -> Path:
    """An IA3 adapter that PEFT made and saved; its vectors are random, from `low` to 2."""
    settings = {"target_modules": ["q", "head"], "feedforward_modules": ["head"], **config}
    model = get_peft_model(layers().float(), IA3Config(**settings))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(low + (2 - low) * torch.rand(parameter.shape, generator=generator))
    model.save_pretrained(str(folder))
    path = folder / CONFIG_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": BASE}))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("ia3")
    only = {"target_modules": ["q"], "feedforward_modules": []}
    convolutions = {"target_modules": ["conv2", "pointwise", "conv3"], "feedforward_modules": ["pointwise", "conv3"]}
    return {
        "a": write(root / "a", 1),
        "b": write(root / "b", 2),
        "q": write(root / "q", 3, **only),
        "c": write(root / "c", 4, **convolutions),
        "d": write(root / "d", 5, **{"target_modules": "conv[23]|pointwise", "feedforward_modules": ".*(wise|3)"}),
    }


def loaded(folder: Path) -> LoadedAdapter:
    with (folder / WEIGHTS_NAME).open("rb") as stream:
        return load_adapter(stream, read_folder(folder), subject=f"t/{folder.name}@v1", file=weights_entry(folder))


@pytest.fixture
def inputs(folders: dict[str, Path]) -> dict[str, LoadedAdapter]:
    return by_digest(**{name: loaded(folder) for name, folder in folders.items()})


def written(text: str, inputs: dict[str, LoadedAdapter], folder: Path, dtype: str = "float32") -> Path:
    folder.mkdir()
    save_composition(compose(pin(text, dtype), inputs, device="cpu"), folder)
    return folder


def vectors(folder: Path) -> Vectors:
    return {name: values.double() for name, values in load_file(folder / WEIGHTS_NAME).items()}


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("t/a", {"a": 1}),
        ("t/a + t/b", {"a": 1, "b": 1}),
        ("lerp(t/a, t/b, t=0.25)", {"a": 0.75, "b": 0.25}),
        ("2*t/a - 0.5*t/q", {"a": 2, "q": -0.5}),
        ("-t/b", {"b": -1}),
        ("t/a + 2*t/c", {"a": 1, "c": 2}),
        ("lerp(t/c, t/d, t=0.5)", {"c": 0.5, "d": 0.5}),
    ],
)
def test_the_result_is_the_product_of_powers_in_its_vectors_and_in_peft_s_answer(
    folders: dict[str, Path], inputs: dict[str, LoadedAdapter], tmp_path: Path, text: str, weights: dict[str, float]
) -> None:
    law: Vectors = {}
    for name, weight in weights.items():
        for key, values in vectors(folders[name]).items():
            law[key] = law.get(key, torch.ones_like(values)) * values**weight
    out = written(text, inputs, tmp_path / "out")
    found = vectors(out)
    assert found.keys() == law.keys()
    assert all(torch.allclose(found[key], law[key], rtol=1e-6) for key in law)
    assert torch.allclose(output(out), multiplied(law), rtol=1e-5, atol=1e-6)


def multiplied(law: Vectors) -> torch.Tensor:
    """What the base answers with its weights and biases multiplied by hand."""
    model = layers()
    with torch.no_grad():
        for key, values in law.items():
            layer = model.get_submodule(key.removeprefix("base_model.model.").removesuffix(".ia3_l"))
            inward = any(name in key for name in ("head", "pointwise", "conv3"))
            layer.weight.mul_(values if inward or values.ndim == 2 else values.transpose(0, 1))
            if not inward:
                layer.bias.mul_(values.flatten())
        answer: torch.Tensor = model(TOKENS)
        return answer


def test_a_sum_is_what_peft_computes_with_both_active(
    folders: dict[str, Path], inputs: dict[str, LoadedAdapter], tmp_path: Path
) -> None:
    both = opened(folders["a"])
    both.load_adapter(str(folders["b"]), "b")
    both.base_model.set_adapter(["default", "b"])
    with torch.no_grad():
        answer = both.double()(TOKENS)
    assert torch.allclose(output(written("t/a + t/b", inputs, tmp_path / "out")), answer, rtol=1e-5, atol=1e-6)


def test_the_result_names_its_layers_exactly_and_is_read_again(
    inputs: dict[str, LoadedAdapter], tmp_path: Path
) -> None:
    out = written("t/a + t/q", inputs, tmp_path / "out", "float16")
    config = json.loads((out / CONFIG_NAME).read_text())
    assert (config["peft_type"], config["target_modules"], config["feedforward_modules"]) == ("IA3", "head|q", "head")
    again = loaded(out)
    assert [(scale.name, scale.inward) for scale in again.scales] == [("head", True), ("q", False)]
    assert again.summary.dtype == "F16"
    report = compose(pin("t/a + t/q", "float16"), inputs, device="cpu").report
    assert 0 < report.rounding < 1e-3 * report.norm


def test_the_order_of_terms_changes_no_byte(inputs: dict[str, LoadedAdapter], tmp_path: Path) -> None:
    one, other = (written(text, inputs, tmp_path / text[2]) for text in ("t/a + t/b", "t/b + t/a"))
    assert all(file.read_bytes() == (other / file.name).read_bytes() for file in one.iterdir())


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("ties(t/a, t/b)", "ties of IA3"),
        ("truncate(t/a + t/b, rank=2)", "truncate of IA3"),
        ("t/a + t/lora", "t/lora@v1: LoRA with IA3"),
        ("0.5*t/signed", r"t/signed@v1: the vector of .*no power 0.5"),
        ("t/a + t/other", r"the vector of head .*other side"),
    ],
)
def test_what_has_no_product_is_refused_by_name(
    inputs: dict[str, LoadedAdapter], tmp_path: Path, text: str, match: str
) -> None:
    write(tmp_path / "signed", 4, low=-2)
    write(tmp_path / "other", 5, feedforward_modules=[])
    save_trained(tmp_path / "lora", 6, target_modules=["q"], r=2)
    more = by_digest(**{name: loaded(tmp_path / name) for name in ("signed", "other", "lora")})
    with pytest.raises(UnsupportedAdapter, match=match):
        compose(pin(text), inputs | more, device="cpu")


def test_a_negative_factor_has_whole_powers(tmp_path: Path) -> None:
    signed = by_digest(signed=loaded(write(tmp_path / "signed", 4, low=-2)))
    found = vectors(written("2*t/signed", signed, tmp_path / "out"))
    assert all(torch.allclose(found[key], values**2) for key, values in vectors(tmp_path / "signed").items())


def test_what_cancels_is_refused(inputs: dict[str, LoadedAdapter]) -> None:
    with pytest.raises(UnsupportedAdapter, match="rank 0"):
        compose(pin("t/a - t/a"), inputs, device="cpu")


def test_an_overflow_is_refused(inputs: dict[str, LoadedAdapter]) -> None:
    with pytest.raises(InvalidAdapter, match=r"overflows torch\.float16"):
        compose(pin("64*t/a", "float16"), inputs, device="cpu")


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"modules_to_save": ["embed"]}, "modules_to_save.*beside IA3"),
        ({"target_modules": ".*q", "feedforward_modules": r"(q)\1?"}, "feedforward_modules"),
    ],
)
def test_the_reader_refuses_what_it_does_not_know(tmp_path: Path, config: dict[str, list[str]], match: str) -> None:
    with pytest.raises(UnsupportedAdapter, match=match):
        read_folder(write(tmp_path / "a", 1, **config))


# -- with a base, and through the registry ----------------------------------------------------------------------------


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    save_file({name: tensor.float() for name, tensor in layers().state_dict().items()}, folder / "model.safetensors")
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    ensure_schema(database, migrate=True)
    registry = Registry(database, FolderStore(tmp_path / "blobs"))
    yield registry
    registry.close()


def test_a_vector_must_be_as_long_as_the_side_that_it_multiplies(
    folders: dict[str, Path], base: Path, tmp_path: Path
) -> None:
    matched = match(read_folder(folders["a"]), index_base(base), base=BASE)
    assert {module.name: module.base_tensor for module in matched.modules} == {"q": "q.weight", "head": "head.weight"}
    tensors = {
        name: torch.cat([values, values]) if "q" in name else values for name, values in vectors(folders["a"]).items()
    }
    longer = tmp_path / "longer"
    longer.mkdir()
    save_file(tensors, longer / WEIGHTS_NAME)
    (longer / CONFIG_NAME).write_text((folders["a"] / CONFIG_NAME).read_text())
    with pytest.raises(BaseMismatch, match=r"q\.ia3_l"):
        match(read_folder(longer), index_base(base), base=BASE)


def test_a_blend_is_published_with_its_lineage(
    registry: Registry, folders: dict[str, Path], base: Path, tmp_path: Path
) -> None:
    registry.add_base(BASE, index_base(base))
    for name in ("a", "b"):
        registry.push_folder(folders[name], Submission(AdapterName.parse(f"t/{name}"), ()))
    result = blend(registry, parse("0.5*t/a + 0.5*t/b"), AdapterName.parse("t/both"), device="cpu")
    assert result.version and result.version.summary.peft_type == "IA3"
    pulled = registry.pull(result.version, tmp_path / "pulled").folder
    one, other = (vectors(folders[name]) for name in ("a", "b"))
    assert all(torch.allclose(values, (one[key] * other[key]).sqrt()) for key, values in vectors(pulled).items())


@pytest.mark.parametrize("text", ["t/a", "t/c", "0.5*t/a + t/c - t/q"])
def test_merged_into_a_base_its_answer_is_peft_s(
    registry: Registry, folders: dict[str, Path], base: Path, tmp_path: Path, text: str
) -> None:
    registry.add_base(BASE, index_base(base))
    for name in ("a", "c", "q"):
        registry.push_folder(folders[name], Submission(AdapterName.parse(f"t/{name}"), ()))
    inputs = by_digest(**{name: loaded(folders[name]) for name in ("a", "c", "q")})
    merge(registry, parse(text), base=base, out=tmp_path / "merged", device="cpu")
    model = layers()
    model.load_state_dict(load_file(tmp_path / "merged" / "model.safetensors"))
    with torch.no_grad():
        answer = model.double()(TOKENS)
    assert torch.allclose(answer, output(written(text, inputs, tmp_path / "out")), rtol=1e-5, atol=1e-5)
    if text == "t/a":
        verdict = verify_merge(tmp_path / "merged", base=base, adapter=folders["a"], progress=silent)
        assert verdict.verdict == "inconclusive" and not verdict.faults


def test_a_transposed_base_is_multiplied_on_the_other_side(tmp_path: Path) -> None:
    """Conv1D of GPT-2 stores (in, out)."""
    values, weight = torch.tensor([2.0, 3.0]), torch.ones(4, 2)
    save_file({"q.weight": weight}, tmp_path / "model.safetensors")
    stored = by_label(read_base(tmp_path))
    (change,) = scaling(Scale("q", "q.weight", values, inward=False), stored, transposed=True, name="base")
    change.term.prepared(torch.float32).add(weight, weight, slice(0, 4))
    assert torch.equal(weight, values.expand(4, 2))
