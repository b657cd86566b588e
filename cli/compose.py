"""blend: an expression or a recipe becomes a published version."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.client import opened
from cli.command import ADAPTER_NAME, command
from cli.facts import base_text, shape_text, warn_if_declared
from cli.output import Output, facts, heading, next_step, say, table
from cli.report import report_facts, report_table
from cli.text import number
from registry.domain import expression
from registry.domain.documents import version_document
from registry.domain.errors import WrongUsage
from registry.domain.method import Method, Parameter
from registry.domain.methods import METHODS
from registry.domain.recipe import DTYPES, Recipe
from registry.domain.reference import AdapterName
from registry.domain.replacements import Replacements

if TYPE_CHECKING:
    from composition.jobs import BlendResult

_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")


def _show_methods(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        as_json = "--json" in context.find_root().obj
        Output(as_json).answer({"methods": [_method_document(m) for m in METHODS.values()]}, _method_table)
        context.exit()


def _check_device(_context: click.Context, _parameter: click.Parameter, device: str) -> str:
    if not _DEVICE.fullmatch(device):
        raise click.BadParameter(f"{device!r} is none of auto, cpu, cuda and cuda:<number>")
    return device


@command(
    "blend",
    "adapters blend '0.7*demo/sentiment + 0.3*demo/wordnet' --into demo/both",
    "adapters blend '-0.5*demo/wordnet + demo/sentiment' --into demo/a --dry-run",
)
@click.argument("text", metavar="[EXPR]", required=False, help="as '0.7*team/a@production + 0.3*team/b'")
@click.option(
    "--recipe",
    "recipe_file",
    type=click.File("rb"),
    help="A recipe as a JSON or YAML file instead; - reads JSON from stdin.",
)
@click.option("--into", type=ADAPTER_NAME, help="The adapter that gets the result as its next version.")
@click.option("--rank", type=click.IntRange(1, 65536), help="Truncate the result to this rank, as well as possible.")
@click.option("--dtype", type=click.Choice(DTYPES), help="What to store the result in; float32 unless the recipe says.")
@click.option(
    "--device",
    default="auto",
    show_default=True,
    callback=_check_device,
    metavar="auto|cpu|cuda[:N]",
    help="Where to compute.",
)
@click.option(
    "--base",
    type=click.Path(exists=True, path_type=Path),
    help="The base's safetensors, hashed and compared; DoRA and --modules-to-save difference need them.",
)
@click.option(
    "--modules-to-save",
    "replacements",
    metavar="average|difference|from=NAME",
    help="What becomes of modules and biases that inputs replace: their average, the base plus the weighted "
    "differences from it (needs --base), or those of one input.",
)
@click.option("--alias", "aliases", multiple=True, help="Point this alias at the result; may be repeated.")
@click.option("--message", default="", help="What this version is; the expression by default.")
@click.option("--dry-run", is_flag=True, help="Compute and report, and keep nothing.")
@click.option(
    "--report",
    type=click.Choice(["sample", "full"]),
    default="sample",
    show_default=True,
    help="Count conflicts of sign in a sample of large modules, or in every entry.",
)
@click.option("--force", is_flag=True, help="Compute again even if this recipe has given a version already.")
@click.option(
    "--methods",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_methods,
    help="List the methods that an expression may use.",
)
def blend(
    out: Output,
    text: str | None,
    recipe_file: Any,
    into: AdapterName | None,
    rank: int | None,
    dtype: str | None,
    replacements: str | None,
    device: str,
    aliases: tuple[str, ...],
    report: str,
    **choices: Any,
) -> None:
    """Compose adapters by an expression and publish the result.

    The sum is exact: its rank is the sum of the ranks, unless --rank truncates it. All inputs must have the same
    base model. What the same recipe gave before is found again instead of computed.
    """
    recipe = _recipe(text, recipe_file, rank=rank, dtype=dtype)
    recipe = recipe.with_replacements(Replacements.parse(replacements)) if replacements else recipe
    if into is None:
        raise WrongUsage("--into team/name is missing: the adapter that gets the result")
    with opened() as registry, out.progress() as progress:
        from composition.jobs import blend as compose  # lazy: start-up time

        _prepare(device)
        choices |= {"aliases": tuple(dict.fromkeys(aliases)), "every_entry": report == "full"}
        result = compose(registry, recipe, into, device=device, progress=progress, **choices)
    dry_run = bool(choices["dry_run"])
    out.answer(_document(result, dry_run), lambda: _describe(result, dry_run))


def _prepare(device: str) -> None:
    import torch  # lazy: start-up time

    if device == "cpu" or not torch.cuda.is_available():
        torch.set_num_threads(1)  # the fastest for small factors, and the same bits on every machine


def _recipe(text: str | None, file: Any, *, rank: int | None, dtype: str | None) -> Recipe:
    if (text is None) == (file is None):
        raise WrongUsage("write either an expression or --recipe FILE")
    if text is not None:
        recipe = expression.parse(text)
    else:
        from cli.recipe_file import read_recipe  # lazy: start-up time

        recipe = read_recipe(file, dtype=dtype)
    recipe = recipe.with_dtype(dtype) if dtype else recipe
    return recipe.with_rank(rank) if rank else recipe


def _document(result: "BlendResult", dry_run: bool) -> dict[str, Any]:
    return {
        "created": result.created,
        "dry_run": dry_run,
        "expression": expression.format(result.recipe),
        "recipe_digest": result.recipe.digest,
        "recipe": result.recipe.document(),
        "version": version_document(result.version, files=True) if result.version else None,
        "report": result.report.document() if result.report else None,
    }


def _describe(result: "BlendResult", dry_run: bool) -> None:
    version, report = result.version, result.report
    rows: list[tuple[str, str]] = []
    if version and not dry_run:
        rows += [("version", f"{version.reference}{_how_known(result)}"), ("digest", f"sha256:{version.digest}")]
        rows += [("base", base_text(version.base)), ("adapter", shape_text(version.summary))]
    rows += [("made of", expression.format(result.recipe)), ("recipe", f"sha256:{result.recipe.digest}")]
    if result.recipe.replacements:
        rows.append(("replaced", f"modules and biases: {result.recipe.replacements}"))
    facts([*rows, *(report_facts(report) if report else ())])
    if report:
        report_table(report)
    if dry_run:
        say("a dry run: nothing was kept")
    elif version:
        warn_if_declared(version.base)
        next_step(f"adapters pull {version.reference}")


def _how_known(result: "BlendResult") -> str:
    if result.report is None:
        return " (this recipe gave it before; --force computes it again)"
    return "" if result.created else " (the same content was there already)"


def _method_document(method: Method) -> dict[str, Any]:
    return {
        "name": method.name,
        "revision": method.revision,
        "written": method.written,
        "summary": method.summary,
        "source": method.source,
        "parameters": [_parameter_document(parameter) for parameter in method.parameters],
        "presets": {name: dict(options) for name, options in method.presets.items()},
    }


def _parameter_document(parameter: Parameter) -> Mapping[str, Any]:
    return {
        "name": parameter.name,
        "type": parameter.type,
        "minimum": parameter.minimum,
        "maximum": parameter.maximum,
        "choices": list(parameter.choices),
        "default": parameter.default,
        "required": parameter.default is None and not parameter.optional,
        "summary": parameter.summary,
    }


def _method_table() -> None:
    for method in METHODS.values():
        heading(method.written)
        say(method.summary)
        say(f"Source: {method.source}")
        if rows := _parameter_rows(method.parameters):
            table(["parameter", "values", "default", "meaning"], rows)
        if method.presets:
            say(f"preset={' or '.join(method.presets)} gives the numbers of that tool")


def _parameter_rows(parameters: Iterable[Parameter]) -> list[list[str]]:
    return [
        [p.name, _values(p), _default(p), p.summary]
        for p in parameters
        if p.type != "weights"  # written as coefficients
    ]


def _values(parameter: Parameter) -> str:
    if parameter.choices:
        return ", ".join(parameter.choices)
    return f"{number(parameter.minimum)} to {number(parameter.maximum)}"


def _default(parameter: Parameter) -> str:
    if parameter.default is None:
        return "" if parameter.optional else "required"
    return str(parameter.default)
