"""What is told of a database's statements: that they began, how they ended, and none of their values."""

from collections.abc import Mapping

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from registry.domain.spans import Finish
from registry.sql.engine import Database
from registry.sql.spans import tell_statements


def test_each_statement_is_told_once_with_its_text_and_without_its_values(database: Database) -> None:
    begun: list[Mapping[str, str]] = []
    ended: dict[str, list[BaseException | None]] = {}

    def begin(name: str, attributes: Mapping[str, str]) -> Finish:
        begun.append(attributes)
        return ended.setdefault(name, []).append

    tell_statements(database, begin)
    with database.connection() as connection:
        for _ in range(2):
            assert connection.execute(text("SELECT 1 WHERE 'it' <> :secret"), {"secret": "xyzzy"}).scalar() == 1
            with pytest.raises(DBAPIError):
                connection.execute(text("INSERT INTO nowhere VALUES (:secret)"), {"secret": "xyzzy"})
            connection.rollback()
    assert ended["SELECT"] == [None, None]
    assert [type(error).__module__.split(".")[0] for error in ended["INSERT"]] in (["sqlite3"] * 2, ["psycopg"] * 2)
    assert {line["db.system.name"] for line in begun} == {"sqlite" if database.is_sqlite else "postgresql"}
    assert "xyzzy" not in str(begun)
