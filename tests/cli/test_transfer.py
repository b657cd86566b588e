"""push and pull."""

import json
from pathlib import Path

from tests.factories import smollm2_file

BASE = "sentence-transformers/all-MiniLM-L6-v2"


def test_a_push_prints_reference_digest_base_with_evidence_and_the_next_step(adapters):
    adapters("base", "add", BASE, "./all-MiniLM-L6-v2")
    done = adapters("push", "./sentiment", "demo/sentiment", "--message", "film reviews")
    first, digest, base, shape, following = done.out.splitlines()
    assert first.split() == ["pushed", "demo/sentiment@v1"]
    assert digest.split()[1].startswith("sha256:") and len(digest.split()[1]) == 71
    assert base == f"base    {BASE} (structural: names, shapes fit)"
    assert "rank 8, alpha 16, F32" in shape
    assert following == "next: adapters promote demo/sentiment@v1 production"
    assert done.err == ""


def test_a_base_that_is_only_a_name_is_a_warning_that_says_how_to_have_it_checked(adapters):
    done = adapters("push", "./gloss", "demo/gloss")
    assert "declared: only a name" in done.out
    assert done.err.startswith("warning: ") and "adapters base add" in done.err
    adapters("base", "add", "HuggingFaceTB/SmolLM2-135M-Instruct", str(smollm2_file()))
    again = adapters("push", "./gloss", "demo/gloss")
    assert "structural" in again.out and again.err == ""
    assert "v1" in again.out


def test_a_base_given_as_a_folder_is_hashed_and_makes_the_evidence_exact(stocked):
    pushed = stocked("push", "./wordnet", "demo/exact", "--base", "./all-MiniLM-L6-v2", "--json").json
    assert pushed["version"]["base"]["evidence"] == "exact"
    assert pushed["version"]["base"]["name"] == BASE


def test_a_base_folder_that_is_not_registered_says_how_to_register_it(adapters):
    failed = adapters("push", "./wordnet", "demo/x", "--base", "./all-MiniLM-L6-v2", code=3)
    assert "sha256:" in failed.err and "adapters base add" in failed.err
    assert adapters("list", "--json").json["adapters"] == []


def test_a_base_may_be_named_by_its_fingerprint(stocked):
    fingerprint = stocked("base", "show", BASE, "--json").json["fingerprint"]
    pushed = stocked("push", "./wordnet", "demo/x", "--base", f"sha256:{fingerprint}", "--json").json
    assert pushed["version"]["base"]["evidence"] == "structural"


def test_a_refused_adapter_leaves_nothing_in_the_store(adapters, desk: Path, tmp_path: Path):
    config = desk / "sentiment" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"r": 4}))
    failed = adapters("push", "./sentiment", "demo/x", "--json", code=4)
    assert failed.error["error"] == "rank_mismatch"
    assert not [path for path in (tmp_path / "home" / "blobs").rglob("*") if path.is_file()]


def test_content_that_is_there_already_gives_the_version_that_it_has(stocked):
    pushed = stocked("push", "./sentiment", "demo/sentiment", "--json").json
    assert (pushed["created"], pushed["version"]["version"]) == (False, 1)
    assert "this content was there already" in stocked("push", "./sentiment", "demo/sentiment").out


def test_aliases_and_metadata_of_a_push_are_kept(stocked):
    options = ["--alias", "staging", "--alias", "canary", "--metadata", "run=17", "--metadata", "note=a=b"]
    pushed = stocked("push", "./genre", "demo/genre", *options, "--json").json
    assert [move["alias"] for move in pushed["moves"]] == ["staging", "canary"]
    shown = stocked("show", "demo/genre@canary", "--json").json
    assert shown["metadata"] == {"run": "17", "note": "a=b"}
    assert shown["aliases"] == {"canary": 1, "staging": 1}


def test_a_folder_without_an_adapter_is_a_commit_without_a_version(adapters, desk: Path):
    (desk / "notes").mkdir()
    (desk / "notes" / "README.md").write_text("soon")
    pushed = adapters("push", "./notes", "demo/soon", "--json").json
    assert pushed["version"] is None and len(pushed["commit"]) == 40
    assert "holds no adapter yet" in adapters("push", "./notes", "demo/soon").out


def test_by_products_of_training_are_left_out_and_named(stocked, desk: Path):
    (desk / "wordnet" / "optimizer.pt").write_bytes(b"\x80\x04")
    done = stocked("push", "./wordnet", "demo/trained")
    assert "left out, as nobody serves them: optimizer.pt" in done.out
    assert "optimizer.pt" not in stocked("show", "demo/trained").out


def test_a_pull_gives_the_very_files_and_moves_nothing_the_second_time(stocked, desk: Path):
    first = stocked("pull", "demo/sentiment@v1", "--to", "served", "--json").json
    size = sum(path.stat().st_size for path in (desk / "sentiment").iterdir())
    assert (first["files"], first["bytes_moved"]) == (4, size)
    for path in (desk / "sentiment").iterdir():
        assert (desk / "served" / path.name).read_bytes() == path.read_bytes()
    again = stocked("pull", "demo/sentiment@v1", "--to", "served")
    assert "0 bytes moved" in again.out
    assert 'next: PeftModel.from_pretrained(base, "served")' in again.out


def test_a_pull_goes_to_a_folder_of_the_adapters_name(stocked, desk: Path):
    stocked("pull", "demo/both")
    assert (desk / "both" / "adapter_model.safetensors").is_file()


def test_a_folder_of_ours_is_brought_to_another_version(stocked, desk: Path):
    stocked("pull", "demo/sentiment@v1", "--to", "served")
    stocked("pull", "demo/sentiment@v2", "--to", "served")
    expected = (desk / "sentiment-v2" / "adapter_model.safetensors").read_bytes()
    assert (desk / "served" / "adapter_model.safetensors").read_bytes() == expected


def test_a_pull_refuses_bytes_that_changed_at_rest(stocked, tmp_path: Path, desk: Path):
    files = stocked("show", "demo/wordnet", "--json").json["files"]
    weights = next(file["sha256"] for file in files if file["path"].endswith(".safetensors"))
    blob = tmp_path / "home" / "blobs" / "blobs" / weights[:2] / weights
    blob.chmod(0o600)
    blob.write_bytes(bytes(blob.stat().st_size))
    assert stocked("pull", "demo/wordnet", "--to", "served", "--json", code=4).error["error"] == "digest_mismatch"
    assert not (desk / "served").exists()
    assert not list(desk.glob(".served*"))


def test_verify_finds_the_damage_and_names_what_it_hits(stocked, tmp_path: Path):
    files = stocked("show", "demo/sentiment@v1", "--json").json["files"]
    weights = next(file["sha256"] for file in files if file["path"].endswith(".safetensors"))
    blob = tmp_path / "home" / "blobs" / "blobs" / weights[:2] / weights
    blob.chmod(0o600)
    blob.write_bytes(bytes(blob.stat().st_size))
    assert "all is well" in stocked("verify").out
    found = stocked("verify", "--deep", "--json", code=1)
    (damage,) = found.json["damage"]
    assert damage["versions"] == ["demo/sentiment@v1"]
    assert damage["aliases"] == ["demo/sentiment@production"]
    assert found.error["error"] == "damage_found"
    blob.unlink()
    assert "missing" in stocked("verify", "demo/sentiment@v1", code=1).out
    stocked("push", "./sentiment", "demo/sentiment")
    assert "all is well" in stocked("verify", "--deep").out
