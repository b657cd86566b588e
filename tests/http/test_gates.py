"""Gates over HTTP: set, closed, approved, open."""

from pathlib import Path

from registry.domain.reference import AdapterName
from registry.domain.rights import Role
from registry.service.publishing import Submission
from tests.factories import write_adapter
from tests.http.conftest import Server

OURS = "/v1/adapters/ours/a"


def test_a_gate_is_set_shown_approved_and_removed(server: Server, tmp_path: Path) -> None:
    name = AdapterName("ours", "a")
    server.registry.push_folder(write_adapter(tmp_path / "a"), Submission(name=name, files=()))
    admin, other = server.client(), server.client("bob", "ours", Role.MAINTAINER)
    gate = {"requirements": [{"metric": "f1", "bound": 0.8}], "approvals": 1}
    assert other.request("PUT", f"{OURS}/aliases/production/gate", json=gate).status == 403
    made = admin.request("PUT", f"{OURS}/aliases/production/gate", json=gate).json()
    assert other.get(f"{OURS}/gates").json() == {"gates": [made]}
    approved = other.request("POST", f"{OURS}/aliases/production/approvals", json={"version": 1})
    assert (approved.status, approved.json()["principal"]) == (201, "bob")
    assert admin.request("DELETE", f"{OURS}/aliases/production/gate").status == 204
    assert admin.get(f"{OURS}/gates").json() == {"gates": []}


def test_a_bound_that_is_no_number_is_refused(server: Server) -> None:
    body = b'{"requirements": [{"metric": "f1", "bound": NaN}]}'
    headers = {"Content-Type": "application/json"}
    answer = server.client().request("PUT", f"{OURS}/aliases/production/gate", body=body, headers=headers)
    assert (answer.status, answer.json()["error"]) == (422, "wrong_usage")
