"""The few numbers among a file's tensors, from streams that can seek and from such as dribble."""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from registry.domain.errors import InvalidFile, UnsupportedAdapter
from registry.domain.spec import TensorEntry
from registry.formats.tensor_file import OpenFile, read_file_header, read_scalars


class Dribble(io.RawIOBase):
    """A stream of the network's kind: no seeking, and three bytes at a time at most."""

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(min(3, len(buffer)))
        buffer[: len(data)] = data
        return len(data)


def opener(data: bytes, *, dribbling: bool) -> OpenFile:
    @contextmanager
    def open_file(path: str, /, *, start: int, length: int) -> Iterator[BinaryIO]:
        part = data[start : start + length]
        yield cast(BinaryIO, Dribble(part)) if dribbling else io.BytesIO(part)

    return open_file


@given(st.lists(st.tuples(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(0, 20)), min_size=1))
def test_scalars_are_read_from_any_stream(values: list[tuple[float, int]]) -> None:
    data, entries = b"", []
    for index, (value, gap) in enumerate(values):
        data += b"\xff" * gap
        entries.append(TensorEntry(f"{index}.alpha", "F32", (), len(data), len(data) + 4))
        data += struct.pack("<f", value)
    wanted = {f"{index}.alpha": value for index, (value, _) in enumerate(values)}
    for dribbling in (False, True):
        assert read_scalars("a", reversed(entries), opener(data, dribbling=dribbling)) == wanted


def test_a_file_that_ends_too_early_is_refused() -> None:
    entry = TensorEntry("x.alpha", "F32", (), 100, 104)
    far = TensorEntry("y.alpha", "F32", (), 200, 204)
    with pytest.raises(InvalidFile, match="ends before"):
        read_scalars("a", [entry, far], opener(b"\0" * 120, dribbling=True))


def test_a_header_is_read_from_a_stream_that_dribbles(tmp_path: Path) -> None:
    save_file({"x": torch.ones(2, 3)}, tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    header = read_file_header("a", len(data), opener(data, dribbling=True))
    assert [(tensor.name, tensor.shape) for tensor in header.tensors] == [("x", (2, 3))]


def test_a_pickle_is_known_by_its_first_bytes_however_they_come() -> None:
    data = b"PK\x03\x04" + b"\0" * 60
    for dribbling in (False, True):
        with pytest.raises(UnsupportedAdapter, match="zip"):
            read_file_header("a.safetensors", len(data), opener(data, dribbling=dribbling))
