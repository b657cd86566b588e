"""What becomes of modules and biases that adapters replace instead of adding to them: a choice that is never guessed.

    average        of the inputs that replace a tensor, by their weights
    difference     W + Σ weight · (W' - W), with the base's W
    from           one input's, and nobody else's

In a recipe document: "modules_to_save": "average" | "difference" | {"from": {"adapter": …} or {"digest": …}}.
"""

from dataclasses import dataclass
from typing import Any, Self

from registry.domain.errors import InvalidRecipe
from registry.domain.recipe_tree import Leaf, node_document
from registry.domain.reference import Reference

KEY = "modules_to_save"
RULES = ("average", "difference", "from")
_WRITTEN = "average, difference or from=team/name"


@dataclass(frozen=True, slots=True)
class Replacements:
    """One of `RULES`; `source` is the input that `from` names, and None for the others."""

    rule: str
    source: Leaf | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what a person wrote. Raises InvalidRecipe, and InvalidReference for a name that is none."""
        rule, _, name = text.partition("=")
        if rule == "from" and name:
            return cls(rule, Leaf(Reference.parse(name)))
        if text not in RULES or rule == "from":
            raise InvalidRecipe(KEY, f"{text[:60]!r} is none of {_WRITTEN}")
        return cls(rule)

    def __str__(self) -> str:
        return f"{self.rule}={self.source.reference}" if self.source else self.rule

    def document(self) -> str | dict[str, Any]:
        """The choice as a JSON value."""
        return {"from": node_document(self.source)} if self.source else self.rule
