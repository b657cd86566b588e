"""Each kind's delta, of any shape, rank and dtype, is the dense one of its definition, and packs up again."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from composition.layers import core_factor, loha_factors, lokr_factors
from composition.terms import pack, pack_experts, unpack
from registry.domain.spec import ModuleSpec

algebra = settings(max_examples=30, deadline=None)
sizes = st.integers(1, 5)
kernels = st.lists(st.integers(1, 3), min_size=0, max_size=3).map(tuple)
dtypes = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64])


class Source:
    """Random tensors of one dtype."""

    def __init__(self, seed: int, dtype: torch.dtype) -> None:
        self._generator, self._dtype = torch.Generator().manual_seed(seed), dtype

    def __call__(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self._generator).to(self._dtype)


sources = st.builds(Source, st.integers(0, 2**31), dtypes)


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return torch.allclose(found.double(), wanted.double(), rtol=1e-5, atol=1e-5)


def spec(kind: str, rank: int, a: torch.Tensor, b: torch.Tensor, kernel: tuple[int, ...], experts: int) -> ModuleSpec:
    shape = (b.shape[0], a.shape[1], *kernel)
    return ModuleSpec(
        "m", kind, rank, 2.0, 0.7, a.shape[1], b.shape[0], "F32", tensors={"A": "m"}, base_shape=shape, experts=experts
    )


@algebra
@given(sources, sizes, sizes, sizes, kernels)
def test_a_convolution_is_its_kernel_flattened(
    source: Source, out: int, inside: int, rank: int, kernel: tuple[int, ...]
) -> None:
    ones = [1 for _ in kernel]
    a, b = source(rank, inside, *kernel), source(out, rank, *ones)
    (part,) = unpack(spec("conv" if kernel else "linear", rank, a, b, kernel, 1), a.float(), b.float())
    wanted = torch.einsum("or...,ri->oi", b.double().reshape(out, rank), a.double().reshape(rank, -1))
    assert close(part.delta.dense(), 0.7 * wanted)
    packed = pack(part.delta, part.form)
    assert (packed[0].shape, packed[1].shape) == (a.shape, b.shape)
    assert torch.equal(packed[0], a.float()) and torch.equal(packed[1], b.float())


@algebra
@given(sources, sizes, sizes, sizes, st.integers(2, 4))
def test_experts_lie_by_expert_in_a_and_by_rank_in_b(
    source: Source, out: int, inside: int, rank: int, experts: int
) -> None:
    a, b = source(experts * rank, inside), source(out, rank * experts)
    parts = list(unpack(spec("parameter", rank, a, b, (), experts), a.float(), b.float()))
    wanted = torch.einsum(
        "ore,eri->eoi", b.double().reshape(out, rank, experts), a.double().reshape(experts, rank, inside)
    )
    assert close(torch.stack([part.delta.dense() for part in parts]), 0.7 * wanted)
    again = pack_experts([part.delta for part in parts], rank)
    assert torch.equal(again[0], a.float()) and torch.equal(again[1], b.float())


def side(
    source: Source, out: int, inside: int, *, rank: int, kernel: tuple[int, ...]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A matrix (out, in·kernel) as two factors, or with a core between them where there is a kernel; and dense."""
    if not kernel:
        a, b = source(out, rank), source(rank, inside)
        return {"a": a, "b": b}, a.double() @ b.double()
    a, b, core = source(rank, out), source(rank, inside), source(rank, rank, *kernel)
    dense = torch.einsum("ijk,io,jn->onk", core.double().flatten(2), a.double(), b.double())
    return {"a": a, "b": b, "t": core}, dense.flatten(1)


@algebra
@given(sources, sizes, sizes, sizes, kernels)
def test_loha_is_a_product_of_entries(
    source: Source, out: int, inside: int, rank: int, kernel: tuple[int, ...]
) -> None:
    (one, left), (other, right) = (side(source, out, inside, rank=rank, kernel=kernel) for _ in "12")
    named = [(f"hada_w1_{k}" if k != "t" else "hada_t1", v) for k, v in one.items()]
    named += [(f"hada_w2_{k}" if k != "t" else "hada_t2", v) for k, v in other.items()]
    a, b = loha_factors(dict(named))
    assert a.shape[0] == rank**2 and close(b @ a, left * right)


@algebra
@given(sources, sizes, sizes, sizes, sizes, sizes, kernels)
def test_lokr_is_a_kronecker_product(
    source: Source, p: int, q: int, s: int, t: int, rank: int, kernel: tuple[int, ...]
) -> None:
    whole = source(p, q)
    parts, right = side(source, s, t, rank=rank, kernel=kernel)
    roles = {"lokr_w1": whole, **{f"lokr_w2_{k}" if k != "t" else "lokr_t2": v for k, v in parts.items()}}
    a, b = lokr_factors(roles)
    assert a.shape[0] == min(p, q) * rank and close(b @ a, torch.kron(whole.double(), right))


@algebra
@given(sources, sizes, sizes, kernels)
def test_a_core_goes_into_the_inner_factor(source: Source, inside: int, rank: int, kernel: tuple[int, ...]) -> None:
    core, inner = source(rank, rank, *kernel, 1), source(rank, inside)
    wanted = torch.einsum("ij...,jn->in...", core.double(), inner.double())
    assert close(core_factor(core, inner), wanted)
