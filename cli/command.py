"""What every command is made of: `--json`, help with explained arguments and an example, and the common types.

Knows nothing of what commands do.
"""

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.output import Output
from registry.domain.reference import AdapterName, Reference

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

# A minus in front of a number, an adapter's name or a parenthesis: no option of ours looks like that.
_EXPRESSION = re.compile(r"-\s*(?:[0-9.(]|[A-Za-z0-9._-]+[/(]).*", re.DOTALL)


_DURATION = re.compile(r"([0-9]{1,6})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Command(click.Command):
    """A command that takes `--json`, hands its callback an Output, and whose help ends with an example."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.params.append(click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document."))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _shield_expressions(args, self._valued_options()))

    def invoke(self, ctx: click.Context) -> Any:
        ctx.params["out"] = Output(as_json=ctx.params.pop("as_json"))
        return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Example"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")

    def _valued_options(self) -> frozenset[str]:
        options = [param for param in self.params if isinstance(param, click.Option) and not param.is_flag]
        return frozenset(name for option in options for name in option.opts)


class Commands(click.Group):
    """A command of commands, as `base`."""

    command_class = Command


def _shield_expressions(args: Sequence[str], valued: frozenset[str]) -> list[str]:
    """Move an expression that begins with a minus behind `--`, so that it isn't taken for an option."""
    kept: list[str] = []
    shielded: list[str] = []
    expects_value = False
    for index, arg in enumerate(args):
        if arg == "--" and not expects_value:
            return [*kept, "--", *shielded, *args[index + 1 :]]
        if not expects_value and _EXPRESSION.fullmatch(arg):
            shielded.append(arg)
            continue
        expects_value = not expects_value and arg in valued
        kept.append(arg)
    return [*kept, "--", *shielded] if shielded else kept


def command(name: str, *examples: str) -> Callable[[Callable[..., None]], Command]:
    """Make a function a command; its docstring is the help, `examples` are command lines that run as they stand."""
    return click.command(name, cls=Command, examples=examples)


class ReferenceType(click.ParamType[Reference]):
    """team/name[@selector]. Raises InvalidReference, which says what is wrong with it."""

    name = "ref"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Reference:
        return value if isinstance(value, Reference) else Reference.parse(value)


class AdapterNameType(click.ParamType[AdapterName]):
    """team/name, without a selector."""

    name = "team/name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> AdapterName:
        return value if isinstance(value, AdapterName) else AdapterName.parse(value)


class AssignmentType(click.ParamType[tuple[str, str]]):
    """name=value."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, text = value.partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not name=value", param, ctx)
        return key, text


class DurationType(click.ParamType[timedelta]):
    """A time as 90s, 30m, 36h or 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = _DURATION.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is not a time: write 90s, 30m, 36h or 7d", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


REFERENCE = ReferenceType()
DURATION = DurationType()
ADAPTER_NAME = AdapterNameType()
ASSIGNMENT = AssignmentType()
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
ADAPTER_PATH = click.Path(exists=True, path_type=Path)  # a folder, or a file that is an adapter by itself


def reference_argument(
    name: str = "reference", metavar: str = "REF", *, required: bool = True, help: str | None = None
) -> Callable[[Decorated], Decorated]:
    """An argument that is a reference."""
    text = help or "team/name, or with @v3, @alias, @<commit> or @sha256:<hex>"
    return click.argument(name, metavar=metavar, type=REFERENCE, required=required, help=text)


def name_argument() -> Callable[[Decorated], Decorated]:
    """An argument that is an adapter's name."""
    return click.argument("name", metavar="TEAM/NAME", type=ADAPTER_NAME, help="the adapter")
