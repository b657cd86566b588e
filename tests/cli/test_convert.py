"""The command: from a path or a reference, refusals with their exit codes, and single files pushed and inspected."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.main import program

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTERS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(program, [str(argument) for argument in arguments])


def answer(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_a_file_becomes_a_folder() -> None:
    done = answer("convert", GOLDEN / "lycoris-loha.safetensors", "out", "--to", "peft")
    assert (done["from"], done["to"], done["widened"], done["left_out"]) == ("lycoris", "peft", 0, [])
    assert [Path(file).name for file in done["files"]] == ["adapter_config.json", "adapter_model.safetensors"]


def test_a_single_file_is_pushed_inspected_and_converted_from_the_registry() -> None:
    pushed = answer("push", GOLDEN / "lycoris-lora.safetensors", "art/style")
    assert pushed["version"]["format"] == "kohya"
    assert pushed["version"]["base"]["evidence"] == "declared"
    assert [file["path"] for file in pushed["version"]["files"]] == ["lycoris-lora.safetensors"]
    answer("convert", "art/style@v1", "style.safetensors", "--to", "diffusers")
    again = answer("push", "style.safetensors", "art/style")
    assert (again["version"]["version"], again["version"]["format"]) == (2, "diffusers")
    inspected = answer("inspect", "./style.safetensors")
    assert {module["kind"] for module in inspected["modules"]} == {"linear", "conv"}


def test_the_trainers_notes_are_shown(tmp_path: Path) -> None:
    answer("convert", GOLDEN / "lycoris-lora.safetensors", "k.safetensors", "--to", "kohya")
    inspected = answer("inspect", "./k.safetensors")
    assert inspected["training"]["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert "stable-diffusion-v1/lora" in run("inspect", "./k.safetensors").stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("./missing", "out", "--to", "peft"), 4),
        (("team/missing", "out", "--to", "peft"), 3),
        ((GOLDEN / "lycoris-lora.safetensors", "out", "--to", "kohya"), 2),
        ((GOLDEN / "lycoris-lora.safetensors", "out.gguf", "--to", "gguf"), 2),
        ((GOLDEN / "lycoris-lora.safetensors", "out", "--to", "onnx"), 2),
    ],
)
def test_each_refusal_has_its_exit_code_and_leaves_nothing(arguments: tuple[object, ...], code: int) -> None:
    assert run("convert", *arguments).exit_code == code
    assert not Path("out").exists()
