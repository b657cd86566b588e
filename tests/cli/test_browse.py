"""list, search, show, diff, history, lineage, resolve, inspect."""

import shlex

import pytest

BASE = "sentence-transformers/all-MiniLM-L6-v2"


def found(run, *arguments: str) -> set[str]:
    versions = run("search", *arguments, "--json").json["versions"]
    return {f"{version['name']}@v{version['version']}" for version in versions}


def test_list_shows_newest_version_rank_base_evidence_and_aliases(stocked):
    header, *rows = stocked("list").out.splitlines()
    assert header.split() == ["adapter", "newest", "rank", "base", "evidence", "aliases"]
    assert [row.split()[0] for row in rows] == ["demo/both", "demo/sentiment", "demo/wordnet"]
    assert rows[1].split()[1:] == ["v3", "yanked", "16", "all-MiniLM-L6-v2", "structural", "production=v1"]


def test_an_empty_registry_says_what_to_do(adapters):
    assert "adapters push" in adapters("list").out
    assert "adapters base add" in adapters("base", "list").out
    assert adapters("search", "--json").json == {"versions": [], "cursor": None}


def test_a_listing_goes_on_with_the_command_that_it_prints(stocked):
    names, line = [], "adapters list demo --limit 1"
    while line:
        done = stocked(*shlex.split(line)[1:])
        names.append(done.out.splitlines()[1].split()[0])
        line = next((row.removeprefix("next: ") for row in done.out.splitlines() if row.startswith("next: ")), "")
    assert names == ["demo/both", "demo/sentiment", "demo/wordnet"]


def test_a_search_goes_on_with_the_command_that_it_prints(stocked):
    seen, line = [], "adapters search --rank 8..16 --limit 2 --status any"
    while line:
        done = stocked(*shlex.split(line)[1:])
        rows = [row.split()[0] for row in done.out.splitlines()[1:] if row.startswith("demo/")]
        seen += rows
        line = next((row.removeprefix("next: ") for row in done.out.splitlines() if row.startswith("next: ")), "")
    assert sorted(seen) == [
        "demo/both@v1", "demo/sentiment@v1", "demo/sentiment@v2", "demo/sentiment@v3", "demo/wordnet@v1"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"demo/both@v1", "demo/sentiment@v1", "demo/sentiment@v2", "demo/wordnet@v1"}),
        (["--rank", "8"], {"demo/sentiment@v1", "demo/wordnet@v1"}),
        (["--rank", "9.."], {"demo/both@v1", "demo/sentiment@v2"}),
        (["--rank", "..8"], {"demo/sentiment@v1", "demo/wordnet@v1"}),
        (["--status", "yanked"], {"demo/sentiment@v3"}),
        (["--metric", "accuracy>=0.84"], {"demo/sentiment@v1"}),
        (["--metric", "accuracy>=0.9"], set()),
        (["--metric", "accuracy>=0.1", "--metric", "loss>=-1"], set()),
        (["--text", "film reviews"], {"demo/sentiment@v1"}),
        (["--target", "query", "--target", "value", "--rank", "16..16", "--team", "demo"],
         {"demo/both@v1", "demo/sentiment@v2"}),
        (["--target", "nowhere"], set()),
        (["--team", "nobody"], set()),
        (["--base", BASE, "--text", "glosses"], {"demo/wordnet@v1"}),
        (["--base", "org/model"], set()),
    ],
)  # fmt: skip
def test_search_finds_what_fits_everything_asked(arguments, expected, stocked):
    assert found(stocked, *arguments) == expected


def test_show_tells_status_base_files_aliases_evaluations_and_origin(stocked):
    shown = stocked("show", "demo/sentiment@production").out
    for part in ("demo/sentiment@v1", "structural", "rank 8, alpha 16", "query value", "production (seq 2)"):
        assert part in shown
    for part in ("4 files, 300 kB", "adapter_model.safetensors", "accuracy=0.8425", "heldout", "used in demo/both@v1"):
        assert part in shown
    assert "made of demo/sentiment@v1 + demo/wordnet@v1" in stocked("show", "demo/both").out


def test_a_withdrawn_version_is_shown_with_its_reason(stocked):
    stocked("revoke", "demo/sentiment@v2", "--reason", "licence withdrawn")
    assert "revoked: licence withdrawn" in stocked("show", "demo/sentiment@v2").out
    assert stocked("pull", "demo/sentiment@v2", "--json", code=4).error["error"] == "gone"


def test_diff_groups_modules_that_differ_alike(stocked):
    shown = stocked("diff", "demo/sentiment@v1", "demo/sentiment@v2", "--no-weights").out
    assert "modules that differ: 12" in shown
    assert shown.count("encoder.layer.*.attention.self.query") == 2
    assert len(stocked("diff", "demo/sentiment@v1", "demo/sentiment@v2", "--json").json["modules"]) == 12


def test_diff_of_a_version_with_itself_is_nothing(stocked):
    assert "do not differ" in stocked("diff", "demo/wordnet", "demo/wordnet@v1").out


def test_history_shows_versions_and_every_move_with_seq_and_reason(stocked):
    shown = stocked("history", "demo/sentiment").out
    assert "yanked" in shown
    moves = [line.split() for line in shown.splitlines() if "promote" in line]
    assert [move[:6] for move in moves] == [
        ["2", "production", "promote", "v2", "→", "v1"],
        ["1", "production", "promote", "—", "→", "v2"],
    ]
    assert "v2 is slower" in shown
    only = stocked("history", "demo/sentiment", "production", "--limit", "1", "--json").json
    assert [move["seq"] for move in only["moves"]] == [2] and "versions" not in only


def test_lineage_goes_down_to_what_was_pushed_and_up_to_what_was_made(stocked):
    stocked("blend", "0.5*demo/both + 0.5*demo/sentiment@v1", "--into", "demo/more")
    down = stocked("lineage", "demo/more").out
    assert "= 0.5*demo/sentiment@v1 + 0.5*demo/both@v1" in down or "= 0.5*demo/both@v1 + 0.5*demo/sentiment@v1" in down
    assert "demo/wordnet@v1" in down and "pushed" in down
    up = stocked("lineage", "demo/wordnet", "--descendants", "--json").json
    assert [relative["name"] for relative in up["relatives"]] == ["demo/both", "demo/more"]
    assert up["complete"] and up["direction"] == "descendants"


def test_resolve_prints_what_the_registry_answers(stocked):
    document = stocked("resolve", "demo/sentiment@production", "--json").json
    assert document["serving_name"] == f"sentiment@sha256-{document['digest'][7:19]}"
    assert (document["alias"], document["seq"], document["rank"], document["status"]) == ("production", 2, 8, "active")
    assert document["base"]["evidence"] == "structural"
    text = stocked("resolve", "demo/sentiment@production", "--max-rank", "8", "--base", BASE).out
    assert document["digest"] in text and document["commit"] in text


def test_a_reference_may_be_a_commit_a_digest_or_a_serving_digest(stocked):
    document = stocked("resolve", "demo/sentiment@v1", "--json").json
    for selector in (document["commit"], document["digest"], document["digest"][:19].replace(":", "-")):
        assert stocked("resolve", f"demo/sentiment@{selector}", "--json").json["version"] == 1


def test_inspect_reads_a_folder_and_a_version_alike(stocked):
    folder = stocked("inspect", "./sentiment-v2", "--json").json
    version = stocked("inspect", "demo/sentiment@v2", "--json").json
    assert folder.pop("folder") == "sentiment-v2" and version.pop("version") == "demo/sentiment@v2"
    for module in version["modules"]:
        assert module.pop("base_tensor")  # known once the version was matched to its base
    for module in folder["modules"]:
        assert module.pop("base_tensor") is None
    assert folder == version
    assert {module["rank"] for module in folder["modules"]} == {4, 8, 16}


@pytest.mark.embedded
def test_inspect_needs_no_registry(adapters, tmp_path):
    assert "rank_pattern" in adapters("inspect", "./sentiment-v2").out
    assert not (tmp_path / "home").exists()


def test_inspect_takes_a_folder_that_looks_like_a_reference_unless_told_otherwise(stocked, desk):
    (desk / "demo").mkdir()
    (desk / "sentiment").rename(desk / "demo" / "wordnet")
    assert "demo/wordnet" in stocked("inspect", "demo/wordnet", "--json").json["folder"]
    assert stocked("inspect", "demo/wordnet@main", "--json").json["version"] == "demo/wordnet@v1"


def test_inspect_refuses_a_folder_without_an_adapter(adapters, desk):
    (desk / "empty").mkdir()
    (desk / "empty" / "README.md").write_text("nothing")
    assert adapters("inspect", "./empty", "--json", code=4).error["error"] == "invalid_adapter"
