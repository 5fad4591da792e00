"""A report file and its row: one of each, the file first, whatever happens in between."""

from __future__ import annotations

from datetime import date
from hashlib import sha256
from typing import Any

import psycopg
import pytest

from irt_assets.reports.artifacts import Artifact, record, store_report, unrecorded
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database

WEEK = date(2026, 9, 7)
KEY = "reports/2026-09-07/u1.pdf"


def rows(database: Database) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(
            'SELECT user_id, week_start, "window", format, url, sha256 FROM report_file ORDER BY artifact_id'
        ).fetchall()


def test_writing_a_report_again_replaces_file_and_row(database: Database, store: ObjectStore) -> None:
    for data in (b"old", b"new"):
        store_report(database, store, KEY, data, format="pdf", user_id="u1", week_start=WEEK)
        store_report(database, store, "reports/drift/2026-09.pdf", data, format="pdf", window="2026-09")
    assert [(row[0], row[-1]) for row in rows(database)] == [
        ("u1", sha256(b"new").hexdigest()),
        (None, sha256(b"new").hexdigest()),
    ]
    assert store.get(KEY) == b"new"


def test_the_database_itself_refuses_a_second_row_of_a_report(database: Database) -> None:
    with database.connect() as connection:
        insert = "INSERT INTO report_file (\"window\", format, url, sha256) VALUES ('2026-09', 'pdf', 'file:///x', '0')"
        connection.execute(insert)
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(insert)


@pytest.mark.parametrize(
    "of",
    [
        {},
        {"user_id": "u1"},
        {"week_start": WEEK},
        {"user_id": "u1", "window": "2026-09"},
        {"user_id": "u1", "week_start": WEEK, "window": "2026-09"},
    ],
)
def test_a_report_of_nothing_or_of_two_things_is_refused(
    database: Database, store: ObjectStore, of: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="of a user and a week, or of a window"):
        store_report(database, store, KEY, b"", format="pdf", **of)
    assert not store.exists(KEY)


def test_files_without_a_row_are_found(database: Database, store: ObjectStore) -> None:
    store.put("reports/2026-09-07/orphan.pdf", b"")
    store.put("reports/2026-09-14/of another week.pdf", b"")
    uri = store.put(KEY, b"")
    with database.connect() as connection:
        record(connection, [Artifact(uri, "0", "pdf", "u1", WEEK)])
        assert unrecorded(connection, store, "reports/2026-09-07") == ["reports/2026-09-07/orphan.pdf"]
        assert unrecorded(connection, store, "reports/2026-09-21") == []
