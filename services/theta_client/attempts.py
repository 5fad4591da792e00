"""Send answers to the θ API. Each call waits until they are stored, or raises.

Unlike the session hook, nothing runs in the background: a caller that loses the rows of a failed call loses answers.
`spool` keeps them on disk.
"""

from __future__ import annotations

import json
from http.client import HTTPException
from typing import Any
from uuid import uuid4

from .api import Address, UpdateFailed, post_json, read_address

PATH = "/api/seedtest/attempts"
SECONDS = 20.0
ROWS_AT_FAULT = "urn:irt:problem:bad_request"
MAX_ROWS = 1_000
MAX_BODY_BYTES = 2 * 2**20


class AttemptsNotSent(Exception):
    """Perhaps not all rows are stored; the message is the reason. Send the same rows again, after `pause` seconds.

    Attributes:
        again: whether sending again can help. If not, a setting is wrong.
        retry_after: the pause in seconds that the API requested, if any.
    """

    def __init__(self, reason: str, retry_after: float | None = None, again: bool = True) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.pause = 1.0 if retry_after is None else retry_after
        self.again = again


def send_attempts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send the rows and return the result of each, in the order given. Each is then stored, known or refused.

    Each row without `attempt_id` gets one, in place, so that the same rows can be sent again after an error and are
    stored only once. Raises `AttemptsNotSent` if it is not certain that all rows are stored.
    """
    try:
        address = read_address()
    except UpdateFailed as error:
        raise AttemptsNotSent(str(error), again=False) from None
    for row in rows:
        if not row.get("attempt_id"):
            row["attempt_id"] = uuid4().hex
    parts = (rows[start : start + MAX_ROWS] for start in range(0, len(rows), MAX_ROWS))
    return [result for part in parts for result in _send(address, part)]


def _send(address: Address, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    body = json.dumps(rows, allow_nan=False, ensure_ascii=False).encode()
    half = len(rows) // 2
    if len(body) > MAX_BODY_BYTES and half:
        return _send(address, rows[:half]) + _send(address, rows[half:])
    host = f"{address.host}:{address.port}"
    try:
        with post_json(address, PATH, body, SECONDS) as response:
            status, requested_pause = response.status, response.getheader("Retry-After") or ""
            content = parse_object(response.read()) or {}
    except (OSError, HTTPException) as error:
        raise AttemptsNotSent(f"{host}: {ascii(error)[:200]}") from None
    refused_for_good = status == 413 or (status == 400 and content.get("type") == ROWS_AT_FAULT)
    if refused_for_good and half:
        return _send(address, rows[:half]) + _send(address, rows[half:])
    if status == 413:
        return [
            {
                "result": "rejected",
                "reason": "too_large",
                "what_to_do": "The API does not accept an answer of this size.",
            }
        ]
    if refused_for_good:
        return [{"result": "rejected", "reason": "bad_request", "what_to_do": str(content.get("detail", ""))}]
    if status != 200:
        retry_after = float(requested_pause) if requested_pause.isdigit() else None
        reason = f"{host} answered {status}: {content.get('detail', '')}"
        raise AttemptsNotSent(reason, retry_after, again=status >= 500 or status == 429)
    results = content.get("attempts")
    if not isinstance(results, list) or len(results) != len(rows):
        raise AttemptsNotSent(f"{host} is not the θ API", again=False)
    return results


def parse_object(text: bytes) -> dict[str, Any] | None:
    """Parse a JSON object. Returns None if the text is not an object, or could not be sent again as JSON in UTF-8."""
    try:
        parsed = json.loads(text)
        json.dumps(parsed, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None
