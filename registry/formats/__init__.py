"""The adapter formats: where the tensors lie and what they are called; one file a format.

Standard library only (a GGUF base is read with the `gguf` package when one is registered). Nothing here reads a
weight or knows where files are kept.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from registry.domain.errors import InvalidAdapter
from registry.domain.spec import AdapterSpec
from registry.formats import peft


@dataclass(frozen=True, slots=True)
class AdapterFormat:
    """A way of storing an adapter: how to recognise its files by name, and how to read them."""

    name: str
    detect: Callable[[Collection[str]], bool]
    read_files: Callable[..., AdapterSpec]


FORMATS: tuple[AdapterFormat, ...] = (AdapterFormat(peft.NAME, peft.detect, peft.read_files),)


def detect(names: Collection[str]) -> AdapterFormat:
    """The format of an adapter with these files. Raises InvalidAdapter where none fits."""
    for format_ in FORMATS:
        if format_.detect(names):
            return format_
    known = ", ".join(format_.name for format_ in FORMATS)
    raise InvalidAdapter("files", f"none of the known formats ({known}); a PEFT adapter has {peft.CONFIG}")
