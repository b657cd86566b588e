"""serve, login and logout: real processes, and what they refuse to do."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import urllib3

from tests.cli.conftest import spawn


@contextmanager
def serving(*options: str) -> Iterator[tuple[dict[str, Any], "subprocess.Popen[str]"]]:
    """A server as a process of its own, and what it says of itself."""
    with spawn("serve", "--port", "0", "--json", *options) as process:
        assert process.stdout is not None
        lines = []
        while not lines or lines[-1] != "}\n":
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()[1]
        try:
            yield json.loads("".join(lines)), process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=60)


def test_one_command_serves_and_the_local_program_finds_its_token(adapters, desk, tmp_path, monkeypatch):
    with serving() as (said, process):
        assert said["token_file"] == str(tmp_path / "home" / "tokens.json")
        monkeypatch.setenv("ADAPTERS_REGISTRY", said["url"])
        adapters("team", "create", "demo")
        adapters("push", "./sentiment", "demo/sentiment", "--alias", "production")
        assert adapters("list", "--json").json["adapters"][0]["aliases"] == {"production": 1}
        adapters("pull", "demo/sentiment@production", "--to", "./there")
        assert (desk / "there" / "adapter_model.safetensors").read_bytes() == (
            desk / "sentiment" / "adapter_model.safetensors"
        ).read_bytes()
        _log_in_and_out(adapters, said["url"], tmp_path, monkeypatch)
        process.send_signal(signal.SIGTERM)
        logged = process.communicate(timeout=60)[1]
    assert process.returncode == 0
    lines = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
    assert {"/v1/adapters/{team}/{name}/versions", "/v1/uploads"} <= {line["route"] for line in lines}
    assert "adp_" not in logged


def _log_in_and_out(adapters, url, tmp_path, monkeypatch):
    secret = adapters("token", "create", "laptop", "--for", "ann", "--json").json["token"]
    monkeypatch.setenv("ADAPTERS_HOME", str(tmp_path / "ann"))
    assert adapters("list", code=6, stdin="").err.splitlines()[1].startswith("run `adapters login URL`")
    assert adapters("login", url, "--token-stdin", "--json", stdin="adp_wrong\n", code=6).error
    assert not (tmp_path / "ann" / "tokens.json").exists()
    assert adapters("login", url, "--token-stdin", "--json", stdin=f"{secret}\n").json["name"] == "ann"
    assert adapters("list", "--json").json["adapters"] == []
    adapters("show", "demo/sentiment", code=3)
    assert adapters("logout", url, "--json").json["forgotten"]
    adapters("list", code=6)


def test_a_server_that_is_asked_to_end_waits_for_nobody_who_watches(adapters, desk, tmp_path):
    with serving() as (said, process):
        (token,) = json.loads((tmp_path / "home" / "tokens.json").read_text()).values()
        pool = urllib3.PoolManager()
        headers = {"Authorization": f"Bearer {token}"}
        stream = pool.request("GET", f"{said['url']}/v1/watch", headers=headers, preload_content=False, timeout=30)
        assert stream.read(6) == b": from"
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        assert time.monotonic() - began < 15  # the grace for transfers is twice that
        stream.close()
        pool.clear()


def test_a_killed_worker_is_replaced_and_none_outlives_its_supervisor(desk):
    with serving("--workers", "2") as (said, process):
        pool = urllib3.PoolManager()
        first = wait_for(lambda: found if len(found := _workers(process.pid)) == 2 else None)
        os.kill(first[0], signal.SIGKILL)
        workers = wait_for(
            lambda: found if len(found := _workers(process.pid)) == 2 and first[0] not in found else None
        )
        ready = wait_for(lambda: pool.request("GET", f"{said['url']}/readyz", retries=3, timeout=30).status == 200)
        assert ready
        process.kill()
        wait_for(lambda: not any(_lives(worker) for worker in workers))
        pool.clear()


def _workers(parent: int) -> list[int]:
    """The processes of a supervisor that serve."""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True
    ).stdout
    found = [line.split(maxsplit=1) for line in listed.splitlines()]
    return [int(pid) for pid, line in found if "spawn_main" in line]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(ready: Any) -> Any:
    for _ in range(600):
        if found := ready():
            return found
        time.sleep(0.1)
    raise AssertionError("it never came")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--host", "0.0.0.0"], "--behind-proxy"),
        (["--host", "127.0.0.1", "--behind-proxy"], "ADAPTERS_PUBLIC_URL"),
        (["--tls-cert", "sentiment/README.md"], "belong together"),
        (["--tls-cert", "sentiment/README.md", "--tls-key", "sentiment/README.md"], "no certificate"),
    ],
)
def test_what_would_send_tokens_in_the_clear_is_refused(options, text, adapters):
    assert text in adapters("serve", "--port", "0", *options, code=2).err


def test_targets_of_webhooks_that_can_not_be_meant_are_said_at_the_start(adapters, monkeypatch):
    monkeypatch.setenv("ADAPTERS_WEBHOOK_TARGETS", "public,10.0.0.0/99")
    assert "'10.0.0.0/99' is no host, network" in adapters("serve", "--port", "0", code=2).err


def test_a_port_that_is_taken_is_said(adapters):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "can't listen" in adapters("serve", "--port", str(taken.getsockname()[1]), code=1).err


def test_what_is_not_installed_is_said_with_the_way_to_have_it(adapters, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    failed = adapters("serve", code=1)
    assert "fastapi" in failed.err
    assert "adapter-registry[server]" in failed.err


@pytest.mark.parametrize("token", ["", "a b", "\x1b[31m"])
def test_what_is_no_token_is_not_sent(token, adapters):
    adapters("login", "http://127.0.0.1:9", "--token-stdin", stdin=token, code=2)


def test_what_does_not_work_against_a_server_says_so_and_what_to_do(stocked, monkeypatch, house, tmp_path):
    monkeypatch.setenv("ADAPTERS_TOKEN", house.move_in(tmp_path / "home"))
    monkeypatch.setenv("ADAPTERS_REGISTRY", house.url)
    for line in (["migrate"], ["worker"]):
        failed = stocked(*line, code=4)
        assert f"`adapters {line[0]}` does not work against a server" in failed.err.splitlines()[0]
        assert failed.err.splitlines()[1]
    house.move_out()
