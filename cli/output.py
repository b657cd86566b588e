"""What a command says on stdout: one JSON document, or facts, tables and trees for people.

rich is imported only when something is drawn with it. Everything that comes from outside is printed as plain text
with control characters written out: a message must not steer somebody's terminal.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from cli.text import clean, human_size

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import TaskID

Progress = Callable[[str, int, int], None]  # what is being done, done so far, of how much
_FIRST_COLUMN = 40  # characters up to which a table's first column is kept in one line: it holds the names
_COUNTED = frozenset(  # progress in adapters, modules or files; all other is in bytes
    {"loading", "composing", "extracting", "measuring", "verifying"}
)
Facts = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Output:
    """Where a command's result goes."""

    as_json: bool = False

    def answer(self, document: Any, *parts: Callable[[], None]) -> None:
        """Print the document, or call the parts that print it for people."""
        if self.as_json:
            click.echo(json.dumps(document, indent=2, ensure_ascii=False))
            return
        for part in parts:
            part()

    def progress(self) -> AbstractContextManager[Progress]:
        """A context with a Progress to call; a bar only for people at a terminal."""
        return _bar() if sys.stderr.isatty() and not self.as_json else _silence()


def facts(rows: Facts) -> None:
    """Print labelled facts, a long one on several lines."""
    width = max(len(label) for label, _ in rows) + 1
    room = max(shutil.get_terminal_size().columns - width, 40)
    for label, value in rows:
        first, *rest = _folded(clean(value), room)
        click.echo(f"{click.style(f'{label:{width}}', dim=True)}{first}")
        for line in rest:
            click.echo(f"{'':{width}}{line}")


def _folded(text: str, room: int) -> list[str]:
    """Lines of at most `room` characters, broken at blanks; a word that is longer stays whole, for copying."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines


def say(text: str = "") -> None:
    """Print one line."""
    click.echo(clean(text))


def heading(text: str) -> None:
    """Print a line that stands above a table, after a blank one."""
    click.echo(f"\n{click.style(clean(text), bold=True)}")


def warn(text: str) -> None:
    """Print a warning on stderr."""
    click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {clean(text)}", err=True)


def next_step(line: str) -> None:
    """Print what one would probably do next."""
    click.echo(f"{click.style('next:', fg='cyan')} {clean(line)}")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[str] = ()) -> None:
    """Print a table; columns named in `numbers` are aligned to the right. Nothing is cut off: long cells are folded."""
    from rich.table import Table  # lazy: start-up time
    from rich.text import Text  # lazy: start-up time

    drawn = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    names_fit = max((len(row[0]) for row in rows), default=0) <= _FIRST_COLUMN
    for index, name in enumerate(columns):
        side: Literal["left", "right"] = "right" if name in numbers else "left"
        drawn.add_column(name, overflow="fold", justify=side, no_wrap=names_fit and not index)
    for row in rows:
        drawn.add_row(*(Text(clean(cell)) for cell in row))
    draw(drawn)


def draw(drawing: "RenderableType") -> None:
    """Print something of rich's, without the blanks that it fills lines with."""
    console = _console(stderr=False)
    with console.capture() as capture:
        console.print(drawing)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console  # lazy: start-up time

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


@contextmanager
def _silence() -> Iterator[Progress]:
    yield lambda _what, _done, _total: None


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn  # lazy: start-up time
    from rich.progress import Progress as Bars  # lazy: start-up time

    amount = TextColumn("{task.fields[amount]}")
    columns = (TextColumn("{task.description:<10}"), BarColumn(), amount, TimeRemainingColumn())
    with Bars(*columns, console=_console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def advance(what: str, done: int, total: int) -> None:
            show = str if what in _COUNTED else human_size
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total, amount="")
            bars.update(tasks[what], completed=done, total=total, amount=f"{show(done)} of {show(total)}")

        yield advance
