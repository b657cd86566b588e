"""What tests of the writing calls share: a server, who talks to it, and a repository of the test's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import pytest
import urllib3
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from registry.domain.records import Commit
from registry.domain.reference import Reference
from registry.service import Registry
from tests.http.conftest import Client, Server


@dataclass(frozen=True)
class Desk:
    """A server; ann writes and promotes, rita reads, eve is of another team."""

    server: Server
    ann: Client
    rita: Client
    eve: Client
    repo: str = ""

    def about(self, repo: str) -> Self:
        return replace(self, repo=repo)

    @property
    def registry(self) -> Registry:
        return self.server.registry

    @property
    def api(self) -> HfApi:
        return api_of(self.ann)

    @property
    def main(self) -> Commit:
        return self.registry.commit_at(Reference.parse(self.repo))

    @property
    def paths(self) -> list[str]:
        return [file.path for file in self.main.files]

    def post(self, path: str, client: Client | None = None, **options: Any) -> urllib3.BaseHTTPResponse:
        """POST to a path below the repository's, or another address if it begins with /."""
        where = path if path.startswith("/") else f"/api/models/{self.repo}/{path}"
        return (client or self.ann).request("POST", where, **options)


def api_of(client: Client) -> HfApi:
    return HfApi(endpoint=client.url, token=client.token)


@contextmanager
def refused(status: int, text: str | None = None) -> Iterator[None]:
    """What a client raises for an answer with that status, with a text for whoever runs it."""
    with pytest.raises(HfHubHTTPError, match=text) as caught:
        yield
    assert caught.value.response.status_code == status, str(caught.value)
