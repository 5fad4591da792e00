"""Report files and their rows in `report_file`. The file is written before the row, so no row names a missing file.

A report has one row, identified by learner, week and format, or by window and format. Writing a report again replaces
its file and its row.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from hashlib import sha256
from typing import Literal

import psycopg

from resources.files.object_store import ObjectStore
from resources.postgres.database import Database, records

Format = Literal["html", "pdf", "docx"]
SERVED_UNDER = "/reports/"
"""Path under which the webserver serves the file of a row, followed by the row's id."""


@dataclass(frozen=True)
class Artifact:
    """A report file: its permanent URI and sha256 (hexadecimal), and the learner and week, or the window, it is about.

    Attributes:
        inputs_hash: hash of all inputs of the file, if the code that writes it compares the hash later; else None.
        artifact_id: id of its row, which does not change when the report is written again, or None without a row.
    """

    url: str
    sha256: str
    format: Format
    user_id: str | None = None
    week_start: date | None = None
    window: str | None = None
    inputs_hash: str | None = None
    artifact_id: int | None = None


@dataclass(frozen=True)
class ReportRow:
    """A row of `report_file`: the file of a learner's week, or of a window."""

    artifact_id: int
    format: Format
    user_id: str | None
    week_start: date | None
    window: str | None
    generated_at: datetime


@dataclass(frozen=True)
class WeekOfReports:
    """Numbers of learners' reports of a week, as HTML pages and as PDFs."""

    week_start: date
    pages: int
    pdfs: int
    generated_at: datetime


def store_report(
    database: Database,
    store: ObjectStore,
    key: str,
    data: bytes,
    *,
    format: Format,  # noqa: A002 - the table's word
    user_id: str | None = None,
    week_start: date | None = None,
    window: str | None = None,
) -> Artifact:
    """Write a report file under `key`, then its row, each replacing an earlier one.

    A learner's report needs user and week, a bank's report its window. If the key of a report changes, its old file
    is not deleted (see `unrecorded_keys`).

    Raises ValueError for another combination of user, week and window, and the errors of `ObjectStore.put`, in which
    case the row is unchanged.
    """
    if (user_id is None) != (week_start is None) or (user_id is None) == (window is None):
        raise ValueError("a report needs a user and a week, or a window")
    artifact = put_file(store, key, data, Artifact("", "", format, user_id, week_start, window))
    with database.connect() as connection:
        record_files(connection, [artifact])
        return replace(artifact, artifact_id=row_ids(connection, [artifact.url])[artifact.url])


def put_file(store: ObjectStore, key: str, data: bytes, artifact: Artifact) -> Artifact:
    """Write the file without its row. Returns `artifact` with the URI and the sha256, for `record_files`."""
    return replace(artifact, url=store.put(key, data), sha256=sha256(data).hexdigest())


def record_files(connection: psycopg.Connection, artifacts: Iterable[Artifact]) -> None:
    """Write the rows of stored files. Earlier rows of the same reports are replaced."""
    connection.cursor().executemany(
        """INSERT INTO report_file (user_id, week_start, "window", format, url, sha256, inputs_hash)
               VALUES (%s, %s, %s, %s, %s, %s, %s)
               ON CONFLICT (user_id, week_start, "window", format) DO UPDATE SET url = excluded.url,
                 sha256 = excluded.sha256, inputs_hash = excluded.inputs_hash, generated_at = now()""",
        [(a.user_id, a.week_start, a.window, a.format, a.url, a.sha256, a.inputs_hash) for a in artifacts],
    )


def reports_of_learner(connection: psycopg.Connection, user_id: str) -> list[ReportRow]:
    """Return a learner's reports, the newest week first."""
    return _report_rows(connection, "user_id = %s ORDER BY week_start DESC, format", user_id)


def drift_reports(connection: psycopg.Connection, month: str = "") -> list[ReportRow]:
    """Return the drift reports of a month, or of all months if it is empty; the newest month first, then by scale."""
    condition = """user_id IS NULL AND starts_with("window", %s)
                   ORDER BY split_part("window", '/', 1) DESC, "window", format"""
    return _report_rows(connection, condition, f"{month}/" if month else "")


def weeks(connection: psycopg.Connection, most: int) -> list[WeekOfReports]:
    """Return the last `most` weeks with learners' reports, newest first, without reading rows of older weeks."""
    return records(
        connection,
        WeekOfReports,
        """WITH RECURSIVE known AS (
                 SELECT max(week_start) AS week, 1 AS n FROM report_file
                 UNION ALL
                 SELECT (SELECT max(week_start) FROM report_file WHERE week_start < known.week), n + 1
                 FROM known WHERE week IS NOT NULL AND n < %s)
               SELECT week_start, count(*) FILTER (WHERE format = 'html') AS pages,
                      count(*) FILTER (WHERE format = 'pdf') AS pdfs, max(generated_at) AS generated_at
               FROM known JOIN report_file ON week_start = week GROUP BY 1 ORDER BY 1 DESC""",
        (most,),
    )


def _report_rows(connection: psycopg.Connection, condition: str, value: str) -> list[ReportRow]:
    return records(
        connection,
        ReportRow,
        f"""SELECT artifact_id, format, user_id, week_start, "window", generated_at
                FROM report_file WHERE {condition}""",
        (value,),
    )


def page_path(artifact_id: int | None, ui_prefix: str) -> str:
    """Path of a report. It has no host, so it works under every name of the Dagster UI.

    As URL metadata it is a link everywhere in the Dagster UI, while Markdown in a run's log needs one more click.
    """
    return f"{ui_prefix}{SERVED_UNDER}{artifact_id}"


def row_ids(connection: psycopg.Connection, urls: Iterable[str]) -> dict[str, int]:
    """Return the id of the row of each URL that has a row."""
    query = "SELECT url, artifact_id FROM report_file WHERE url = ANY(%s)"
    return dict(connection.execute(query, ([*urls],)).fetchall())


def unrecorded_keys(connection: psycopg.Connection, store: ObjectStore, folder: str) -> list[str]:
    """Return the keys below `folder` that no row names.

    A file that has just been written has no row yet: make sure that nobody is writing there before you delete any.
    """
    return sorted({key for key, _ in store.list(folder)} - recorded_keys(connection, store, folder))


def recorded_keys(connection: psycopg.Connection, store: ObjectStore, folder: str) -> set[str | None]:
    """Return the keys below `folder` that rows name, even if the store has since moved to another URL."""
    named = connection.execute("SELECT url FROM report_file WHERE strpos(url, %s) > 0", (f"/{folder}/",))
    return {store.key(url) for (url,) in named}
