"""A .gitignore, held against git itself."""

import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.domain.errors import WrongUsage
from registry.domain.ignoring import Ignore

PATHS = ("a", "b.bin", "a/b", "a/b.bin", "a/c/b", "c/a/b.bin", "x/a/c/b", "[a]", "a b", "#a", "!a", "a*", "c/a*/b")
WORDS = (
    "a",
    "b",
    "c",
    "*",
    "?",
    "**",
    "b.bin",
    "*.bin",
    "[ab]",
    "[!a]",
    "[^a]*",
    "x",
    r"\*",
    r"a\*",
    r"\#a",
    r"\!a",
    "#a",
    "[a",
)
LINES = st.builds(
    lambda negated, first, parts, last: negated + first + "/".join(parts) + last,
    st.sampled_from(["", "!"]),
    st.sampled_from(["", "/"]),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=3),
    st.sampled_from(["", "/", " "]),
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "-q", folder], check=True)
    return folder


def ignored_by_git(folder: Path, text: str) -> set[str]:
    (folder / ".gitignore").write_text(text)
    asked = "\0".join(PATHS)
    command = ["git", "-C", str(folder), "check-ignore", "--no-index", "-z", "--stdin"]
    found = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    return {path for path in found.stdout.split("\0") if path}


@pytest.mark.skipif(shutil.which("git") is None, reason="git itself is what is compared with")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES, max_size=4))
def test_it_leaves_out_what_git_leaves_out(repository: Path, lines: list[str]) -> None:
    text = "\n".join(lines)
    ours = Ignore.parse(text)
    assert {path for path in PATHS if ours.covers(path)} == ignored_by_git(repository, text)


def test_what_it_may_cost_is_bounded() -> None:
    assert not Ignore.parse("*a" * 240 + "b").covers("a" * 1_000)
    with pytest.raises(WrongUsage, match="rules"):
        Ignore.parse("a\n" * 1_001)
    with pytest.raises(WrongUsage, match="500 characters"):
        Ignore.parse("a" * 501)
    costly = Ignore.parse(("**/a/" * 90 + "b\n") * 500)
    with pytest.raises(WrongUsage, match="too long"):
        costly.covers("a/" * 500)


@pytest.mark.parametrize(
    ("rules", "path"),
    [
        ("[" * 60_000, "a"),
        ("*[" + "".join(chr(0x10000 + 2 * n) for n in range(400)) + "]b", "z" * 9_000 + "b"),
        ("", "a/" * 5_000),
        ("/**", "a/" * 5_000),
    ],
)
def test_neither_a_rule_nor_a_path_takes_long(rules: str, path: str) -> None:
    started = time.process_time()
    with suppress(WrongUsage):
        ignore = Ignore.parse(rules)
        for _ in range(10_000):
            ignore.covers(path)
    assert time.process_time() - started < 5
