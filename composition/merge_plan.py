"""What a merge into a base is, before and after: where from and to, and which bytes came out. It reads no tensors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composition.shards import Shard, label
from registry.domain.digest import json_digest
from registry.domain.errors import InvalidFile, OutputTaken

REVISION = 2  # goes up when the same merge would give other bytes

Progress = Callable[[str, int, int], None]  # what is being done, done so far, of how much


@dataclass(frozen=True, slots=True)
class Plan:
    """A merge: where from, where to, and what it is. `origin` goes into the manifest and decides what is resumed."""

    base: Path
    out: Path
    shards: tuple[Shard, ...]
    origin: Mapping[str, Any]

    @property
    def partial(self) -> Path:
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def digest(self) -> str:
        """Identity of everything that decides the output's bytes."""
        layout = [[s.path, s.size, [[label(t), t.start] for t in s.tensors]] for s in self.shards]
        return json_digest({"revision": REVISION, "origin": self.origin, "layout": layout})


@dataclass(frozen=True, slots=True)
class MergedShard:
    """A finished shard. `unchanged` are tensors whose delta is too small to change a single element."""

    path: str
    size: int
    sha256: str
    unchanged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Merged:
    """What lies in the output folder. `resumed` counts shards that an earlier run had finished."""

    folder: Path
    shards: tuple[MergedShard, ...]
    copied: tuple[str, ...]
    left_out: tuple[str, ...]
    resumed: int

    @property
    def unchanged(self) -> tuple[str, ...]:
        """Tensors that have a delta which changes nothing of them."""
        return tuple(sorted(name for shard in self.shards for name in shard.unchanged))


def check_output(out: Path) -> None:
    """Raises OutputTaken where something lies already, OSError where no folder can be made."""
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise OutputTaken(str(out))


def check_format(base_format: str, folder: Path) -> None:
    """Raises InvalidFile for a base that isn't a folder of safetensors."""
    if base_format != "safetensors" or not folder.is_dir():
        raise InvalidFile(str(folder), "format", "merging needs a folder with the base's safetensors files")
