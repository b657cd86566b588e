"""Where clients reach this server, for the absolute URLs that they want: the host that they dialled."""

from urllib.parse import quote, urlencode, urlsplit

from starlette.requests import Request

from registry.http.proxies import PREFIX
from registry.http.settings import ServerSettings


def origin_of(request: Request) -> str:
    """`https://host[:port][/path]`, as the client wrote it; other hosts than the server's own were refused before."""
    settings: ServerSettings = request.app.state.settings
    public, host = urlsplit(settings.public_url), request.headers["host"]
    prefix = request.scope.get("state", {}).get(PREFIX)
    # A proxy may leave out that it speaks TLS, or the port; for its own address the settings know both.
    if host.lower() in (public.netloc.lower(), public.hostname):
        return f"{public.scheme}://{public.netloc}{public.path if prefix is None else prefix}"
    return f"{request.url.scheme}://{host}{prefix or ''}"


def next_page(request: Request, path: str, **query: str | list[str] | None) -> dict[str, str]:
    """The header that leads to a listing's next page."""
    asked = urlencode({key: value for key, value in query.items() if value is not None}, doseq=True)
    return {"Link": f'<{origin_of(request)}{quote(path)}?{asked}>; rel="next"'}
