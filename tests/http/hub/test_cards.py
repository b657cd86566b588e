"""Front matters come from strangers: whatever they are, an answer can hold what is read of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.http.hub.cards import card_data, front_matter, tags

HOSTILE = [
    "a: &x [1]\nb: *x",
    "- 1",
    "a: !!timestamp x",
    "a: !!bool x",
    "a: !!python/object:os.system x",
    "? [a]\n: 1",
    f"a: {'[' * 1000}",
    f"a: {'[' * 30}{']' * 30}",
    f"a: 0x{'f' * 10_000}",
    f"a: {'9' * 5000}",
    "a: 2026-13-45",
    "\t",
]
ODD = ['a: "\\ud800"', "a: .nan", "a: .inf", "a: 2026-11-22T10:00:00Z", "a: !!binary aGk=", "1: x", "a: !!set {b}"]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_no_plain_document_is_no_card(text: str) -> None:
    assert front_matter(f"---\n{text}\n---\n".encode()) == {}


@pytest.mark.parametrize("text", ODD)
def test_what_json_has_no_word_for_is_text(text: str) -> None:
    found = front_matter(f"---\n{text}\n---\n".encode())
    assert len(found) == 1
    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_left(data: bytes) -> None:
    for readme in (data, b"---\n" + data + b"\n---\n", b"---\na: " + data + b"\n---"):
        found = front_matter(readme)
        json.dumps([found, tags(card_data(found, None), None)], allow_nan=False, ensure_ascii=False).encode()


def test_a_card_ends_at_its_fence() -> None:
    assert front_matter("\ufeff---\r\nlicense: mit\r\n---\r\n# a\r\n---\r\n".encode()) == {"license": "mit"}
    for readme in (b"", b"# a", b"---", b"---\nlicense: mit\n", b"text\n---\nlicense: mit\n---\n"):
        assert front_matter(readme) == {}
