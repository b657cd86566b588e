"""The peers of `benchmarks.merge`: PEFT in this environment, mergekit in one of its own, which needs older packages."""

import os
import subprocess
import sys
from pathlib import Path

MERGEKIT = "mergekit==0.1.5"

MERGEKIT_SCRIPT = """
import json, os, shutil, sys, time, yaml
from pathlib import Path
import transformers.models.llama.modeling_llama
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
folder = Path(sys.argv[1])
text = f"merge_method: passthrough\\ndtype: bfloat16\\nmodels:\\n- model: {folder}/base+{folder}/adapter\\n"
start, cpu = time.perf_counter(), time.process_time()
options = MergeOptions(copy_tokenizer=False, lora_merge_cache=str(folder / "cache"), out_shard_size=800_000_000)
run_merge(MergeConfiguration.model_validate(yaml.safe_load(text)), str(folder / "out"), options=options)
for file in (folder / "out").iterdir():
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())
print(json.dumps([time.perf_counter() - start, time.process_time() - cpu]))
"""


def mergekit_python(cache: Path) -> Path:
    """The Python of an environment that has mergekit; made the first time, by pip."""
    python = cache / "mergekit" / "bin" / "python"
    if not (cache / "mergekit" / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(cache / "mergekit")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", MERGEKIT], check=True)
        (cache / "mergekit" / "complete").touch()
    return python


def run_peft(folder: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(folder / "base"), dtype=torch.bfloat16)
    merged = PeftModel.from_pretrained(model, str(folder / "adapter")).merge_and_unload()
    merged.save_pretrained(str(folder / "out"), max_shard_size="800MB")
    sync(folder / "out")


def sync(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())
