"""The application: every route, behind the checks that hold for all of them."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware

from registry.http import (
    adapters,
    aliases,
    audit,
    base_files,
    bases,
    collecting,
    comparing,
    compositions,
    errors,
    files,
    gates,
    health,
    jobs,
    publishing,
    quotas,
    resolve,
    teams,
    tokens,
    uploads,
    versions,
    watch,
    webhooks,
)
from registry.http.answers import Answers, Desk
from registry.http.backlog import Backlog
from registry.http.capabilities import Capabilities
from registry.http.counter import COUNTER, Counter
from registry.http.hub import ROUTES as HUB
from registry.http.hub.cards import Cards
from registry.http.hub.entries import GitIds
from registry.http.hub.xet import Slots
from registry.http.limits import BodyLimit
from registry.http.metrics import Metrics
from registry.http.observing import Observed, Record
from registry.http.proxies import Dialled
from registry.http.publications import Publications
from registry.http.settings import ServerSettings
from registry.http.verifying import Verifier
from registry.service import Registry
from registry.service.upkeep import Upkeep

if TYPE_CHECKING:
    from registry.http.tracing import Tracing

DISTRIBUTION = "adapter-registry"
# FastAPI's own spans and logs hold queries, and whatever a caller sent that is not as documented.
_OFF: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
ROOMS = (
    health,
    resolve,
    adapters,
    versions,
    comparing,
    publishing,
    files,
    uploads,
    aliases,
    gates,
    bases,
    base_files,
    compositions,
    jobs,
    teams,
    tokens,
    audit,
    watch,
    webhooks,
    quotas,
    collecting,
)


def create_app(open_registry: Callable[[], Registry], settings: ServerSettings) -> FastAPI:
    """An application that opens its registry when its worker starts, and closes it when that ends."""

    tracing = _tracing(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Counter]]:
        opened = open_registry()
        furnish(app, tracing.observe(opened) if tracing else opened)
        app.state.tail = watch.Tail(app.state.registry)
        app.state.tail.release_on_signals()
        app.state.metrics.add(Backlog(opened.figures))
        upkeep = Upkeep(opened)
        upkeep.start()
        try:
            # What is handed out over the counter passes by the middleware that traces.
            yield {} if tracing else {COUNTER: Counter(app.state.desk, record, settings.hosts)}
        finally:
            await app.state.tail.close()
            await run_in_threadpool(app.state.verifier.close)
            await run_in_threadpool(app.state.publications.close)
            await app.state.desk.freshness.close()
            record.write()
            await run_in_threadpool(upkeep.stop)
            app.state.registry.close()
            if tracing:
                tracing.close()

    app = FastAPI(title="Adapter registry", version=version(DISTRIBUTION), lifespan=lifespan, telemetry=_OFF)
    app.state.settings = settings
    app.state.metrics = Metrics(settings.metrics_folder)
    app.state.verifier = Verifier()
    app.state.slots = Slots()
    app.state.capabilities = Capabilities(settings.secret)
    app.state.git_ids = GitIds()
    app.state.cards = Cards()
    app.state.publications = Publications()
    record = Record(app.state.metrics)
    errors.install(app)
    app.add_middleware(Answers)
    app.add_middleware(BodyLimit)
    # A page in somebody's browser can reach a server on their machine under a name of its own: such names are refused.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.hosts), www_redirect=False)
    app.add_middleware(Dialled, settings=settings)
    app.add_middleware(Observed, record=record)
    if tracing:
        app.add_middleware(tracing.middleware)
    for room in ROOMS:
        app.router.routes.extend(room.routes.routes)  # as they are: included, each is built anew by every application
    app.router.routes.extend(HUB)  # last: their templates begin with any team's name
    return app


def furnish(app: FastAPI, registry: Registry) -> None:
    """Let an application answer from a registry."""
    app.state.registry = registry
    app.state.desk = Desk(registry)
    app.state.doorkeeper = app.state.desk.doorkeeper


def _tracing(settings: ServerSettings) -> "Tracing | None":
    """Where traces go, for those who asked for them; nobody else loads any of it."""
    if not settings.traces:
        return None
    from registry.http.tracing import Tracing  # lazy: start-up time

    return Tracing(os.environ, version(DISTRIBUTION))
