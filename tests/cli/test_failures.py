"""How runs end: exit codes, what stderr says, and the same as JSON."""

import json
import sqlite3
from pathlib import Path

import pytest

from cli.failures import report
from registry.domain.errors import NotAllowed

CASES = {
    "a reference that doesn't parse": (2, "invalid_reference", ["show", "nonsense"]),
    "an expression that doesn't parse": (2, "invalid_expression", ["blend", "demo/wordnet/2", "--into", "a/b"]),
    "an unknown command": (2, "wrong_usage", ["shwo", "demo/wordnet"]),
    "an unknown option": (2, "wrong_usage", ["show", "demo/wordnet", "--colour"]),
    "a missing argument": (2, "wrong_usage", ["promote", "demo/wordnet@v1"]),
    "a rank that is none": (2, "wrong_usage", ["search", "--rank", "16..x"]),
    "a metric without a bound": (2, "wrong_usage", ["search", "--metric", "accuracy"]),
    "a cursor of nobody": (2, "wrong_usage", ["search", "--cursor", "?"]),
    "no reason for a yank": (2, "wrong_usage", ["yank", "demo/sentiment@v2"]),
    "a yank of whatever is newest": (2, "wrong_usage", ["yank", "demo/sentiment", "--reason", "x"]),
    "a blend to nowhere": (2, "wrong_usage", ["blend", "demo/wordnet"]),
    "a device that is none": (2, "wrong_usage", ["blend", "demo/wordnet", "--into", "a/b", "--device", "tpu"]),
    "an absent adapter": (3, "adapter_not_found", ["show", "demo/nobody"]),
    "an absent version": (3, "version_not_found", ["pull", "demo/wordnet@v9"]),
    "an absent alias": (3, "alias_not_found", ["resolve", "demo/wordnet@production"]),
    "an absent base": (3, "base_not_found", ["base", "show", "nobody/nothing"]),
    "an unregistered base": (3, "base_not_found", ["push", "./wordnet", "demo/x", "--base", "nobody/nothing"]),
    "nothing to go back to": (
        3,
        "no_rollback_target",
        ["rollback", "demo/sentiment", "production", "--to", "demo/sentiment@v3"],
    ),
    "a folder that is nobody's": (4, "target_taken", ["pull", "demo/wordnet", "--to", "./sentiment"]),
    "a rank too high": (4, "rank_too_high", ["resolve", "demo/both", "--max-rank", "8"]),
    "another base": (4, "base_conflict", ["resolve", "demo/wordnet", "--base", "org/model"]),
    "an adapter of another base": (4, "base_mismatch", ["push", "./wordnet", "demo/x", "--base", "org/model"]),
    "a yanked version by alias": (4, "not_active", ["promote", "demo/sentiment@v3", "staging"]),
    "a stale sequence": (5, "stale_sequence", ["promote", "demo/sentiment@v2", "production", "--expect", "1"]),
    "an alias's target": (5, "alias_in_use", ["yank", "demo/sentiment@v1", "--reason", "x"]),
    "a name of another base": (5, "name_taken", ["base", "add", "org/model", "./all-MiniLM-L6-v2"]),
}


def test_a_dora_that_can_not_be_composed_yet_is_refused(stocked, examples):
    stocked("push", str(examples / "minilm-debian-r4-dora-fp16"), "demo/dora")
    assert stocked("blend", "demo/dora", "--into", "demo/x", "--json", code=4).error["error"] == "unsupported_adapter"


@pytest.mark.parametrize(("code", "error", "arguments"), CASES.values(), ids=CASES.keys())
def test_exit_codes_and_json_errors(code, error, arguments, stocked):
    shown = stocked(*arguments, code=code)
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    failed = stocked(*arguments, "--json", code=code)
    assert failed.out == ""
    assert failed.error.keys() == {"error", "message", "detail"}
    assert failed.error["error"] == error
    assert failed.error["message"] in shown.err


def test_a_refusal_says_what_to_do_next(stocked):
    last = stocked("promote", "demo/sentiment@v2", "production", "--expect", "1", code=5).err.splitlines()[-1]
    assert "adapters history demo/sentiment production" in last


def test_wrong_usage_points_to_the_help_of_the_very_command(adapters):
    assert adapters("base", "add", code=2).err.splitlines()[-1] == "`adapters base add --help` explains it"


def test_an_expression_error_points_at_the_column(stocked):
    lines = stocked("blend", "demo/wordnet/2 + demo/b", "--into", "a/b", code=2).err.splitlines()
    assert lines[1].index("/2") == lines[2].index("^")


def test_a_broken_database_is_a_failure_of_ours(stocked, tmp_path):
    (tmp_path / "home" / "registry.db").write_bytes(b"not a database" * 100)
    assert stocked("list", "--json", code=1).error["error"] == "database_failure"


@pytest.mark.embedded
def test_a_newer_schema_is_refused_by_name(stocked, tmp_path):
    with sqlite3.connect(tmp_path / "home" / "registry.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '2999_01_01_later'")
    connection.close()
    failed = stocked("list", "--json", code=1).error
    assert failed["error"] == "schema_mismatch"
    assert "2999_01_01_later" in failed["message"]


@pytest.mark.embedded
def test_a_server_is_not_silently_replaced_by_the_local_registry(adapters, monkeypatch):
    monkeypatch.setenv("ADAPTERS_REGISTRY", "https://user:secret@registry.example")
    assert "secret" not in adapters("list", code=2).err
    monkeypatch.setenv("ADAPTERS_REGISTRY", "http://127.0.0.1:9")
    failed = adapters("list", "--json", code=1).error
    assert failed["error"] == "server_failure"
    assert "http://127.0.0.1:9" in failed["message"]


@pytest.mark.embedded
def test_a_home_that_can_not_be_made_is_one_clear_line(adapters, monkeypatch, desk):
    monkeypatch.setenv("ADAPTERS_HOME", str(desk / "wordnet" / "README.md"))
    assert "README.md" in adapters("list", code=1).err.splitlines()[0]


def test_every_error_class_that_forbids_ends_with_6(capsys):
    assert report(NotAllowed("ann", "write", "demo/x"), as_json=True, debug=False) == 6
    assert json.loads(capsys.readouterr().err)["error"] == "not_allowed"


def test_an_unexpected_error_is_one_line_and_a_way_to_the_traceback(capsys):
    def fail() -> None:
        raise ValueError("the cause")

    with pytest.raises(ValueError) as caught:
        fail()
    assert report(caught.value, as_json=False, debug=False) == 1
    quiet = capsys.readouterr().err
    assert quiet.splitlines()[0] == "error: unexpected ValueError: the cause"
    assert "ADAPTERS_DEBUG=1" in quiet and "Traceback" not in quiet
    report(caught.value, as_json=False, debug=True)
    assert "in fail" in capsys.readouterr().err


def test_the_debug_switch_shows_where_a_refusal_came_from(adapters, monkeypatch):
    monkeypatch.setenv("ADAPTERS_DEBUG", "1")
    assert "Traceback" in adapters("show", "demo/nobody", code=3).err


def test_control_characters_in_a_message_do_not_reach_the_terminal(adapters):
    assert "\x1b" not in adapters("show", "demo/\x1b[2Jx", code=2).err


@pytest.mark.embedded
def test_a_folder_without_the_registry_leaves_no_files_behind_after_wrong_usage(adapters, tmp_path: Path):
    adapters("resolve", "nonsense", code=2)
    assert not (tmp_path / "home").exists()
