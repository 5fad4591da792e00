"""Factor for deadlines of tests: how much slower this machine is now than an idle machine."""

from __future__ import annotations

import hashlib
import os
import time

VARIABLE = "PATIENCE_FACTOR"
"""Environment variable with the factor, measured once per test run and passed to all its processes."""
ROUNDS = 100
IDLE_S = 0.12
"""Seconds that the rounds take on an idle core of the machines for which the deadlines were set."""


def measure_slowness() -> float:
    """Factor, between 2 and 10, by which this machine is slower than an idle one, or will be as other tests run."""
    began, content = time.monotonic(), b"x" * 1_000_000
    for _ in range(ROUNDS):
        hashlib.sha256(content).digest()
    return min(10.0, max(2.0, (time.monotonic() - began) / IDLE_S))


def patient(seconds: float) -> float:
    """Deadline, in seconds, of an action that takes at most `seconds` on an idle machine."""
    return seconds * float(os.environ.get(VARIABLE, "1"))
