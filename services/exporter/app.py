"""The exporter over HTTP: `/metrics`, and `/health`, which answers in any state of the database."""

from prometheus_client import CollectorRegistry, ProcessCollector
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from resources.postgres.database import Database
from resources.serving import metrics
from resources.serving.service import serve_http
from resources.settings import Settings
from services.exporter.collector import StateCollector


def build_app(collector: StateCollector) -> Starlette:
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)

    health = Route("/health", lambda _: JSONResponse({"status": "ok"}))
    return Starlette(routes=[Route("/metrics", metrics.page(registry)), health])


def serve(settings: Settings, *, host: str = "127.0.0.1") -> None:
    """Run until SIGTERM."""
    app = build_app(StateCollector(Database(settings), settings))
    serve_http(app, host=host, port=settings.irt_exporter_metrics_port)
