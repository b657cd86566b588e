"""Log-likelihoods of a few texts under SmolLM2, with and without an adapter, by PEFT or by llama.cpp.

    perplexity.py peft BASE.gguf ADAPTER          > peft.json      with the tokens, which the other side takes over
    perplexity.py llama BASE.gguf ADAPTER.gguf peft.json > llama.json
    perplexity.py compare peft.json llama.json                     exit code 1 where they differ

What is compared is what the adapter changes: the difference of the logarithms of both perplexities. The base itself
differs between the two by what llama.cpp's kernels round on quantised weights.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

TASK = Path(__file__).parents[2] / "examples" / "tasks" / "smollm2-domains.json"
TEXTS = 24
TOLERANCE = 0.02  # nats a token, of the adapter's effect


def texts() -> list[str]:
    return list(json.loads(TASK.read_text())["gloss"][:TEXTS])


def with_peft(base: str, adapter: str) -> dict[str, Any]:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    place = {"pretrained_model_name_or_path": str(Path(base).parent), "gguf_file": Path(base).name}
    tokenizer = AutoTokenizer.from_pretrained(**place)
    tokens = [tokenizer(text)["input_ids"] for text in texts()]
    model = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32).eval()

    def total(model: Any) -> float:
        with torch.inference_mode():
            batches = [torch.tensor([ids]) for ids in tokens]
            losses = [float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1) for ids in batches]
        return math.fsum(losses)

    plain = total(model)
    adapted = total(PeftModel.from_pretrained(model, adapter).eval())
    return {"tokens": tokens, **_per_token(plain, adapted, tokens)}


def with_llama(base: str, adapter: str, reference: str) -> dict[str, Any]:
    import numpy as np
    from llama_cpp import Llama, llama_cpp

    defaults = llama_cpp.llama_model_default_params

    def without_repacking() -> Any:
        """As `--no-repack`: ggml's AMX kernels (0.25.3) crash on this model, with an adapter or without."""
        params = defaults()
        params.use_extra_bufts = False
        return params

    llama_cpp.llama_model_default_params = without_repacking
    tokens = json.loads(Path(reference).read_text())["tokens"]

    def total(lora: str | None) -> float:
        model = Llama(base, lora_path=lora, n_ctx=512, logits_all=True, n_threads=1, verbose=False)
        losses = []
        for ids in tokens:
            model.reset()
            model.eval(ids)
            logits = np.array(model.scores[: len(ids) - 1], dtype=np.float64)
            shift = logits.max(axis=1)
            normaliser = shift + np.log(np.exp(logits - shift[:, None]).sum(axis=1))
            losses.append(float((normaliser - logits[np.arange(len(ids) - 1), ids[1:]]).sum()))
        return math.fsum(losses)

    return _per_token(total(None), total(adapter), tokens)


def _per_token(plain: float, adapted: float, tokens: list[list[int]]) -> dict[str, float]:
    count = sum(len(ids) - 1 for ids in tokens)
    return {"base": plain / count, "adapted": adapted / count}


def compare(ours: str, theirs: str) -> int:
    peft, llama = (json.loads(Path(path).read_text()) for path in (ours, theirs))
    effects = [side["adapted"] - side["base"] for side in (peft, llama)]
    for name, side, effect in zip(("PEFT", "llama.cpp"), (peft, llama), effects, strict=True):
        perplexities = f"{math.exp(side['base']):.4f} -> {math.exp(side['adapted']):.4f}"
        print(f"{name:10} perplexity {perplexities}, {effect:+.4f} nats a token")
    agree = abs(effects[0] - effects[1]) <= TOLERANCE and effects[0] < 0
    print("the adapter does the same in both" if agree else "the adapter does NOT do the same in both")
    return 0 if agree else 1


if __name__ == "__main__":
    mode, *arguments = sys.argv[1:]
    if mode == "compare":
        sys.exit(compare(*arguments))
    print(json.dumps(with_peft(*arguments) if mode == "peft" else with_llama(*arguments)))
