"""The API's errors: problem+json (RFC 9457), each with a sentence on the remedy."""

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse

from services.theta_api.schemas import ProblemDetails

MEDIA_TYPE = "application/problem+json"
TITLES = {
    400: "The request cannot be read",
    401: "The caller is unknown",
    403: "This is not allowed",
    404: "There is no such learner, test, item, month or page",
    405: "The page does not accept this method",
    409: "The request does not fit what is stored",
    413: "The request is too large",
    415: "The body has an unsupported type",
    422: "The answers cannot be measured",
    500: "The API has failed",
    503: "The API cannot answer at the moment",
}


TITLES_BY_KIND = {
    "bad_answers": "The answers do not fit the session",
    "erased": "The learner was erased",
    "month_held": "The month is held",
    "no_answers": "There is nothing to measure",
    "no_report": "Nothing has been evaluated yet",
    "no_such_page": "There is no such page",
    "nothing_published": "Nothing is published",
    "other_session": "The session belongs to another learner or test",
    "set_gone": "The session cannot continue",
    "test_account": "The learner is a test account",
    "unknown_form": "There is no such form",
    "unknown_item": "There is no such item",
    "unknown_learner": "There is no such learner",
    "unknown_month": "There is no such month",
    "unknown_scale": "There is no such scale",
    "unknown_test": "There is no such test",
    "unknown_topic": "There is no such topic",
}
"""Titles of the kinds whose status has several kinds."""


class Problem(Exception):
    """An error that ends a request: a status, a kind for programs, and a sentence for people with the remedy."""

    def __init__(self, status: int, kind: str, detail: str, retry_after: int | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.retry_after = retry_after
        self.more = more

    def response(self, more_headers: Mapping[str, str] | None = None) -> JSONResponse:
        headers = {"Cache-Control": "no-store", **(more_headers or {})}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="irt"'
        content = {
            "type": f"urn:irt:problem:{self.kind}",
            "title": TITLES_BY_KIND.get(self.kind) or TITLES.get(self.status, "The request is refused"),
            "status": self.status,
            "detail": str(self),
            **self.more,
        }
        return JSONResponse(content, self.status, headers, MEDIA_TYPE)


def unavailable(detail: str, kind: str = "unavailable", retry_after: int = 2) -> Problem:
    return Problem(503, kind, detail, retry_after)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses` argument for problems with these statuses."""
    content = {MEDIA_TYPE: {"schema": ProblemDetails.model_json_schema()}}
    responses: dict[int | str, dict[str, Any]] = {
        status: {"description": TITLES[status], "content": content} for status in statuses
    }
    headers = {
        401: ("WWW-Authenticate", {"type": "string"}),
        503: ("Retry-After", {"type": "integer", "minimum": 1, "description": "seconds"}),
    }
    for status, (name, schema) in headers.items():
        if status in responses:
            responses[status]["headers"] = {name: {"required": True, "schema": schema}}
    return responses
