"""Configurations are bounded, strict JSON."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.domain.errors import InvalidFile
from registry.formats.json_document import JsonLimits, parse_object

REFUSED = {
    "nothing": (b"", "not JSON"),
    "a list": (b"[]", "object is needed"),
    "half an object": (b'{"a": 1', "not JSON"),
    "something behind": (b"{} {}", "not JSON"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "BOM"),
    "invalid UTF-8": (b'{"a": "\xff"}', "not UTF-8"),
    "a key twice": (b'{"r": 8, "r": 16}', "'r' comes twice"),
    "a key twice further down": (b'{"a": [{"b": 1, "b": 1}]}', "'b' comes twice"),
    "a key twice by escape": (b'{"r": 8, "\\u0072": 16}', "'r' comes twice"),
    "NaN": (b'{"a": NaN}', "NaN is not"),
    "infinity": (b'{"a": -Infinity}', "-Infinity is not"),
    "a number that overflows": (b'{"a": 1e999}', "too large"),
    "a number of 5,000 digits": (b'{"a": ' + b"1" * 5_000 + b"}", "integer string"),
    "half a surrogate pair": (b'{"a": "\\ud800"}', "surrogate"),
    "half a surrogate pair in a key": (b'{"\\ud800": 1}', "surrogate"),
    "33 levels": (b'{"a":' + b"[" * 32 + b"]" * 32 + b"}", "deeper than 32"),
    "a million levels": (b'{"a":' + b"[" * 10**6 + b"]" * 10**6 + b"}", "deeper than 32"),
    "5 MB": (b'{"a": "' + b"x" * (5 << 20) + b'"}', "are allowed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_document_is_refused_with_its_own_reason(case: str) -> None:
    data, reason = REFUSED[case]
    with pytest.raises(InvalidFile) as refusal:
        parse_object(data, path="adapter_config.json")
    assert refusal.value.path == "adapter_config.json"
    assert reason in refusal.value.reason


def test_thirty_two_levels_are_read() -> None:
    data = b'{"a":' + b"[" * 31 + b"]" * 31 + b"}"
    assert parse_object(data, path="x") == json.loads(data)


def test_limits_can_be_set() -> None:
    with pytest.raises(InvalidFile):
        parse_object(b'{"a": 1}', path="x", limits=JsonLimits(size=4))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_what_json_writes_is_read_back(document: dict[str, Any]) -> None:
    assert parse_object(json.dumps(document).encode(), path="x") == document
