"""Adapters and what a reference means: listings and look-ups."""

from typing import Any

from fastapi import APIRouter

from registry.domain.reference import AdapterName, Reference
from registry.http.access import Asked

routes = APIRouter(prefix="/v1/adapters", tags=["adapters"])


def reference_of(team: str, name: str, ref: str | None) -> Reference:
    """The reference that a path and its `ref` name. Raises InvalidReference."""
    adapter = AdapterName.parse(f"{team}/{name}")
    return Reference.parse(f"{adapter}@{ref}") if ref else Reference(adapter)


@routes.get("/{team}/{name}/resolve", summary="What a serving stack must know before it loads a version")
def resolve(
    registry: Asked,
    team: str,
    name: str,
    ref: str | None = None,
    max_rank: int | None = None,
    base: str | None = None,
) -> dict[str, Any]:
    return registry.resolve(reference_of(team, name, ref), max_rank=max_rank, base=base)
