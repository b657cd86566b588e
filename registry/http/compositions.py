"""/v1/compositions: an expression or a recipe becomes a version, now if it is there already, else by a job."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from registry.domain import expression
from registry.domain.errors import WrongUsage
from registry.domain.job_documents import submitted_document
from registry.domain.jobs import CompositionOrder, JobState
from registry.domain.recipe import MAX_DEPTH, Recipe
from registry.domain.reference import AdapterName
from registry.domain.replacements import Replacements
from registry.formats.json_document import JsonLimits, check_values
from registry.http import job_schemas as schemas
from registry.http.access import Asked
from registry.http.jobs import LONGEST_WAIT, accepted, until_ended
from registry.http.paths import Text, Words
from registry.http.schemas import documented

_DEPTH = 2 * MAX_DEPTH + 8  # levels of JSON: a node, and the list of its inputs
routes = APIRouter(prefix="/v1/compositions", tags=["jobs"])
Rank = Annotated[int, Field(ge=1, le=65536)]
Seconds = Annotated[float, Field(ge=0, le=LONGEST_WAIT, description="to wait for a job's end")]


class RecipeBody(BaseModel):
    """An expression, or the same tree as a recipe."""

    model_config = ConfigDict(extra="forbid")

    expression: Words | None = None
    recipe: dict[str, Any] | None = None
    into: Text
    rank: Rank | None = None
    dtype: Annotated[Text, Field(description="float32, bfloat16 or float16")] | None = None
    modules_to_save: Text | None = None

    def parsed(self) -> Recipe:
        """Raises InvalidExpression, InvalidRecipe, InvalidFile, WrongUsage."""
        if (self.expression is None) == (self.recipe is None):
            raise WrongUsage("give either an expression or a recipe")
        if self.recipe is None:
            recipe = expression.parse(self.expression or "")
        else:
            check_values(self.recipe, "the recipe", JsonLimits(depth=_DEPTH))
            recipe = Recipe.from_document(self.recipe)
            if self.dtype and self.recipe.get("dtype", self.dtype) != self.dtype:
                raise WrongUsage(f"dtype {self.dtype} contradicts the recipe, which says {recipe.dtype}")
        if self.modules_to_save:
            recipe = recipe.with_replacements(Replacements.parse(self.modules_to_save))
        recipe = recipe.with_dtype(self.dtype) if self.dtype else recipe
        return recipe.with_rank(self.rank) if self.rank else recipe


class CompositionBody(RecipeBody):
    """What `adapters blend` is told."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"expression": "0.7*acme/a@production + 0.3*acme/b", "into": "acme/both"}]},
    )

    aliases: list[str] = Field(default=[], max_length=100)
    message: str = ""
    metadata: dict[str, str] = {}
    across_bases: bool = False
    report: Literal["sample", "full"] = "sample"
    force: bool = False
    dry_run: bool = False
    wait: Seconds = 0.0

    def order(self) -> CompositionOrder:
        return CompositionOrder(
            into=AdapterName.parse(self.into),
            recipe=self.parsed(),
            aliases=tuple(dict.fromkeys(self.aliases)),
            message=self.message,
            metadata=self.metadata,
            across_bases=self.across_bases,
            report=self.report,
            force=self.force,
            dry_run=self.dry_run,
        )


@routes.post(
    "",
    operation_id="compositions_submit",
    status_code=202,
    summary="Compose adapters and publish the result",
    responses=documented(schemas.Accepted, 400, 403, 404, 409, 410, 429, status=202)
    | {200: {"model": schemas.Composition, "description": "the recipe has its version, or the job ended in time"}},
)
async def compose(request: Request, registry: Asked, body: CompositionBody) -> JSONResponse:
    """What is wrong with the request is said at once; what turns out later is the job's error."""
    submitted = await run_in_threadpool(lambda: registry.submit(body.order()))
    if submitted.job is None:
        return JSONResponse(submitted_document(submitted))
    job = await until_ended(request, registry, submitted.job, body.wait)
    if job.state is JobState.DONE:
        return JSONResponse(await run_in_threadpool(registry.job_result, job.id))
    return accepted(job)
