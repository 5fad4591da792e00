"""θ over HTTP. A request names a learner; the response contains the measured θ, or a problem with the reason.

`Ledger` reads and writes, in the threads of `Admission`. What does not belong here: how θ is computed (see
`abilities.online`), and who may request it (see `access`).
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any

import psycopg
from fastapi import Depends, FastAPI, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from irt_assets.abilities import online
from irt_assets.abilities.online import Measures, Theta
from irt_assets.common.wording import did_you_mean, unknown_field, with_stop
from irt_assets.intake.pulling.pull_state import pulled_answers
from irt_assets.invariants.results import history_of_invariants, latest_invariants
from resources.serving.metrics import server_registry
from services.theta_api.access import Access, Caller
from services.theta_api.admission import Admission, LoopClock, Overloaded, TooSlow, Work, require_caller
from services.theta_api.bank import add_bank
from services.theta_api.next_item import MAX_NEXT_ITEM_BYTES, NEXT_ITEM_PATH, add_next_item
from services.theta_api.parameter_cache import DatabaseUnavailable, Ledger
from services.theta_api.posts import MAX_POST_BYTES, POSTS_PATH, add_posts
from services.theta_api.problems import Problem, problem_responses, unavailable
from services.theta_api.schemas import (
    InvariantHistory,
    InvariantReport,
    ThetaHistory,
    ThetaRequest,
    ThetaResponse,
    UserId,
    six_digits,
)
from services.theta_api.scores import Scores, read_scores, utc_text
from services.theta_api.seeds import add_seeds

LOG = logging.getLogger("services.theta_api")
PREFIX = "/api/seedtest/analysis/irt"
HOOK = "irt-theta-client"
"""User-Agent of the session hook."""
MAX_BODY_BYTES = 16 * 1024
QUEUE_PER_WORKER = 4
WAIT_S = 0.15
POSTS_PER_WORKER = 16
POSTS_WAIT_S = 2.0
POSTS_LIMIT_S = 15.0
MAX_LOOP_DELAY_S = 0.05
"""Delay of the event loop, in seconds, from which requests are turned away: responses would come too late to be
useful, even if the queue is empty."""
LIMIT_S = 5.0
SECONDS = (0.002, 0.005, 0.01, 0.015, 0.025, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
TOKEN_REQUIRED = [
    Security(HTTPBearer(auto_error=False, description="IRT_THETA_TOKEN, or a JWT of the company's login"))
]
"""Only for the OpenAPI page: `AccessMiddleware` checks the tokens."""
Measured = tuple[online.Learner, dict[str, Theta], Scores, dict[str, Any]]
"""A learner with θ and score by scale, and the fields on answers that have not been pulled yet."""


def build_app(access: Access, ledger: Ledger, workers: int, *, posts: int = 2) -> FastAPI:
    admission = Admission(workers, queue=QUEUE_PER_WORKER * workers, wait_s=WAIT_S, limit_s=LIMIT_S)
    to_post = Admission(posts, queue=POSTS_PER_WORKER * posts, wait_s=POSTS_WAIT_S, limit_s=POSTS_LIMIT_S)
    clock = LoopClock()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if access.verifier is not None:
            access.verifier.keys.refresh()
        ledger.start()
        await run_in_threadpool(ledger.wait_for_first_read)
        watching = asyncio.create_task(clock.run())
        yield
        watching.cancel()
        admission.close()
        to_post.close()
        ledger.stop()
        if access.verifier is not None:
            access.verifier.keys.close()

    app = FastAPI(
        title="θ API",
        version="1",
        docs_url=None,
        redoc_url=None,
        servers=[{"url": "/", "description": "the address from which this description was read"}],
        lifespan=lifespan,
        dependencies=[Depends(refuse_unknown_parameters)],
    )
    registry = app.state.registry = server_registry()
    shed = Counter("irt_theta_shed", "Requests turned away before the database was queried", registry=registry)
    Gauge("irt_theta_set_age_seconds", "Since the published set was read", registry=registry).set_function(
        lambda: ledger.age_s
    )
    Gauge("irt_theta_in_flight", "Requests at work or waiting", registry=registry).set_function(
        lambda: admission.present
    )

    busy = unavailable("This machine is busy and reads requests too late: try again in a second.", "shed", 1)
    too_much, too_late = _overload_problem().response(), busy.response()

    def refusal(path: str) -> Response | None:
        through = to_post if path == POSTS_PATH else admission
        if through.full:
            return too_much
        return too_late if through is admission and clock.late_s > MAX_LOOP_DELAY_S else None

    app.add_middleware(AccessMiddleware, access=access, refusal=refusal, shed=shed.inc)

    async def work(user_id: str, task: Callable[[psycopg.Connection], Any]) -> Any:
        """Run `task` in a transaction, in a thread. The transaction is rolled back if the task raises."""

        def in_transaction() -> Any:
            with ledger.connect() as connection:
                done = task(connection)
                require_caller()
            return done

        return await admitted(admission, user_id, in_transaction)

    async def admitted(through: Admission, turn: str, task: Callable[[], Any]) -> Any:
        try:
            return await through.run(turn, task)
        except Overloaded:
            shed.inc()
            raise _overload_problem() from None
        except TooSlow:
            raise unavailable("The database takes too long to answer: try again soon.", "too_slow") from None
        except DatabaseUnavailable as error:
            raise unavailable(f"The database cannot be used: try again soon. ({error})", "database_away") from None

    _add_theta(app, ledger, work)
    add_next_item(app, ledger, work)
    add_seeds(app, ledger, work)
    add_posts(app, ledger, lambda turn, task: admitted(to_post, turn, task))
    add_bank(app, ledger, work)
    _add_status(app, ledger, work)
    _add_problems(app)
    return app


async def refuse_unknown_parameters(request: Request) -> None:
    """Raise Problem 400 for query parameters that the path does not have: a misspelt `dry_run` would store answers.

    Probes and scrapes, which send no token, may add parameters.
    """
    names = [field.alias for field in request.scope["route"].dependant.query_params]
    unknown = sorted(set(request.query_params).difference(names))
    if unknown and hasattr(request.state, "caller"):
        parameters = f"must be {' or '.join(names)}." if names else "this path has no parameters."
        remedy = did_you_mean(unknown[0], names) or parameters
        raise Problem(400, "bad_request", f"unknown parameter {', '.join(unknown)}: {remedy}")


def _add_theta(app: FastAPI, ledger: Ledger, work: Work) -> None:
    """Add the requests for a learner's θ."""
    registry = app.state.registry
    updates = Counter("irt_theta_updates", "Requests to update θ", ["result"], registry=registry)
    seconds = Histogram("irt_theta_seconds", "From request to θ", buckets=SECONDS, registry=registry)

    @app.post(
        f"{PREFIX}/update-theta",
        summary="Measure and store a learner's θ",
        responses={200: {"model": ThetaResponse}, **problem_responses(400, 401, 403, 404, 409, 413, 422, 503)},
        response_model=None,
        dependencies=TOKEN_REQUIRED,
    )
    async def update_theta(theta_request: ThetaRequest, request: Request) -> Response:
        """Measure a learner's θ from the answers in the log, store it and return it."""
        began = time.perf_counter()
        result = "failed"
        try:
            _caller(request).require_update(theta_request.user_id)
            measures = _measures(ledger)

            def measure(connection: psycopg.Connection) -> dict[str, Any]:
                waits = _waits(connection)  # before θ is computed, so that the time is never too late
                learner, thetas = _update(connection, measures, theta_request, ledger.clock())
                scores = read_scores(connection, measures, learner.user_id, thetas)
                body = _answer(measures, learner, thetas, scores, waits)  # may be refused, which stores no θ
                if request.headers.get("user-agent") == HOOK:
                    ledger.record_online_updates(connection)
                return body

            answer = await work(theta_request.user_id, measure)
            result = "updated"
        except Problem as problem:
            result = problem.kind
            raise
        finally:
            seconds_taken = time.perf_counter() - began
            updates.labels(result).inc()
            seconds.observe(seconds_taken)
            LOG.info("theta: %s in %.1f ms", result, 1000 * seconds_taken)
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    @app.get(
        f"{PREFIX}/theta",
        summary="Read a learner's newest and earlier θ",
        responses={200: {"model": ThetaHistory}, **problem_responses(400, 401, 403, 404, 413, 422, 503)},
        response_model=None,
        dependencies=TOKEN_REQUIRED,
    )
    async def theta(user_id: Annotated[UserId, Query()], request: Request) -> Response:
        """Return the latest θ and the earlier ones, as they are stored. Nothing is measured."""
        _caller(request).require(user_id)
        measures = _measures(ledger)

        def read(connection: psycopg.Connection) -> tuple[list[Theta], *Measured]:
            waits, learner = _waits(connection), _learner(connection, user_id)
            thetas = online.read_thetas(connection, user_id)
            latest = online.latest_by_scale(thetas)
            return thetas, learner, latest, read_scores(connection, measures, user_id, latest), waits

        thetas, *found = await work(user_id, read)
        answer = _answer(measures, *found)
        history = [_ability_body(stored, measures) | {"scale_id": stored.scale_id} for stored in thetas]
        return JSONResponse(answer | {"history": history}, headers={"Cache-Control": "no-store"})


def _add_status(app: FastAPI, ledger: Ledger, work: Work) -> None:
    """Add the endpoints for health, invariants and metrics."""

    @app.get("/health", summary="Check whether the process responds")
    @app.get("/healthz", summary="Check whether the process responds")
    async def health() -> dict[str, str]:
        """Whether the process answers. The database is not checked."""
        return {"status": "ok"}

    @app.get("/ready", summary="Check whether θ can be requested", responses=problem_responses(503))
    async def ready() -> dict[str, str]:
        """Whether θ can be requested: parameters have been read, and the database answered when it was last used."""
        if not ledger.ready:
            raise unavailable(
                f"Not ready: {ledger.why_unavailable or 'the published parameters are too old'}", "not_ready"
            )
        return {"status": "ready"}

    @app.get(
        "/invariants/latest",
        summary="Read the latest results of the invariants",
        responses=problem_responses(400, 401, 403, 404, 413, 503),
        dependencies=TOKEN_REQUIRED,
    )
    async def invariants_latest(request: Request) -> InvariantReport:
        """The latest evaluation of every invariant."""
        _caller(request).require_anyone()
        latest = await work("", latest_invariants)
        if latest is None:
            raise Problem(404, "no_report", "No invariant has been evaluated yet: run `irt invariants run`.")
        return InvariantReport(**latest)

    @app.get(
        "/invariants/history",
        summary="Read the last evaluations and violations of the invariants",
        responses=problem_responses(400, 401, 403, 413, 503),
        dependencies=TOKEN_REQUIRED,
    )
    async def invariants_history(request: Request) -> InvariantHistory:
        """The last evaluations and the last violations, open violations first."""
        _caller(request).require_anyone()
        return InvariantHistory(**await work("", history_of_invariants))

    @app.get("/metrics", summary="Read the metrics for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(generate_latest(app.state.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    async def front_page() -> PlainTextResponse:
        """List the endpoints for a person who opens the address in a browser."""
        endpoints = [
            f"{method.upper():5}{path}: {described['summary']}"
            for path, methods in app.openapi()["paths"].items()
            for method, described in methods.items()
        ]
        return PlainTextResponse("\n".join(["θ API. /openapi.json describes it for programs.", "", *endpoints, ""]))


def _add_problems(app: FastAPI) -> None:
    """Add the handlers that turn errors into problem responses."""

    @app.exception_handler(Problem)
    async def problem_response(_request: Request, problem: Problem) -> Response:
        return problem.response()

    @app.exception_handler(RequestValidationError)
    async def unfit(request: Request, error: RequestValidationError) -> Response:
        is_of_body = all(fault["loc"][0] == "body" for fault in error.errors())
        remedy = _send_json(request) if is_of_body else "See /openapi.json for the parameters."
        return Problem(400, "bad_request", f"{with_stop(_faults(request, error))} {remedy}").response()

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if error.status_code == 400:
            return Problem(400, "bad_request", f"{error.detail}. {_send_json(request)}").response()
        code = {404: "no_such_page", 405: "wrong_method"}.get(error.status_code, "refused")
        problem = Problem(error.status_code, code, f"{error.detail}: see /openapi.json for the endpoints.")
        return problem.response(error.headers)

    @app.exception_handler(Exception)
    async def failed(_request: Request, error: Exception) -> Response:
        LOG.error("theta: a request failed", exc_info=error)
        return Problem(500, "internal", "This is a fault of the API: see its log. Nothing was stored.").response()


class AccessMiddleware:
    """Middleware that refuses requests without a valid token or with too large a body.

    If `refusal` returns a response for the path, the request gets it before anything of the request is read. Under a
    tenfold load, nine requests in ten end here.
    """

    def __init__(
        self, app: ASGIApp, access: Access, refusal: Callable[[str], Response | None], shed: Callable[[], None]
    ) -> None:
        self._app, self._access = app, access
        self._refusal, self._shed = refusal, shed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        guarded = scope["type"] == "http" and scope["path"].startswith(("/api/", "/invariants/"))
        if not guarded:
            await self._app(scope, receive, send)
            return
        if (response := self._refusal(scope["path"])) is not None:
            self._shed()
            await response(scope, receive, send)
            return
        try:
            authorization = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
            scope.setdefault("state", {})["caller"] = await self._access.caller(authorization)
            body = await _body(receive, _largest_body(scope["path"]))
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        messages: Iterator[Message] = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replay() -> Message:
            return next(messages, None) or await receive()

        await self._app(scope, replay, send)


def _largest_body(path: str) -> int:
    """Return the number of bytes that the body of a request to this path may have."""
    if path == POSTS_PATH:
        return MAX_POST_BYTES
    before, after = NEXT_ITEM_PATH.split("{test}")
    return MAX_NEXT_ITEM_BYTES if path.startswith(before) and path.endswith(after) else MAX_BODY_BYTES


async def _body(receive: Receive, largest: int) -> bytes:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "cut_off", "The request ended before its body was complete, and nothing was stored.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > largest:
            raise Problem(413, "too_large", f"The body is larger than {largest // 1024} KiB.")
    return bytes(body)


def _overload_problem() -> Problem:
    return unavailable("There are more requests than can be answered in time: try again in a second.", "shed", 1)


def _caller(request: Request) -> Caller:
    return request.state.caller


def _measures(ledger: Ledger) -> Measures:
    try:
        return ledger.measures()
    except DatabaseUnavailable as error:
        raise unavailable(
            f"The published parameters cannot be read: try again soon. ({error})", "database_away"
        ) from None


def _update(
    connection: psycopg.Connection, measures: Measures, theta_request: ThetaRequest, now: datetime
) -> tuple[online.Learner, dict[str, Theta]]:
    learner = _learner(connection, theta_request.user_id)
    if learner.is_test:
        raise Problem(422, "test_account", "The learner is a test account, whose answers are never scored.")
    target = learner.target_scale_id
    if not measures.scales or (target is not None and target not in measures.scales):
        location = "" if target is None else f" on scale {target}, the learner's target"
        raise Problem(
            409,
            "nothing_published",
            f"No item parameters are in force{location}: initialise the scale, and publish a month "
            "(`irt scale init`, `irt calibrate`), then try again.",
        )
    return learner, online.update(connection, measures, theta_request.user_id, theta_request.lookback_days, now)


def _learner(connection: psycopg.Connection, user_id: str) -> online.Learner:
    learner = online.find_learner(connection, user_id)
    if learner is None:
        raise Problem(
            404,
            "unknown_learner",
            "No learner has this user_id, and no answer in the log: import the learner or the answers first.",
        )
    return learner


def _waits(connection: psycopg.Connection) -> dict[str, Any]:
    """Return the fields on answers that have not been pulled yet."""
    are_pulled, until = pulled_answers(connection)
    return {"waiting_for": "pull" if are_pulled else None, "answers_until": utc_text(until)}


def _answer(
    measures: Measures, learner: online.Learner, thetas: dict[str, Theta], scores: Scores, waits: dict[str, Any]
) -> dict[str, Any]:
    """Response body with θ and score on the target scale or, without a target, on the scale with the most answers.

    Raises Problem 422 if there is no θ on that scale.
    """
    by_scale = {
        scale_id: _ability_body(theta, measures) | {"score": scores.get(scale_id)}
        for scale_id, theta in sorted(thetas.items())
    }
    target = online.default_scale(learner, thetas)
    if target is None or target not in thetas:
        location = "" if target is None else f" on scale {target}, the learner's target"
        raise Problem(
            422,
            "no_answers",
            f"There is no eligible answer to a published item{location}, among those that count: request more days "
            "if you gave `lookback_days`, or try again when the learner has answered.",
            by_scale=by_scale,
            **waits,
        )
    return {"user_id": learner.user_id, **by_scale[target], "scale_id": target, "by_scale": by_scale, **waits}


def _ability_body(theta: Theta, measures: Measures) -> dict[str, Any]:
    measure = measures.scales.get(theta.scale_id)
    return {
        "theta": six_digits(theta.theta),
        "se": six_digits(theta.se),
        "model": measure.scale.model.upper() if measure else None,
        "version": f"v{theta.scale_version}",
        "updated_at": utc_text(theta.fitted_at),
        "as_of": utc_text(theta.as_of),
        "n_items": theta.n_items,
        "set_hash": theta.set_hash,
        "kind": theta.kind,
        "se_total": None if theta.se_total is None else six_digits(theta.se_total),
        "lookback_days": theta.lookback_days,
    }


def _body_model(request: Request) -> type[BaseModel]:
    """Return the model of the body of the request's path."""
    [body] = request.scope["route"].dependant.body_params
    return body.field_info.annotation


def _send_json(request: Request) -> str:
    """Show a body with the fields that the request's path requires."""
    fields = _body_model(request).model_fields
    example = {name: "…" for name, field in fields.items() if field.is_required()}
    return f"Send JSON such as {json.dumps(example, ensure_ascii=False)}."


def _faults(request: Request, error: RequestValidationError) -> str:
    """List the wrong fields with the reasons, without any values of the input."""
    faults = []
    for fault in error.errors()[:5]:
        kind, place = fault["type"], fault["loc"][1:]
        field, reason = ".".join(map(str, place)), str(fault["msg"])
        if kind == "json_invalid":
            field, reason = "", f"The body is not JSON: {fault['ctx']['error']} at character {place[0]}"
        elif kind == "extra_forbidden":
            reason = unknown_field(str(place[-1]), _body_model(request).model_json_schema())
        faults.append(f"{field[:64]!a}: {reason}" if field else reason)
    return "; ".join(faults)
