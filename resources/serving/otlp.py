"""Sends spans to a collector by OTLP over HTTP or gRPC, with only the allowed attributes, and handles failures.

It imports OpenTelemetry, the extra `otel`. Only `traces` imports this module, and only if there is a collector.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from opentelemetry import trace  # noqa: F401 - for `traces`
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Status

from resources.version import code_version

LOG = logging.getLogger(__name__)
GRPC_PORT = 4317
TIMEOUT_S = 2.0
"""Time limit of a request to the collector. It runs in a separate thread, for which a process waits when it ends."""
PAUSE_S = 30.0
"""Pause in seconds after the collector failed."""
ALLOWED_ATTRIBUTES = frozenset(
    {
        "asset",
        "http.method",
        "http.request.method",
        "http.response.status_code",
        "http.route",
        "http.status_code",
        "job",
        "partition",
        "run_id",
        "step",
    }
)
"""The only attributes that leave this process: others, such as texts of errors, may name a learner."""


def provider(service: str, endpoint: str) -> TracerProvider:
    """A provider that opens spans and sends them from a separate thread. OpenTelemetry's variables configure it."""
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)  # `Collector` warns once
    os.environ.setdefault("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)  # it may be set only in the env file
    own_name = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: service}
    traces_provider = TracerProvider(resource=Resource.create({**own_name, SERVICE_VERSION: code_version()}))
    traces_provider.add_span_processor(BatchSpanProcessor(Collector(_exporter(endpoint), endpoint)))
    return traces_provider


def _exporter(endpoint: str) -> SpanExporter:
    """An exporter by gRPC if the endpoint has its usual port or OpenTelemetry's variable names it; else by HTTP."""
    timeout = None if "OTEL_EXPORTER_OTLP_TIMEOUT" in os.environ else TIMEOUT_S
    usual = "grpc" if urlsplit(endpoint).port == GRPC_PORT else "http/protobuf"
    if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", usual) == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as by_grpc

        return by_grpc.OTLPSpanExporter(timeout=timeout)
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as by_http

    return by_http.OTLPSpanExporter(timeout=timeout)


class Collector(SpanExporter):
    """Sends spans with only the attributes in ALLOWED_ATTRIBUTES.

    If sending fails, it warns once and drops spans for PAUSE_S.
    """

    def __init__(self, exporter: SpanExporter, endpoint: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._exporter, self._endpoint, self._clock = exporter, endpoint, clock
        self._paused_until: float | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._paused_until is not None and self._clock() < self._paused_until:
            return SpanExportResult.FAILURE
        result = self._exporter.export([strip_attributes(span) for span in spans])
        if result is SpanExportResult.SUCCESS:
            if self._paused_until is not None:
                LOG.info("traces reach %s again", self._endpoint)
            self._paused_until = None
        else:
            if self._paused_until is None:
                LOG.warning(
                    "traces are dropped: %s does not accept them. OTEL_EXPORTER_OTLP_ENDPOINT must be the address of "
                    "an OTLP receiver, usually http://HOST:4318, or http://HOST:4317 for gRPC",
                    self._endpoint,
                )
            self._paused_until = self._clock() + PAUSE_S
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def strip_attributes(span: ReadableSpan) -> ReadableSpan:
    """`span` with only the attributes that may leave this process."""
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes={name: value for name, value in (span.attributes or {}).items() if name in ALLOWED_ATTRIBUTES},
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
