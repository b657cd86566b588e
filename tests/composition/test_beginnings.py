"""PiSSA, OLoRA, CorDA, LoRA-GA with the adapter that they began as: what PEFT converts them to; refused without."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from composition.adapter import LoadedAdapter
from composition.engine import compose
from composition.files import CONFIG_NAME, WEIGHTS_NAME, load_adapter, save_composition
from composition.jobs import blend
from registry.blobs.filesystem import FolderStore
from registry.domain.errors import UnsupportedAdapter
from registry.domain.expression import parse
from registry.domain.reference import AdapterName
from registry.formats.peft import read_folder
from registry.service import Registry
from registry.service.publishing import Submission
from registry.sql.engine import Database
from registry.sql.schema import ensure_schema
from tests.composition.cases import assert_close, by_digest, pin, weights_entry
from tests.composition.kinds import BASE, deltas, layers, save_trained, weighted

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third parties' deprecations at import
    from peft import LoraConfig, get_peft_model

pytestmark = pytest.mark.filterwarnings("ignore:.*(PiSSA|OLoRA|CorDA|pissa|olora|weight_conversion)")
CONFIG: dict[str, Any] = {"target_modules": ["q", "head"], "r": 2, "lora_alpha": 3}
FOLDERS = ("begun", "trained", "converted")
VARIANTS: dict[str, dict[str, Any]] = {
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "pissa with rslora": {"init_lora_weights": "pissa", "use_rslora": True},
    "pissa with patterns": {"init_lora_weights": "pissa", "rank_pattern": {"head": 1}, "alpha_pattern": {"head": 5}},
}


def write(folder: Path, **config: Any) -> dict[str, Path]:
    """An adapter as it began, after training, and as PEFT itself converts it {begun, trained, converted}."""
    model = get_peft_model(layers().float(), LoraConfig(**{**CONFIG, **config}))
    settings = model.peft_config["default"]
    init, settings.init_lora_weights = settings.init_lora_weights, True
    model.save_pretrained(str(folder / "begun"))
    settings.init_lora_weights = init
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(str(folder / "trained"))
    model.save_pretrained(str(folder / "converted"), path_initial_model_for_weight_conversion=str(folder / "begun"))
    for name in FOLDERS:
        path = folder / name / CONFIG_NAME
        path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": BASE}))
    return {name: folder / name for name in FOLDERS}


def loaded(folder: Path, *, given_init: bool = True) -> LoadedAdapter:
    with (folder / WEIGHTS_NAME).open("rb") as stream:
        return load_adapter(
            stream,
            read_folder(folder),
            subject=f"t/{folder.name}@v1",
            file=weights_entry(folder),
            given_init=given_init,
        )


@pytest.fixture(params=VARIANTS)
def folders(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Path]:
    found = write(tmp_path, **VARIANTS[request.param])
    found["plain"] = save_trained(tmp_path / "plain", 3, **CONFIG)
    return found


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("given_init(t/trained, t/begun)", {"converted": 1}),
        ("0.5*given_init(t/trained, t/begun) - 2*t/plain", {"converted": 0.5, "plain": -2}),
        ("truncate(given_init(t/trained, t/begun), rank=64)", {"converted": 1}),
    ],
)
def test_the_delta_is_what_peft_converts_it_to(
    folders: dict[str, Path], tmp_path: Path, text: str, weights: dict[str, float]
) -> None:
    inputs = by_digest(**{name: loaded(folders[name]) for name in ("trained", "begun", "plain")})
    (tmp_path / "out").mkdir()
    save_composition(compose(pin(text), inputs, device="cpu"), tmp_path / "out")
    assert_close(deltas(tmp_path / "out"), weighted(folders, weights), 1e-5)


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedAdapter]:
    root = tmp_path_factory.mktemp("pissa")
    folders = write(root, init_lora_weights="pissa")
    folders["plain"] = save_trained(root / "plain", 3, **CONFIG)
    folders["other"] = save_trained(root / "other", 3, **{**CONFIG, "r": 3})
    return by_digest(**{name: loaded(folder) for name, folder in folders.items()})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("t/trained", r"t/trained@v1: pissa .*given_init\(team/name, team/its-init\)"),
        ("given_init(t/trained, t/begun) + t/trained", r"t/trained@v1: pissa"),
        ("given_init(t/plain, t/begun)", r"t/plain@v1: given_init .*says of itself that it is none"),
        ("given_init(t/trained, t/trained)", "not what it began as"),
        ("given_init(t/trained, t/other)", r"t/other@v1: given_init .*ranks and scalings"),
        ("given_init(t/trained, 2*t/begun)", "without weights or methods"),
    ],
)
def test_what_cannot_be_a_beginning_is_refused(candidates: dict[str, LoadedAdapter], text: str, match: str) -> None:
    with pytest.raises(UnsupportedAdapter, match=match):
        compose(pin(text), candidates, device="cpu")


def test_without_its_beginning_the_adapter_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedAdapter, match="given_init"):
        loaded(write(tmp_path, init_lora_weights="pissa")["trained"], given_init=False)


def test_magnitudes_beside_a_changed_base_are_refused(tmp_path: Path) -> None:
    folder = save_trained(tmp_path / "a", 1, **CONFIG, use_dora=True)
    config = (folder / CONFIG_NAME).read_text().replace('"init_lora_weights": true', '"init_lora_weights": "pissa"')
    (folder / CONFIG_NAME).write_text(config)
    with pytest.raises(UnsupportedAdapter, match=r"dora.*magnitudes are none"):
        loaded(folder)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    ensure_schema(database, migrate=True)
    registry = Registry(database, FolderStore(tmp_path / "blobs"))
    yield registry
    registry.close()


def test_a_blend_pins_the_beginning_too(registry: Registry, tmp_path: Path) -> None:
    folders = write(tmp_path, init_lora_weights="pissa")
    for name in ("begun", "trained"):
        registry.push_folder(folders[name], Submission(AdapterName.parse(f"t/{name}"), ()))
    into = AdapterName.parse("t/blend")
    with pytest.raises(UnsupportedAdapter, match=r"t/trained@v1: pissa"):
        blend(registry, parse("t/trained - t/begun"), into, device="cpu")
    result = blend(registry, parse("given_init(t/trained, t/begun)"), into, device="cpu")
    assert {str(parent.adapter) for parent in result.recipe.inputs} == {"t/trained", "t/begun"}
    pulled = registry.pull(result.version, tmp_path / "pulled").folder  # type: ignore[arg-type]
    assert_close(deltas(pulled), deltas(folders["converted"]), 1e-5)
