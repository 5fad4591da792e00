"""`python -m services.theta_api`: the θ API, as a process that runs until it is interrupted."""

from __future__ import annotations

import sys

from resources import logs
from resources.failures import PermanentFailure
from resources.settings import get_settings
from services.theta_api.server import serve


def main() -> None:
    logs.configure()
    try:
        serve(get_settings())
    except PermanentFailure as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main()
