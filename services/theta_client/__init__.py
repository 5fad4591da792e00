"""The client of the θ API, for the exam service.

The exam service calls `on_session_complete` when a session is over; the learner's θ is then updated in the background.
It may also send its answers: `send_attempts` waits until they are stored, an `AttemptSpool` until they are on this
machine's disk. `next_item` requests the next item of an adaptive test.

Standard library only, Python 3.9 or newer: this runs inside another program's process and must never harm it. The
sensor `theta_sweep` makes up for updates lost here. See docs/how-to/session-hook.md.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from typing import Any
from uuid import UUID

from .api import update_theta
from .attempts import AttemptsNotSent, send_attempts
from .next_item import NextItemFailed, next_item
from .spool import AttemptSpool
from .updates import Updates

__all__ = [
    "AttemptSpool",
    "AttemptsNotSent",
    "NextItemFailed",
    "counters",
    "next_item",
    "on_session_complete",
    "send_attempts",
]

TRUE_VALUES = {"1", "true", "t", "yes", "y", "on"}
MAX_ID_LENGTH = 1000  # characters; no learner has a longer id, and thousands of longer ids would fill the memory
SECONDS_AT_EXIT = 0.5

_enabled: bool | None = None
_updates = Updates(update_theta)


def on_session_complete(user_id: Any, session_id: Any) -> None:  # noqa: ARG001 - θ belongs to the learner
    """Queue an update of the learner's θ if ENABLE_IRT_ONLINE_UPDATE is on. Returns at once and never raises."""
    with contextlib.suppress(Exception):
        global _enabled
        if _enabled is None:
            _enabled = os.environ.get("ENABLE_IRT_ONLINE_UPDATE", "").strip().lower() in TRUE_VALUES
        if _enabled:
            _updates.add(_text_of(user_id))


def counters() -> dict[str, int]:
    """Counts of this process's calls: sent, failed, dropped, and merged with a waiting call for the same learner."""
    return _updates.counters()


def _text_of(user_id: Any) -> str | None:
    """The id as the API accepts it. Returns None if it is not a learner's id. Runs no code of the object."""
    if issubclass(type(user_id), str):
        text = str.__str__(user_id)
    elif type(user_id) is UUID or (type(user_id) is int and user_id.bit_length() < 64):
        text = str(user_id)
    else:
        return None
    return text if 0 < len(text) <= MAX_ID_LENGTH else None


def _forget_the_parent() -> None:
    """Start with an empty queue in a child after a fork: the parent sends the waiting updates."""
    global _enabled, _updates
    _enabled = None
    _updates = Updates(update_theta)


def _finish() -> None:
    _updates.finish(SECONDS_AT_EXIT)


atexit.register(_finish)
if hasattr(os, "register_at_fork"):  # absent on Windows
    os.register_at_fork(after_in_child=_forget_the_parent)
