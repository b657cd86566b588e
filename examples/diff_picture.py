"""Draw docs/diff.svg: heat strips of real adapters of one base.

python examples/diff_picture.py docs/diff.svg
"""

import sys
from pathlib import Path

import torch
from rich.console import Console

from cli.heat import strip
from composition.adapter import LoadedAdapter
from composition.files import WEIGHTS_NAME, load_adapter
from composition.similarity import compare
from registry.domain.digest import sha256_stream
from registry.domain.records import FileEntry
from registry.formats.peft import read_folder

ADAPTERS = Path(__file__).parent / "adapters"
PAIRS = (
    ("sentiment-r8", "sentiment-rank-pattern"),
    ("sentiment-r8", "genre-r16-rslora-bf16"),
    ("sentiment-r8", "wordnet-r8"),
)


def main() -> None:
    """Compare each pair, and save what a terminal would show."""
    torch.set_num_threads(1)
    with Path("/dev/null").open("w") as nowhere:
        console = Console(record=True, width=84, file=nowhere, force_terminal=True, color_system="truecolor")
        for left, right in PAIRS:
            found = compare(*(load(ADAPTERS / f"minilm-{name}") for name in (left, right)))
            console.print(f"[bold]{left} → {right}[/bold]", highlight=False)
            console.print(strip({module.module: module.cosine for module in found}, 80))
            console.print()
        console.save_svg(sys.argv[1], title="adapters diff")


def load(folder: Path) -> LoadedAdapter:
    """An adapter from its folder."""
    with (folder / WEIGHTS_NAME).open("rb") as stream:
        digest, size = sha256_stream(stream)
        stream.seek(0)
        file = FileEntry(WEIGHTS_NAME, digest, size)
        return load_adapter(stream, read_folder(folder), subject=folder.name, file=file)


if __name__ == "__main__":
    main()
