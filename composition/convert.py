"""Converting an adapter from one format to another, the delta of every layer unchanged.

Factors keep their dtype where that rounds nothing, else they become float32. A layer that the target has no name for
is refused, and so is everything that is no product of two factors. The same adapter gives the same bytes.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from composition.adapter_source import Adapter, read_adapter
from composition.adapter_writers import write_diffusers, write_kohya, write_peft
from composition.gguf_writer import read_architecture, write_gguf
from composition.layers import Layer
from registry.domain.errors import WrongUsage
from registry.formats import diffusers, kohya, peft

GGUF = "gguf"
_WRITERS: Mapping[str, Callable[[Adapter, Path], Sequence[Layer]]] = {
    peft.NAME: write_peft,
    kohya.NAME: write_kohya,
    diffusers.NAME: write_diffusers,
}
_ENDINGS = {kohya.NAME: ".safetensors", diffusers.NAME: ".safetensors", GGUF: ".gguf"}
TARGETS = (*_WRITERS, GGUF)


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was written. `widened` counts the layers whose factors became float32, which doubles a half's size."""

    source: str
    target: str
    layers: int
    files: tuple[Path, ...]
    left_out: tuple[str, ...]
    widened: int


def convert(source: Path, out: Path, target: str, *, base: Path | None = None) -> Conversion:
    """Write the adapter at `source` to `out` in another format; `out` appears whole or not at all.

    `base` is needed for GGUF, and by PEFT's LoHa and LoKr.
    Raises WrongUsage for an `out` that exists or has the wrong ending, UnsupportedAdapter naming what the target can't
    hold, and what reading raises.
    """
    check_target(out, target, base)
    adapter = read_adapter(source, base)
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        written = _write(adapter, fresh, target, base=base)
        files = _place(fresh, out, is_folder=target == peft.NAME)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    widened = _widened(adapter.layers, written)
    return Conversion(adapter.format, target, len(written), files, adapter.left_out, widened)


def _write(adapter: Adapter, folder: Path, target: str, *, base: Path | None) -> Sequence[Layer]:
    if target != GGUF:
        return _WRITERS[target](adapter, folder)
    assert base is not None  # check_target
    return write_gguf(folder / "adapter.gguf", adapter, read_architecture(base))


def check_target(out: Path, target: str, base: Path | None) -> None:
    """Raises WrongUsage for an impossible request, before anything is read."""
    if target not in TARGETS:
        raise WrongUsage(f"{target!r} is none of {', '.join(TARGETS)}")
    if out.suffix != _ENDINGS.get(target, out.suffix):
        raise WrongUsage(f"{out} must end in {_ENDINGS[target]}: a {target} adapter is one file")
    if os.path.lexists(out):
        raise WrongUsage(f"{out} exists already; name another place, or remove it first")
    if target == GGUF and base is None:
        raise WrongUsage("--base is missing: GGUF's tensor names depend on the base's architecture")


def _place(fresh: Path, out: Path, *, is_folder: bool) -> tuple[Path, ...]:
    """Move what was written to where it belongs."""
    fresh.chmod(0o755)
    if is_folder:
        fresh.rename(out)
        return tuple(sorted(path for path in out.rglob("*") if path.is_file()))
    (written,) = fresh.iterdir()
    written.rename(out)
    return (out,)


def _widened(before: Sequence[Layer], after: Sequence[Layer]) -> int:
    halves = {layer.name for layer in before if layer.B.element_size() < 4}
    return sum(layer.B.element_size() >= 4 for layer in after) if len(halves) == len(before) else 0
