"""Merging, by the engine and by PEFT, the same files: each arm as {module: the change of its weight}.

What an arm gives is taken as dense deltas, so that scoring is the same for both sides.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.quality.arms import NAMES, Arm, Theirs
from composition.engine import Composition, compose
from examples.score import Scorer
from examples.score_methods import ADAPTERS, digest, load
from registry.domain.expression import parse
from registry.domain.records import Parent

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third parties' deprecations at import
    from peft import PeftModel

_PREFIX = "base_model.model."

Deltas = Mapping[str, Tensor]
"""(out, in), float32, by the module's name in the base."""


@dataclass(frozen=True)
class Merged:
    """`kept` is the share of the merge's energy that its rank holds, where it isn't all."""

    deltas: Deltas
    kept: float | None = None


class Workbench:
    """The adapters, loaded once for each side. PEFT's model of its own is never scored."""

    def __init__(self, scorer: Scorer) -> None:
        self._inputs = {digest(short): load(name) for short, name in NAMES.items()}
        folders = {short: str(ADAPTERS / name) for short, name in NAMES.items()}
        first, *others = folders
        self._peft: Any = PeftModel.from_pretrained(scorer.load_base(), folders[first], adapter_name=first)
        for short in others:
            self._peft.load_adapter(folders[short], adapter_name=short)

    def merge(self, arm: Arm) -> Merged:
        if isinstance(arm, Theirs):
            return Merged(self._by_peft(arm))
        if not arm.expression:
            return Merged({})
        composition = self._composed(arm.expression)
        deltas = {module.name: module.delta.dense().float() for module in composition.modules}
        return Merged(deltas, composition.report.merge_kept)

    def _composed(self, expression: str) -> Composition:
        text = re.sub(r"\b([swg])\b(?!=)", r"t/\1", expression)
        recipe = parse(text).pin(lambda reference: Parent(reference.adapter, 1, digest(reference.adapter.name)))
        return compose(recipe, self._inputs, device="cpu")

    def _by_peft(self, arm: Theirs) -> Deltas:
        """What PEFT's layers add to the weights, its own scaling and configuration included."""
        names, weights = zip(*arm.weights, strict=True)
        options = {"svd_rank": arm.rank} if arm.rank else {}
        torch.manual_seed(arm.seed)
        self._peft.add_weighted_adapter(
            list(names), list(weights), "merged", combination_type=arm.kind, density=arm.density, **options
        )
        try:
            return {
                name.removeprefix(_PREFIX): layer.get_delta_weight("merged").detach().float().clone()
                for name, layer in self._peft.named_modules()
                if "merged" in getattr(layer, "lora_A", {})
            }
        finally:
            self._peft.delete_adapter("merged")
