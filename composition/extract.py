"""A LoRA out of two models: the best low-rank approximation of each matrix's difference, one tensor at a time.

Tensors whose digests agree are not read again. Small differences are decomposed exactly in float64, large ones by
randomised subspace iteration; either way what is reported is the energy that the stored factors really keep.

Source: Halko, Martinsson and Tropp 2011, algorithms 4.4 and 5.1.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from composition.engine import Composition, Progress
from composition.low_rank import LowRank, balanced
from composition.module import ComposedModule
from composition.report import ModuleReport, Report
from composition.shards import DTYPES, OpenFiles, label
from registry.domain.bases import TRANSPOSED, BaseIndex
from registry.domain.errors import BaseMismatch, UnsupportedAdapter
from registry.formats.base_files import StoredBase, StoredTensor

_EXACT = 1024  # the shorter side of a matrix up to which it is decomposed exactly
_OVERSAMPLING = 16
_ITERATIONS = 3
_SEED = 20
_DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_EMBEDDINGS = frozenset(
    {"embed_tokens", "wte", "wpe", "word_embeddings", "position_embeddings", "token_type_embeddings", "embed_in"}
    | {"embed_positions", "tok_embeddings", "shared", "relative_attention_bias"}
)


@dataclass(frozen=True, slots=True)
class Target:
    """How much is kept of each module: a rank, or a share of the energy (squared norm) with a largest rank."""

    rank: int | None = None
    energy: float | None = None


@dataclass(frozen=True, slots=True)
class Other:
    """A tensor that differs and that a LoRA of linear layers can't hold."""

    tensor: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Extraction:
    """What came of it. `others` differ and are left behind; `equal` tensors are the same in both models."""

    composition: Composition
    others: tuple[Other, ...]
    equal: int

    def document(self) -> dict[str, Any]:
        """The report as a JSON value."""
        report = self.composition.report.document()
        return report | {"others": [asdict(other) for other in self.others], "equal": self.equal}


def extract(
    base: StoredBase,
    tuned: StoredBase,
    *,
    indexes: tuple[BaseIndex, BaseIndex],
    target: Target,
    dtype: str,
    ignore_other: bool,
    base_name: str | None,
    progress: Progress,
) -> Extraction:
    """Compute the adapter that makes the tuned model of the base. `indexes` are theirs, with digests.

    Raises BaseMismatch for models of different tensors, UnsupportedAdapter naming what differs and isn't linear (unless
    `ignore_other` leaves it behind), and when nothing differs or one of the models isn't stored as numbers.
    """
    differing = _differing(*indexes)
    tensors = {label(t): t for t in base.tensors}, {label(t): t for t in tuned.tensors}
    pairs = {name: (tensors[0][name], tensors[1][name]) for name in differing}
    others = tuple(other for name, pair in pairs.items() if (other := _unfit(name, *pair)))
    if others and not ignore_other:
        names = ", ".join(other.tensor for other in others[:4])
        more = f" and {len(others) - 4} more" if len(others) > 4 else ""
        reason = f"they differ too, and no factors hold them: {names}{more}; --ignore-other leaves them behind"
        raise UnsupportedAdapter("the tuned model", f"what changed in {len(others)} tensors besides matrices", reason)
    for other in others:
        del pairs[other.tensor]
    transposed = base.model_type in TRANSPOSED
    files = [tensor.file for pair in pairs.values() for tensor in pair]
    with OpenFiles.of(files) as opened:
        stored = _DTYPES[dtype]
        found = list(_modules(opened, pairs, target, transposed=transposed, dtype=stored, progress=progress))
    kept = tuple(module for module, _ in found if module.delta.rank)
    if not kept:
        raise UnsupportedAdapter("the result", "rank 0", "no matrix differs between the two models")
    report = Report(dtype, "cpu", tuple(report for _, report in found))
    composition = Composition(kept, report, base_name, None, None, transposed)
    return Extraction(composition, others, len(indexes[0].tensors) - len(differing))


def _differing(base: BaseIndex, tuned: BaseIndex) -> list[str]:
    """Labels of tensors whose bytes differ. Raises BaseMismatch if the models don't have the same tensors."""
    theirs = {tensor.label: tensor for tensor in tuned.tensors}
    ours = {tensor.label: tensor for tensor in base.tensors}
    for name in sorted(ours.keys() ^ theirs.keys()):
        where = "base" if name in ours else "tuned model"
        raise BaseMismatch("of the tuned model", name, f"only the {where} has it")
    for name, tensor in ours.items():
        if tensor.shape != theirs[name].shape:
            reason = f"its shape is {list(tensor.shape)}, and {list(theirs[name].shape)} in the tuned model"
            raise BaseMismatch("of the tuned model", name, reason)
    return [name for name, tensor in ours.items() if tensor != theirs[name]]


def _unfit(name: str, base: StoredTensor, tuned: StoredTensor) -> Other | None:
    """Why a tensor that differs can't become a linear layer's factors."""
    if not {base.dtype, tuned.dtype} <= DTYPES.keys():
        return Other(name, f"its dtypes are {base.dtype} and {tuned.dtype}")
    if len(base.shape) != 2:
        return Other(name, f"it has {len(base.shape)} dimensions")
    *path, parameter = base.name.split(".")
    if parameter != "weight" or not path:
        return Other(name, "it is no linear layer's weight")
    if path[-1] in _EMBEDDINGS:
        return Other(name, "it is an embedding")
    return None


def _modules(
    files: OpenFiles,
    pairs: Mapping[str, tuple[StoredTensor, StoredTensor]],
    target: Target,
    *,
    transposed: bool,
    dtype: torch.dtype,
    progress: Progress,
) -> Iterator[tuple[ComposedModule, ModuleReport]]:
    for done, name in enumerate(sorted(pairs)):
        progress("extracting", done, len(pairs))
        base, tuned = pairs[name]
        difference = files.matrix(tuned).float() - files.matrix(base).float()
        delta = low_rank(difference.T if transposed else difference, target)
        rounded = _stored(delta, dtype)
        path = label(base).replace("/", ".").removesuffix(".weight")
        yield ComposedModule(path, rounded), _report(path, difference.T if transposed else difference, delta, rounded)
    progress("extracting", len(pairs), len(pairs))


def low_rank(difference: Tensor, target: Target) -> LowRank:
    """The best approximation of a matrix (out, in) in float32, with sqrt(S) in each factor."""
    total = float(difference.double().square().sum()) if difference.numel() < 1 << 24 else _energy(difference)
    if total == 0.0:
        return LowRank(difference.new_zeros(0, difference.shape[1]), difference.new_zeros(difference.shape[0], 0))
    left, values, right = _decompose(difference, target, total)
    kept = _kept(values, target, total)
    root = values[:kept].sqrt()
    return LowRank((right[:kept] * root[:, None]).float().contiguous(), (left[:, :kept] * root).float().contiguous())


def _kept(values: Tensor, target: Target, total: float) -> int:
    """How many singular values are kept; those at the noise of float32 never are."""
    live = int((values > 1e-7 * values[0]).sum())
    if target.rank is not None:
        return min(live, target.rank)
    assert target.energy is not None
    enough = values.square().cumsum(0) >= target.energy * total * (1 - 1e-12)
    return min(live, int((~enough).sum()) + 1)


def _decompose(difference: Tensor, target: Target, total: float) -> tuple[Tensor, Tensor, Tensor]:
    """left @ diag(values) @ right with as many values as the target may need."""
    shorter = min(difference.shape)
    wanted = target.rank or 64
    while shorter > _EXACT and wanted + _OVERSAMPLING < shorter // 4:
        left, values, right = _randomised(difference, wanted)
        if target.rank is not None or float(values.square().sum()) >= (target.energy or 1.0) * total:
            return left, values, right
        wanted *= 2
    left, values, right = torch.linalg.svd(difference.double(), full_matrices=False)
    return left, values, right


def _randomised(difference: Tensor, wanted: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(_SEED)
    basis = difference @ torch.randn(difference.shape[1], wanted + _OVERSAMPLING, generator=generator)
    for _ in range(_ITERATIONS):
        basis = difference @ _orthonormal(difference.T @ _orthonormal(basis))
    left = _orthonormal(basis)
    inner, values, right = torch.linalg.svd((left.T @ difference).double(), full_matrices=False)
    return (left.double() @ inner)[:, :wanted], values[:wanted], right[:wanted]


def _orthonormal(tall: Tensor) -> Tensor:
    basis: Tensor = torch.linalg.qr(tall.double()).Q
    return basis.float()


def _stored(delta: LowRank, dtype: torch.dtype) -> LowRank:
    if dtype == torch.float32 or not delta.rank:
        return delta
    even = balanced(delta)
    return LowRank(even.A.to(dtype), even.B.to(dtype))


def _report(name: str, difference: Tensor, delta: LowRank, rounded: LowRank) -> ModuleReport:
    """Errors are measured against the difference itself, whatever the decomposition promised."""
    norm = math.sqrt(_energy(difference))
    error = math.sqrt(_energy(difference, delta))
    rounding = math.sqrt(_energy(delta.B @ delta.A, rounded)) if rounded is not delta else 0.0
    return ModuleReport(name, min(difference.shape), delta.rank, norm, min(error, norm), rounding)


def _energy(matrix: Tensor, without: LowRank | None = None) -> float:
    """The squared norm of a matrix, or of what a delta leaves of it, in float64 by blocks of rows."""
    total = 0.0
    for start in range(0, len(matrix), 256):
        rows = matrix[start : start + 256].double()
        if without is not None:
            rows = rows - without.B[start : start + 256].double() @ without.A.double()
        total += float(rows.square().sum())
    return total
