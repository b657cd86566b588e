"""One server a session, on SQLite and a folder, and clients of it, each version of huggingface_hub one."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from registry.domain.rights import Role
from registry.formats.base_model import index_base
from tests.factories import TOY, minilm_folder, toy_base, write_adapter
from tests.http.conftest import Server, running
from tests.hub.clients import Client, client_of
from tests.hub.environments import HUBS, NEWEST, Environment
from tests.hub.wire import Wire, wire_to

TEAM = "team"
WEIGHTS = "adapter_model.safetensors"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(scope="session")
def hub(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose registry knows the toy base."""
    folder = tmp_path_factory.mktemp("hub")
    shutil.copyfile(sqlite_template, folder / "catalog.db")
    with running(f"sqlite:///{folder}/catalog.db", (folder / "blobs").as_uri()) as server:
        server.registry.add_base(TOY, toy_base())
        server.registry.create_team(TEAM)
        yield server


@pytest.fixture(scope="session")
def minilm(hub: Server) -> Server:
    """The server, which knows a real base."""
    hub.registry.add_base(MINILM, index_base(minilm_folder()))
    return hub


@pytest.fixture(scope="session")
def new_client(hub: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Client]]:
    """Start clients; they end with the session."""
    with ExitStack() as stack:

        def start(environment: Environment = NEWEST, role: Role = Role.OWNER, **more: str) -> Client:
            token = hub.client(f"ann-{role.value}", TEAM, role).token
            assert token is not None
            home = tmp_path_factory.mktemp(environment.name)
            return stack.enter_context(client_of(environment, hub.url, token, home, **more))

        yield start


@pytest.fixture(scope="session", params=HUBS)
def client(request: pytest.FixtureRequest, new_client: Callable[..., Client]) -> Client:
    """An owner of the team, with each version of huggingface_hub."""
    return new_client(HUBS[request.param])


@pytest.fixture(scope="session")
def wire(hub: Server) -> Iterator[Wire]:
    """What `newest` reaches the server by."""
    with wire_to(hub.url) as wire:
        yield wire


@pytest.fixture(scope="session")
def newest(new_client: Callable[..., Client], wire: Wire) -> Client:
    """An owner of the team, with the newest huggingface_hub, PEFT and transformers."""
    return new_client(HF_ENDPOINT=wire.url)


_NUMBERS = count(1)


@pytest.fixture
def repo() -> str:
    """The name of a repository that nobody has used."""
    return f"{TEAM}/adapter-{next(_NUMBERS)}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An adapter of the toy base in a folder."""
    return write_adapter(tmp_path / "adapter")
