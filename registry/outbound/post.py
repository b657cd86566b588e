"""One POST to a webhook's receiver, whatever that is: where it leads is judged when it is connected to.

The host is resolved once for each attempt; every address is held against the operator's list before it is connected
to, and the peer of the open connection again before a byte is sent, TLS's first included: a name that leads somewhere
else the next moment leads nowhere. Redirects are not followed, proxies of the environment not used. An attempt takes
no longer than its timeout (a resolver's own patience comes on top), and at most `MOST` bytes of an answer are read.
"""

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.client import HTTPException
from ipaddress import ip_address
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.util import Timeout

from registry.domain.errors import AdaptersError, TargetRefused
from registry.domain.targets import Target, Targets
from registry.domain.webhooks import Outcome

MOST = 64 << 10  # bytes of an answer; nobody reads them but to let the receiver finish
_LONGEST_WAIT = 3600  # seconds for which a receiver's Retry-After is obeyed
_HEADERS = {"Content-Type": "application/json", "User-Agent": "adapter-registry", "Accept": "*/*"}


def post(url: str, body: bytes, headers: Mapping[str, str], *, targets: Targets, timeout: float) -> Outcome:
    """Send a body; everything that can go wrong is an outcome, told without what an inner network would give away."""
    started = time.monotonic()
    try:
        status, wait = _answered(targets.check(url), body, headers, targets=targets, timeout=timeout)
    except AdaptersError as error:
        return _failed(error.message, started)
    except (HTTPError, HTTPException, OSError, ValueError) as error:
        late = time.monotonic() - started >= timeout
        return _failed(f"no answer within {timeout:g} s" if late else _reason(error), started)
    return Outcome(status, None if 200 <= status < 300 else _refusal(status), _since(started), wait)


def _answered(
    target: Target, body: bytes, headers: Mapping[str, str], *, targets: Targets, timeout: float
) -> tuple[int, int]:
    """The status of the answer, and its Retry-After in seconds."""
    connection = _connection(target, targets, timeout)
    deadline = threading.Timer(timeout, connection.cut)
    deadline.daemon = True
    deadline.start()
    try:
        connection.request(
            "POST", target.path, body, {**_HEADERS, **headers}, preload_content=False, decode_content=False
        )
        response = connection.getresponse()
        if connection.late:  # headers that were cut off look like whole ones
            raise TimeoutError
        with suppress(HTTPError, OSError):  # the status is all that counts
            response.read(MOST, decode_content=False)
        return response.status, _asked_wait(response.headers.get("Retry-After", ""))
    finally:
        deadline.cancel()
        connection.close()
        connection.forget()


class _Guarded:
    """What both kinds of connections have in common: whom they may connect to, and that they can be cut off."""

    target: Target
    targets: Targets
    _handle: socket.socket | None = None
    late = False

    def cut(self) -> None:
        """End the connection from another thread, in the middle of a handshake too."""
        self.late = True
        if self._handle is not None:
            try:
                self._handle.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it has ended by itself

    def forget(self) -> None:
        if self._handle is not None:
            self._handle.close()

    def _new_conn(self) -> socket.socket:
        opened = self._connected()
        self._handle = opened.dup()  # TLS takes the socket's own descriptor away
        if self.late:
            self.cut()
        return opened

    def _connected(self) -> socket.socket:
        last: OSError | None = None
        for family, address in self._addresses():
            opened = socket.socket(family, socket.SOCK_STREAM)
            try:
                opened.settimeout(self.timeout)  # type: ignore[attr-defined]
                opened.connect(address)
                self._check(opened.getpeername()[0])
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return opened
            except OSError as error:
                last = error
                opened.close()
            except BaseException:
                opened.close()
                raise
            if self.late:
                break
        raise NewConnectionError(self, str(last)) from last  # type: ignore[arg-type]

    def _addresses(self) -> Iterator[tuple[socket.AddressFamily, Any]]:
        """Where the host leads to now. Raises TargetRefused at the first address that may not be called."""
        found = socket.getaddrinfo(self.target.host, self.target.port, type=socket.SOCK_STREAM)
        for family, _, _, _, address in found:
            self._check(str(address[0]))
            yield family, address

    def _check(self, address: str) -> None:
        if not self.targets.admits(self.target, ip_address(address.partition("%")[0])):
            raise TargetRefused(self.target.host, "it leads to an address that may not be called")


class _Plain(_Guarded, HTTPConnection):
    """http."""


class _Secure(_Guarded, HTTPSConnection):
    """https; certificates are verified."""


def _connection(target: Target, targets: Targets, timeout: float) -> _Plain | _Secure:
    patience = Timeout(total=timeout).connect_timeout
    if target.scheme == "https":
        secure = _Secure(target.host, target.port, timeout=patience, ssl_context=ssl.create_default_context())
        secure.target, secure.targets = target, targets
        return secure
    plain = _Plain(target.host, target.port, timeout=patience)
    plain.target, plain.targets = target, targets
    return plain


def _reason(error: Exception) -> str:
    """In our words: a driver's may tell an inner network's addresses."""
    if isinstance(error, socket.gaierror):
        return "its name leads nowhere"
    if isinstance(error, ssl.SSLError):
        return "its certificate or TLS is not right"
    if isinstance(error, NewConnectionError):
        return "it can't be reached"
    return "it broke the connection off, or answered no HTTP"


def _refusal(status: int) -> str:
    return f"it redirects, which is not followed ({status})" if 300 <= status < 400 else f"it answered {status}"


def _asked_wait(text: str) -> int:
    return min(int(text[:9]), _LONGEST_WAIT) if text.isascii() and text.isdigit() else 0


def _failed(error: str, started: float) -> Outcome:
    return Outcome(None, error, _since(started))


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
