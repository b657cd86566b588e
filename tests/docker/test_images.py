"""The images' files, as far as they can be held to something without an engine. `make check-docker` goes further."""

import re
import subprocess
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from packaging.requirements import Requirement

from cli.main import program

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
FROM_OUTSIDE = ("AWS_", "OTEL_", "POSTGRES_")


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """A Dockerfile's instructions in their order, each with its arguments on one line."""
    lines = [line for line in dockerfile.read_text().splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined)]


def extras_of(dockerfile: Path) -> list[str]:
    (found,) = re.findall(r"docker/install \S+ (\S+)", dockerfile.read_text())
    return str(found).split(",")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_runs_as_nobody_and_says_how_it_is(dockerfile: Path) -> None:
    found = dict(instructions(dockerfile))  # the last of each
    assert re.fullmatch("[1-9][0-9]{3,}:[1-9][0-9]{3,}", found["USER"])
    assert found["STOPSIGNAL"] == "SIGTERM" and found["ENTRYPOINT"] == '["adapters"]'
    assert "/readyz" in found["HEALTHCHECK"] or "worker" in dockerfile.name


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_is_built_from_all_of_the_program_and_from_nothing_else(dockerfile: Path) -> None:
    copied = [rest.split()[:-1] for name, rest in instructions(dockerfile) if name == "COPY" and "--from" not in rest]
    sources = {source for line in copied for source in line}
    assert all((ROOT / source).exists() for source in sources)
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) < sources
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert let_through == sources
    assert set(extras_of(dockerfile)) <= set(PROJECT["project"]["optional-dependencies"])


def test_what_the_server_is_made_of_holds_no_torch_and_is_all_pinned() -> None:
    pinned = {
        Requirement(line).name.lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()
    }
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = PROJECT["project"]["dependencies"] + [
        line for extra in extras_of(DOCKER / "server.Dockerfile") for line in extras[extra]
    ]
    found = closure([line for line in map(Requirement, wanted) if applies(line, set())])
    assert {"fastapi", "uvicorn", "psycopg-binary", "boto3", "opentelemetry-sdk"} <= found <= pinned
    assert not {"torch", "numpy", "safetensors", "transformers", "pytest"} & found


def closure(wanted: list[Requirement]) -> set[str]:
    """The names of everything that requirements bring with them, by what is installed here."""
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        one = wanted.pop()
        key = (one.name.lower().replace("_", "-"), frozenset(one.extras))
        if key not in seen:
            seen.add(key)
            wanted += [line for line in map(Requirement, requires(one.name) or []) if applies(line, one.extras)]
    return {name for name, _ in seen}


def applies(line: Requirement, extras: set[str]) -> bool:
    return line.marker is None or any(line.marker.evaluate({"extra": extra}) for extra in {"", *extras})


def test_services_wait_for_what_they_need_and_who_is_waited_for_can_tell() -> None:
    for service in SERVICES.values():
        for name, condition in service.get("depends_on", {}).items():
            awaited = SERVICES[name]
            if condition["condition"] == "service_healthy":
                assert awaited["healthcheck"]["test"]
            else:
                assert condition["condition"] == "service_completed_successfully" and awaited["restart"] == "no"


def test_services_of_ours_can_change_nothing_but_their_home() -> None:
    assert set(OURS) == {"bucket", "migrate", "server", "worker"}
    for service in OURS.values():
        assert (service["read_only"], service["cap_drop"], service["tmpfs"]) == (True, ["ALL"], ["/tmp"])
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert {volume.partition(":")[2] for volume in service.get("volumes", [])} <= {"/var/lib/adapters"}
        assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert service in OURS.values() or re.search(r":[0-9][\w.-]*$", service["image"])


def test_every_secret_is_made_and_declared(tmp_path: Path) -> None:
    script = tmp_path / "make-secrets"
    script.write_text((DOCKER / "make-secrets").read_text())
    subprocess.run(["sh", script], check=True)
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    assert subprocess.run(["sh", script], capture_output=True).returncode == 1, "what is there is kept"
    declared = {name: Path(secret["file"]).name for name, secret in COMPOSE["secrets"].items()}
    assert set(declared.values()) == {file.name for file in (tmp_path / "secrets").iterdir()}
    assert {name for service in SERVICES.values() for name in service.get("secrets", [])} == set(declared)
    mounted = re.findall(r"/run/secrets/([\w-]+)", (DOCKER / "compose.yaml").read_text())
    assert set(mounted) == set(declared)
    identities = yaml.safe_load((tmp_path / "secrets" / "storage-identities.json").read_text())
    key = identities["identities"][0]["credentials"][0]["secretKey"]
    assert len(key) >= 32 and key in (tmp_path / "secrets" / "storage-credentials").read_text()
    password = (tmp_path / "secrets" / "database-password").read_text()
    assert password != key and f":{password}@postgres/" in (tmp_path / "secrets" / "database-url").read_text()


@pytest.mark.parametrize("name", [name for name, service in OURS.items() if "entrypoint" not in service])
def test_every_command_is_one_of_the_programs(name: str) -> None:
    first, *rest = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", word) for word in SERVICES[name]["command"]]
    command = program.get_command(click.Context(program), first)
    assert command is not None
    command.make_context(first, rest)


def test_every_variable_is_one_that_somebody_reads() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    for service in SERVICES.values():
        for variable in service.get("environment", {}):
            assert variable.startswith(FROM_OUTSIDE) or f"| `{variable}` |" in page


def test_the_bucket_is_made_once(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (script,) = SERVICES["bucket"]["command"]
    code = script.replace("http://storage:8333", s3_endpoint).replace('"adapters"', '"made-by-compose"')
    for _ in range(2):
        names: dict[str, Any] = {}
        exec(compile(code, "compose.yaml", "exec"), names)
        assert "made-by-compose" in [bucket["Name"] for bucket in names["s3"].list_buckets()["Buckets"]]
