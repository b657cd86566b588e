"""Base models: tensor indexes by fingerprint, and the labels that admins give them."""

import builtins
from collections.abc import Sequence
from datetime import datetime
from math import prod
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.engine import Connection, RowMapping

from registry.domain.bases import BaseIndex, BaseTensor
from registry.domain.errors import BaseNotFound, InvalidReference, NameTaken
from registry.domain.records import BaseModel, BasePlace
from registry.domain.reference import AdapterName
from registry.domain.rights import Readable
from registry.sql.inserts import insert_absent
from registry.sql.readable import namespaces_of
from registry.sql.tables.base import table
from registry.sql.tables.bases import BaseModelRow, base_models, base_names
from registry.sql.tables.commits import commits
from registry.sql.tables.names import adapters, namespaces

_DIGEST = "sha256:"
_LEAST_DIGITS = 12
_SHOWN = [column for column in table(BaseModelRow).c if column.name != "tensor_index"]


class Bases:
    """Queries on base models."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, label: str, index: BaseIndex, *, actor: str, at: datetime) -> BaseModel:
        """Register a base under a label, or add a label to a known base; nothing changes if both are known.

        Raises NameTaken if the label is another base's.
        """
        insert_absent(self._connection, base_models, [_base_row(index, actor, at)])
        row = {
            "name_key": label.lower(),
            "name": label,
            "fingerprint": index.fingerprint,
            "actor": actor,
            "created_at": at,
        }
        insert_absent(self._connection, base_names, [row])
        owner = self._labelled(label)
        if owner != index.fingerprint:
            raise NameTaken(label, f"it is a label of the base sha256:{(owner or '')[:_LEAST_DIGITS]}")
        return self._require(index.fingerprint)

    def find(self, name: str) -> BaseModel | None:
        """The base with this label, in any case, or with this `sha256:` and at least 12 digits of the fingerprint.

        Raises InvalidReference when the digits fit several bases, or are not 12 to 64 hex digits.
        """
        if name.lower().startswith(_DIGEST):
            return self._by_digits(name[len(_DIGEST) :].lower(), name)
        fingerprint = self._labelled(name)
        return None if fingerprint is None else self._require(fingerprint)

    def index(self, fingerprint: str) -> BaseIndex:
        """The tensor index of a base. Raises BaseNotFound."""
        statement = select(base_models.c.format, base_models.c.model_type, base_models.c.tensor_index)
        row = self._connection.execute(statement.where(base_models.c.fingerprint == fingerprint)).first()
        if row is None:
            raise BaseNotFound(f"{_DIGEST}{fingerprint}")
        tensors = (
            BaseTensor(component, name, dtype, tuple(shape), size, sha256)
            for component, name, dtype, shape, size, sha256 in row.tensor_index
        )
        return BaseIndex(row.format, row.model_type, tuple(tensors))

    def list(self) -> builtins.list[BaseModel]:
        """Every base, oldest first."""
        statement = select(*_SHOWN).order_by(base_models.c.created_at, base_models.c.fingerprint)
        return self._records(self._connection.execute(statement).mappings().all())

    def places(self, fingerprint: str, *, readable: Readable | None) -> builtins.list[BasePlace]:
        """The lines, by name, whose newest commit holds a base; `readable` leaves out what the caller may not see."""
        statement = (
            select(namespaces.c.name.label("team"), adapters.c.name, commits.c.hash)
            .join(adapters, (adapters.c.id == commits.c.adapter_id) & (adapters.c.head == commits.c.hash))
            .join(namespaces, namespaces.c.id == adapters.c.namespace_id)
            .where(commits.c.base_fingerprint == fingerprint, adapters.c.deleted_at.is_(None))
            .order_by(adapters.c.name_key)
        )
        if readable is not None:
            statement = statement.where(adapters.c.namespace_id.in_(namespaces_of(readable)))
        return [BasePlace(AdapterName(row.team, row.name), row.hash) for row in self._connection.execute(statement)]

    def link(self, fingerprint: str, *, quantised_of: str | None = None, succeeds: str | None = None) -> BaseModel:
        """Record what a base is a quantised copy of, or what it replaces (fingerprints). Raises BaseNotFound."""
        links = {"quantised_of": quantised_of, "succeeds": succeeds}
        values = {column: target for column, target in links.items() if target is not None}
        for target in values.values():
            self._require(target)
        if values:
            statement = update(base_models).where(base_models.c.fingerprint == fingerprint).values(values)
            self._connection.execute(statement)
        return self._require(fingerprint)

    def _labelled(self, label: str) -> str | None:
        statement = select(base_names.c.fingerprint).where(base_names.c.name_key == label.lower())
        return self._connection.scalar(statement)

    def _by_digits(self, digits: str, text: str) -> BaseModel | None:
        if not _LEAST_DIGITS <= len(digits) <= 64 or not set(digits) <= set("0123456789abcdef"):
            raise InvalidReference(text, "a fingerprint is sha256: and 12 to 64 hex digits")
        column = base_models.c.fingerprint
        rows = self._select((column >= digits) & (column < f"{digits}g"))
        if len(rows) > 1:
            raise InvalidReference(text, "several bases begin with these digits; write more of them")
        return self._records(rows)[0] if rows else None

    def _require(self, fingerprint: str) -> BaseModel:
        rows = self._select(base_models.c.fingerprint == fingerprint)
        if not rows:
            raise BaseNotFound(f"{_DIGEST}{fingerprint}")
        return self._records(rows)[0]

    def _select(self, condition: ColumnElement[bool]) -> Sequence[RowMapping]:
        return self._connection.execute(select(*_SHOWN).where(condition).limit(2)).mappings().all()

    def _records(self, rows: Sequence[RowMapping]) -> builtins.list[BaseModel]:
        labels: dict[str, list[str]] = {}
        fingerprints = [row["fingerprint"] for row in rows]
        statement = select(base_names).where(base_names.c.fingerprint.in_(fingerprints))
        for row in self._connection.execute(statement.order_by(base_names.c.created_at, base_names.c.name_key)):
            labels.setdefault(row.fingerprint, []).append(row.name)
        return [BaseModel(**row, names=tuple(labels.get(row["fingerprint"], ()))) for row in map(_without_actor, rows)]


def _without_actor(row: RowMapping) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "actor"}


def _base_row(index: BaseIndex, actor: str, at: datetime) -> dict[str, Any]:
    return {
        "fingerprint": index.fingerprint,
        "format": index.format,
        "model_type": index.model_type,
        "tensors": len(index.tensors),
        "parameters": sum(prod(tensor.shape) for tensor in index.tensors),
        "size": index.size,
        "actor": actor,
        "created_at": at,
        "tensor_index": [[t.component, t.name, t.dtype, t.shape, t.size, t.sha256] for t in index.tensors],
    }
