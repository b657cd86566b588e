"""Reading an adapter that is to be converted: from PEFT's folder, or kohya's, LyCORIS's or diffusers' single file.

A folder of PEFT's folders, one a component (`unet`, `text_encoder`, …), is one adapter.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from composition.layers import KERNELS_UNKNOWN, Layer, deduplicate, read_layers
from composition.shards import headers_index
from registry.domain.bases import match
from registry.domain.errors import UnsupportedAdapter
from registry.domain.spec import AdapterSpec
from registry.formats import diffusers, peft
from registry.formats.base_files import read_base
from registry.formats.folder import read_path
from registry.formats.peft_lycoris import KINDS


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """An adapter read whole. `metadata` is what the trainer noted, `left_out` the files that hold none of it."""

    layers: tuple[Layer, ...]
    format: str
    base_name: str | None
    metadata: Mapping[str, str]
    left_out: tuple[str, ...]


def read_adapter(source: Path, base: Path | None = None) -> Adapter:
    """Read an adapter from a folder or a file. `base` tells which layers of PEFT's LoHa and LoKr are convolutions.

    Raises InvalidFile, InvalidAdapter, RankMismatch, or UnsupportedAdapter for a kind that has no pairs of factors.
    """
    components = component_folders(source)
    if not components:
        return _read(source, base)
    parts = {path.name: _read(path, base) for path in components}
    layers = [
        replace(layer, name=f"{component}.{layer.name}") for component, part in parts.items() for layer in part.layers
    ]
    names = {part.base_name for part in parts.values()}
    left_out = [f"{component}/{name}" for component, part in parts.items() for name in part.left_out]
    left_out += [path.name for path in source.iterdir() if path.name not in parts and not path.name.startswith(".")]
    base_name = names.pop() if len(names) == 1 else None
    return Adapter(deduplicate(layers), peft.NAME, base_name, {}, tuple(sorted(left_out)))


def component_folders(source: Path) -> list[Path]:
    """PEFT's folders in a folder that is none itself, one a component."""
    if not source.is_dir() or (source / peft.CONFIG).exists():
        return []
    return [source / name for name in diffusers.COMPONENTS if (source / name / peft.CONFIG).is_file()]


def _read(source: Path, base: Path | None) -> Adapter:
    found = read_path(source)
    path = found.weights
    with path.open("rb") as stream:
        layers = read_layers(stream, _with_kernels(found.spec, path, base), size=path.stat().st_size, path=str(path))
    summary = found.spec.summary
    if summary.format == peft.NAME:
        return Adapter(deduplicate(layers), summary.format, summary.base_name, {}, found.others)
    metadata = {str(key): str(value) for key, value in found.spec.config.items()}
    is_model = summary.base_name != metadata.get("modelspec.architecture")
    base_name = summary.base_name if is_model else None
    return Adapter(deduplicate(layers), summary.format, base_name, metadata, found.others)


def _with_kernels(spec: AdapterSpec, path: Path, base: Path | None) -> AdapterSpec:
    if spec.summary.peft_type not in KINDS or spec.summary.format != peft.NAME:
        return spec
    if base is None:
        raise UnsupportedAdapter(str(path), spec.summary.peft_type, f"{KERNELS_UNKNOWN}; give its folder with --base")
    return match(spec, headers_index(read_base(base)), base=str(base))
