"""The server held against its own OpenAPI document: requests as documented and requests that are not.

Whatever comes, no answer is a failure of the server, each has a documented status, content type and shape, and what is
not as documented is refused. Half of the paths name what there is, so that requests get past the first look-up.

Source: schemathesis, https://schemathesis.readthedocs.io
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from registry.domain.reference import AdapterName, Reference
from registry.http.app import create_app
from registry.http.settings import ServerSettings
from registry.service.publishing import Submission
from tests.factories import TOY, toy_base, write_adapter
from tests.http.conftest import Server, running

EXAMPLES = int(os.environ.get("ADAPTERS_TEST_EXAMPLES", "6"))  # of each operation
SECONDS = 10.0  # of one request,
OF_A_STREAM = 4.0  # and after which a stream of events has shown what it is
WATCH = "/v1/watch"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
THERE = {"team": "ours", "name": "a", "version": "1", "alias": "production", "principal": "carol", "path": "README.md"}
DOCUMENT = create_app(
    lambda: pytest.fail("nothing is opened"), ServerSettings.from_environment({}, host="127.0.0.1", port=1)
).openapi()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods]


@pytest.fixture(scope="module")
def server(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with an adapter of three versions, and an alias that has moved."""
    folder = tmp_path_factory.mktemp("schema")
    shutil.copyfile(sqlite_template, folder / "registry.db")
    with running(f"sqlite:///{folder}/registry.db", (folder / "blobs").as_uri()) as server:
        server.registry.add_base(TOY, toy_base())
        for seed in range(3):
            adapter = write_adapter(folder / str(seed), seed=seed)
            server.registry.push_folder(adapter, Submission(name=AdapterName("ours", "a"), files=()))
        for version in (1, 2):
            server.registry.promote(Reference.parse(f"ours/a@v{version}"), "production")
        yield server


@pytest.fixture(scope="module")
def session(server: Server) -> Iterator[requests.Session]:
    """An operator's connection."""
    with requests.Session() as session:
        yield session


@pytest.fixture
def token(server: Server) -> str:
    """An operator's token, for one operation: some of them revoke tokens."""
    token = server.client().token
    assert token is not None
    return token


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_answers_are_as_documented(
    method: str, path: str, server: Server, session: requests.Session, token: str
) -> None:
    operation = SCHEMA[path][method]
    modes = [operation.as_strategy(generation_mode=mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)]

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(modes), st.booleans())
    def hold(case: Case, there: bool) -> None:
        arrange(case, there=there, token=token)
        answer = case.call(base_url=server.url, session=session, timeout=OF_A_STREAM if path == WATCH else SECONDS)
        case.validate_response(answer, checks=CHECKS)

    hold()


def arrange(case: Case, *, there: bool, token: str) -> None:
    """Let a request come from somebody, be about what there is, and end."""
    case.headers = {**dict(case.headers or {}), "Authorization": f"Bearer {token}"}
    if there and case.path_parameters:
        case.path_parameters = {name: THERE.get(name, value) for name, value in case.path_parameters.items()}
    if case.path == WATCH:
        case.headers["Accept"] = "application/json"
        case.query = {**dict(case.query or {}), "wait": 0}


def shape_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The shapes that a content may have, each as its schema."""
    schema = content.get("schema", {})
    named = [one["$ref"] for one in schema.get("anyOf", [schema]) if "$ref" in one]
    return [DOCUMENT["components"]["schemas"][name.rpartition("/")[2]] for name in named]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_operation_says_what_it_is_for_and_shows_examples(method: str, path: str) -> None:
    operation = DOCUMENT["paths"][path][method.lower()]
    assert operation["tags"] and operation["summary"] and operation["operationId"]
    contents = [operation["requestBody"]["content"]] if "requestBody" in operation else []
    contents += [answer["content"] for code, answer in operation["responses"].items() if "content" in answer]
    for kind, content in (pair for found in contents for pair in found.items()):
        shapes = shape_of(content)
        shown = "example" in content or (shapes and all("examples" in shape for shape in shapes))
        assert shown or kind == "application/octet-stream", f"{kind} without an example: {content}"
    if path.startswith("/v1/"):
        assert operation["security"] == [{"HTTPBearer": []}]
        refused = {401, 422, 429, 503} | ({400} if "requestBody" in operation else set())
        assert refused <= {int(code) for code in operation["responses"]}


def test_every_refusal_has_the_one_shape_and_no_two_operations_one_name() -> None:
    operations = [found for methods in DOCUMENT["paths"].values() for found in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        for code, answer in operation["responses"].items():
            if int(code) >= 400 and operation["operationId"] != "readyz":
                schema = answer["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Error"}, operation["operationId"]


def test_every_shape_is_explained() -> None:
    shapes = DOCUMENT["components"]["schemas"]
    assert [name for name, shape in shapes.items() if not shape.get("description")] == []
