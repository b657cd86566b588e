"""LoHa and LoKr adapters in PEFT's folders: LyCORIS's tensors, their ranks and scalings from the configuration.

    base_model.model.<module>.hada_w1_a, …, .hada_t1, …                   LoHa
    base_model.model.<module>.lokr_w1, .lokr_w2_a, …, .lokr_t2            LoKr

Two things differ from LyCORIS's own files (`registry.formats.lycoris`): a LoKr of two whole matrices is scaled by
alpha / r as well, and a kernel that is folded into the inputs isn't told; the base tells it (`registry.domain.bases`).

Source: peft 0.21.2, tuners/lycoris_utils.py, tuners/loha, tuners/lokr.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from registry.domain.errors import RankMismatch, UnsupportedAdapter
from registry.domain.spec import ModuleSpec, TensorEntry
from registry.formats.layers import Layer
from registry.formats.lycoris import build_lycoris
from registry.formats.peft_config import LoraSettings, read_settings

KINDS: Mapping[str, str] = {"LOHA": "loha", "LOKR": "lokr"}  # peft_type -> kind of module

# Keys that say how it was trained or started, or that the stored shapes say again.
_SHAPES = frozenset(
    {
        "rank_dropout", "module_dropout", "rank_dropout_scale", "init_weights", "use_effective_conv2d",
        "decompose_both", "decompose_factor",
    }
)  # fmt: skip
_SHARED = frozenset(
    {
        "peft_type", "peft_version", "task_type", "base_model_name_or_path", "revision", "auto_mapping",
        "inference_mode", "r", "alpha", "rank_pattern", "alpha_pattern", "target_modules", "exclude_modules",
        "layers_to_transform", "layers_pattern", "modules_to_save", "runtime_config",
    }
)  # fmt: skip


def read_lycoris_settings(document: dict[str, Any], *, path: str) -> LoraSettings:
    """Check a parsed adapter_config.json. Raises as `read_settings` does, and UnsupportedAdapter for an unknown key."""
    for key in sorted(document.keys() - _SHARED - _SHAPES):
        if document[key]:
            kind = document["peft_type"]
            raise UnsupportedAdapter(f"{path}: {key[:80]!a}", f"this key beside {kind}", "its meaning isn't known")
    shared = {key: value for key, value in document.items() if key in _SHARED and key != "alpha"}
    as_lora = {**shared, "peft_type": "LORA", "lora_alpha": document.get("alpha")}
    settings = read_settings(as_lora, path=path)
    return replace(settings, peft_type=document["peft_type"], document=document)


def lycoris_module(name: str, tensors: Mapping[str, TensorEntry], settings: LoraSettings) -> ModuleSpec:
    """The module of these tensors {role: tensor}. Raises InvalidAdapter, RankMismatch or UnsupportedAdapter."""
    layer = Layer(name, dict(tensors))
    rank, alpha = settings.rank_of(name), settings.alpha_of(name)
    module = build_lycoris(layer, alpha)
    whole = tensors.get("lokr_w2")
    if whole is not None and len(whole.shape) == 3:
        reason = "PEFT multiplies w1 and w2 along the wrong axes there, and what it adds is no Kronecker product"
        raise UnsupportedAdapter(whole.name, "a LoKr of a 1-D convolution with a whole w2", reason)
    if module.rank not in (0, rank):
        raise RankMismatch(next(iter(module.tensors.values())), expected=rank, found=module.rank)
    shape = module.base_shape
    shown = {
        "conv": len(shape) > 2,
        "rank_pattern": settings.ranks.key(name) is not None,
        "alpha_pattern": settings.alphas.key(name) is not None,
    }
    return replace(
        module,
        rank=rank,
        alpha=alpha,
        scaling=settings.scaling(rank, alpha),
        in_features=shape[1],
        variants=tuple(sorted({*module.variants, *(variant for variant, is_shown in shown.items() if is_shown)})),
    )
