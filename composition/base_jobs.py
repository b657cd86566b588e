"""The use cases around a base model's weights: merge adapters into them, and get an adapter out of two models.

Next to `jobs`, the only room that knows both the registry's service and what computes. Entry points set the number
of threads, as for `jobs`.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from composition.card import CARD_NAME, COMPOSITION_NAME
from composition.engine import silent
from composition.extract import Extraction, Target, extract
from composition.files import save_composition
from composition.library import Library
from composition.merge_plan import Progress, check_format
from composition.verify_merge import Verdict, verify_merge
from registry.domain.bases import BaseIndex
from registry.domain.records import Version
from registry.domain.reference import AdapterName, Reference
from registry.formats.base_files import read_base
from registry.formats.base_model import index_base
from registry.service.bases import BaseClaim
from registry.service.publishing import Submission


@dataclass(frozen=True, slots=True)
class Extracted:
    """A published extraction."""

    version: Version
    created: bool
    extraction: Extraction


def extract_adapter(
    registry: Library,
    into: AdapterName,
    *,
    base: Path,
    tuned: Path,
    target: Target,
    dtype: str = "float32",
    ignore_other: bool = False,
    aliases: tuple[str, ...] = (),
    message: str = "",
    progress: Progress = silent,
) -> Extracted:
    """Publish the LoRA that makes a tuned model of a registered base; its base is known exactly: both are hashed.

    Raises BaseNotFound for a base that is not registered, and what `extract` and publishing raise.
    """
    stored = read_base(base), read_base(tuned)
    for model, folder in zip(stored, (base, tuned), strict=True):
        check_format(model.format, folder)
    ours = _index(base, progress)
    known = registry.base(f"sha256:{ours.fingerprint}")
    theirs = _index(tuned, progress)
    extraction = extract(
        *stored,
        indexes=(ours, theirs),
        target=target,
        dtype=dtype,
        ignore_other=ignore_other,
        base_name=known.names[0] if known.names else None,
        progress=progress,
    )
    submission = Submission(
        name=into,
        files=(),
        base=BaseClaim(f"sha256:{ours.fingerprint}", hashed=True),
        message=message or f"Extract from {tuned.resolve().name}",
        metadata={"extracted_from": f"sha256:{theirs.fingerprint}"},
        aliases=aliases,
    )
    with tempfile.TemporaryDirectory(prefix="adapters-extract-") as name:
        folder = Path(name)
        save_composition(extraction.composition, folder)
        _describe(folder, extraction, base=ours.fingerprint, tuned=theirs.fingerprint, name=into)
        publication = registry.push_folder(folder, submission, progress=progress)
    assert publication.version is not None
    return Extracted(publication.version, publication.created, extraction)


def _index(path: Path, progress: Progress) -> BaseIndex:
    return index_base(path, progress=lambda done, total: progress(f"hashing {path.name}", done, total))


def _describe(folder: Path, extraction: Extraction, *, base: str, tuned: str, name: AdapterName) -> None:
    document = {"extracted": {"base": base, "tuned": tuned}, "report": extraction.document()}
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / COMPOSITION_NAME).write_text(text + "\n", encoding="utf-8")
    report = extraction.composition.report
    lines = [f"# {name}", "", "Extracted from the difference of two models:", ""]
    lines += [f"- base sha256:{base}", f"- tuned sha256:{tuned}", ""]
    lines += [f"{len(report.modules)} modules, rank {report.rank}; {report.energy_kept:.4%} of the energy is kept."]
    if extraction.others:
        lines += ["", "Left behind, though they differ:", "", *(f"- {o.tensor}: {o.reason}" for o in extraction.others)]
    (folder / CARD_NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")


def verify(
    registry: Callable[[], AbstractContextManager[Library]],
    merged: Path,
    *,
    base: Path,
    adapter: Path | Reference,
    progress: Progress = silent,
) -> Verdict:
    """Compare a merged model with its base and an adapter, in a folder or in the registry."""
    with fetched(registry, adapter, progress) as folder:
        return verify_merge(merged, base=base, adapter=folder, progress=progress)


@contextmanager
def fetched(
    registry: Callable[[], AbstractContextManager[Library]], adapter: Path | Reference, progress: Progress
) -> Iterator[Path]:
    """A folder with the adapter, verified and temporary if it comes from the registry. A folder needs no registry."""
    if isinstance(adapter, Path):
        yield adapter
        return
    with tempfile.TemporaryDirectory(prefix="adapters-fetch-") as name, registry() as opened:
        yield opened.pull(opened.find_version(adapter), Path(name) / "adapter", progress=progress).folder
