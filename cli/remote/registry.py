"""A registry on a server, with the methods of `registry.service.Registry` that commands use."""

from cli.remote.access import Access
from cli.remote.changes import Changes
from cli.remote.collecting import Collecting
from cli.remote.connection import Connection
from cli.remote.editing import Editing
from cli.remote.gates import Gates
from cli.remote.keyring import Keyring
from cli.remote.origin import origin_of, server_url
from cli.remote.transfers import Transfers
from cli.remote.webhooks import Webhooks
from registry.settings import Settings


class RemoteRegistry(Transfers, Changes, Gates, Collecting, Access, Webhooks, Editing):
    """Everything that commands do with a registry; the same records come back, and the same errors."""


def open_remote(settings: Settings, server: str) -> RemoteRegistry:
    """The registry at a server's URL, with the token that is set or kept for exactly its origin.

    Raises InvalidSetting for a URL that isn't one. Nothing is asked yet.
    """
    url = server_url("ADAPTERS_REGISTRY", server)
    token = settings.token or Keyring(settings.home).token(origin_of(url))
    return RemoteRegistry(Connection(url, token))
