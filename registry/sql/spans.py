"""A database whose statements are told to somebody who measures: their text, never their values."""

from typing import Any

from sqlalchemy.engine import Connection, ExceptionContext
from sqlalchemy.event import listen

from registry.domain.spans import Begin, Finish
from registry.sql.engine import Database

_LONGEST = 2_000  # characters of a statement
_OPEN = "adapters_spans"


def tell_statements(database: Database, begin: Begin) -> None:
    """Let every statement from now on be a span."""
    system = {"db.system.name": "sqlite" if database.is_sqlite else "postgresql"}

    def before(connection: Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        attributes = {**system, "db.query.text": statement[:_LONGEST]}
        _open(connection).append(begin(statement.split(maxsplit=1)[0].upper(), attributes))

    def after(connection: Connection, *_rest: Any) -> None:
        _open(connection).pop()(None)

    def failed(context: ExceptionContext) -> None:
        if context.connection is not None and _open(context.connection):
            _open(context.connection).pop()(context.original_exception)

    engine = database.engine
    listen(engine, "before_cursor_execute", before)
    listen(engine, "after_cursor_execute", after)
    listen(engine, "handle_error", failed)


def _open(connection: Connection) -> list[Finish]:
    """The spans that are open on a connection: one, since a connection does one thing at a time."""
    spans: list[Finish] = connection.info.setdefault(_OPEN, [])
    return spans
