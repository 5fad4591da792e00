"""Metrics about a server: its process, the version of its code, and its counters."""

import logging
from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    generate_latest,
    start_http_server,
)
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resources.version import code_version

LOG = logging.getLogger(__name__)
BUILD_INFO = ("irt_build_info", "Always 1; the label is the version of the code.")
WEBSOCKET_STATUS = {"websocket.accept": "101", "websocket.close": "403"}
"""HTTP status that is counted if a WebSocket is opened, or refused."""


def server_registry() -> CollectorRegistry:
    """A registry with the metrics of every process, to which a server adds its own."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    Gauge(*BUILD_INFO, ["version"], registry=registry).labels(code_version()).set(1)
    return registry


def serve(registry: CollectorRegistry, port: int, setting: str, *, host: str = "127.0.0.1") -> None:
    """Serve `/metrics` on `port` from a thread. If the port is taken, log a warning and continue without metrics."""
    try:
        start_http_server(port, host, registry)
    except OSError as error:
        LOG.warning(
            "metrics are not served: port %d of %s: %s. Set %s to a free port", port, host, error.strerror, setting
        )


def page(registry: CollectorRegistry) -> Callable[[Request], Response]:
    """The handler of a server's `/metrics`."""
    return lambda _: Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class CountRequests:
    """`app` whose responses are counted by status in `irt_NAME_requests_total`."""

    def __init__(self, app: ASGIApp, name: str, registry: CollectorRegistry) -> None:
        self.app = app
        self._requests = Counter(f"irt_{name}_requests", "Requests answered", ["status"], registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_counted = scope["type"] == "lifespan"

        async def count(message: Message) -> None:
            nonlocal is_counted
            status = str(message.get("status") or WEBSOCKET_STATUS.get(message["type"], ""))
            if status and not is_counted:
                is_counted = True
                self._requests.labels(status).inc()
            await send(message)

        await self.app(scope, receive, count)
