"""What a server tells Prometheus of itself."""

from __future__ import annotations

import logging
import urllib.request

import pytest
from prometheus_client import generate_latest, start_http_server
from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from irt_assets.servers.daemon import Heartbeats
from resources.postgres.database import Database
from resources.serving import metrics
from resources.serving.guard import Guard
from resources.settings import Settings
from resources.version import code_version
from tests.helpers.asgi import ask, echo, open_socket
from tests.helpers.door import listening, port_of
from tests.testbed.machine import free_port


def text(registry: metrics.CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def test_a_server_shows_its_process_and_its_code_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    registry, port = metrics.server_registry(), free_port()
    started = []
    monkeypatch.setattr(metrics, "start_http_server", lambda *given: started.append(start_http_server(*given)))
    metrics.show(registry, port, "A_PORT")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        shown = answer.read().decode()
    assert f'\nirt_build_info{{version="{code_version()}"}} 1.0\n' in shown
    assert "\nprocess_resident_memory_bytes " in shown
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.2:{port}/metrics", timeout=10)
    ((server, thread),) = started
    server.shutdown()
    server.server_close()
    thread.join()


def test_where_the_port_is_taken_a_warning_names_the_setting_and_the_server_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with listening() as other:
        metrics.show(metrics.server_registry(), port_of(other), "IRT_EXPORTER_METRICS_PORT")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "Address already in use. Set IRT_EXPORTER_METRICS_PORT" in record.message


def test_requests_are_counted_by_status_and_those_refused_among_them() -> None:
    registry = metrics.server_registry()
    app = metrics.Counted(Guard(echo, Settings(_env_file=None).ui_names), "page", registry)
    for headers in ({}, {}, {"host": "evil.example"}):
        ask(app, "GET", "/runs", headers)
    assert open_socket(app, "/graphql").status == 101
    assert open_socket(app, "/graphql", {"origin": "https://evil.example"}).status == 403
    counted = [line for line in text(registry).splitlines() if line.startswith("irt_page_requests_total")]
    assert counted == [
        'irt_page_requests_total{status="200"} 2.0',
        'irt_page_requests_total{status="403"} 2.0',
        'irt_page_requests_total{status="101"} 1.0',
    ]


def test_a_socket_that_ends_after_it_was_open_was_not_refused() -> None:
    async def short(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    registry = metrics.server_registry()
    open_socket(metrics.Counted(short, "page", registry), "/graphql")
    assert '{status="403"}' not in text(registry)


def test_where_the_database_is_away_the_daemon_tells_no_age_and_the_rest() -> None:
    away = Database(Settings(database_url=SecretStr("postgresql://nobody@127.0.0.1:1/none"), _env_file=None))
    registry = metrics.server_registry()
    registry.register(Heartbeats(away))
    shown = text(registry)
    assert "irt_daemon_part_heartbeat_age_seconds{" not in shown
    assert "irt_build_info{" in shown
