"""OpenTelemetry traces: a span a request, and below it one for each statement and each call of the blob store.

Loaded only where OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_ENDPOINT) is set; the other OTEL_* variables mean what they
mean everywhere. A caller's `traceparent` is continued. No token, header, query or value of a statement is in a span.

Source: W3C Trace Context; OpenTelemetry semantic conventions for HTTP and database spans.
"""

from collections.abc import Mapping

from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.blobs.spans import told
from registry.domain.spans import Finish
from registry.http.observing import template_of
from registry.service import Registry
from registry.sql.spans import tell_statements

SERVICE = "adapters"
_PASSED_OVER = frozenset({"/healthz", "/readyz", "/metrics"})  # asked every few seconds, by nobody who traces
_CARRIED = frozenset({b"traceparent", b"tracestate"})
_LONGEST = 200  # characters of what a caller names


class Tracing:
    """Where the spans of one worker go: to the collector that the environment names, in batches, by a thread."""

    def __init__(self, environment: Mapping[str, str], version: str) -> None:
        named = {} if "OTEL_SERVICE_NAME" in environment else {SERVICE_NAME: SERVICE}
        self._provider = TracerProvider(resource=Resource.create({**named, SERVICE_VERSION: version}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("adapter-registry", version)
        self._propagator = TraceContextTextMapPropagator()

    def observe(self, registry: Registry) -> Registry:
        """The registry, its statements and its store's calls as spans below the request that they are for."""
        tell_statements(registry.database, self._begin)
        registry.blobs = told(registry.blobs, self._begin)
        return registry

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """An application in front of another one, whose requests become spans."""
        return Traced(app, self)

    def request_span(self, scope: Scope) -> Span:
        """The span of a request, below the one that its caller names."""
        carrier = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _CARRIED}
        above = self._propagator.extract(carrier, Context())
        return self._tracer.start_span(scope["method"], above, SpanKind.SERVER)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    def _begin(self, name: str, attributes: Mapping[str, str]) -> Finish:
        if not get_current_span().is_recording():
            return _unseen
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)

        def finish(error: BaseException | None) -> None:
            if error is not None:
                span.set_attribute("error.type", type(error).__name__)  # its text may hold values
                span.set_status(Status(StatusCode.ERROR))
            span.end()

        return finish


def _unseen(_error: BaseException | None) -> None:
    """The end of what nobody measures: no request is traced here."""


class Traced:
    """Middleware around everything else: the request's span, which is the current one while it is answered."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _PASSED_OVER:
            await self._app(scope, receive, send)
            return
        span, status = self._tracing.request_span(scope), 500
        scope.setdefault("state", {})["trace_id"] = f"{span.get_span_context().trace_id:032x}"

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        before = attach(set_span_in_context(span))
        try:
            await self._app(scope, receive, noted)
        finally:
            detach(before)
            if span.is_recording():
                _describe(span, scope, status)
            span.end()


def _describe(span: Span, scope: Scope, status: int) -> None:
    route, state = template_of(scope), scope["state"]
    caller, client, team = state.get("caller"), scope.get("client"), _team(scope)
    known = {
        "http.request.method": scope["method"],
        "http.route": route,
        "http.response.status_code": status,
        "url.path": scope["path"][:_LONGEST],
        "client.address": client[0] if client else None,
        "adapters.request_id": state.get("request_id"),
        "adapters.caller": caller.name if caller else None,
        "adapters.team": team,
    }
    span.update_name(f"{scope['method']} {route}")
    span.set_attributes({key: value for key, value in known.items() if value is not None})
    if status >= 500:
        span.set_status(Status(StatusCode.ERROR))


def _team(scope: Scope) -> str | None:
    """The team that a request is about, by its path. A kept answer was never routed."""
    named = scope.get("path_params", {}).get("team")
    if named is None and scope["path"].startswith("/v1/adapters/"):
        named = scope["path"].split("/")[3]
    return str(named)[:_LONGEST] if named else None
