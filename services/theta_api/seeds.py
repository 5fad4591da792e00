"""New items for the places of a session over HTTP. `irt_assets.new_items.draws` draws them."""

from functools import partial
from typing import Annotated

import psycopg
from fastapi import FastAPI, Request, Response, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from prometheus_client import Histogram
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from irt_assets.abilities.online import Measures, read_posterior
from irt_assets.common.wording import did_you_mean, some_of
from irt_assets.new_items.draws import OtherSession, Places, fill_places
from irt_assets.responses.erased import erasures_of
from resources.postgres.database import first_column, one_value
from services.theta_api.admission import Work
from services.theta_api.parameter_cache import Ledger
from services.theta_api.problems import Problem, problem_responses
from services.theta_api.schemas import Id, UserId, to_integer

SEEDS_PATH = "/api/seedtest/seeds"
SECONDS = (0.002, 0.005, 0.01, 0.015, 0.03, 0.06, 0.1, 0.25, 0.4, 1.0, 2.5, 5.0)
MAX_PLACES, MAX_POSITION = 50, 10_000


class SeedsRequest(BaseModel):
    """A request for new items that fill places of a session."""

    model_config = ConfigDict(strict=True, extra="forbid")

    user_id: UserId
    session_id: Annotated[Id, Field(description="the session; every session has its own id", examples=["s-81"])]
    n: Annotated[
        int, Field(ge=1, le=MAX_PLACES, description="number of places", examples=[2]), BeforeValidator(to_integer)
    ]
    position: Annotated[
        int,
        Field(ge=1, le=MAX_POSITION, description="the first place in the session, from 1", examples=[4]),
        BeforeValidator(to_integer),
    ] = 1
    form_id: Annotated[
        Id | None,
        Field(description="the form of the session. If it has seed places, these are filled from `position` on"),
    ] = None
    topics: Annotated[
        list[Id] | None, Field(min_length=1, max_length=MAX_PLACES, description="topics of the items; default: all")
    ] = None
    scale_id: Annotated[
        Id | None, Field(description="scale of the items; may be omitted if a single scale has published items")
    ] = None


class Seed(BaseModel):
    """A new item in a place of a session."""

    item_id: str
    position: int = Field(description="place in the session, from 1")


class Seeds(BaseModel):
    """New items for places of a session, in order. The answers count for no score. Places may remain without an item.

    The same places of the session always have the same items.
    """

    scale_id: str
    session_id: str
    items: list[Seed] = Field(description="fewer than requested if limits, or the items that are open, leave no more")


def add_seeds(app: FastAPI, ledger: Ledger, work: Work) -> None:
    """Add the endpoint that draws new items."""
    seconds = Histogram("irt_seeds_seconds", "From request to new items", buckets=SECONDS, registry=app.state.registry)

    @app.post(
        SEEDS_PATH,
        summary="Draw new items for places of a session",
        responses={200: {"model": Seeds}, **problem_responses(400, 401, 403, 404, 409, 413, 503)},
        response_model=None,
        dependencies=[Security(HTTPBearer(auto_error=False))],
    )
    async def seeds(asked: SeedsRequest, request: Request) -> Response:
        """Draw new items by the learner's ability and store the draws. The same request gives the same items."""
        request.state.caller.require_exam()
        with seconds.time():
            drawn: Seeds = await work(asked.user_id, lambda connection: _draw(connection, ledger, asked))
        return JSONResponse(drawn.model_dump(), headers={"Cache-Control": "no-store"})


def _draw(connection: psycopg.Connection, ledger: Ledger, asked: SeedsRequest) -> Seeds:
    measures, now = ledger.measures(), ledger.clock()
    scale_id = _scale_of(measures, asked.scale_id)
    positions = _positions(connection, asked)
    _require_topics(connection, scale_id, asked.topics)
    posterior = partial(read_posterior, connection, measures, scale_id, asked.user_id, now)
    places = Places(asked.user_id, asked.session_id, asked.form_id, positions)
    pool = ledger.plans.seeds.by_scale.get(scale_id)
    try:
        drawn = fill_places(connection, pool, places, posterior, now, among=asked.topics)
    except OtherSession as error:
        raise Problem(409, "other_session", f"The draw is refused: {error}.") from None
    if not drawn and erasures_of(connection, asked.user_id):
        raise Problem(409, "erased", "The learner with this user_id was erased: use another id.")
    items = [Seed(item_id=item, position=position) for position, item in drawn.items()]
    return Seeds(scale_id=scale_id, session_id=asked.session_id, items=items)


def _scale_of(measures: Measures, scale_id: str | None) -> str:
    """Return the requested scale, or the only scale with published items. Raises Problem if no scale fits."""
    published = sorted(measures.scales)
    if not published:
        raise Problem(
            409,
            "nothing_published",
            "No item parameters are in force, and new items are measured by published ones: initialise the scale, and "
            "publish a month (`irt scale init`, `irt calibrate`), then try again.",
        )
    if scale_id is None and len(published) > 1:
        raise Problem(400, "bad_request", f"scale_id must be one of {some_of(published, 10)}, got none.")
    chosen = scale_id or published[0]
    if chosen not in measures.scales:
        remedy = did_you_mean(chosen, published) or f"only of: {some_of(published, 10)}."
        raise Problem(404, "unknown_scale", f"No item parameters of this scale are in force; {remedy}")
    return chosen


def _positions(connection: psycopg.Connection, asked: SeedsRequest) -> list[int]:
    """Return the places to fill: the form's seed places from `position` on, or consecutive ones."""
    consecutive = [*range(asked.position, asked.position + asked.n)]
    if asked.form_id is None:
        return consecutive
    row = connection.execute("SELECT seed_places FROM form WHERE form_id = %s", (asked.form_id,)).fetchone()
    if row is None:
        forms = first_column(connection, "SELECT form_id FROM form ORDER BY form_id")
        remedy = did_you_mean(asked.form_id, forms) or "import it (`irt import forms`), or omit form_id."
        raise Problem(404, "unknown_form", f"No form has this form_id; {remedy}")
    if row[0] is None:
        return consecutive
    return [place for place in sorted(row[0]) if place >= asked.position][: asked.n]


def _require_topics(connection: psycopg.Connection, scale_id: str, topics: list[str] | None) -> None:
    """Raise Problem 404 if the scale's bank has no item of one of the topics."""
    for topic in topics or []:
        query = "SELECT EXISTS (SELECT FROM question WHERE (scale_id, topic_id) = (%s, %s))"
        if not one_value(connection, query, (scale_id, topic)):
            query = "SELECT DISTINCT topic_id FROM question WHERE scale_id = %s AND topic_id IS NOT NULL ORDER BY 1"
            known = first_column(connection, query, (scale_id,))
            remedy = did_you_mean(topic, known) or f"only of: {some_of(known, 10) or 'no topic'}."
            raise Problem(404, "unknown_topic", f"The bank has no item of topic {topic}; {remedy}")
