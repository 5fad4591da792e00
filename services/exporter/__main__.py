"""`python -m services.exporter`: the exporter, as a process that runs until it is interrupted."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from resources import logs
from resources.failures import PermanentFailure
from resources.service_manager import http_health, keep_told
from resources.settings import get_settings
from services.exporter.app import serve


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="services.exporter", description="Shows the state of the platform to Prometheus."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address it listens on (default: this machine alone)")
    asked = parser.parse_args()
    logs.configure()
    try:
        settings = get_settings()
        keep_told(partial(http_health, f"http://127.0.0.1:{settings.prometheus_metrics_port}"))
        serve(settings, host=asked.host)
    except PermanentFailure as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main()
