"""Requests to one server: its token, timeouts, retries of what may be repeated, answers of bounded size.

A token goes to the server's own origin only, never along with a redirect to another one. Uploads and downloads are
built on `transmit` and `stream`; this room knows neither versions nor files.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode, urljoin

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, SSLError

from cli.remote.answers import MOST, document_of, error_of
from cli.remote.origin import is_exposed, origin_of
from registry.domain.errors import ServerFailure

ATTEMPTS = 4
_FIRST_WAIT = 0.2  # seconds; doubled at every attempt, with up to as much again at random
_LONGEST_WAIT = 10.0  # seconds that a server's Retry-After is obeyed for
_TIMEOUT = urllib3.Timeout(connect=10, read=120)  # seconds; a read is one wait for bytes, not a whole answer
_REPEATABLE = frozenset({"GET", "HEAD"})  # a PUT of an alias with If-Match isn't: the second would find it moved
_PASSING = frozenset({429, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ERROR_LIMIT = 1 << 20  # bytes of an error

Taken = TypeVar("Taken")
Query = Mapping[str, str | int | Iterable[str] | None]
Body = Callable[[], Iterable[bytes]]  # the bytes of a request, from their beginning whenever it is called


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    @property
    def document(self) -> Any:
        """Its JSON document. Raises ServerFailure."""
        return document_of(self.body, self.url)


class Connection:
    """One server at `url`, asked with `token` if there is one. Safe between threads."""

    def __init__(self, url: str, token: str | None, *, parallel: int = 8) -> None:
        self.url = url
        self.origin = origin_of(url)
        self._token = token
        self._pool = urllib3.PoolManager(maxsize=parallel, block=True, timeout=_TIMEOUT)

    @property
    def exposes_token(self) -> bool:
        """Whether its token goes to another machine unencrypted."""
        return self._token is not None and is_exposed(self.url)

    def get(self, path: str, query: Query | None = None, *, headers: Mapping[str, str] | None = None) -> Any:
        """The document at a path below the server's URL. Raises what the server answers, ServerFailure."""
        return self.request("GET", path, query=query, headers=headers).document

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request with a JSON document; repeated after a failure if its method, or an Idempotency-Key, allows it.

        Raises the error that the server answered with, or ServerFailure.
        """
        import json as codec  # the parameter has the name that everybody knows

        given = dict(headers or {})
        body: bytes | None = None
        if json is not None:
            body = codec.dumps(json, allow_nan=False).encode()
            given["Content-Type"] = "application/json"
        url = f"{self.url}{path}{_query(query or {})}"
        repeat = method in _REPEATABLE or "Idempotency-Key" in given
        return self._answered(method, url, body=lambda: body, headers=given, repeat=repeat)

    def transmit(
        self, method: str, url: str, *, body: Body, size: int, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send `size` bytes to a URL (or a path of the server); another origin, as a store's, gets no token.

        A PUT is repeated after a failure, from the beginning of `body`. Raises what `request` raises.
        """
        given = {"Content-Type": "application/octet-stream", **(headers or {}), "Content-Length": str(size)}
        return self._answered(method, self._absolute(url), body=body, headers=given, repeat=method == "PUT")

    @contextmanager
    def stream(self, url: str, *, headers: Mapping[str, str] | None = None) -> Iterator[urllib3.BaseHTTPResponse]:
        """The bytes at a URL (or a path of the server), to be read while the context lasts; one redirect is followed.

        Raises what the server answers, and ServerFailure; reading raises urllib3's HTTPError.
        """
        response = self._opened(self._absolute(url), headers or {})
        try:
            if response.status in _REDIRECTS:
                response.close()
                target = urljoin(self._absolute(url), response.headers.get("Location", ""))
                response = self._opened(target, headers or {})
            _refuse(response, self.url)
            yield response
        finally:
            response.close()

    def close(self) -> None:
        """Let go of the open connections."""
        self._pool.clear()

    def _absolute(self, url: str) -> str:
        return f"{self.url}{url}" if url.startswith("/") else url

    def _answered(
        self, method: str, url: str, *, body: Callable[[], Any] | None, headers: Mapping[str, str], repeat: bool
    ) -> Answer:
        def take(response: urllib3.BaseHTTPResponse) -> Answer:
            with closing(response):
                _refuse(response, self.url)
                content = _bounded(response, MOST, self.url)
            return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, content, self.url)

        return self._tried(lambda: self._send(method, url, body=body, headers=headers), take, repeat=repeat)

    def _opened(self, url: str, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        return self._tried(lambda: self._send("GET", url, body=None, headers=headers), lambda r: r, repeat=True)

    def _tried(
        self,
        send: Callable[[], urllib3.BaseHTTPResponse],
        take: Callable[[urllib3.BaseHTTPResponse], Taken],
        *,
        repeat: bool,
    ) -> Taken:
        """What `take` makes of the response; what may be repeated outlives failures that pass."""
        for attempt in range(1, ATTEMPTS + 1):
            wait = _wait(attempt)
            try:
                response = send()
                if response.status not in _PASSING or not repeat or attempt == ATTEMPTS:
                    return take(response)
                wait = _asked_wait(response) or wait
                response.close()
            except HTTPError as error:
                # Without a connection nothing has arrived: that may be repeated whatever was asked.
                again = repeat or isinstance(error, NewConnectionError)
                if attempt == ATTEMPTS or not again or isinstance(error, SSLError):
                    raise ServerFailure(_reason(error), self.url) from error
            time.sleep(wait)
        raise AssertionError

    def _send(
        self, method: str, url: str, *, body: Callable[[], Any] | None, headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        given = {"Accept": "application/json", **headers}
        if self._token and origin_of(url) == self.origin:
            given["Authorization"] = f"Bearer {self._token}"
        return self._pool.request(
            method,
            url,
            body=body() if body else None,
            headers=given,
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )


def _refuse(response: urllib3.BaseHTTPResponse, url: str) -> None:
    """Raise what a response tells of, if it isn't what was asked for."""
    if response.status in _REDIRECTS:
        raise ServerFailure(f"it redirects to {response.headers.get('Location')!r}: use the address that it means", url)
    if response.status >= 400:
        raise error_of(response.status, _bounded(response, _ERROR_LIMIT, url), url)


def _bounded(response: urllib3.BaseHTTPResponse, most: int, url: str) -> bytes:
    content = response.read(most + 1)
    if len(content) > most:
        raise ServerFailure(f"its answer is longer than {most >> 20} MB", url)
    return content


def _wait(attempt: int) -> float:
    return float(_FIRST_WAIT * 2 ** (attempt - 1) * (1 + random.random()))  # noqa: S311 - it only spreads clients


def _asked_wait(response: urllib3.BaseHTTPResponse) -> float:
    asked = response.headers.get("Retry-After", "")
    return min(float(asked[:6]), _LONGEST_WAIT) if asked.isascii() and asked.isdigit() else 0.0


def _reason(error: HTTPError) -> str:
    if isinstance(error, SSLError):
        return f"its certificate or TLS is not right: {error}"
    return f"it can't be reached: {type(error).__name__}"


def _query(query: Query) -> str:
    pairs: list[tuple[str, str]] = []
    for key, value in query.items():
        if value is None:
            continue
        if isinstance(value, str | int):
            pairs.append((key, str(value).lower() if isinstance(value, bool) else str(value)))
        else:
            pairs += [(key, item) for item in value]
    return f"?{urlencode(pairs)}" if pairs else ""
