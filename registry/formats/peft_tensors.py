"""The tensors of a PEFT file, sorted by the module that they adapt, each with the role that it plays there.

    base_model.model.<module>.lora_A.weight, .lora_B.weight[, .lora_B.bias]     linear, convolution, parameter
    base_model.model.<module>.lora_embedding_A, .lora_embedding_B               embedding
    base_model.model.<module>.lora_magnitude_vector[.weight]                    DoRA, next to any of these
    base_model.model.<module>.lora_diag                                         KaSA
    base_model.model.<module>.hada_*, .lokr_*                                   LoHa and LoKr, in their own adapters
    base_model.model.<module>.token_adapter.trainable_tokens_delta              trainable tokens
    base_model.model.<module>[.base_layer].bias                                 bias: all or lora_only
    base_model.model.<module>.<parameter>                                       modules_to_save, whole
    base_model.model.<module>.modules_to_save.bias, .original_module.bias       with bias="all", the same once more
    base_model.model.<module>[.base_layer].weight                               an embedding that was saved whole

A tensor with no place in this table is refused by name: what nobody accounts for, nobody would compose either.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from registry.domain.errors import InvalidAdapter, UnsupportedAdapter
from registry.domain.spec import TensorEntry
from registry.formats import lycoris
from registry.formats.peft_config import LoraSettings

PREFIX = "base_model.model."

# The last components of a tensor's name -> its role.
_ROLES = {
    "lora_A.weight": "A",
    "lora_B.weight": "B",
    "lora_B.bias": "bias_B",
    "lora_embedding_A": "embedding_A",
    "lora_embedding_B": "embedding_B",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    "lora_diag": "diag",
    "token_adapter.trainable_tokens_delta": "tokens",
}
_LYCORIS = {role: role for role in lycoris.ROLES}
COPIES = ("modules_to_save", "original_module")
# Modules that PEFT saves whole when the vocabulary was resized (utils/other.py, and the input and output embeddings
# of the transformers models).
_EMBEDDINGS = frozenset(
    {"embed_tokens", "lm_head", "wte", "word_embeddings", "embed_in", "embed_out", "shared", "tok_embeddings", "output"}
)


@dataclass(slots=True)
class TensorGroup:
    """The tensors of one module by role. `path` is the module's name, `base_layer` of nested wrappers included."""

    path: str
    tensors: dict[str, TensorEntry] = field(default_factory=dict)

    def add(self, role: str, tensor: TensorEntry) -> None:
        if (other := self.tensors.setdefault(role, tensor)) is not tensor:
            raise InvalidAdapter(tensor.name, f"it says the same as {other.name}")


@dataclass(frozen=True, slots=True)
class SortedTensors:
    """Every tensor of a file in exactly one group; each table is keyed by the module's path."""

    low_rank: dict[str, TensorGroup]
    tokens: dict[str, TensorGroup]
    saved: dict[str, TensorGroup]
    biases: dict[str, TensorGroup]


def sort_tensors(tensors: Iterable[TensorEntry], settings: LoraSettings) -> SortedTensors:
    """Give every tensor its place. Raises InvalidAdapter or UnsupportedAdapter naming a tensor that has none."""
    groups = SortedTensors({}, {}, {}, {})
    roles = _ROLES if settings.peft_type == "LORA" else _LYCORIS
    whole: list[tuple[str, TensorEntry]] = []
    for tensor in tensors:
        if not tensor.name.startswith(PREFIX):
            raise InvalidAdapter(tensor.name, f"a tensor of a PEFT adapter begins with {PREFIX}")
        name = tensor.name.removeprefix(PREFIX)
        path, role = _split_role(name, roles)
        if role is None:
            whole.append((name, tensor))
        elif role == "tokens":
            groups.tokens.setdefault(path, TensorGroup(path)).add(role, tensor)
        else:
            groups.low_rank.setdefault(path, TensorGroup(path)).add(role, tensor)
    for name, tensor in whole:
        _place_whole(name, tensor, settings, groups)
    return groups


def _split_role(name: str, roles: Mapping[str, str]) -> tuple[str, str | None]:
    for components in (1, 2):
        path, _, _ = _rsplit(name, components)
        role = roles.get(name[len(path) + 1 :])
        if role and path:
            return path, role
    return name, None


def _rsplit(name: str, components: int) -> tuple[str, str, str]:
    path, rest = name, ""
    for _ in range(components):
        path, _, last = path.rpartition(".")
        rest = f"{last}.{rest}" if rest else last
    return path, ".", rest


def _place_whole(name: str, tensor: TensorEntry, settings: LoraSettings, groups: SortedTensors) -> None:
    module, _, parameter = name.rpartition(".")
    plain = strip_base_layer(module)
    if _is_saved(module, settings.modules_to_save):
        holder, role = _copied(module, parameter) if settings.bias == "all" else (module, parameter)
        groups.saved.setdefault(holder, TensorGroup(holder)).add(role, tensor)
    elif parameter == "bias" and _is_bias_kept(module, settings, groups):
        groups.biases.setdefault(plain, TensorGroup(plain)).add(parameter, tensor)
    elif parameter == "weight" and plain and _is_embedding(module, plain, groups):
        groups.saved.setdefault(plain, TensorGroup(plain)).add(parameter, tensor)
    else:
        _refuse(name, tensor, settings)


def _is_saved(module: str, targets: tuple[str, ...]) -> bool:
    """Whether the module or one around it is in modules_to_save (which PEFT compares with str.endswith)."""
    while module:
        if module.endswith(targets):
            return True
        module = module.rpartition(".")[0]
    return False


def _copied(module: str, parameter: str) -> tuple[str, str]:
    """The module and the role of a tensor that PEFT stores once more, with bias="all": its wrapper's own names.

    `modules_to_save.bias` is the same as `bias`; `original_module.bias` is the base's, which nothing computes with.
    """
    parts = module.split(".")
    for copy in COPIES:
        if copy in parts:
            parts.remove(copy)
            return ".".join(parts), f"{copy}.{parameter}"
    return module, parameter


def _is_bias_kept(module: str, settings: LoraSettings, groups: SortedTensors) -> bool:
    return settings.bias == "all" or (settings.bias == "lora_only" and strip_base_layer(module) in groups.low_rank)


def _is_embedding(module: str, plain: str, groups: SortedTensors) -> bool:
    return (module != plain and plain in groups.low_rank) or plain.rpartition(".")[2] in _EMBEDDINGS


def _refuse(name: str, tensor: TensorEntry, settings: LoraSettings) -> None:
    known = {role.partition(".")[0] for role in _ROLES}
    special = [part for part in name.split(".") if part.startswith("lora_") and part not in known]
    if special:
        kinds = ", ".join(sorted(settings.variants)) or "plain LoRA"
        raise UnsupportedAdapter(tensor.name, f"a tensor {special[0]!r}", f"the configuration says {kinds}")
    raise InvalidAdapter(
        tensor.name,
        f"it is no factor of {settings.peft_type}, and neither modules_to_save nor bias in the configuration "
        "explains it",
    )


def strip_base_layer(path: str) -> str:
    """A module's path without PEFT's wrappers: `att.base_layer.out_proj` is `att.out_proj`."""
    return ".".join(part for part in path.split(".") if part != "base_layer") if "base_layer" in path else path
