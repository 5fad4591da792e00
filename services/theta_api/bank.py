"""The bank over HTTP, read only: items and their history, curves, months with their findings, and score tables.

Items and findings are read again when the published parameters have been read again. Requests for the bank take turns,
so at most one of them uses a connection, and θ keeps the others.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from operator import attrgetter
from typing import Annotated, Any, Literal, Self, cast

import psycopg
from fastapi import Depends, FastAPI, Header, Path, Query, Request, Response, Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel

from irt_assets.abilities.online import Measures
from irt_assets.decisions.bank import bank_items
from irt_assets.drift.rows import read_compared_items, read_dif
from irt_assets.gates.month_status import ledger_states
from irt_assets.ledger.findings import findings_of
from irt_assets.ledger.publications import publications_of
from irt_assets.ledger.steps import last_done_month, step_of, steps
from irt_assets.reports.artifacts import drift_reports, page_path
from irt_assets.responses.closing_records import read_states
from irt_assets.scales.scale import Scale, read_scales
from irt_assets.scores.form_tables import COLUMNS
from irt_assets.scores.releases import released_tables
from irt_psychometrics import ItemParameters
from services.theta_api import bank_schemas as schemas
from services.theta_api.admission import Work
from services.theta_api.bank_schemas import Entry, Page
from services.theta_api.parameter_cache import Ledger
from services.theta_api.problems import Problem, problem_responses
from services.theta_api.schemas import Id

BANK_PATH = "/api/seedtest/bank"
TURN = "\0bank"
"""The turn of all requests for the bank. No learner's id contains NUL."""
NEWEST = "newest"
Limit = Annotated[int, Query(ge=1, le=500, description="number of entries of a page")]
After = Annotated[Id | None, Query(description="the page begins after this id; use the path in `next`")]
OfScale = Annotated[Id | None, Query(description="the scale; may be omitted if the bank has a single scale")]
Month = Annotated[
    str,
    Path(
        pattern=rf"^(2\d{{3}}-(0[1-9]|1[0-2])|{NEWEST})$",
        description=f"month, or `{NEWEST}`: the newest month whose publication step is done",
        examples=["2026-10"],
    ),
]


@dataclass(frozen=True)
class Bank:
    """The bank as of the measures with which it was read.

    Attributes:
        items: items of all scales, in the order of their ids.
        months: findings of the months that have been requested, by scale and month.
    """

    measures: Measures
    scales: Mapping[str, Scale]
    items: Mapping[str, schemas.ItemInBank]
    months: dict[tuple[str, str], list[schemas.ItemInMonth]] = field(default_factory=dict)

    @classmethod
    def read(cls, connection: psycopg.Connection, measures: Measures) -> Self:
        scales = read_scales(connection, measures.as_of)
        items = [
            schemas.ItemInBank(
                scale_id=scale.scale_id,
                topic_id=item.topic,
                **{name: getattr(item, name) for name in schemas.ItemInBank.model_fields if hasattr(item, name)},
            )
            for scale in scales.values()
            for item in bank_items(connection, scale, measures.as_of)
        ]
        return cls(measures, scales, {item.item_id: item for item in sorted(items, key=attrgetter("item_id"))})

    def scale(self, scale_id: str | None) -> Scale:
        """The scale with this id; if None, the only scale. Raises Problem 404."""
        names = [scale_id] if scale_id else [*self.scales]
        if len(names) != 1 or names[0] not in self.scales:
            known = ", ".join(self.scales) or "no scale: import the bank with `irt import questions FILE`"
            raise Problem(404, "unknown_scale", f"Name the scale in scale_id. The bank has {known}.")
        return self.scales[names[0]]

    def item(self, item_id: str) -> schemas.ItemInBank:
        """The item with this id. Raises Problem 404."""
        if item_id not in self.items:
            raise Problem(
                404,
                "unknown_item",
                f"The bank has no item {item_id!r}: ids are case-sensitive, and {BANK_PATH}/items lists them.",
            )
        return self.items[item_id]


async def admit(
    request: Request,
    if_none_match: Annotated[
        str | None, Header(description="ETag of the response that you have; 304 if it is unchanged")
    ] = None,
) -> None:
    """Raise Problem 403 for callers who may not read the bank."""
    request.state.caller.require_bank()
    request.state.known_tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]


def add_bank(app: FastAPI, ledger: Ledger, work: Work) -> None:
    """Add the endpoints that read the bank."""
    known: Bank | None = None

    async def respond(request: Request, task: Callable[[psycopg.Connection, Bank], Any], *paging: Any) -> Response:
        """Run a task and respond with its result or, with `paging` (name of the id, after, limit), with a page of it.

        The response has an ETag. It is 304 without a body if the caller has it.
        """

        def in_turn(connection: psycopg.Connection) -> Response:
            nonlocal known
            measures = ledger.measures()
            if known is None or known.measures is not measures:
                known = Bank.read(connection, measures)
            found = task(connection, known)
            content = (_page(request, found, *paging) if paging else found).model_dump_json().encode()
            tag = f'"{sha256(content).hexdigest()[:32]}"'
            headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
            if {tag, "*"}.intersection(request.state.known_tags):
                return Response(status_code=304, headers=headers)
            return Response(content, headers=headers, media_type="application/json")

        return cast(Response, await work(TURN, in_turn))

    @app.get(f"{BANK_PATH}/items", **_described("List the items with their published values", Page[schemas.ItemInBank]))
    async def bank_list(
        request: Request,
        scale_id: Annotated[Id | None, Query(description="only items of this scale")] = None,
        topic_id: Annotated[Id | None, Query(description="only items of this topic")] = None,
        status: Annotated[Literal["in use", "not published", "withdrawn"] | None, Query()] = None,
        after: After = None,
        limit: Limit = 100,
    ) -> Response:
        """The items of the bank with their published values in force."""

        def task(_connection: psycopg.Connection, bank: Bank) -> list[schemas.ItemInBank]:
            chosen = scale_id and bank.scale(scale_id).scale_id
            return [
                item
                for item in bank.items.values()
                if chosen in (None, item.scale_id)
                and topic_id in (None, item.topic_id)
                and status in (None, item.status)
            ]

        return await respond(request, task, "item_id", after, limit)

    @app.get(f"{BANK_PATH}/item", **_described("Read an item with the history of its values", schemas.ItemHistory))
    async def bank_item(request: Request, item_id: Annotated[Id, Query(examples=["q7"])]) -> Response:
        """An item with the history of its published values, and the values that come into force later."""
        return await respond(request, lambda connection, bank: _history(connection, bank.item(item_id)))

    @app.get(f"{BANK_PATH}/curves", **_described("Compute curves and information of items", schemas.CurvesOfItems, 409))
    async def curves(
        request: Request,
        item_id: Annotated[list[Id], Query(min_length=1, max_length=50, examples=[["q7"]])],
        theta: Annotated[
            list[Annotated[float, Query(ge=-10, le=10)]] | None,
            Query(max_length=201, description="default: −4, −3.5, … 4"),
        ] = None,
    ) -> Response:
        """Curves and information of items at given values of θ, by the published values in force."""
        return await respond(
            request,
            lambda _connection, bank: _curves([*map(bank.item, item_id)], theta or [k / 2 for k in range(-8, 9)]),
        )

    @app.get(
        f"{BANK_PATH}/months", **_described("List the months of a scale with their reports", Page[schemas.MonthOfScale])
    )
    async def bank_months(
        request: Request, scale_id: OfScale = None, after: After = None, limit: Limit = 100
    ) -> Response:
        """The months of a scale that have reached publication, with their reports."""
        return await respond(
            request,
            lambda connection, bank: months_of(connection, bank.scale(scale_id), ledger.settings.ui_url),
            "month",
            after,
            limit,
        )

    @app.get(
        f"{BANK_PATH}/months/{{month}}/items",
        **_described("List a month's findings by item", Page[schemas.ItemInMonth], 409),
    )
    async def bank_month(
        request: Request,
        month: Month,
        item_id: Annotated[Id | None, Query(description="only this item")] = None,
        flagged: Annotated[bool, Query(description="only items with findings")] = False,
        scale_id: OfScale = None,
        after: After = None,
        limit: Limit = 100,
    ) -> Response:
        """The month's flags, drift and DIF by item, of the items that were compared, tested or flagged."""

        def task(connection: psycopg.Connection, bank: Bank) -> list[schemas.ItemInMonth]:
            scale = bank.scale(scale_id)
            key = scale.scale_id, _settled_month(connection, scale, month)
            if key not in bank.months:
                bank.months[key] = _items_of_month(connection, scale, key[1])
            chosen = item_id and bank.item(item_id).item_id
            shown = (item for item in bank.months[key] if item.findings or not flagged)
            return [item for item in shown if chosen in (None, item.item_id)]

        return await respond(request, task, "item_id", after, limit)

    @app.get(
        f"{BANK_PATH}/score-tables",
        **_described("List the released score tables of a scale", Page[schemas.ReleasedTable]),
    )
    async def score_tables(
        request: Request, scale_id: OfScale = None, after: After = None, limit: Limit = 100
    ) -> Response:
        """The released score tables of a scale, by form."""
        return await respond(
            request,
            lambda connection, bank: _released_tables(connection, bank.scale(scale_id).scale_id),
            "form_id",
            after,
            limit,
        )


def _described(summary: str, model: type[BaseModel], *statuses: int) -> dict[str, Any]:
    """The arguments of a route that returns `model`, or a problem with one of `statuses` besides the usual ones."""
    headers = {"ETag": {"required": True, "schema": {"type": "string"}}}
    return {
        "summary": summary,
        "responses": {
            200: {
                "model": model,
                "content": {"application/json": {"example": schemas.EXAMPLES[model]}},
                "headers": headers,
            },
            304: {"description": "The response with this ETag is unchanged", "headers": headers},
            **problem_responses(400, 401, 403, 404, 413, 503, *statuses),
        },
        "response_model": None,
        "dependencies": [Security(HTTPBearer(auto_error=False)), Depends(admit)],
    }


def _page(request: Request, entries: Iterable[Entry], key: str, after: str | None, limit: int) -> Page[Entry]:
    """The `limit` entries that follow the id `after`, and the path of the page after them."""
    by_id = attrgetter(key)
    rest = sorted((entry for entry in entries if after is None or by_id(entry) > after), key=by_id)
    url = request.url.include_query_params(after=by_id(rest[limit - 1])) if len(rest) > limit else None
    return Page(items=rest[:limit], next=f"{url.path}?{url.query}" if url else None)


def _settled_month(connection: psycopg.Connection, scale: Scale, name: str) -> str:
    """The month with this name. Raises Problem 404 if it has not reached publication, and 409 if it is held."""
    month = last_done_month(connection, scale.scale_id) if name == NEWEST else name
    step = step_of(connection, scale.scale_id, month) if month else None
    if step is None:
        raise Problem(
            404,
            "unknown_month",
            f"Scale {scale.scale_id} has no {'month' if name == NEWEST else name} that has reached publication: "
            f"{BANK_PATH}/months lists its months, and `irt calibrate` computes one.",
        )
    if step.state == "held":
        raise Problem(
            409,
            "month_held",
            f"{step.month} of scale {scale.scale_id} is held, so its findings are not used: {step.why}. Choose another "
            "month, or send the request again when the month is done (its page in the dashboard says how).",
        )
    return step.month


def _items_of_month(connection: psycopg.Connection, scale: Scale, month: str) -> list[schemas.ItemInMonth]:
    findings = findings_of(connection, scale.scale_id, month)
    drift = {row.item_id: row for row in read_compared_items(connection, scale, month)}
    by_item = attrgetter("item_id")
    tested = sorted(read_dif(connection, scale, month), key=by_item)
    dif = {item: [*rows] for item, rows in groupby(tested, by_item)}
    return [
        schemas.ItemInMonth(
            item_id=item,
            month=month,
            findings=findings.get(item, []),
            drift=drift.get(item),
            dif=dif.get(item, []),
        )
        for item in {*findings, *drift, *dif} - {""}  # "" is an attribute as a whole
    ]


def _history(connection: psycopg.Connection, item: schemas.ItemInBank) -> schemas.ItemHistory:
    found = publications_of(connection, item.scale_id, item.item_id)
    latest_first = sorted(found, key=attrgetter("effective_from", "publication_id"), reverse=True)
    return schemas.ItemHistory(**dict(item), publications=latest_first)


def _curves(items: Sequence[schemas.ItemInBank], theta: list[float]) -> schemas.CurvesOfItems:
    """Curves of the items at `theta`. Raises Problem 409 for an item without published values."""
    values = {item.item_id: item.values for item in items if item.values}
    if missing := [item.item_id for item in items if not item.values]:
        raise Problem(
            409,
            "nothing_published",
            f"No values of item {missing[0]!r} are in force: omit the item, or try again after its publication.",
        )
    known = ItemParameters.from_rows([*values], values.values()).curves
    columns = zip(values, known.probability(theta).T.tolist(), known.information(theta).T.tolist(), strict=True)
    curves = [schemas.ItemCurve(item_id=item, probability=p, information=own) for item, p, own in columns]
    return schemas.CurvesOfItems(theta=theta, items=curves)


def months_of(connection: psycopg.Connection, scale: Scale, ui_url: str) -> list[schemas.MonthOfScale]:
    """The months of a scale that have reached publication, oldest first."""
    answers = {known.month: known.state for known in read_states(connection) if known.scale_id == scale.scale_id}
    reports = {
        report.window: page_path(report.artifact_id, ui_url)
        for report in drift_reports(connection)
        if report.format == "html"
    }
    known = steps(connection, scale.scale_id)
    states = [state for state in ledger_states(connection, known) if state.scale_id == scale.scale_id]
    return [
        schemas.MonthOfScale(
            **vars(known[state.month]),
            colour=state.state.value,
            colour_reason=state.why,
            answers=answers.get(state.month, "open"),
            report=reports.get(f"{state.month}/{scale.scale_id}"),
        )
        for state in states
    ]


def _released_tables(connection: psycopg.Connection, scale_id: str) -> Iterator[schemas.ReleasedTable]:
    for found in released_tables(connection, scale_id).values():
        columns = {name: getattr(found.table, name).tolist() for name in ("raw", *COLUMNS)}
        columns["passes"] = found.passes_or_none
        scores = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        yield schemas.ReleasedTable(**vars(found) | {"scores": scores})
