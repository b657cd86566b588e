"""The base that the inputs of a recipe have in common, and whether the recipe depends on its weights."""

from collections.abc import Iterable, Sequence
from itertools import combinations

from registry.domain.errors import BaseConflict
from registry.domain.recipe import Recipe
from registry.domain.records import Version


def check_same_base(versions: Iterable[Version]) -> None:
    """Every version must be of one base: by fingerprint where both are known, else by a name that both declare.

    Raises BaseConflict naming two versions that differ.
    """
    for left, right in combinations(versions, 2):
        if not _agree(left, right):
            raise BaseConflict(left.reference, _label(left), right.reference, _label(right))


def with_base(pinned: Recipe, versions: Sequence[Version]) -> Recipe:
    """The recipe with the base's fingerprint, if its result is a function of the base's weights.

    Raises BaseConflict if the recipe says that it was made with another base.
    """
    for version in versions:
        if pinned.base not in (None, version.base.fingerprint):
            raise BaseConflict("the recipe", f"sha256:{pinned.base}", version.reference, _label(version))
    differs = pinned.replacements is not None and pinned.replacements.rule == "difference"
    if versions and (differs or any("dora" in version.summary.variants for version in versions)):
        return pinned.with_base(versions[0].base.fingerprint)
    return pinned.with_base(None)


def _agree(left: Version, right: Version) -> bool:
    if left.base.fingerprint and right.base.fingerprint:
        return left.base.fingerprint == right.base.fingerprint
    return bool(_names(left) & _names(right))


def _names(version: Version) -> set[str]:
    return {name for name in (version.base.name, version.summary.base_name) if name}


def _label(version: Version) -> str:
    if version.base.name or version.summary.base_name:
        return version.base.name or version.summary.base_name or ""
    return f"sha256:{version.base.fingerprint[:12]}" if version.base.fingerprint else "an unknown base"
