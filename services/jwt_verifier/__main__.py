"""`python -m services.jwt_verifier`: the verifier, as a process that runs until it is interrupted."""

from functools import partial

from resources.serving.service import argument_parser, run_service
from services.jwt_verifier.app import serve


def main() -> None:
    arguments = argument_parser("jwt_verifier", "Answers nginx's auth_request.").parse_args()
    run_service("jwt_verifier", partial(serve, host=arguments.host), arguments.host)


if __name__ == "__main__":
    main()
