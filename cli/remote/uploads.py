"""Files to a server: in parts, several at once, continued where an earlier attempt was cut off.

The server says which parts it has and where the others go: to itself, or straight to its store by URLs without a
token. It reads and hashes what came before anybody can refer to it.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.domain.errors import Failure, ServerFailure, UploadBusy, UploadIncomplete, UploadNotFound
from registry.service.landing import Moved

if TYPE_CHECKING:
    from cli.remote.connection import Connection

Verified = Callable[[int, int], None]  # bytes that the server has verified, of how many
PARALLEL = 4
ROUNDS = 6  # attempts at what is missing, in a row without a part that arrived
_CHUNK = 256 << 10  # bytes
_WAIT = 0.2  # seconds, doubled each round
_LOOK = 0.5  # seconds between two questions how far the server is


def unwatched(_count: int) -> None:
    """Progress that nobody wants to know."""


def _unseen(_done: int, _total: int) -> None:
    """The same of what the server verifies."""


def upload_file(
    connection: "Connection",
    team: str,
    path: Path,
    *,
    sha256: str,
    size: int,
    progress: Moved = unwatched,
    verified: Verified = _unseen,
) -> int:
    """Let a team have a file of `size` bytes and this digest; returns how many bytes had to be sent.

    Nothing is sent that the team has already. Raises what the server answers (DigestMismatch for a file that isn't
    what was said), and ServerFailure.
    """
    sending = _Sending(connection, {"team": team, "sha256": sha256, "size": size}, path, progress, verified)
    fruitless = 0
    while True:
        before = sending.arrived
        try:
            sending.attempt()
            return sending.arrived
        except (Failure, UploadIncomplete, UploadBusy, UploadNotFound):
            fruitless = 0 if sending.arrived > before else fruitless + 1
            if fruitless >= ROUNDS or not sending.reached:
                raise
        time.sleep(_WAIT * 2**fruitless)


@dataclass(slots=True)
class _Sending:
    """A file on its way: attempts, each of which sends what is missing by then."""

    connection: "Connection"
    wanted: Mapping[str, Any]
    path: Path
    progress: Moved
    verified: Verified
    arrived: int = 0  # bytes of parts that were acknowledged
    reached: bool = False  # whether the server ever answered

    def attempt(self) -> None:
        upload = self._post("/v1/uploads", self.wanted)
        self.reached = True
        if upload["state"] == "open":
            self._send_missing(upload["parts"])
            upload = self._post(f"/v1/uploads/{upload['id']}/complete", None)
        while upload["state"] == "verifying":
            self.verified(int(upload["progress"]["done"]), int(upload["progress"]["of"]))
            time.sleep(_LOOK)
            upload = self.connection.get(f"/v1/uploads/{upload['id']}")
        if upload["state"] != "done":  # whoever verified it was ended: the next attempt has it done again
            raise ServerFailure("it stopped verifying before it was done", self.connection.url)

    def _post(self, path: str, document: Any) -> dict[str, Any]:
        """Both requests may be repeated, which the key tells the connection."""
        key = {"Idempotency-Key": self.wanted["sha256"]}
        answer: dict[str, Any] = self.connection.request("POST", path, json=document, headers=key).document
        return answer

    def _send_missing(self, parts: Sequence[Mapping[str, Any]]) -> None:
        """Send what isn't there, all of it that can be sent; then raise what went wrong with the rest."""
        offset, pieces = 0, []
        for part in parts:
            if not part["there"]:
                pieces.append(_Piece(self.path, offset, part["size"], part["url"], self.progress))
            offset += part["size"]
        failures: list[ServerFailure | UploadBusy] = []
        with ThreadPoolExecutor(PARALLEL, thread_name_prefix="upload") as threads:
            for piece, sent in [(piece, threads.submit(piece.send, self.connection)) for piece in pieces]:
                try:
                    sent.result()
                    self.arrived += piece.size
                except (ServerFailure, UploadBusy) as error:  # an expired URL too: the next attempt gets fresh ones
                    failures.append(error)
                except BaseException:
                    threads.shutdown(cancel_futures=True)
                    raise
        if failures:
            raise failures[0]


@dataclass(slots=True)
class _Piece:
    """A part of a file on its way; `counted` bytes of it were told to whoever watches."""

    path: Path
    offset: int
    size: int
    url: str
    progress: Moved
    counted: int = 0

    def send(self, connection: "Connection") -> None:
        try:
            connection.transmit("PUT", self.url, body=self._chunks, size=self.size)
        except BaseException:
            self._take_back()
            raise

    def _chunks(self) -> Iterator[bytes]:
        self._take_back()
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            while self.counted < self.size and (chunk := stream.read(min(_CHUNK, self.size - self.counted))):
                yield chunk
                self.counted += len(chunk)
                self.progress(len(chunk))

    def _take_back(self) -> None:
        if self.counted:
            self.progress(-self.counted)
            self.counted = 0
