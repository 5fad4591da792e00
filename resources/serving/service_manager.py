"""Messages between a server and systemd: READY, the watchdog, and SIGHUP.

Without $NOTIFY_SOCKET nothing is sent. The protocol is sd_notify(3).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from types import FrameType
from typing import TYPE_CHECKING

from resources.failures import root_cause

if TYPE_CHECKING:
    from resources.settings import Settings

LOG = logging.getLogger(__name__)
NOTIFY_SOCKET = "NOTIFY_SOCKET"
LOOPBACK = "127.0.0.1"
PROBE_INTERVAL_S = 10.0
"""Pause between probes if systemd sets no watchdog. With a watchdog it is a quarter of the watchdog's period, because a
server on a busy machine sometimes responds late."""
READY_INTERVAL_S = 0.5
TIMEOUT_S = 2.0
HAS_READY_PROBE = ("theta_api",)
"""Services that send READY once `/ready` passes; other services send it once `/health` passes."""

Probe = Callable[[], str | None]
"""A check of a server. It returns None if the server is healthy, else the reason why not."""


def is_supervised() -> bool:
    """Whether a service manager started this process, which then has a time limit for its start."""
    return bool(os.environ.get(NOTIFY_SOCKET))


def started_by_systemd() -> bool:
    """Whether a unit of systemd started this process, a server or a command."""
    return os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())


def notify(*states: str, ancillary: Sequence[tuple[int, int, bytes]] = ()) -> None:
    """Send `states`, e.g. READY=1, to the service manager that started this process, if there is one.

    ancillary: ancillary data for `socket.sendmsg`.
    """
    address = os.environ.get(NOTIFY_SOCKET)
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.connect("\0" + address[1:] if address.startswith("@") else address)
            channel.sendmsg(["\n".join(states).encode()], ancillary)
        except OSError as error:
            LOG.warning("the service manager at %s cannot be reached: %s", address, error.strerror)


def report_to_service_manager(probe: Probe, ready: Probe | None = None) -> None:
    """Start a thread that sends READY once `ready` passes, and then feeds the watchdog while `probe` passes.

    ready: default `probe`. systemd restarts a process whose `probe` fails, so `probe` must check only this process, and
    never a database or another server, which a restart would not fix.
    """
    if is_supervised():
        threading.Thread(target=_report, args=(probe, ready or probe), daemon=True, name="service manager").start()


def http_health(address: str, page: str = "health", *, any_answer: bool = False) -> str | None:
    """A probe of one of our services: None if its `/health`, or another page, responds with success, else the reason.

    any_answer: accept a response with any status.
    """
    from resources.serving.own_servers import ask  # here, because most commands import this module

    try:
        with ask(f"{address}/{page}", TIMEOUT_S) as answer:
            if any_answer or answer.status_code < HTTPStatus.MULTIPLE_CHOICES:
                return None
            beginning: bytes = next(answer.iter_content(200), b"")
            return f"{address}/{page} answers {answer.status_code}: {beginning.decode(errors='replace')}"
    except OSError as error:
        return f"nothing answers at {address} ({root_cause(error)})"


def service_fault(package: str, settings: Settings, *, host: str | None = None) -> str | None:
    """A probe of a package of `services` on this machine: None if it is ready to work, else the reason why not."""
    return http_health(service_address(package, settings, host), "ready" if package in HAS_READY_PROBE else "health")


def service_address(package: str, settings: Settings, host: str | None = None) -> str:
    """Address of a package of `services` for requests from this machine.

    host: the address on which it listens, if it is not its default.
    """
    default, port = _LISTENS[package](settings)
    return f"http://{host_from_here(host or default)}:{port}"


def host_from_here(host: str) -> str:
    """The host, in the form for URLs, under which this machine reaches a server that listens on `host`."""
    host = _LOOPBACK_OF.get(host, host)
    return f"[{host}]" if ":" in host else host


_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, never listened on
"""Loopback address of a server that listens on all addresses."""
_LISTENS: dict[str, Callable[[Settings], tuple[str, int]]] = {
    "dashboard": lambda settings: (LOOPBACK, settings.irt_dashboard_port),
    "exporter": lambda settings: (LOOPBACK, settings.irt_exporter_metrics_port),
    "jwt_verifier": lambda settings: (LOOPBACK, settings.port),
    "theta_api": lambda settings: (settings.irt_theta_host, settings.irt_theta_port),
}
"""Default host and port of each service."""


def _report(probe: Probe, ready: Probe) -> None:
    pause = int(os.environ.get("WATCHDOG_USEC", "0")) / 4e6 or PROBE_INTERVAL_S
    while ready() is not None:
        if ready is not probe and probe() is None:  # healthy but not ready: it waits for another server
            notify("WATCHDOG=1")
        time.sleep(READY_INTERVAL_S)
    notify("READY=1", "WATCHDOG=1")
    while True:
        time.sleep(pause)
        fault = probe()
        if fault is None:
            notify("WATCHDOG=1", "STATUS=healthy")
        else:
            LOG.error("not healthy: %s", fault)
            notify(f"STATUS={fault}")


def restart_process(*_: object) -> None:
    """Restart this process: same command and process id, open connections closed. Any thread may call it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
    sys.stdout.flush()
    if threading.current_thread() is threading.main_thread():  # only it may set handlers of signals
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the restarted process handles it
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def stop_on_hangup(stop: Callable[[], None]) -> threading.Event:
    """Let SIGHUP call `stop` and set the returned event; the caller then calls `restart_process`."""
    restart = threading.Event()

    def stop_first(_signal: int, _frame: FrameType | None) -> None:
        restart.set()
        stop()

    signal.signal(signal.SIGHUP, stop_first)
    return restart
