"""A server in a process of its own: python -m tests.http.worker DATABASE_URL BLOBS. Its first line is its address."""

import socket
import sys
from pathlib import Path

import uvicorn

from registry.blobs.filesystem import FolderStore
from registry.http.app import create_app
from registry.http.counter import Protocol
from registry.http.settings import ServerSettings
from registry.service import Registry
from registry.sql.engine import Database


def main() -> None:
    database_url, blobs = sys.argv[1:]
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    settings = ServerSettings.from_environment({}, host="127.0.0.1", port=port)
    app = create_app(lambda: Registry(Database(database_url), FolderStore(Path(blobs))), settings)
    print(f"http://127.0.0.1:{port}", flush=True)
    uvicorn.Server(uvicorn.Config(app, http=Protocol, proxy_headers=False, log_level="warning", access_log=False)).run(
        sockets=[listening]
    )


if __name__ == "__main__":
    main()
