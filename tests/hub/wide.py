"""Large adapters, of a toy base that is wide."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.factories import MODULES, write_adapter

WEIGHTS = "adapter_model.safetensors"
WIDE, WIDTH = "toys/wide", 7680
RANK_BYTES = 2 * len(MODULES) * WIDTH * 4  # bytes a rank


def wide_adapter(folder: Path, rank: int, seed: int = 0) -> Path:
    """An adapter of 240 kB a rank, of numbers that no compression makes smaller."""
    write_adapter(folder, base_model_name_or_path=WIDE, r=rank, lora_alpha=rank)
    generator = np.random.default_rng(seed)
    tensors = {}
    for module in MODULES:
        for side, shape in {"A": (rank, WIDTH), "B": (WIDTH, rank)}.items():
            numbers = generator.random(shape, dtype=np.float32)
            tensors[f"base_model.model.model.{module}.lora_{side}.weight"] = numbers
    save_file(tensors, folder / WEIGHTS)
    return folder
