"""The use case of merging: adapters of the registry into a folder with the base that they were made for.

It knows the registry's service and what computes, as `jobs` does. Entry points set the number of threads.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from composition.base_merge import merge_shards
from composition.base_weights import BaseWeights
from composition.engine import silent
from composition.jobs import Inputs
from composition.library import Library
from composition.merge_folder import read_manifest
from composition.merge_plan import REVISION, Merged, Plan, Progress, check_format, check_output
from composition.merge_terms import Target, merge_terms
from composition.schedule import choose_device
from composition.shards import shards_of
from registry.domain.common_base import check_same_base
from registry.domain.errors import BaseNotFound, NameTaken, WrongBase
from registry.domain.expression import format
from registry.domain.recipe import Recipe
from registry.domain.records import BaseModel, Version
from registry.domain.reference import AdapterName
from registry.domain.texts import MAX_TEXT
from registry.formats.base_files import read_base
from registry.formats.base_model import index_base
from registry.service.bases import BaseClaim, check_label
from registry.service.publishing import Publication, Submission


def merge(
    registry: Library,
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
    out = out if out.name not in ("", "..") else out.resolve()
    check_output(out)
    inputs = Inputs(registry)
    pinned = recipe.with_dtype("float32").pin(inputs.resolve)
    versions = [inputs.version(parent) for parent in pinned.inputs]
    check_same_base(versions)
    stored = read_base(base)
    check_format(stored.format, base)
    fingerprint = _check_base(versions, base, progress)
    loaded = inputs.load(versions, progress, BaseWeights(base), recipe=pinned)
    terms = merge_terms(pinned, loaded, Target(base, stored), device=device, progress=progress)
    del loaded  # the terms hold what they need of it
    origin = {
        "expression": format(pinned),
        "recipe_digest": pinned.digest,
        "recipe": pinned.document(),
        "base": {"fingerprint": fingerprint, "name": terms.base_name},
        "arithmetic": {"revision": REVISION, "accumulated_in": "float32", "roundings": 1},
        "modules": terms.modules,
    }
    return merge_shards(
        Plan(base, out, shards_of(stored, base), origin),
        terms.changes,
        workers=workers or max(1, len(os.sched_getaffinity(0))),
        progress=progress,
    )


def register_merged(registry: Library, name: str, folder: Path, progress: Progress) -> BaseModel:
    """Register a merged folder as a base model under a name that is free, so that adapters can be made for it."""
    index = index_base(folder, progress=lambda done, total: progress(f"hashing {folder.name}", done, total))
    return registry.add_base(name, index)


def publish_merged(
    registry: Library, name: AdapterName, merged: Merged, *, label: str | None, progress: Progress
) -> Publication:
    """Publish a merged folder as a base model; its merge.json goes along, and tells what it was made of.

    It is registered under `label`, or else under the name that it is published at.
    """
    made = read_manifest(merged.folder)
    base = made["base"]["name"] or f"sha256:{made['base']['fingerprint']}"
    claim = BaseClaim(label) if label else None
    submission = Submission(name, (), base=claim, message=f"Merge {made['expression']} into {base}"[:MAX_TEXT])
    return registry.publish_base(merged.folder, submission, progress=progress)


def check_publishable(registry: Library, name: AdapterName) -> None:
    """Whether a new base can be published under a name, before any work is done.

    Raises NotAllowed, TeamNotFound, OtherLine.
    """
    registry.require_operator("name", "base models")
    registry.check_submission(Submission(name, (), holds_base=True))


def check_free(registry: Library, name: str) -> None:
    """Whether a base can be registered under a name, before any work is done.

    Raises NotAllowed for who may not, WrongUsage for what can't be a name, NameTaken.
    """
    registry.require_operator("name", "base models")
    check_label(name)
    try:
        known = registry.base(name)
    except BaseNotFound:
        return
    raise NameTaken(name, f"it is a label of the base sha256:{known.fingerprint[:12]}")


def _check_base(versions: Iterable[Version], base: Path, progress: Progress) -> str:
    """Hash a base and compare it with what versions were made for; returns its fingerprint. Raises WrongBase."""
    index = index_base(base, progress=lambda done, total: progress("hashing", done, total))
    for version in versions:
        if version.base.fingerprint != index.fingerprint:
            expected = f"sha256:{version.base.fingerprint}" if version.base.fingerprint else "a base that is only named"
            raise WrongBase(str(base), version.reference, index.fingerprint, expected)
    return index.fingerprint
