"""The socket on which a server takes requests, which outlives the server: kept by systemd while the server is started
again, and handed on where it restarts under its process id.

Connections that come meanwhile wait, and none is refused. The protocols are sd_pid_notify_with_fds(3), in the unit
FileDescriptorStoreMax=, and sd_listen_fds(3). What does not belong here: what a server answers.
"""

import array
import os
import socket
from functools import cache
from typing import Any

from resources.failures import PermanentFailure
from resources.serving.service_manager import notify, restart_process

FIRST_PASSED = 3
"""The descriptor of the first file that a process is given by systemd."""
NAME = "requests"
WAITING = 2048
"""Connections that may wait to be taken."""


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there: the one that was kept for this process, or a new one, which is kept from now on.

    Raises PermanentFailure where the address is not free.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    kept = _inherited_socket()
    if kept is not None:
        if (kept.family, kept.getsockname()) == (family, address):
            return kept
        notify("FDSTOREREMOVE=1", f"FDNAME={NAME}")
        kept.close()
    opened = _open_socket(family, address)
    passed = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [opened.fileno()]).tobytes())
    notify("FDSTORE=1", f"FDNAME={NAME}", ancillary=[passed])
    return opened


def bound_port(port: int) -> int:
    """The port, or any free one for 0, of this machine alone, if a server could bind it. Raises OSError if not."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])


def restart_process_with(listener: socket.socket) -> None:
    """Restart this process, which goes on listening: same command and process id."""
    os.dup2(listener.fileno(), FIRST_PASSED)
    os.set_inheritable(FIRST_PASSED, True)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    restart_process()


@cache
def _inherited_socket() -> socket.socket | None:
    """The socket that this process was given."""
    process, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if (process, count) != (str(os.getpid()), "1"):
        return None
    given = socket.socket(fileno=FIRST_PASSED)
    given.set_inheritable(False)
    return given


def _open_socket(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio delays small answers
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        listener.bind(address)
        listener.listen(WAITING)
    except OSError as error:
        listener.close()
        where = f"{address[0]}, port {address[1]}"
        raise PermanentFailure(
            f"it cannot listen on {where} ({error.strerror}): `ss -ltnp` says who does; stop that, or set another port"
        ) from error
    return listener
