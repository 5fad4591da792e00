"""The invariant on report files: files read per night, in a folder and in a bucket, and repaired files."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any

import psycopg
import pytest

from irt_assets.invariants.history import Report, evaluate_all, store_results
from irt_assets.invariants.registry import INVARIANTS
from irt_assets.invariants.reports import MAX_DAYS_UNREAD, report_files_are_as_they_were_written
from irt_assets.reports.artifacts import Artifact, record_files as record_artifacts, store_report, unrecorded_keys
from resources.files.object_store import BucketStore, FolderStore, ObjectStore
from resources.postgres.database import Database
from tests.helpers import rooms
from tests.helpers.seaweed import BUCKET

NOW = datetime(2026, 11, 20, 7, tzinfo=UTC)
NEWEST, EARLIER = date(2026, 11, 9), date(2026, 11, 2)
LEARNERS = 40


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.xdist_group("s3"))])
def kept(request: pytest.FixtureRequest, store: FolderStore) -> ObjectStore:
    """A store of either kind that counts its reads."""
    if request.param == "folder":
        return CountingFolder(store.root)
    request.getfixturevalue("s3")
    return CountingBucket(BUCKET)


class CountingStore:
    """Part of a store that records the keys of files that threads read."""

    read: list[str]

    def sha256(self, key: str) -> str:
        self.read.append(key)
        return super().sha256(key)  # type: ignore[misc]


class CountingFolder(CountingStore, FolderStore):
    pass


class CountingBucket(CountingStore, BucketStore):
    pass


def key_of(week: date, n: int) -> str:
    return f"reports/{week}/ü{n:03d}.pdf"


def write_reports(database: Database, store: ObjectStore) -> None:
    """Write one report per learner for each of two weeks."""
    artifacts = []
    for week in (EARLIER, NEWEST):
        for n in range(LEARNERS):
            data = str(n).encode()
            url = store.put(key_of(week, n), data)
            artifacts.append(Artifact(url, hashlib.sha256(data).hexdigest(), "pdf", f"{n}", week))
    rooms.call(database, record_artifacts, artifacts)


def look(database: Database, store: CountingFolder | CountingBucket, now: datetime = NOW) -> Report:
    store.read = []
    return evaluate_all(database, store, (), now, {}, [report_files_are_as_they_were_written])


def open_violations(database: Database) -> list[str]:
    return [
        subject
        for (subject,) in rooms.rows(
            database, "SELECT subject FROM invariant_result WHERE subject <> '' AND resolved_at IS NULL"
        )
    ]


def test_every_file_is_read_within_four_weeks_and_the_newest_week_every_day(
    database: Database, kept: CountingFolder | CountingBucket
) -> None:
    write_reports(database, kept)
    newest = {key_of(NEWEST, n) for n in range(LEARNERS)}
    of_the_earlier: list[str] = []
    for day in range(MAX_DAYS_UNREAD):
        report = look(database, kept, NOW + timedelta(days=day))
        assert report.verdicts[0].violations == ()
        assert newest <= set(kept.read)
        rest = [key for key in kept.read if key not in newest]
        assert len(rest) <= 2, "more than a day's share"
        of_the_earlier += rest
        (missing,) = report.verdicts[0].not_tested
        assert f"of {LEARNERS - len(rest)} of {2 * LEARNERS} files was not compared today" in missing.why
    assert sorted(of_the_earlier) == sorted(key_of(EARLIER, n) for n in range(LEARNERS))


class WatchfulFolder(FolderStore):
    """A store that records open transactions while a file is read."""

    database: Database
    open: list[tuple[Any, ...]]

    def sha256(self, key: str) -> str:
        self.open += rooms.rows(self.database, rooms.IN_TRANSACTION)
        return super().sha256(key)


def test_no_transaction_is_open_while_files_are_read(
    database: Database, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("irt_assets.invariants.reports.N_THREADS", 1)  # several readers would see each other
    write_reports(database, store)
    watchful = WatchfulFolder(store.root)
    watchful.database, watchful.open = database, []
    newest_first = [report_files_are_as_they_were_written, INVARIANTS[0]]
    report = evaluate_all(database, watchful, (), NOW, {}, newest_first)
    assert [verdict.invariant for verdict in report.verdicts] == newest_first
    assert watchful.open == []


def test_file_with_a_violation_is_read_daily_until_repaired(
    database: Database, kept: CountingFolder | CountingBucket
) -> None:
    write_reports(database, kept)
    wrong = key_of(EARLIER, 7)
    kept.put(wrong, b"changed")
    for day in range(MAX_DAYS_UNREAD):
        report = look(database, kept, NOW + timedelta(days=day))
        if report.verdicts[0].violations:
            break
    (violation,) = report.verdicts[0].violations
    assert (violation.subject, violation.partition) == (wrong, str(EARLIER))
    assert "learner 7, week 2026-11-02" in violation.expected
    rooms.call(database, store_results, "first", report)
    assert open_violations(database) == [wrong]
    later = NOW + timedelta(days=day + 1)
    assert [v.subject for v in look(database, kept, later).verdicts[0].violations] == [wrong]
    kept.put(wrong, b"7")
    mended = look(database, kept, later)
    assert mended.verdicts[0].violations == ()
    assert mended.verdicts[0].not_tested != ()
    rooms.call(database, store_results, "second", mended)
    assert open_violations(database) == []


# -- artifacts ---------------------------------------------------------------------------------------
# A report file and its row: one of each, and the file first, even if the process is interrupted in between.

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


def test_database_refuses_a_second_row_of_a_report(database: Database) -> None:
    with database.connect() as connection:
        insert = "INSERT INTO report_file (\"window\", format, url, sha256) VALUES ('2026-09', 'pdf', 'file:///x', '0')"
        connection.execute(insert)
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(insert)


@pytest.mark.parametrize(
    "subject",
    [
        {},
        {"user_id": "u1"},
        {"week_start": WEEK},
        {"user_id": "u1", "window": "2026-09"},
        {"user_id": "u1", "week_start": WEEK, "window": "2026-09"},
    ],
)
def test_report_without_exactly_a_learner_week_or_a_window_is_refused(
    database: Database, store: ObjectStore, subject: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="a report needs a user and a week, or a window"):
        store_report(database, store, KEY, b"", format="pdf", **subject)
    assert not store.exists(KEY)


def test_files_without_a_row_are_listed(database: Database, store: ObjectStore) -> None:
    store.put("reports/2026-09-07/orphan.pdf", b"")
    store.put("reports/2026-09-14/of another week.pdf", b"")
    uri = store.put(KEY, b"")
    rooms.call(database, record_artifacts, [Artifact(uri, "0", "pdf", "u1", WEEK)])
    assert rooms.call(database, unrecorded_keys, store, "reports/2026-09-07") == ["reports/2026-09-07/orphan.pdf"]
    assert rooms.call(database, unrecorded_keys, store, "reports/2026-09-21") == []
