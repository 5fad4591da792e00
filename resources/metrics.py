"""What each server tells Prometheus of itself: its process, which code it is, and what it counts.

What does not belong here: what the state of the platform is (see `services.exporter`).
"""

from __future__ import annotations

import logging

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, start_http_server
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resources.version import code_version

LOG = logging.getLogger(__name__)
BUILD_INFO = ("irt_build_info", "Always 1; which code this is.")
OF_A_SOCKET = {"websocket.accept": "101", "websocket.close": "403"}
"""The status that a client sees where a WebSocket is opened, and where it is closed before that."""


def server_registry() -> CollectorRegistry:
    """What is known of any process; the server adds its own."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    Gauge(*BUILD_INFO, ["version"], registry=registry).labels(code_version()).set(1)
    return registry


def show(registry: CollectorRegistry, port: int, setting: str, *, host: str = "127.0.0.1") -> None:
    """Answer `/metrics` on `port` from now on, in a thread; where it is taken the server goes on without."""
    try:
        start_http_server(port, host, registry)
    except OSError as error:
        LOG.warning(
            "metrics are not shown: port %d of %s: %s. Set %s to a free one", port, host, error.strerror, setting
        )


class Counted:
    """`app`, whose answers are counted by their status in `irt_NAME_requests_total`."""

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
