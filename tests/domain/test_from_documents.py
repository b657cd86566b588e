"""Documents are records and back again: nothing that is shown gets lost on the way to a client."""

import json
from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from registry.domain import documents
from registry.domain import from_documents as records
from registry.domain.errors import AdaptersError
from registry.domain.records import (
    Adapter,
    Alias,
    AliasMove,
    BaseModel,
    Evaluation,
    Event,
    Evidence,
    FileEntry,
    Lineage,
    Member,
    MoveKind,
    Namespace,
    Parent,
    Provenance,
    Status,
    Token,
    Version,
    VersionBase,
)
from registry.domain.reference import AdapterName
from registry.domain.rights import Role, Scope
from registry.domain.spec import AdapterSummary, ModuleSpec

words = some.text(max_size=12)
optional_words = some.none() | words
whole = some.integers(0, 2**62)
times = some.datetimes(timezones=some.just(UTC))
sha256 = some.text("0123456789abcdef", min_size=64, max_size=64)
commits = some.text("0123456789abcdef", min_size=40, max_size=40)
numbers = some.floats(allow_nan=False, allow_infinity=False)
names = some.builds(AdapterName, some.sampled_from(["a", "team-1"]), some.sampled_from(["b", "x.y_z"]))
word_lists = some.lists(words, max_size=3).map(tuple)
files = some.lists(
    some.builds(FileEntry, some.sampled_from(["a.json", "b/c.safetensors", "ä.md"]), sha256, whole),
    max_size=3,
    unique_by=lambda file: file.path,
).map(tuple)
bases = some.builds(VersionBase, optional_words, some.none() | sha256, some.sampled_from(Evidence))
summaries = some.builds(
    AdapterSummary,
    *(words, words, whole, numbers, some.dictionaries(words, whole, max_size=2), word_lists, word_lists, words, whole),
    base_name=optional_words,
    task_type=optional_words,
)
parents = some.builds(Parent, names, whole, sha256)
provenance = some.builds(
    Provenance,
    *(commits, words, times, optional_words),
    some.none() | some.dictionaries(words, numbers, max_size=2),
    some.lists(parents, max_size=2).map(tuple),
)
versions = some.builds(
    Version,
    *(names, whole, commits, sha256, some.sampled_from(Status), optional_words, summaries, bases, whole, words, words),
    some.dictionaries(words, words, max_size=2),
    times,
    files,
)
adapters = some.builds(
    Adapter,
    *(names, some.none() | commits, some.none() | whole, whole),
    some.dictionaries(words, whole, max_size=2),
    *(times, times),
)

LAWS: dict[str, tuple[Any, Any, Any]] = {
    "version": (versions, lambda v: documents.version_document(v, files=True), records.version),
    "adapter": (
        adapters,
        lambda adapter: documents.adapter_document(adapter, None),
        records.adapter,
    ),
    "listed": (
        some.tuples(adapters, some.none() | versions.map(lambda version: replace(version, files=()))),
        lambda pair: documents.adapter_document(*pair),
        records.listed,
    ),
    "alias": (
        some.builds(Alias, names, words, some.none() | whole, whole, words, times),
        documents.alias_document,
        records.alias,
    ),
    "move": (
        some.builds(
            AliasMove,
            *(names, words, whole, some.sampled_from(MoveKind), some.none() | whole, some.none() | whole, words),
            *(optional_words, times),
        ),
        documents.move_document,
        records.move,
    ),
    "evaluation": (
        some.builds(
            Evaluation,
            *(names, whole, optional_words, some.none() | sha256),
            some.dictionaries(words, numbers, max_size=2),
            *(words, times),
        ),
        documents.evaluation_document,
        records.evaluation,
    ),
    "base": (
        some.builds(
            BaseModel,
            *(sha256, word_lists, words, optional_words, whole, whole, whole),
            *(some.none() | sha256, some.none() | sha256, times),
        ),
        documents.base_document,
        records.base,
    ),
    "lineage": (
        some.builds(
            Lineage,
            *(names, whole, sha256),
            some.lists(provenance, max_size=2).map(tuple),
            some.lists(parents, max_size=2).map(tuple),
        ),
        documents.lineage_document,
        records.lineage,
    ),
    "team": (some.builds(Namespace, words, words, times), documents.team_document, records.team),
    "member": (
        some.builds(Member, words, words, some.sampled_from(Role), times),
        documents.member_document,
        records.member,
    ),
    "token": (
        some.builds(
            Token,
            *(whole, words, words, some.lists(some.sampled_from(Scope)).map(tuple), some.none() | word_lists, times),
            *(some.none() | times, some.none() | times, some.none() | times),
        ),
        documents.token_document,
        records.token,
    ),
    "event": (
        some.builds(
            Event,
            *(whole, words, some.none() | names, some.dictionaries(words, numbers, max_size=2)),
            *(some.none() | times, optional_words),
        ),
        documents.event_document,
        records.event,
    ),
    "module": (
        some.builds(
            ModuleSpec,
            *(words, words, whole, numbers, numbers, whole, whole, words, word_lists),
            some.dictionaries(words, words, max_size=2),
            some.lists(whole, max_size=3).map(tuple),
            whole,
            optional_words,
        ),
        ModuleSpec.to_document,
        records.module,
    ),
}


@pytest.mark.parametrize("kind", LAWS)
@settings(max_examples=25)
@given(data=some.data())
def test_a_record_survives_its_document(kind, data):
    generated, document_of, read = LAWS[kind]
    record = data.draw(generated)
    assert read(json.loads(json.dumps(document_of(record)))) == record


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "a\\b", "", "a\x00b"])
def test_a_servers_file_names_stay_inside_the_folder(path):
    row = {"path": path, "sha256": "0" * 64, "size": 1}
    with pytest.raises(AdaptersError):
        records.version(_version_document() | {"files": [row]})


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "no-slash"},
        {"version": "1"},
        {"version": True},
        {"digest": "sha256:zz"},
        {"commit": "0" * 39},
        {"status": "lost"},
        {"created_at": "2026-01-01T00:00:00"},
        {"targets": "query"},
        {"size": -1},
        {"message": None},
    ],
)
def test_what_is_not_as_it_should_be_is_refused(wrong):
    with pytest.raises((TypeError, ValueError, AdaptersError)):
        records.version(_version_document() | wrong)


def _version_document() -> dict[str, Any]:
    return {
        "name": "a/b",
        "version": 1,
        "commit": "0" * 40,
        "digest": "sha256:" + "0" * 64,
        "status": "active",
        "status_reason": None,
        "base": {"name": None, "fingerprint": None, "evidence": "declared"},
        "format": "peft",
        "peft_type": "LORA",
        "rank": 1,
        "alpha": 1.0,
        "ranks": {},
        "targets": [],
        "variants": [],
        "dtype": "F32",
        "parameters": 1,
        "base_name": None,
        "task_type": None,
        "size": 1,
        "author": "x",
        "message": "",
        "metadata": {},
        "created_at": "2026-01-01T00:00:00+00:00",
    }
