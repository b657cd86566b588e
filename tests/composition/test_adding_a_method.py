"""docs/adding-a-method.md: its row, its function and its line, taken together, are a method; its test holds."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch

from composition.engine import compose
from composition.methods import METHODS
from registry.domain import methods
from registry.domain.errors import InvalidExpression
from registry.domain.method import Method
from tests.composition import method_cases
from tests.composition.cases import by_digest, dense, dense_sum, pin, random_adapter
from tests.composition.method_cases import distance

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-method.md"
BLOCK = re.compile(r"```python (\w+)\n(.*?)```\n", re.DOTALL)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """What the page's code defines, after it was done as the page says."""
    code = dict(BLOCK.findall(PAGE.read_text()))
    assert list(code) == ["row", "function", "line", "test"]
    defined: dict[str, Any] = {}
    exec(code["function"], defined)
    row: tuple[Method] = eval(f"({code['row']})", vars(methods))
    line: dict[str, Any] = eval(f"{{{code['line']}}}", defined)
    for name, function in line.items():
        monkeypatch.setitem(METHODS, name, function)
    _add_row(monkeypatch, row[0])
    exec(code["test"], {**vars(method_cases), "torch": torch}, defined)
    return defined


def _add_row(monkeypatch: pytest.MonkeyPatch, row: Method) -> None:
    """In the one table, wherever it was imported."""
    before = methods.METHODS
    table = MappingProxyType({**before, row.name: row})
    for module in list(sys.modules.values()):
        if getattr(module, "METHODS", None) is before:
            monkeypatch.setattr(module, "METHODS", table)


def test_the_pages_own_test_holds(page: Mapping[str, Any]) -> None:
    page["test_consensus_ta_is_the_sum_where_enough_inputs_care"]()


@pytest.mark.usefixtures("page")
def test_in_an_expression_it_is_the_sum_where_one_input_is_enough() -> None:
    inputs = by_digest(a=random_adapter("a"), b=random_adapter("b"))
    found = dense(compose(pin("2*consensus_ta(t/a, 0.5*t/b, need=1, margin=0) - t/b"), inputs, device="cpu"))
    for name, wanted in dense_sum({"a": 2.0}, inputs).items():
        assert distance(found[name], wanted) < 1e-5


@pytest.mark.usefixtures("page")
def test_it_is_a_method_like_the_others() -> None:
    recipe = pin("consensus_ta(t/b, t/a)")
    assert recipe.digest == pin("consensus_ta(t/a, t/b, need=2, margin=0.5)").digest
    assert recipe.document()["root"]["revision"] == 1
    with pytest.raises(InvalidExpression, match="need is 0"):
        pin("consensus_ta(t/a, t/b, need=0)")
