"""worker: runs the jobs of a registry; as a command, and beside a server, which starts it again when it dies."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import click

from cli.client import refuse_on_server
from cli.command import command
from cli.output import Output, facts, say

_POLITE = 10  # what is added to the niceness of a worker beside a server: look-ups come first
_GRACE = 10.0  # seconds to stop at the next module in, before it is killed: its job is done again
_LONGEST_PAUSE = 30.0  # seconds before a worker that keeps dying is started again


@command("worker", "adapters worker --drain")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]", help="Where to compute.")
@click.option("--slot", help="A name that it keeps over restarts, to take up at once what it left. One worker each.")
@click.option("--drain", is_flag=True, help="End when no job waits any more.")
def worker(out: Output, device: str, slot: str | None, drain: bool) -> None:
    """Run the jobs that were asked for, one after another.

    `adapters serve` runs one by itself; others, on as many machines as have the same database and blobs, share the
    work. Ctrl-C or SIGTERM ends it at the next module, and gives its job back.
    """
    refuse_on_server("worker", "it needs the registry's database and blobs", "run it where those are configured")
    slot = slot or f"worker-{uuid.uuid4().hex[:12]}"
    done = {"slot": slot, "device": device, "drained": drain}
    if not drain:
        out.answer(done, lambda: facts([("worker", slot), ("on", device)]))
        sys.stdout.flush()
    _work(slot, device, drain=drain)
    if drain:
        out.answer(done, lambda: say("no job waits"))


def _work(slot: str, device: str, *, drain: bool = False, parent: int | None = None) -> None:
    from composition.worker import Worker  # lazy: start-up time
    from registry.bootstrap import open_registry  # lazy: start-up time

    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent, stopping), daemon=True).start()
    if not drain:
        _log_to_stderr()
    registry = open_registry(os.environ)
    try:
        Worker(registry, slot, stopping, device).run(drain=drain)
    finally:
        registry.close()


def _end_with(parent: int, stopping: threading.Event) -> None:
    """Stop when the process that started this one is gone, however that went."""
    while os.getppid() == parent:
        time.sleep(0.5)
    stopping.set()


def _log_to_stderr() -> None:
    log = logging.getLogger("adapters")
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
    log.setLevel(logging.INFO)
    log.propagate = False


# -- beside a server --------------------------------------------------------------------------------------------------


@contextmanager
def worker_beside() -> Iterator[None]:
    """A worker in a process of its own while the context lasts."""
    beside = _Beside()
    beside.start()
    try:
        yield
    finally:
        beside.stop()


class _Beside:
    """Keeps one worker alive, in a slot of its own: the next one takes up at once what a dead one left."""

    def __init__(self) -> None:
        self._slot = f"serve-{uuid.uuid4().hex[:12]}"
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                self._process.terminate()
        self._thread.join(_GRACE)
        if self._thread.is_alive() and self._process is not None:
            self._process.kill()
            self._thread.join()

    def _keep(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            began = time.monotonic()
            with self._lock:
                if self._stopping.is_set():
                    return
                self._process = self._spawn()
            self._process.wait()
            pause = 0.0 if time.monotonic() - began > _LONGEST_PAUSE else min(2 * pause + 0.1, _LONGEST_PAUSE)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        # A session of its own: Ctrl-C is for the server, which then ends this one. -P: what lies in the folder that it
        # was started in is none of our modules.
        line = [sys.executable, "-P", "-m", "cli.worker", self._slot, str(os.getpid())]
        return subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)


def _main(slot: str, parent: str) -> None:
    os.nice(_POLITE)
    _work(slot, "auto", parent=int(parent))


if __name__ == "__main__":
    _main(*sys.argv[1:])
