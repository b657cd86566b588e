"""The program on a real registry, real adapters and a real base; in process, unless a test says otherwise.

Modules named in BOTH run twice: on an embedded registry and against a server. `embedded` marks what can't.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import program
from tests.cli.house import House, open_house
from tests.factories import EXAMPLES, minilm_folder, smollm2_file, write_tensors

BOTH = ("test_browse", "test_care", "test_compose", "test_failures", "test_merge", "test_transfer", "test_webhooks")
MODES = ("embedded", "server")
ROOT = Path(__file__).resolve().parents[2]
BASE = "sentence-transformers/all-MiniLM-L6-v2"
FOLDERS = {
    "sentiment": "minilm-sentiment-r8",
    "sentiment-v2": "minilm-sentiment-rank-pattern",
    "wordnet": "minilm-wordnet-r8",
    "genre": "minilm-genre-r16-rslora-bf16",
    "gloss": "smollm2-gloss-r8",
}


@dataclass(frozen=True, slots=True)
class Run:
    """What a run of the program left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as the one JSON document that it must be."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """stderr as the one JSON document that it must be."""
        return json.loads(self.err)


Adapters = Callable[..., Run]


def run(*arguments: str, code: int | None = 0, stdin: str | None = None) -> Run:
    """Run a command line in this process; `code` is the exit code that it must have (None: any)."""
    result = CliRunner().invoke(program, arguments, input=stdin, prog_name="adapters")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    done = Run(result.exit_code, result.stdout, result.stderr)
    assert code in (None, done.code), f"{shlex.join(arguments)}: {done}"
    return done


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry home with what the examples of the help texts need; tests work on copies."""
    folder = tmp_path_factory.mktemp("filled")
    for seed, name in enumerate(("model", "copy")):
        write_tensors(folder / f"{name}.safetensors", {"layer.weight": (4, 4)}, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        _prepare(patch, folder / "home")
        for line in _FILLING.strip().splitlines():
            run(*shlex.split(line.format(base=minilm_folder(), examples=EXAMPLES, here=folder)))
    return folder / "home"


_FILLING = f"""
base add {BASE} {{base}}
base add org/model {{here}}/model.safetensors
base add org/model-Q4 {{here}}/copy.safetensors
push {{examples}}/minilm-sentiment-r8 demo/sentiment --message 'film reviews'
push {{examples}}/minilm-sentiment-rank-pattern demo/sentiment --message 'more ranks'
push {{examples}}/minilm-genre-r16-rslora-bf16 demo/sentiment --message 'the wrong folder'
push {{examples}}/minilm-wordnet-r8 demo/wordnet --message glosses
promote demo/sentiment@v2 production
promote demo/sentiment@v1 production --reason 'v2 is slower'
yank demo/sentiment@v3 --reason 'the wrong folder'
eval add demo/sentiment@v1 accuracy=0.8425 --dataset heldout
token create laptop
webhooks create demo https://hooks.example/a
blend '1.0*demo/sentiment@v1 + 1.0*demo/wordnet' --into demo/both
merge demo/sentiment --base {{base}} --out {{here}}/tuned
"""


def _prepare(patch: pytest.MonkeyPatch, home: Path) -> None:
    for name in [name for name in os.environ if name.startswith("ADAPTERS_") and name != "ADAPTERS_TEST_POSTGRES"]:
        patch.delenv(name)
    patch.setenv("ADAPTERS_HOME", str(home))
    patch.setenv("COLUMNS", "80")
    patch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with adapters and a base in it, and an empty registry beside it."""
    folder = tmp_path / "desk"
    folder.mkdir()
    for name, example in FOLDERS.items():
        shutil.copytree(EXAMPLES / example, folder / name)
    shutil.copy(ROOT / "tests" / "golden" / "lycoris-loha.safetensors", folder / "style.safetensors")
    (folder / "SmolLM2.gguf").symlink_to(smollm2_file())
    for name in ("all-MiniLM-L6-v2", "minilm"):
        (folder / name).symlink_to(minilm_folder())
    _prepare(monkeypatch, tmp_path / "home")
    monkeypatch.chdir(folder)
    return folder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let the command suite run in both modes."""
    if "mode" in metafunc.fixturenames:
        twice = metafunc.module.__name__.rpartition(".")[2] in BOTH
        once = any(metafunc.definition.iter_markers("embedded"))
        metafunc.parametrize("mode", MODES if twice and not once else MODES[:1])


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One server for all tests, which move their registries into it."""
    with open_house(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture
def inhabited(mode: str, desk: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    """What makes the registry in `home` the one that commands work on, once it is there."""
    if mode == "embedded":
        yield lambda: None
        return
    house: House = request.getfixturevalue("house")
    patch = pytest.MonkeyPatch()

    def move_in() -> None:
        patch.setenv("ADAPTERS_TOKEN", house.move_in(tmp_path / "home"))
        patch.setenv("ADAPTERS_REGISTRY", house.url)
        patch.setenv("ADAPTERS_HOME", str(tmp_path / "client"))

    yield move_in
    patch.undo()
    house.move_out()
    assert not (tmp_path / "client").exists(), "a command against a server made an embedded registry"


@pytest.fixture
def adapters(inhabited: Callable[[], None]) -> Adapters:
    """The program on an empty registry."""
    inhabited()
    return run


@pytest.fixture
def stocked(inhabited: Callable[[], None], desk: Path, filled: Path, tmp_path: Path) -> Adapters:
    """The program on a registry with something in it, and a merged model in the folder."""
    (desk / "tuned").symlink_to(filled.parent / "tuned")
    shutil.copytree(filled, tmp_path / "home")
    inhabited()
    return run


def spawn(*arguments: str, environment: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    """Run the program as a process of its own."""
    line = [sys.executable, "-c", "from cli.main import run; run()", *arguments]
    everything = os.environ | {"PYTHONPATH": str(ROOT), **(environment or {})}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(line, env=everything, text=True, **pipes)


@pytest.fixture
def process(desk: Path) -> Callable[..., subprocess.Popen[str]]:
    """The program as a process of its own."""
    return spawn


@pytest.fixture
def examples() -> Path:
    """The folder of real adapters."""
    return EXAMPLES
