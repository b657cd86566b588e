"""Xet's own client, hf_xet, pushes into a server: what it sends, what it needn't send again, and what it is told."""

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import hf_xet
import pytest
import urllib3
from huggingface_hub import HfApi

from registry.domain.quotas import Quota
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.http import limits
from registry.http.hub import xet
from tests.factories import TOY, toy_base, write_adapter
from tests.http.conftest import Client, Server, running
from tests.xet.packing import Packed, Part, file_records, shard, xorb

MIB = 1 << 20
ONE = xorb([b"alpha", b"beta", b"gamma"], scheme=1)
TWO = xorb([b"delta", b"epsilon"])
WHOLE = [Part(ONE, 0, 3)]
NUMBERS = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all: what is asked here is of the client and the wire, by teams of a test's own."""
    folder = tmp_path_factory.mktemp("server")
    with running(f"sqlite:///{folder}/registry.db", (folder / "blobs").as_uri()) as started:
        started.registry.add_base(TOY, toy_base())
        yield started


@pytest.fixture(autouse=True)
def client_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client without memories, which tells nobody how it went."""
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet-cache"))


@pytest.fixture
def team(server: Server) -> str:
    return new_team(server)


@pytest.fixture
def ann(server: Server, team: str) -> Client:
    return server.client("ann", team, Role.WRITER)


def new_team(server: Server) -> str:
    """A team with a repository that nothing was committed to."""
    team = server.registry.create_team(f"team-{next(NUMBERS)}").name
    server.registry.create_adapter(AdapterName(team, "adapter"))
    return team


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def floats(size: int) -> bytes:
    """Trained weights as a file has them: a part of each number is noise."""
    numbers = bytearray(size)
    numbers[0::4], numbers[1::4], numbers[2::4] = (noise(size // 4, seed) for seed in range(3))
    numbers[3::4] = bytes(60 | byte & 0x81 for byte in noise(size // 4, 3))  # sign and exponent: few values
    return bytes(numbers)


def push(client: Client, team: str, *contents: bytes) -> Any:
    """Send files as huggingface_hub does; returns what the client says of it."""
    address = f"{client.url}/api/models/{team}/adapter/xet-write-token/main"
    commit = hf_xet.XetSession().new_upload_commit(
        token_refresh_url=address, token_refresh_headers={"Authorization": f"Bearer {client.token}"}
    )
    handles = [commit.start_upload_bytes(content, sha256=hf_xet.COMPUTE_SHA256) for content in contents]
    report = commit.wait_to_finish()
    assert [handle.result().xet_info.sha256 for handle in handles] == [hashlib.sha256(c).hexdigest() for c in contents]
    return report.dedup_metrics


def stored(server: Server, content: bytes) -> bool:
    sha256 = hashlib.sha256(content).hexdigest()
    with server.registry.blobs.open(sha256) as stream:
        return stream.read() == content


def has(server: Server, team: str, content: bytes) -> bool:
    return server.registry.begin_upload(team, hashlib.sha256(content).hexdigest(), len(content)).done


def waiting(server: Server, team: str) -> int:
    """Bytes of xorbs of which no file was made."""
    with server.registry.database.reading() as catalog:
        return catalog.xorbs.staged_bytes(team)


def store_of(client: Client, team: str) -> str:
    """The path of a team's store."""
    answer = client.get(f"/api/models/{team}/adapter/xet-write-token/main")
    assert answer.status == 200, answer.data
    return str(answer.json()["casUrl"]).removeprefix(client.url)


def send(client: Client, packed: Packed, *, to: str) -> urllib3.BaseHTTPResponse:
    return client.request("POST", f"{to}/v1/xorbs/default/{packed.name}", body=packed.sent)


def test_a_folder_is_pushed_as_huggingface_hub_does_by_itself(
    server: Server, team: str, ann: Client, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "adapter", seed=5)
    api, repo = HfApi(endpoint=ann.url, token=ann.token), f"{team}/adapter"
    first = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="over Xet")
    weights = (folder / "adapter_model.safetensors").read_bytes()
    assert has(server, team, weights)
    with server.registry.database.reading() as catalog:
        assert catalog.xorbs.epoch(team)  # that way, and not another
    version = server.registry.find(Reference.parse(repo)).version
    assert (version.number, version.commit, version.message) == (1, first.oid, "over Xet")
    loaded = api.hf_hub_download(repo, "adapter_model.safetensors", local_dir=tmp_path / "pulled")
    assert Path(loaded).read_bytes() == weights


def test_files_of_any_size_arrive_and_nothing_else_stays(server: Server, team: str, ann: Client) -> None:
    contents = [noise(300_000), floats(5 * MIB), b"short", bytes(3 * MIB) + noise(MIB, 2)]
    sent = push(ann, team, *contents)
    assert sent.xorb_bytes_uploaded < 0.95 * sum(map(len, contents))  # compressed
    for content in contents:
        assert stored(server, content) and has(server, team, content)
    assert waiting(server, team) == 0


def test_a_large_file_arrives_and_after_an_edit_only_what_is_new_is_sent(
    server: Server, team: str, ann: Client
) -> None:
    content = noise(70 * MIB)
    assert push(ann, team, content).xorb_bytes_uploaded > len(content)
    edited = content[: 30 * MIB] + b"an edit" + content[30 * MIB :]
    again = push(ann, team, edited)
    assert 0 < again.xorb_bytes_uploaded < MIB
    assert stored(server, edited) and has(server, team, edited)
    assert waiting(server, team) == 0


def test_another_team_sends_all_of_it(server: Server, team: str, ann: Client) -> None:
    content = noise(2 * MIB)
    push(ann, team, content)
    other = new_team(server)
    bob = server.client("bob", other, Role.WRITER)
    assert not has(server, other, content)
    assert push(bob, other, content).xorb_bytes_uploaded > len(content)
    assert has(server, other, content)
    assert push(bob, other, content).xorb_bytes_uploaded == 0


def test_a_client_that_remembers_too_much_fails_once_and_then_sends_everything(
    server: Server, team: str, ann: Client
) -> None:
    content = noise(2 * MIB, 9)
    push(ann, team, content)
    server.registry.blobs.delete(hashlib.sha256(content).hexdigest())
    with pytest.raises(RuntimeError, match="push again: everything is sent anew"):
        push(ann, team, content + b"more")
    assert push(ann, team, content + b"more").xorb_bytes_uploaded > len(content)
    assert stored(server, content + b"more")


def test_a_clients_user_reads_why_a_file_was_refused(server: Server, team: str, ann: Client) -> None:
    server.registry.set_quota(team, Quota(uploads=0))
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=f"the team {team} has 0 uploads and may have 0"):
        push(ann, team, noise(200_000))
    server.registry.set_quota(team, Quota(bytes=1000))
    with pytest.raises(ConnectionError, match="413"):
        push(ann, team, noise(200_000, 1))
    assert time.monotonic() - began < 10  # it isn't tried again and again


# -- the wire ---------------------------------------------------------------------------------------------------------


def test_a_token_is_the_callers_own_and_its_store_the_teams(server: Server, team: str, ann: Client) -> None:
    answer = ann.get(f"/api/models/{team}/adapter/xet-write-token/main")
    told = answer.json()
    assert told["accessToken"] == ann.token
    assert told["casUrl"].startswith(f"{server.url}/api/xet/{team}/")
    assert told["exp"] > time.time() + 300
    assert answer.headers["X-Xet-Cas-Url"] == told["casUrl"]
    assert answer.headers["X-Xet-Access-Token"] == ann.token
    assert answer.headers["X-Xet-Token-Expiration"] == str(told["exp"])


def test_only_who_may_write_gets_a_token_or_sends_anything(server: Server, team: str, ann: Client) -> None:
    store = store_of(ann, team)
    reader, stranger = server.client("ron", team, Role.READER), server.client("sue", None)
    for client, status in ((reader, 403), (stranger, 404), (server.nobody, 401)):
        assert client.get(f"/api/models/{team}/adapter/xet-write-token/main").status == status
        assert send(client, ONE, to=store).status == status
        assert client.request("POST", f"{store}/v1/shards", body=shard([])).status == status
    for repo, revision in (("adapter.at.main", "main"), ("adapter", "v1"), ("absent", "main")):
        assert ann.get(f"/api/models/{team}/{repo}/xet-write-token/{revision}").status in (403, 404)
    assert waiting(server, team) == 0


def test_what_is_wrong_is_refused_as_the_clients_fault_and_nothing_is_kept(
    server: Server, team: str, ann: Client
) -> None:
    store = store_of(ann, team)
    assert send(ann, Packed(ONE.name, ONE.sent[:-1], ONE.chunks), to=store).status == 400
    assert send(ann, Packed("x" * 64, ONE.sent, ONE.chunks), to=store).status == 400
    assert send(ann, ONE, to=store).json() == {"was_inserted": True}
    lies = {
        shard([file_records(WHOLE, sha256="00" * 32)]): 400,
        shard([file_records([Part(ONE, 0, 4, 14)])]): 400,
        b"no shard at all": 400,
        shard([file_records([Part(xorb([b"?"]), 0, 1)])]): 409,
    }
    for body, status in lies.items():
        assert ann.request("POST", f"{store}/v1/shards", body=body).status == status
        answer = ann.request("POST", f"{store}/v2/shards", body=body)
        last = json.loads(answer.data.splitlines()[-1])
        assert (answer.status, last["type"], last["retryable"]) == (200, "error", False)
    assert server.registry.blobs.stat(hashlib.sha256(ONE.plain).hexdigest()) is None
    assert ann.request("POST", f"{store}/v1/shards", body=shard([file_records(WHOLE)])).json() == {"result": 1}


def test_paths_of_older_clients_lead_to_the_same(server: Server, team: str, ann: Client) -> None:
    store = store_of(ann, team)
    for number, (one, other) in enumerate((("/xorbs", "/shards"), ("/xorb", f"/shard/default-merkledb/{'0' * 64}"))):
        packed = xorb([b"older", bytes([number])])
        sent = ann.request("POST", f"{store}{one}/default/{packed.name}", body=packed.sent)
        assert sent.json() == {"was_inserted": True}
        body = shard([file_records([Part(packed, 0, 2)])], [packed])
        assert ann.request("POST", store + other, body=body).json() == {"result": 1}
        assert has(server, team, packed.plain)


def test_what_clients_may_ask_in_vain_is_absent(team: str, ann: Client) -> None:
    store = store_of(ann, team)
    asked = {"/v1/chunks/default-merkledb/": "GET", "/v1/xorb-grants/default/": "POST", "/v1/reconstructions/": "GET"}
    for path, method in asked.items():
        assert ann.request(method, f"{store}{path}{'0' * 64}").status == 404  # of other refusals they die


def test_a_body_beyond_any_xorb_is_refused(
    server: Server, team: str, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_OF_A_XORB", MIB)
    store = store_of(ann, team)
    for path in (f"/v1/xorbs/default/{ONE.name}", "/v1/shards", "/v2/shards"):
        assert ann.request("POST", store + path, body=bytes(MIB + 1)).status == 413


def test_a_client_that_waits_is_told_that_it_goes_on_and_one_that_leaves_finds_it_done(
    server: Server, team: str, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xet, "BEAT", 0.02)
    slowly(monkeypatch, server, seconds=0.5)
    store = store_of(ann, team)
    send(ann, TWO, to=store)
    both = [Part(TWO, 0, 2)]
    body = shard([file_records(both)])
    lines = ann.request("POST", f"{store}/v2/shards", body=body).data.splitlines()
    events = [json.loads(line) for line in lines]
    assert {event["type"] for event in events[:-1]} == {"validating"}
    assert len(events) > 3 and events[-1] == {"type": "result"}
    later = shard([file_records(both * 2)])
    with pytest.raises(urllib3.exceptions.HTTPError):
        ann.request("POST", f"{store}/v1/shards", body=later, timeout=0.1)
    wait_for(lambda: server.registry.blobs.stat(hashlib.sha256(TWO.plain * 2).hexdigest()) is not None)


def slowly(monkeypatch: pytest.MonkeyPatch, server: Server, *, seconds: float) -> None:
    """Let the store take a while for each blob."""
    kind = type(server.registry.blobs)
    put = kind.put

    def slow(*arguments: Any, **options: Any) -> bool:
        time.sleep(seconds)
        return put(*arguments, **options)

    monkeypatch.setattr(kind, "put", slow)


def wait_for(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.01)
