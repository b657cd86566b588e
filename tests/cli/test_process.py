"""The program as a process: what it loads, signals, pipes, terminals."""

import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

HEAVY = {"torch", "boto3", "botocore", "fastapi", "numpy", "rich", "alembic", "psycopg", "gguf"}
SPAWN = Callable[..., "subprocess.Popen[str]"]

# Prints what was imported once the program is about to end.
_WATCH = """
import atexit, sys
atexit.register(lambda: print("LOADED", *sorted(sys.modules), file=sys.stderr))
"""


def loaded(process: SPAWN, tmp_path: Path, *arguments: str) -> set[str]:
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(_WATCH)
    root = str(Path(__file__).parents[2])
    with process(*arguments, environment={"PYTHONPATH": f"{tmp_path / 'watch'}{os.pathsep}{root}"}) as done:
        _, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    line = next(line for line in err.splitlines() if line.startswith("LOADED"))
    return set(line.split()[1:])


def test_help_loads_nothing_but_click(process, tmp_path):
    modules = loaded(process, tmp_path, "--help")
    assert not modules & (HEAVY | {"sqlalchemy", "registry.service", "registry.domain", "cli.command"})


@pytest.mark.parametrize("name", ["push", "blend"])
def test_the_help_of_a_command_loads_no_database(process, tmp_path, name):
    assert not loaded(process, tmp_path, name, "--help") & (HEAVY | {"sqlalchemy", "registry.service"})


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_resolve_loads_neither_rich_nor_torch_nor_boto3(stocked, process, tmp_path, arguments):
    modules = loaded(process, tmp_path, "resolve", "demo/sentiment@production", *arguments)
    dialects = {"sqlalchemy.dialects.postgresql", "registry.formats", "composition"}
    assert not modules & (HEAVY | dialects)


def test_a_closed_pipe_ends_the_program_quietly(stocked, process):
    reader, writer = os.pipe()
    os.close(reader)
    with process("search", stdout=writer) as done:
        os.close(writer)
        _, err = done.communicate(timeout=60)
    assert err == ""
    assert done.returncode == 1


def test_ctrl_c_ends_with_130_and_leaves_nothing_half_done(stocked, process, tmp_path):
    """The interrupt hits a push that hashes and stores 200 MB."""
    big = tmp_path / "desk" / "wordnet" / "vocabulary.txt"
    with big.open("wb") as stream:
        stream.truncate(200_000_000)
    blobs = sorted((tmp_path / "home" / "blobs").rglob("*"))
    with process("push", "./wordnet", "demo/wordnet") as running:
        deadline = time.monotonic() + 30
        staging = tmp_path / "home" / "blobs" / "staging"
        while not list(staging.glob("*")) and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130, (out, err)
    assert "interrupted" in err and "Traceback" not in err
    assert sorted(path for path in (tmp_path / "home" / "blobs").rglob("*") if path not in blobs) == []
    assert stocked("history", "demo/wordnet", "--json").json["versions"][0]["version"] == 1


def on_terminal(process: SPAWN, *arguments: str, **environment: str) -> str:
    """Run with a terminal as stdout and stderr; returns everything that was written on it."""
    master, slave = pty.openpty()
    with process(*arguments, stdout=slave, stderr=slave, environment={"TERM": "xterm", **environment}) as running:
        os.close(slave)
        written = bytearray()
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # Linux's way to say that the other end is closed
                break
            if not data:
                break
            written += data
        running.wait(timeout=60)
    os.close(master)
    return written.decode()


COLOUR = re.compile(r"\x1b\[(?:[0-9]+;)*3[0-9]m")


def test_a_terminal_gets_colours_and_a_progress_bar(stocked, process):
    written = on_terminal(process, "verify", "--deep")
    assert "verifying" in written
    assert COLOUR.search(on_terminal(process, "show", "demo/nobody"))


def test_no_color_means_none(stocked, process):
    for arguments in (["verify", "--deep"], ["promote", "demo/both@v1", "x"]):
        assert not COLOUR.search(on_terminal(process, *arguments, NO_COLOR="1"))


def test_json_and_pipes_get_neither_colours_nor_bars(stocked, process):
    assert "\x1b" not in on_terminal(process, "verify", "--deep", "--json")
    with process("verify", "--deep") as done:
        out, err = done.communicate(timeout=60)
    assert "\x1b" not in out
    assert err == ""


def test_the_completion_script_of_bash_completes_commands(desk, process):
    environment = {"_ADAPTERS_COMPLETE": "bash_complete", "COMP_WORDS": "adapters pro", "COMP_CWORD": "1"}
    with process(environment=environment) as done:
        out, _ = done.communicate(timeout=60)
    assert out.split() == ["plain,promote"]
