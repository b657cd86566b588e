"""The JSON shapes of jobs and of what comes of them: what `--json` prints, and a server answers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from registry.domain.documents import version_document
from registry.domain.errors import AdaptersError
from registry.domain.jobs import Job, Submitted
from registry.domain.records import Version

if TYPE_CHECKING:
    from registry.domain.recipe import Recipe


def job_document(job: Job) -> dict[str, Any]:
    progress = job.progress
    return {
        "id": job.id,
        "kind": job.kind.value,
        "name": str(job.target) if job.target else None,
        "title": job.title,
        "state": job.state.value,
        "cancelling": job.cancelling,
        "progress": {"done": progress.done, "of": progress.of, "what": progress.what},
        "version": job.version,
        "error": dict(job.error) if job.error else None,
        "requester": job.requester,
        "attempts": job.attempts,
        "created_at": job.created_at.isoformat(),
        "started_at": job.started_at.isoformat() if job.started_at else None,
        "ended_at": job.ended_at.isoformat() if job.ended_at else None,
    }


def composition_document(
    recipe: "Recipe", version: Version | None, *, created: bool, dry_run: bool, report: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What came of a composition; `recipe` is pinned, `report` None where nothing had to be computed."""
    from registry.domain.expression import format  # lazy: start-up time

    return {
        "created": created,
        "dry_run": dry_run,
        "expression": format(recipe),
        "recipe_digest": recipe.digest,
        "recipe": recipe.document(),
        "version": version_document(version, files=True) if version else None,
        "report": dict(report) if report else None,
    }


def submitted_document(submitted: Submitted) -> dict[str, Any]:
    """The composition whose recipe has its version."""
    recipe = submitted.order.recipe
    return composition_document(recipe, submitted.version, created=False, dry_run=False, report=None)


def error_document(error: AdaptersError) -> dict[str, Any]:
    """An error as a document: a stable code, what and where, what to do next, and the fields for machines."""
    return {"error": error.code, "message": error.message, "hint": error.hint, "detail": error.detail}
