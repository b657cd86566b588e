"""Opening the registry that the environment names, once a run, and closing it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from registry.service import Registry


@contextmanager
def opened() -> Iterator["Registry"]:
    """The registry. Raises InvalidSetting, SchemaMismatch, DatabaseFailure."""
    from registry.bootstrap import open_registry  # lazy: start-up time

    registry = open_registry(os.environ)
    try:
        yield registry
    finally:
        registry.close()
