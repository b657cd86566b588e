"""serve: the registry over HTTP, in one process or several."""

import gc
import logging
import multiprocessing
import os
import signal
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.command import command
from cli.output import Output, facts, next_step, warn
from cli.worker import worker_beside
from registry.domain.errors import Failure, InvalidSetting, NotAuthenticated, NotInstalled, WrongUsage
from registry.settings import Settings

if TYPE_CHECKING:
    from registry.http.settings import ServerSettings
    from registry.service import Registry

_BACKLOG = 2048
_FIGURES = "PROMETHEUS_MULTIPROC_DIR"
_SECRET = "ADAPTERS_SECRET"  # noqa: S105 - the name of a setting
_KEEP_ALIVE = 75  # seconds: longer than the usual proxy keeps an idle connection
_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a server is to run. `tls` holds the certificate's and the key's files."""

    settings: "ServerSettings"
    workers: int
    grace: int
    tls: tuple[Path, Path] | None
    behind_proxy: bool
    runs_jobs: bool


@dataclass(frozen=True, slots=True)
class Application:
    """What a worker calls to get its application; survives the way into another process."""

    settings: "ServerSettings"

    def __call__(self) -> Any:
        from registry.bootstrap import open_registry  # lazy: start-up time
        from registry.http.app import create_app  # lazy: start-up time

        _end_with_parent()
        _log_to_stderr()
        app = create_app(lambda: open_registry(os.environ), self.settings)
        gc.freeze()  # what stays as long as the process needs no looking through while requests wait
        return app


@command("serve", "adapters serve --port 8321")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8321, show_default=True, help="The port; 0 takes a free one."
)
@click.option("--workers", type=click.IntRange(1, 128), default=1, show_default=True, help="How many processes serve.")
@click.option("--behind-proxy", is_flag=True, help="A proxy in front of it speaks TLS with the clients.")
@click.option("--tls-cert", type=_FILE, help="The certificate chain, to speak TLS without a proxy.")
@click.option("--tls-key", type=_FILE, help="The certificate's key.")
@click.option(
    "--grace", type=click.IntRange(0, 3600), default=30, show_default=True, help="Seconds to finish transfers in."
)
@click.option("--no-worker", is_flag=True, help="Run no jobs here: an `adapters worker` elsewhere does.")
def serve(
    out: Output,
    host: str,
    port: int,
    workers: int,
    behind_proxy: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    grace: int,
    no_worker: bool,
) -> None:
    """Serve the registry to others over HTTP.

    By default to this machine, from ADAPTERS_HOME. The first start makes a token for you, which commands find by
    themselves when ADAPTERS_REGISTRY names this address. An address that others can reach needs TLS: either
    --tls-cert and --tls-key, or a proxy. Ctrl-C or SIGTERM ends it once running transfers are done.
    """
    _check_installed()
    tls = _checked_tls(tls_cert, tls_key)
    with _shared_figures(workers), _listen(host, port) as listening:
        settings = _settings(host, listening.getsockname()[1], tls=tls is not None, behind_proxy=behind_proxy)
        plan = Plan(settings, workers, grace, tls, behind_proxy, not no_worker)
        kept = _prepare(settings)
        out.answer(_document(plan, kept), lambda: _describe(plan, kept))
        sys.stdout.flush()
        with worker_beside() if plan.runs_jobs else nullcontext():
            _run(plan, listening)


def _check_installed() -> None:
    for package in ("fastapi", "uvicorn"):
        try:
            __import__(package)  # lazy: start-up time
        except ModuleNotFoundError:
            raise NotInstalled("serve", package, "server") from None


def _check_traces() -> None:
    try:
        import registry.http.tracing  # noqa: F401 - lazy: start-up time
    except ModuleNotFoundError as error:
        raise NotInstalled("serve", f"{error.name}, for traces,", "otel") from None


def _checked_tls(cert: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise WrongUsage("--tls-cert and --tls-key belong together")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except (ssl.SSLError, OSError) as error:
        raise InvalidSetting("--tls-cert", str(cert), f"no certificate with that key: {error}") from error
    return cert, key


def _settings(host: str, port: int, *, tls: bool, behind_proxy: bool) -> "ServerSettings":
    from registry.http.settings import ServerSettings  # lazy: start-up time

    settings = ServerSettings.from_environment(_with_secret(os.environ), host=host, port=port, tls=tls)
    if not settings.is_local and not tls and not behind_proxy:
        raise WrongUsage(
            f"{host} can be reached from outside, where tokens need TLS: "
            "give --tls-cert and --tls-key, or --behind-proxy"
        )
    if (behind_proxy or host in _ANYWHERE) and not os.environ.get("ADAPTERS_PUBLIC_URL"):
        raise InvalidSetting(
            "ADAPTERS_PUBLIC_URL", "", "set it to the address that clients use, as https://HOST[:PORT]"
        )
    if settings.traces:
        _check_traces()
    return settings


def _with_secret(environment: Mapping[str, str]) -> Mapping[str, str]:
    """The environment with the secret that is kept at home, unless it names one."""
    from registry.http.secret import kept_secret  # lazy: start-up time

    if environment.get(_SECRET):
        return environment
    return {**environment, _SECRET: kept_secret(Settings.from_environment(environment).home)}


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise Failure(f"can't listen on {host} port {port}: {error.strerror or error}") from error


def _prepare(settings: "ServerSettings") -> Path | None:
    """Open the registry once, so that what is wrong is said here; returns the file with the owner's token, if any."""
    from cli.remote.keyring import Keyring  # lazy: start-up time
    from cli.remote.origin import origin_of  # lazy: start-up time
    from registry.bootstrap import open_registry  # lazy: start-up time
    from registry.domain.targets import Targets  # lazy: start-up time

    ours = Settings.from_environment(os.environ)
    Targets.parse(ours.webhook_targets)
    keyring, origin = Keyring(ours.home), origin_of(settings.public_url)
    registry = open_registry(os.environ)
    try:
        if not _stands(registry, keyring.token(origin)):
            if not ours.embedded and registry.tokens():
                return None  # a shared database, which somebody has set up already
            keyring.keep(origin, registry.create_token(f"serve {origin}", operator=True).secret)
    finally:
        registry.close()
    return keyring.path


def _stands(registry: "Registry", token: str | None) -> bool:
    try:
        return token is not None and bool(registry.authenticate(token))
    except NotAuthenticated:
        return False


def _document(plan: Plan, kept: Path | None) -> dict[str, Any]:
    settings = plan.settings
    return {
        "url": settings.public_url,
        "host": settings.host,
        "port": settings.port,
        "workers": plan.workers,
        "jobs": plan.runs_jobs,
        "pid": os.getpid(),
        "token_file": str(kept) if kept else None,
    }


def _describe(plan: Plan, kept: Path | None) -> None:
    url = plan.settings.public_url
    processes = "1 process" if plan.workers == 1 else f"{plan.workers} processes"
    login = f"this account has a token in {kept}" if kept else "with a token of `adapters token create`"
    facts(
        [
            ("serving", url),
            ("on", f"{plan.settings.host} port {plan.settings.port}, {processes}"),
            ("jobs", _jobs(plan)),
            ("token", login),
            ("others", f"adapters token create NAME --for WHO, and for them: adapters login {url}"),
        ]
    )
    if plan.behind_proxy and not plan.settings.trusted_proxies:
        warn("every client will seem to have the proxy's address: set ADAPTERS_TRUSTED_PROXIES to what it is")
    if not Settings.from_environment(os.environ).embedded and not os.environ.get(_SECRET):
        warn(f"{_SECRET} is not set: other servers of this database refuse the upload addresses that this one gives")
    next_step(f"ADAPTERS_REGISTRY={url} adapters list")


def _jobs(plan: Plan) -> str:
    if not plan.runs_jobs:
        return "asked for here, run by an `adapters worker` elsewhere"
    return "run here" if find_spec("torch") else "blends wait for an `adapters worker` elsewhere: torch isn't here"


def _run(plan: Plan, listening: socket.socket) -> None:
    import uvicorn  # lazy: start-up time

    from registry.http.counter import Protocol  # lazy: start-up time

    gc.set_threshold(700, 10, 10)  # the program's own suits short runs
    cert, key = plan.tls or (None, None)
    config = uvicorn.Config(
        Application(plan.settings),
        factory=True,
        http=Protocol,
        workers=plan.workers,
        ssl_certfile=cert,
        ssl_keyfile=key,
        proxy_headers=bool(plan.settings.trusted_proxies),
        forwarded_allow_ips=list(plan.settings.trusted_proxies),
        timeout_graceful_shutdown=plan.grace,
        timeout_keep_alive=_KEEP_ALIVE,
        backlog=_BACKLOG,
        access_log=False,
        server_header=False,
        log_level="warning",
        ws="none",
    )
    _serve_alone(uvicorn.Server(config), listening) if plan.workers == 1 else _supervise(config, listening)


def _serve_alone(server: Any, listening: socket.socket) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)  # uvicorn raises the signal again once it has ended in good order
    server.run(sockets=[listening])
    if not server.started:
        raise Failure("the server did not start; what is above says why")


def _supervise(config: Any, listening: socket.socket) -> None:
    """Several processes on one socket; one that dies is replaced."""
    from uvicorn.supervisors import Multiprocess  # lazy: start-up time

    class Supervisor(Multiprocess):
        def terminate_all(self) -> None:
            listening.close()  # or the system would go on taking connections that no worker will serve
            super().terminate_all()

    Supervisor(config, [listening]).run()


@contextmanager
def _shared_figures(workers: int) -> Iterator[None]:
    """A folder where several workers add up the figures of /metrics, unless the environment names one."""
    if workers == 1 or _FIGURES in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="adapters-figures-") as folder:
        os.environ[_FIGURES] = folder  # the workers inherit it
        yield


def _leave(_number: int, _frame: Any) -> None:
    sys.exit(0)


def _log_to_stderr() -> None:
    """One line a request, as JSON; what nobody foresaw with its traceback."""
    log = logging.getLogger("adapters")
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
    log.setLevel(logging.INFO)
    log.propagate = False


def _end_with_parent() -> None:
    """Let a worker end when its supervisor is gone, however that went: nobody would replace or stop it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch(wait: Callable[[], None]) -> None:
        wait()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, args=(parent.join,), daemon=True).start()
