"""Files to a server: in parts, several at once, continued where an earlier attempt was cut off.

The server says which parts it has and where the others go: to itself, or straight to its store by URLs without a
token. It reads and hashes what came before anybody can refer to it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.domain.errors import ServerFailure, UploadBusy, UploadIncomplete, UploadNotFound

if TYPE_CHECKING:
    from cli.remote.connection import Connection

Moved = Callable[[int], None]  # bytes that moved since the last call; below zero what has to move again
PARALLEL = 4
ROUNDS = 6  # attempts at what is missing, in a row without a part that arrived
_CHUNK = 256 << 10  # bytes
_WAIT = 0.2  # seconds, doubled each round


def unwatched(_count: int) -> None:
    """Progress that nobody wants to know."""


def upload_file(
    connection: "Connection", team: str, path: Path, *, sha256: str, size: int, progress: Moved = unwatched
) -> int:
    """Let a team have a file of `size` bytes and this digest; returns how many bytes had to be sent.

    Nothing is sent that the team has already. Raises what the server answers (DigestMismatch for a file that isn't
    what was said), and ServerFailure.
    """
    wanted = {"team": team, "sha256": sha256, "size": size}
    upload = _post(connection, "/v1/uploads", sha256, wanted)
    sent, fruitless = 0, 0
    while upload["state"] != "done":
        arrived, failure = _send_missing(connection, upload, path, progress=progress)
        sent += arrived
        fruitless = 0 if arrived else fruitless + 1
        try:
            if failure is None:
                upload = _post(connection, f"/v1/uploads/{upload['id']}/complete", upload["id"])
                continue
        except (UploadIncomplete, UploadBusy) as error:
            failure = error
        except UploadNotFound as error:
            failure, upload = error, _post(connection, "/v1/uploads", sha256, wanted)
        if fruitless >= ROUNDS:
            raise failure
        time.sleep(_WAIT * 2**fruitless)
        upload = _post(connection, "/v1/uploads", sha256, wanted)
    return sent


def _post(connection: "Connection", path: str, key: str, document: Any = None) -> dict[str, Any]:
    """Both requests may be repeated, which the key tells the connection."""
    answer: dict[str, Any] = connection.request("POST", path, json=document, headers={"Idempotency-Key": key}).document
    return answer


def _send_missing(
    connection: "Connection", upload: Mapping[str, Any], path: Path, *, progress: Moved
) -> tuple[int, ServerFailure | UploadBusy | None]:
    """Send what isn't there; the bytes that arrived, and what went wrong with some of them."""
    offset, pieces = 0, []
    for part in upload["parts"]:
        if not part["there"]:
            pieces.append(_Piece(path, offset, part["size"], part["url"], progress))
        offset += part["size"]
    arrived, failure = 0, None
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="upload") as threads:
        for piece, sending in [(piece, threads.submit(piece.send, connection)) for piece in pieces]:
            try:
                sending.result()
                arrived += piece.size
            except (ServerFailure, UploadBusy) as error:  # a URL that has expired is one too: the next round has others
                failure = error
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise
    return arrived, failure


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
