"""What the API says where it gives no θ: problem+json (RFC 9457) with a way out in each.

What does not belong here: when a problem arises.
"""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"
TITLES = {
    400: "The request cannot be read",
    401: "Who asks is not known",
    403: "This is not allowed",
    404: "There is no such learner or page",
    405: "The page is not asked in this way",
    409: "Nothing is published",
    413: "The request is too large",
    422: "There is nothing to measure",
    500: "The API has failed",
    503: "No answer at the moment",
}


class Problem(Exception):
    """Ends a request with a status, a kind for programs, and a sentence for people that says what to do."""

    def __init__(self, status: int, kind: str, detail: str, retry_after: int | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.retry_after = retry_after
        self.more = more

    def response(self) -> JSONResponse:
        headers = {"Cache-Control": "no-store"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="irt"'
        content = {
            "type": f"urn:irt:problem:{self.kind}",
            "title": TITLES.get(self.status, "The request is refused"),
            "status": self.status,
            "detail": str(self),
            **self.more,
        }
        return JSONResponse(content, self.status, headers, MEDIA_TYPE)


def unavailable(detail: str, kind: str = "unavailable", retry_after: int = 2) -> Problem:
    return Problem(503, kind, detail, retry_after)
