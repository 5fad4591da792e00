"""Requests to the θ API that are repeated if it responds with 503, as its clients do."""

from __future__ import annotations

import time
from collections.abc import Callable

import requests

from tests.testbed.patience import patient


def kind(answer: requests.Response) -> tuple[int, str]:
    """Returns the status of a refusal and the last part of its problem type."""
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
    """Repeat a request after a 503, which has stored nothing. A machine that stops for two seconds causes a 503."""
    deadline = time.monotonic() + patient(30)
    while turned_away(answer := ask()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


def unless_shed(ask: Callable[[], requests.Response]) -> requests.Response:
    """Repeat a request if it was shed before any work, which a short stop of the machine causes.

    Any other 503 is returned.
    """
    return unless_busy(ask, is_shed)
