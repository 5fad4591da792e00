"""The next item of an adaptive test over HTTP. `irt_assets.adaptive.sessions` chooses it."""

from typing import Annotated

import psycopg
from fastapi import FastAPI, Request, Response, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from prometheus_client import Histogram
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from irt_assets.adaptive.policy import MAX_PLACES
from irt_assets.adaptive.sessions import Answer, NextItem, Session, begin_session, find_session
from irt_assets.adaptive.stored_banks import SetGone
from irt_assets.common.wording import did_you_mean
from irt_assets.responses.erased import erasures_of
from irt_psychometrics import PsychometricsError
from resources.postgres.database import advisory_lock
from services.theta_api.admission import Work
from services.theta_api.parameter_cache import Ledger
from services.theta_api.problems import Problem, problem_responses
from services.theta_api.schemas import MAX_ID_LENGTH, UserId, six_digits, to_integer

NEXT_ITEM_PATH = "/api/seedtest/tests/{test}/next-item"
MAX_NEXT_ITEM_BYTES = (MAX_PLACES + 2) * (6 * MAX_ID_LENGTH + 100)
"""Largest body: an answer for each place that a policy may have, user_id and session_id. JSON may write a byte of an id
as six characters."""
SECONDS = (0.002, 0.005, 0.01, 0.015, 0.03, 0.06, 0.1, 0.25, 0.4, 1.0, 2.5, 5.0)


class SessionAnswer(BaseModel):
    """An answer of the session. An answer with neither `correct` nor `score` is an omission, which scores 0."""

    model_config = ConfigDict(strict=True, extra="forbid")

    item_id: Annotated[UserId, Field(description="the item", examples=["q7"])]
    correct: bool | None = Field(None, description="whether the answer has full credit")
    score: Annotated[
        int | None,
        Field(description="points, from 0 to the item's maximum score"),
        BeforeValidator(to_integer),
    ] = None


class NextItemRequest(BaseModel):
    """A request for the next item of a session."""

    model_config = ConfigDict(strict=True, extra="forbid")

    user_id: UserId
    session_id: Annotated[UserId, Field(description="the session; every session has its own id", examples=["s-81"])]
    answers: list[SessionAnswer] | None = Field(
        None,
        description="all answers of the session in order, including those to items that are not scored. "
        "Default: the answers in the log with this session_id and with the test as form_id",
    )


def add_next_item(app: FastAPI, ledger: Ledger, work: Work) -> None:
    """Add the endpoint for the next item of an adaptive test."""
    seconds = Histogram(
        "irt_next_item_seconds", "From request to next item", buckets=SECONDS, registry=app.state.registry
    )

    @app.post(
        NEXT_ITEM_PATH,
        summary="Choose the next item of a session",
        responses={200: {"model": NextItem}, **problem_responses(400, 401, 403, 404, 409, 413, 422, 503)},
        response_model=None,
        dependencies=[Security(HTTPBearer(auto_error=False))],
    )
    async def next_item(test: str, asked: NextItemRequest, request: Request) -> Response:
        """Choose the next item of a learner's session by the answers. The same answers give the same item."""
        request.state.caller.require_exam()

        def choose(connection: psycopg.Connection) -> NextItem:
            session = find_session(connection, asked.session_id) or _begin(connection, ledger, test, asked)
            if session.test_id != test:
                _require_known(ledger, test)
            if (session.user_id, session.test_id) != (asked.user_id, test):
                raise Problem(
                    409,
                    "other_session",
                    f"The session belongs to another learner or to another test than {test}: a session has its own id.",
                )
            sent = None if asked.answers is None else [Answer(a.item_id, a.correct, a.score) for a in asked.answers]
            try:
                return ledger.plans.next_item(connection, session, sent, ledger.clock())
            except PsychometricsError as error:
                raise Problem(422, "bad_answers", f"These cannot be answers of the session: {error}.") from None
            except SetGone as error:
                raise Problem(
                    409,
                    "set_gone",
                    f"The session cannot continue, because its parameters are not known any more ({error}): begin a "
                    "session with another id, which does not repeat items that were answered.",
                ) from None

        with seconds.time():
            chosen: NextItem = await work(asked.user_id, choose)
        shown = {"theta": six_digits(chosen.theta), "se": six_digits(chosen.se)}
        return JSONResponse(chosen.model_dump() | shown, headers={"Cache-Control": "no-store"})


def _require_known(ledger: Ledger, test: str) -> None:
    """Raise Problem 404 if no policy of the test is in force."""
    plans = ledger.plans
    if test not in plans.offers and test not in plans.faults:
        named = did_you_mean(test, plans.offers) or f"only of: {', '.join(sorted(plans.offers)) or 'no test'}."
        raise Problem(404, "unknown_test", f"No policy of this test is in force (`irt tests set`); {named}")


def _begin(connection: psycopg.Connection, ledger: Ledger, test: str, asked: NextItemRequest) -> Session:
    _require_known(ledger, test)
    measures, plans = ledger.measures(), ledger.plans
    if test in plans.faults:
        raise Problem(409, "nothing_published", f"The test cannot be given at the moment: {plans.faults[test]}.")
    offer = plans.offers[test]
    advisory_lock(connection, "theta", asked.user_id)  # an erasure waits for it before it deletes the learner's rows
    if erasures_of(connection, asked.user_id):
        raise Problem(409, "erased", "The learner with this user_id was erased: use another id.")
    return begin_session(connection, offer, measures, asked.user_id, asked.session_id, ledger.clock())
