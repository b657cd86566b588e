from pathlib import Path

import pytest

from registry.domain.errors import (
    BaseConflict,
    BaseMismatch,
    BaseNotFound,
    BlobNotFound,
    Gone,
    InvalidFile,
    InvalidReference,
    NameTaken,
    StaleCommit,
    WrongUsage,
)
from registry.domain.records import Evidence, FileEntry, Status
from registry.domain.reference import AdapterName, Reference
from registry.service import Registry
from registry.service.bases import BaseClaim
from registry.service.publishing import Publication, Submission
from tests.factories import TOY, toy_base, write_adapter

NAME = AdapterName("team", "support")


def push(registry: Registry, folder: Path, name: AdapterName = NAME, **fields: object) -> Publication:
    return registry.push_folder(folder, Submission(name, (), **fields))  # type: ignore[arg-type]


def version_number(publication: Publication) -> int:
    assert publication.version is not None
    return publication.version.number


def test_a_new_content_is_the_next_version(registry: Registry, tmp_path: Path) -> None:
    numbers = [version_number(push(registry, write_adapter(tmp_path / str(seed), seed=seed))) for seed in range(3)]
    assert numbers == [1, 2, 3]


def test_the_same_content_again_is_the_version_that_exists(registry: Registry, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    first, again = push(registry, folder), push(registry, folder)
    assert first.created and not again.created
    assert version_number(again) == 1
    assert again.commit == first.commit
    assert first.version is not None
    assert len(registry.lineage(first.version).provenance) == 2


def test_a_changed_readme_is_a_commit_but_no_version(registry: Registry, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    first = push(registry, folder)
    (folder / "README.md").write_text("# better words\n")
    again = push(registry, folder)
    assert not again.created and version_number(again) == 1
    assert again.commit != first.commit


def test_going_back_to_an_old_content_is_a_commit_of_its_own(registry: Registry, tmp_path: Path) -> None:
    a, b = write_adapter(tmp_path / "a", seed=1), write_adapter(tmp_path / "b", seed=2)
    commits = [push(registry, folder).commit for folder in (a, b, a)]
    assert len(set(commits)) == 3
    assert registry.find_version(Reference(NAME)).number == 1


def test_a_commit_without_an_adapter_yet_makes_no_version(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "README.md").write_text("soon\n")
    publication = push(registry, tmp_path / "card")
    assert publication.version is None
    assert version_number(push(registry, write_adapter(tmp_path / "a"))) == 1


def test_a_file_that_the_team_never_brought_is_refused(registry: Registry, tmp_path: Path) -> None:
    push(registry, write_adapter(tmp_path / "a"))
    files = registry.find_version(Reference(NAME)).files
    with pytest.raises(BlobNotFound):
        registry.publish(Submission(AdapterName("other", "thief"), files))
    with pytest.raises(BlobNotFound):
        registry.publish(Submission(NAME, (FileEntry("x", "0" * 64, 1),)))


def test_a_refused_adapter_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "wide", width=32)
    with pytest.raises(BaseMismatch) as caught:
        push(registry, folder)
    assert "q_proj" in caught.value.tensor
    assert registry.adapters().items == ()
    assert list(registry.blobs.list()) == []


def test_an_adapter_for_another_model_altogether_is_refused_by_tensor(registry: Registry, tmp_path: Path) -> None:
    from tests.factories import EXAMPLES

    with pytest.raises(BaseMismatch) as caught:
        push(registry, EXAMPLES / "minilm-sentiment-r8", base=BaseClaim(TOY))
    assert "query" in caught.value.tensor


def test_evidence_is_what_was_shown_and_grows_with_a_later_push(registry: Registry, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", base_model_name_or_path="somebody/unknown")
    declared = push(registry, folder).version
    assert declared is not None
    assert (declared.base.evidence, declared.base.fingerprint) == (Evidence.DECLARED, None)
    assert registry.modules(declared)[0].base_tensor is None
    exact = push(registry, folder, base=BaseClaim(f"sha256:{toy_base().fingerprint}", hashed=True)).version
    assert exact is not None
    assert (exact.number, exact.base.evidence) == (1, Evidence.EXACT)
    assert registry.find_version(Reference(NAME)).base.evidence is Evidence.EXACT
    assert registry.modules(exact)[0].base_tensor is not None
    weaker = push(registry, folder).version
    assert weaker is not None and weaker.base.evidence is Evidence.EXACT


def test_a_registered_base_named_by_the_configuration_is_structural(registry: Registry, tmp_path: Path) -> None:
    version = push(registry, write_adapter(tmp_path / "a")).version
    assert version is not None
    assert version.base.evidence is Evidence.STRUCTURAL
    assert version.base.fingerprint == toy_base().fingerprint


def test_the_same_content_for_another_base_is_a_conflict(registry: Registry, tmp_path: Path) -> None:
    registry.add_base("toys/toy-2", toy_base("other weights"))
    push(registry, write_adapter(tmp_path / "a"))
    with pytest.raises(BaseConflict):
        push(registry, tmp_path / "a", base=BaseClaim("toys/toy-2"))


def test_a_claimed_base_must_be_registered(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(BaseNotFound):
        push(registry, write_adapter(tmp_path / "a"), base=BaseClaim("nobody/nothing"))


def test_names_are_unique_without_case(registry: Registry, tmp_path: Path) -> None:
    push(registry, write_adapter(tmp_path / "a"))
    with pytest.raises(NameTaken):
        push(registry, write_adapter(tmp_path / "b", seed=2), AdapterName("team", "Support"))
    assert registry.find_version(Reference.parse("TEAM/SUPPORT")).adapter == NAME


def test_a_push_that_saw_an_older_head_is_a_conflict(registry: Registry, tmp_path: Path) -> None:
    first = push(registry, write_adapter(tmp_path / "a", seed=1), expected_head="")
    push(registry, write_adapter(tmp_path / "b", seed=2), expected_head=first.commit)
    with pytest.raises(StaleCommit):
        push(registry, write_adapter(tmp_path / "c", seed=3), expected_head=first.commit)


def test_withdrawn_content_does_not_come_back_by_a_push(registry: Registry, tmp_path: Path) -> None:
    push(registry, write_adapter(tmp_path / "a"))
    registry.set_status(Reference.parse("team/support@v1"), Status.REVOKED, reason="leaked data")
    with pytest.raises(Gone):
        push(registry, tmp_path / "a")


def test_aliases_move_with_the_push_or_not_at_all(registry: Registry, tmp_path: Path) -> None:
    publication = push(registry, write_adapter(tmp_path / "a"), aliases=("staging", "production"))
    assert [(move.alias, move.after, move.seq) for move in publication.moves] == [
        ("staging", 1, 1),
        ("production", 1, 1),
    ]
    with pytest.raises(InvalidReference):
        push(registry, write_adapter(tmp_path / "b", seed=2), aliases=("staging", "v7"))
    assert registry.adapter(NAME).versions == 1


def test_two_files_of_one_name_are_refused(registry: Registry, tmp_path: Path) -> None:
    push(registry, write_adapter(tmp_path / "a"))
    file = registry.find_version(Reference(NAME)).files[0]
    with pytest.raises(InvalidFile):
        registry.publish(Submission(NAME, (file, file)))


@pytest.mark.parametrize("text", ["\x00", "\x1b[2J", "\ud800", "\u202egnp.exe", "x" * 10_001])
def test_text_that_fools_a_database_or_a_terminal_is_refused(registry: Registry, tmp_path: Path, text: str) -> None:
    folder = write_adapter(tmp_path / "a")
    with pytest.raises(WrongUsage, match="message"):
        push(registry, folder, message=text)
    with pytest.raises(WrongUsage, match="metadata"):
        push(registry, folder, metadata={"note": text})
    push(registry, folder, message="Grüße\n\t— 你好")
    with pytest.raises(WrongUsage, match="reason"):
        registry.promote(Reference(NAME), "production", reason=text)
