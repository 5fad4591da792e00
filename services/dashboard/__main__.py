"""`python -m services.dashboard`: the dashboard, as a process that runs until it is interrupted."""

from functools import partial

from resources.serving.service import argument_parser, run_service
from services.dashboard.server import serve


def main() -> None:
    parser = argument_parser("dashboard", "The dashboard.")
    parser.add_argument("--demo", action="store_true", help="run without a login; on the embedded database only")
    arguments = parser.parse_args()
    run_service("dashboard", partial(serve, demo=arguments.demo, host=arguments.host), arguments.host)


if __name__ == "__main__":
    main()
