"""Two pictures of the results, as SVG and PNG: interpolation curves, and every method against PEFT's counterpart."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "plots"
COLOURS = {"lerp": "#0072b2", "slerp": "#009e73", "PEFT linear": "#d55e00"}  # told apart by the colour-blind, too
STYLES = {"lerp": "-", "slerp": "--", "PEFT linear": ":"}


def draw(document: Mapping[str, Any]) -> None:
    """Write interpolation and quality, each .svg and .png. The same document gives the same SVG."""
    mpl.rcParams["svg.hashsalt"] = "quality"
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, figure in (("interpolation", _interpolation(document)), ("quality", _differences(document))):
        figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
        figure.savefig(FOLDER / f"{name}.png", dpi=150, metadata={"Software": None})
        _strip(FOLDER / f"{name}.svg")


def _strip(path: Path) -> None:
    """No blanks at the ends of lines: matplotlib's SVG has them."""
    path.write_text("".join(f"{line.rstrip()}\n" for line in path.read_text().splitlines()))


def _interpolation(document: Mapping[str, Any]) -> Figure:
    """Accuracy on both tasks along the way from one parent to the other; the base as a thin line."""
    found, base = document["interpolation"], document["single"][""]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, task in zip(figure.subplots(1, len(found["tasks"])), found["tasks"], strict=True):
        for name, curves in found["curves"].items():
            axes.plot(found["t"], curves[task], STYLES[name], color=COLOURS[name], marker="o", markersize=3, label=name)
        axes.axhline(base[task], color="#888888", linewidth=0.8, label="base model")
        axes.set(title=task, xlabel="t: 0 is the sentiment adapter, 1 the wordnet adapter", ylabel="test accuracy")
        axes.grid(alpha=0.25)
    figure.axes[0].legend(frameon=False)
    return figure


def _differences(document: Mapping[str, Any]) -> Figure:
    """Ours minus PEFT's, in points, with one paired standard error."""
    rows = [
        (f"{blend}: {_label(row)}", row["peft"])
        for blend in ("two", "three")
        for row in document[blend]["rows"]
        if "peft" in row
    ]
    figure = Figure(figsize=(9, 0.32 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    places = range(len(rows), 0, -1)
    values = [100 * found["difference"] for _, found in rows]
    errors = [100 * found["standard_error"] for _, found in rows]
    axes.errorbar(values, list(places), xerr=errors, fmt="o", color="#0072b2", markersize=4, capsize=2)
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_yticks(list(places), [label for label, _ in rows], fontsize=8)
    axes.set(xlabel="ours minus PEFT's, points of mean test accuracy, ± one paired standard error")
    axes.grid(axis="x", alpha=0.25)
    return figure


def _label(row: Mapping[str, Any]) -> str:
    at = f" at rank {row['rank']}" if row["rank"] else ""
    return f"{row['method']} - {row['peft']['kind']}{at}"
