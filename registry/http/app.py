"""The application: every route, behind the checks that hold for all of them."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.trustedhost import TrustedHostMiddleware

from registry.http import (
    adapters,
    aliases,
    audit,
    bases,
    errors,
    files,
    gates,
    health,
    publishing,
    resolve,
    teams,
    tokens,
    uploads,
    versions,
    watch,
)
from registry.http.access import Doorkeeper
from registry.http.answers import Answers
from registry.http.limits import BodyLimit
from registry.http.metrics import Metrics
from registry.http.observing import Observed
from registry.http.settings import ServerSettings
from registry.service import Registry

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
    publishing,
    files,
    uploads,
    aliases,
    gates,
    bases,
    teams,
    tokens,
    audit,
    watch,
)


def create_app(open_registry: Callable[[], Registry], settings: ServerSettings) -> FastAPI:
    """An application that opens its registry when its worker starts, and closes it when that ends."""

    tracing = _tracing(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = open_registry()
        app.state.registry = tracing.observe(opened) if tracing else opened
        app.state.tail = watch.Tail(app.state.registry)
        app.state.tail.release_on_signals()
        try:
            yield
        finally:
            await app.state.tail.close()
            app.state.registry.close()
            if tracing:
                tracing.close()

    app = FastAPI(title="Adapter registry", version=version(DISTRIBUTION), lifespan=lifespan, telemetry=_OFF)
    app.state.settings = settings
    app.state.doorkeeper = Doorkeeper()
    app.state.metrics = Metrics(settings.metrics_folder)
    errors.install(app)
    app.add_middleware(Answers, doorkeeper=app.state.doorkeeper)
    app.add_middleware(BodyLimit)
    # A page in somebody's browser can reach a server on their machine under a name of its own: such names are refused.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.hosts), www_redirect=False)
    app.add_middleware(Observed, metrics=app.state.metrics)
    if tracing:
        app.add_middleware(tracing.middleware)
    for room in ROOMS:
        app.include_router(room.routes)
    return app


def _tracing(settings: ServerSettings) -> "Tracing | None":
    """Where traces go, for those who asked for them; nobody else loads any of it."""
    if not settings.traces:
        return None
    from registry.http.tracing import Tracing  # lazy: start-up time

    return Tracing(os.environ, version(DISTRIBUTION))
