"""Several clients at once: no commit is lost, and two of them may share a cache."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from registry.domain.reference import AdapterName, Reference
from registry.service.publishing import Submission
from tests.factories import write_adapter
from tests.http.conftest import Server
from tests.hub.clients import Client
from tests.hub.conftest import WEIGHTS
from tests.hub.environments import HUBS

EACH = 4


def test_of_commits_at_once_none_is_lost(
    hub: Server, new_client: Callable[..., Client], repo: str, folder: Path
) -> None:
    clients = [new_client(environment) for environment in HUBS.values()]
    clients[0].do("hub.upload", repo=repo, folder=folder)
    with ThreadPoolExecutor() as pool:
        made = [
            pool.submit(client.do, "hub.upload_notes", repo=repo, who=f"client-{number}", count=EACH)
            for number, client in enumerate(clients)
        ]
        commits = [commit for future in made for commit in future.result()]
    assert len(set(commits)) == EACH * len(clients)
    head = hub.registry.commit_at(Reference.parse(repo))
    files = {file.path for file in head.files}
    assert {f"client-{number}-{note}.md" for number in range(len(clients)) for note in range(EACH)} <= files


def test_an_alias_that_moves_between_two_pulls_brings_the_other_version(
    client: Client, hub: Server, repo: str, folder: Path, tmp_path: Path
) -> None:
    name, weights = AdapterName.parse(repo), []
    for number in (1, 2):
        write_adapter(folder, seed=number)
        hub.registry.push_folder(folder, Submission(name, ()))
        weights.append((folder / WEIGHTS).read_bytes())
    for number in (1, 2, 1):
        hub.registry.promote(Reference.parse(f"{name}@v{number}"), "production")
        found = Path(client.do("hub.snapshot", repo=repo, revision="production", cache=tmp_path))
        assert (found / WEIGHTS).read_bytes() == weights[number - 1]


def test_two_clients_share_a_cache(
    hub: Server, new_client: Callable[..., Client], repo: str, folder: Path, tmp_path: Path
) -> None:
    hub.registry.push_folder(folder, Submission(AdapterName.parse(repo), ()))
    clients = [new_client(environment) for environment in HUBS.values()]
    with ThreadPoolExecutor() as pool:
        asked = [
            pool.submit(client.do, "hub.snapshot", repo=repo, revision="main", cache=tmp_path) for client in clients
        ]
        found = {future.result() for future in asked}
    assert len(found) == 1
    assert (Path(found.pop()) / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    assert len([path for path in tmp_path.rglob("blobs/*") if path.is_file()]) == 3
