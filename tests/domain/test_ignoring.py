"""A .gitignore, held against git itself."""

import shutil
import subprocess
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
    assert not Ignore.parse("*a" * 500 + "b").covers("a" * 1_000)
    with pytest.raises(WrongUsage, match="rules"):
        Ignore.parse("a\n" * 1_001)
    costly = Ignore.parse(("**/a/" * 100 + "b\n") * 500)
    with pytest.raises(WrongUsage, match="too long"):
        costly.covers("a/" * 500)
