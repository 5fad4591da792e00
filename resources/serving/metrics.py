"""The metrics of each server itself: its process, the version of its code, and its counters.

What does not belong here: what the state of the platform is (see `services.exporter`).
"""

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
BUILD_INFO = ("irt_build_info", "Always 1; which code this is.")
OF_A_SOCKET = {"websocket.accept": "101", "websocket.close": "403"}
"""The HTTP status that a client sees when a WebSocket is opened, and when it is refused."""


def server_registry() -> CollectorRegistry:
    """Metrics that every process has; the server adds its own."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    Gauge(*BUILD_INFO, ["version"], registry=registry).labels(code_version()).set(1)
    return registry


def show(registry: CollectorRegistry, port: int, setting: str, *, host: str = "127.0.0.1") -> None:
    """Answer `/metrics` on `port` from a thread; if the port is taken, warn and go on without."""
    try:
        start_http_server(port, host, registry)
    except OSError as error:
        LOG.warning(
            "metrics are not served: port %d of %s: %s. Set %s to a free one", port, host, error.strerror, setting
        )


def page(registry: CollectorRegistry) -> Callable[[Request], Response]:
    """What answers `/metrics` of a server over HTTP."""
    return lambda _: Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class Counted:
    """`app` with its answers counted by status in `irt_NAME_requests_total`."""

    def __init__(self, app: ASGIApp, name: str, registry: CollectorRegistry) -> None:
        self.app = app
        self._requests = Counter(f"irt_{name}_requests", "Requests answered", ["status"], registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        counted = scope["type"] == "lifespan"

        async def count(message: Message) -> None:
            nonlocal counted
            status = str(message.get("status") or OF_A_SOCKET.get(message["type"], ""))
            if status and not counted:
                counted = True
                self._requests.labels(status).inc()
            await send(message)

        await self.app(scope, receive, count)
