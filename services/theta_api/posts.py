"""Answers that programs post. They are stored before they are acknowledged, and each row has a result of its own.

This module handles HTTP; `irt_assets.intake.posted` checks the rows and stores each once. Bodies and ids are never
logged.
"""

import json
import logging
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import FastAPI, Query, Request, Response, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from prometheus_client import Counter as Counting, Histogram
from psycopg.errors import IntegrityError

from irt_assets.intake.mapping import ATTEMPT_COLUMNS
from irt_assets.intake.posted import MAX_ROWS, Post, StoredPost, UnreadablePost, store_post
from irt_assets.intake.xapi import Naming
from services.theta_api.admission import require_caller
from services.theta_api.parameter_cache import Ledger
from services.theta_api.problems import Problem, problem_responses, unavailable
from services.theta_api.schemas import PostResult

LOG = logging.getLogger("services.theta_api")
POSTS_PATH = "/api/seedtest/attempts"
MAX_POST_BYTES = 2 * 2**20
"""Largest body, in bytes after unpacking."""
LINES = "application/x-ndjson"
SECONDS = (0.005, 0.01, 0.025, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)
EXAMPLE = {"user_id": "u42", "item_id": "q7", "completed_at": "2026-11-20T08:00:31Z", "correct": True}
ATTEMPT = {"description": f"an object with some of {', '.join(ATTEMPT_COLUMNS)}; one with another field is refused"}
BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"type": "array", "minItems": 1, "maxItems": MAX_ROWS, "items": ATTEMPT},
            "example": [EXAMPLE],
        },
        LINES: {"schema": {"description": "one attempt per line; a line that is not an attempt is refused by itself"}},
    },
}
RESULTS = ("accepted", "duplicate", "corrected", "rejected", "withdrawn", "left_out")
Run = Callable[[str, Callable[[], Any]], Awaitable[Any]]


def add_posts(app: FastAPI, ledger: Ledger, run: Run) -> None:
    """Add the endpoint for posted answers. `run` runs the work in a thread of the pool for posts."""
    registry = app.state.registry
    attempts = Counting("irt_posted_attempts", "Attempts that were posted", ["result"], registry=registry)
    seconds = Histogram("irt_posts_seconds", "From post to its answer", buckets=SECONDS, registry=registry)

    @app.post(
        POSTS_PATH,
        summary="Store answers, each once",
        responses={200: {"model": PostResult}, **problem_responses(400, 401, 403, 409, 413, 415, 503)},
        response_model=None,
        openapi_extra={"requestBody": BODY},
        dependencies=[Security(HTTPBearer(auto_error=False))],
    )
    async def post_attempts(
        request: Request,
        dry_run: Annotated[bool, Query()] = False,
        kind: Annotated[Literal["xapi"] | None, Query(alias="as")] = None,
    ) -> Response:
        """Store 1 to 1,000 attempts, each once. With `dry_run`, return the same results and store nothing. With
        `as=xapi`, the body is an xAPI statement or an array of them."""
        began = time.perf_counter()
        caller = request.state.caller
        caller.require_post()
        lines = _is_lines(request)
        unpack = _encoding(request)
        body = await request.body()

        def work() -> StoredPost:
            settings = ledger.settings
            naming = Naming(settings.irt_xapi_home_page, settings.irt_xapi_item_prefix) if kind else None
            post = _post(caller.name, unpack(body), lines, naming)
            require_caller()
            with ledger.connect(to_post=True) as connection, connection.pipeline():
                done = store_post(connection, post, first_month=settings.irt_first_month)
                require_caller()
                if dry_run:
                    connection.rollback()
                else:
                    connection.commit()
            return done

        try:
            done: StoredPost = await run(uuid4().hex, work)
        except IntegrityError:
            raise unavailable("Another request has just stored one of the answers: send them again.", "busy") from None
        count_by_result = Counter(attempt["result"] for attempt in done.results)
        counts = {result: count_by_result[result] for result in RESULTS}
        if not dry_run:
            for result, n in counts.items():
                attempts.labels(result).inc(n)
        elapsed = time.perf_counter() - began
        seconds.observe(elapsed)
        LOG.info("posts: %d attempts in %.1f ms", len(done.results), 1000 * elapsed)
        content = {"dry_run": dry_run, **counts, "clock_ahead": done.report.clock_ahead}
        return JSONResponse(content | {"attempts": done.results}, headers={"Cache-Control": "no-store"})


def _is_lines(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in BODY["content"]:  # type: ignore[operator]
        raise Problem(415, "wrong_type", f"Send application/json, an array of attempts, or {LINES}, one a line.")
    return kind == LINES


def _encoding(request: Request) -> Callable[[bytes], bytes]:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise Problem(415, "wrong_encoding", "Send the body as it is, or gzipped (Content-Encoding: gzip).")
    return _gunzip if encoding == "gzip" else bytes


def _gunzip(body: bytes) -> bytes:
    """Unpack a gzipped body, and stop as soon as it is larger than MAX_POST_BYTES. Raises Problem 400 or 413."""
    unpacking = zlib.decompressobj(wbits=31)
    try:
        text = unpacking.decompress(body, MAX_POST_BYTES + 1)
    except zlib.error:
        raise Problem(400, "bad_request", "The body is not gzip, although its Content-Encoding is gzip.") from None
    if len(text) > MAX_POST_BYTES:
        raise Problem(413, "too_large", f"The body is larger than {MAX_POST_BYTES // 1024} KiB after unpacking.")
    if not unpacking.eof or unpacking.unused_data:
        raise Problem(400, "bad_request", "The body is not one whole gzip member.")
    return text


def _post(sender: str, body: bytes, lines: bool, statements: Naming | None) -> Post:
    try:
        return Post(sender, body, lines=lines, statements=statements)
    except UnreadablePost as fault:
        if fault.too_many:
            raise Problem(413, "too_many", f"Send at most {MAX_ROWS:,} attempts at once: {fault}.") from None
        detail = f"The body cannot be read, and nothing was stored: {fault}. Send such as {json.dumps([EXAMPLE])}"
        raise Problem(400, "bad_request", detail) from None
