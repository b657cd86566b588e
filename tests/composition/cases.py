"""Adapters for the tests of the engine: trained ones, read with the real reader, and random ones made on the spot."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from composition.adapter import LoadedAdapter, LoadedModule
from composition.engine import Composition
from composition.files import WEIGHTS_NAME, load_adapter
from composition.low_rank import LowRank
from registry.domain.bases import BaseIndex, match
from registry.domain.expression import parse
from registry.domain.recipe import Recipe
from registry.domain.records import FileEntry, Parent
from registry.domain.spec import AdapterSummary
from registry.formats.peft import read_folder
from tests.factories import EXAMPLES

Dense = Mapping[str, torch.Tensor]

SHAPES = {"layers.0.q": (12, 10), "layers.0.v": (8, 10), "layers.1.q": (12, 10)}
SUMMARY = AdapterSummary(
    "peft", "LORA", 4, 8.0, {}, ("q",), (), "F32", 0, base_name="org/base", task_type="FEATURE_EXTRACTION"
)


def digest(name: str) -> str:
    """The content digest of t/name."""
    return sha256(name.encode()).hexdigest()


def pin(text: str, dtype: str = "float32") -> Recipe:
    """Pin an expression over t/…; every adapter is at version 1."""
    return parse(text, dtype).pin(lambda reference: Parent(reference.adapter, 1, digest(reference.adapter.name)))


def random_adapter(
    name: str, *, rank: int = 3, modules: tuple[str, ...] = tuple(SHAPES), **summary: Any
) -> LoadedAdapter:
    """An adapter of random factors that follow from its name; scaling 0.7."""
    generator = torch.Generator().manual_seed(int(digest(name)[:8], 16))
    loaded = []
    for module in modules:
        out, inside = SHAPES[module]
        a, b = torch.randn(rank, inside, generator=generator), torch.randn(out, rank, generator=generator)
        loaded.append(LoadedModule(module, None, LowRank(a, b, 0.7)))
    return LoadedAdapter(f"t/{name}@v1", replace(SUMMARY, **summary), tuple(loaded))


def by_digest(**adapters: LoadedAdapter) -> dict[str, LoadedAdapter]:
    return {digest(name): adapter for name, adapter in adapters.items()}


def weights_entry(folder: Path) -> FileEntry:
    data = (folder / WEIGHTS_NAME).read_bytes()
    return FileEntry(WEIGHTS_NAME, sha256(data).hexdigest(), len(data))


def load(folder: Path, index: BaseIndex | None = None) -> LoadedAdapter:
    """Load an adapter from a folder, matched with a base if there is one."""
    spec = match(read_folder(folder), index, base="base") if index else read_folder(folder)
    with (folder / WEIGHTS_NAME).open("rb") as stream:
        return load_adapter(stream, spec, subject=f"{folder.name}@v1", file=weights_entry(folder))


def minilm(name: str) -> LoadedAdapter:
    """Load a trained adapter of MiniLM."""
    return load(EXAMPLES / f"minilm-{name}")


def dense(composition: Composition) -> Dense:
    return {module.name: module.delta.dense() for module in composition.modules}


def dense_sum(weights: Mapping[str, float], inputs: Mapping[str, LoadedAdapter]) -> Dense:
    """The weighted sum of adapters {name: weight}, formed densely in float64."""
    total: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        for module in inputs[digest(name)].modules:
            delta = weight * module.delta.dense()
            total[module.name] = total[module.name] + delta if module.name in total else delta
    return total


def assert_close(found: Dense, wanted: Dense, tolerance: float = 1e-6) -> None:
    """Relative to each module's norm."""
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert float((found[name] - wanted[name]).norm()) <= tolerance * float(wanted[name].norm()), name
