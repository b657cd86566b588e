"""merge, extract and verify-merge: an adapter and a base model's weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.client import opened
from cli.command import ADAPTER_NAME, command
from cli.facts import base_text, model_label, shape_text
from cli.inspection import is_path
from cli.output import Output, facts, heading, next_step, say, table, warn
from cli.text import count, human_size
from registry.domain import expression
from registry.domain.documents import base_document, version_document
from registry.domain.errors import WrongUsage
from registry.domain.recipe import DTYPES
from registry.domain.records import BaseModel
from registry.domain.reference import AdapterName, Reference
from registry.domain.replacements import Replacements
from registry.domain.spec import layers_alike

if TYPE_CHECKING:
    from composition.base_jobs import Extracted
    from composition.merge_plan import Merged
    from composition.verify_merge import Check, Verdict

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_EXIT = {"matches": 0, "fault": 4, "inconclusive": 1}
_SHOWN = 12  # tensors that are left behind or changed besides, told by name


def _one_thread() -> None:
    import torch  # lazy: start-up time

    torch.set_num_threads(1)  # shards are the unit of parallel work; and the same bits on every machine


@command(
    "merge",
    "adapters merge demo/sentiment --base ./minilm --out ./merged",
    "adapters merge 'demo/sentiment - demo/wordnet' --base ./minilm --out ./less",
    "adapters merge demo/wordnet --base ./minilm --out ./wn --register demo/wn",
    "adapters merge demo/wordnet --base ./minilm --out ./m --publish models/wordnet",
)
@click.argument("text", metavar="EXPR", help="as '0.7*team/a@production + 0.3*team/b', or one reference")
@click.option("--base", type=_FOLDER, required=True, help="The folder with the base's safetensors files.")
@click.option("--out", "target", type=click.Path(path_type=Path), required=True, help="The folder to write.")
@click.option(
    "--modules-to-save",
    "replacements",
    metavar="average|difference|from=NAME",
    help="What stands in the place of modules and biases that inputs replace: their average, the base plus the "
    "weighted differences from it, or those of one input.",
)
@click.option("--workers", type=click.IntRange(1, 256), help="Shards to write at once; one a processor by default.")
@click.option("--register", metavar="NAME", help="Register the merged model as a base model under this name.")
@click.option("--publish", type=ADAPTER_NAME, metavar="TEAM/NAME", help="Publish the merged model there, registered.")
def merge(
    out: Output,
    text: str,
    base: Path,
    target: Path,
    replacements: str | None,
    workers: int | None,
    register: str | None,
    publish: AdapterName | None,
) -> None:
    """Merge adapters into a base model's weights.

    The base must be exactly the one that the adapters were made for: it is hashed first. Each changed weight is summed
    in float32 and rounded once; everything else is copied byte for byte, in the same files. A run that was killed
    continues when it is started again. merge.json in the result tells what was merged, with every file's digest. With
    --register the registry knows the result as a base model, for adapters that are made for it; with --publish it keeps
    its files too, and tools load them as from the Hugging Face Hub.
    """
    recipe = expression.parse(text)
    recipe = recipe.with_replacements(Replacements.parse(replacements)) if replacements else recipe
    with opened() as registry, out.progress() as progress:
        from composition import merge_job  # lazy: start-up time

        _one_thread()
        if register is not None:
            merge_job.check_free(registry, register)
        if publish is not None:
            merge_job.check_publishable(registry, publish)
        merged = merge_job.merge(
            registry, recipe, base=base, out=target, device="cpu", workers=workers, progress=progress
        )
        added, published = None, None
        if publish is not None:
            published = merge_job.publish_merged(registry, publish, merged, label=register, progress=progress)
            added = registry.base(f"sha256:{published.base}")
        elif register is not None:
            added = merge_job.register_merged(registry, register, merged.folder, progress)
    place = f"{publish}@{published.commit}" if published else None
    out.answer(
        _merge_document(merged, added, place),
        lambda: _describe_merge(merged, added, place),
        lambda: _warn_unchanged(merged),
    )


def _merge_document(merged: "Merged", added: BaseModel | None, place: str | None) -> dict[str, Any]:
    from composition.merge_folder import read_manifest  # lazy: start-up time

    document = {"folder": str(merged.folder), "resumed": merged.resumed, **read_manifest(merged.folder)}
    known = {"registered": base_document(added)} if added else {}
    return {**document, **known, **({"published": place} if place else {})}


def _describe_merge(merged: "Merged", added: BaseModel | None, place: str | None) -> None:
    size = sum(shard.size for shard in merged.shards)
    resumed = f", {merged.resumed} of them finished before" if merged.resumed else ""
    rows = [
        ("merged", str(merged.folder)),
        ("shards", f"{count(len(merged.shards), 'file')}, {human_size(size)}{resumed}"),
        ("copied", " ".join(merged.copied)),
        ("left out", " ".join(merged.left_out)),
        ("registered", f"{model_label(added)}, sha256:{added.fingerprint}" if added else ""),
        ("published", place or ""),
    ]
    facts([(label, value) for label, value in rows if value])
    next_step(f"adapters verify-merge {merged.folder} --base DIR --adapter REF")


def _warn_unchanged(merged: "Merged") -> None:
    if merged.unchanged:
        names = ", ".join(merged.unchanged[:_SHOWN])
        warn(f"nothing changes in {names}: the delta is too small for the base's dtype, or what replaces it is equal")


@command(
    "extract",
    "adapters extract --base ./minilm --tuned ./tuned --rank 8 --into demo/new",
)
@click.option("--base", type=_FOLDER, required=True, help="The folder of a registered base.")
@click.option("--tuned", type=_FOLDER, required=True, help="The folder of the model that was tuned from it.")
@click.option("--into", type=ADAPTER_NAME, required=True, metavar="TEAM/NAME", help="The adapter that gets the result.")
@click.option("--rank", type=click.IntRange(1, 65536), help="Keep this rank of each module.")
@click.option("--energy", type=click.FloatRange(0, 1, min_open=True), help="Keep this share of each module's energy.")
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True, help="What to store it in.")
@click.option("--ignore-other", is_flag=True, help="Leave behind what differs and is no linear layer's matrix.")
@click.option("--alias", "aliases", multiple=True, help="Point this alias at the result; may be repeated.")
@click.option("--message", default="", help="What this version is.")
def extract(
    out: Output,
    base: Path,
    tuned: Path,
    into: AdapterName,
    rank: int | None,
    energy: float | None,
    **choices: Any,
) -> None:
    """Make a LoRA of the difference between two models and publish it.

    Both models are hashed, and the base must be registered. Embeddings, norms and biases that differ can't be held by
    factors of linear layers: they are refused by name unless --ignore-other leaves them behind.
    """
    if (rank is None) == (energy is None):
        raise WrongUsage("write either --rank or --energy")
    with opened() as registry, out.progress() as progress:
        from composition.base_jobs import extract_adapter  # lazy: start-up time
        from composition.extract import Target  # lazy: start-up time

        _one_thread()
        target = Target(rank, energy)
        made = extract_adapter(registry, into, base=base, tuned=tuned, target=target, progress=progress, **choices)
    document = {"created": made.created, "version": version_document(made.version, files=True)}
    out.answer({**document, "report": made.extraction.document()}, lambda: _describe_extraction(made))


def _describe_extraction(made: "Extracted") -> None:
    version, report, others = made.version, made.extraction.composition.report, made.extraction.others
    known = "" if made.created else " (the same content was there already)"
    rows = [
        ("version", f"{version.reference}{known}"),
        ("base", base_text(version.base)),
        ("adapter", shape_text(version.summary)),
        ("energy", f"{report.energy_kept:.2%} kept, in {count(len(report.modules), 'module')}"),
        ("equal", count(made.extraction.equal, "tensor")),
    ]
    facts(rows)
    if others:
        names = ", ".join(other.tensor for other in others[:_SHOWN])
        warn(f"{count(len(others), 'tensor')} differ and were left behind: {names}")
    next_step(f"adapters merge {version.reference} --base DIR --out DIR")


@command(
    "verify-merge",
    "adapters verify-merge ./tuned --base ./minilm --adapter demo/sentiment",
)
@click.argument("merged", metavar="MERGED", type=_FOLDER, help="the folder of the merged model")
@click.option("--base", type=_FOLDER, required=True, help="The folder of the model that the adapter was merged into.")
@click.option(
    "--adapter", metavar="REF|PATH", required=True, help="A folder, or a reference; a folder that exists wins."
)
def verify_merge(out: Output, merged: Path, base: Path, adapter: str) -> None:
    """Check that a merged model is the base plus an adapter, and name what is wrong.

    The merge is done again, bit for bit, in each way in which tools round; what no such way gives is compared with the
    known mistakes. Leaves with 0 where everything matches, 4 where there is a fault, 1 where nothing is decided.
    """
    subject = Path(adapter).expanduser() if is_path(adapter) else Reference.parse(adapter)
    with out.progress() as progress:
        from composition.base_jobs import verify  # lazy: start-up time

        _one_thread()
        verdict = verify(opened, merged, base=base, adapter=subject, progress=progress)
    document = {"merged": str(merged), "base": str(base), "adapter": adapter, **verdict.document()}
    out.answer(document, lambda: _describe_verdict(verdict))
    click.get_current_context().exit(_EXIT[verdict.verdict])


def _describe_verdict(verdict: "Verdict") -> None:
    modules = [check for check in verdict.checks if check.module]
    replayed = sum(check.verdict == "matches" for check in modules)
    rows = [
        ("verdict", verdict.verdict),
        ("modules", f"{replayed} of {len(modules)} match, bit for bit"),
        ("others", f"{count(verdict.untouched, 'tensor')} as in the base"),
        ("faults", ", ".join(f"{name} ({amount})" for name, amount in verdict.faults.items())),
        ("notes", "; ".join(verdict.notes[:_SHOWN])),
    ]
    facts([(label, value) for label, value in rows if value])
    if verdict.checks:
        heading(f"{count(len(verdict.checks), 'tensor')} (* stands for a layer's number)")
        columns = ["module", "n", "changed", "off", "result"]
        table(columns, _check_rows(verdict.checks), numbers=columns[1:4])
    for line in _reasons(verdict.checks):
        say(line)
    if verdict.verdict == "inconclusive":
        say("inconclusive: no mistake was found, and not everything could be replayed bit for bit")


def _check_rows(checks: Sequence["Check"]) -> list[list[str]]:
    """Modules of all layers that came out alike as one row, with how many there are and their common shares."""
    rows: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        result = check.fault or check.way or check.verdict
        rows.setdefault((layers_alike(check.module or check.tensor), result), []).append(check)
    return [
        [name, str(len(same)), _share(same, "changed"), _share(same, "mismatches"), result]
        for (name, result), same in rows.items()
    ]


def _reasons(checks: Sequence["Check"]) -> list[str]:
    """One sentence of each kind of result that needs one, from the first tensor that has it."""
    first: dict[str, Check] = {}
    for check in checks:
        if check.text:
            first.setdefault(check.fault or check.verdict, check)
    reasons = [f"{kind}: {check.text} ({check.module or check.tensor})" for kind, check in first.items()]
    return ["", *reasons] if reasons else []


def _share(checks: Sequence["Check"], field: str) -> str:
    elements = sum(check.elements for check in checks)
    return f"{sum(getattr(check, field) for check in checks) / elements:.2%}" if elements else "—"
