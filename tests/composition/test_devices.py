"""Where a composition is computed, and how many modules at once, changes nothing. GPUs are tested where one is."""

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest
import torch

from composition.engine import Composition, compose
from composition.low_rank import LowRank, truncate
from composition.methods.della import chances_to_stay
from composition.schedule import Groups, SmallerGroups, in_pool
from composition.sparsify import uniform
from composition.staging import Staging
from composition.true_delta import TrueDeltas
from registry.domain.errors import InvalidAdapter, NotEnoughMemory
from tests.composition.cases import assert_close, by_digest, dense, pin, random_adapter
from tests.composition.method_cases import call, delta
from tests.composition.method_cases import inputs as method_inputs

EXPRESSIONS = (
    "truncate(t/a + 0.5*t/b, rank=2)",
    "truncate(t/a - t/b, energy=0.9)",
    "t/a - 0.3*t/b",
    "0.5*truncate(t/a + t/b, rank=2) + t/c",
    "ties(t/a, t/b, density=0.5)",
    "dare_linear(t/a, t/b, drop=0.3, seed=5)",
)
INPUTS = by_digest(a=random_adapter("a"), b=random_adapter("b"), c=random_adapter("c", modules=("layers.0.q",)))
CPU = torch.device("cpu")

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def bits(composition: Composition) -> Mapping[str, tuple[bytes, bytes]]:
    return {
        module.name: (module.delta.A.numpy().tobytes(), module.delta.B.numpy().tobytes())
        for module in composition.modules
    }


def composed(text: str, *, device: str = "cpu", workers: int = 1, groups: Groups | None = None) -> Composition:
    return compose(pin(text), INPUTS, device=device, workers=workers, groups=groups)


# -- on any machine ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_the_number_of_workers_changes_no_bit_and_no_figure(text: str) -> None:
    one = composed(text)
    for workers in (2, 3):
        more = composed(text, workers=workers)
        assert bits(more) == bits(one)
        assert more.report == one.report


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_the_size_of_groups_changes_no_bit_and_the_result_is_that_without_groups(text: str) -> None:
    one = composed(text, groups=Groups(modules=1))
    for groups in (Groups(modules=2), Groups(), Groups(planned=1)):
        more = composed(text, groups=groups)
        assert bits(more) == bits(one)
        assert more.report == one.report
    assert_close(dense(one), dense(composed(text)))


def test_a_group_that_does_not_fit_is_halved_with_a_warning_and_the_result_is_the_same() -> None:
    text = EXPRESSIONS[0]
    wanted = composed(text, groups=Groups())
    with pytest.warns(SmallerGroups, match="out of memory on cpu: 1 modules at once now"):
        found = composed(text, groups=Groups(limit=8000))
    assert bits(found) == bits(wanted)


def test_a_module_that_does_not_fit_alone_is_refused_by_name() -> None:
    with pytest.warns(SmallerGroups), pytest.raises(NotEnoughMemory, match=r"module layers\.\d\.\w: .* on cpu"):
        composed(EXPRESSIONS[0], groups=Groups(limit=1000))


def test_the_first_failure_in_the_order_of_modules_is_the_one_that_is_told() -> None:
    def work(number: int) -> int:
        if number >= 3:
            raise InvalidAdapter(f"module {number}", "broken")
        return number

    for workers in (1, 4):
        with pytest.raises(InvalidAdapter, match="module 3"):
            list(in_pool(work, range(20), workers))


def test_the_callers_number_of_threads_is_left_as_it_was() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert list(in_pool(lambda _: torch.get_num_threads(), range(4), 2)) == [1] * 4
        truncate(delta(0), 1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_is_staged_arrives_as_it_was() -> None:
    sent = [delta(seed, out=5 + seed, rank=seed) for seed in range(4)]
    arrived = Staging(CPU).bring(sent).wait()
    for left, right in zip(sent, arrived, strict=True):
        assert torch.equal(left.A, right.A) and torch.equal(left.B, right.B) and left.scaling == right.scaling


@pytest.mark.parametrize("name", ["ties", "dare_linear", "della", "magnitude", "breadcrumbs", "sce"])
def test_the_height_of_tiles_and_what_is_kept_of_them_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = method_inputs(1.0, 0.5, -0.3, out=150, inside=130, rank=4)
    wanted = call(name, given, rank=3)
    for tile, kept in ((1, 0), (7 * 130, 64 * 130), (1 << 20, 1 << 24)):
        monkeypatch.setattr("composition.true_delta._TILE", tile)
        monkeypatch.setattr("composition.true_delta.KEPT", kept)
        found = call(name, given, rank=3)
        assert torch.equal(found.delta.A, wanted.delta.A) and torch.equal(found.delta.B, wanted.delta.B)
        assert (found.norm, found.error) == (wanted.norm, wanted.error)


def test_portable_rows_are_products_and_sums_in_order() -> None:
    term = delta(0, rank=3)
    folded = term.folded()
    wanted = torch.zeros(term.shape)
    for column, row in zip(folded.B.T, folded.A, strict=True):
        wanted = wanted + column[:, None] * row
    (block,) = TrueDeltas([term], portable=True).blocks()
    assert torch.equal(block.values[0], wanted)


PROGRAM = """
import hashlib, torch
from composition.low_rank import LowRank, concatenate, truncate
from composition.true_delta import TrueDeltas
print(torch.get_num_threads())
def term(seed, rank, out=700, inside=600):
    g = torch.Generator().manual_seed(seed)
    return LowRank(torch.randn(rank, inside, generator=g), torch.randn(out, rank, generator=g), 0.7)
found = hashlib.sha256()
for rank in (16, 128, 256):
    cut = truncate(concatenate((term(1, rank), term(2, rank))), rank)
    found.update(cut.delta.A.numpy().tobytes() + cut.delta.B.numpy().tobytes() + repr((cut.norm, cut.error)).encode())
    found.update(repr((term(1, rank) - term(1, rank).scaled(1 + 1e-9)).norm()).encode())
fit = TrueDeltas([term(3, 16), term(4, 16)]).fit(lambda tile: tile.values.clamp(min=0.1).sum(0), 16)
found.update(fit.delta.A.numpy().tobytes() + fit.delta.B.numpy().tobytes())
print(found.hexdigest())
"""


def test_one_and_two_threads_give_the_same_bits_at_ranks_16_128_and_256() -> None:
    running = []
    for threads in ("1", "2"):
        environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        command = [sys.executable, "-c", PROGRAM]
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    answers = [process.communicate()[0].split() for process in running]
    assert [answer[0] for answer in answers] == ["1", "2"]
    assert answers[0][1] == answers[1][1]


# -- where there is a GPU ---------------------------------------------------------------------------------------------


@needs_cuda
@pytest.mark.parametrize("text", EXPRESSIONS)
def test_a_gpu_gives_what_the_cpu_gives_up_to_rounding(text: str) -> None:
    assert_close(dense(composed(text, device="cuda")), dense(composed(text)), 1e-5)


@needs_cuda
@pytest.mark.parametrize("text", EXPRESSIONS)
def test_on_a_gpu_the_size_of_groups_changes_no_bit(text: str) -> None:
    one = composed(text, device="cuda", groups=Groups(modules=1))
    for groups in (None, Groups(modules=2)):
        assert bits(composed(text, device="cuda", groups=groups)) == bits(one)


@needs_cuda
def test_a_gpu_whose_memory_is_full_says_so_when_a_group_is_brought() -> None:
    wide = LowRank(torch.ones(8, 1 << 20), torch.ones(1 << 10, 8))
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(48 * (1 << 20) / total)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            Staging(torch.device("cuda")).bring([wide, wide])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@needs_cuda
def test_random_numbers_are_the_same_on_a_gpu() -> None:
    found = uniform(-5, 7, start=3, shape=(50, 60), device=torch.device("cuda")).cpu()
    assert torch.equal(found, uniform(-5, 7, start=3, shape=(50, 60), device=CPU))


@needs_cuda
def test_dellas_chances_are_the_same_on_a_gpu() -> None:
    term = delta(0, out=64, inside=80)
    cuda = TrueDeltas([term.to(torch.device("cuda"))], portable=True)
    (here,), (there,) = TrueDeltas([term], portable=True).blocks(), cuda.blocks()
    assert torch.equal(here.values, there.values.cpu())
    found = chances_to_stay(there.values[0], 0.4, 0.3).cpu()
    assert torch.equal(found, chances_to_stay(here.values[0], 0.4, 0.3))
