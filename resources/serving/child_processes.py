"""Preparation of a child process, between its start and its program."""

import ctypes
import signal
import sys

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


def end_with_parent() -> None:
    """Let the kernel kill this process with the thread that started it. Only on Linux."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def name_this_process(name: str) -> None:
    """Let `ps` and `top` show this name, at most 15 ASCII characters. Only on Linux."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_NAME, name.encode("ascii"))
