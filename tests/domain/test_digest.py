"""Digests: what is hashed, written out, so that no change of it goes unnoticed."""

import hashlib
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.domain.digest import (
    base_fingerprint,
    canonical_json,
    commit_id,
    content_digest,
    is_content,
    json_digest,
    read_chunks,
    sha256_stream,
)

ZERO = "0" * 64
ONE = "1" * 64
PATHS = st.dictionaries(st.text("ab/.", min_size=1, max_size=5), st.sampled_from([ZERO, ONE, "ab" * 32]), max_size=5)


@given(st.binary(max_size=300), st.integers(1, 64))
def test_a_stream_is_read_whole_and_in_pieces(data: bytes, chunk: int) -> None:
    pieces = list(read_chunks(io.BytesIO(data), chunk))
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= chunk for piece in pieces)


@given(st.binary(max_size=300))
def test_a_stream_has_the_digest_of_its_bytes(data: bytes) -> None:
    assert sha256_stream(io.BytesIO(data)) == (hashlib.sha256(data).hexdigest(), len(data))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON)
def test_canonical_json_says_the_same(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text("abc", max_size=3), st.integers(), max_size=5))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: dict[str, int]) -> None:
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


def test_canonical_json_is_these_bytes() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == '{"a":"é","b":[1,2.5,null]}'.encode()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_canonical_json_has_no_nan_or_infinity(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(number)


def test_the_content_digest_is_this_one() -> None:
    files = {"b.safetensors": ONE, "adapter_config.json": ZERO, "README.md": ONE}
    expected = hashlib.sha256(f'[["adapter_config.json","{ZERO}"],["b.safetensors","{ONE}"]]'.encode()).hexdigest()
    assert content_digest(files) == expected


@given(PATHS)
def test_the_content_digest_does_not_depend_on_the_order(files: dict[str, str]) -> None:
    assert content_digest(dict(reversed(files.items()))) == content_digest(files)


@given(PATHS, PATHS)
def test_other_content_has_another_digest(one: dict[str, str], other: dict[str, str]) -> None:
    assert (content_digest(one) == content_digest(other)) == (one == other)


@pytest.mark.parametrize(
    "path", ["README.md", "readme.md", "metrics.json", "LICENSE", "sub/README.md", ".gitattributes"]
)
def test_descriptive_files_do_not_change_the_content(path: str) -> None:
    assert not is_content(path)
    assert content_digest({"a.json": ZERO, path: ONE}) == content_digest({"a.json": ZERO})


@pytest.mark.parametrize("path", ["adapter_config.json", "tokenizer.json", "README.md.json", "metrics.json/x"])
def test_everything_else_is_content(path: str) -> None:
    assert is_content(path)


def make_commit(**changes: Any) -> str:
    fields: dict[str, Any] = {
        "adapter": "demo/a",
        "parent": None,
        "author": "local",
        "created_at": "2026-11-22T00:00:00Z",
        "message": "",
        "files": {"a": ZERO},
    }
    return commit_id(**{**fields, **changes})


def test_a_commit_has_forty_hex_digits() -> None:
    assert len(make_commit()) == 40
    assert int(make_commit(), 16) >= 0


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter": "demo/b"},
        {"parent": "0" * 40},
        {"author": "x"},
        {"created_at": "2026-11-22T00:00:01Z"},
        {"message": "m"},
        {"files": {"a": ONE}},
        {"files": {"b": ZERO}},
        {"files": {"a": ZERO, "README.md": ONE}},
    ],
    ids=str,
)
def test_whatever_differs_makes_another_commit(changes: dict[str, Any]) -> None:
    assert make_commit(**changes) != make_commit()


def test_a_commit_does_not_depend_on_the_order_of_its_files() -> None:
    assert make_commit(files={"a": ZERO, "b": ONE}) == make_commit(files={"b": ONE, "a": ZERO})


def test_the_fingerprint_is_this_one() -> None:
    rows = [("", "b", "F32", (2, 3), ZERO), ("", "a", "BF16", (), ONE)]
    expected = json_digest([["", "a", "BF16", [], ONE], ["", "b", "F32", [2, 3], ZERO]])
    assert base_fingerprint(rows) == base_fingerprint(reversed(rows)) == expected
