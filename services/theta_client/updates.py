"""A bounded queue of learners whose θ is to be updated, and the thread that requests the updates with `api`."""

from __future__ import annotations

import _thread
import logging
import threading
from time import monotonic
from typing import Callable

from .api import UpdateFailed

log = logging.getLogger("irt_theta_client")

MAX_WAITING = 2000
"""Largest number of learners in the queue: half a minute of work if the API answers within 15 ms."""
SECONDS_BETWEEN_WARNINGS = 60.0


class Updates:
    """A queue that holds each learner once, and its worker, which starts with the first learner.

    The lock is reentrant because a signal handler may interrupt a call with another call. It is held for microseconds
    and never while anything is sent or logged.
    """

    def __init__(self, update: Callable[[str], None], clock: Callable[[], float] = monotonic) -> None:
        self._update, self._clock = update, clock
        self._changed = threading.Condition(threading.RLock())
        self._log_lock = threading.Lock()
        self._waiting: dict[str, None] = {}  # in the order of arrival
        self._counts = {"sent": 0, "failed": 0, "dropped": 0, "merged": 0}
        self._has_worker = False
        self._is_sending = False
        self._is_over = False
        self._resume_at = 0.0  # no request before this time: the API requested a pause
        self._warn_at = 0.0  # no warning before this time
        self._unreported = 0
        self._last_loss = ""

    def add(self, user_id: str | None) -> None:
        """Queue a learner. The call is dropped if `user_id` is None or the queue is full."""
        with self._changed:
            if user_id is None:
                self._count_loss("dropped", "a call without a learner's id")
            elif user_id in self._waiting:
                self._counts["merged"] += 1
            elif self._is_over or len(self._waiting) >= MAX_WAITING:
                self._count_loss("dropped", f"learner {user_id!a}: {len(self._waiting)} others are already waiting")
            else:
                self._waiting[user_id] = None
            self._changed.notify_all()
            if not self._has_worker and not self._is_over:
                # Unlike threading.Thread.start this does not wait until the thread runs, which takes milliseconds
                # if other threads compute. The process can also exit without waiting for this thread.
                _thread.start_new_thread(self._work, ())
                self._has_worker = True

    def counters(self) -> dict[str, int]:
        """A copy of the counters."""
        with self._changed:
            return dict(self._counts)

    def finish(self, seconds: float) -> None:
        """Give the worker `seconds` to empty the queue, less if the API requested a pause, and then stop it."""
        deadline = self._clock() + seconds
        with self._changed:
            self._changed.wait_for(self._has_nothing_to_send, timeout=seconds)
            self._is_over = True
            self._counts["dropped"] += len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        # Kept for good: an interpreter that ends while a thread holds the lock of stderr aborts.
        self._log_lock.acquire(timeout=max(deadline - self._clock(), 0.1))

    def _work(self) -> None:
        try:
            while (user_id := self._next_learner()) is not None:
                self._send(user_id)
        finally:
            with self._changed:
                self._has_worker = False

    def _next_learner(self) -> str | None:
        """Wait for a learner, and warn meanwhile about lost updates. Returns None when the process ends."""
        while True:
            self._warn()
            with self._changed:
                if self._is_over:
                    return None
                now = self._clock()
                if self._waiting and now >= self._resume_at:
                    self._is_sending = True
                    user_id = next(iter(self._waiting))
                    del self._waiting[user_id]  # learners who complete another session from now on are sent again
                    return user_id
                times = [self._resume_at] * bool(self._waiting) + [self._warn_at] * bool(self._unreported)
                self._changed.wait(max(min(times) - now, 0) if times else None)

    def _send(self, user_id: str) -> None:
        pause, reason = 0.0, ""
        try:
            self._update(user_id)
        except UpdateFailed as failure:
            pause, reason = failure.pause, str(failure)
        except Exception as error:  # noqa: BLE001 - after any error the worker goes on with the next learner
            reason = repr(error)
        with self._changed:
            self._is_sending = False
            self._resume_at = self._clock() + pause
            if reason:
                self._count_loss("failed", f"learner {user_id!a}: {reason}")
            else:
                self._counts["sent"] += 1
            self._changed.notify_all()

    def _has_nothing_to_send(self) -> bool:
        return not self._is_sending and (not self._waiting or self._clock() < self._resume_at)

    def _count_loss(self, counter: str, loss: str) -> None:
        self._counts[counter] += 1
        self._unreported += 1
        self._last_loss = loss

    def _warn(self) -> None:
        """Log at most one warning a minute. Only the worker calls this: a slow log handler must not delay the exam."""
        with self._changed:
            now = self._clock()
            if not self._unreported or now < self._warn_at or self._is_over:
                return
            lost, loss = self._unreported, self._last_loss
            self._unreported, self._warn_at = 0, now + SECONDS_BETWEEN_WARNINGS
        with self._log_lock:
            log.warning("theta not updated after %d session(s), theta_sweep will catch up; the last: %s", lost, loss)
