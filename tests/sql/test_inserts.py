"""Inserts that lose a race say so, on both databases."""

from datetime import UTC, datetime

from registry.domain.rights import Role
from registry.sql.engine import Database

AT = datetime(2026, 11, 22, tzinfo=UTC)


def test_a_key_is_claimed_once(database: Database) -> None:
    for claimed in (True, False):
        with database.writing() as catalog:
            assert catalog.answered.claim("ann", "key", request="0" * 64, at=AT) is claimed


def test_a_role_that_changes_is_the_new_one(database: Database) -> None:
    with database.writing() as catalog:
        catalog.adapters.ensure_namespace("ours", actor="ann", at=AT)
        for role in (Role.READER, Role.OWNER, Role.READER):
            catalog.teams.set_role("ours", "ann", role, actor="ann", at=AT)
            assert [member.role for member in catalog.teams.members("ours")] == [role]
