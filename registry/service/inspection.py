"""Reading an adapter where it lies in the store: its configuration and the header of its weights, no more."""

from collections.abc import Sequence

from registry.blobs.store import BlobStore
from registry.domain.records import FileEntry
from registry.domain.spec import AdapterSpec


def inspect_files(blobs: BlobStore, files: Sequence[FileEntry]) -> AdapterSpec | None:
    """What adapter these files hold, read again from the store; None if they hold none yet."""
