"""A bare static server that speaks just enough for huggingface_hub's snapshot_download: what a download costs at least.

    python -m benchmarks.hub_static FOLDER      serves it as any repository; prints the port that it takes

One thread a connection, and the kernel copies the file to the socket (sendfile). It knows no tokens and no database.
"""

import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

COMMIT = hashlib.sha1(b"the only commit", usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers a repository's facts, its tree, and its files."""

    protocol_version = "HTTP/1.1"
    folder: Path
    tags: dict[str, str]

    def do_HEAD(self) -> None:
        self._head(self._file())
        self.end_headers()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if "/resolve/" in path:
            file = self._file()
            self._head(file)
            self.end_headers()
            with file.open("rb") as stream:
                self.connection.sendfile(stream)
            return
        names = sorted(self.tags)
        if "/tree/" in path:
            self._answer([{"type": "file", "path": name, **self._facts(name)} for name in names])
        else:
            self._answer({"id": "a/b", "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]})

    def _facts(self, name: str) -> dict[str, Any]:
        size = (self.folder / name).stat().st_size
        return {"oid": COMMIT, "size": size, "lfs": {"oid": self.tags[name], "size": size, "pointerSize": 134}}

    def _file(self) -> Path:
        return self.folder / urlsplit(self.path).path.rpartition("/")[2]

    def _head(self, file: Path) -> None:
        self.send_response_only(200)
        self.send_header("Content-Length", str(file.stat().st_size))
        self.send_header("ETag", f'"{self.tags[file.name]}"')
        self.send_header("X-Repo-Commit", COMMIT)

    def _answer(self, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    folder = Path(sys.argv[1])
    tags = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    handler = type("Handler", (Handler,), {"folder": folder, "tags": tags})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
