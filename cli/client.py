"""Opening the registry that the environment names, embedded or on a server, once a run, and closing it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Union

import click

from cli.output import warn
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

        registry = open_remote(settings, settings.server)
        if registry.connection.exposes_token:
            _warn_once(f"{registry.connection.origin} is not encrypted: whoever listens on the way can read the token")
        return registry
    from registry.bootstrap import open_registry  # lazy: start-up time

    return open_registry(os.environ)


def _warn_once(text: str) -> None:
    """Warn people, once a command, however often it opens the registry; what reads JSON reads no warnings."""
    context = click.get_current_context(silent=True)
    if context is None or context.meta.get(__name__) == text:
        return
    context.meta[__name__] = text
    if not context.params["out"].as_json:
        warn(text)


def on_server() -> bool:
    """Whether commands work against a server."""
    return bool(Settings.from_environment(os.environ).server)


def refuse_on_server(command: str, reason: str, instead: str) -> None:
    """End a command that can't work against a server before it has done anything. Raises NotOnServer."""
    if on_server():
        raise NotOnServer(command, reason, instead)
