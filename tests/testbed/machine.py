"""Ports that no other test uses, and whether a process is alive."""

from __future__ import annotations

import random
import socket

import psutil

LOWEST, HIGHEST = 20_000, 29_999
"""Range of ports, below the ports that the kernel assigns to connections and to servers that request any port."""
RANDOM = random.SystemRandom()  # a seeded generator would give each worker the same ports
_kept: list[socket.socket] = []


def free_port(count: int = 1) -> int:
    """Returns the first of `count` free ports of 127.0.0.1, reserved while this process lives.

    A bound UDP port of the same number is the reservation, until the server of the port has started.
    """
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
    """Whether the process is running. False for a zombie, whose exit code has not been read yet."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
