"""The whole loop on real adapters, through the real program, judged by the real PEFT."""

import hashlib
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModel

from tests.e2e.program import Program
from tests.factories import EXAMPLES, minilm_folder

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
def test_push_blend_publish_pull_promote_roll_back(program: Program, tmp_path: Path) -> None:
    program("base", "add", MINILM, minilm_folder())
    program("push", EXAMPLES / "minilm-sentiment-r8", "demo/sentiment", "--base", minilm_folder())
    program("push", EXAMPLES / "minilm-wordnet-r8", "demo/wordnet")
    program("blend", "1.0*demo/sentiment + 1.0*demo/wordnet", "--into", "demo/both", "--alias", "production")
    first = program("resolve", "demo/both@production", "--base", MINILM, "--max-rank", 16)
    assert (first["version"], first["seq"], first["rank"]) == (1, 1, 16)
    assert first["base"]["evidence"] == "structural"  # the weaker of its parents'
    assert {parent["name"] for parent in first["parents"]} == {"demo/sentiment", "demo/wordnet"}
    program("push", EXAMPLES / "minilm-sentiment-rank-pattern", "demo/both", "--alias", "production")
    assert program("resolve", "demo/both@production")["version"] == 2
    program("rollback", "demo/both", "production", "--reason", "worse")
    assert program("resolve", "demo/both@production") == first | {"seq": 3}
    folder = tmp_path / "pulled"
    program("pull", "demo/both@production", "--to", folder)
    _holds_what_was_promised(folder, first)
    _is_the_dense_sum(folder, EXAMPLES / "minilm-sentiment-r8", EXAMPLES / "minilm-wordnet-r8")
    assert program("pull", "demo/both@production", "--to", folder)["bytes_moved"] == 0
    assert program("verify", "--deep")["damage"] == []


def _holds_what_was_promised(folder: Path, resolved: dict[str, object]) -> None:
    files = resolved["files"]
    assert isinstance(files, list)
    for file in files:
        assert hashlib.sha256((folder / file["path"]).read_bytes()).hexdigest() == file["sha256"]


def _is_the_dense_sum(blend: Path, *parents: Path) -> None:
    """PEFT's own reading of the blend equals the float64 sum of PEFT's readings of its parents, to 1e-6."""
    deltas = [_deltas(folder) for folder in (blend, *parents)]
    assert len(deltas[0]) == 12
    for name, delta in deltas[0].items():
        dense = sum((parent[name].double() for parent in deltas[1:]), torch.zeros_like(delta, dtype=torch.float64))
        assert (delta.double() - dense).norm() <= 1e-6 * dense.norm()


def _deltas(folder: Path) -> dict[str, torch.Tensor]:
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(minilm_folder(), dtype=torch.float32), str(folder))
    return {
        name: module.get_delta_weight("default").detach()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight") and "default" in module.lora_A
    }
