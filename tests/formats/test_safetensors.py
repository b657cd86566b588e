"""The safetensors reader takes a subset of what the public one takes, and reads the same there."""

import io
import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy
import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from registry.domain.errors import InvalidFile
from registry.formats.safetensors import DTYPE_SIZES, Header, Limits, TensorSource, read_header, write
from tests.counting import lines_run

EXAMPLES = Path(__file__).parents[2] / "examples" / "adapters"


def pack(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def read(data: bytes, limits: Limits | None = None) -> Header:
    return read_header(io.BytesIO(data), size=len(data), path="x.safetensors", limits=limits)


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


GOOD = pack({"a": entry(), "__metadata__": {"format": "pt"}}, bytes(8))


def test_a_plain_file_is_read() -> None:
    header = read(GOOD)
    (tensor,) = header.tensors
    assert (tensor.name, tensor.dtype, tensor.shape, tensor.end - tensor.start) == ("a", "F32", (2,), 8)
    assert GOOD[tensor.start : tensor.end] == bytes(8)
    assert header.metadata == {"format": "pt"}


def twice(first: str, second: str) -> bytes:
    return b"{" + first.encode() + b"," + second.encode() + b"}"


A = '"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'

REFUSED = {
    "an empty file": (b"", "ends inside its header"),
    "half a length": (b"\0\0\0", "ends inside its header"),
    "a header beyond the file": (struct.pack("<Q", 100) + b"{}", "in a file of 10"),
    "a header over the limit": (struct.pack("<Q", 1 << 40) + b"{}", "are allowed"),
    "no JSON": (pack(b"{nonsense}"), "not JSON"),
    "a list": (pack(b"[]"), "not a JSON object"),
    "a blank first": (pack(b' {"a": 1}'), "not a JSON object"),
    "invalid UTF-8": (pack(b'{"\xff": 1}'), "not UTF-8"),
    "a tensor twice": (pack(twice(A, A), bytes(8)), "comes twice"),
    "a tensor twice by escape": (pack(twice(A, A.replace('"a"', '"\\u0061"')), bytes(8)), "comes twice"),
    "a key of an entry twice": (
        pack(b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
        "twice",
    ),
    "metadata twice": (pack(b'{"__metadata__":{"a":"1","a":"2"}}'), "comes twice"),
    "metadata of numbers": (pack({"__metadata__": {"a": 1}}), "text to text"),
    "metadata that is a tensor": (pack({"__metadata__": entry()}, bytes(8)), "text to text"),
    "half a surrogate in metadata": (pack(b'{"__metadata__":{"a":"\\ud800"}}'), "surrogate"),
    "an empty name": (pack({"": entry()}, bytes(8)), "its name is empty"),
    "a name that climbs": (pack({"../../a": entry()}, bytes(8)), "path out of its folder"),
    "a name with NUL": (pack({"a\0": entry()}, bytes(8)), "unprintable"),
    "a name with a line feed": (pack({"a\nb": entry()}, bytes(8)), "unprintable"),
    "a name with a bidirectional override": (pack({"a\u202eb": entry()}, bytes(8)), "unprintable"),
    "a name with half a surrogate": (
        pack(b'{"\\udc00":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
        "unprintable",
    ),
    "a name of 513": (pack({"a" * 513: entry()}, bytes(8)), "longer than 512"),
    "an unknown dtype": (pack({"a": entry("F7")}, bytes(8)), "dtype 'F7'"),
    "a sub-byte dtype": (pack({"a": entry("F4", (4,), (0, 2))}, bytes(2)), "dtype 'F4'"),
    "a dtype that is a number": (pack({"a": entry(4)}, bytes(8)), "dtype '4'"),
    "a negative dimension": (pack({"a": entry(shape=(-2,))}, bytes(8)), "not a list of whole numbers"),
    "a true dimension": (pack({"a": entry(shape=(True, 2))}, bytes(8)), "not a list of whole numbers"),
    "a fractional dimension": (pack({"a": entry(shape=(2.0,))}, bytes(8)), "not a whole number"),
    "a huge dimension": (pack({"a": entry(shape=(10**30,))}, bytes(8)), "impossibly large"),
    "a product that overflows": (pack({"a": entry(shape=(1 << 40, 1 << 40))}, bytes(8)), "impossibly large"),
    "no element": (pack({"a": entry(shape=(0,), offsets=(0, 0))}), "holds no element"),
    "two empty ones at one offset": (
        pack({"a": entry(shape=(0,), offsets=(0, 0)), "b": entry(shape=(0,), offsets=(0, 0))}),
        "holds no element",
    ),
    "six dimensions": (pack({"a": entry(shape=(1, 1, 1, 1, 1, 2))}, bytes(8)), "6 dimensions"),
    "bytes that the shape hasn't": (pack({"a": entry(shape=(3,))}, bytes(8)), "are 12 bytes, not 8"),
    "a negative offset": (pack({"a": entry(offsets=(-8, 0))}, bytes(8)), "not two whole numbers"),
    "an offset of 30 digits": (pack({"a": entry(offsets=(10**30, 10**30 + 8))}, bytes(8)), "of a file of"),
    "offsets backwards": (pack({"a": entry(offsets=(8, 0))}, bytes(8)), "not -8"),
    "three offsets": (pack({"a": entry(offsets=(0, 4, 8))}, bytes(8)), "not two whole numbers"),
    "NaN for an offset": (
        pack(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,NaN]}}', bytes(8)),
        "not a whole number",
    ),
    "minus zero": (pack(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[-0,8]}}', bytes(8)), "out of range"),
    "a missing key": (pack({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)), "not exactly dtype"),
    "a key too many": (pack({"a": {**entry(), "more": 1}}, bytes(8)), "not exactly dtype"),
    "an entry that is a number": (pack({"a": 3}, bytes(8)), "not exactly dtype"),
    "a header that is an entry": (pack(entry(), bytes(8)), "not a table"),
    "an overlap": (pack({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)), "overlaps"),
    "a hole": (pack({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)), "belong to no tensor"),
    "a hole at the beginning": (pack({"a": entry(offsets=(8, 16))}, bytes(16)), "belong to no tensor"),
    "trailing bytes": (GOOD + b"x", "follow the last tensor"),
    "a tensor beyond the file": (pack({"a": entry(shape=(4,), offsets=(0, 16))}, bytes(8)), "of a file of"),
    "an unaligned tensor": (
        pack({"a": entry("U8", (1,), (0, 1)), "b": entry(offsets=(1, 9))}, bytes(9)),
        "not aligned",
    ),
    "deep nesting": (pack(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "nested too deeply"),
    "a number of 5,000 digits": (pack(b'{"a":' + b"1" * 5_000 + b"}"), "integer string"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_broken_file_is_refused_with_its_own_reason(case: str) -> None:
    data, reason = REFUSED[case]
    with pytest.raises(InvalidFile) as refusal:
        read(data)
    assert refusal.value.path == "x.safetensors"
    assert reason in refusal.value.reason


def test_too_many_tensors_are_refused() -> None:
    header = {str(n): entry(offsets=(8 * n, 8 * n + 8)) for n in range(11)}
    with pytest.raises(InvalidFile, match="11 tensors"):
        read(pack(header, bytes(88)), Limits(tensors=10))


def test_many_small_values_are_refused_before_any_is_built() -> None:
    data = pack(b'{"a":[' + b"[]," * 9_000_000 + b"[]]}")
    tracemalloc.start()
    with pytest.raises(InvalidFile, match="more values than"):
        read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(data)


def test_the_cost_is_linear_in_the_header() -> None:
    def cost(count: int) -> int:
        header = {
            f"base_model.model.layers.{n}.experts.q_proj.lora_A.weight": entry(offsets=(8 * n, 8 * n + 8))
            for n in range(count)
        }
        data = pack(header, bytes(8 * count))
        return lines_run(lambda: read(data))

    assert cost(1_000) < 15 * cost(100)  # linear is 10 x, quadratic 100 x


@pytest.mark.parametrize("folder", sorted(EXAMPLES.iterdir()), ids=lambda folder: folder.name)
def test_a_real_adapter_reads_as_in_the_public_reader_and_writes_back(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    data = path.read_bytes()
    header = read(data)
    with safetensors.safe_open(path, "numpy") as public:
        assert public.metadata() == header.metadata
        assert {t.name: list(t.shape) for t in header.tensors} == {
            name: public.get_slice(name).get_shape()
            for name in public.keys()  # noqa: SIM118
        }
    copy = io.BytesIO()
    sources = [
        TensorSource(t.name, t.dtype, t.shape, lambda t=t: [data[t.start : t.end]])  # type: ignore[misc]
        for t in reversed(header.tensors)
    ]
    assert write(copy, sources, header.metadata) == len(copy.getvalue())
    assert copy.getvalue() == data  # byte for byte what the public writer wrote


NAMES = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
NUMPY = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "U8": "u1", "BOOL": "?"}
ARRAYS = st.tuples(st.sampled_from(sorted(NUMPY)), st.lists(st.integers(1, 3), max_size=4).map(tuple))


@given(st.dictionaries(NAMES, ARRAYS, max_size=6), st.dictionaries(st.text(), st.text(), max_size=3))
def test_the_public_reader_reads_what_we_write(
    tensors: dict[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str]
) -> None:
    arrays = {
        name: (numpy.arange(numpy.prod(shape, dtype=int)).reshape(shape) % 2).astype(NUMPY[dtype])
        for name, (dtype, shape) in tensors.items()
    }
    stream = io.BytesIO()
    sources = [
        TensorSource(name, *tensors[name], lambda array=array: [array.tobytes()])  # type: ignore[misc]
        for name, array in arrays.items()
    ]
    write(stream, sources, metadata)
    loaded = load(stream.getvalue())
    assert loaded.keys() == arrays.keys()
    assert all(numpy.array_equal(loaded[name], arrays[name]) for name in arrays)
    assert all(loaded[name].dtype == arrays[name].dtype for name in arrays)
    header = read(stream.getvalue())
    assert header.metadata == metadata
    assert {t.name: (t.dtype, t.shape) for t in header.tensors} == tensors


@given(st.dictionaries(NAMES, ARRAYS, max_size=6))
def test_we_read_what_the_public_writer_writes(tensors: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    data = save({name: numpy.zeros(shape, NUMPY[dtype]) for name, (dtype, shape) in tensors.items()})
    assert {t.name: (t.dtype, t.shape) for t in read(data).tensors} == tensors


# Headers near the valid ones: a valid one with a few of its values replaced by odd ones.
ODD = st.one_of(
    st.integers(-2, 20),
    st.booleans(),
    st.none(),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(-1, 9), max_size=3),
)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*DTYPE_SIZES, "F4"]) | ODD,
        "shape": st.lists(st.integers(0, 3), max_size=6) | ODD,
        "data_offsets": st.tuples(st.integers(0, 24), st.integers(0, 24)) | ODD,
    },
    optional={"more": ODD},
)
HEADERS = st.dictionaries(st.sampled_from(["a", "b", "c", "", "..", "a\0"]), ENTRIES, max_size=3)


def public_tensors(data: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        name: (info["dtype"], tuple(info["shape"]), bytes(info["data"])) for name, info in safetensors.deserialize(data)
    }


def check_agreement(data: bytes) -> bool:
    """Whether we accept; then the public reader must, with the same tensors."""
    try:
        header = read(data)
    except InvalidFile:
        return False
    found = {t.name: (t.dtype, t.shape, data[t.start : t.end]) for t in header.tensors}
    assert public_tensors(data) == found
    return True


@given(HEADERS, st.binary(max_size=24))
def test_what_we_accept_the_public_reader_accepts(header: dict[str, Any], data: bytes) -> None:
    check_agreement(pack(header, data))


@given(st.data())
def test_a_valid_file_with_bytes_changed_is_refused_or_read_alike(data: st.DataObject) -> None:
    two = pack({"a": entry("U8", (4,), (0, 4)), "b": entry("U8", (2, 2), (4, 8))}, bytes(range(8)))
    assert check_agreement(two)
    changed = bytearray(two)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(two) - 1))] = data.draw(st.sampled_from(b'0123456789-.,:[]{}"ab \\\0\xff'))
    check_agreement(bytes(changed))


def test_a_source_with_too_few_or_too_many_bytes_is_refused() -> None:
    for size in (7, 9):
        with pytest.raises(InvalidFile, match=f"{size} bytes came, not 8"):
            write(io.BytesIO(), [TensorSource("a", "F32", (2,), lambda size=size: [bytes(size)])])  # type: ignore[misc]


def test_a_name_that_we_refuse_to_read_is_not_written() -> None:
    with pytest.raises(InvalidFile, match="path out of"):
        write(io.BytesIO(), [TensorSource("../a", "F32", (2,), lambda: [bytes(8)])])
    source = TensorSource("a", "F32", (2,), lambda: [bytes(8)])
    with pytest.raises(InvalidFile, match="twice"):
        write(io.BytesIO(), [source, source])
