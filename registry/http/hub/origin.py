"""Where clients reach this server, for the absolute URLs that they want: the host that they dialled."""

from starlette.requests import Request


def origin_of(request: Request) -> str:
    """`https://host[:port]`, as the client wrote it; other hosts than the server's own were refused before."""
    return f"{request.url.scheme}://{request.headers['host']}"
