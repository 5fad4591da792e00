"""How long a test waits for what must come: seconds of an idle machine, times how slow this one is now.

What belongs here: the one factor of all deadlines. What does not: the deadlines, which stand where they are waited for.
"""

from __future__ import annotations

import hashlib
import os
import time

VARIABLE = "PATIENCE_FACTOR"
"""The factor, measured once for a run of the tests and handed to all its processes."""
ROUNDS = 100
IDLE_S = 0.12
"""What the rounds take on an idle core of the machines that the deadlines were set on."""


def measured() -> float:
    """How many times slower than an idle machine this one is, or soon will be, as other tests share its cores: between
    2 and 10."""
    began, content = time.monotonic(), b"x" * 1_000_000
    for _ in range(ROUNDS):
        hashlib.sha256(content).digest()
    return min(10.0, max(2.0, (time.monotonic() - began) / IDLE_S))


def patient(seconds: float) -> float:
    """The deadline of what takes `seconds` at most on an idle machine."""
    return seconds * float(os.environ.get(VARIABLE, "1"))
