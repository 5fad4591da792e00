"""Dagster's code server: `python -m irt_assets.servers.code_server -s SOCKET -m MODULE …`, as `dagster api grpc`.

It loads the graph, then forks the process from which run workers are forked (see `run_workers`), and only then starts
threads. On SIGHUP it restarts with the current code. Runs under way are separate processes and continue.
"""

import os
import signal
import sys
from contextlib import suppress
from functools import partial
from importlib import import_module

from irt_assets.common.probes import code_server
from irt_assets.servers import run_workers
from resources.dagster_compat import fork_runs, reconfigure_logs, run_code_server
from resources.serving import logs, metrics
from resources.serving.service_manager import report_to_service_manager, restart_process
from resources.settings import get_settings


def main() -> None:
    os.umask(0o077)
    logs.configure()
    reconfigure_logs(logs.configure)
    if get_settings().irt_run_launcher == "process":
        with suppress(Exception):  # Dagster loads the definitions next, and reports their errors
            import_module(sys.argv[sys.argv.index("-m") + 1]).defs.get_repository_def().load_all_definitions()
        run_workers.fork_worker_server()
    fork_runs(run_workers.prepare_worker)
    metrics.serve(metrics.server_registry(), get_settings().metrics_port("code-server"), "IRT_EXPORTER_METRICS_PORT")
    signal.signal(signal.SIGHUP, restart_process)
    tcp, socket = os.environ["IRT_CODE_SERVER_PORT"], os.environ["IRT_CODE_SERVER_SOCKET"]
    report_to_service_manager(partial(code_server, f"127.0.0.1:{tcp}" if tcp else f"unix:{socket}"))
    run_code_server()


if __name__ == "__main__":
    main()
