"""Search: versions by base, rank, targets, words, metrics and status, newest first.

A page is found in one of two ways, whatever the databases' statistics say. If some condition fits few versions, their
ids are read from its index and the rest is checked on them alone. If every condition is common, versions are walked
from the newest, and a page fills soon. Conditions that are all common and exclude each other cost a whole walk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, select
from sqlalchemy.engine import Connection

from registry.domain.records import Page, SearchQuery, Version
from registry.domain.rights import Readable
from registry.sql.readable import namespaces_of
from registry.sql.rows import is_shown, version_record, version_rows
from registry.sql.tables.bases import base_names
from registry.sql.tables.evaluations import version_metrics
from registry.sql.tables.names import adapters
from registry.sql.tables.version_parts import version_targets, version_words
from registry.sql.tables.versions import versions
from registry.sql.versions import number_of
from registry.sql.words import words_of

FEW = 1000  # ids that are cheaper to fetch than to walk for
_LARGEST = 2**31 - 1  # of an INTEGER column
_DIGEST = "sha256:"
_AFTER_ALL = "\U0010ffff"  # the greatest character: what begins with a word is below the word and this


@dataclass(frozen=True, slots=True)
class _Condition:
    """One thing asked: the ids of all versions that fit, from an index, and the test of a version at hand."""

    ids: Select[Any]
    test: ColumnElement[bool]


class Search:
    """The one query that looks across adapters."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def versions(self, query: SearchQuery, *, readable: Readable | None = None) -> Page[Version]:
        """A page of the versions that fit everything asked, newest first, without files.

        `base` is a label or `sha256:` and leading digits; `text` is words, each the beginning of a word of the name,
        message or metadata; a metric's newest value counts. `readable` leaves out what the
        caller may not see. Raises WrongUsage for a foreign cursor.
        """
        conditions = list(self._conditions(query))
        if readable is not None:
            conditions.append(_readable(readable))
        statement = version_rows().where(*(condition.test for condition in conditions), *_narrowing(query))
        few = self._fewest(conditions)
        if few is not None:
            statement = statement.where(versions.c.id.in_(few))
        if query.cursor is not None:
            statement = statement.where(versions.c.id < number_of(query.cursor))
        statement = statement.order_by(versions.c.id.desc()).limit(query.limit + 1)
        rows = self._connection.execute(statement).mappings().all()
        page = rows[: query.limit]
        following = str(page[-1]["id"]) if len(rows) > query.limit else None
        return Page(tuple(version_record(row) for row in page), following)

    def _fewest(self, conditions: Sequence[_Condition]) -> list[int] | None:
        """The ids of the rarest condition; None if all are common."""
        fewest: list[int] | None = None
        for condition in conditions:
            ids = list(self._connection.scalars(condition.ids.limit(FEW + 1)))
            if len(ids) <= FEW and (fewest is None or len(ids) < len(fewest)):
                fewest = ids
        return fewest

    def _conditions(self, query: SearchQuery) -> Iterator[_Condition]:
        if query.status is not None:
            yield _plain(versions.c.status == query.status.value)
        if query.team is not None:
            yield _of_team(query.team)
        if query.rank_min is not None or query.rank_max is not None:
            yield _with_rank(query.rank_min, query.rank_max)
        if query.base is not None:
            yield _plain(self._has_base(query.base))
        yield from (_with_target(target) for target in query.targets)
        yield from (_with_word(word) for word in words_of([query.text or ""]))
        yield from (_with_metric(name, least) for name, least in query.metrics)

    def _has_base(self, base: str) -> ColumnElement[bool]:
        if base.lower().startswith(_DIGEST):
            digits = base[len(_DIGEST) :].lower()
            return (versions.c.base_key >= digits) & (versions.c.base_key < f"{digits}g")
        labelled = select(base_names.c.fingerprint).where(base_names.c.name_key == base.lower())
        fingerprint = self._connection.scalar(labelled)
        return versions.c.base_key.in_([key for key in (fingerprint, base.lower()) if key])


def _narrowing(query: SearchQuery) -> Iterator[ColumnElement[bool]]:
    """What is asked of versions at hand only: no index leads to it."""
    if query.format is not None:
        yield versions.c.format == query.format
    if query.peft_type is not None:
        yield versions.c.peft_type == query.peft_type
    if query.shown:
        yield is_shown()


def _plain(test: ColumnElement[bool]) -> _Condition:
    return _Condition(select(versions.c.id).where(test), test)


def _of_team(team: str) -> _Condition:
    key = team.lower()  # "0" is the character after "/"
    test = (adapters.c.name_key >= f"{key}/") & (adapters.c.name_key < f"{key}0")
    return _Condition(select(versions.c.id).join(adapters, adapters.c.id == versions.c.adapter_id).where(test), test)


def _readable(readable: Readable) -> _Condition:
    seen = select(adapters.c.id).where(adapters.c.namespace_id.in_(namespaces_of(readable)))
    return _plain(versions.c.adapter_id.in_(seen))


def _with_rank(least: int | None, most: int | None) -> _Condition:
    def between(rank: ColumnElement[int]) -> ColumnElement[bool]:
        return rank.between(_bounded(0 if least is None else least), _bounded(_LARGEST if most is None else most))

    # The sum keeps SQLite from reading and sorting the whole range when it should walk.
    return _Condition(select(versions.c.id).where(between(versions.c.rank)), between(versions.c.rank + 0))


def _bounded(rank: int) -> int:
    return max(-1, min(rank, _LARGEST))


def _with_target(target: str) -> _Condition:
    fits = version_targets.c.target == target
    ids = select(version_targets.c.version_id).where(fits)
    return _Condition(ids, exists().where(fits, version_targets.c.version_id == versions.c.id))


def _with_word(start: str) -> _Condition:
    begins = (version_words.c.word >= start) & (version_words.c.word <= start + _AFTER_ALL)
    ids = select(version_words.c.version_id).where(begins)
    return _Condition(ids, exists().where(begins, version_words.c.version_id == versions.c.id))


def _with_metric(name: str, least: float) -> _Condition:
    fits = (version_metrics.c.name == name) & (version_metrics.c.value >= least)
    ids = select(version_metrics.c.version_id).where(fits)
    return _Condition(ids, exists().where(fits, version_metrics.c.version_id == versions.c.id))
