"""Traces by OpenTelemetry, which is imported only if OTEL_EXPORTER_OTLP_ENDPOINT names a collector.

The rest of the program opens spans with these functions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from resources.settings import Settings
from resources.version import way_to_install

if TYPE_CHECKING:
    from fastapi import FastAPI
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

LOG = logging.getLogger(__name__)
PACKAGE = "opentelemetry-exporter-otlp-proto-http"
EXCLUDED_PATHS = "/health,/ready$,/metrics$"
"""Paths that monitors request every few seconds."""
EXCLUDED_SPANS: list[Literal["receive", "send"]] = ["receive", "send"]
"""Kinds of spans that are not created: one for each ASGI message, useless to readers."""

_provider: TracerProvider | None = None
_tracer: Tracer | None = None
_otlp: Any = None
"""The module `otlp`, if traces are sent: OpenTelemetry is an optional dependency."""


def start(service: str, settings: Settings) -> bool:
    """Send the spans of this process to the collector, as `irt-SERVICE`. Safe to repeat.

    Returns whether they are sent. Without a collector or the packages, the process continues without traces.
    """
    global _provider, _tracer, _otlp
    endpoint = settings.otel_exporter_otlp_endpoint
    if _tracer is None and endpoint:
        try:
            from resources.serving import otlp  # imports OpenTelemetry, an optional dependency
        except ImportError as error:
            reason = f"{error.name} is missing: {way_to_install('otel')}"
            LOG.warning("no traces: OTEL_EXPORTER_OTLP_ENDPOINT is set, but %s", reason)
            return False
        _otlp, _provider = otlp, otlp.provider(f"irt-{service}", endpoint)
        _tracer = _provider.get_tracer("irt_assets")
    return _tracer is not None


def stop() -> None:
    """Send the finished spans, and open no more spans."""
    global _provider, _tracer
    if _provider is not None:
        _provider.shutdown()
    _provider = _tracer = None


@contextmanager
def span(name: str, **attributes: str) -> Iterator[None]:
    """Open a span within the current span until the block ends. An error in the block marks it as failed."""
    if _tracer is None:
        yield
        return
    with _tracer.start_as_current_span(name, attributes=attributes, record_exception=False):
        yield


def describe(**attributes: str) -> None:
    """Add attributes to the current span."""
    if _tracer is not None:
        _otlp.trace.get_current_span().set_attributes(attributes)


def fail() -> None:
    """Mark the current span as failed."""
    if _tracer is not None:
        _otlp.trace.get_current_span().set_status(_otlp.trace.StatusCode.ERROR)


def current_ids() -> dict[str, str]:
    """`trace_id` and `span_id` of the current span, in the collectors' format; empty if there is no span."""
    if _tracer is None:
        return {}
    context = _otlp.trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {
        "trace_id": _otlp.trace.format_trace_id(context.trace_id),
        "span_id": _otlp.trace.format_span_id(context.span_id),
    }


def trace_routes(app: FastAPI) -> None:
    """Trace every request to `app` as a span with the name of its route, within the caller's trace if there is one."""
    if _provider is not None:
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor  # optional dependency

        FastAPIInstrumentor.instrument_app(
            app, tracer_provider=_provider, excluded_urls=EXCLUDED_PATHS, exclude_spans=EXCLUDED_SPANS
        )
