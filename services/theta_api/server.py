"""The θ API as a server: its parts put together, and one process that serves until SIGTERM and then drains."""

import logging
import sys

from fastapi import FastAPI

from resources.postgres.database import Database
from resources.serving import metrics, traces
from resources.serving.service import serve_http
from resources.settings import Settings
from services.theta_api.access import build_access
from services.theta_api.app import build_app
from services.theta_api.ledger import Ledger

LOG = logging.getLogger("services.theta_api")
DRAIN_S = 20
TURN_S = 0.0005
"""How long a computing thread may keep the others waiting, among them the one that takes requests. Python's default of
5 ms is as long as a whole update."""
CONNECTIONS = 4
"""Connections and threads for θ, and as many more for posted answers."""
KEPT_S = 75
"""Longer than nginx keeps an idle connection (60 s), so that it never sends a request into a closing one."""


def theta_app(settings: Settings) -> FastAPI:
    """Raises PermanentFailure where settings are missing or unfit; connects to nothing yet."""
    access = build_access(settings)
    ledger = Ledger(Database(settings), CONNECTIONS, posts=CONNECTIONS)
    app = build_app(access, ledger, CONNECTIONS, posts=CONNECTIONS)
    traces.trace_routes(app)
    return app


def serve(settings: Settings) -> None:
    """Run until SIGTERM: requests that have come are answered, for at most `DRAIN_S` seconds; SIGHUP starts it anew.

    Raises PermanentFailure where settings are missing or unfit.
    """
    traces.start("theta-api", settings)
    app = theta_app(settings)
    if settings.r_irt_base_url:
        LOG.info("theta: R_IRT_BASE_URL is set and has no effect on θ, which this process computes itself")
    if port := settings.prometheus_metrics_port:
        metrics.show(app.state.registry, port, "PROMETHEUS_METRICS_PORT", host=settings.irt_theta_host)
    sys.setswitchinterval(TURN_S)
    serve_http(
        app,
        host=settings.irt_theta_host,
        port=settings.irt_theta_port,
        timeout_graceful_shutdown=DRAIN_S,
        timeout_keep_alive=KEPT_S,
    )
