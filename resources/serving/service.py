"""Runs a service as a process: its start, its messages to systemd, and uvicorn with our options."""

import argparse
import asyncio
import gc
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from resources.failures import PermanentFailure
from resources.serving import logs
from resources.serving.listening import open_listener, restart_process_with
from resources.serving.service_manager import (
    LOOPBACK,
    http_health,
    report_to_service_manager,
    service_address,
    service_fault,
    stop_on_hangup,
)
from resources.settings import Settings, get_settings

ACCEPT_GRACE_S = 0.2


def argument_parser(name: str, description: str) -> argparse.ArgumentParser:
    """The command line of a service, with the option `--host` for the address on which it listens."""
    parser = argparse.ArgumentParser(prog=f"services.{name}", description=description)
    parser.add_argument("--host", default=LOOPBACK, help="address it listens on (default: this machine only)")
    return parser


def run_service(package: str, serve: Callable[[Settings], None], host: str | None = None) -> None:
    """Serve until SIGTERM. A PermanentFailure ends the process with its message and exit code 1.

    host: the address on which `serve` listens, if it is not the service's default.
    """
    logs.configure()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it serves
    try:
        settings = get_settings()
        answers = partial(http_health, service_address(package, settings, host), any_answer=True)
        report_to_service_manager(answers, ready=partial(service_fault, package, settings, host=host))
        serve(settings)
    except PermanentFailure as failure:
        sys.exit(str(failure))


def serve_http(app: ASGIApp, *, host: str, port: int, **options: Any) -> None:
    """Serve `app` until SIGTERM, with our log, and without trusting a proxy's headers about the client.

    After SIGHUP, pending requests are finished and the process restarts; requests that come meanwhile wait. Raises
    PermanentFailure if the port is not free.
    """
    listener = open_listener(host, port)
    config = uvicorn.Config(
        app, log_config=None, log_level="warning", access_log=False, proxy_headers=False, server_header=False, **options
    )
    serve_until_signal(Server(config), listener)


class Server(uvicorn.Server):
    """uvicorn that, when it stops, gives connections that it has just accepted time to send their request."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.freeze()  # Full collections would traverse all loaded modules, and block for 0.2 s.

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await asyncio.sleep(ACCEPT_GRACE_S)
        await super().shutdown(sockets)


def serve_until_signal(server: uvicorn.Server, listener: socket.socket) -> None:
    """Run until SIGTERM, or until SIGHUP, after which the process restarts and keeps listening."""

    def stop() -> None:
        server.should_exit = True

    restart = stop_on_hangup(stop) if threading.current_thread() is threading.main_thread() else threading.Event()
    server.run(sockets=[listener.dup()])  # a duplicate, because uvicorn closes it
    if restart.is_set():
        restart_process_with(listener)
    if not server.started:
        sys.exit(1)
