"""Build the θ API from its parts, and serve it in one process until SIGTERM."""

import logging
import sys

from fastapi import FastAPI

from resources.postgres.database import Database
from resources.serving import metrics, traces
from resources.serving.service import serve_http
from resources.settings import Settings
from services.theta_api.access import build_access
from services.theta_api.app import build_app
from services.theta_api.parameter_cache import Ledger

LOG = logging.getLogger("services.theta_api")
DRAIN_S = 20
SWITCH_INTERVAL_S = 0.0005
"""Seconds for which a computing thread may keep other threads waiting, including the thread that reads requests.
Python's default of 5 ms is as long as a whole update."""
CONNECTIONS = 4
"""Number of connections and threads for θ, and again for posted answers."""
KEEP_ALIVE_S = 75
"""Seconds for which an idle connection is kept: longer than nginx keeps it (60 s), so that nginx never sends a request
into a connection that is closing."""


def theta_app(settings: Settings) -> FastAPI:
    """Build the app without connecting to anything. Raises PermanentFailure if settings are missing or invalid."""
    access = build_access(settings)
    ledger = Ledger(Database(settings), CONNECTIONS, posts=CONNECTIONS)
    app = build_app(access, ledger, CONNECTIONS, posts=CONNECTIONS)
    traces.trace_routes(app)
    return app


def serve(settings: Settings) -> None:
    """Run until SIGTERM. Requests that have arrived are answered, for at most `DRAIN_S` seconds. SIGHUP restarts it.

    Raises PermanentFailure if settings are missing or invalid.
    """
    traces.start("theta-api", settings)
    app = theta_app(settings)
    if settings.r_irt_base_url:
        LOG.info("theta: R_IRT_BASE_URL is set and has no effect on θ, which this process computes itself")
    if port := settings.prometheus_metrics_port:
        metrics.serve(app.state.registry, port, "PROMETHEUS_METRICS_PORT", host=settings.irt_theta_host)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    serve_http(
        app,
        host=settings.irt_theta_host,
        port=settings.irt_theta_port,
        timeout_graceful_shutdown=DRAIN_S,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
