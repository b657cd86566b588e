"""What an adapter's weights say: norms, spectra and ranks of each delta, dead modules, NaN, whole heads, tokenizers.

Singular values of B·A come from the r x r Gram matrices of both factors, in float64, one module in memory at a time;
the delta itself is never formed. Knows no registry.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from composition.engine import Progress, silent
from composition.grams import NOISE, singular_values
from composition.shards import DTYPES, OpenFiles
from composition.weights import AdapterWeights, factor_roles, has_factors, open_weights, read_factors
from registry.domain.digest import sha256_stream
from registry.domain.spec import ModuleSpec

TOP = 8  # singular values that are told

_COMPOSITE = frozenset({"loha", "lokr"})  # their rank is no number of directions that training chose

_PARTS = {  # names of modules that are often saved whole
    "router": {"gate", "router", "wg", "gate_network"},
    "head": {"lm_head", "score", "classifier", "head", "embed_out", "output", "qa_outputs", "out_proj"},
    "embeddings": {"embed_tokens", "wte", "word_embeddings", "tok_embeddings"},
}
_TOKENIZER = frozenset(
    {"added_tokens.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model"}
    | {"vocab.json", "vocab.txt", "merges.txt", "spiece.model", "chat_template.jinja"}
)


@dataclass(frozen=True, slots=True)
class Statistics:
    """A module's delta. `singular` are the largest singular values; `norm` is Frobenius'.

    `rank` is the pair of factors' (LoHa's and LoKr's: of the LoRA that they are, at most the matrix's).
    `numerical_rank` counts singular values that are not noise; `stable_rank` is (norm / largest)²; `effective_rank` is
    the exponential of the entropy of the singular values (Roy and Vetterli 2007). `not_finite`: NaN and infinities.
    None where the factors hold such, or where the delta is no product of two factors.
    """

    module: str
    kind: str
    rank: int
    norm: float | None = None
    singular: tuple[float, ...] = ()
    numerical_rank: int | None = None
    stable_rank: float | None = None
    effective_rank: float | None = None
    dead: bool = False
    not_finite: int = 0


@dataclass(frozen=True, slots=True)
class WholeTensor:
    """A tensor besides the factors: a whole head (kind saved), a bias, a magnitude; `size` in bytes."""

    module: str
    kind: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    sha256: str
    not_finite: int


@dataclass(frozen=True, slots=True)
class AdapterStatistics:
    """All modules, whole tensors, and the tokenizer's files {path: sha256}."""

    modules: tuple[Statistics, ...]
    whole: tuple[WholeTensor, ...]
    tokenizer: dict[str, str]

    @property
    def norm(self) -> float:
        """Norm of all deltas together, as far as they are known."""
        return math.sqrt(math.fsum(module.norm**2 for module in self.modules if module.norm is not None))

    @property
    def findings(self) -> tuple[str, ...]:
        """What deserves a look, in words."""
        dead = [module.module for module in self.modules if module.dead]
        broken = [module.module for module in self.modules if module.not_finite]
        broken += [tensor.name for tensor in self.whole if tensor.not_finite]
        factored = [m for m in self.modules if not m.dead and m.kind not in _COMPOSITE]
        thin = [m.module for m in factored if 0 < (m.numerical_rank or 0) < m.rank]
        found = []
        if broken:
            found.append(f"NaN or infinite values in {_some(broken)}")
        if dead:
            found.append(f"no effect at all (a factor is zero) in {_some(dead)}")
        if thin:
            found.append(f"fewer independent directions than the rank in {_some(thin)}")
        if saved := [f"{t.name} ({_part(t.module)})" for t in self.whole if t.kind == "saved"]:
            found.append(f"whole tensors that replace the base's: {_some(saved)}")
        return tuple(found)

    def document(self) -> dict[str, Any]:
        """The statistics as a JSON value."""
        return {
            "norm": self.norm,
            "findings": list(self.findings),
            "modules": [{**asdict(module), "singular": list(module.singular)} for module in self.modules],
            "whole": [{**asdict(tensor), "shape": list(tensor.shape)} for tensor in self.whole],
            "tokenizer": self.tokenizer,
        }


def _part(module: str) -> str:
    """What a module is within a model, by its name."""
    last = module.rpartition(".")[2]
    return next((part for part, names in _PARTS.items() if last in names), "module")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def inspect_weights(source: Path, progress: Progress = silent) -> AdapterStatistics:
    """Measure an adapter in a folder or a file.

    Raises InvalidFile, InvalidAdapter, RankMismatch, UnsupportedAdapter.
    """
    adapter = open_weights(source)
    modules: list[Statistics] = []
    whole: list[WholeTensor] = []
    with OpenFiles.of(adapter.files) as files:
        for done, module in enumerate(adapter.spec.modules):
            progress("measuring", done, len(adapter.spec.modules))
            if module.rank or has_factors(module):
                modules.append(_measure(files, adapter, module))
                whole += _whole(files, adapter, module, module.tensors.keys() - factor_roles(module))
            else:
                whole += _whole(files, adapter, module, module.tensors)
    return AdapterStatistics(tuple(modules), tuple(whole), _tokenizer(source) if source.is_dir() else {})


def _measure(files: OpenFiles, adapter: AdapterWeights, module: ModuleSpec) -> Statistics:
    stored = {adapter.tensors[module.tensors[role]].dtype for role in factor_roles(module) - {"alpha"}}
    if has_factors(module) and stored <= DTYPES.keys():
        return _of_factors(files, adapter, module)
    return Statistics(module.name, module.kind, module.rank)


def _of_factors(files: OpenFiles, adapter: AdapterWeights, module: ModuleSpec) -> Statistics:
    factors = read_factors(files, adapter, module)
    left, right = factors.left, factors.right.T
    rank = min(left.shape[1], len(left), len(right)) if module.kind in _COMPOSITE else module.rank
    broken = sum(int((~factor.isfinite()).sum()) for factor in (left, right))
    if broken:
        return Statistics(module.name, module.kind, rank, not_finite=broken)
    values = abs(factors.scaling) * singular_values(left, right)
    norm = float(values.square().sum().sqrt())
    dead = norm == 0.0
    shares = values / values.sum() if not dead else values
    entropy = float(-(shares * shares.clamp(min=torch.finfo(shares.dtype).tiny).log()).sum())
    return Statistics(
        module.name,
        module.kind,
        rank,
        norm=norm,
        singular=tuple(float(value) for value in values[:TOP]),
        numerical_rank=int((values > NOISE * values[0]).sum()) if not dead else 0,
        stable_rank=0.0 if dead else (norm / float(values[0])) ** 2,
        effective_rank=0.0 if dead else math.exp(entropy),
        dead=dead,
    )


def _whole(
    files: OpenFiles, adapter: AdapterWeights, module: ModuleSpec, roles: Iterable[str]
) -> Iterable[WholeTensor]:
    for role in sorted(roles):
        tensor = adapter.tensors[module.tensors[role]]
        digest, broken = hashlib.sha256(), 0
        for piece in files.chunks(tensor):
            digest.update(piece)
            if tensor.dtype in DTYPES:
                broken += int((~torch.frombuffer(piece, dtype=DTYPES[tensor.dtype]).isfinite()).sum())
        yield WholeTensor(
            module.name, module.kind, tensor.name, tensor.dtype, tensor.shape, tensor.size, digest.hexdigest(), broken
        )


def _tokenizer(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name in _TOKENIZER and path.is_file():
            with path.open("rb") as stream:
                found[path.name] = sha256_stream(stream)[0]
    return found
