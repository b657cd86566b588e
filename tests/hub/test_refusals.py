"""A refusal's text reaches whoever runs the client: in the exception's message, and on the command's stderr."""

from pathlib import Path

import pytest

from registry.domain.quotas import Quota
from registry.domain.records import Status
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.service.publishing import Submission
from tests.factories import write_adapter
from tests.http.conftest import Server
from tests.hub.clients import Client, ClientError, client_of
from tests.hub.conftest import TEAM, WEIGHTS


def is_empty(hub: Server, repo: str) -> bool:
    return not hub.registry.versions(AdapterName.parse(repo)).items


def test_weights_for_another_base_are_refused_by_the_tensors_name(
    client: Client, hub: Server, repo: str, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "narrow", width=8)
    with pytest.raises(ClientError, match=r"does not fit the base toys/toy-1: .*layers.0.q_proj"):
        client.do("hub.upload", repo=repo, folder=folder)
    assert is_empty(hub, repo)


def test_pickled_weights_are_refused(client: Client, hub: Server, repo: str, folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "adapter_model.bin").write_bytes(b"PK\x03\x04" + bytes(5000))
    with pytest.raises(ClientError, match=r"adapter_model.bin.*safetensors"):
        client.do("hub.upload", repo=repo, folder=folder)
    assert is_empty(hub, repo)


def test_a_broken_adapter_is_refused(client: Client, hub: Server, repo: str, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"\x10" + bytes(7) + b"not JSON, of course" + bytes(100))
    with pytest.raises(ClientError, match=WEIGHTS):
        client.do("hub.upload", repo=repo, folder=folder)
    assert is_empty(hub, repo)


def test_the_command_prints_a_refusal(client: Client, repo: str, tmp_path: Path) -> None:
    told = client.hf("upload", repo, write_adapter(tmp_path / "narrow", width=8), ".")
    assert told.returncode != 0
    assert "does not fit the base toys/toy-1" in told.stderr + told.stdout


def test_what_is_more_than_the_quota_is_refused(client: Client, hub: Server, folder: Path, tmp_path: Path) -> None:
    team = f"small-{client.environment.name}"
    hub.registry.create_team(team)
    hub.registry.set_role(team, "ann-owner", Role.WRITER)
    hub.registry.set_quota(team, Quota(bytes=1000))
    with pytest.raises(ClientError, match=rf"the team {team} has \d+ bytes and may have 1,000"):
        client.do("hub.upload", repo=f"{team}/a", folder=folder)


def test_a_reader_may_fetch_and_not_upload(
    client: Client, hub: Server, repo: str, folder: Path, tmp_path: Path
) -> None:
    hub.registry.push_folder(folder, Submission(AdapterName.parse(repo), ()))
    token = hub.client("rita", TEAM, Role.READER).token
    assert token is not None
    with client_of(client.environment, hub.url, token, tmp_path / "home") as reader:
        assert reader.do("hub.snapshot", repo=repo, revision="v1", cache=tmp_path)
        with pytest.raises(ClientError, match="rita may not write"):
            reader.do("hub.upload_text", repo=repo, path="README.md", text="mine")


def test_somebody_elses_repository_is_absent(client: Client, hub: Server, folder: Path, tmp_path: Path) -> None:
    name = AdapterName.parse(f"others/secret-{client.environment.name}")
    hub.registry.push_folder(folder, Submission(name, ()))
    for repo in (str(name), "others/nothing"):
        with pytest.raises(ClientError) as refused:
            client.do("hub.snapshot", repo=repo, revision=None, cache=tmp_path)
        assert "RepositoryNotFoundError" in refused.value.text
        assert "there is no" in refused.value.text


def test_a_revision_and_a_file_that_arent_there_are_called_so(
    client: Client, hub: Server, repo: str, folder: Path, tmp_path: Path
) -> None:
    hub.registry.push_folder(folder, Submission(AdapterName.parse(repo), ()))
    with pytest.raises(ClientError) as refused:
        client.do("hub.one_file", repo=repo, path=WEIGHTS, revision="nothing", cache=tmp_path)
    assert "RevisionNotFoundError" in refused.value.kinds
    with pytest.raises(ClientError) as refused:
        client.do("hub.one_file", repo=repo, path="nothing.json", revision="v1", cache=tmp_path)
    assert "EntryNotFoundError" in refused.value.kinds


def test_a_revoked_version_is_not_fetched(client: Client, hub: Server, repo: str, folder: Path, tmp_path: Path) -> None:
    version = hub.registry.push_folder(folder, Submission(AdapterName.parse(repo), ())).version
    assert version is not None
    hub.registry.set_status(Reference.parse(version.reference), Status.REVOKED, reason="it leaks")
    with pytest.raises(ClientError, match="is revoked and can no longer be read"):
        client.do("hub.one_file", repo=repo, path=WEIGHTS, revision="v1", cache=tmp_path)


def test_a_wrong_token_is_said_to_be_wrong(client: Client, hub: Server, tmp_path: Path) -> None:
    with client_of(client.environment, hub.url, "adp_" + "x" * 43, tmp_path / "home") as stranger:
        told = stranger.hf("auth", "whoami")
    assert told.returncode != 0
    assert "nvalid" in told.stderr + told.stdout


def test_what_is_not_served_is_said_to_be_not_served(client: Client, repo: str) -> None:
    with pytest.raises(ClientError, match="dataset"):
        client.do("hub.create_dataset", repo=repo)
