"""Absolute addresses are those that the client dialled, as far as those who say so may be believed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from registry.domain.reference import AdapterName
from registry.http.hub.origin import origin_of
from registry.http.proxies import PEER, Dialled
from registry.http.settings import ServerSettings
from registry.service.publishing import Submission
from tests.factories import write_adapter
from tests.http.conftest import Server
from tests.http.hub.conftest import Library

PROXY, STRANGER = "10.0.0.7", "203.0.113.9"
PUBLIC = "https://registry.example/hub"


class _App:
    """What a request's address is taken for, further in."""

    def __init__(self, settings: ServerSettings) -> None:
        self.state = type("State", (), {"settings": settings})
        self.seen = ""

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        self.seen = origin_of(Request({**scope, "app": self}))


async def dialled(peer: str | None, headers: dict[str, str], *, public: str = PUBLIC, scheme: str = "http") -> str:
    environment = {"ADAPTERS_PUBLIC_URL": public, "ADAPTERS_TRUSTED_PROXIES": "10.0.0.0/24"}
    settings = ServerSettings.from_environment(environment, host="10.0.0.8", port=8321)
    app = _App(settings)
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": scheme,
        "path": "/",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "state": {PEER: (peer, 4711)} if peer else {},
    }
    await Dialled(app, settings)(scope, None, None)  # type: ignore[arg-type]
    return app.seen


def ask(peer: str | None, headers: dict[str, str], **given: str) -> str:
    coroutine = dialled(peer, headers, **given)
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    return str(ended.value.value)


INNER = {"Host": "10.0.0.8:8321"}
NAMED = {**INNER, "X-Forwarded-Host": "registry.example", "X-Forwarded-Proto": "https"}


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        (STRANGER, {"Host": "registry.example"}, PUBLIC),
        (STRANGER, {"Host": "localhost:8321"}, "http://localhost:8321"),
        (PROXY, {"Host": "registry.example"}, PUBLIC),
        (PROXY, NAMED, PUBLIC),
        (PROXY, {**NAMED, "X-Forwarded-Host": "evil.example, registry.example"}, PUBLIC),
        (PROXY, {**NAMED, "X-Forwarded-Prefix": "/other/"}, "https://registry.example/other"),
        (PROXY, {**NAMED, "X-Forwarded-Prefix": "//evil.example/"}, PUBLIC),
        (PROXY, {**NAMED, "X-Forwarded-Prefix": '/a>; rel="next"'}, PUBLIC),
        (PROXY, {**NAMED, "X-Forwarded-Host": "evil.example"}, "http://10.0.0.8:8321"),
        (PROXY, {**NAMED, "X-Forwarded-Host": "localhost:99"}, "http://localhost:99"),
        (PROXY, {**NAMED, "X-Forwarded-Host": "localhost@evil.example"}, "http://10.0.0.8:8321"),
        (STRANGER, NAMED, "http://10.0.0.8:8321"),
        (None, NAMED, "http://10.0.0.8:8321"),
        (STRANGER, {**INNER, "X-Forwarded-Prefix": "/other"}, "http://10.0.0.8:8321"),
    ],
)
def test_an_address_is_what_was_dialled(peer: str | None, headers: dict[str, str], expected: str) -> None:
    assert ask(peer, headers) == expected


def test_the_scheme_is_the_connections_where_the_settings_name_no_other() -> None:
    assert ask(STRANGER, {"Host": "10.0.0.8:8321"}, scheme="https") == "https://10.0.0.8:8321"
    assert ask(PROXY, NAMED, public="https://registry.example:8443") == "https://registry.example:8443"


def test_a_running_server_leads_to_the_next_page_where_it_was_dialled(library: Library) -> None:
    path = "/api/models/acme/support/commits/main?limit=1"
    port = library.server.url.rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
        link = library.client.get(path, headers={"Host": host, "X-Forwarded-Host": "evil.example"}).headers["Link"]
        assert link.startswith(f"<http://{host}/api/models/acme/support/commits/")
    assert library.client.get(path, headers={"Host": "evil.example"}).status == 400


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("proxies", "named"), [("127.0.0.0/8", "https://registry.example"), ("10.0.0.7", "http://127")]
)
def test_only_a_trusted_proxy_tells_a_running_server_what_was_dialled(
    serve: Callable[..., Server], database_url: str, tmp_path: Path, proxies: str, named: str
) -> None:
    environment = {"ADAPTERS_PUBLIC_URL": "https://registry.example", "ADAPTERS_TRUSTED_PROXIES": proxies}
    server = serve(database_url, None, environment)
    for seed in (1, 2):
        folder = write_adapter(tmp_path / str(seed), seed=seed)
        server.registry.push_folder(folder, Submission(AdapterName("acme", "a"), ()))
    headers = {"X-Forwarded-Host": "registry.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": STRANGER}
    answer = server.client().get("/api/models/acme/a/commits/main?limit=1", headers=headers)
    assert answer.headers["Link"].startswith(f"<{named}")
