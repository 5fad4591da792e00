"""Start and supervise servers: the stack of `irt serve`, and the single servers that systemd or a pod starts."""

from typing import Literal, get_args

Server = Literal["webserver", "daemon", "code-server", "theta-api", "jwt-verifier", "exporter", "dashboard"]
"""Servers that `irt run` starts."""
SERVERS: tuple[Server, ...] = get_args(Server)
