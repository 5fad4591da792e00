"""What tests ask of the machine that they share: ports that nobody else takes, and whether a process lives.

What does not belong here: starting and ending anything.
"""

from __future__ import annotations

import random
import socket

import psutil

LOWEST, HIGHEST = 20_000, 29_999
"""Below the ports that a kernel chooses for connections and for servers that ask for any."""
RANDOM = random.SystemRandom()  # what is seeded gives each worker the same ports
_kept: list[socket.socket] = []


def free_port(count: int = 1) -> int:
    """The first of `count` ports of 127.0.0.1 where nobody listens, and that no other process is given here while this
    one lives: until the server for which a port is has started, its number in UDP stands for it."""
    while True:
        first = RANDOM.randint(LOWEST, HIGHEST - count + 1)
        kept = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(count)]
        try:
            for port, one in enumerate(kept, first):
                one.bind(("127.0.0.1", port))
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
        except OSError:
            for one in kept:
                one.close()
            continue
        _kept.extend(kept)
        return first


def lives(pid: int) -> bool:
    """Whether the process runs: not so where it has ended, though nobody has asked for its exit code."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
