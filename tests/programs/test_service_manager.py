"""Messages of a server to systemd, read from the socket, and probes of servers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from irt_assets.common.probes import DAEMONS
from irt_assets.servers.daemon import ended_part
from resources.failures import PermanentFailure
from resources.postgres.database import Database, embedded_postgres
from resources.serving import service, service_manager
from resources.serving.service_manager import (
    Probe,
    http_health,
    notify,
    report_to_service_manager,
    service_fault,
)
from resources.settings import Settings, get_settings
from tests.testbed.machine import free_port
from tests.testbed.patience import patient

GIVEN_UP_S = 10.0
WATCHDOG_USEC = "100000"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give servers more time to respond, as they share the processor with all other tests."""
    monkeypatch.setattr(service_manager, "TIMEOUT_S", patient(GIVEN_UP_S))


class EndingThread(threading.Thread):
    """A thread that runs until its probe raises SystemExit."""

    def run(self) -> None:
        with suppress(SystemExit):
            super().run()


@pytest.fixture(params=["a file", "an abstract name"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        path = str(tmp_path / "notify")
        listening.bind(path if request.param == "a file" else f"\0{path}")
        listening.settimeout(patient(GIVEN_UP_S))
        monkeypatch.setattr(service_manager, "threading", SimpleNamespace(Thread=EndingThread))
        monkeypatch.setenv("NOTIFY_SOCKET", path if request.param == "a file" else f"@{path}")
        yield listening


def receive_lines(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def answering(*faults: str | None) -> Probe:
    """Return a probe with these results, which then ends the calling thread."""
    answers = iter(faults)

    def probe() -> str | None:
        for fault in answers:
            return fault
        raise SystemExit

    return probe


def test_lines_of_a_state_are_sent_in_a_single_message(manager: socket.socket) -> None:
    notify("READY=1", "STATUS=healthy")
    assert receive_lines(manager) == ["READY=1", "STATUS=healthy"]


def test_server_reports_ready_once_healthy_and_feeds_the_watchdog_only_while_healthy(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", WATCHDOG_USEC)
    report_to_service_manager(answering("it starts", "it starts", None, None, *["it hangs"] * 3))
    assert receive_lines(manager) == ["READY=1", "WATCHDOG=1"]
    assert receive_lines(manager) == ["WATCHDOG=1", "STATUS=healthy"]
    for _ in range(3):
        assert receive_lines(manager) == ["STATUS=it hangs"]


def test_server_that_is_healthy_but_warms_up_is_not_reported_ready(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", WATCHDOG_USEC)
    report_to_service_manager(answering(None), ready=answering("it warms up", None))
    assert receive_lines(manager) == ["WATCHDOG=1"]
    assert receive_lines(manager) == ["READY=1", "WATCHDOG=1"]


def test_server_that_hangs_during_its_start_does_not_feed_the_watchdog(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", WATCHDOG_USEC)
    report_to_service_manager(answering("it hangs"), ready=answering("it waits", None))
    assert receive_lines(manager) == ["READY=1", "WATCHDOG=1"]


def test_service_that_responds_with_503_counts_as_alive() -> None:
    """The service's keys may be too old, or its database unreachable. A restart fixes neither."""

    class Unwell(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", free_port()), Unwell)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    assert http_health(address)
    assert http_health(address, any_answer=True) is None
    server.shutdown()
    server.server_close()
    thread.join()
    assert "nothing answers" in str(http_health(address, any_answer=True))


def test_fault_names_a_part_of_the_daemon_that_has_ended() -> None:
    """Only threads are checked, so an unreachable database is not reported."""
    assert ended_part() is None
    over = threading.Event()
    threads = [threading.Thread(target=over.wait, name=f"dagster-daemon-{part}") for part in DAEMONS[1:]]
    for thread in threads:
        thread.start()
    try:
        assert ended_part() == f"{DAEMONS[0]} of the daemon ended"
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_server_is_not_probed_without_a_service_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    looks = list[str]()
    notify("READY=1")
    report_to_service_manager(lambda: looks.append("look"))
    assert not looks


def test_notification_without_a_listening_manager_raises_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("READY=1")


RESTARTS_ONCE = """
import os, threading
from resources.serving.service_manager import restart_process
if os.environ.pop("IS_FIRST", None):
    threading.Thread(target=restart_process).start()
    threading.Event().wait()
print(os.getpid())
"""


def test_process_whose_main_thread_hangs_is_restarted_by_a_second_thread() -> None:
    """A daemon that has lost its lock and waits for its database is restarted like this."""
    environment = {**os.environ, "IS_FIRST": "yes"}
    command = [sys.executable, "-c", RESTARTS_ONCE]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            printed, _ = process.communicate(timeout=patient(GIVEN_UP_S))
        finally:
            process.kill()
    assert int(printed) == process.pid


class HealthyHandler(BaseHTTPRequestHandler):
    """A handler that responds with 200 to every request."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=["127.0.0.2", "0.0.0.0", "::1"])
def elsewhere(request: pytest.FixtureRequest) -> Iterator[tuple[str, Settings]]:
    """Run an exporter on a given address. Returns its address, and settings with its port."""

    class Server(HTTPServer):
        address_family = socket.AF_INET6 if ":" in request.param else socket.AF_INET

    try:
        server = Server((request.param, 0), HealthyHandler)
    except OSError as error:
        pytest.skip(f"this machine has no {request.param} ({error})")
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield request.param, Settings(irt_exporter_metrics_port=server.server_address[1], _env_file=None)
    server.shutdown()
    server.server_close()


def test_service_is_probed_at_its_given_address(
    elsewhere: tuple[str, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, settings = elsewhere
    assert service_fault("exporter", settings, host=host) is None
    probes = list[Probe]()
    monkeypatch.setattr(service, "report_to_service_manager", lambda probe, ready: probes.extend([probe, ready]))
    monkeypatch.setenv("IRT_EXPORTER_METRICS_PORT", str(settings.irt_exporter_metrics_port))
    get_settings.cache_clear()
    service.run_service("exporter", lambda _: None, host)
    assert [probe() for probe in probes] == [None, None]


def test_probe_of_the_loopback_address_fails_if_a_service_listens_elsewhere() -> None:
    with HTTPServer(("127.0.0.2", free_port()), HealthyHandler) as server:
        settings = Settings(irt_exporter_metrics_port=server.server_address[1], _env_file=None)
        assert str(service_fault("exporter", settings)).startswith("nothing answers at http://127.0.0.1:")


def test_process_started_by_a_unit_has_no_embedded_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEMD_EXEC_PID", "1")  # set for a shell that started this process
    assert embedded_postgres(Settings(irt_home=tmp_path / "irt")).folder == tmp_path / "irt/postgres"
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getpid()))
    with pytest.raises(PermanentFailure, match="DATABASE_URL is not set, and a unit of systemd has no embedded"):
        _ = Database(Settings(irt_home=tmp_path / "irt")).url
    assert not (tmp_path / "irt").exists()
