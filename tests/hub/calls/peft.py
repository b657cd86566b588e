"""PEFT's and transformers' ways to and from a hub, on a small BERT."""

import torch
from peft import PeftModel
from transformers import AutoModel

torch.set_num_threads(1)


def load(base, adapter, revision=None):
    """A number that says which adapter works on the base."""
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(base), adapter, revision=revision).eval()
    with torch.inference_mode():
        return float(model(input_ids=torch.arange(1000, 1016)[None]).last_hidden_state.square().sum())


def push(base, adapter, repo):
    PeftModel.from_pretrained(AutoModel.from_pretrained(base), adapter).push_to_hub(repo)


def load_base(name):
    AutoModel.from_pretrained(name)
