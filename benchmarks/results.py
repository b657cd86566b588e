"""Keeping what a benchmark found: results/NAME.json for programs, results/NAME.md to read, both with the machine.

    save("merge", rows, columns, title="Merging rank 16 into 2 GB", packages=("torch", "peft"))

`rows` are mappings from a column to a text or a number; a column that a row lacks is empty. Every run replaces the
last one. The host's name, paths and user stay out of it.
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parent / "results"

Cell = str | int | float | None


def save(
    name: str,
    rows: Sequence[Mapping[str, Cell]],
    columns: Sequence[str],
    *,
    title: str,
    notes: Sequence[str] = (),
    packages: Sequence[str] = ("torch",),
    folder: Path = FOLDER,
) -> Path:
    """Write both files; returns the Markdown's path. `packages` are the distributions whose versions matter."""
    folder.mkdir(parents=True, exist_ok=True)
    found = machine()
    versions = {"python": platform.python_version(), **{package: version(package) for package in packages}}
    document = {
        "benchmark": name,
        "title": title,
        "measured_at": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": found,
        "versions": versions,
        "columns": list(columns),
        "rows": [dict(row) for row in rows],
        "notes": list(notes),
    }
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    lines = [f"# {title}", "", *_table(rows, columns), "", *(f"- {note}" for note in notes)]
    lines += [f"- {document['measured_at']}: {_sentence(found)}; " + ", ".join(f"{k} {v}" for k, v in versions.items())]
    path = folder / f"{name}.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def machine() -> dict[str, Cell]:
    """The processor, how many of its cores this process may use, memory, and the load of others meanwhile."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "ram_gib": round(pages / 2**30, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "load_average": round(os.getloadavg()[0], 1),
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def _sentence(found: Mapping[str, Cell]) -> str:
    return "{cpu}, {cores} cores, {ram_gib} GiB, {system}, load average {load_average}".format(**found)


def _table(rows: Sequence[Mapping[str, Cell]], columns: Sequence[str]) -> list[str]:
    lines = [columns, ["---:" if _is_number(rows, column) else "---" for column in columns]]
    lines += [[_text(row.get(column)) for column in columns] for row in rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _is_number(rows: Sequence[Mapping[str, Cell]], column: str) -> bool:
    return any(isinstance(row.get(column), int | float) for row in rows)


def _text(cell: Cell) -> str:
    if cell is None or isinstance(cell, str):
        return cell or ""
    return f"{cell:,.3g}" if isinstance(cell, float) and abs(cell) < 100 else f"{cell:,.0f}"
