"""How a version came to be, in words: a recipe as the expression that it is."""

from collections.abc import Iterator

from registry.domain import expression
from registry.domain.errors import AdaptersError
from registry.domain.recipe import Recipe
from registry.domain.records import Lineage, Provenance


def recipe_text(line: Provenance) -> str | None:
    """A provenance's recipe as an expression; None if it was pushed."""
    if line.recipe is None:
        return None
    try:
        return expression.format(Recipe.from_document(line.recipe))
    except AdaptersError:  # a newer program's method: its name is still worth showing
        return f"a recipe that this program can't read (sha256:{line.recipe_digest})"


def origin_texts(lineage: Lineage) -> Iterator[str]:
    """Every different recipe that gave a version, as an expression."""
    yield from dict.fromkeys(text for line in lineage.provenance if (text := recipe_text(line)))
