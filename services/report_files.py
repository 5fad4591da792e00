"""Serve reports by id: the file that a row of `report_file` names, from a folder or from a bucket.

`answer` works in any server; `ReportFiles` puts it before the Dagster UI, under `/reports/<id>`. A request contains an
id and never a path, so that nothing else in the store can be requested. A report runs no scripts and loads nothing from
other hosts, because an item may be called `<script>`. `guard` decides who may request a report.
"""

import logging
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass
from http import HTTPStatus
from itertools import chain
from urllib.parse import quote

import psycopg
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from irt_assets.reports.artifacts import SERVED_UNDER
from resources.failures import PermanentFailure, TransientFailure
from resources.files.object_store import ObjectStore
from resources.files.s3_failures import ObjectMissing
from resources.postgres.database import Database
from resources.serving.guard import path_within

LOG = logging.getLogger("irt_assets.webserver")
Connect = Callable[[], AbstractContextManager[psycopg.Connection]]
ID = re.compile(r"[0-9]{1,18}", re.ASCII)
TYPES = {
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}
HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
}


@dataclass(frozen=True)
class ReportFile:
    """A recorded report: its address in the store, its format, whether it is about a learner, and its file name."""

    url: str
    format: str
    of_learner: bool
    name: str


LEARNER_REPORTS_OFF = (
    "This page does not hand out learners' reports. If only people who may read them can reach it, set "
    "IRT_UI_LEARNER_REPORTS=true and start the webserver again."
)


def report_response(
    connect: Connect, store: ObjectStore, name: str, *, no_learners: str = "", saved: bool = False
) -> Response:
    """The report of the row with the id `name`, or a sentence that says why it does not exist.

    no_learners: why learners' reports are not handed out; empty if they are. saved: whether an HTML report is
    downloaded instead of shown, as the other formats always are.
    """
    try:
        report = _report_file(connect, int(name)) if ID.fullmatch(name) else None
        if report is None:
            return _reply(HTTPStatus.NOT_FOUND, f"There is no report {name[:18]!r}; it may have been deleted since.")
        if report.of_learner and no_learners:
            return _reply(HTTPStatus.FORBIDDEN, no_learners)
        return _file(store, report, saved=saved)
    except (TransientFailure, psycopg.OperationalError):
        LOG.exception("report %s", name)
        return _reply(HTTPStatus.SERVICE_UNAVAILABLE, "The database or the object store does not answer; try again.")
    except PermanentFailure:
        LOG.exception("report %s", name)
        return _reply(HTTPStatus.BAD_GATEWAY, "The object store refuses the report; see this service's log.")


def _report_file(connect: Connect, artifact_id: int) -> ReportFile | None:
    query = 'SELECT url, format, user_id, week_start, "window" FROM report_file WHERE artifact_id = %s'
    with connect() as connection:
        row = connection.execute(query, (artifact_id,)).fetchone()
    if row is None:
        return None
    url, kind, user, week, window = row
    name = f"drift_{window}" if user is None else f"week_{week}_{user}"
    return ReportFile(url, kind, user is not None, f"{name}.{kind}".replace("/", "_"))


def _file(store: ObjectStore, report: ReportFile, *, saved: bool) -> Response:
    try:
        if (key := store.key(report.url)) is None:
            raise ObjectMissing(report.url)
        pieces = store.stream(key)
        first = next(pieces, b"")
    except (ObjectMissing, ValueError):  # ValueError: a key that leads out of the store
        message = f"The file {report.name} is no longer in the object store; materialise the report again."
        return _reply(HTTPStatus.NOT_FOUND, message)
    disposition = "attachment" if saved or report.format != "html" else "inline"
    headers = HEADERS | {"Content-Disposition": f"{disposition}; filename*=utf-8''{quote(report.name, safe='')}"}
    return StreamingResponse(chain((first,), pieces), headers=headers, media_type=TYPES[report.format])


@dataclass(eq=False)
class ReportFiles:
    """Middleware that serves the reports before `app`. `learners`: whether it also hands out learners' reports."""

    app: ASGIApp
    database: Database
    store: ObjectStore
    _: KW_ONLY
    prefix: str = ""
    learners: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_within(self.prefix, scope["path"]) if scope["type"] == "http" else ""
        if not path.startswith(SERVED_UNDER):
            await self.app(scope, receive, send)
            return
        name, no_learners = path.removeprefix(SERVED_UNDER), "" if self.learners else LEARNER_REPORTS_OFF
        response = await run_in_threadpool(
            report_response, self.database.connect, self.store, name, no_learners=no_learners
        )
        await response(scope, receive, send)


def _reply(status: HTTPStatus, sentence: str) -> Response:
    return PlainTextResponse(f"{sentence}\n", status, HEADERS)
