"""The application: every route, behind the checks that hold for all of them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
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
    quotas,
    resolve,
    teams,
    tokens,
    uploads,
    versions,
    watch,
    webhooks,
)
from registry.http.access import Doorkeeper
from registry.http.answers import Answers
from registry.http.limits import BodyLimit
from registry.http.metrics import Metrics
from registry.http.observing import Observed
from registry.http.settings import ServerSettings
from registry.service import Registry
from registry.service.upkeep import Upkeep

DISTRIBUTION = "adapter-registry"
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
    webhooks,
    quotas,
)


def create_app(open_registry: Callable[[], Registry], settings: ServerSettings) -> FastAPI:
    """An application that opens its registry when its worker starts, and closes it when that ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.registry = open_registry()
        app.state.tail = watch.Tail(app.state.registry)
        app.state.tail.release_on_signals()
        upkeep = Upkeep(app.state.registry)
        upkeep.start()
        try:
            yield
        finally:
            await app.state.tail.close()
            await run_in_threadpool(upkeep.stop)
            app.state.registry.close()

    app = FastAPI(title="Adapter registry", version=version(DISTRIBUTION), lifespan=lifespan)
    app.state.settings = settings
    app.state.doorkeeper = Doorkeeper()
    app.state.metrics = Metrics(settings.metrics_folder)
    errors.install(app)
    app.add_middleware(Answers, doorkeeper=app.state.doorkeeper)
    app.add_middleware(BodyLimit)
    # A page in somebody's browser can reach a server on their machine under a name of its own: such names are refused.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.hosts), www_redirect=False)
    app.add_middleware(Observed, metrics=app.state.metrics)
    for room in ROOMS:
        app.include_router(room.routes)
    return app
