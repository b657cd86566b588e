"""A heat strip: how alike two adapters' deltas are, a row a target module, a column a layer.

A cell is a sign for the cosine on a ground of its colour, so that the picture is the same without colours. Knows
figures, nothing of where they come from.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cli.text import clean
from registry.domain.spec import layers_alike

if TYPE_CHECKING:
    from rich.text import Text

LEGEND = "cosines: = 1, 9…0 from 0.9 to 0, a…i from -0.1 down; < > in one only, · no delta"

Cell = float | str | None
"""A cosine, `<` or `>` for a module that only one has, or None."""
Place = tuple[int, ...]  # the numbers in a module's path
Color = tuple[int, int, int]

_NUMBER = re.compile(r"(?<![^.])([0-9]+)(?![^.])")
_SAME = 0.9995
_WIDEST = 3  # characters of a cell
_TICK = 5  # layers from one number above the strip to the next
# Colours of the cosines -1, 0 and 1: they differ in lightness too.
_OPPOSITE, _UNRELATED, _ALIKE = (86, 156, 255), (44, 44, 52), (255, 190, 60)


def strip(cells: Mapping[str, Cell], width: int | None = None) -> "Text":
    """The strip of modules {path: cell}, at most so many characters wide; the terminal's width by default.

    Layers that have no room beside the others follow below, in bands of equal length.
    """
    from rich.text import Text  # lazy: start-up time

    rows: dict[str, dict[Place, Cell]] = {}
    for name, cell in cells.items():
        rows.setdefault(layers_alike(name), {})[_place(name)] = cell
    labels = dict(zip(rows, _short(list(rows)), strict=True))
    places = sorted({place for row in rows.values() for place in row})
    margin = max(map(len, labels.values())) + 1
    room = max((width or shutil.get_terminal_size().columns) - margin, 8)
    bands = -(-len(places) // room)
    length = -(-len(places) // bands)
    cell_width = min(_WIDEST, room // length)
    drawn = Text()
    for start in range(0, len(places), length):
        band = places[start : start + length]
        drawn.append(f"{'':{margin}}{_ticks(band, cell_width)}".rstrip() + "\n", style="dim")
        for path, row in rows.items():
            drawn.append(f"{clean(labels[path]):{margin}}")
            for place in band:
                _draw(drawn, row.get(place, ""), cell_width)
            drawn.append("\n")
    drawn.append(LEGEND, style="dim")
    return drawn


def _place(name: str) -> Place:
    return tuple(map(int, _NUMBER.findall(name)))


def _short(paths: Sequence[str]) -> list[str]:
    """The shortest ends of paths that still tell them apart, of whole components."""
    parts = [path.split(".") for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        short = [".".join(part[-length:]) for part in parts]
        if len(set(short)) == len(paths):
            return short
    return list(paths)


def _ticks(band: Sequence[Place], width: int) -> str:
    """The layers' numbers above a band, as many as have room; nothing where a layer has several numbers."""
    if any(len(place) > 1 for place in band):
        return ""
    step = 1 if width >= _WIDEST else _TICK
    line = ""
    for column, place in enumerate(band):
        if place and place[0] % step == 0 and len(line) <= column * width:
            line = f"{line:{column * width}}{place[0]}"
    return line


def _draw(drawn: "Text", cell: Cell, width: int) -> None:
    text = f"{'':{(width - 1) // 2}}{sign(cell)}"
    if not isinstance(cell, float):
        drawn.append(f"{text:{width}}")
        return
    ground = _color(cell)
    ink = "black" if sum(ground) > 3 * 128 else "white"
    drawn.append(f"{text:{width}}", style=f"{ink} on rgb({','.join(map(str, ground))})")


def sign(cell: Cell) -> str:
    """One character: see LEGEND."""
    if cell is None:
        return "·"
    if isinstance(cell, str):
        return cell or " "
    if cell >= _SAME:
        return "="
    tenths = min(int(abs(cell) * 10), 9)
    return str(tenths) if cell >= 0 or not tenths else "abcdefghi"[tenths - 1]


def _color(cosine: float) -> Color:
    end = _ALIKE if cosine >= 0 else _OPPOSITE
    share = min(abs(cosine), 1.0)
    red, green, blue = (round(low + share * (high - low)) for low, high in zip(_UNRELATED, end, strict=True))
    return red, green, blue
