"""Tables as files: `/download?what=…&to=csv|xlsx|parquet`."""

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from io import BufferedReader
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import pandas as pd
import psycopg
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from irt_assets.common.wording import sentence
from irt_assets.decisions.exports import Kind, Subject, read_export, write_export
from irt_assets.responses.scales import read_scales
from resources.failures import PermanentFailure, explain
from services.dashboard.address_fields import require_known
from services.dashboard.elements import shorten
from services.dashboard.page import NotFound, ViewRequest
from services.dashboard.views import arrivals, bank
from services.jwt_verifier.tokens import Role, TokenRefused

LOG = logging.getLogger("services.dashboard")
TYPES: Mapping[str, str] = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "parquet": "application/vnd.apache.parquet",
}
STATEMENT_TIMEOUT_MS = 60_000
PIECE = 2**16
AT_ONCE = threading.BoundedSemaphore(2)
"""Limits the files that are written at once: a table of a million rows needs a gigabyte."""
MAX_WAIT_S = 30


def download(asked: ViewRequest) -> Response:
    """The file, named after its table, scale and day, or a sentence that says why it does not exist."""
    what, kind = asked.field("what"), asked.field("to", "csv")
    if what not in DOWNLOADS or kind not in TYPES:
        named, choices = (kind, TYPES) if what in DOWNLOADS else (what, DOWNLOADS)
        return _error_page(404, f"there is nothing to download as {shorten(named)!r}: take one of {', '.join(choices)}")
    read_table, role = DOWNLOADS[what]
    try:
        asked.identity.require_role(role)
    except TokenRefused as refused:
        return _error_page(refused.status, f"{what} are data of learners, for the role {role} and above: {refused}")
    if not AT_ONCE.acquire(timeout=MAX_WAIT_S):
        return _error_page(503, "other files are being made: try again in a minute")
    try:
        opened, size = _write_table(read_table(asked), cast("Kind", kind))
    except NotFound as missing:
        return _error_page(404, str(missing))
    except PermanentFailure as failure:
        return _error_page(422, str(failure))
    except psycopg.errors.QueryCanceled:
        return _error_page(503, f"reading it took longer than a minute: `irt export {what}` has no such limit")
    except psycopg.OperationalError as error:
        LOG.warning("the database does not answer: %s", explain(error) or error)
        return _error_page(503, "the database does not answer: try again in a minute")
    finally:
        AT_ONCE.release()
    headers = {
        "Content-Disposition": f'attachment; filename="{_name(asked, what)}.{kind}"',
        "Content-Length": str(size),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(_pieces(opened), media_type=TYPES[kind], headers=headers)


def _write_table(frame: pd.DataFrame, kind: Kind) -> tuple[BufferedReader, int]:
    """Write the table to a file. Returns the open file and its size in bytes.

    The file is already unlinked, so closing it removes it, even if it was not read to the end.
    """
    with TemporaryDirectory(prefix="irt-download-") as folder:
        path = Path(folder, f"table.{kind}")
        write_export(frame, kind, path)
        return path.open("rb"), path.stat().st_size


def _pieces(opened: BufferedReader) -> Iterator[bytes]:
    with opened:
        while piece := opened.read(PIECE):
            yield piece


def _name(asked: ViewRequest, what: str) -> str:
    """The file's name. The scale is reduced to letters and digits, because the name is sent in a header."""
    scale = re.sub(r"[^A-Za-z0-9.-]+", "_", asked.field("scale"))[:40].strip("._-")
    return "_".join(part for part in (what, scale, f"{asked.reader.now():%Y-%m-%d}") if part)


def _error_page(status: int, why: str) -> Response:
    return PlainTextResponse(f"{sentence(why)}\n", HTTPStatus(status), {"Cache-Control": "no-store"})


def _bank(asked: ViewRequest) -> pd.DataFrame:
    """All items that the dashboard's page with the same address fields lists."""
    shown = bank.chosen(asked, asked.reader.now())
    return pd.DataFrame([bank.as_row(item, shown.scale.scale_id) for item in shown.items], columns=bank.FILE_COLUMNS)


def _export(what: Subject) -> Callable[[ViewRequest], pd.DataFrame]:
    def read(asked: ViewRequest) -> pd.DataFrame:
        scale = asked.field("scale")
        with asked.reader.connect(STATEMENT_TIMEOUT_MS) as connection:
            if scale:
                require_known("scale", scale, read_scales(connection))
            frame = read_export(connection, what, asked.reader.now())
        return frame[frame["scale_id"] == scale] if scale else frame

    return read


DOWNLOADS: Mapping[str, tuple[Callable[[ViewRequest], pd.DataFrame], Role]] = {
    "bank": (_bank, "viewer"),
    "parameters": (_export("parameters"), "viewer"),
    "flags": (_export("flags"), "viewer"),
    "abilities": (_export("abilities"), "analyst"),
    "refused": (arrivals.refused_table, "analyst"),
}
"""The tables that can be downloaded, with the lowest role that may download them."""
