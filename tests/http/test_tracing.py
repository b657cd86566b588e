"""Traces as a collector gets them: a span a request below its caller's, statements and blobs below that, no secret."""

import gzip
import json
import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from registry.domain.reference import AdapterName, Reference
from registry.service.publishing import Submission
from tests.factories import TOY, toy_base, write_adapter
from tests.http.conftest import running

A = "/v1/adapters/ours/a"
TRACE, ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{ABOVE}-01"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE[::-1]}-{ABOVE}-00"}


@dataclass(frozen=True)
class Seen:
    """A span as it came over the wire."""

    name: str
    trace: str
    id: str
    above: str
    attributes: dict[str, Any]
    failed: bool


@dataclass
class Collected:
    """What a collector got, and what was logged meanwhile."""

    raw: bytes = b""
    spans: list[Seen] = field(default_factory=list)
    service: str = ""
    logged: list[dict[str, Any]] = field(default_factory=list)
    token: str = ""

    def take(self, body: bytes) -> None:
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.service = values(resource.resource)["service.name"]
            self.spans += [
                Seen(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    values(span),
                    span.status.code == 2,
                )
                for scope in resource.scope_spans
                for span in scope.spans
            ]

    def of(self, request_id: str) -> Seen:
        (found,) = (span for span in self.spans if span.attributes.get("adapters.request_id") == request_id)
        return found

    def below(self, span: Seen) -> list[Seen]:
        return [other for other in self.spans if other.above == span.id]


def values(found: Any) -> dict[str, Any]:
    return {line.key: getattr(line.value, line.value.WhichOneof("value")) for line in found.attributes}


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[str, Collected]]:
    collected = Collected()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collected.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", collected
        server.shutdown()


@pytest.fixture(scope="module")
def collected(
    collector: tuple[str, Collected], sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Collected:
    """What a collector has of a server that was asked a few things and ended."""
    folder, (address, found) = tmp_path_factory.mktemp("traced"), collector
    shutil.copyfile(sqlite_template, folder / "registry.db")
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}
    handler = Lines(found.logged)
    log = logging.getLogger("adapters.access")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        ask(folder, environment, found)
    log.removeHandler(handler)
    return found


class Lines(logging.Handler):
    def __init__(self, lines: list[dict[str, Any]]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.extend(map(json.loads, record.getMessage().splitlines()))


def ask(folder: Path, environment: dict[str, str], found: Collected) -> None:
    with running(f"sqlite:///{folder}/registry.db", (folder / "blobs").as_uri(), environment) as server:
        server.registry.add_base(TOY, toy_base())
        server.registry.push_folder(write_adapter(folder / "a"), Submission(name=AdapterName("ours", "a"), files=()))
        server.registry.promote(Reference.parse("ours/a@v1"), "production")
        client = server.client("bob", "ours")
        found.token = client.token or ""
        for request_id, path, headers in (
            ("first", A, {}),  # a token's first use is written down, which makes answers anew
            ("computed", f"{A}/resolve?ref=production&base={TOY}", SAMPLED),
            ("kept", f"{A}/resolve?ref=production&base={TOY}", SAMPLED),
            ("file", f"{A}/versions/1/files/README.md", {}),
            ("absent", "/v1/adapters/ours/none", {}),
            ("passed-over", "/healthz", SAMPLED),
            ("not-sampled", A, NOT_SAMPLED),
            ("strange", A, {"traceparent": "00-zz-\xff"}),
        ):
            client.get(path, headers={**headers, "X-Request-ID": request_id})


def test_a_request_is_a_span_below_that_of_its_caller(collected: Collected) -> None:
    span = collected.of("computed")
    assert (span.name, span.trace, span.above) == (f"GET {A_ROUTE}/resolve", TRACE, ABOVE)
    assert span.attributes == {
        "http.request.method": "GET",
        "http.route": f"{A_ROUTE}/resolve",
        "http.response.status_code": 200,
        "url.path": f"{A}/resolve",
        "client.address": "127.0.0.1",
        "adapters.request_id": "computed",
        "adapters.caller": "bob",
        "adapters.team": "ours",
    }
    assert collected.service == "adapters"


A_ROUTE = "/v1/adapters/{team}/{name}"


def test_statements_and_blobs_are_below_the_request_that_they_are_for(collected: Collected) -> None:
    statements = collected.below(collected.of("computed"))
    assert {"SELECT"} <= {span.name for span in statements}
    assert all(span.attributes["db.system.name"] == "sqlite" for span in statements)
    assert any("FROM" in span.attributes["db.query.text"] for span in statements)
    assert "blobs.open" in {span.name for span in collected.below(collected.of("file"))}
    requests = {span.id for span in collected.spans if "http.route" in span.attributes}
    assert {span.above for span in collected.spans if "http.route" not in span.attributes} <= requests


def test_a_kept_answer_is_a_span_too_and_asks_nobody(collected: Collected) -> None:
    span = collected.of("kept")
    assert (span.attributes["http.route"], span.attributes["adapters.team"]) == (f"{A_ROUTE}/resolve", "ours")
    assert (span.attributes["adapters.caller"], collected.below(span)) == ("bob", [])


def test_who_names_no_trace_begins_one_and_what_is_absent_is_no_failure(collected: Collected) -> None:
    for request_id, status in (("absent", 404), ("strange", 200)):
        span = collected.of(request_id)
        assert (span.above, span.failed, span.attributes["http.response.status_code"]) == ("", False, status)
        assert span.trace != TRACE


def test_health_and_what_the_caller_does_not_sample_are_passed_over(collected: Collected) -> None:
    seen = {span.attributes.get("adapters.request_id") for span in collected.spans}
    assert not {"passed-over", "not-sampled"} & seen
    assert NOT_SAMPLED["traceparent"].split("-")[1] not in {span.trace for span in collected.spans}


def test_no_span_holds_a_token_a_query_or_a_value(collected: Collected) -> None:
    assert collected.token.startswith("adp_")
    for secret in (collected.token, TOY, "ref=", "Bearer"):
        assert secret.encode() not in collected.raw


def test_every_attribute_is_explained(collected: Collected) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
    assert [key for span in collected.spans for key in span.attributes if f"`{key}`" not in page] == []


def test_a_line_of_log_names_its_trace(collected: Collected) -> None:
    lines = {line["request_id"]: line for line in collected.logged}
    assert lines["computed"]["trace_id"] == TRACE
    assert "trace_id" not in lines["passed-over"]


NOTHING = """
import sys
from registry.http.app import create_app
from registry.http.settings import ServerSettings
create_app(None, ServerSettings.from_environment({}, host="127.0.0.1", port=1))
sys.exit(any(name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")) for name in sys.modules))
"""


def test_nothing_of_it_is_loaded_where_nobody_asked_for_it() -> None:
    assert subprocess.run([sys.executable, "-c", NOTHING], timeout=60).returncode == 0
