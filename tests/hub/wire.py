"""A wire between clients and a server: it notes which requests go over it, and is cut when it is told so."""

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock, Thread
from urllib.parse import urlsplit

_REQUEST = re.compile(rb"(?:^|\n)((?:GET|HEAD|POST|PUT|DELETE) \S+) HTTP/1\.1\r\n")
_AT_ONCE = 64 << 10


@dataclass
class Wire:
    """`requests` are those that were seen: method and path. `cuts` is how often it was cut."""

    url: str
    requests: list[str] = field(default_factory=list)
    cuts: int = 0
    bytes_down: int = 0
    _left: dict[str, int] = field(default_factory=dict)
    _then: Callable[[], None] | None = None
    _lock: Lock = field(default_factory=Lock)

    def cut_after(self, way: str, count: int, then: Callable[[], None] | None = None) -> None:
        """Cut one connection when so many bytes have gone "up" or "down", and do something then."""
        with self._lock:
            self._left, self._then = {way: count}, then

    def passes(self, way: str, data: bytes) -> bool:
        """Note what goes over the wire; whether it gets there."""
        with self._lock:
            if way == "up":
                self.requests += [match.decode() for match in _REQUEST.findall(data)]
            else:
                self.bytes_down += len(data)
            if way not in self._left:
                return True
            self._left[way] -= len(data)
            if self._left[way] > 0:
                return True
            del self._left[way]
            self.cuts += 1
        if self._then:
            self._then()
        return False


@contextmanager
def wire_to(upstream: str) -> Iterator[Wire]:
    """A wire on a port of its own."""
    address = urlsplit(upstream)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        wire = Wire(f"http://127.0.0.1:{listening.getsockname()[1]}")
        accepting = Thread(target=_accept, args=(listening, (address.hostname, address.port), wire), daemon=True)
        accepting.start()
        yield wire
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
    accepting.join()


def _accept(listening: socket.socket, upstream: tuple[str, int], wire: Wire) -> None:
    while True:
        try:
            near, _ = listening.accept()
        except OSError:
            return
        far = socket.create_connection(upstream)
        Thread(target=_carry, args=("up", near, far, wire), daemon=True).start()
        Thread(target=_carry, args=("down", far, near, wire), daemon=True).start()


def _carry(way: str, source: socket.socket, target: socket.socket, wire: Wire) -> None:
    with suppress(OSError):
        while (data := source.recv(_AT_ONCE)) and wire.passes(way, data):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        source.close()
