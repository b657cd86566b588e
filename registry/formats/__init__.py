"""The adapter formats: where the tensors lie and what they are called; one file a format.

Standard library only (a GGUF base is read with the `gguf` package when one is registered). Nothing here reads a
weight, but for the alphas that some formats keep among them, or knows where files are kept.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from registry.domain.errors import InvalidAdapter
from registry.domain.spec import AdapterSpec
from registry.formats import diffusers, kohya, peft, single_file


@dataclass(frozen=True, slots=True)
class AdapterFormat:
    """A way of storing an adapter: how to recognise its files by name, and how to read them.

    Formats that only the tensors' names tell apart share an entry; the summary of what is read says which it was.
    """

    names: tuple[str, ...]
    detect: Callable[[Collection[str]], bool]
    read_files: Callable[..., AdapterSpec]

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0]


FORMATS: tuple[AdapterFormat, ...] = (
    AdapterFormat((peft.NAME,), peft.detect, peft.read_files),
    AdapterFormat((kohya.NAME, kohya.LYCORIS, diffusers.NAME), single_file.detect, single_file.read_files),
)


def detect(names: Collection[str]) -> AdapterFormat:
    """The format of an adapter with these files. Raises InvalidAdapter where none fits."""
    for format_ in FORMATS:
        if format_.detect(names):
            return format_
    known = ", ".join(name for format_ in FORMATS for name in format_.names)
    raise InvalidAdapter(
        "files", f"none of the known formats ({known}): a PEFT adapter has {peft.CONFIG}, others are one .safetensors"
    )
