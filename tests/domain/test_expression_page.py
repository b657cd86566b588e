"""The page about expressions says what the parser does."""

import json
import re
from pathlib import Path

from registry.domain.expression import parse
from registry.domain.methods import METHODS
from registry.domain.recipe import Recipe

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "expressions.md").read_text()


def test_every_expression_of_the_table_is_read() -> None:
    cells = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    expressions = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    assert len(expressions) >= 8
    for text in expressions:
        parse(text)


def test_the_recipe_file_of_the_page_is_read() -> None:
    block = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    recipe = Recipe.from_document(json.loads(block[1]))
    assert recipe.dtype == "bfloat16"


def test_every_method_is_described() -> None:
    methods = (DOCS / "methods.md").read_text()
    assert [name for name in METHODS if not re.search(rf"`{name}\b", PAGE + methods)] == []
