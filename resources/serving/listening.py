"""The listening socket of a server. It survives a restart, so that connections wait meanwhile and are not refused.

systemd keeps it while it starts the server again; a server that restarts under its process id passes it on. The
protocols are sd_pid_notify_with_fds(3), with FileDescriptorStoreMax= in the unit, and sd_listen_fds(3).
"""

import array
import os
import socket
from functools import cache
from typing import Any

from resources.failures import PermanentFailure
from resources.serving.service_manager import notify, restart_process

FIRST_DESCRIPTOR = 3
"""Descriptor of the first file that systemd passes to a process."""
NAME = "requests"
BACKLOG = 2048
"""Largest number of connections that wait to be accepted."""


def open_listener(host: str, port: int) -> socket.socket:
    """A socket that listens on the host and port: the socket that was kept for this process, or a new one.

    A new socket is kept from now on. Raises PermanentFailure if the address is not free.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    inherited = _inherited_socket()
    if inherited is not None:
        if (inherited.family, inherited.getsockname()) == (family, address):
            return inherited
        notify("FDSTOREREMOVE=1", f"FDNAME={NAME}")
        inherited.close()
    opened = _open_socket(family, address)
    passed = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [opened.fileno()]).tobytes())
    notify("FDSTORE=1", f"FDNAME={NAME}", ancillary=[passed])
    return opened


def bound_port(port: int) -> int:
    """A port of 127.0.0.1 that a server can bind: `port`, or any free port if it is 0. Raises OSError if it cannot."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # like our servers
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])


def restart_process_with(listener: socket.socket) -> None:
    """Restart this process with the same command and process id, while it keeps listening."""
    os.dup2(listener.fileno(), FIRST_DESCRIPTOR)
    os.set_inheritable(FIRST_DESCRIPTOR, True)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    restart_process()


@cache
def _inherited_socket() -> socket.socket | None:
    """The socket that was passed to this process. Returns None if no socket was passed."""
    process, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if (process, count) != (str(os.getpid()), "1"):
        return None
    listener = socket.socket(fileno=FIRST_DESCRIPTOR)
    listener.set_inheritable(False)
    return listener


def _open_socket(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # else asyncio delays small responses
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        location = f"{address[0]}, port {address[1]}"
        raise PermanentFailure(
            f"it cannot listen on {location} ({error.strerror}): `ss -ltnp` says who does; stop that, "
            "or set another port"
        ) from error
    return listener
