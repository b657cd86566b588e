"""transformers' Trainer pushes what it trains: every save and the end are commits, and its adapters versions."""

from pathlib import Path

import pytest

from registry.domain.reference import AdapterName, Reference
from tests.factories import minilm_folder
from tests.http.conftest import Server
from tests.hub.clients import Client


@pytest.mark.parametrize("strategy", ["every_save", "end", "checkpoint", "all_checkpoints"])
def test_what_the_trainer_pushes_becomes_versions(
    minilm: Server, newest: Client, repo: str, strategy: str, tmp_path: Path
) -> None:
    left = newest.do("trainer.train", base=minilm_folder(), folder=tmp_path / "run", repo=repo, strategy=strategy)
    assert "training_args.bin" in left
    versions = minilm.registry.versions(AdapterName.parse(repo)).items
    assert len(versions) == (1 if strategy == "end" else 2)
    files = {file.path for file in minilm.registry.commit_at(Reference.parse(repo)).files}
    assert {"adapter_model.safetensors", "adapter_config.json", "README.md", "tokenizer.json"} <= files
    assert "training_args.bin" not in files
