"""What all tables share: the metadata, the names of constraints, and the column types that SQLite and PostgreSQL
store differently.
"""

import json
import zlib
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import BigInteger, DateTime, Integer, LargeBinary, MetaData, String, Table, TypeDecorator
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase

_NAMES = {
    "pk": "pk_%(table_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}


class Row(DeclarativeBase):
    """Base of all mappings."""

    metadata = MetaData(naming_convention=_NAMES)


def table(row: type[Row]) -> Table:
    """The table of a mapping."""
    return cast(Table, row.__table__)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in and out, microseconds kept, on both databases. A naive time is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive time has no place in the catalog")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class CompressedJson(TypeDecorator[Any]):
    """A large JSON value as compressed bytes: read whole, never searched."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        if value is None:
            return None
        return zlib.compress(json.dumps(value, separators=(",", ":"), allow_nan=False).encode(), level=6)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(zlib.decompress(value))


# SQLite counts rows only in a column that is called INTEGER.
RowId = BigInteger().with_variant(Integer, "sqlite")

# A key is compared byte by byte, so that ranges over it are prefixes; SQLite does so by itself.
Key = String().with_variant(String(collation="C"), "postgresql")
Digest = String(64).with_variant(String(64, collation="C"), "postgresql")
CommitId = String(40).with_variant(String(40, collation="C"), "postgresql")
