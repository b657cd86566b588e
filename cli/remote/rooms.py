"""What every room of a remote registry stands on: a connection, and reading what it answers."""

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

from cli.remote.connection import Connection
from registry.domain.errors import InvalidFile, InvalidReference, ServerFailure
from registry.domain.records import Version
from registry.domain.reference import AdapterName, Reference

T = TypeVar("T")
_NOT_OURS = (KeyError, TypeError, ValueError, AttributeError, InvalidReference, InvalidFile)


class Room:
    """Base of the rooms of `RemoteRegistry`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def close(self) -> None:
        """Let go of the connections."""
        self.connection.close()

    def _read(self, read: Callable[[Any], T], document: Any) -> T:
        """A record of a document. Raises ServerFailure for a document that isn't one of ours."""
        try:
            return read(document)
        except _NOT_OURS as error:
            reason = f"it answered something that this program can't read: {error!r:.200}"
            raise ServerFailure(reason, self.connection.url) from error

    def _listed(self, key: str, read: Callable[[Any], T], document: Any) -> list[T]:
        """The records of what a document lists under a key."""
        return self._read(lambda found: [read(item) for item in found[key]], document)


def part(text: str) -> str:
    """A text as one part of a path."""
    return quote(text, safe=":@")


def adapter_path(name: AdapterName) -> str:
    """Where an adapter is."""
    return f"/v1/adapters/{name}"


def version_path(version: Version | Reference) -> str:
    """Where a version is: by number, or by what stands behind the `@`."""
    if isinstance(version, Version):
        return f"{adapter_path(version.adapter)}/versions/{version.number}"
    return f"{adapter_path(version.adapter)}/versions/{part(selector(version))}"


def selector(reference: Reference) -> str:
    """What stands behind a reference's `@`."""
    return str(reference).partition("@")[2] or "main"
