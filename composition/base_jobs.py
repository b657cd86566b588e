"""The use cases around a base model's weights: merge adapters into them, and get an adapter out of two models.

Next to `jobs`, the only room that knows both the registry's service and what computes. Entry points set the number
of threads, as for `jobs`.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from composition.base_merge import (
    REVISION,
    Merged,
    Plan,
    Progress,
    check_format,
    check_output,
    merge_shards,
)
from composition.engine import Composition, choose_device, compose, silent
from composition.jobs import Inputs, check_same_base
from composition.placement import Place, additions, linear_spec, place_modules
from composition.shards import headers_index, label, shards_of
from registry.domain.errors import WrongBase
from registry.domain.expression import format
from registry.domain.recipe import Recipe
from registry.domain.records import Version
from registry.formats.base_files import StoredBase, read_base
from registry.formats.base_model import index_base
from registry.service import Registry


def merge(
    registry: Registry,
    recipe: Recipe,
    *,
    base: Path,
    out: Path,
    device: str = "auto",
    workers: int | None = None,
    progress: Progress = silent,
) -> Merged:
    """Merge what a recipe composes into a folder of safetensors; `out` appears whole or not at all.

    Every input must be of exactly these weights: the base is hashed first. The composition is not stored in between:
    its factors are float32 and the sum is rounded once, to the base's dtype. `workers` is how many shards are written
    at once. A run that was killed is continued by the next one with the same arguments.
    Raises what looking up, loading and composing raise, WrongBase, BaseMismatch, OutputTaken, NotEnoughSpace.
    """
    choose_device(device)
    out = out.absolute()
    check_output(out)
    inputs = Inputs(registry)
    pinned = recipe.with_dtype("float32").pin(inputs.resolve)
    versions = [inputs.version(parent) for parent in pinned.inputs]
    check_same_base(versions)
    stored = read_base(base)
    check_format(stored.format, base)
    fingerprint = check_base(versions, base, progress)
    composition = compose(pinned, inputs.load(versions, progress), device=device, progress=progress)
    places = place_composition(composition, stored, name=str(base))
    origin = {
        "expression": format(pinned),
        "recipe_digest": pinned.digest,
        "recipe": pinned.document(),
        "base": {"fingerprint": fingerprint, "name": composition.base_name},
        "arithmetic": {"revision": REVISION, "accumulated_in": "float32", "roundings": 1},
        "modules": {module: label(places[module][0].tensor) for module in sorted(places)},
    }
    deltas = {module.name: module.delta for module in composition.modules}
    return merge_shards(
        Plan(base, out, shards_of(stored, base), origin),
        additions(places, deltas),
        norms={module.name: module.norm for module in composition.report.modules},
        workers=workers or max(1, len(os.sched_getaffinity(0))),
        progress=progress,
    )


def place_composition(composition: Composition, stored: StoredBase, *, name: str) -> dict[str, list[Place]]:
    """Where a composed adapter's modules lie in a base's files."""
    modules = [
        linear_spec(module.name, module.delta.shape, transposed=composition.fan_in_fan_out)
        for module in composition.modules
    ]
    return place_modules(modules, stored, headers_index(stored), name=name)


def check_base(versions: Iterable[Version], base: Path, progress: Progress) -> str:
    """Hash a base and compare it with what versions were made for; returns its fingerprint. Raises WrongBase."""
    index = index_base(base, progress=lambda done, total: progress("hashing", done, total))
    for version in versions:
        if version.base.fingerprint != index.fingerprint:
            expected = f"sha256:{version.base.fingerprint}" if version.base.fingerprint else "a base that is only named"
            raise WrongBase(str(base), version.reference, index.fingerprint, expected)
    return index.fingerprint
