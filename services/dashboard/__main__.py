"""`python -m services.dashboard`: the dashboard, as a process that runs until it is interrupted."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from resources import logs
from resources.failures import PermanentFailure
from resources.service_manager import http_health, keep_told
from resources.settings import get_settings
from services.dashboard.server import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="services.dashboard", description="The dashboard.")
    parser.add_argument("--host", default="127.0.0.1", help="address it listens on (default: this machine alone)")
    parser.add_argument("--demo", action="store_true", help="ask nobody who they are; on the embedded database alone")
    asked = parser.parse_args()
    logs.configure()
    try:
        settings = get_settings()
        keep_told(partial(http_health, f"http://127.0.0.1:{settings.irt_dashboard_port}"))
        serve(settings, demo=asked.demo, port=settings.irt_dashboard_port, host=asked.host)
    except PermanentFailure as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main()
