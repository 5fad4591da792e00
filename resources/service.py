"""Runs a service as a process: its start, what systemd is told, and uvicorn with our options.

What does not belong here: what a service answers (see the packages of `services`).
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from resources import logs
from resources.failures import PermanentFailure
from resources.service_manager import LOOPBACK, http_answers, keep_told, service_address, service_fault
from resources.settings import Settings, get_settings


def argument_parser(name: str, description: str) -> argparse.ArgumentParser:
    """The command line of a service that listens where `--host` says."""
    parser = argparse.ArgumentParser(prog=f"services.{name}", description=description)
    parser.add_argument("--host", default=LOOPBACK, help="address it listens on (default: this machine alone)")
    return parser


def run_service(package: str, serve: Callable[[Settings], None], host: str | None = None) -> None:
    """Serve until SIGTERM. A PermanentFailure ends the process with its message and exit code 1.

    host: the address on which `serve` listens, where that is not the service's default.
    """
    logs.configure()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a service that rereads something sets its own handler
    try:
        settings = get_settings()
        answers = partial(http_answers, service_address(package, settings, host))
        keep_told(answers, ready=partial(service_fault, package, settings, host=host, ready=True))
        serve(settings)
    except PermanentFailure as failure:
        sys.exit(str(failure))


def serve_http(app: ASGIApp, *, host: str, port: int, **options: Any) -> None:
    """Serve `app` until SIGTERM, with our log, and without trusting a proxy's headers about the client."""
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        **options,
    )
