"""migrate, completion and version: the program itself and its database."""

import os
import platform

import click

from cli.client import refuse_on_server
from cli.command import command
from cli.output import Output, say

_SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_ADAPTERS_COMPLETE"  # what click looks at when a shell asks for completions


@command("migrate", "adapters migrate")
def migrate(out: Output) -> None:
    """Bring the database to this program's schema.

    An embedded registry does so by itself; a PostgreSQL database waits for this command. It runs under a lock, once,
    whoever else runs it too, and a database of a newer program is refused.
    """
    from registry.bootstrap import migrate_registry  # lazy: start-up time

    refuse_on_server("migrate", "it changes the server's database", "run it where the server is")
    before, after = migrate_registry(os.environ)
    done = f"the schema was {before or 'not there'} and is now {after}"
    unchanged = f"the schema is {after} already"
    out.answer({"before": before, "after": after}, lambda: say(unchanged if before == after else done))


@command("completion", "adapters completion bash")
@click.argument("shell", type=click.Choice(_SHELLS), help="the shell that you use")
def completion(out: Output, shell: str) -> None:
    """Print the script that completes commands in your shell.

    Add `eval "$(adapters completion bash)"` to ~/.bashrc, the same with zsh to ~/.zshrc, or
    `adapters completion fish | source` to ~/.config/fish/config.fish.
    """
    from click.shell_completion import ShellComplete, get_completion_class  # lazy: start-up time

    found = get_completion_class(shell)
    assert found is not None
    root = click.get_current_context().find_root().command
    # The base class's source: bash's own would first start a bash to look at its version.
    script = ShellComplete.source(found(root, {}, "adapters", _VARIABLE))
    out.answer({"shell": shell, "script": script}, lambda: click.echo(script))


@command("version", "adapters version")
def version(out: Output) -> None:
    """Print the program's version."""
    from importlib.metadata import version as version_of  # lazy: start-up time

    installed = version_of("adapter-registry")
    out.answer({"version": installed, "python": platform.python_version()}, lambda: say(f"adapters {installed}"))
