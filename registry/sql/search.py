"""Search: versions by base, rank, targets, words, metrics and status, newest first."""

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.engine import Connection

from registry.domain.records import Page, SearchQuery, Version
from registry.sql.rows import version_record, version_rows
from registry.sql.tables.bases import base_names
from registry.sql.tables.evaluations import evaluation_metrics
from registry.sql.tables.names import adapters
from registry.sql.tables.version_parts import version_targets, version_words
from registry.sql.tables.versions import versions
from registry.sql.versions import number_of
from registry.sql.words import words_of

_DIGEST = "sha256:"


class Search:
    """The one query that looks across adapters."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def versions(self, query: SearchQuery) -> Page[Version]:
        """A page of the versions that fit everything asked, newest first, without files.

        `base` is a label or `sha256:` and leading digits; `text` is words, each the beginning of a word of the name,
        message or metadata; a metric's newest value counts. Raises WrongUsage for a foreign cursor.
        """
        statement = version_rows().where(*self._conditions(query)).order_by(versions.c.id.desc())
        if query.cursor is not None:
            statement = statement.where(versions.c.id < number_of(query.cursor))
        rows = self._connection.execute(statement.limit(query.limit + 1)).mappings().all()
        page = rows[: query.limit]
        following = str(page[-1]["id"]) if len(rows) > query.limit else None
        return Page(tuple(version_record(row) for row in page), following)

    def _conditions(self, query: SearchQuery) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if query.status is not None:
            found.append(versions.c.status == query.status.value)
        if query.team is not None:
            key = query.team.lower()  # "0" is the character after "/"
            found += [adapters.c.name_key >= f"{key}/", adapters.c.name_key < f"{key}0"]
        if query.rank_min is not None:
            found.append(versions.c.rank >= query.rank_min)
        if query.rank_max is not None:
            found.append(versions.c.rank <= query.rank_max)
        if query.base is not None:
            found.append(self._base(query.base))
        found += [_has_target(target) for target in query.targets]
        found += [_has_word(word) for word in words_of([query.text or ""])]
        found += [_has_metric(name, least) for name, least in query.metrics]
        return found

    def _base(self, base: str) -> ColumnElement[bool]:
        if base.lower().startswith(_DIGEST):
            digits = base[len(_DIGEST) :].lower()
            return (versions.c.base_fingerprint >= digits) & (versions.c.base_fingerprint < f"{digits}g")
        labelled = select(base_names.c.fingerprint).where(base_names.c.name_key == base.lower())
        fingerprint = self._connection.scalar(labelled)
        return versions.c.base_key.in_([key for key in (fingerprint, base.lower()) if key])


def _has_target(target: str) -> ColumnElement[bool]:
    return exists().where(version_targets.c.version_id == versions.c.id, version_targets.c.target == target)


def _has_word(start: str) -> ColumnElement[bool]:
    above = start + "\U0010ffff"
    return exists().where(
        version_words.c.version_id == versions.c.id, version_words.c.word >= start, version_words.c.word < above
    )


def _has_metric(name: str, least: float) -> ColumnElement[bool]:
    return exists().where(
        evaluation_metrics.c.version_id == versions.c.id,
        evaluation_metrics.c.name == name,
        evaluation_metrics.c.newest,
        evaluation_metrics.c.value >= least,
    )
