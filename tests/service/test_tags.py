"""Tags: a commit's name, once for each adapter, gone with it."""

from pathlib import Path

import pytest

from registry.domain.errors import (
    AdapterNotFound,
    InvalidReference,
    NameTaken,
    NotAllowed,
    TagNotFound,
    VersionNotFound,
    WrongUsage,
)
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.service import Registry
from tests.service.jobs import member, push

OURS = AdapterName("ours", "a")


def test_a_tag_names_a_commit_until_it_is_deleted(ours: Registry, tmp_path: Path) -> None:
    commit = ours.commit_at(Reference(OURS)).id
    made = ours.create_tag(OURS, "Release-1", commit, message="as shipped")
    assert ours.tag(OURS, "release-1") == made == ours.tags(OURS)[0]
    assert (made.commit, made.message, made.actor) == (commit, "as shipped", "local")
    push(ours, tmp_path / "next", "ours/a", 9)
    assert ours.tag(OURS, "release-1").commit == commit
    with pytest.raises(NameTaken):
        ours.create_tag(OURS, "RELEASE-1", commit)
    ours.create_tag(AdapterName("ours", "b"), "Release-1", ours.commit_at(Reference.parse("ours/b")).id)
    assert ours.delete_tag(OURS, "RELEASE-1") == made
    with pytest.raises(TagNotFound):
        ours.tag(OURS, "Release-1")
    assert ours.tags(AdapterName("ours", "b"))


@pytest.mark.parametrize("backend", ["sqlite"], scope="session", indirect=True)
def test_what_can_not_be_a_tag_is_refused(ours: Registry) -> None:
    commit = ours.commit_at(Reference(OURS)).id
    for reserved in ("main", "v7", "latest", "sha256-0", "0" * 40, "a/b", "-a", ""):
        with pytest.raises(InvalidReference):
            ours.create_tag(OURS, reserved, commit)
    ours.create_tag(OURS, "1.0", commit)
    ours.promote(Reference(OURS), "production")
    with pytest.raises(NameTaken, match="alias"):
        ours.create_tag(OURS, "Production", commit)
    with pytest.raises(WrongUsage):
        ours.create_tag(OURS, "a", commit, message="\x1b[31m")
    with pytest.raises(VersionNotFound):
        ours.create_tag(OURS, "a", ours.commit_at(Reference.parse("ours/b")).id)


@pytest.mark.parametrize("backend", ["sqlite"], scope="session", indirect=True)
def test_tags_go_with_their_adapter(ours: Registry, tmp_path: Path) -> None:
    ours.create_tag(OURS, "a", ours.commit_at(Reference(OURS)).id)
    ours.delete_adapter(OURS, reason="wrong corpus")
    assert ours.tags(OURS) == []
    push(ours, tmp_path / "again", "ours/a", 9)
    assert ours.tags(OURS) == []


@pytest.mark.parametrize("backend", ["sqlite"], scope="session", indirect=True)
def test_writers_tag_readers_look_and_others_see_nothing(ours: Registry) -> None:
    commit = ours.commit_at(Reference(OURS)).id
    member(ours, "walt", ours=Role.WRITER).create_tag(OURS, "a", commit)
    reader, stranger = member(ours, "rita", ours=Role.READER), member(ours, "eve", theirs=Role.OWNER)
    assert reader.tag(OURS, "a").commit == commit
    for attempt in (lambda who: who.create_tag(OURS, "b", commit), lambda who: who.delete_tag(OURS, "a")):
        with pytest.raises(NotAllowed):
            attempt(reader)
        with pytest.raises(AdapterNotFound):
            attempt(stranger)
    with pytest.raises(AdapterNotFound):
        stranger.tags(OURS)
    assert [event.kind for event in ours.audit(limit=1000)].count("tag.created") == 1
