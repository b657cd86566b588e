"""Opening the registry that the environment names, embedded or on a server, once a run, and closing it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Union

from registry.domain.errors import NotOnServer
from registry.settings import Settings

if TYPE_CHECKING:
    from cli.remote.registry import RemoteRegistry
    from registry.service import Registry

Opened = Union["Registry", "RemoteRegistry"]


@contextmanager
def opened() -> Iterator[Opened]:
    """The registry. Raises InvalidSetting, SchemaMismatch, DatabaseFailure; a server is asked by the first method."""
    registry = _open()
    try:
        yield registry
    finally:
        registry.close()


def _open() -> Opened:
    settings = Settings.from_environment(os.environ)
    if settings.server:
        from cli.remote.registry import open_remote  # lazy: start-up time

        return open_remote(settings, settings.server)
    from registry.bootstrap import open_registry  # lazy: start-up time

    return open_registry(os.environ)


def on_server() -> bool:
    """Whether commands work against a server."""
    return bool(Settings.from_environment(os.environ).server)


def refuse_on_server(command: str, reason: str, instead: str) -> None:
    """End a command that can't work against a server before it has done anything. Raises NotOnServer."""
    if on_server():
        raise NotOnServer(command, reason, instead)
