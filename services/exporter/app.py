"""The exporter over HTTP: `/metrics`, and `/health`, which answers in any state of the database."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from resources.postgres.database import Database
from resources.serving.service import serve_http
from resources.settings import Settings
from services.exporter.collector import StateCollector


def build_app(collector: StateCollector) -> Starlette:
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)

    def metrics(_request: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(routes=[Route("/metrics", metrics), Route("/health", health)])


def serve(settings: Settings, *, host: str = "127.0.0.1") -> None:
    """Run until SIGTERM."""
    app = build_app(StateCollector(Database(settings), settings))
    serve_http(app, host=host, port=settings.irt_exporter_metrics_port)
