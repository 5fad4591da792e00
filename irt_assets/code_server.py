"""Dagster's code server: `python -m irt_assets.code_server -s SOCKET -m MODULE …`, as `dagster api grpc` takes them.

On SIGHUP it starts anew with the code as it is then; runs under way are processes of their own and go on. What does not
belong here: what it serves (see `definitions`).
"""

from __future__ import annotations

import os
from functools import partial

from dagster._cli.api import grpc_command

from irt_assets.probes import code_server
from resources import logs
from resources.service_manager import keep_told, start_anew_on_hangup


def main() -> None:
    os.umask(0o077)
    logs.configure()
    start_anew_on_hangup()
    keep_told(partial(code_server, os.environ["IRT_CODE_SERVER_SOCKET"]))
    grpc_command()


if __name__ == "__main__":
    main()
