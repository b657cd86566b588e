"""Compositions over HTTP: one server, one worker beside it, and clients that ask."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from composition.jobs import blend
from composition.worker import Worker
from registry.domain.expression import parse
from registry.domain.reference import AdapterName
from registry.domain.rights import Role
from registry.http import job_schemas as schemas
from registry.service import Registry
from registry.service.publishing import Submission
from tests.factories import write_adapter
from tests.http.conftest import Client, Server

SUM = "0.7*ours/a + 0.3*ours/b"
ASKED = {"expression": SUM, "into": "ours/blend"}
CLIENTS = 20
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def stocked(server: Server, tmp_path: Path) -> Server:
    for seed, name in enumerate(("ours/a", "ours/b", "theirs/c")):
        folder = write_adapter(tmp_path / name, seed=seed)
        server.registry.push_folder(folder, Submission(AdapterName.parse(name), ()))
    return server


@pytest.fixture
def work(stocked: Server) -> Iterator[Callable[[], None]]:
    """What starts a worker; it ends with the test."""
    stopping = threading.Event()
    threads: list[threading.Thread] = []

    def start() -> None:
        registry: Registry = stocked.registry
        threads.append(threading.Thread(target=Worker(registry, "test", stopping, "cpu").run, daemon=True))
        threads[-1].start()

    yield start
    stopping.set()
    for thread in threads:
        thread.join()


def post(client: Client, path: str, **body: Any) -> Any:
    return client.request("POST", path, json=body)


def ended(client: Client, job_id: str) -> Any:
    return client.get(f"/v1/jobs/{job_id}?wait=30").json()


def test_twenty_clients_ask_at_once_and_it_runs_once(stocked: Server, work: Callable[[], None]) -> None:
    clients = [stocked.client(f"ann{number}", "ours", Role.WRITER) for number in range(CLIENTS // 2)] * 2
    with ThreadPoolExecutor(CLIENTS) as threads:
        answers = list(threads.map(lambda client: post(client, "/v1/compositions", **ASKED), clients))
    assert {answer.status for answer in answers} == {202}
    jobs = [answer.json()["job"]["id"] for answer in answers]
    assert len(set(jobs)) == CLIENTS // 2  # one for each who asks
    work()
    with ThreadPoolExecutor(CLIENTS) as threads:
        done = list(threads.map(ended, clients, jobs))
    assert {(job["state"], job["version"]) for job in done} == {("done", 1)}
    results = [client.get(f"/v1/jobs/{job}/result").json() for client, job in zip(clients, jobs, strict=True)]
    TypeAdapter(list[schemas.Composition]).validate_python(results)
    assert sum(result["created"] for result in results[: CLIENTS // 2]) == 1
    assert [event.kind for event in stocked.registry.watch(0).events].count("commit.added") == 4
    here = blend(stocked.registry, parse(SUM), AdapterName("ours", "here"), device="cpu")
    assert here.version is not None
    assert {result["version"]["digest"] for result in results} == {f"sha256:{here.version.digest}"}
    lineage = clients[0].get("/v1/adapters/ours/blend/versions/1/lineage").json()
    assert {parent["name"] for parent in lineage["provenance"][0]["parents"]} == {"ours/a", "ours/b"}
    known = post(clients[0], "/v1/compositions", **ASKED, aliases=[])
    assert (known.status, known.json()["version"]["version"]) == (200, 1)


@pytest.mark.parametrize("backend", ["sqlite"], scope="session", indirect=True)
def test_a_blend_is_looked_up_and_made_where_it_is_missing(stocked: Server, work: Callable[[], None]) -> None:
    client = stocked.client("ann", "ours", Role.WRITER)
    queued = post(client, "/v1/resolve", **ASKED)
    assert queued.status == 202
    assert queued.headers["Location"] == f"/v1/jobs/{queued.json()['job']['id']}"
    assert queued.json()["job"]["state"] == "queued"
    work()
    made = post(client, "/v1/resolve", **ASKED, wait=30)
    assert (made.status, made.json()["version"]) == (200, 1)
    assert made.json() == post(client, "/v1/resolve", **ASKED).json()
    assert made.json()["serving_name"] == client.get("/v1/adapters/ours/blend/resolve").json()["serving_name"]
    assert post(client, "/v1/resolve", **ASKED, max_rank=1).status == 409
    reader = stocked.client("bob", "ours", Role.READER)
    assert post(reader, "/v1/resolve", **ASKED).status == 403
    assert post(client, "/v1/resolve", refs=["ours/blend"]).json()["answers"][0]["answer"] == made.json()
    small = post(client, "/v1/compositions", **ASKED, rank=2, wait=30)
    assert (small.status, small.json()["report"]["total"]["rank"]) == (200, 2)


@pytest.mark.parametrize("backend", ["sqlite"], scope="session", indirect=True)
def test_a_job_is_cancelled_and_one_of_another_team_looks_absent(stocked: Server) -> None:
    ann, eve = (stocked.client(name, team, Role.WRITER) for name, team in (("ann", "ours"), ("eve", "theirs")))
    job = post(ann, "/v1/compositions", **ASKED).json()["job"]
    TypeAdapter(schemas.Job).validate_python(job, strict=True)
    path = f"/v1/jobs/{job['id']}"
    for method, where in (("GET", path), ("DELETE", path), ("GET", f"{path}/result")):
        answer, absent = eve.request(method, where), eve.request(method, where.replace(job["id"], "0" * 28))
        assert (answer.status, absent.status) == (404, 404)
        assert answer.data.replace(job["id"].encode(), b"0" * 28) == absent.data
    assert eve.get("/v1/jobs?team=ours").json() == {"jobs": [], "cursor": None}
    assert [found["id"] for found in ann.get("/v1/jobs?state=queued").json()["jobs"]] == [job["id"]]
    unfinished = ann.get(f"{path}/result")
    assert (unfinished.status, unfinished.json()["error"]) == (409, "job_unfinished")
    assert ann.request("DELETE", path).json()["state"] == "cancelled"
    assert ann.request("DELETE", path).status == 200


@pytest.mark.parametrize("backend", ["sqlite"], scope="session", indirect=True)
def test_what_is_wrong_is_said_at_once_in_the_words_of_an_embedded_blend(stocked: Server) -> None:
    client = stocked.client("ann", "ours", Role.WRITER)
    registry = stocked.registry
    for text, status in (("0.7*ours/a +", 400), ("ours/a + ours/none", 404), ("ours/a - ours/a", 422)):
        with pytest.raises(Exception) as embedded:
            blend(registry, parse(text), AdapterName("ours", "x"), device="cpu")
        for path in ("/v1/compositions", "/v1/resolve"):
            answer = post(client, path, expression=text, into="ours/x")
            assert (answer.status, answer.json()["message"]) == (status, str(embedded.value))
    assert post(client, "/v1/compositions", into="ours/x").status == 400
    assert post(client, "/v1/compositions", expression=SUM, recipe={}, into="ours/x").status == 400
    wrong = {"method": "nonsense", "inputs": [{"adapter": "ours/a"}]}
    assert post(client, "/v1/compositions", recipe={"root": wrong}, into="ours/x").json()["error"] == "invalid_recipe"
    for depth in (300, 10_000):  # beyond what a recipe, and what a reader of JSON may nest
        opening = '{"method": "linear", "params": {"weights": [1.0]}, "inputs": ['
        nested = opening * depth + '{"adapter": "ours/a"}' + "]}" * depth
        body = f'{{"into": "ours/x", "recipe": {{"root": {nested}}}}}'
        assert client.request("POST", "/v1/compositions", body=body, headers=JSON).status in (400, 422)
    half = '{"into": "ours/x", "recipe": {"root": {"adapter": "\\ud800"}}}'
    assert client.request("POST", "/v1/compositions", body=half, headers=JSON).json()["error"] == "invalid_file"
    assert post(client, "/v1/compositions", expression="ours/a + theirs/c", into="ours/x").status == 404
    assert post(client, "/v1/compositions", **ASKED, wait=31).status == 422
    assert registry.jobs().items == ()
