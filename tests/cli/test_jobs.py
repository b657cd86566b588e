"""jobs and worker: what is asked for and done later, in real processes where they may die."""

import json
import os
import signal
import subprocess

import pytest

from tests.cli.test_server import serving, wait_for

SUM = "1.0*demo/sentiment@v1 + 1.0*demo/wordnet"


def asked(stocked, text=SUM, *options):
    """Ask for a blend that nobody does yet; returns its job."""
    return stocked("blend", text, "--into", "demo/new", "--no-wait", "--json", *options).json["job"]


def test_what_is_asked_for_is_done_by_a_worker(stocked):
    job = asked(stocked)
    assert (job["state"], job["title"]) == ("queued", f"{SUM.replace('1.0*', '')} into demo/new")
    assert asked(stocked)["id"] == job["id"]
    assert f"next: adapters jobs watch {job['id']}" in stocked("jobs", "show", job["id"]).out
    assert "no job waits" in stocked("worker", "--drain", "--device", "cpu").out
    done = stocked("jobs", "show", job["id"], "--json").json
    assert (done["state"], done["version"]) == ("done", 1)
    assert "demo/new@v1" in stocked("jobs", "show", job["id"]).out
    assert "demo/new@v1" in stocked("jobs", "watch", job["id"]).out
    assert json.loads(stocked("jobs", "watch", job["id"], "--json").out) == done
    assert [found["id"] for found in stocked("jobs", "list", "--json").json["jobs"]] == [job["id"]]
    assert job["id"] in stocked("jobs", "list").out
    known = stocked("blend", SUM, "--into", "demo/new", "--no-wait", "--json").json
    assert known["version"]["version"] == 1
    made = stocked("show", "demo/new", "--json").json
    assert made["digest"] == stocked("blend", SUM, "--into", "demo/here", "--json").json["version"]["digest"]
    stocked("jobs", "cancel", job["id"], code=5)


def test_a_cancelled_and_a_failed_job_give_their_own_errors(stocked):
    cancelled, failed = asked(stocked), asked(stocked, SUM, "--message", "another")
    assert stocked("jobs", "cancel", cancelled["id"], "--json").json["state"] == "cancelled"
    assert stocked("jobs", "watch", cancelled["id"], code=1).err == (
        f"error: job {cancelled['id']} was cancelled; nothing of it was kept\n"
    )
    stocked("revoke", "demo/wordnet@v1", "--reason", "leaked", "--force")
    stocked("worker", "--drain")
    assert "demo/wordnet@v1 is revoked" in stocked("jobs", "watch", failed["id"], code=4).err
    assert "demo/wordnet@v1 is revoked" in stocked("jobs", "show", failed["id"]).out
    stocked("jobs", "show", "0", code=3)


@pytest.mark.parametrize("option", [["--device", "cpu"], ["--base", "."]])
def test_what_is_about_the_machine_that_computes_is_refused_elsewhere(stocked, option, monkeypatch):
    stocked("blend", SUM, "--into", "demo/new", "--no-wait", *option, code=2)
    monkeypatch.setenv("ADAPTERS_REGISTRY", "http://127.0.0.1:9")
    failed = stocked("blend", SUM, "--into", "demo/new", *option, code=4)
    assert f"`adapters blend {option[0]}` does not work against a server" in failed.err
    assert "does not work against a server" in stocked("worker", code=4).err


def test_a_job_outlives_its_worker_and_nothing_is_seen_before_it_is_whole(stocked, monkeypatch):
    here = stocked("blend", SUM, "--into", "demo/here", "--json").json
    with serving() as (said, server):
        assert said["jobs"]
        monkeypatch.setenv("ADAPTERS_REGISTRY", said["url"])
        first = wait_for(lambda: worker_of(server.pid))
        job = asked(stocked)
        wait_for(lambda: shown(stocked, job)["state"] == "running")
        os.kill(first, signal.SIGKILL)
        stocked("show", "demo/new", code=3)
        line = stocked("jobs", "watch", job["id"], "--json").out.splitlines()[-1]
        done = json.loads(line)
        assert (done["state"], done["attempts"], done["version"]) == ("done", 2, 1)
        there = stocked("blend", SUM, "--into", "demo/there", "--json").json
        assert there["version"]["digest"] == here["version"]["digest"]
        assert {**there, "version": None} == {**here, "version": None}  # the report, too
        second = wait_for(lambda: worker_of(server.pid))
        assert first != second
        server.kill()
        wait_for(lambda: not lives(second))


def shown(stocked, job):
    return stocked("jobs", "show", job["id"], "--json").json


def worker_of(server):
    """The process of a server that runs jobs; None while there is none."""
    command = ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(server)]
    listed = subprocess.run(command, capture_output=True, text=True).stdout
    found = [line.split(maxsplit=1) for line in listed.splitlines()]
    return next((int(pid) for pid, line in found if "cli.worker" in line), None)


def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
