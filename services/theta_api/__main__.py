"""`python -m services.theta_api`: the θ API, as a process that runs until it is interrupted."""

from __future__ import annotations

from resources.service import run_service
from services.theta_api.server import serve


def main() -> None:
    run_service(serve, lambda settings: f"{settings.irt_theta_host}:{settings.irt_theta_port}", ready_page="ready")


if __name__ == "__main__":
    main()
