"""`python -m irt_assets.webserver`: the Dagster UI, as a process that runs until it is interrupted; SIGHUP restarts it.

`irt serve` sets its environment, as for all its servers (see `irt_assets.servers.stack`).
"""

import argparse
import sys
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from irt_assets.common.environment import workspace
from irt_assets.common.probes import webserver
from irt_assets.webserver.identity import IdentityLayer
from jobs.launching.launched_by import tags_of_backfill
from resources.dagster_compat import webserver_app
from resources.failures import PermanentFailure
from resources.files.object_store import object_store
from resources.postgres.database import Database
from resources.serving import logs, metrics
from resources.serving.guard import Guard
from resources.serving.listening import open_listener
from resources.serving.service import Server, serve_until_signal
from resources.serving.service_manager import host_from_here, report_to_service_manager
from resources.settings import Settings, get_settings
from services.jwt_verifier.tokens import Role, Verifier, build_verifier
from services.report_files import ReportFiles

OPEN_REQUESTS_S = 5
"""Time in seconds that shutdown waits for open requests, and for subscriptions, which never end."""


def login(settings: Settings) -> Verifier | None:
    """The verifier of tokens, or None if no login is configured. Raises PermanentFailure if its settings are wrong."""
    return build_verifier(settings) if settings.has_login else None


def guard_ui(dagster: ASGIApp, settings: Settings, verifier: Verifier | None, *, read_only: bool = False) -> ASGIApp:
    """Dagster's UI behind our layers, configured by `settings`."""
    prefix = settings.ui_prefix
    learners = settings.ui_hands_out_learner_reports
    reports = ReportFiles(dagster, Database(settings), object_store(settings), prefix=prefix, learners=learners)
    role: Role = "viewer" if read_only else "analyst"
    identified = IdentityLayer(reports, verifier, settings.jwt_cookie_name, role, prefix=prefix)
    return Guard(identified, settings.ui_names, prefix=prefix)


def serve(settings: Settings, *, port: int, read_only: bool) -> None:
    """Serve the UI until SIGTERM.

    Raises PermanentFailure if settings of the login are wrong or missing, or if the port is not free.
    """
    verifier, host = login(settings), settings.ui_address  # first, to report wrong settings before Dagster is loaded
    report_to_service_manager(partial(webserver, f"http://{host_from_here(host)}:{port}{settings.ui_prefix}"))
    registry = metrics.server_registry()
    metrics.serve(registry, settings.metrics_port("webserver"), "IRT_EXPORTER_METRICS_PORT")
    with webserver_app(
        workspace(settings), path_prefix=settings.ui_prefix, read_only=read_only, tags_of_backfill=tags_of_backfill
    ) as dagster:
        page = metrics.CountRequests(guard_ui(dagster, settings, verifier, read_only=read_only), "page", registry)
        config = uvicorn.Config(
            page,
            log_config=None,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=OPEN_REQUESTS_S,
        )
        serve_until_signal(Server(config), open_listener(host, port))


def main() -> None:
    parser = argparse.ArgumentParser(prog="irt_assets.webserver", description="The page.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--read-only", action="store_true", help="Show everything, change nothing.")
    arguments = parser.parse_args()
    logs.configure()
    try:
        serve(get_settings(), port=arguments.port, read_only=arguments.read_only)
    except PermanentFailure as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main()
