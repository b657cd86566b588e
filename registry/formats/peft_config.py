"""adapter_config.json of a LoRA adapter, as PEFT writes it: checked values, and what else changes the forward pass.

Nothing is evaluated or imported: `target_modules` (a regular expression, often) is kept as text, since the tensors say
what is adapted. Keys that we don't know are recorded as variants, so that nobody composes what they may mean.

Source: peft 0.21.2, tuners/lora/config.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registry.domain.errors import InvalidAdapter, UnsupportedAdapter
from registry.formats.patterns import PatternTable

MAX_RANK = 65_536
MAX_ALPHA = 1e9
_MAX_LISTED = 64  # modules_to_save
_MAX_PARAMETERS = 100_000  # target_parameters
_MAX_UNKNOWN = 32  # keys; each becomes a variant that every look-up carries

# Libraries whose classes an AutoPeftModel may be told to import. We import none of them.
_LIBRARIES = frozenset(
    {"transformers", "diffusers", "sentence_transformers", "timm", "torch", "torchvision", "open_clip", "peft"}
)
_SCRIPT = "__main__"  # what PEFT writes for a model class from the training script; nobody can be made to import it

# Values of init_lora_weights that leave the base as it was, and those that move it (or were fitted to a moved one).
_PLAIN_INIT = (True, False, None, "gaussian", "orthogonal", "eva", "mica")
_MOVING_INIT = ("pissa", "olora", "corda", "loftq", "lora_ga")

# Kinds of forward pass that a key with a value other than null, false or empty turns on.
_SWITCHES: Mapping[str, str] = {
    "use_rslora": "rslora",
    "use_dora": "dora",
    "lora_bias": "lora_bias",
    "fan_in_fan_out": "fan_in_fan_out",
    "modules_to_save": "modules_to_save",
    "target_parameters": "target_parameters",
    "rank_pattern": "rank_pattern",
    "alpha_pattern": "alpha_pattern",
    "trainable_token_indices": "trainable_tokens",
    "layer_replication": "layer_replication",
    "alora_invocation_tokens": "alora",
    "use_qalora": "qalora",
    "use_bdlora": "bdlora",
    "velora_config": "velora",
    "monteclora_config": "monteclora",
    "kasa_config": "kasa",
    "arrow_config": "arrow",
    "ensure_weight_tying": "weight_tying",
    "megatron_config": "megatron",
}
# Keys that say how the adapter was trained, placed or started: the stored tensors already hold their effect.
_HARMLESS = frozenset(
    {
        "peft_type", "peft_version", "task_type", "base_model_name_or_path", "revision", "auto_mapping",
        "inference_mode", "r", "lora_alpha", "lora_dropout", "bias", "init_lora_weights", "target_modules",
        "exclude_modules", "layers_to_transform", "layers_pattern", "loftq_config", "eva_config", "corda_config",
        "lora_ga_config", "megatron_core", "qalora_group_size", "runtime_config",
        "modules_to_tie", "target_modules_to_tie", "merge_weights",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """What a configuration says, of LoRA or LyCORIS. `variants` is what a plain reader would get wrong.

    `document` is all of it.
    """

    rank: int
    alpha: float
    rslora: bool
    dora: bool
    lora_bias: bool
    bias: str  # none | all | lora_only
    ranks: PatternTable[int]
    alphas: PatternTable[float]
    modules_to_save: tuple[str, ...]
    target_parameters: tuple[str, ...]
    variants: frozenset[str]
    base_name: str | None
    base_revision: str | None
    task_type: str | None
    document: dict[str, Any]
    peft_type: str = "LORA"

    def rank_of(self, name: str) -> int:
        return self.ranks.get(name, self.rank)

    def alpha_of(self, name: str) -> float:
        return self.alphas.get(name, self.alpha)

    def scaling(self, rank: int, alpha: float) -> float:
        """The factor in front of B·A: alpha / rank, with rsLoRA alpha / sqrt(rank)."""
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank


def read_settings(document: dict[str, Any], *, path: str) -> LoraSettings:
    """Check a parsed adapter_config.json. Raises InvalidAdapter naming the key, UnsupportedAdapter naming the kind."""
    _check_kind(document, path)
    ranks = {key: _rank(value, f"rank_pattern {key!r}") for key, value in _table(document, "rank_pattern").items()}
    alphas = {key: _alpha(value, f"alpha_pattern {key!r}") for key, value in _table(document, "alpha_pattern").items()}
    bias = document.get("bias", "none")
    if bias not in ("none", "all", "lora_only"):
        raise InvalidAdapter("bias", f"{str(bias)[:80]!r} is none of none, all, lora_only")
    return LoraSettings(
        rank=_rank(document.get("r"), "r"),
        alpha=_alpha(document.get("lora_alpha"), "lora_alpha"),
        rslora=_flag(document, "use_rslora"),
        dora=_flag(document, "use_dora"),
        lora_bias=_flag(document, "lora_bias"),
        bias=bias,
        ranks=PatternTable.compile(ranks, "rank_pattern"),
        alphas=PatternTable.compile(alphas, "alpha_pattern"),
        modules_to_save=_names(document, "modules_to_save", _MAX_LISTED),
        target_parameters=_names(document, "target_parameters", _MAX_PARAMETERS),
        variants=_variants(document, bias),
        base_name=_text(document, "base_model_name_or_path"),
        base_revision=_text(document, "revision"),
        task_type=_text(document, "task_type"),
        document=document,
    )


def read_texts(document: dict[str, Any], *, path: str) -> dict[str, str | None]:
    """What every configuration says of base and task. Raises as `read_settings` does."""
    _check_libraries(document, path)
    return {key: _text(document, key) for key in ("base_model_name_or_path", "revision", "task_type")}


def _check_kind(document: dict[str, Any], path: str) -> None:
    kind = document.get("peft_type")
    if not isinstance(kind, str):
        raise InvalidAdapter(f"{path}: peft_type", "it is missing")
    if kind != "LORA":
        raise UnsupportedAdapter(
            path, f"peft_type {kind[:80]}", "adapters of peft_type LORA, LOHA, LOKR and IA3 are kept"
        )
    _check_libraries(document, path)


def _check_libraries(document: dict[str, Any], path: str) -> None:
    mapping = document.get("auto_mapping")
    if mapping is None:
        return
    library = mapping.get("parent_library") if isinstance(mapping, dict) else None
    if not isinstance(library, str) or (library != _SCRIPT and library.split(".")[0] not in _LIBRARIES):
        known = ", ".join(sorted(_LIBRARIES))
        reason = f"whoever loads it would import that; known are {known}. Set task_type, or remove auto_mapping"
        raise UnsupportedAdapter(path, f"auto_mapping of the library {str(library)[:80]!r}", reason)


def _variants(document: dict[str, Any], bias: str) -> frozenset[str]:
    found = {variant for key, variant in _SWITCHES.items() if document.get(key)}
    unknown = [key for key in document.keys() - _SWITCHES.keys() - _HARMLESS if document[key]]
    if len(unknown) > _MAX_UNKNOWN or not all(key.isprintable() for key in unknown):
        raise InvalidAdapter("configuration", f"{len(unknown)} unknown keys, {min(unknown)[:80]!a} among them")
    found |= {f"unknown:{key[:80]}" for key in unknown}
    if bias != "none":
        found.add("bias")
    init = document.get("init_lora_weights", True)
    moving = [name for name in _MOVING_INIT if isinstance(init, str) and init.lower().startswith(name)]
    if moving:
        found.add(moving[0])
    elif init not in _PLAIN_INIT:
        found.add("unknown:init_lora_weights")
    return frozenset(found)


def _rank(value: Any, where: str) -> int:
    if type(value) is not int or not 0 < value <= MAX_RANK:
        raise InvalidAdapter(where, f"{_shown(value)} is not a whole number from 1 to {MAX_RANK}")
    return value


def _alpha(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not abs(value) <= MAX_ALPHA:
        raise InvalidAdapter(where, f"{_shown(value)} is not a number of at most {MAX_ALPHA:g}")
    return float(value)


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:80]


def _flag(document: dict[str, Any], key: str) -> bool:
    value = document.get(key)
    if value not in (None, True, False) or type(value) not in (type(None), bool):
        raise InvalidAdapter(key, f"{_shown(value)} is neither true nor false")
    return bool(value)


def _table(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise InvalidAdapter(key, f"{_shown(value)} is not a table")
    return value


def _text(document: dict[str, Any], key: str) -> str | None:
    value = document.get(key)
    if value is not None and not (isinstance(value, str) and len(value) <= 1024 and value.isprintable()):
        raise InvalidAdapter(key, f"{_shown(value)} is not a printable text")
    return value or None


def _names(document: dict[str, Any], key: str, most: int) -> tuple[str, ...]:
    value = document.get(key) or []
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise InvalidAdapter(key, f"{_shown(value)} is not a list of names")
    if len(value) > most:
        raise InvalidAdapter(key, f"{len(value)} names; {most} are allowed")
    return tuple(dict.fromkeys(value))
