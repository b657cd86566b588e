"""What a blob is kept for: the one place that says who refers to blobs.

Whatever has a digest of a blob in the catalog is one of three: a root, which keeps it; a right, which goes with it; or
a memory, which is forgotten with it (`registry.sql.collection` forgets). A test holds every column that points at
blobs to be named here.

A file of a commit is a root while its team has the blob, unless the commit's version was purged; a commit without a
version is one while its adapter stands. The results of a version's evaluation are roots as long as it isn't purged.
"""

from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select

from registry.domain.records import Status
from registry.sql.tables.blobs import blob_possessions, blobs
from registry.sql.tables.commits import commit_files, commits
from registry.sql.tables.evaluations import evaluations
from registry.sql.tables.names import adapters
from registry.sql.tables.versions import versions

ROOTS = ("commit_files.sha256", "evaluations.examples_sha256")
RIGHTS = ("blob_possessions.sha256",)
MEMORIES = ("xorb_spans.sha256",)


def is_referenced() -> ColumnElement[bool]:
    """The condition that something refers to a row of `blobs`."""
    return or_(exists(_in_commits().where(_is_possessed())), exists(_in_evaluations()))


def held_beside(namespace_id: Any, adapter_id: Any) -> ColumnElement[bool]:
    """The condition that a team holds a row of `blob_possessions`, whatever an adapter's commits without versions have.

    They may have the very files of a version that is to be purged, on their way there.
    """
    elsewhere = or_(commits.c.adapter_id != adapter_id, commits.c.base_fingerprint.is_not(None))
    held = (
        select(commit_files.c.sha256)
        .join(commits, commits.c.id == commit_files.c.commit_id)
        .join(adapters, adapters.c.id == commits.c.adapter_id)
        .where(commit_files.c.sha256 == blob_possessions.c.sha256, adapters.c.namespace_id == namespace_id)
        .where(or_(_is_of_a_version(), and_(_is_of_a_standing_line(), elsewhere)))
    )
    return exists(held)


def _in_commits() -> Any:
    return (
        select(commit_files.c.sha256)
        .join(commits, commits.c.id == commit_files.c.commit_id)
        .join(adapters, adapters.c.id == commits.c.adapter_id)
        .where(commit_files.c.sha256 == blobs.c.sha256)
        .where(or_(_is_of_a_version(), _is_of_a_standing_line()))
        .correlate(blobs)
    )


def _is_of_a_version() -> ColumnElement[bool]:
    """A commit of a version that isn't purged."""
    purged = exists().where(
        versions.c.adapter_id == commits.c.adapter_id,
        versions.c.number == commits.c.number,
        versions.c.status == Status.PURGED.value,
    )
    return and_(commits.c.number.is_not(None), ~purged)


def _is_of_a_standing_line() -> ColumnElement[bool]:
    """A commit without a version, of an adapter that stands, from after its last deletion."""
    earlier = commits.alias("earlier")
    root = (
        select(func.max(earlier.c.id))
        .where(earlier.c.adapter_id == commits.c.adapter_id, earlier.c.parent.is_(None))
        .correlate(commits)
        .scalar_subquery()
    )
    return and_(commits.c.number.is_(None), adapters.c.deleted_at.is_(None), commits.c.id >= func.coalesce(root, 0))


def _is_possessed() -> ColumnElement[bool]:
    return exists().where(
        blob_possessions.c.namespace_id == adapters.c.namespace_id,
        blob_possessions.c.sha256 == commit_files.c.sha256,
    )


def _in_evaluations() -> Any:
    return (
        select(evaluations.c.id)
        .join(versions, versions.c.id == evaluations.c.version_id)
        .where(evaluations.c.examples_sha256 == blobs.c.sha256, versions.c.status != Status.PURGED.value)
        .correlate(blobs)
    )
