"""Help: every command explains itself, and what it shows as an example runs."""

import json
import shlex
from collections.abc import Iterator

import click
import pytest

from cli.command import Command
from cli.main import SECTIONS, program


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with the words that call it."""
    context = click.Context(program)
    for name in program.list_commands(context):
        command = program.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {part}", command.commands[part]) for part in command.commands)
        else:
            yield name, command


COMMANDS = dict(commands())
# One doesn't end, one wants a server and a token: test_server.py runs them. Jobs have names that nobody knows before:
# test_jobs.py. Nobody approves their own version, while in an embedded registry everybody is `local`; and there is
# nobody at hooks.example: test_webhooks.py.
APART = {"serve", "login", "approve", "jobs show", "jobs watch", "jobs cancel", "webhooks test"}
EXAMPLES = [
    example
    for name, command in COMMANDS.items()
    if isinstance(command, Command) and name not in APART
    for example in command.examples
]


def test_the_promised_commands_are_all_there():
    promised = """push pull show list search diff lineage resolve promote rollback history blend convert inspect verify
        yank revoke release migrate completion version merge extract verify-merge approve
        compare serve login logout worker edit delete gc purge repair"""
    served = {"team create", "team list", "team members", "team role", "team visibility", "audit list", "audit verify"}
    served |= {"token create", "token list", "token revoke"}
    served |= {"team quota", "uploads expire"}
    served |= {"webhooks create", "webhooks list", "webhooks show", "webhooks delete", "webhooks test"}
    served |= {"webhooks deliveries", "webhooks replay", "webhooks rotate"}
    parts = {"base add", "base list", "base show", "base publish", "base link", "eval add", "eval list"}
    parts |= {"jobs list", "jobs show", "jobs watch", "jobs cancel"}
    parts |= {"gate set", "gate show", "gate remove"}
    assert set(COMMANDS) == set(promised.split()) | parts | served


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json_help_a_sentence_and_an_example(name, adapters):
    command = COMMANDS[name]
    assert isinstance(command, Command)
    assert command.examples
    assert "--json" in [option for parameter in command.params for option in parameter.opts]
    out = adapters(*name.split(), "--help").out
    sentence = (command.help or "").splitlines()[0]
    assert sentence.endswith(".")
    assert " ".join(sentence.split()) in " ".join(out.split())
    assert f"Example:\n  {command.examples[0]}\n" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_and_option_is_explained(name):
    for parameter in COMMANDS[name].params:
        help_text = parameter.get_help_record(click.Context(COMMANDS[name]))
        assert help_text is not None and help_text[1].strip(), f"{name}: {parameter.name}"


def test_the_sentence_in_the_overview_is_that_of_the_command():
    for section in SECTIONS.values():
        for name, entry in section.items():
            command = program.get_command(click.Context(program), name)
            assert command is not None
            assert (command.help or "").splitlines()[0] == entry.sentence


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_in_help_runs(example, stocked):
    program_name, *arguments = shlex.split(example)
    assert program_name == "adapters"
    assert stocked(*arguments).out


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_command_prints_one_json_document(example, stocked):
    done = stocked(*shlex.split(example)[1:], "--json")
    assert isinstance(json.loads(done.out), dict)
    assert done.err == ""


def test_the_overview_fits_80_columns_and_names_every_command(adapters):
    out = adapters("--help").out
    assert max(map(len, out.splitlines())) <= 80
    assert {line.split()[0] for line in out.splitlines() if line.startswith("  ")} >= {
        name for section in SECTIONS.values() for name in section
    }
