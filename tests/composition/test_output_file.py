"""A file written in pieces is the pieces, hashed, whether or not the file system takes whole pages directly."""

from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import composition.output_file
from composition.output_file import OutputFile

SIZES = st.lists(st.one_of(st.integers(1, 300), st.integers(4000, 4200), st.integers(8000, 20_000)), max_size=9)


def write(path: Path, pieces: list[bytes]) -> tuple[str, list[int]]:
    told: list[int] = []
    with OutputFile(path, told.append) as out:
        for piece in pieces:
            buffer = out.buffer(len(piece))
            buffer[:] = piece
            out.put(buffer)
        return out.finish(), told


@pytest.mark.parametrize("direct", [True, False])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=SIZES)
def test_what_lies_on_the_disk_is_what_was_put(tmp_path: Path, direct: bool, sizes: list[int]) -> None:
    random = Random(len(sizes))
    pieces = [random.randbytes(size) for size in sizes]
    with pytest.MonkeyPatch.context() as patch:
        if not direct:
            patch.setattr(composition.output_file, "_open_direct", lambda _: None)
        digest, told = write(tmp_path / "file", pieces)
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)
    assert digest == sha256(b"".join(pieces)).hexdigest()
    assert sum(told) == sum(sizes)


def test_a_file_system_that_refuses_direct_pages_gets_them_the_other_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composition.output_file, "_PAGE", 16)  # smaller than any disk takes
    pieces = [bytes([number]) * 1000 for number in range(9)]
    write(tmp_path / "file", pieces)
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)


def test_an_error_while_writing_reaches_the_caller(tmp_path: Path) -> None:
    def full(_count: int) -> None:
        raise OSError(28, "No space left on device")

    with OutputFile(tmp_path / "file", full) as out:
        out.put(out.buffer(10))
        with pytest.raises(OSError, match="No space"):
            out.finish()


@pytest.mark.parametrize("direct", [True, False])
def test_the_first_bytes_can_be_replaced_where_nothing_is_hashed(tmp_path: Path, direct: bool) -> None:
    with OutputFile(tmp_path / "file", lambda _: None, direct=direct, hashed=False) as out:
        for _ in range(3):
            buffer = out.buffer(9000)
            buffer[:] = b"a" * 9000
            out.put(buffer)
        out.rewrite_start(b"b" * 5000)
        out.sync()
        with pytest.raises(ValueError, match="hashed"):
            out.finish()
    assert (tmp_path / "file").read_bytes() == b"b" * 5000 + b"a" * 22_000
    with OutputFile(tmp_path / "hashed", lambda _: None) as out, pytest.raises(ValueError, match="hashed"):
        out.rewrite_start(b"b")
