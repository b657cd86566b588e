"""docs/commands.md: every command has a section, and its session is what the program really prints.

WRITE_DOCS=1 writes the outputs anew instead of comparing them.
"""

import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from cli.main import program

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS = DOCS / "commands.md"
BLOCK = re.compile(r"```console\n(.*?)```\n", re.DOTALL)

# What differs from run to run or, with the last digits of float32 sums, from one processor to another.
VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d"), "<time>"),
    (re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+\+00:00"), "<time>"),
    (re.compile(r"\b[0-9a-f]{28}\b"), "<job>"),
    (re.compile(r"\b[0-9a-f]{40}\b"), "<commit>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<digest>"),
    (re.compile(r"(sha256[:-])[0-9a-f]{12}\b"), r"\1<digest>"),
    (re.compile(r"\badp_[\w-]{43}"), "<token>"),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/]{43}="), "<secret>"),
    (re.compile(r"\d\.\de[-+]\d\d"), "<error>"),
    (re.compile(r'"size": \d+'), '"size": <size>'),
    (re.compile(r"\d+(\.\d)? k?B\b"), "<size>"),
    (re.compile(r"\d+\.\d\d% kept"), "<energy>% kept"),
)


def stable(text: str) -> str:
    for pattern, replacement in VARYING:
        text = pattern.sub(replacement, text)
    return text


def session(text: str, run: Callable[..., object]) -> str:
    """The document with every block's outputs as the program prints them now."""
    codes = [0]

    def block(match: re.Match[str]) -> str:
        lines = [line for line in match[1].splitlines() if line.startswith("$ ")]
        return "```console\n" + "\n".join(f"{line}\n{output(line[2:])}" for line in lines) + "```\n"

    def output(line: str) -> str:
        if line == "echo $?":
            return f"{codes[-1]}\n"
        line, _, head = line.partition(" | head -")
        done = run(*shlex.split(line)[1:], code=None)
        codes.append(done.code)
        shown = (done.out + done.err).splitlines(keepends=True)
        return "".join(shown[: int(head)] if head else shown)

    return BLOCK.sub(block, text)


def test_the_session_in_the_docs_is_what_the_program_prints(adapters):
    written = COMMANDS.read_text()
    real = session(written, adapters)
    if os.environ.get("WRITE_DOCS"):
        COMMANDS.write_text(real)
    assert stable(COMMANDS.read_text()) == stable(real)


def leaves() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(program)
    for name in program.list_commands(context):
        command = program.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {part}", leaf) for part, leaf in command.commands.items())
        else:
            yield name, command


LEAVES = dict(leaves())


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_has_a_section_with_its_options_and_an_example(name):
    command = LEAVES[name]
    sections = dict(re.findall(r"^## adapters ([\w-]+)\n(.*?)(?=^## |\Z)", COMMANDS.read_text(), re.M | re.S))
    text = sections[name.split()[0]]
    synopsis = re.search(rf"^    adapters {name}\b.*?\n\n", text, re.M | re.S)
    assert synopsis is not None
    for option in (parameter for parameter in command.params if isinstance(parameter, click.Option)):
        if option.name not in ("as_json",):
            assert option.opts[-1] in text, f"{name} {option.opts[-1]} is not documented"
    first = name.split()[0]
    assert any(line.startswith(f"$ adapters {first}") for block in BLOCK.findall(text) for line in block.splitlines())


def test_the_docs_name_no_command_that_is_not_there():
    known = set(program.list_commands(click.Context(program)))
    for page in DOCS.glob("*.md"):
        for name in re.findall(r"`adapters ([a-z]+(?:-[a-z]+)*)", page.read_text()):
            assert name in known, f"{page.name}: adapters {name}"
