"""`python -m services.exporter`: the exporter, as a process that runs until it is interrupted."""

from functools import partial

from resources.serving.service import argument_parser, run_service
from services.exporter.app import serve


def main() -> None:
    arguments = argument_parser("exporter", "Shows the state of the platform to Prometheus.").parse_args()
    run_service("exporter", partial(serve, host=arguments.host), arguments.host)


if __name__ == "__main__":
    main()
