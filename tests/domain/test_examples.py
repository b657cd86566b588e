"""Results of single examples: one content, one sequence of bytes; nothing odd is kept."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from registry.domain.errors import WrongUsage
from registry.domain.examples import MOST, means, packed, parse_examples, unpacked

ids = some.text(some.characters(blacklist_categories=("C", "Z")), min_size=1, max_size=8)
numbers = some.floats(-1e300, 1e300) | some.integers(-(2**60), 2**60) | some.booleans()
metrics = some.dictionaries(some.sampled_from(["f1", "exact", "loss"]), numbers, min_size=1)
lists = some.dictionaries(ids, metrics, max_size=6).map(lambda d: [{"id": name} | found for name, found in d.items()])


@given(lists, some.randoms())
def test_the_same_results_are_the_same_bytes_and_come_back(examples: list[dict[str, Any]], chance: Any) -> None:
    data = packed(examples)
    for text in (json.dumps(examples), "\n".join(map(json.dumps, examples))):
        assert packed(parse_examples(text)) == data
    chance.shuffle(examples)
    assert packed(examples) == data
    found = unpacked(data)
    expected = {(metric, e["id"]): float(v) for e in examples for metric, v in e.items() if metric != "id"}
    assert {(metric, name): value for metric, of in found.items() for name, value in of.items()} == expected


@pytest.mark.parametrize(
    "examples",
    [
        ["a"],
        [{"f1": 1}],
        [{"id": None, "f1": 1}],
        [{"id": "a"}],
        [{"id": "a", "f1": "1"}],
        [{"id": "a", "f1": float("nan")}],
        [{"id": "a", "f1": 10**400}],
        [{"id": "a", "f1": 1}, {"id": "a", "f1": 0}],
        [{"id": 1, "f1": 1}, {"id": "1", "f1": 0}],
        [{"id": "\x1b[31m", "f1": 1}],
        [{"id": "a" * 2000, "f1": 1}],
        [{"id": "a", "f\x00": 1}],
        [{"id": "a"} | {f"m{number}": 1 for number in range(101)}],
        [{"id": number, "f1": 1} for number in range(MOST + 1)],
        [{"id": number} | {f"metric-{name}": 0.123456789 for name in range(90)} for number in range(3000)],
    ],
)
def test_what_is_no_result_is_refused(examples: list[Any]) -> None:
    with pytest.raises(WrongUsage):
        packed(examples)


@pytest.mark.parametrize("text", ["{", "[1", '{"id": 1}\n{', "[" * 100_000])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(WrongUsage):
        parse_examples(text)


def test_a_mean_is_over_the_examples_that_have_the_metric() -> None:
    found = unpacked(packed([{"id": "a", "f1": 1, "loss": 2.5}, {"id": "b", "f1": False}, {"id": "c", "f1": 1}]))
    assert means(found) == {"f1": pytest.approx(2 / 3), "loss": 2.5}
