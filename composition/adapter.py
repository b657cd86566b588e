"""LoadedAdapter: an adapter's deltas in memory, and which kinds of adapter can be composed at all.

Whatever is not a low-rank delta in one of the forms of `terms` is refused by name: dropping a part that we can't
combine would give an adapter that looks right and isn't. This room knows no files and no registry.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field

from torch import Tensor

from composition.dora import Decomposed
from composition.layers import check_convertible
from composition.low_rank import LowRank
from composition.terms import LINEAR, Form
from registry.domain.errors import UnsupportedAdapter
from registry.domain.spec import AdapterSpec, AdapterSummary, ModuleSpec
from registry.formats import ia3, peft

_NO_DELTA = "its base weights were changed when training began, so its factors are no delta of the published base"
BASE_WAS_CHANGED = (
    f"{_NO_DELTA}; with the adapter as it was before training, write given_init(team/name, team/its-init)"
)
MOVED = frozenset({"pissa", "olora", "corda", "lora_ga"})
_NOT_COMBINED = "it changes the forward pass beyond B·A, and combining that part is not implemented"

CHOOSE = "choose what becomes of them (--modules-to-save average, from=team/name, or difference with --base DIR)"

# Variants whose effect is already in each module's rank and scaling.
_FOLDED = frozenset({"rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out"})
# Kinds of modules that are combined, and variants that say no more than a module's kind and tensors do.
_LYCORIS = frozenset({"loha", "lokr"})
_COMBINED = frozenset({"linear", "embedding", "conv", "parameter"}) | _LYCORIS
_SHOWN = frozenset({"embedding", "conv", "target_parameters", "lora_bias"}) | _LYCORIS
_OF_BASE = frozenset({"dora", "modules_to_save"})  # can be told with the base's weights
_REPLACED = frozenset({"modules_to_save", "bias"})  # can be combined by a rule that somebody chose
_ROLES = frozenset({"A", "B", "bias_B", "magnitude"})

_REASONS: Mapping[str, str] = {
    "dora": "its delta is a function of the base's weights; give their folder (blend: --base DIR), or publish the base",
    "bias": f"it replaces the base's biases; {CHOOSE}",
    "modules_to_save": f"it replaces whole modules; {CHOOSE}. Embeddings that were only saved along are recognised by "
    "the base's weights (--base DIR)",
    "grouped_conv": "its B factor sees only its group of the ranks, where a sum needs one matrix",
    "alora": "it is active from its invocation tokens on only",
    "qalora": "its A factors act on pooled inputs",
    "trainable_tokens": "it replaces single embedding rows",
    "layer_replication": "its layers are not those of the base",
    "loftq": f"{_NO_DELTA}, and by rounding them, which no adapter holds; register the base that LoftQ saved, and push "
    "it for that with init_lora_weights true",
    **dict.fromkeys(MOVED, BASE_WAS_CHANGED),
}
_KINDS: Mapping[str, str] = {"saved": "modules_to_save", "tokens": "trainable_tokens"}


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModule:
    """A module's delta, or an expert's of it. `base_tensor` is the base's tensor that it adapts, where that is known.

    The delta's factors are of the dtype that they are stored in, to be read and not computed with; `true_delta` is.
    `bias` is what is added to the layer's output (lora_bias), scaling included: (out,), float64. With DoRA `delta` is
    the direction only, and `decomposed` makes the true delta of it.
    """

    name: str
    base_tensor: str | None
    delta: LowRank
    form: Form = LINEAR
    bias: Tensor | None = None
    decomposed: Decomposed | None = None

    @property
    def true_delta(self) -> LowRank:
        """What the layer's weight changes by, in float32; with DoRA of full rank, and computed anew each time."""
        return self.decomposed.delta(self.delta.widened()) if self.decomposed else self.delta.widened()

    @property
    def place(self) -> str | None:
        """What it adapts. An embedding and a head that share a tensor are two places: each has a delta of its own."""
        return (
            f"{self.base_tensor} as embedding"
            if self.base_tensor and self.form.kind == "embedding"
            else self.base_tensor
        )


@dataclass(frozen=True, slots=True, eq=False)
class Replacement:
    """A tensor that stands in the place of the base's: of a module that was saved whole, or a trained bias.

    `values` is float32; `base` reads the base's, where that is there, as rows in float64 (see `BaseWeights.rows`).
    """

    module: str
    parameter: str
    values: Tensor
    is_bias: bool
    base_tensor: str | None = None
    base: Callable[[], Iterator[Tensor]] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """A vector of IA3, (n,): what a layer's outputs are multiplied by, or its inputs (`inward`).

    `dimensions` is how many the layer's weight has: 2 of a linear layer, more of a convolution.
    """

    name: str
    base_tensor: str | None
    values: Tensor
    inward: bool
    dimensions: int = 2


@dataclass(frozen=True, slots=True, eq=False)
class LoadedAdapter:
    """An adapter ready to be composed. `subject` is what errors call it: team/name@v3."""

    subject: str
    summary: AdapterSummary
    modules: tuple[LoadedModule, ...]
    replacements: tuple[Replacement, ...] = ()
    scales: tuple[Scale, ...] = ()
    by_key: Mapping[str, LoadedModule] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_key", _by_key(self.modules))

    @property
    def named(self) -> tuple[LoadedModule | Scale, ...]:
        """Everything that changes a layer of the base by its name."""
        return (*self.modules, *self.scales)

    @property
    def fan_in_fan_out(self) -> bool:
        return "fan_in_fan_out" in self.summary.variants


def check_composable(
    subject: str, spec: AdapterSpec, *, with_base: bool = False, replacing: bool = False, given_init: bool = False
) -> None:
    """`with_base`: the base's weights are there, for DoRA, and to see whether a module saved whole is the base's own.

    `replacing`: somebody chose what becomes of modules and biases that are replaced. `given_init`: the adapter stands
    beside the one that it began as.

    Raises UnsupportedAdapter that names the adapter, the first variant that can't be composed, and why."""
    if spec.summary.format != peft.NAME:
        check_convertible(subject, spec, with_base=with_base)
        return
    if spec.summary.peft_type == ia3.PEFT_TYPE:
        return  # its reader knows no variants that can't be composed
    known = _FOLDED | _SHOWN
    for is_given, variants in ((with_base, _OF_BASE), (replacing, _REPLACED), (given_init, MOVED)):
        known |= variants if is_given else frozenset()
    if "dora" in spec.summary.variants and MOVED & set(spec.summary.variants):
        raise UnsupportedAdapter(subject, "dora", f"{_NO_DELTA}, and its magnitudes are none of those weights")
    for variant in spec.summary.variants:
        _check_variant(subject, variant, known)
    for module in spec.modules:
        _check_module(f"{subject}, module {module.name}", module, known)


def _check_module(subject: str, module: ModuleSpec, known: Set[str]) -> None:
    if (module.kind == "saved" and "modules_to_save" in known) or (module.kind == "bias" and "bias" in known):
        return
    if module.kind not in _COMBINED:
        kind = _KINDS.get(module.kind, module.kind)
        raise UnsupportedAdapter(subject, kind, _REASONS.get(kind, _NOT_COMBINED))
    for variant in module.variants:
        _check_variant(subject, variant, known)
    if module.kind in _LYCORIS:
        return
    if {"magnitude", "bias_B"} <= module.tensors.keys():
        raise UnsupportedAdapter(subject, "dora with lora_bias", "PEFT counts the biases into the norm of the weights")
    for role in module.tensors.keys() - _ROLES:
        raise UnsupportedAdapter(subject, f"the tensor {module.tensors[role]}", _NOT_COMBINED)
    _check_nesting(subject, module)


def _check_nesting(subject: str, module: ModuleSpec) -> None:
    """PEFT nests the wrappers of one module's parameters, which `terms` undoes; nothing else may be nested."""
    path = module.tensors["A"]
    inner = path.split(".")[: -path.count(".base_layer") - 2] if module.kind == "parameter" else path.split(".")
    if "base_layer" in inner:
        raise UnsupportedAdapter(subject, f"the tensor {path}", "its layer is wrapped within another one's wrapper")


def _check_variant(subject: str, variant: str, known: Set[str]) -> None:
    if variant not in known:
        raise UnsupportedAdapter(subject, variant, _REASONS.get(variant, _NOT_COMBINED))


def _by_key(modules: tuple[LoadedModule, ...]) -> dict[str, LoadedModule]:
    """Modules by what they adapt: the base's tensor where it is known and only one module's, else their name."""
    shared = Counter(module.place for module in modules)
    return {module.place if module.place and shared[module.place] == 1 else module.name: module for module in modules}
