"""Traces: spans of runs and steps, their export to a collector, and behaviour without a collector."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import pytest

from jobs.launching import run_logs
from resources import doctor, serving
from resources.serving import logs, otlp, traces
from resources.serving.otlp import PAUSE_S, Collector
from resources.settings import Settings, get_settings
from tests.helpers.collector import Receiver, collector, grpc_collector
from tests.helpers.dagster_private import context_creation_job
from tests.testbed.machine import free_port

VARIABLE, LIMIT = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TIMEOUT"
LONG_S = "60"
"""Timeout in seconds. It is long, because the collector shares the processor with all other tests."""


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    traces.stop()


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with collector() as made:
        monkeypatch.setenv(VARIABLE, made.endpoint)
        monkeypatch.setenv(LIMIT, LONG_S)
        get_settings.cache_clear()
        yield made


def test_warning_gives_the_command_that_installs_missing_packages_of_opentelemetry(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serving, "otlp", None)  # registers the attribute, so that it is restored after its deletion
    monkeypatch.delattr(serving, "otlp")
    monkeypatch.delitem(sys.modules, "resources.serving.otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    settings = Settings(otel_exporter_otlp_endpoint="http://collector:4318", _env_file=None)
    assert not traces.start("test", settings)
    with traces.span("work"):
        assert traces.current_ids() == {}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "make venv EXTRAS=otel" in record.message
    monkeypatch.setattr(doctor, "installed_version", lambda _: None)
    (finding,) = doctor._traces(settings)
    assert (finding.state, finding.fix) == ("warn", "make venv EXTRAS=otel")


def test_traces_are_sent_by_grpc_if_the_port_or_the_protocol_variable_selects_grpc(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with grpc_collector() as received:
        monkeypatch.setenv(VARIABLE, received.endpoint)
        monkeypatch.setenv(LIMIT, LONG_S)
        monkeypatch.setattr(otlp, "GRPC_PORT", int(received.endpoint.rpartition(":")[2]))
        settings = Settings(otel_exporter_otlp_endpoint=received.endpoint, _env_file=None)
        assert traces.start("test", settings)
        with traces.span("by its port"):
            pass
        traces.stop()
        monkeypatch.setattr(otlp, "GRPC_PORT", 4317)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        assert traces.start("test", settings)
        with traces.span("by the variable"):
            pass
        traces.stop()
    assert [span.name for span in received.spans] == ["by its port", "by the variable"]


def test_run_is_a_trace_with_a_span_for_each_step(
    received: Receiver, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    untraced = context_creation_job.default_system_loggers
    monkeypatch.setattr(context_creation_job, "default_system_loggers", untraced)  # restored after the test
    run_logs.install(get_settings())
    days = dg.StaticPartitionsDefinition(["2026-09-01"])

    @dg.multi_asset(specs=[dg.AssetSpec("fit"), dg.AssetSpec("quality")], partitions_def=days)
    def calibrated(context):
        logging.getLogger("irt_assets.calibration").warning("7 answers")
        yield dg.MaterializeResult("fit")
        yield dg.MaterializeResult("quality")

    @dg.asset(deps=["fit"], partitions_def=days)
    def broken() -> None:
        raise ValueError("the learner ann-7 has no answer")

    with dg.instance_for_test(
        overrides={"python_logs": {"managed_python_loggers": ["irt_assets"], "python_log_level": "INFO"}}
    ) as instance:
        job = dg.Definitions(
            assets=[calibrated, broken],
            jobs=[dg.define_asset_job("nightly", selection="*")],
            executor=dg.in_process_executor,
        ).resolve_job_def("nightly")
        result = job.execute_in_process(partition_key="2026-09-01", instance=instance, raise_on_error=False)
    traces.stop()
    run, fit, failed = (received.span_named(name) for name in ("run nightly", "calibrated", "broken"))
    assert {span.service for span in received.spans} == {"irt-run"}
    assert run.attributes == {"run_id": result.run_id, "job": "nightly", "partition": "2026-09-01"}
    assert (fit.attributes, fit.failed) == ({"step": "calibrated", "asset": "fit, quality"}, False)
    assert (failed.attributes, failed.failed, run.failed) == ({"step": "broken"}, True, True)
    assert sorted(span.name for span in received.children_of(run)) == ["broken", "calibrated"]
    assert b"ann-7" not in b"".join(received.bodies)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (logged,) = [line for line in lines if line["message"] == "7 answers"]
    assert (logged["trace_id"], logged["span_id"]) == (run.trace_id, fit.span_id)
    (failure,) = [line for line in lines if line.get("event") == "STEP_FAILURE"]
    assert failure["span_id"] == failed.span_id


class SilentExporter:
    """An exporter whose collector is unreachable while `away` is true."""

    def __init__(self) -> None:
        self.away, self.asked = True, 0

    def export(self, _spans: Sequence[object]) -> object:
        from opentelemetry.sdk.trace.export import SpanExportResult

        self.asked += 1
        return SpanExportResult.FAILURE if self.away else SpanExportResult.SUCCESS


def test_unreachable_collector_is_warned_of_once_and_retried_rarely(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = [0.0]
    silent = SilentExporter()
    sending = Collector(silent, "http://collector:4317", clock=lambda: now[0])  # type: ignore[arg-type]
    for seconds, n_calls in ((0.0, 1), (5.0, 1), (PAUSE_S, 2), (PAUSE_S + 5, 2)):
        now[0] = seconds
        sending.export([])
        assert silent.asked == n_calls
    (record,) = caplog.records
    assert (record.levelname, "4318" in record.message) == ("WARNING", True)
    silent.away, now[0] = False, 2 * PAUSE_S
    sending.export([])
    sending.export([])
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_work_is_not_delayed_if_the_collector_is_unreachable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, f"http://127.0.0.1:{free_port()}")
    get_settings.cache_clear()
    logs.configure()
    senders = []

    def export(sending: Collector, spans: Sequence[Any]) -> object:
        senders.append(threading.current_thread())
        return by_collector(sending, spans)

    by_collector = Collector.export
    monkeypatch.setattr(Collector, "export", export)
    assert traces.start("test", get_settings())
    began = time.perf_counter()
    for _ in range(100):
        with traces.span("work"):
            pass
    traces.stop()
    assert time.perf_counter() - began < 6, "OTLP_TIMEOUT and what the machine needs"
    assert senders
    assert threading.current_thread() not in senders
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"].startswith("traces are dropped")
