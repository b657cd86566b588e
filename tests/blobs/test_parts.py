"""How uploads are cut, by calculation: what S3 takes holds for every size."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from registry.blobs import transfer
from registry.blobs.parts import LONGEST, MOST, Parts, part_size_for
from registry.domain.errors import WrongUsage

MIB, GIB = 1 << 20, 1 << 30

sizes = some.integers(1, LONGEST) | some.sampled_from(
    [1000, 16 * MIB, 16 * MIB + 1, 16_000 * MIB, 16_000 * MIB + 1, 100 * 10**9, 100 * GIB, LONGEST]
)


@given(sizes)
def test_every_size_is_cut_into_few_parts_that_s3_takes(size: int) -> None:
    parts = Parts("upload-1", size, part_size_for(size))
    assert 1 <= parts.count <= MOST
    assert parts.part_size <= 5 * GIB
    assert parts.count == 1 or parts.part_size >= 5 * MIB
    last = parts.count
    assert parts.offset_of(last) + parts.size_of(last) == size
    assert parts.size_of(last) >= 1
    assert all(parts.size_of(number) == parts.part_size for number in {1, last // 2, last - 1} - {0, last})
    assert part_size_for(size) <= part_size_for(min(2 * size, LONGEST))


@given(some.integers(1, 5 * 1024 * GIB))
def test_what_is_streamed_to_s3_has_at_most_ten_thousand_parts(size: int) -> None:
    assert -(-size // transfer.part_size(size)) <= 10_000
    assert 5 * MIB <= transfer.part_size(size) <= 5 * GIB


@pytest.mark.parametrize("size", [-1, 0, LONGEST + 1])
def test_a_size_that_can_not_be_is_refused(size: int) -> None:
    with pytest.raises(WrongUsage):
        part_size_for(size)
