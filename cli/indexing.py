"""Hashing a base model given as a path, with progress."""

from pathlib import Path
from typing import TYPE_CHECKING

from cli.output import Progress

if TYPE_CHECKING:
    from registry.domain.bases import BaseIndex


def looks_like_path(text: str) -> bool:
    """Whether --base means a folder or file: names of bases may hold a slash, so a path begins with . / or ~."""
    return text.startswith((".", "/", "~")) or text.endswith((".gguf", ".safetensors"))


def index_path(path: Path, progress: Progress) -> "BaseIndex":
    """Read and hash a base model. Raises InvalidFile."""
    from registry.formats.base_model import index_base  # lazy: start-up time

    return index_base(path.expanduser(), progress=lambda done, total: progress("hashing", done, total))
