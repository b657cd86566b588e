"""blend: an expression or a recipe becomes a published version."""

import re
from pathlib import Path
from typing import Any

import click

from cli.blending import blended, describe_blend
from cli.client import on_server, opened
from cli.command import ADAPTER_NAME, command
from cli.jobs import describe_job
from cli.methods import describe_methods, methods_document
from cli.output import Output
from registry.domain import expression
from registry.domain.errors import NotOnServer, WrongUsage
from registry.domain.job_documents import job_document, submitted_document
from registry.domain.jobs import REPORTS, CompositionOrder
from registry.domain.recipe import DTYPES, Recipe
from registry.domain.reference import AdapterName
from registry.domain.replacements import Replacements

_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")


def _show_methods(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        as_json = "--json" in context.find_root().obj
        Output(as_json).answer(methods_document(), describe_methods)
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
    type=click.Choice(REPORTS),
    default="sample",
    show_default=True,
    help="Count conflicts of sign in a sample of large modules, or in every entry.",
)
@click.option("--force", is_flag=True, help="Compute again even if this recipe has given a version already.")
@click.option("--no-wait", is_flag=True, help="Only ask for it: a server, or `adapters worker`, does it.")
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
    base: Path | None,
    aliases: tuple[str, ...],
    no_wait: bool,
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
    order = CompositionOrder(into, recipe, aliases=tuple(dict.fromkeys(aliases)), **choices)
    _check_place(no_wait, device, base)
    if no_wait:
        _ask(out, order)
        return
    with opened() as registry, out.progress() as progress:
        document = blended(registry, order, device=device, base=base, progress=progress)
    out.answer(document, lambda: describe_blend(document))


def _check_place(no_wait: bool, device: str, base: Path | None) -> None:
    """Refuse options of the process that computes, where that is another one. Raises NotOnServer, WrongUsage."""
    options = {"--device": device != "auto", "--base": base is not None}
    given = next((option for option, is_given in options.items() if is_given), None)
    if given and on_server():
        instead = "leave it out, or blend in an embedded registry (unset ADAPTERS_REGISTRY), then push the result"
        raise NotOnServer(f"blend {given}", "it is about the machine that computes, which is the server's", instead)
    if given and no_wait:
        raise WrongUsage(f"{given} is about the machine that computes, which is another one with --no-wait")


def _ask(out: Output, order: CompositionOrder) -> None:
    with opened() as registry:
        submitted = registry.submit(order)
    if submitted.job is None:
        document = submitted_document(submitted)
        out.answer(document, lambda: describe_blend(document))
        return
    job = submitted.job
    out.answer({"job": job_document(job)}, lambda: describe_job(job))


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
