"""Dagster's code server: `python -m irt_assets.servers.code_server -s SOCKET -m MODULE …`, as `dagster api grpc`.

On SIGHUP it restarts with the current code; runs under way are separate processes and go on. What does not
belong here: what it serves (see `definitions`).
"""

from __future__ import annotations

import os
from functools import partial

import psutil
from prometheus_client import CollectorRegistry, Gauge

from irt_assets.common.probes import code_server
from resources.dagster_compat import have_the_last_word_on_logs, let_runs_wait, run_code_server
from resources.serving import logs, metrics
from resources.serving.service_manager import report_to_service_manager, restart_on_hangup
from resources.settings import get_settings

WORKER = "multiprocessing.spawn"
"""A part of the command line that only run workers have."""


def code_server_registry() -> CollectorRegistry:
    registry = metrics.server_registry()
    runs = Gauge("irt_code_server_runs", "Live run workers that this code server started.", registry=registry)
    runs.set_function(lambda: sum(_is_worker(child) for child in psutil.Process().children()))
    return registry


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any(WORKER in argument for argument in process.cmdline())
    except psutil.Error:
        return False


def main() -> None:
    os.umask(0o077)
    logs.configure()
    have_the_last_word_on_logs(logs.configure)
    port = get_settings().irt_code_server_metrics_port
    metrics.show(code_server_registry(), port, "IRT_CODE_SERVER_METRICS_PORT")
    restart_on_hangup()
    tcp, socket = os.environ["IRT_CODE_SERVER_PORT"], os.environ["IRT_CODE_SERVER_SOCKET"]
    report_to_service_manager(partial(code_server, f"127.0.0.1:{tcp}" if tcp else f"unix:{socket}"))
    let_runs_wait()
    run_code_server()


if __name__ == "__main__":
    main()
