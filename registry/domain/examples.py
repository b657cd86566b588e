"""Results of single examples: which are taken, how they are kept, and how they are read back.

They come as a list of {"id": …, metric: value, …}, or with one such object a line, and are kept as lines of canonical
JSON by id: the same results are the same blob. What is read is hostile until it is checked.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from registry.domain.digest import canonical_json
from registry.domain.errors import WrongUsage
from registry.domain.texts import MAX_KEY, check_text

MOST = 50_000  # examples
LONGEST = 4 << 20  # bytes, as they are kept
METRICS = 100  # of an example
_LARGEST = 1e300
ID = "id"

Values = dict[str, dict[str, float]]  # metric -> example -> value


def parse_examples(text: str) -> list[Any]:
    """Examples of a file: a JSON list, or an object a line; not checked yet. Raises WrongUsage."""
    try:
        if text.lstrip().startswith("["):
            return list(json.loads(text))
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError) as error:
        raise WrongUsage(f"the results are neither a JSON list nor one JSON object a line: {error}") from None


def packed(examples: Sequence[Any]) -> bytes:
    """Examples as they are kept. Raises WrongUsage for what isn't one, is named twice, or is too much."""
    if len(examples) > MOST:
        raise WrongUsage(f"{len(examples):,} examples are more than {MOST:,}")
    lines = {}
    for number, example in enumerate(examples, 1):
        line = _checked(example, number)
        if line[ID] in lines:
            raise WrongUsage(f"example {number}: the id {line[ID]!r} is there twice")
        lines[line[ID]] = canonical_json(line) + b"\n"
    data = b"".join(lines[name] for name in sorted(lines))
    if len(data) > LONGEST:
        raise WrongUsage(f"the results have {len(data):,} bytes, more than {LONGEST:,}")
    return data


def unpacked(data: bytes) -> Values:
    """The values by metric and example. Raises ValueError, KeyError, TypeError for bytes that `packed` never gave."""
    values: Values = {}
    for line in data.splitlines():
        example = json.loads(line)
        name = example.pop(ID)
        for metric, value in example.items():
            values.setdefault(metric, {})[name] = float(value)
    return values


def means(values: Values) -> dict[str, float]:
    """The mean of each metric over the examples that have it."""
    return {metric: fmean(of_examples.values()) for metric, of_examples in values.items()}


def _checked(example: Any, number: int) -> dict[str, Any]:
    where = f"example {number}"
    if not isinstance(example, Mapping) or not isinstance(example.get(ID), str | int):
        raise WrongUsage(f'{where} is not {{"id": …, metric: value}}')
    if not 2 <= len(example) <= METRICS + 1:
        raise WrongUsage(f"{where} has {len(example) - 1} metrics, not 1 to {METRICS}")
    name = str(example[ID])
    check_text(f"the id of {where}", name, MAX_KEY)
    return {ID: name} | {metric: _number(where, metric, example[metric]) for metric in _names(example, where)}


def _names(example: Mapping[Any, Any], where: str) -> Iterable[str]:
    for metric in example:
        check_text(f"a metric of {where}", metric, MAX_KEY)
        if metric != ID:
            yield metric


def _number(where: str, metric: str, value: Any) -> float:
    """A finite number; true and false are 1 and 0. Whole ones are kept without a point."""
    if not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise WrongUsage(f"{where}: {metric} is {str(value)[:40]!r}, not a finite number")
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else float(value)
