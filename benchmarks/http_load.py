"""Asking an HTTP server as fast as it answers, from processes that do next to nothing else.

Requests are bytes made beforehand, sent over raw sockets that stay open, one under way on each at any time, so that the
server never waits for a client. Clients and servers share the machine's cores: requests/s are what is left to the
server; its own processor time is told beside them.
"""

import itertools
import multiprocessing
import os
import secrets
import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

CLIENTS = 2  # processes
CONNECTIONS = 8  # of each
SECONDS = 0.4  # of one measurement
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """Where requests go, and which: one after the other, again and again; `{n}` becomes a number that is new."""

    port: int
    requests: tuple[str, ...]
    status: int = 200
    seconds: float = SECONDS


@dataclass
class Figures:
    """Requests/s of each round, how long each request took (s), and the server's processor time (s)."""

    rates: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    cpu: float = 0.0

    def percentile(self, percent: int) -> float:
        """In milliseconds."""
        return statistics.quantiles(self.times, n=100, method="inclusive")[percent - 1] * 1e3

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def cpu_each(self) -> float:
        """Microseconds of the server's processor time for one request."""
        return self.cpu / len(self.times) * 1e6

    def times_of(self, other: "Figures") -> float:
        """How many times the other's requests/s these are, round by round."""
        return statistics.median(ours / theirs for ours, theirs in zip(self.rates, other.rates, strict=True))


def measure(load: Load, figures: Figures, *, group: int) -> None:
    """One round of a load on a server whose processes are a process group."""
    before = processor_seconds(group)
    with multiprocessing.get_context("fork").Pool(CLIENTS) as pool:
        done = pool.map(_client, [load] * CLIENTS, chunksize=1)
    figures.cpu += processor_seconds(group) - before
    figures.rates.append(sum(len(times) / seconds for times, seconds in done))
    figures.times.extend(time for times, _ in done for time in times)


def processor_seconds(group: int) -> float:
    """What the processes of a group have used of the processors so far."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[2]) == group:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICK


def _client(load: Load) -> tuple[list[float], float]:
    """Keep every connection busy for a while."""
    connections = [_Connection(load.port) for _ in range(CONNECTIONS)]
    times: list[float] = []
    expected = f"HTTP/1.1 {load.status}".encode()
    requests = _Requests(load.requests)
    started_at = time.perf_counter()
    while time.perf_counter() - started_at < load.seconds:
        for connection in connections:
            connection.send(next(requests))
        for connection in connections:
            answer = connection.answer()
            times.append(time.perf_counter() - connection.sent_at)
            assert answer.startswith(expected), answer[:300]
    seconds = time.perf_counter() - started_at
    for connection in connections:
        connection.close()
    return times, seconds


class _Connection:
    """A connection that stays open; a server that closes it between two requests is connected to again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = self._open()
        self._request = b""
        self.sent_at = 0.0

    def send(self, request: bytes) -> None:
        self._request, self.sent_at = request, time.perf_counter()
        try:
            self._socket.sendall(request)
        except ConnectionError:
            self._again()

    def answer(self) -> bytes:
        try:
            return _answer(self._socket)
        except ConnectionError:
            self._again()
            return _answer(self._socket)

    def close(self) -> None:
        self._socket.close()

    def _again(self) -> None:
        self._socket.close()
        self._socket = self._open()
        self._socket.sendall(self._request)

    def _open(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port))


class _Requests:
    """The requests of a load as bytes, without end."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._turns = itertools.cycle([text.encode() for text in texts])
        self._numbers = itertools.count(secrets.randbelow(10**8) + 10**8)
        for _ in range(secrets.randbelow(len(texts))):
            next(self._turns)

    def __next__(self) -> bytes:
        request = next(self._turns)
        return request.replace(b"{n}", b"%d" % next(self._numbers)) if b"{n}" in request else request


def _answer(connection: socket.socket) -> bytes:
    answer = _more(connection)
    while (end := answer.find(b"\r\n\r\n")) < 0:
        answer += _more(connection)
    length = _length(answer[:end].lower())
    while len(answer) < end + 4 + length:
        answer += _more(connection)
    return answer


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(65536)
    if not received:
        raise ConnectionResetError("the server closed the connection")
    return received


def _length(head: bytes) -> int:
    at = head.find(b"content-length: ")
    return int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
