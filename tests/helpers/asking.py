"""How tests ask the θ API: as its clients do, again where it says so.

What belongs here: what became of a request. What does not: starting an API, and what is asked of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import requests

from tests.testbed.patience import patient


def kind(answer: requests.Response) -> tuple[int, str]:
    """The status of a refusal, and the last word of its type."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    assert answer.json()["detail"]
    return answer.status_code, answer.json()["type"].rpartition(":")[2]


def is_busy(answer: requests.Response) -> bool:
    return answer.status_code == 503


def is_shed(answer: requests.Response) -> bool:
    return is_busy(answer) and kind(answer)[1] == "shed"


def unless_busy(
    ask: Callable[[], requests.Response], turned_away: Callable[[requests.Response], bool] = is_busy
) -> requests.Response:
    """Asked again after a 503, which has stored nothing: a machine that stands still for two seconds makes one."""
    deadline = time.monotonic() + patient(30)
    while turned_away(answer := ask()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


def unless_shed(ask: Callable[[], requests.Response]) -> requests.Response:
    """Asked again where it was turned away before anything was done: a machine that stands still for a moment does
    that. Any other 503 is the answer."""
    return unless_busy(ask, is_shed)
