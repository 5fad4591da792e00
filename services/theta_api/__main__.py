"""`python -m services.theta_api`: the θ API, as a process that runs until it is interrupted."""

from __future__ import annotations

import sys
from functools import partial

from resources import logs
from resources.failures import PermanentFailure
from resources.service_manager import http_health, keep_told
from resources.settings import get_settings
from services.theta_api.server import serve


def main() -> None:
    logs.configure()
    try:
        settings = get_settings()
        address = f"http://{settings.irt_theta_host}:{settings.irt_theta_port}"
        keep_told(partial(http_health, address), ready=partial(http_health, address, "ready"))
        serve(settings)
    except PermanentFailure as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main()
