"""The `adapters` program: which commands there are and where each is defined, and how every run ends.

Nothing but click is imported here. A command's module is imported when that command runs, so that `--help` costs
nothing; that is why its sentence stands in the table.
"""

import atexit
import gc
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, cast

import click

NAME = "adapters"


class Entry(NamedTuple):
    """Where a command is defined, as module:attribute, and its sentence."""

    where: str
    sentence: str


SECTIONS: Mapping[str, Mapping[str, Entry]] = {
    "Publish and fetch": {
        "push": Entry("cli.transfer:push", "Publish a folder or a file as the next version of an adapter."),
        "pull": Entry("cli.transfer:pull", "Fetch a version into a folder, every byte verified."),
    },
    "Look": {
        "list": Entry("cli.listing:list_adapters", "List the adapters and their newest versions."),
        "show": Entry("cli.browse:show", "Show everything that is known of a version."),
        "search": Entry("cli.listing:search", "Find versions by base, rank, target modules, text, metric or status."),
        "inspect": Entry("cli.inspection:inspect", "Show what an adapter is: modules, ranks, scaling, variants."),
        "diff": Entry("cli.diff:diff", "Show what differs between two versions."),
        "compare": Entry("cli.compare:compare", "Show what was measured of versions side by side."),
        "lineage": Entry("cli.lineage:lineage", "Show what a version was made of, and what was made of it."),
        "history": Entry("cli.browse:history", "Show an adapter's versions and how its aliases moved."),
        "resolve": Entry("cli.resolve:resolve", "Look up what a serving stack must know before it loads a version."),
    },
    "Compose": {
        "blend": Entry("cli.compose:blend", "Compose adapters by an expression and publish the result."),
        "jobs": Entry("cli.jobs:jobs", "See how far compositions are that were asked for, and cancel them."),
        "convert": Entry("cli.convert:convert", "Write an adapter in another format, its effect unchanged."),
        "merge": Entry("cli.merge:merge", "Merge adapters into a base model's weights."),
        "extract": Entry("cli.merge:extract", "Make a LoRA of the difference between two models and publish it."),
        "verify-merge": Entry(
            "cli.merge:verify_merge", "Check that a merged model is the base plus an adapter, and name what is wrong."
        ),
    },
    "Promote and look after": {
        "promote": Entry("cli.aliases:promote", "Point an alias at a version."),
        "gate": Entry("cli.gates:gate", "Say what a version must show before an alias may point at it."),
        "approve": Entry("cli.gates:approve", "Say that a version may become what an alias points at."),
        "rollback": Entry("cli.aliases:rollback", "Point an alias back at the version before."),
        "eval": Entry("cli.stewardship:evaluation", "Record and list what was measured of versions."),
        "yank": Entry("cli.stewardship:yank", "Hide a version from every look-up but an exact one."),
        "release": Entry("cli.stewardship:release", "Make a yanked or quarantined version active again."),
        "revoke": Entry("cli.stewardship:revoke", "Withdraw a version for good: it can't be read any more."),
        "edit": Entry("cli.editing:edit", "Say what an adapter is for."),
        "delete": Entry("cli.editing:delete", "Delete an adapter with all its versions."),
        "purge": Entry("cli.collection:purge", "Erase the bytes of a version, or of an adapter, at once and for good."),
        "base": Entry("cli.bases:base", "Register and publish base models, which adapters are checked against."),
    },
    "A server and who may use it": {
        "serve": Entry("cli.server:serve", "Serve the registry to others over HTTP."),
        "worker": Entry("cli.worker:worker", "Run the jobs that were asked for, one after another."),
        "login": Entry("cli.login:login", "Keep a token for a server, once it has been verified there."),
        "logout": Entry("cli.login:logout", "Forget the token of a server."),
        "token": Entry("cli.tokens:token", "Make, list and revoke tokens."),
        "team": Entry("cli.teams:team", "Make teams, and say who is in them."),
        "webhooks": Entry("cli.webhooks:webhooks", "Have a team's events sent to a URL."),
        "uploads": Entry("cli.uploads:uploads", "Clear away uploads that nobody finished."),
        "audit": Entry("cli.audit:audit", "Read and verify the log of what everybody did."),
    },
    "The registry and the program": {
        "gc": Entry("cli.collection:gc", "Remove stored bytes that nothing refers to any more."),
        "verify": Entry("cli.stewardship:verify", "Check that every stored byte is still there and unchanged."),
        "repair": Entry("cli.stewardship:repair", "Replace what `verify` found damaged by what another store has."),
        "migrate": Entry("cli.program:migrate", "Bring the database to this program's schema."),
        "completion": Entry("cli.program:completion", "Print the script that completes commands in your shell."),
        "version": Entry("cli.program:version", "Print the program's version."),
    },
}


class Program(click.Group):
    """The group of all commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for section in SECTIONS.values():
            if entry := section.get(cmd_name):
                module, _, attribute = entry.where.partition(":")
                return cast(click.Command, getattr(importlib.import_module(module), attribute))
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.sentence) for name, entry in section.items()], col_max=12)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run, report what went wrong, and leave with the exit code that belongs to it."""
        arguments = list(sys.argv[1:] if args is None else args)
        extra |= {"obj": tuple(arguments), "color": False if os.environ.get("NO_COLOR") else None}
        try:
            code = super().main(arguments, prog_name or NAME, complete_var, standalone_mode=False, **extra)
        except Exception as error:
            from cli.failures import report  # lazy: start-up time

            debug = bool(os.environ.get("ADAPTERS_DEBUG"))
            code = report(error, as_json="--json" in arguments, debug=debug, color=extra["color"])
        sys.exit(code if isinstance(code, int) else 0)


@click.group(cls=Program, name=NAME, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def program() -> None:
    """A versioned registry and composition service for LoRA adapters.

    `adapters COMMAND --help` explains a command. Every command takes --json. Exit codes: 0 done, 1 other failure,
    2 wrong usage, 3 absent, 4 refused, 5 conflict, 6 not allowed.
    """


def run() -> NoReturn:
    """The console script."""
    # A look-up makes 100,000 objects and no garbage: searching them for cycles, and once more at the end, would cost
    # a fifth of its time.
    gc.set_threshold(300_000)
    atexit.register(gc.freeze)
    program.main()
