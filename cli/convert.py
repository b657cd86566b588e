"""convert: an adapter from one format to another, on disk."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.client import opened
from cli.command import command
from cli.output import Output, Progress, facts, say
from cli.text import count
from registry.domain.reference import Reference

if TYPE_CHECKING:
    from composition.convert import Conversion

_TARGETS = ("peft", "kohya", "diffusers", "gguf")


@command(
    "convert",
    "adapters convert ./style.safetensors ./style --to peft",
    "adapters convert ./gloss ./gloss.gguf --to gguf --base SmolLM2.gguf",
)
@click.argument("source", metavar="PATH|REF", help="a folder or file, or a reference; a path that exists wins")
@click.argument(
    "to", metavar="OUT", type=click.Path(path_type=Path), help="what to write: a folder for peft, else a file"
)
@click.option("--to", "target", type=click.Choice(_TARGETS), required=True, help="The format to write.")
@click.option(
    "--base",
    type=click.Path(exists=True, path_type=Path),
    help="The base's folder or GGUF file: for gguf, and PEFT's LoHa and LoKr.",
)
def convert(out: Output, source: str, to: Path, target: str, base: Path | None) -> None:
    """Write an adapter in another format, its effect unchanged.

    PEFT's folders are read, and kohya's, LyCORIS's (LoHa, LoKr) and diffusers' files. What the target can't express
    is refused by name; nothing is dropped silently. Factors stay in their dtype where that rounds nothing.
    """
    from composition.convert import check_target  # lazy: start-up time
    from composition.convert import convert as write  # lazy: start-up time

    check_target(to, target, base)
    with out.progress() as progress, _found(source, progress) as folder:
        conversion = write(folder, to, target, base=base)
    out.answer(_document(conversion, source, to), lambda: _describe(conversion, source, to))


@contextmanager
def _found(source: str, progress: Progress) -> Iterator[Path]:
    """The adapter on disk; a version of the registry is pulled for as long as it is needed."""
    if source.startswith((".", "/", "~")) or os.path.exists(source):  # noqa: PTH110  # a string, not yet a path
        yield Path(source).expanduser()
        return
    with tempfile.TemporaryDirectory(prefix="adapters-convert-") as name, opened() as registry:
        version = registry.find_version(Reference.parse(source))
        yield registry.pull(version, Path(name) / "pulled", progress=progress).folder


def _document(conversion: "Conversion", source: str, to: Path) -> dict[str, Any]:
    return {
        "source": source,
        "from": conversion.source,
        "to": conversion.target,
        "out": str(to),
        "files": [str(path) for path in conversion.files],
        "layers": conversion.layers,
        "widened": conversion.widened,
        "left_out": list(conversion.left_out),
    }


def _describe(conversion: "Conversion", source: str, to: Path) -> None:
    facts(
        [
            ("converted", f"{source} ({conversion.source})"),
            ("to", f"{to} ({conversion.target})"),
            ("layers", count(conversion.layers, "layer")),
        ]
    )
    if conversion.widened:
        say(f"{count(conversion.widened, 'layer')} became float32, so that nothing is rounded")
    if conversion.left_out:
        say(f"not part of it: {', '.join(conversion.left_out)}")
