"""The compose use case: from a recipe over the registry's adapters to a published version.

The only room that knows both the registry's service and the engine.
"""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from composition.adapter import LoadedAdapter, check_composable
from composition.base_weights import BaseWeights
from composition.beginnings import with_beginnings
from composition.card import write_description
from composition.engine import Progress, compose, silent
from composition.files import WEIGHTS_NAME, load_adapter
from composition.library import Library, Publisher
from composition.report import Report
from composition.schedule import choose_device, in_pool, workers_of_machine
from composition.similarity import Similarity, compare
from composition.streaming import compose_into
from registry.domain.common_base import check_same_base, with_base
from registry.domain.errors import BaseConflict, FileNotInVersion
from registry.domain.expression import format
from registry.domain.jobs import Claim
from registry.domain.recipe import Recipe
from registry.domain.records import Evidence, FileEntry, Parent, Version
from registry.domain.reference import AdapterName, Reference, Selector
from registry.domain.spec import AdapterSpec
from registry.formats import peft
from registry.formats.base_model import index_base
from registry.formats.single_file import weights_file
from registry.service.bases import BaseClaim
from registry.service.publishing import Origin, Submission


@dataclass(frozen=True, slots=True)
class BlendResult:
    """What came of a blend. `recipe` is pinned.

    `version` is None after a dry run of a new recipe; `report` is None when the recipe had a version already and
    nothing was computed. `created` says whether the version is new.
    """

    version: Version | None
    created: bool
    recipe: Recipe
    report: Report | None


def blend(
    registry: Publisher,
    recipe: Recipe,
    into: AdapterName,
    *,
    device: str = "auto",
    aliases: tuple[str, ...] = (),
    message: str = "",
    metadata: Mapping[str, str] | None = None,
    across_bases: bool = False,
    force: bool = False,
    dry_run: bool = False,
    every_entry: bool = False,
    base: Path | None = None,
    asked: Recipe | None = None,
    claim: Claim | None = None,
    progress: Progress = silent,
) -> BlendResult:
    """Compose a recipe and publish the result as a version of `into`, with its lineage.

    A recipe that already gave a version of `into` returns it, and moves the aliases there, without computing anything;
    `force` computes anyway. `dry_run` computes and reports, and keeps nothing. `every_entry` is `compose`'s. `base` is
    where the base's weights are, which DoRA needs; they must be those of every input, by fingerprint. Without it they
    are read where the registry has them published. `asked` is the recipe as it was written, if it is pinned by now;
    `claim` is that on the job which ends with what is published.
    Raises what looking up, loading, composing and publishing raise, and BaseConflict for inputs of different bases.
    """
    choose_device(device)  # a wrong setting is said before anything is read
    inputs = Inputs(registry)
    pinned = recipe.pin(inputs.resolve)
    versions = [inputs.version(parent) for parent in pinned.inputs]
    check_same_base(versions)
    pinned = with_base(pinned, versions)
    weights = _open_base(base, versions, progress) if base else None
    existing = registry.version_of_recipe(into, pinned.digest)
    if existing and not (force or dry_run):
        for alias in aliases:
            registry.promote(_pin(existing), alias, reason=message or None, across_bases=across_bases)
        return BlendResult(existing, False, pinned, None)
    weights = weights or _published_base(registry, pinned, versions)
    loaded = inputs.load(versions, progress, weights, recipe=pinned)
    if dry_run:
        composition = compose(pinned, loaded, device=device, every_entry=every_entry, progress=progress)
        return BlendResult(existing, False, pinned, composition.report)
    with tempfile.TemporaryDirectory(prefix="adapters-blend-") as name:
        composition = compose_into(
            Path(name),
            pinned,
            loaded,
            device=device,
            every_entry=every_entry,
            base_name=_base_name(versions),
            progress=progress,
        )
        submission = Submission(
            name=into,
            files=(),
            base=_claim(versions),
            message=message or f"Blend {format(asked or recipe)}",
            metadata=dict(metadata or {}),
            aliases=aliases,
            origin=Origin(pinned.digest, pinned.document(), pinned.inputs),
            across_bases=across_bases,
            claim=claim,
        )
        write_description(Path(name), composition, name=into, asked=asked or recipe, pinned=pinned)
        publication = registry.push_folder(Path(name), submission, progress=progress)
    return BlendResult(publication.version, publication.created, pinned, composition.report)


class Inputs:
    """The versions that a recipe's references mean, looked up once, and their loaded adapters."""

    def __init__(self, registry: Library) -> None:
        self._registry = registry
        self._versions: dict[Parent, Version] = {}

    def resolve(self, reference: Reference) -> Parent:
        version = self._registry.find_version(reference)
        parent = Parent(version.adapter, version.number, version.digest)
        self._versions[parent] = version
        return parent

    def version(self, parent: Parent) -> Version:
        return self._versions[parent]

    def load(
        self,
        versions: Iterable[Version],
        progress: Progress,
        base: BaseWeights | None = None,
        *,
        recipe: Recipe | None = None,
    ) -> dict[str, LoadedAdapter]:
        """Load each content once {digest: adapter}. Every kind is checked before the first byte is read.

        Some kinds go only with the base, or where the pinned `recipe` says what becomes of them.
        """
        contents = {version.digest: version for version in versions}
        replacing = recipe is not None and recipe.replacements is not None
        begun = with_beginnings(recipe.root) if recipe else frozenset[str]()
        specs: dict[str, AdapterSpec] = {}
        for digest, version in contents.items():
            specs[digest] = AdapterSpec(version.summary, self._registry.modules(version))
            check_composable(
                version.reference,
                specs[digest],
                with_base=base is not None,
                replacing=replacing,
                given_init=digest in begun,
            )
        loaded: dict[str, LoadedAdapter] = {}

        def load(digest: str) -> LoadedAdapter:
            version = contents[digest]
            file = _weights(version)
            with self._registry.open_file(version, file.path) as stream:
                return load_adapter(
                    stream,
                    specs[digest],
                    subject=version.reference,
                    file=file,
                    base=base,
                    replacing=replacing,
                    given_init=digest in begun,
                )

        progress("loading", 0, len(contents))
        loading = in_pool(load, list(contents), workers_of_machine())
        for digest, adapter in zip(contents, loading, strict=True):
            loaded[digest] = adapter
            progress("loading", len(loaded), len(contents))
        return loaded


def _weights(version: Version) -> FileEntry:
    files = {file.path: file for file in version.files}
    path = WEIGHTS_NAME if version.summary.format == peft.NAME else weights_file(files)
    if path not in files:
        raise FileNotInVersion(version.reference, path or "*.safetensors")
    return files[path]


def compare_versions(
    registry: Library, left: Version, right: Version, progress: Progress = silent
) -> tuple[Similarity, ...]:
    """How alike the deltas of two versions of one base are.

    Raises BaseConflict, and what loading raises, UnsupportedAdapter among it.
    """
    check_same_base([left, right])
    loaded = Inputs(registry).load([left, right], progress)
    return compare(loaded[left.digest], loaded[right.digest], progress)


# -- bases ------------------------------------------------------------------------------------------------------------


def _open_base(path: Path, versions: Iterable[Version], progress: Progress) -> BaseWeights:
    """The weights of a base, hashed and found to be every version's. Raises BaseConflict, and what reading raises."""
    weights = BaseWeights(path)
    fingerprint = index_base(path, progress=lambda done, total: progress("hashing the base", done, total)).fingerprint
    for version in versions:
        if version.base.fingerprint != fingerprint:
            label = f"sha256:{version.base.fingerprint[:12]}" if version.base.fingerprint else "a base by name only"
            raise BaseConflict(version.reference, label, str(path), f"sha256:{fingerprint[:12]}")
    return weights


def _published_base(registry: Publisher, recipe: Recipe, versions: Iterable[Version]) -> BaseWeights | None:
    """The weights that a result is a function of, read from where they are published; None where nobody did so."""
    if recipe.base is None or any(version.base.fingerprint != recipe.base for version in versions):
        return None
    tree = registry.base_files(recipe.base)
    return BaseWeights(tree) if tree else None


def _base_name(versions: Iterable[Version]) -> str | None:
    """A label of the base, for a result none of whose inputs' configurations names it."""
    return next((version.base.name for version in versions if version.base.name), None)


def _claim(versions: Iterable[Version]) -> BaseClaim | None:
    """What the result may say of its base: as much as its weakest input. None leaves it to the configuration."""
    bases = [version.base for version in versions]
    if any(base.fingerprint is None or base.evidence is Evidence.DECLARED for base in bases):
        return None
    return BaseClaim(f"sha256:{bases[0].fingerprint}", all(base.evidence is Evidence.EXACT for base in bases))


def _pin(version: Version) -> Reference:
    return Reference(version.adapter, Selector.VERSION, str(version.number))
