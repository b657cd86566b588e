"""One worker of the server that benchmarks.http asks: DATABASE_URL BLOBS SOCKET PORT."""

import socket
import sys

import uvicorn

from registry.blobs.locate import open_store
from registry.http.app import create_app
from registry.http.settings import ServerSettings
from registry.service import Registry
from registry.sql.engine import Database


def main() -> None:
    url, blobs, descriptor, port = sys.argv[1:]
    settings = ServerSettings.from_environment({}, host="127.0.0.1", port=int(port))
    app = create_app(lambda: Registry(Database(url), open_store(f"file://{blobs}")), settings)
    listening = socket.socket(fileno=int(descriptor))
    config = uvicorn.Config(app, log_level="warning", access_log=False, loop="uvloop", http="httptools")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
