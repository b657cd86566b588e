"""Servers as they stand in production: with TLS; behind a proxy, on PostgreSQL and S3, in two processes."""

import datetime
import hashlib
import ipaddress
import json
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from registry.http.access import FAILURES
from tests.cli.conftest import run, spawn
from tests.conftest import Postgres
from tests.factories import EXAMPLES
from tests.servers import moto_endpoint, new_s3_url

PUBLIC = "https://registry.example"
PROXY, STRANGER = "127.0.0.2", "127.0.0.3"  # both are this machine
CLIENT, OTHER = "203.0.113.9", "203.0.113.10"


@dataclass(frozen=True)
class Running:
    """A server in processes of its own: where it listens, its operator's token, and the file of its log."""

    port: int
    token: str
    log: Path

    def line(self, request_id: str) -> dict[str, Any]:
        """What its log says of a request, which is written once the answer has been sent."""
        for _ in range(200):
            for line in self.log.read_text().splitlines():
                if request_id in line and line.endswith("}"):
                    return dict(json.loads(line))
            time.sleep(0.05)
        raise AssertionError(request_id)


@contextmanager
def running(folder: Path, *options: str, **environment: str) -> Iterator[Running]:
    """`adapters serve` until the end; what it says of itself is read first."""
    log = folder / "log"
    inherited = {"ADAPTERS_HOME": str(folder / "home"), **environment}
    with log.open("w") as errors:
        process = spawn("serve", "--port", "0", "--no-worker", "--json", *options, environment=inherited, stderr=errors)
        with process:
            assert process.stdout is not None
            text = ""
            while not text.endswith("}\n"):
                text += (line := process.stdout.readline())
                assert line, log.read_text()
            said = json.loads(text)
            (token,) = json.loads(Path(said["token_file"]).read_text()).values()
            try:
                yield Running(said["port"], token, log)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=60)


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of this machine, good for an hour, and its key."""
    folder, key = tmp_path_factory.mktemp("certificate"), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    (folder / "chain.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return folder / "chain.pem", folder / "key.pem"


def test_a_server_with_a_certificate_speaks_tls_and_nothing_else(
    certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, key = certificate
    with running(tmp_path, "--tls-cert", str(chain), "--tls-key", str(key)) as server:
        url = f"https://127.0.0.1:{server.port}"
        with urllib3.PoolManager(ca_certs=str(chain), ssl_minimum_version=ssl.TLSVersion.TLSv1_3) as pool:
            assert pool.request("GET", f"{url}/readyz").json()["ready"] is True
        with urllib3.PoolManager(retries=False) as nobody:
            with pytest.raises(urllib3.exceptions.SSLError):
                nobody.request("GET", f"{url}/healthz")
            with pytest.raises(urllib3.exceptions.HTTPError):
                nobody.request("GET", f"http://127.0.0.1:{server.port}/healthz")
        monkeypatch.setenv("ADAPTERS_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("ADAPTERS_REGISTRY", url)
        assert "certificate" in run("list", code=1).err
        monkeypatch.setenv("SSL_CERT_FILE", str(chain))
        assert run("list", "--json").json["adapters"] == []  # with the token that the server kept for this address


def test_a_token_for_an_address_without_tls_is_asked_for_with_a_warning(tmp_path: Path) -> None:
    line = ("login", "http://0.0.0.0:9", "--token-stdin")
    process = spawn(*line, environment={"ADAPTERS_HOME": str(tmp_path)}, stdin=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None and process.stdin is not None
    with process:
        warned = process.stderr.readline()  # before the token is given
        process.stdin.write("adp_none\n")
        process.stdin.close()
        assert process.wait(timeout=60) == 1
    assert "not encrypted" in warned


def test_a_command_that_shows_its_token_to_the_network_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.remote.connection.ATTEMPTS", 1)
    monkeypatch.setenv("ADAPTERS_HOME", str(tmp_path))
    monkeypatch.setenv("ADAPTERS_REGISTRY", "http://0.0.0.0:9")
    assert "not encrypted" not in run("list", code=1).err  # there is no token
    monkeypatch.setenv("ADAPTERS_TOKEN", "adp_secret")
    warned = run("list", code=1).err
    assert warned.count("http://0.0.0.0:9 is not encrypted") == 1
    assert "adp_secret" not in warned
    assert json.loads(run("list", "--json", code=1).err)["error"] == "server_failure"
    monkeypatch.setenv("ADAPTERS_REGISTRY", "http://127.0.0.1:9")
    assert "not encrypted" not in run("list", code=1).err


# -- behind a proxy, on PostgreSQL and S3 -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def production(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two processes that serve one PostgreSQL and one bucket, and trust one proxy."""
    database_url, folder = postgres.create(), tmp_path_factory.mktemp("production")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        environment = {
            "ADAPTERS_DATABASE_URL": database_url,
            "ADAPTERS_BLOBS_URL": new_s3_url(moto_endpoint()),
            "ADAPTERS_PUBLIC_URL": PUBLIC,
            "ADAPTERS_TRUSTED_PROXIES": f"{PROXY}/32",
        }
        with running(folder, "--behind-proxy", "--workers", "2", **environment) as server:
            yield server
    postgres.give_back(database_url)


def ask(server: Running, path: str, *, source: str = PROXY, **headers: str) -> urllib3.BaseHTTPResponse:
    """One request on a connection of its own, from an address of this machine."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    given = {"Host": "registry.example", "Authorization": f"Bearer {server.token}", "Connection": "close", **named}
    with urllib3.HTTPConnectionPool("127.0.0.1", server.port, source_address=(source, 0), retries=False) as pool:
        return pool.request("GET", path, headers=given, redirect=False)


@pytest.fixture(scope="module")
def pushed(production: Running, tmp_path_factory: pytest.TempPathFactory) -> Running:
    """The same server with two versions of an adapter, pushed by the program."""
    desk = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("ADAPTERS_REGISTRY", f"http://127.0.0.1:{production.port}"),
            ("ADAPTERS_TOKEN", production.token),
            ("ADAPTERS_HOME", str(desk / "home")),
        ):
            patch.setenv(name, value)
        run("team", "create", "demo")
        for example in ("minilm-sentiment-r8", "minilm-genre-r16-rslora-bf16"):
            shutil.copytree(EXAMPLES / example, desk / example)
            run("push", str(desk / example), "demo/a", "--alias", "production")
        run("pull", "demo/a@v1", "--to", str(desk / "back"))
    file = "adapter_model.safetensors"
    assert (desk / "back" / file).read_bytes() == (desk / "minilm-sentiment-r8" / file).read_bytes()
    return production


def test_what_was_pushed_is_found_by_every_process_and_lies_in_the_bucket(pushed: Running) -> None:
    found = [ask(pushed, "/v1/adapters/demo/a/resolve?ref=production").json() for _ in range(8)]
    assert {answer["version"] for answer in found} == {2}
    (file,) = [file for file in found[0]["files"] if file["path"].endswith(".safetensors")]
    assert file["url"].startswith(f"{PUBLIC}/v1/adapters/demo/a/versions/2/files/")
    there = ask(pushed, file["url"].removeprefix(PUBLIC))
    assert (there.status, there.headers["Cache-Control"]) == (302, "no-store")
    data = urllib3.request("GET", there.headers["Location"]).data
    assert hashlib.sha256(data).hexdigest() == file["sha256"]


def test_forwarded_headers_count_from_the_proxy_only(production: Running) -> None:
    spoofed = f"198.51.100.1, {CLIENT}"  # a proxy appends the address that it sees
    seen = {
        "proxied": ask(production, "/v1/me", X_Forwarded_For=spoofed, X_Request_ID="proxied"),
        "direct": ask(production, "/v1/me", source=STRANGER, X_Forwarded_For=CLIENT, X_Request_ID="direct"),
    }
    assert {answer.status for answer in seen.values()} == {200}
    assert {name: production.line(name)["client"] for name in seen} == {"proxied": CLIENT, "direct": STRANGER}


def test_names_come_from_the_settings_and_never_from_a_forwarded_header(pushed: Running) -> None:
    forged = {"X_Forwarded_Host": "evil.example", "X_Forwarded_Proto": "http", "Forwarded": "host=evil.example"}
    answer = ask(pushed, "/v1/adapters/demo/a/resolve?ref=v1", **forged)
    assert b"evil" not in answer.data and answer.json()["files"][0]["url"].startswith(PUBLIC)
    assert ask(pushed, "/healthz", Host="evil.example").status == 400


def test_guesses_are_counted_for_the_client_and_not_for_its_proxy(production: Running) -> None:
    def guess(client: str, source: str = PROXY) -> int:
        wrong = "Bearer adp_wrong"
        return ask(production, "/v1/me", source=source, X_Forwarded_For=client, Authorization=wrong).status

    most = 2 * FAILURES + 1  # each of two processes counts for itself
    assert guess(CLIENT) == 401
    assert any(guess(CLIENT) == 429 for _ in range(most))
    assert guess(OTHER) == 401
    assert any(guess(f"198.51.100.{number}", STRANGER) == 429 for number in range(most)), "it names others' addresses"


def test_traces_that_nothing_can_send_are_refused_with_the_way_to_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTERS_HOME", str(tmp_path))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delitem(sys.modules, "registry.http.tracing", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter", None)
    failed = run("serve", "--port", "0", code=1)
    assert "opentelemetry.exporter" in failed.err and "adapter-registry[otel]" in failed.err
