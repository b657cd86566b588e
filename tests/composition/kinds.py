"""Small torch models, and adapters of every kind that PEFT makes for them, with random weights, saved by PEFT."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from composition.adapter import LoadedAdapter
from composition.files import CONFIG_NAME
from tests.composition.cases import Dense, load

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third parties' deprecations at import
    from peft import LoraConfig, PeftModel, get_peft_model


class Experts(nn.Module):
    """A stack of three experts, as transformers keeps them: two parameters of one module."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(3, 10, 6))
        self.down_proj = nn.Parameter(torch.randn(3, 6, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = torch.einsum("eoi,bi->ebo", self.gate_up_proj, x).chunk(2, dim=-1)
        return torch.einsum("eoi,ebi->bo", self.down_proj, gate * up)


class Layers(nn.Module):
    """One layer of every kind; `forward` runs through all of them."""

    __module__ = "__main__"  # as in a training script: PEFT writes it down, and our reader refuses unknown libraries

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.q = nn.Linear(6, 6)
        self.conv1 = nn.Conv1d(6, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(1, 3, (3, 2))
        self.pointwise = nn.Conv2d(3, 4, 1)
        self.conv3 = nn.Conv3d(2, 2, (1, 2, 2))
        self.grouped = nn.Conv1d(4, 4, 3, groups=2)
        self.experts = Experts()
        self.head = nn.Linear(6, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.q(self.embed(tokens))  # (batch, length, 6)
        channels = self.conv1(x.transpose(1, 2))
        picture = self.pointwise(self.conv2(channels[:, None]))
        cube = self.conv3(picture.reshape(len(tokens), 2, 2, *picture.shape[2:]))
        pooled = self.experts(x.mean(1)) + cube.flatten(1).sum(1, keepdim=True)
        return self.head(pooled + self.grouped(channels).flatten(1).sum(1, keepdim=True))


BASE = "toys/layers"
TOKENS = torch.tensor([[1, 4, 7, 2], [0, 10, 3, 3]])


def layers() -> Layers:
    """The base: the same weights each time, float64."""
    torch.manual_seed(0)
    return Layers().double().eval()


def save_trained(folder: Path, seed: int, *, still: bool = False, **config: Any) -> Path:
    """Make an adapter with PEFT, fill it with random numbers, and have PEFT save it; `still` leaves its delta zero."""
    model = get_peft_model(layers().float(), LoraConfig(**config))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and not still:
                kept = parameter if "magnitude" in name else 0.0  # DoRA's stay near the norms that they start from
                parameter.copy_(kept + 0.5 * torch.randn(parameter.shape, generator=generator))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no configuration of the base was found
        model.save_pretrained(str(folder))
    path = folder / CONFIG_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": BASE}))
    return folder


def trained(folder: Path, seed: int, **config: Any) -> LoadedAdapter:
    """An adapter that PEFT made and saved, loaded with our reader."""
    return load(save_trained(folder, seed, **config))


def opened(folder: Path) -> Any:
    """The base with an adapter in it, as PEFT loads it, in float64; a key that doesn't fit is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # PEFT looks for pattern keys among the modules only, and uses those of parameters all the same.
        warnings.filterwarnings("ignore", message=r"The following rank_pattern keys .*experts")
        warnings.filterwarnings("ignore", message=r"The following alpha_pattern keys .*experts")
        return PeftModel.from_pretrained(layers(), str(folder)).double().eval()


def deltas(folder: Path) -> Dense:
    """What PEFT adds to each of the base's weights and biases {name: delta}: of its own merged model, in float64."""
    before = layers().state_dict()
    after = opened(folder).merge_and_unload(safe_merge=True).state_dict()
    assert before.keys() == after.keys()
    changes = {name: after[name] - before[name] for name in before}
    return {name: change for name, change in changes.items() if change.any()}


def output(folder: Path) -> torch.Tensor:
    """What the base answers with an adapter in it."""
    with torch.no_grad():
        answer: torch.Tensor = opened(folder)(TOKENS)
        return answer


def weighted(folders: dict[str, Path], weights: dict[str, float]) -> Dense:
    """The weighted sum of what PEFT makes of adapters that it saved itself: the reference."""
    total: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        for key, delta in deltas(folders[name]).items():
            total[key] = total.get(key, torch.zeros_like(delta)) + weight * delta
    return total
