"""Request the next item of an adaptive test. The same answers give the same item, so every request can be repeated."""

from __future__ import annotations

import json
from http.client import HTTPException
from typing import Any
from urllib.parse import quote

from .api import UpdateFailed, post_json, read_address
from .attempts import parse_object


class NextItemFailed(UpdateFailed):
    """The API has returned no next item; the message is the reason.

    `pause`: seconds after which the same request should be sent again. If 0, a setting or the request is wrong.
    """


def next_item(test: str, user_id: str, session_id: str, answers: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return the next item of a session as the API describes it; its `stop` is the reason if the session ends.

    `answers` are all earlier answers of the session in order, such as {"item_id": "q7", "correct": True}, or with a
    `score` instead of `correct`. If None, the answers in the log are used. Raises `NextItemFailed` otherwise.
    """
    try:
        address = read_address()
    except UpdateFailed as error:
        raise NextItemFailed(str(error)) from None
    body = json.dumps({"user_id": user_id, "session_id": session_id, "answers": answers}).encode()
    path = f"/api/seedtest/tests/{quote(test, safe='')}/next-item"
    host = f"{address.host}:{address.port}"
    try:
        with post_json(address, path, body, timeout=5.0) as response:
            status, requested_pause = response.status, response.getheader("Retry-After") or ""
            found = parse_object(response.read()) or {}
    except (OSError, HTTPException) as error:
        raise NextItemFailed(f"{host}: {ascii(error)[:200]}", pause=1.0) from None
    if status != 200:
        pause = float(requested_pause) if requested_pause.isdigit() else float(status >= 500)
        raise NextItemFailed(f"{host} answered {status}: {found.get('detail', '')}", pause)
    if found.get("session_id") != session_id or "item_id" not in found:
        raise NextItemFailed(f"{host} is not the θ API")
    return found
