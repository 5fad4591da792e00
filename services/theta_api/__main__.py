"""`python -m services.theta_api`: the θ API, as a process that runs until it is interrupted."""

from resources.serving.service import run_service
from services.theta_api.server import serve


def main() -> None:
    run_service("theta_api", serve)


if __name__ == "__main__":
    main()
