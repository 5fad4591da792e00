"""The exporter over HTTP: `/health` and `/metrics`.

The metrics are read at most every 30 s, and served even if the database is down.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import psycopg
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from resources.failures import PermanentFailure, explain
from resources.postgres.database import Database
from resources.serving import metrics
from resources.serving.service import serve_http
from resources.settings import Settings
from resources.version import code_version
from services.exporter.families import BUILD_INFO, FAMILIES, UP, Sample
from services.exporter.readings import READINGS, ScrapeContext

LOG = logging.getLogger(__name__)
CACHED_S = 30.0
STATEMENT_TIMEOUT_MS = 1000
"""Limit of each statement, so that all readings together stay within Prometheus's ten seconds."""


class StateCollector(Collector):
    """Collects the metrics of the platform from `database`, at most every `CACHED_S` seconds."""

    def __init__(self, database: Database, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._database, self._settings, self._clock = database, settings, clock
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._metrics: list[GaugeMetricFamily] = []
        self._faults: list[str] = []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        with self._lock:
            if self._read_at is None or self._clock() - self._read_at >= CACHED_S:
                self._metrics = _as_metrics(self._samples())
                self._read_at = self._clock()
            return self._metrics

    def _samples(self) -> list[Sample]:
        samples = [Sample(BUILD_INFO, 1, (code_version(),))]
        faults = []
        try:
            with self._database.connect() as connection:
                connection.read_only = True
                connection.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}")
                context = ScrapeContext(connection, self._settings, datetime.now(UTC))
                for reading in READINGS:
                    try:
                        with connection.transaction():
                            samples += list(reading(context))
                    except psycopg.Error as error:
                        if connection.closed:
                            raise
                        faults.append(f"{reading.__name__}: {explain(error) or error}")
        except (psycopg.Error, PermanentFailure) as error:
            faults.append(explain(error) or str(error))
        if faults and faults != self._faults:  # log a lasting fault once, not at every scrape
            LOG.error("some metrics could not be read: %s", "; ".join(faults))
        self._faults = faults
        return [*samples, Sample(UP, not faults)]


def _as_metrics(samples: Iterable[Sample]) -> list[GaugeMetricFamily]:
    metrics = {family: GaugeMetricFamily(family.name, family.meaning, labels=family.labels) for family in FAMILIES}
    for sample in samples:
        metrics[sample.family].add_metric(sample.labels, float(sample.value))
    return list(metrics.values())


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
