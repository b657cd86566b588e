"""Whether a merged model is the base plus an adapter: every tensor of all three is accounted for.

Each module's merge is done again, bit for bit, in the ways in which tools round (`replay`); where none of them gives
the merged weights, `diagnosis` names the mistake. All other tensors must be the base's. Reads a few rows at a time.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from composition.diagnosis import UNDERFLOW, Suspect, diagnose
from composition.merge_plan import Progress, check_format
from composition.replay import Pair, replay, ways
from composition.shards import DTYPES, OpenFiles, headers_index, label, row_count, row_width
from composition.weights import AdapterWeights, has_factors, open_weights, read_factors
from registry.domain.bases import BaseIndex, match
from registry.domain.spec import ModuleSpec
from registry.formats.base_files import StoredBase, StoredTensor, read_base

MATCHES, FAULT, INCONCLUSIVE, UNCHECKED = "matches", "fault", "inconclusive", "not_checked"

_TIED = frozenset({"lm_head", "embed_out", "output"})  # heads that savers leave out where they share the embeddings
_OTHER = "other_tensors_changed"
_MISSING = "tensors_missing"


@dataclass(frozen=True, slots=True)
class Check:
    """One module, or one tensor that the adapter leaves alone (`module` None).

    `verdict`: matches, fault, inconclusive or not_checked. `way`: how it was rounded, where a replay gives its bits.
    Of `elements`, `mismatches` differ from the sum rounded once and `changed` from the base. `factor`: of the delta,
    where it was estimated.
    """

    module: str | None
    tensor: str
    verdict: str
    fault: str | None = None
    text: str = ""
    way: str | None = None
    elements: int = 0
    mismatches: int = 0
    changed: int = 0
    factor: float | None = None
    adapter_tensors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it. `untouched`: tensors that are the base's, bit for bit; `notes`: what is no fault by itself."""

    checks: tuple[Check, ...]
    untouched: int
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """fault if there is one; else matches if everything was decided and fits; else inconclusive."""
        verdicts = {check.verdict for check in self.checks}
        if FAULT in verdicts:
            return FAULT
        return MATCHES if verdicts <= {MATCHES} else INCONCLUSIVE

    @property
    def faults(self) -> dict[str, int]:
        """Faults by name, with how many tensors have them."""
        return dict(Counter(check.fault for check in self.checks if check.fault))

    def document(self) -> dict[str, Any]:
        """The verdict as a JSON value."""
        return {
            "verdict": self.verdict,
            "faults": self.faults,
            "untouched": self.untouched,
            "notes": list(self.notes),
            "checks": [{**asdict(check), "adapter_tensors": list(check.adapter_tensors)} for check in self.checks],
        }


def verify_merge(merged: Path, *, base: Path, adapter: Path, progress: Progress) -> Verdict:
    """Compare three folders. Raises InvalidFile and InvalidAdapter for what can't be read, BaseMismatch for an adapter
    that doesn't fit the base."""
    models = {name: read_base(folder) for name, folder in (("base", base), ("merged", merged))}
    for name, folder in (("base", base), ("merged", merged)):
        check_format(models[name].format, folder)
    weights = open_weights(adapter)
    index = headers_index(models["base"])
    spec = match(weights.spec, index, base=str(base))
    weights = replace(weights, spec=spec)
    stored = [*models["base"].tensors, *models["merged"].tensors]
    with OpenFiles.of([*(tensor.file for tensor in stored), *weights.files]) as files:
        return _Verifier(files, weights, models["base"], models["merged"], progress).run()


class _Verifier:
    """One comparison: the adapter's modules first, then everything that it leaves alone."""

    def __init__(
        self, files: OpenFiles, adapter: AdapterWeights, base: StoredBase, merged: StoredBase, progress: Progress
    ) -> None:
        self._files = files
        self._adapter = adapter
        self._base = {label(tensor): tensor for tensor in base.tensors}
        self._merged = _Names.of(merged)
        self._progress = progress
        self._total = sum(tensor.size for tensor in self._base.values())
        self._done = 0

    def run(self) -> Verdict:
        checks = [check for module in self._adapter.spec.modules for check in self._check_module(module)]
        seen = {check.tensor for check in checks}
        notes: list[str] = []
        untouched = 0
        for name, tensor in self._base.items():
            if name in seen:
                continue
            check = self._check_untouched(name, tensor, notes)
            untouched += check is None
            checks += [check] if check else []
        notes += [f"the base has no tensor {name}" for name in self._merged.others(self._base.keys() | seen)]
        return Verdict(tuple(checks), untouched, tuple(notes))

    def _advance(self, tensor: StoredTensor) -> None:
        self._done += tensor.size
        self._progress("comparing", self._done, self._total)

    def _check_module(self, module: ModuleSpec) -> Iterable[Check]:
        names = tuple(sorted(module.tensors.values()))
        if module.kind in ("saved", "bias"):
            own = sorted((role, name) for role, name in module.tensors.items() if "." not in role)  # no copies
            return [self._check_whole(module, role, name) for role, name in own]
        where = module.base_tensor or module.name
        check = Check(module.name, where, UNCHECKED, adapter_tensors=names)
        if not has_factors(module):
            kinds = " ".join(dict.fromkeys([module.kind, *module.variants]))
            check = replace(check, text=f"not replayed: {kinds}")
            return [check, *(replace(check, tensor=name) for name in self._biases(module))]
        base, merged = self._base[where], self._merged.find(where)
        if merged is None:
            return [replace(check, verdict=FAULT, fault=_MISSING, text="the merged model has no such tensor")]
        if merged.shape != base.shape or not {base.dtype, merged.dtype} <= DTYPES.keys():
            text = f"{base.dtype} {list(base.shape)} became {merged.dtype} {list(merged.shape)}"
            return [replace(check, text=f"not replayed: {text}")]
        return [self._replay(module, Pair(base, merged), check)]

    def _biases(self, module: ModuleSpec) -> Iterable[str]:
        """The base's bias that a module changes besides its weight."""
        name = (module.base_tensor or "").removesuffix("weight") + "bias"
        changes = "bias_B" in module.tensors or (module.kind == "ia3" and module.out_features)
        return [name] if changes and name in self._base else []

    def _replay(self, module: ModuleSpec, pair: Pair, check: Check) -> Check:
        factors = read_factors(self._files, self._adapter, module, _matrix_shape(pair.base))
        if (factors.left.shape[0], factors.right.shape[1]) != _matrix_shape(pair.base):
            return replace(check, text="not replayed: it adapts a part of the tensor only")
        tried = ways(factors.dtype, pair.base.dtype, pair.merged.dtype)
        first = replay(self._files, pair, factors, tried[0])
        check = replace(check, elements=first.elements, mismatches=first.mismatches, changed=first.changed)
        self._advance(pair.base)
        for number, way in enumerate(way for way in tried if way.healthy):
            count = replay(self._files, pair, factors, way, give_up=True) if number else first
            if not count.unexplained and not count.infinite:
                if not count.expected and _is_delta(factors.left, factors.right):
                    text = f"the delta is too small for {pair.merged.dtype}: it changes no weight"
                    return replace(check, verdict=FAULT, fault=UNDERFLOW, text=text, way=way.name)
                return replace(check, verdict=MATCHES, way=way.name)
        finding = diagnose(self._files, Suspect(module, pair, factors, tried, first))
        verdict = FAULT if finding.fault else INCONCLUSIVE
        return replace(check, verdict=verdict, fault=finding.fault, text=finding.text, factor=finding.factor)

    def _check_whole(self, module: ModuleSpec, role: str, name: str) -> Check:
        """A tensor that the adapter brings whole: the merged model must have it as it is."""
        where = f"{module.name}.{role}"
        own, merged = self._adapter.tensors[name], self._merged.find(where)
        check = Check(module.name, label(merged) if merged else where, FAULT, adapter_tensors=(name,))
        if merged is None or merged.shape != own.shape:
            return replace(check, fault=_MISSING, text="the merged model has no such tensor of this shape")
        if self._same(own, merged):
            return replace(check, verdict=MATCHES, way="replaced")
        return replace(check, fault="not_replaced", text="it is not the tensor that the adapter was saved with")

    def _check_untouched(self, name: str, tensor: StoredTensor, notes: list[str]) -> Check | None:
        self._advance(tensor)
        merged = self._merged.find(name)
        if merged is None:
            if tensor.dtype not in DTYPES or _TIED & set(name.split(".")):
                notes.append(f"the merged model has no tensor {name}")
                return None
            return Check(None, name, FAULT, _MISSING, "the merged model has no such tensor")
        if merged.shape == tensor.shape and self._same(tensor, merged):
            if merged.dtype != tensor.dtype:
                notes.append(f"{name} was {tensor.dtype} and is {merged.dtype}")
            return None
        return Check(None, name, FAULT, _OTHER, "the adapter leaves it alone, and it is not the base's")

    def _same(self, wanted: StoredTensor, found: StoredTensor) -> bool:
        """Whether two tensors of one shape hold the same, up to the dtype that the second is stored in."""
        if wanted.dtype == found.dtype:
            pieces = zip(self._files.chunks(wanted), self._files.chunks(found), strict=True)
            return all(torch.equal(_bytes(left), _bytes(right)) for left, right in pieces)
        if not {wanted.dtype, found.dtype} <= DTYPES.keys():
            return False
        rows = _matrix_shape(wanted)[0]
        blocks = ((start, min(start + 256, rows)) for start in range(0, rows, 256))
        return all(
            torch.equal(self._files.rows(wanted, *block).to(DTYPES[found.dtype]), self._files.rows(found, *block))
            for block in blocks
        )


@dataclass(frozen=True, slots=True)
class _Names:
    """The merged model's tensors by name; a wrapper's prefix (`bert.encoder…` for `encoder…`) may have come or gone."""

    tensors: Mapping[str, StoredTensor]
    index: BaseIndex

    @classmethod
    def of(cls, model: StoredBase) -> "_Names":
        return cls({label(tensor): tensor for tensor in model.tensors}, headers_index(model))

    def find(self, name: str) -> StoredTensor | None:
        if name in self.tensors:
            return self.tensors[name]
        found = self.index.names.find(name.replace("/", "."))
        return self.tensors[found[0].label] if len(found) == 1 else None

    def others(self, known: Iterable[str]) -> list[str]:
        """Tensors that none of these names means."""
        meant = {label(tensor) for name in known if (tensor := self.find(name)) is not None}
        return sorted(self.tensors.keys() - meant)


def _matrix_shape(tensor: StoredTensor) -> tuple[int, int]:
    return row_count(tensor), row_width(tensor)


def _bytes(piece: memoryview) -> torch.Tensor:
    return torch.frombuffer(piece, dtype=torch.uint8)


def _is_delta(left: torch.Tensor, right: torch.Tensor) -> bool:
    return bool(left.any()) and bool(right.any())
