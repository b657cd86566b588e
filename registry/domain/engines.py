"""Which engine loads which adapter rightly: one table of rules, each with its source.

A rule is about something that an adapter has: a variant, a format, a rank. What an engine has no rule for, and is not
known to apply, counts against it: an adapter that loads and is served wrongly costs more than one that is refused.
Rules are for the newest released engines and their own loaders. They know no module names: which modules of a model
an engine adapts depends on the model.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from registry.domain.errors import UnknownEngine
from registry.domain.spec import AdapterSummary


class Engine(StrEnum):
    """A serving engine, as `engine=` names it."""

    VLLM = "vllm"
    SGLANG = "sglang"
    LORAX = "lorax"
    TGI = "tgi"
    LLAMA_CPP = "llama.cpp"


@dataclass(frozen=True, slots=True)
class Rule:
    """What an engine makes of a variant. `refused` says why it can't serve it; None: it applies it rightly."""

    engine: Engine
    variant: str
    refused: str | None
    source: str


@dataclass(frozen=True, slots=True)
class Files:
    """What an engine loads: a format, and the largest rank it can be started with (None: no limit of its own)."""

    format: str
    convert: str
    max_rank: int | None
    source: str


@dataclass(frozen=True, slots=True)
class Compatibility:
    """Whether an engine serves an adapter rightly as it is stored, and every reason why not."""

    engine: Engine
    reasons: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.reasons

    def document(self) -> dict[str, Any]:
        """As look-ups answer it."""
        return {"engine": self.engine.value, "ok": self.ok, "reasons": list(self.reasons)}


_HELPER = "vllm-project/vllm: vllm/lora/peft_helper.py"
_VLLM_MODEL = "vllm-project/vllm: vllm/lora/lora_model.py"
_SGLANG = "sgl-project/sglang: python/sglang/srt/lora/lora.py"
_SGLANG_CONFIG = "sgl-project/sglang: python/sglang/srt/lora/lora_config.py"
_LORAX = "predibase/lorax: server/lorax_server/adapters/lora.py"
_TGI = "huggingface/text-generation-inference: server/text_generation_server/adapters/lora.py"
_CONVERTER = "ggml-org/llama.cpp: convert_lora_to_gguf.py"
_LLAMA_CPP = "ggml-org/llama.cpp: src/llama-adapter.cpp"

_PEFT = "adapters convert PATH OUT --to peft"
FILES: Mapping[Engine, Files] = MappingProxyType(
    {
        Engine.VLLM: Files("peft", _PEFT, 512, "vllm-project/vllm: vllm/config/lora.py, MaxLoRARanks"),
        Engine.SGLANG: Files("peft", _PEFT, None, "https://docs.sglang.io/docs/advanced_features/lora"),
        Engine.LORAX: Files("peft", _PEFT, None, _LORAX),
        Engine.TGI: Files("peft", _PEFT, None, _TGI),
        Engine.LLAMA_CPP: Files("gguf", "adapters convert PATH OUT --to gguf --base DIR", None, _LLAMA_CPP),
    }
)

# A base stored as (in, out) matters for merging only: at inference A and B are applied to activations as they are.
_NEVER_MATTERS = frozenset({"fan_in_fan_out"})
_MOVED = "it was trained on a changed copy of the base, and is wrong on the base itself"
_MOVED_SOURCE = "PEFT, developer guide on LoRA: initialization"
MOVING = ("pissa", "olora", "corda", "loftq", "lora_ga")

RULES: tuple[Rule, ...] = (
    Rule(Engine.VLLM, "rslora", None, _HELPER),
    Rule(Engine.VLLM, "embedding", None, _VLLM_MODEL),
    Rule(Engine.VLLM, "dora", "it refuses DoRA", _HELPER),
    Rule(Engine.VLLM, "modules_to_save", "it takes modules_to_save only if there are none", _HELPER),
    Rule(Engine.VLLM, "bias", "it refuses trained biases", _HELPER),
    Rule(Engine.VLLM, "lora_bias", "it knows no bias of lora_B", "vllm-project/vllm: vllm/lora/utils.py"),
    Rule(Engine.VLLM, "rank_pattern", "it scales every module by the one alpha / r of the configuration", _HELPER),
    Rule(Engine.VLLM, "alpha_pattern", "it scales every module by the one alpha / r of the configuration", _HELPER),
    Rule(Engine.VLLM, "trainable_tokens", "it needs --max-lora-trainable-tokens, which older ones lack", _HELPER),
    Rule(Engine.SGLANG, "embedding", None, _SGLANG),
    Rule(
        Engine.SGLANG,
        "rslora",
        "it scales by alpha / r, so that the adapter's effect is too weak by the root of its rank",
        "https://github.com/sgl-project/sglang/issues/40835",
    ),
    Rule(Engine.SGLANG, "dora", "it applies A and B, not DoRA's magnitudes", _SGLANG_CONFIG),
    Rule(Engine.SGLANG, "rank_pattern", "it scales every module by the one alpha / r of the configuration", _SGLANG),
    Rule(Engine.SGLANG, "alpha_pattern", "it scales every module by the one alpha / r of the configuration", _SGLANG),
    *(
        rule
        for engine, source in ((Engine.LORAX, _LORAX), (Engine.TGI, _TGI))
        for rule in (
            Rule(engine, "rslora", None, source),
            Rule(engine, "dora", "it applies A and B, and leaves DoRA's magnitudes unread", source),
            Rule(engine, "modules_to_save", "it maps lora_A and lora_B, and leaves other tensors unread", source),
            Rule(engine, "embedding", "it maps lora_A and lora_B, and leaves lora_embedding_A unread", source),
            Rule(engine, "rank_pattern", "it stacks the layers of a module, which needs one rank", source),
            Rule(engine, "alpha_pattern", "it scales every module by the one alpha / r of the configuration", source),
        )
    ),
    Rule(Engine.LLAMA_CPP, "rslora", None, "composition/gguf_writer.py folds the difference to alpha / rank into B"),
    Rule(Engine.LLAMA_CPP, "rank_pattern", None, _LLAMA_CPP),
    Rule(Engine.LLAMA_CPP, "alpha_pattern", None, "composition/gguf_writer.py folds the difference into B"),
    Rule(Engine.LLAMA_CPP, "dora", "its adapters are pairs of lora_a and lora_b alone", _CONVERTER),
    Rule(Engine.LLAMA_CPP, "modules_to_save", "its adapters are pairs of lora_a and lora_b alone", _CONVERTER),
    Rule(Engine.LLAMA_CPP, "bias", "its adapters are pairs of lora_a and lora_b alone", _CONVERTER),
    Rule(Engine.LLAMA_CPP, "lora_bias", "its adapters are pairs of lora_a and lora_b alone", _CONVERTER),
    *(Rule(engine, variant, _MOVED, _MOVED_SOURCE) for engine in Engine for variant in MOVING),
)
_BY_VARIANT: Mapping[tuple[Engine, str], Rule] = MappingProxyType({(r.engine, r.variant): r for r in RULES})


def engine_of(name: str) -> Engine:
    """The engine of that name, in any case. Raises UnknownEngine."""
    try:
        return Engine(name.lower())
    except ValueError:
        raise UnknownEngine(name[:80], ", ".join(Engine)) from None


def compatibility(summary: AdapterSummary, engine: Engine) -> Compatibility:
    """What an engine makes of an adapter as it is stored; a reason ends in its source, in parentheses."""
    return Compatibility(engine, (*_of_files(summary, FILES[engine], engine), *_of_variants(summary, engine)))


def _of_files(summary: AdapterSummary, files: Files, engine: Engine) -> Iterator[str]:
    if summary.format != files.format:
        way = f"`{files.convert}` makes one"
        yield f"format: {engine} loads {files.format}, this is {summary.format}; {way} ({files.source})"
    if files.max_rank is not None and summary.rank > files.max_rank:
        yield f"rank: {engine} serves ranks up to {files.max_rank}, this has {summary.rank} ({files.source})"
    if summary.peft_type != "LORA":
        yield f"kind: {engine} applies LoRA, this is {summary.peft_type} ({files.source})"


def _of_variants(summary: AdapterSummary, engine: Engine) -> Iterator[str]:
    for variant in summary.variants:
        if variant in _NEVER_MATTERS:
            continue
        rule = _BY_VARIANT.get((engine, variant))
        if rule is None:
            yield f"{variant}: {engine} is not known to apply it ({FILES[engine].source})"
        elif rule.refused:
            yield f"{variant}: {rule.refused} ({rule.source})"
