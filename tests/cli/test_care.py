"""Aliases, statuses, evaluations, bases and the program itself."""

import pytest

BASE = "sentence-transformers/all-MiniLM-L6-v2"


def alias_of(run, alias: str = "production") -> int:
    return run("resolve", f"demo/sentiment@{alias}", "--json").json["version"]


def test_promote_and_rollback_move_an_alias_there_and_back(stocked):
    assert alias_of(stocked) == 1
    moved = stocked("promote", "demo/sentiment@v2", "production", "--expect", "2", "--reason", "better")
    assert moved.out.splitlines()[0] == "demo/sentiment@production: v1 → v2 (seq 3)"
    assert alias_of(stocked) == 2
    stocked("rollback", "demo/sentiment", "production", "--expect", "3")
    assert alias_of(stocked) == 1
    stocked("rollback", "demo/sentiment", "production")
    assert alias_of(stocked) == 2  # two rollbacks go two steps back


def test_of_two_who_saw_the_same_state_the_second_is_refused(stocked):
    stocked("promote", "demo/sentiment@v2", "production", "--expect", "2")
    failed = stocked("rollback", "demo/sentiment", "production", "--expect", "2", "--json", code=5).error
    assert failed["detail"] == {"name": "demo/sentiment", "alias": "production", "expected": 2, "found": 3}


def test_expect_0_creates_and_never_moves(stocked):
    stocked("promote", "demo/sentiment@v1", "canary", "--expect", "0")
    stocked("promote", "demo/sentiment@v2", "canary", "--expect", "0", code=5)
    assert alias_of(stocked, "canary") == 1


def test_rollback_to_names_an_earlier_target(stocked):
    stocked("promote", "demo/sentiment@v2", "production")
    stocked("rollback", "demo/sentiment", "production", "--to", "demo/sentiment@v2", "--reason", "as agreed")
    assert alias_of(stocked) == 2


def test_an_alias_crosses_bases_only_when_told_to(adapters):
    adapters("base", "add", BASE, "./all-MiniLM-L6-v2")
    adapters("push", "./wordnet", "demo/mixed", "--alias", "live")
    adapters("push", "./gloss", "demo/mixed")
    adapters("promote", "demo/mixed@v2", "live", code=4)
    adapters("promote", "demo/mixed@v2", "live", "--across-bases")


@pytest.mark.parametrize("alias", ["latest", "v7", "main", "-x", "a b"])
def test_a_reserved_or_malformed_alias_is_wrong_usage(alias, stocked):
    stocked("promote", "demo/sentiment@v1", "--", alias, code=2)


def test_a_yanked_version_is_found_by_exact_pin_only_and_may_come_back(stocked):
    stocked("yank", "demo/wordnet@v1", "--reason", "leaked data")
    stocked("resolve", "demo/wordnet", code=3)
    assert stocked("resolve", "demo/wordnet@v1", "--json").json["status"] == "yanked"
    stocked("release", "demo/wordnet@v1", "--reason", "cleared")
    assert stocked("resolve", "demo/wordnet", "--json").json["status"] == "active"


def test_force_yanks_what_an_alias_points_at(stocked):
    stocked("yank", "demo/sentiment@v1", "--reason", "leaked data", "--force")
    assert stocked("resolve", "demo/sentiment@production", "--json", code=4).error["error"] == "not_active"
    stocked("rollback", "demo/sentiment", "production")
    assert alias_of(stocked) == 2


def test_a_revoked_version_does_not_come_back(stocked):
    stocked("revoke", "demo/sentiment@v2", "--reason", "licence")
    stocked("release", "demo/sentiment@v2", "--reason", "please", code=4)


def test_evaluations_are_listed_newest_first_and_searchable(stocked):
    stocked("eval", "add", "demo/sentiment@v1", "accuracy=0.9", "loss=-0.5", "--dataset", "other")
    listed = stocked("eval", "list", "demo/sentiment@v1", "--json").json["evaluations"]
    assert [(e["dataset"], e["metrics"]) for e in listed] == [
        ("other", {"accuracy": 0.9, "loss": -0.5}),
        ("heldout", {"accuracy": 0.8425}),
    ]
    assert "accuracy=0.9 loss=-0.5" in stocked("eval", "list", "demo/sentiment@v1").out


@pytest.mark.parametrize("metric", ["accuracy", "accuracy=", "accuracy=high", "accuracy=nan", "=1", "a=1 b=2"])
def test_a_metric_is_a_name_and_a_finite_number(metric, stocked):
    stocked("eval", "add", "demo/sentiment@v1", metric, code=2)


def test_a_metric_given_twice_is_refused(stocked):
    stocked("eval", "add", "demo/sentiment@v1", "a=1", "a=2", code=2)


def test_a_base_is_one_whatever_it_is_called(stocked):
    first = stocked("base", "show", BASE, "--json").json
    again = stocked("base", "add", "mirror/minilm", "./all-MiniLM-L6-v2/model.safetensors", "--json").json
    assert again["fingerprint"] == first["fingerprint"]
    assert set(again["names"]) == {BASE, "mirror/minilm"}


def test_versions_stand_side_by_side_with_what_gates_say(stocked, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    pinned = ("--dataset", "june", "--dataset-sha256", "6f" * 32)
    for number in (1, 2):
        stocked("eval", "add", f"demo/sentiment@v{number}", *pinned, "--examples", f"v{number}.ndjson")
        stocked("eval", "add", f"demo/sentiment@v{number}", f"loss=0.{number}")
    stocked("gate", "set", "demo/sentiment", "stable", "--require", "exact>=0.85", "--require", "loss<=1")
    line = ("compare", "demo/sentiment@v1", "demo/sentiment@v2")
    document = stocked(*line, "--json").json
    shown = stocked(*line).out
    for text in (
        "0.8  ",
        "0.875 (+0.075 [+0.00172, +0.147], n=200)",
        "0.2 (+0.1, unpaired)",
        "exact>=0.85 is required",
    ):
        assert text in shown
    assert [version["gates"][0]["passes"] for version in document["versions"]] == [False, True]
    found = {row["metric"]: row["differences"][1] for row in document["rows"] if row["differences"][1]}
    assert {metric: of["method"] for metric, of in found.items()} == {"exact": "mcnemar", "loss": "unpaired"}
    assert "nothing of that" in stocked(*line, "--metric", "f1").out
    stocked("compare", "demo/sentiment@v1", code=2)
    stocked("eval", "add", "demo/sentiment@v1", "--examples", "v1.ndjson", code=2)
    stocked("eval", "add", "demo/sentiment@v1", *pinned, "--examples", "sentiment/adapter_model.safetensors", code=2)


def test_bases_are_listed_and_linked(stocked):
    stocked("base", "link", "org/model-Q4", "--quantised-of", "org/model", "--succeeds", BASE)
    shown = stocked("base", "show", "org/model-Q4", "--json").json
    assert shown["quantised_of"] == stocked("base", "show", "org/model", "--json").json["fingerprint"]
    assert "copy of" in stocked("base", "show", "org/model-Q4").out
    assert len(stocked("base", "list", "--json").json["bases"]) == 3
    stocked("base", "link", "org/model", code=2)
    stocked("base", "link", "org/model", "--succeeds", "org/model", code=2)


def test_a_pickled_base_is_refused(adapters, desk):
    (desk / "old").mkdir()
    (desk / "old" / "pytorch_model.bin").write_bytes(b"\x80\x04")
    adapters("base", "add", "org/old", "./old", code=4)


@pytest.mark.embedded
def test_migrate_creates_the_schema_once(adapters):
    first = adapters("migrate", "--json").json
    assert first["before"] is None and first["after"]
    assert "already" in adapters("migrate").out


@pytest.mark.embedded
def test_a_postgresql_registry_waits_for_migrate(adapters, postgres, monkeypatch):
    url = postgres.create(empty=True)
    monkeypatch.setenv("ADAPTERS_DATABASE_URL", url)
    assert adapters("list", "--json", code=1).error["error"] == "schema_mismatch"
    adapters("migrate")
    adapters("push", "./wordnet", "demo/wordnet", "--alias", "live")
    assert adapters("resolve", "demo/wordnet@live", "--json").json["version"] == 1
    postgres.drop(url)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell, adapters):
    script = adapters("completion", shell).out
    assert "_ADAPTERS_COMPLETE" in script and "adapters" in script
    assert adapters("completion", shell, "--json").json["script"].strip() == script.strip()


def test_the_version_is_that_of_the_distribution(adapters):
    assert adapters("version").out == f"adapters {adapters('version', '--json').json['version']}\n"
