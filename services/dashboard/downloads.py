"""Tables as files (`/download?what=…&to=csv|xlsx|parquet`) and pages (`/document?view=…&to=html|pdf|docx|xlsx`).

Does not belong here: reports that are stored (see `report_files`).
"""

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from http import HTTPStatus
from io import BufferedReader
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import pandas as pd
import psycopg
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from irt_assets.blocks import Document, excel, html, pdf, word
from irt_assets.common.wording import sentence
from irt_assets.decisions.exports import Kind, read_export, write_export
from irt_assets.scales.scale import read_scales
from irt_assets.scores.form_tables import as_rows
from irt_assets.scores.releases import released_tables
from resources.failures import PermanentFailure, explain
from resources.postgres.schema_version import SchemaMisfit, schema_compared
from resources.postgres.warehouse import read_frame
from services.dashboard.address_fields import require_known
from services.dashboard.elements import shorten
from services.dashboard.page import NotAllowed, NotFound, ViewRequest
from services.dashboard.views import arrivals, bank, equate, form, item, learner, new_items, scale, test
from services.jwt_verifier.tokens import Role, TokenRefused
from services.report_files import TYPES as REPORT_TYPES

LOG = logging.getLogger("services.dashboard")
TYPES: Mapping[str, str] = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "parquet": "application/vnd.apache.parquet",
    **REPORT_TYPES,
}
TABLE_KINDS = ("csv", "xlsx", "parquet")
RENDERERS: Mapping[str, Callable[[Document], bytes]] = {
    "pdf": pdf.typeset,
    "docx": word.write_docx,
    "xlsx": excel.write_xlsx,
    "html": lambda document: html.page(document).encode(),
}
STATEMENT_TIMEOUT_MS = 60_000
PIECE_BYTES = 2**16
WRITE_SLOTS = threading.BoundedSemaphore(2)
"""Limits the files that are written at once: a table of a million rows needs a gigabyte."""
MAX_WAIT_S = 30


def download(request: ViewRequest) -> Response:
    """The file, named after its table, scale and day, or a sentence that says why it does not exist."""
    table, kind = request.field("what"), request.field("to", "csv")
    if table not in DOWNLOADS or kind not in TABLE_KINDS:
        return _nothing_to_download(table, DOWNLOADS, kind, TABLE_KINDS)
    read_table, role = DOWNLOADS[table]
    try:
        request.identity.require_role(role)
    except TokenRefused as refused:
        return _error_page(refused.status, f"{table} are data of learners, for the role {role} and above: {refused}")
    title = ", ".join(filter(None, (table, request.field("scale"), f"{request.reader.now():%Y-%m-%d}")))
    return _respond(
        request, table, kind, lambda path: write_export(read_table(request), cast("Kind", kind), path, title)
    )


def document(request: ViewRequest) -> Response:
    """The page of a view as a file, or a sentence that says why it does not exist."""
    view, kind = request.view, request.field("to", "pdf")
    if view not in DOCUMENTS or kind not in RENDERERS:
        return _nothing_to_download(view, DOCUMENTS, kind, RENDERERS)
    return _respond(request, view, kind, lambda path: path.write_bytes(RENDERERS[kind](DOCUMENTS[view](request))))


def _nothing_to_download(name: str, names: Iterable[str], kind: str, kinds: Iterable[str]) -> Response:
    unknown, choices = (kind, kinds) if name in names else (name, names)
    return _error_page(404, f"there is nothing to download as {shorten(unknown)!r}: choose one of {', '.join(choices)}")


def _respond(request: ViewRequest, name: str, kind: str, write: Callable[[Path], object]) -> Response:
    """The file that `write` writes to a path, or a sentence that says why it cannot be written.

    The file is unlinked before it is sent, so closing it removes it, even if it was not read to the end.
    """
    if not WRITE_SLOTS.acquire(timeout=MAX_WAIT_S):
        return _error_page(503, "other files are being written: try again in a minute")
    try:
        with schema_compared(request.reader.database), TemporaryDirectory(prefix="irt-download-") as folder:
            path = Path(folder, f"file.{kind}")
            write(path)
            opened, size = path.open("rb"), path.stat().st_size
    except NotFound as missing:
        return _error_page(404, str(missing))
    except NotAllowed as refused:
        return _error_page(403, str(refused))
    except SchemaMisfit as misfit:
        return _error_page(503, str(misfit))
    except PermanentFailure as failure:
        return _error_page(422, str(failure))
    except psycopg.errors.QueryCanceled:
        return _error_page(503, f"reading it took longer than a minute: `irt export {name}` has no such limit")
    except psycopg.OperationalError as error:
        LOG.warning("the database does not answer: %s", explain(error) or error)
        return _error_page(503, "the database does not answer: try again in a minute")
    finally:
        WRITE_SLOTS.release()
    headers = {
        "Content-Disposition": f'attachment; filename="{_name(request, name)}.{kind}"',
        "Content-Length": str(size),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(_pieces(opened), media_type=TYPES[kind], headers=headers)


def _pieces(opened: BufferedReader) -> Iterator[bytes]:
    with opened:
        while piece := opened.read(PIECE_BYTES):
            yield piece


def _name(request: ViewRequest, table: str) -> str:
    """The file's name. The scale is reduced to letters and digits, because the name is sent in a header."""
    scale = re.sub(r"[^A-Za-z0-9.-]+", "_", request.field("scale"))[:40].strip("._-")
    return "_".join(part for part in (table, scale, f"{request.reader.now():%Y-%m-%d}") if part)


def _error_page(status: int, reason: str) -> Response:
    return PlainTextResponse(f"{sentence(reason)}\n", HTTPStatus(status), {"Cache-Control": "no-store"})


def _bank(request: ViewRequest) -> pd.DataFrame:
    """All items that the dashboard's page with the same address fields lists."""
    selection = bank.read_selection(request, request.reader.now())
    return pd.DataFrame(
        [bank.as_row(item, selection.scale.scale_id) for item in selection.items], columns=bank.FILE_COLUMNS
    )


def _pipeline(request: ViewRequest) -> pd.DataFrame:
    """Return the items that the page *New items* lists at the same address fields."""
    return pd.DataFrame([item.as_row() for item in new_items.read_selection(request, request.reader.now()).items])


def _export(read_all: Callable[..., pd.DataFrame]) -> Callable[[ViewRequest], pd.DataFrame]:
    """Read a table of all scales at the current time, and keep the rows of the address's scale and form."""

    def read(request: ViewRequest) -> pd.DataFrame:
        with request.reader.connect(STATEMENT_TIMEOUT_MS) as connection:
            if scale := request.field("scale"):
                require_known("scale", scale, read_scales(connection))
            frame = read_all(connection, at=request.reader.now())
        for name in ("scale", "form"):
            if (chosen := request.field(name)) and f"{name}_id" in frame:
                frame = frame[frame[f"{name}_id"] == chosen]
        return frame

    return read


def _released(connection: psycopg.Connection, **_at: datetime) -> pd.DataFrame:
    return as_rows(found for scale in read_scales(connection) for found in released_tables(connection, scale).values())


DOWNLOADS: Mapping[str, tuple[Callable[[ViewRequest], pd.DataFrame], Role]] = {
    "bank": (_bank, "viewer"),
    "pipeline": (_pipeline, "viewer"),
    "parameters": (_export(partial(read_export, subject="parameters")), "viewer"),
    "flags": (_export(partial(read_export, subject="flags")), "viewer"),
    "abilities": (_export(partial(read_export, subject="abilities")), "analyst"),
    "persons": (form.persons_table, "analyst"),
    "refused": (arrivals.refused_table, "analyst"),
    "scores": (_export(_released), "viewer"),
    "issued": (
        _export(lambda connection, **_at: read_frame(connection, "SELECT * FROM issued_score ORDER BY issued_id")),
        "analyst",
    ),
}
"""The tables that can be downloaded, with the lowest role that may download them."""
DOCUMENTS: Mapping[str, Callable[[ViewRequest], Document]] = {
    "equate": equate.document,
    "form": form.document,
    "item": item.document,
    "items": form.items_document,
    "learner": learner.document,
    "scale": scale.document,
    "test": test.document,
}
"""The views whose pages can be written as files."""
