"""Recipe files: the tree of an expression as JSON or YAML. What it means is `registry.domain.recipe`'s business."""

from collections.abc import Hashable
from typing import Any, BinaryIO

import yaml

from registry.domain.errors import InvalidFile, WrongUsage
from registry.domain.recipe import Recipe
from registry.formats.json_document import parse_object

LIMIT = 1 << 20  # bytes


def read_recipe(file: BinaryIO, *, dtype: str | None) -> Recipe:
    """Read a recipe from a file that says what it is by its name: .yaml and .yml, else JSON.

    Raises WrongUsage for one that is too large, or names another dtype than `dtype`; InvalidFile, InvalidRecipe.
    """
    name = str(getattr(file, "name", "<stdin>"))
    data = file.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise WrongUsage(f"{name} is larger than {LIMIT} bytes: not a recipe")
    is_yaml = name.lower().endswith((".yaml", ".yml"))
    document = _parse_yaml(data, name) if is_yaml else parse_object(data, path=name)
    recipe = Recipe.from_document(document)
    if dtype and isinstance(document, dict) and document.get("dtype", dtype) != dtype:
        raise WrongUsage(f"--dtype {dtype} contradicts {name}, which says {recipe.dtype}")
    return recipe


def _parse_yaml(data: bytes, name: str) -> Any:
    try:
        return yaml.load(data, _Loader)  # noqa: S506  # a safe loader, made stricter
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the document"
        raise InvalidFile(name, where, getattr(error, "problem", None) or "is not YAML") from None


class _Loader(yaml.SafeLoader):
    """YAML's plain values only: no aliases, which a small file can blow up with, and no key twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_mark()
            raise yaml.MarkedYAMLError(problem="has an alias; write it out", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.MarkedYAMLError(problem=f"has {key.value!r} twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)
