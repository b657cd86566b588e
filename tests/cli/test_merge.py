"""merge, extract, verify-merge and inspect --weights as they are typed, on the real base and real adapters."""

from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

BASE = "./all-MiniLM-L6-v2"


def test_a_merged_model_matches_its_adapter_and_tells_every_files_digest(stocked, desk):
    done = stocked("merge", "0.5*demo/wordnet", "--base", BASE, "--out", "half", "--workers", "1", "--json").json
    assert done["folder"] == "half" and done["resumed"] == 0
    assert done["expression"] == "0.5*demo/wordnet@v1"
    for file in [*done["shards"], *done["files"]]:
        assert sha256((desk / "half" / file["path"]).read_bytes()).hexdigest() == file["sha256"]
    found = stocked("verify-merge", "half", "--base", BASE, "--adapter", "demo/wordnet", "--json", code=4).json
    assert found["verdict"] == "fault"
    # The scaling is 2: half of the delta is the delta without it.
    assert found["faults"] == {"scaling_missing": 12}


def test_a_merged_model_is_registered_where_asked_and_its_name_must_be_free(stocked, desk):
    line = ("merge", "demo/sentiment", "--base", BASE, "--out", "known", "--register")
    error = stocked(*line, "sentence-transformers/all-MiniLM-L6-v2", "--json", code=5).error
    assert error["error"] == "name_taken" and not (desk / "known").exists()
    assert "can't name a base" in stocked(*line, " no", code=2).err
    done = stocked(*line, "demo/known", "--json").json
    shown = stocked("base", "show", "demo/known", "--json").json
    assert {**done["registered"], "published": []} == shown and shown["names"] == ["demo/known"]
    assert shown["fingerprint"] != done["base"]["fingerprint"]


def test_a_merged_model_is_published_with_what_it_was_made_of(stocked, desk):
    line = ("merge", "demo/sentiment", "--base", BASE, "--out", "served", "--publish")
    assert "demo/sentiment holds adapters" in stocked(*line, "demo/sentiment", code=4).err
    assert not (desk / "served").exists()
    done = stocked(*line, "models/sentiment", "--json").json
    shown = stocked("base", "show", "models/sentiment", "--json").json
    assert done["published"] == "models/sentiment@{commit}".format(**shown["published"][0])
    again = stocked("base", "publish", "served", "models/sentiment", "--json").json
    assert (again["created"], again["commit"]) == (False, shown["published"][0]["commit"])
    assert again["base"] == shown["fingerprint"] == again["model"]["fingerprint"]
    refused = stocked("push", "./wordnet", "models/sentiment", "--json", code=4).error
    assert refused["error"] == "other_line"
    refused = stocked("push", "served", "demo/new", code=4)
    assert "adapters base publish" in refused.err


def test_verify_merge_leaves_with_the_code_of_its_verdict(stocked, desk):
    check = ("verify-merge", "tuned", "--base", BASE, "--adapter")
    assert "matches" in stocked(*check, "demo/sentiment").out
    assert "something_else" in stocked(*check, "./wordnet", code=4).out
    dora = Path(__file__).parents[2] / "examples" / "adapters" / "minilm-debian-r4-dora-fp16"
    out = stocked(*check, str(dora), code=None)
    assert out.code in (1, 4) and "not_checked" in out.out


def test_a_planted_fault_is_named_with_its_tensor(stocked, desk):
    broken = desk / "broken"
    broken.mkdir()
    for path in (desk / "tuned").iterdir():
        if path.suffix == ".json":
            (broken / path.name).write_bytes(path.read_bytes())
    tensors = load_file(desk / "tuned" / "model.safetensors")
    name = "encoder.layer.3.attention.self.value.weight"
    before = load_file(Path(BASE) / "model.safetensors")[name]
    tensors[name] = before - (tensors[name] - before)
    save_file(tensors, broken / "model.safetensors")
    found = stocked("verify-merge", "broken", "--base", BASE, "--adapter", "demo/sentiment", "--json", code=4).json
    assert found["faults"] == {"sign_flipped": 1}
    assert [check["tensor"] for check in found["checks"] if check["fault"]] == [name]


def test_an_extracted_adapter_says_what_it_keeps(stocked):
    done = stocked(
        "extract", "--base", BASE, "--tuned", "tuned", "--energy", "0.9", "--into", "demo/out", "--json"
    ).json
    assert done["created"] and done["version"]["base"]["evidence"] == "exact"
    assert all(module["energy_kept"] >= 0.9 for module in done["report"]["modules"])
    assert done["report"]["others"] == []


@pytest.mark.parametrize("options", [(), ("--rank", "2", "--energy", "0.5")])
def test_extract_needs_either_a_rank_or_an_energy(stocked, options):
    line = ("extract", "--base", BASE, "--tuned", "tuned", "--into", "demo/out", *options, "--json")
    assert "--rank or --energy" in stocked(*line, code=2).error["message"]


def test_a_merge_into_another_model_is_refused(stocked, desk):
    error = stocked("merge", "demo/sentiment", "--base", "tuned", "--out", "twice", "--json", code=4).error
    assert error["error"] == "wrong_base"
    assert not (desk / "twice").exists()


def test_inspect_reads_the_weights_of_a_version_where_asked(stocked):
    plain = stocked("inspect", "demo/wordnet", "--json").json
    full = stocked("inspect", "demo/wordnet", "--weights", "--json").json
    weights = full.pop("weights")
    assert full == plain
    assert len(weights["modules"]) == len(plain["modules"]) == 12
    tensors = load_file("wordnet/adapter_model.safetensors")
    name = "base_model.model.encoder.layer.0.attention.self.query.lora_{}.weight"
    values = torch.linalg.svdvals(2.0 * tensors[name.format("B")].double() @ tensors[name.format("A")].double())
    (found,) = [m for m in weights["modules"] if m["module"] == "encoder.layer.0.attention.self.query"]
    assert found["singular"] == pytest.approx(values[:8].tolist(), rel=1e-6)


def test_inspect_reads_the_weights_of_a_single_file_and_of_a_version_made_of_it(stocked, desk):
    file = stocked("inspect", "./style.safetensors", "--weights", "--json").json
    (desk / "style").mkdir()
    (desk / "style.safetensors").rename(desk / "style" / "style.safetensors")
    stocked("push", "./style", "demo/style")
    version = stocked("inspect", "demo/style", "--weights", "--json").json
    assert {module["kind"] for module in file["weights"]["modules"]} == {"loha"}
    assert version["weights"] == file["weights"]
    assert all(module["norm"] > 0 for module in file["weights"]["modules"])
