"""An import is all or nothing, reports its effect, and has no effect if repeated."""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from irt_assets.intake.arrivals import Arrival, arrivals, refused_rows
from irt_assets.intake.bank import LEARNERS, QUESTIONS, import_bank_file
from irt_assets.intake.load import import_attempts
from irt_assets.intake.posted import Post, store_post
from irt_assets.intake.report import ImportReport, RefusedRow, csv_of_refused, ignore_rows
from irt_assets.intake.staging import Staging
from irt_assets.scales.enemies import read_enemies
from resources.failures import PermanentFailure
from resources.postgres import schema
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import add_attempts, attempt, call, rows as query, run_sql
from tests.testbed.partitions import ensure_month_partitions
from tests.testbed.patience import patient

FIRST_MONTH = "2026-06"
HEADER = ["attempt_id", "user_id", "item_id", "completed_at", "correct"]
Import = Callable[..., ImportReport]


@pytest.fixture
def imported(database: Database, tmp_path: Path) -> Import:
    """Import files into the test's database."""

    def run(*files: Path, **options: Any) -> ImportReport:
        with csv_of_refused(tmp_path / "rejects.csv") as reject:
            return import_attempts(database, files, **{"first_month": FIRST_MONTH, "reject": reject} | options)

    return run


def answer(number: int, **changes: str) -> dict[str, str]:
    sound = {
        "attempt_id": f"a{number}",
        "user_id": f"u{number % 3}",
        "item_id": f"q{number % 5}",
        "completed_at": f"2026-0{7 + number % 3}-01T12:{number % 60:02d}:00Z",
        "correct": str(number % 2),
    }
    return sound | changes


def write(path: Path, answers: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list({name: None for row in answers for name in row} or HEADER))
        writer.writeheader()
        writer.writerows(answers)
    return path


def everything(database: Database) -> list[list[tuple[Any, ...]]]:
    """All that an import can change, to the microsecond at which a row was written."""
    return [
        query(database, "SELECT * FROM response_log ORDER BY attempt_id, completed_at"),
        query(database, "SELECT * FROM question ORDER BY item_id"),
        query(database, "SELECT * FROM learner ORDER BY user_id"),
        query(database, "SELECT inhrelid::regclass::text FROM pg_inherits ORDER BY 1"),
    ]


def rejects(folder: Path) -> list[dict[str, str]]:
    """Rejected rows of the last import by `imported`."""
    written = folder / "rejects.csv"
    assert written.stat().st_mode & 0o077 == 0, "names and answers of learners are nobody else's to read"
    with written.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_column_of_an_answer_is_stored(database: Database, imported: Import, tmp_path: Path) -> None:
    row = answer(
        1,
        user_id='o\'brien "x" 😀',
        item_id="x" * 500,
        topic_id="algebra",
        session_id="s1",
        form_id="f1",
        position="3",
        started_at="2026-08-01T12:00:30Z",
        response="B, or\nC",
        response_time_ms="30500",
        hints_used="2",
        mode="sandbox",
    )
    report = imported(write(tmp_path / "log.csv", [row]))
    assert report.as_dict() == {
        "read": 1,
        "accepted": 1,
        "corrected": 0,
        "duplicates": 0,
        "rejected": {},
        "new_items": 1,
        "new_learners": 1,
    }
    columns = (
        "attempt_id, user_id, item_id, session_id, form_id, position, response, response_time_ms, hints_used, mode"
    )
    assert (
        query(database, f"SELECT {columns} FROM response_log"),
        query(database, "SELECT completed_at, started_at, correct FROM response_log"),
        query(database, "SELECT item_id, scale_id, topic_id FROM question"),
        query(database, "SELECT user_id, is_test FROM learner"),
    ) == (
        [("a1", row["user_id"], row["item_id"], "s1", "f1", 3, "B, or\nC", 30_500, 2, "sandbox")],
        [(datetime(2026, 8, 1, 12, 1, tzinfo=UTC), datetime(2026, 8, 1, 12, 0, 30, tzinfo=UTC), True)],
        [(row["item_id"], "default", "algebra")],
        [(row["user_id"], False)],
    )
    assert query(database, "SELECT topic_id FROM attempt") == [("algebra",)]


def test_importing_the_same_file_again_changes_no_rows(database: Database, imported: Import, tmp_path: Path) -> None:
    log = write(
        tmp_path / "log.csv", [answer(n) for n in range(50)] + [answer(1, correct="0"), answer(99, correct="x")]
    )
    first = imported(log)
    before = everything(database)
    second = imported(log)
    assert (first.accepted, first.duplicates) == (50, 0)
    assert (second.accepted, second.duplicates, second.new_items, second.new_learners) == (0, 50, 0, 0)
    assert first.rejected == second.rejected == {"bad_score": 1, "conflicting_duplicate": 1}
    assert everything(database) == before


def test_first_answer_with_an_id_is_kept_and_later_conflicting_answers_are_rejected(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    """The first may be in the log, in another month, earlier in the file, or in an earlier file."""
    imported(write(tmp_path / "log.csv", [answer(0), answer(1)]))
    changed = [
        answer(0),  # line 2: as it is in the log
        answer(0, correct="1"),
        answer(1, completed_at="2026-10-01T12:00:00Z"),  # another month
        answer(2),  # line 5: new
        answer(2),
        answer(2, user_id="somebody else"),
        answer(2, item_id="something else"),
        answer(2, session_id="s"),  # line 9: not compared
    ]
    more = [answer(2), answer(2, correct="")]
    files = [write(tmp_path / "more.csv", changed), write(tmp_path / "last.csv", more)]
    report = imported(*files)
    assert (report.read, report.accepted, report.duplicates) == (10, 1, 4)
    assert report.rejected == {"conflicting_duplicate": 5}
    assert [(row["file"], row["line"], row["value"]) for row in rejects(tmp_path)] == [
        (str(files[0]), "3", "a0"),
        (str(files[0]), "4", "a1"),
        (str(files[0]), "7", "a2"),
        (str(files[0]), "8", "a2"),
        (str(files[1]), "3", "a2"),
    ]
    counted = "SELECT source, read, accepted, duplicates, rejected FROM intake ORDER BY arrived_at, read DESC"
    assert query(database, counted)[1:] == [
        (str(files[0]), 8, 1, 3, {"conflicting_duplicate": 4}),
        (str(files[1]), 2, 0, 1, {"conflicting_duplicate": 1}),
    ]
    kept = "SELECT source, line, value FROM intake_reject ORDER BY reject_id"
    assert query(database, kept) == [(row["file"], int(row["line"]), row["value"]) for row in rejects(tmp_path)]
    assert query(database, "SELECT attempt_id, user_id, correct FROM response_log ORDER BY 1") == [
        ("a0", "u0", False),
        ("a1", "u1", True),
        ("a2", "u2", False),
    ]
    assert query(database, "SELECT count(*) FROM learner WHERE user_id = 'somebody else'") == [(0,)]


CORRECTIONS = """SELECT attempt_id, revision, user_id, correct, completed_at::text, how, corrected_by, reason
                 FROM attempt_correction ORDER BY correction_id"""
STORED = "SELECT attempt_id, revision, user_id, correct, completed_at::date::text FROM response_log ORDER BY 1, 5"


def test_higher_revision_replaces_an_answer_and_records_the_former_version(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    """The time may move within its month, to an existing month, and to a month without a partition."""
    imported(write(tmp_path / "log.csv", [answer(n) for n in range(4)]))
    run_sql(database, "UPDATE response_log SET recorded_at = '2026-09-01'")
    moved = ["2026-07-01T12:00:00Z", "2026-07-05T12:00:00Z", "2026-06-05T12:00:00Z"]
    fixed = [answer(n, correct="1", completed_at=moved[n], revision="1") for n in range(3)]
    again = write(tmp_path / "again.csv", [*fixed, answer(3, revision=""), answer(5, revision="7")])
    dry = imported(again, dry_run=True)
    report = imported(again)
    assert (report.accepted, report.corrected, report.duplicates, report.rejected) == (1, 3, 1, {})
    assert dry.as_dict() == report.as_dict()
    assert query(database, STORED) == [
        ("a0", 1, "u0", True, "2026-07-01"),
        ("a1", 1, "u1", True, "2026-07-05"),
        ("a2", 1, "u2", True, "2026-06-05"),
        ("a3", 0, "u0", True, "2026-07-01"),
        ("a5", 7, "u2", True, "2026-09-01"),
    ]
    [(role,)] = query(database, "SELECT session_user")
    assert query(database, CORRECTIONS) == [
        ("a0", 0, "u0", False, "2026-07-01 12:00:00+00", "import", role, str(again)),
        ("a1", 0, "u1", True, "2026-08-01 12:01:00+00", "import", role, str(again)),
        ("a2", 0, "u2", False, "2026-09-01 12:02:00+00", "import", role, str(again)),
    ]
    fresh = "SELECT attempt_id FROM response_log WHERE recorded_at > '2026-09-02' ORDER BY 1"
    assert (
        [one for (one,) in query(database, fresh)],
        query(database, "SELECT DISTINCT recorded_at::date::text FROM attempt_correction"),
    ) == (["a0", "a1", "a2", "a5"], [("2026-09-01",)])
    before = everything(database)
    assert imported(again).duplicates == 5
    assert everything(database) == before


def test_answer_is_stored_in_its_highest_revision_for_any_order_of_revisions(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    """A lower revision is a duplicate; an equal revision with different content is a conflict."""
    imported(write(tmp_path / "log.csv", [answer(0, revision="3"), answer(1)]))
    rows = [
        answer(0, correct="1", revision="2"),
        answer(0, correct="1", revision="3"),
        answer(1, correct="0", revision="1"),
        answer(1, correct="", revision="4"),
        answer(1, correct="1", revision="4"),
        answer(2, correct="1"),
        answer(2, correct="0", revision="1"),
        answer(2, revision="1.5x"),
    ]
    report = imported(write(tmp_path / "more.csv", rows))
    assert (report.accepted, report.corrected, report.duplicates) == (1, 1, 3)
    assert report.rejected == {"conflicting_duplicate": 2, "bad_revision": 1}
    assert query(database, STORED) == [
        ("a0", 3, "u0", False, "2026-07-01"),
        ("a1", 4, "u1", None, "2026-08-01"),
        ("a2", 1, "u2", False, "2026-09-01"),
    ]


def test_a_mapping_may_name_the_revision(database: Database, imported: Import, tmp_path: Path) -> None:
    imported(write(tmp_path / "log.csv", [answer(0), answer(1)]))
    mapping = tmp_path / "theirs.yaml"
    mapping.write_text("columns: {attempt_id: id, user_id: u, item_id: i, completed_at: t, correct: c, revision: v}")
    log = tmp_path / "theirs.csv"
    log.write_text("id,u,i,t,c,v\na0,u0,q0,2026-07-01T12:00:00Z,1,12\n")
    assert imported(log, mapping=mapping).corrected == 1
    assert query(database, STORED)[0] == ("a0", 12, "u0", True, "2026-07-01")


def test_higher_revision_merges_answers_stored_under_the_same_id_at_two_times(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    """Direct writes to the log can store an id twice, as the key of a partitioned table includes the time."""
    imported(write(tmp_path / "log.csv", [answer(0)]))
    run_sql(
        database,
        """INSERT INTO response_log (attempt_id, user_id, item_id, completed_at, correct)
           VALUES ('a0', 'u0', 'q0', '2026-07-02+00', true)""",
    )
    assert imported(write(tmp_path / "same.csv", [answer(0)])).duplicates == 1
    report = imported(write(tmp_path / "right.csv", [answer(0, correct="1", revision="1")]))
    assert (report.accepted, report.corrected) == (0, 1)
    assert (query(database, STORED), len(query(database, CORRECTIONS))) == ([("a0", 1, "u0", True, "2026-07-01")], 2)


def test_concurrent_imports_of_an_id_at_two_times_store_a_single_answer(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    files = [
        write(tmp_path / f"{month}.csv", [answer(n, completed_at=f"2026-0{month}-01T12:00:00Z") for n in range(2_000)])
        for month in (7, 8)
    ]
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(imported, files))
    assert (sorted(report.accepted for report in reports), sorted(report.new_learners for report in reports)) == (
        [0, 2_000],
        [0, 3],
    )
    assert query(database, "SELECT count(*) FROM response_log") == [(2_000,)]


def test_longer_export_of_a_log_without_ids_adds_only_new_answers(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    answers = [{k: v for k, v in answer(n).items() if k != "attempt_id"} for n in range(20)]
    assert imported(write(tmp_path / "july.csv", answers[:12])).accepted == 12
    report = imported(write(tmp_path / "both.csv", [*answers, answers[3] | {"correct": "0"}]))
    assert (report.accepted, report.duplicates, report.rejected) == (8, 12, {"conflicting_duplicate": 1})
    assert query(database, "SELECT count(*), count(DISTINCT attempt_id) FROM response_log") == [(20, 20)]


def test_missing_id_of_a_row_is_generated(database: Database, imported: Import, tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", [answer(0), answer(1, attempt_id="")])
    assert imported(log).accepted == imported(log).duplicates == 2


def test_a_log_without_times_needs_a_day_and_keeps_its_order(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    answers = [{k: v for k, v in answer(n).items() if k in ("user_id", "item_id", "correct")} for n in range(40)]
    log = write(tmp_path / "log.csv", answers)
    with pytest.raises(PermanentFailure, match="--at DATE"):
        imported(log)
    first = imported(log, at=date(2026, 10, 1))
    before = everything(database)
    again = imported(log, at=date(2026, 10, 1))
    assert (first.accepted, again.accepted, again.duplicates) == (40, 0, 40)
    assert everything(database) == before
    stored = query(database, "SELECT user_id, item_id FROM response_log ORDER BY completed_at")
    assert stored == [(row["user_id"], row["item_id"]) for row in answers]
    assert query(database, "SELECT DISTINCT completed_at::date FROM response_log") == [(date(2026, 10, 1),)]


def test_cells_of_a_matrix_are_duplicates_if_other_columns_are_items(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    """Previously, the id of a cell depended on the columns that were items: w1 was stored twice for each learner."""
    matrix, key, mapping = tmp_path / "choices.csv", tmp_path / "key.csv", tmp_path / "mapping.yaml"
    matrix.write_text("id,w1,w2,w3\n" + "".join(f"u{n:02},{n % 2},{n % 3 % 2},{n % 5 % 2}\n" for n in range(50)))
    for items, accepted, duplicates in (("[w1]", 50, 0), ("[w1, w2]", 50, 50), ("[w3, w2]", 50, 50), ("[w1]", 0, 50)):
        mapping.write_text(f"columns: {{user_id: id}}\nwide: {{items: {items}}}")
        report = imported(matrix, mapping=mapping, at=date(2026, 7, 1))
        assert (report.accepted, report.duplicates, report.rejected) == (accepted, duplicates, {})
        assert not any("version 1.0" in note for note in report.notes)
    answers = (
        "SELECT item_id, count(*), count(DISTINCT completed_at), count(*) FILTER (WHERE correct) FROM response_log"
    )
    assert query(database, f"{answers} GROUP BY 1 ORDER BY 1") == [
        ("w1", 50, 50, 25),
        ("w2", 50, 50, 17),
        ("w3", 50, 50, 20),
    ]
    matrix.write_text(matrix.read_text().replace("w", "k"))
    for keys, accepted in (("k1,1\nk3,0\n", 100), ("k1,1\nk2,1\nk3,0\n", 50)):
        key.write_text(f"item,key\n{keys}")
        assert imported(matrix, key=key, at=date(2026, 7, 1)).accepted == accepted


def test_log_in_cp949_has_the_same_learners_as_its_utf_8_version(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    """Previously, the log was read as latin-1, so its learners and items were stored as new."""
    korean, unicode, mapping = tmp_path / "cp949.csv", tmp_path / "utf8.csv", tmp_path / "mapping.yaml"
    rows = [answer(n, attempt_id="", user_id=f"학생{n % 10}", item_id=f"문항{n % 5}") for n in range(50)]
    korean.write_bytes(write(unicode, rows).read_text("utf-8").encode("cp949"))
    with pytest.raises(PermanentFailure, match=r"line 2: this is not UTF-8; it looks like cp949 \(Korean Windows\)"):
        imported(korean)
    named = ", ".join(f"{name}: {name}" for name in ("user_id", "item_id", "completed_at", "correct"))
    mapping.write_text(f"columns: {{{named}}}\nencoding: cp949")
    assert imported(korean, mapping=mapping).accepted == 50
    again = [imported(korean, encoding="cp949"), imported(unicode), imported(unicode, encoding="cp949")]
    assert [(report.accepted, report.duplicates) for report in again] == [(0, 50)] * 3
    assert query(database, "SELECT count(*), min(user_id) FROM learner") == [(10, "학생0")]
    with pytest.raises(PermanentFailure, match="--encoding: 'utf-16'"):
        imported(korean, encoding="utf-16")


def test_matrix_imported_by_version_1_0_keeps_its_ids_and_duplicates_are_reported(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    """Version 1.0 numbered the cells: line × number of items + position among the items."""
    matrix = tmp_path / "matrix.csv"
    matrix.write_text("id,w1,w2\na,1,1\nb,0,0\n")
    assert imported(matrix, at=date(2026, 7, 1)).accepted == 4
    file_id = query(database, "SELECT DISTINCT left(attempt_id, 17) FROM response_log")[0][0]
    former = {("a", "w1"): 4, ("a", "w2"): 5, ("b", "w1"): 6, ("b", "w2"): 7}
    for (user, item), number in former.items():
        run_sql(
            database,
            f"UPDATE response_log SET attempt_id = '{file_id}{number}',"
            f" completed_at = timestamptz '2026-07-01 00:00Z' + interval '{number} microseconds'"
            f" WHERE (user_id, item_id) = ('{user}', '{item}')",
        )
    before = everything(database)
    again = imported(matrix, at=date(2026, 7, 2))
    assert (again.accepted, again.duplicates, again.rejected) == (0, 4, {})
    assert any("4 answers are in the log under ids that version 1.0 made" in note for note in again.notes)
    assert everything(database) == before
    run_sql(
        database,
        "INSERT INTO response_log (attempt_id, completed_at, user_id, item_id, correct)"
        f" SELECT '{file_id}2', timestamptz '2026-07-01 00:00Z' + interval '2 microseconds', 'a', 'w1', true",
    )
    again = imported(matrix, at=date(2026, 7, 1))
    assert (again.accepted, again.duplicates) == (0, 4)
    assert any("1 more answers to these items" in note for note in again.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"zone": "Mars/Olympus"}, "--zone Mars/Olympus"),
        ({"at": date(2026, 10, 1)}, "leave --at out"),
        ({"mapping": "nonsense"}, "--mapping nonsense"),
    ],
)
def test_invalid_option_of_an_import_is_named(
    imported: Import, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(PermanentFailure, match=message):
        imported(write(tmp_path / "log.csv", [answer(0)]), **options)


@pytest.mark.parametrize("day", [date(2026, 5, 31), date(2100, 1, 1)])
def test_a_day_outside_the_log_is_refused(imported: Import, tmp_path: Path, day: date) -> None:
    log = write(tmp_path / "log.csv", [{"user_id": "u", "item_id": "q", "correct": "1"}])
    with pytest.raises(PermanentFailure, match=f"--at {day}"):
        imported(log, at=day)


def test_rows_refused_before_an_erasure_began_are_stored_without_their_text(database: Database) -> None:
    """An import may have read the learner's rows before the erasure and store them after it."""
    with database.connect() as connection:
        arrival = Arrival(connection, "file", "log.csv", ignore_rows)
        arrival.refuse([RefusedRow("log.csv", 2, "bad_time", "never", "ann,q1,never")])
        with database.connect() as concurrent:
            concurrent.execute(
                "INSERT INTO erasure (learner_hash, salt, erased_by, reason) VALUES ('x', 'salt', 'me', 'asked')"
            )
        arrival.store_counts()
    assert query(database, 'SELECT line, reason, value, "row" FROM intake_reject') == [(2, "bad_time", "", "")]


def test_import_without_time_zone_is_refused_as_a_whole(database: Database, imported: Import, tmp_path: Path) -> None:
    sound = write(tmp_path / "sound.csv", [answer(n) for n in range(20)] + [answer(30, correct="bad")])
    naive = write(tmp_path / "naive.csv", [answer(21, completed_at="2026-07-01 21:00:00")])
    before = everything(database)
    with pytest.raises(PermanentFailure, match=r"naive\.csv.*2026-07-01 21:00:00.*--zone"):
        imported(sound, naive)
    assert (
        everything(database),
        query(database, "SELECT (SELECT count(*) FROM intake), (SELECT count(*) FROM intake_reject)"),
    ) == (before, [(0, 0)])
    assert imported(sound, naive, zone="Asia/Seoul").accepted == 21
    assert query(database, "SELECT completed_at FROM response_log WHERE attempt_id = 'a21'") == [
        (datetime(2026, 7, 1, 12, tzinfo=UTC),)
    ]


def test_strict_import_rejects_unknown_items_and_learners(database: Database, imported: Import, tmp_path: Path) -> None:
    imported(write(tmp_path / "known.csv", [answer(0, user_id="ann", item_id="q")]))
    log = write(
        tmp_path / "log.csv",
        [
            answer(1, user_id="ann", item_id="q"),
            answer(2, user_id="ann", item_id="new"),
            answer(3, user_id="new", item_id="q"),
            answer(4, user_id="new", item_id="new"),
        ],
    )
    report = imported(log, strict=True)
    assert (report.accepted, report.new_items, report.new_learners) == (1, 0, 0)
    assert report.rejected == {"unknown_item": 2, "unknown_learner": 1}
    assert [(row["line"], row["reason"], row["value"]) for row in rejects(tmp_path)] == [
        ("3", "unknown_item", "new"),
        ("4", "unknown_learner", "new"),
        ("5", "unknown_item", "new"),
    ]
    report = imported(log)
    assert (report.accepted, report.duplicates, report.new_items, report.new_learners) == (3, 1, 1, 1)


def test_dry_run_reports_the_same_as_an_import_and_stores_no_rows(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    log = write(tmp_path / "log.csv", [answer(n) for n in range(20)] + [answer(3), answer(4, correct="2")])
    before = everything(database)
    dry, refused = imported(log, dry_run=True), rejects(tmp_path)
    assert (everything(database), query(database, "SELECT FROM intake_reject")) == (before, [])
    assert [row["line"] for row in refused] == ["23"]
    assert dry.as_dict() == imported(log).as_dict()
    assert refused == rejects(tmp_path)


def test_new_month_partitions_are_filled_like_existing_partitions(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    call(database, ensure_month_partitions, "2026-08", "2026-08")
    assert imported(write(tmp_path / "log.csv", [answer(n) for n in range(90)])).accepted == 90
    months = (
        "SELECT to_char(completed_at, 'YYYY-MM'), tableoid::regclass::text, count(*) FROM response_log GROUP BY 1, 2"
    )
    assert sorted(query(database, months)) == [
        ("2026-07", "response_log_2026_07", 30),
        ("2026-08", "response_log_2026_08", 30),
        ("2026-09", "response_log_2026_09", 30),
    ]
    indexes = "SELECT tablename, count(*) FROM pg_indexes WHERE starts_with(tablename, 'response_log_2') GROUP BY 1"
    assert (
        len({count for _, count in query(database, indexes)}),
        query(database, "SELECT to_regclass('response_log_incoming')"),
        schema.drift(database),
    ) == (1, [(None,)], [])


def test_progress_never_decreases_and_ends_at_its_total(imported: Import, tmp_path: Path) -> None:
    progress: list[tuple[int, int | None]] = []
    imported(write(tmp_path / "log.csv", [answer(n) for n in range(50)]), progress=lambda *args: progress.append(args))
    assert ([done for done, _ in progress], progress[-1][0], len({total for _, total in progress})) == (
        sorted(done for done, _ in progress),
        progress[-1][1],
        1,
    )


@pytest.mark.parametrize("content", ["attempt_id,user_id,item_id,completed_at,correct\n", ",".join(HEADER)])
def test_log_without_answers_is_imported_without_error(
    database: Database, imported: Import, tmp_path: Path, content: str
) -> None:
    log = tmp_path / "log.csv"
    log.write_text(content)
    before = everything(database)
    assert imported(log).as_dict()["read"] == 0
    assert everything(database) == before


def test_readers_do_not_wait_for_an_import(
    database: Database, imported: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new month is attached, not created in place: that would lock out every reader until the commit."""
    imported(write(tmp_path / "july.csv", [answer(0)]))
    log = write(tmp_path / "log.csv", [answer(n) for n in range(60)])
    add_answers = Staging.add_answers
    seen: list[tuple[Any, ...]] = []

    def add_and_look(*args: Any) -> None:
        add_answers(*args)
        with database.connect() as connection:
            connection.execute("SET lock_timeout = '5s'")
            seen.extend(connection.execute("SELECT count(*) FROM attempt").fetchall())

    monkeypatch.setattr(Staging, "add_answers", add_and_look)
    assert imported(log).accepted == 59
    assert seen == [(1,)]


def test_dichotomisation_rule_is_recorded_per_item_and_other_rules_are_refused(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    def points(name: str, scores: str) -> Path:
        rows = [answer(n, attempt_id=f"{name}{n}", item_id="q", correct=score) for n, score in enumerate(scores)]
        return write(tmp_path / name, rows)

    records = "SELECT meta->>'dichotomise' FROM question WHERE item_id = 'q'"
    before = everything(database)
    with pytest.raises(PermanentFailure, match="--dichotomise"):
        imported(points("a.csv", "0123"))
    assert everything(database) == before
    report = imported(points("a.csv", "0123"), dichotomise="full")
    assert report.as_dict()["scoring"] == "dichotomise full"
    assert (query(database, records), query(database, "SELECT count(*) FILTER (WHERE correct) FROM response_log")) == (
        [("full=3",)],
        [(1,)],
    )
    assert imported(points("b.csv", "22"), dichotomise="full").accepted == 2
    assert query(database, "SELECT count(*) FILTER (WHERE correct) FROM response_log") == [(1,)], "3 is full marks"
    for scores, rule in (("04", "full"), ("02", "at=2"), ("01", None)):
        with pytest.raises(PermanentFailure, match="item q: its record has dichotomise full=3"):
            imported(points("c.csv", scores), dichotomise=rule)
    assert query(database, records) == [("full=3",)]


def test_scores_are_kept_by_the_recorded_maximum_and_compared(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    def scored(name: str, *rows: str) -> Path:
        path = tmp_path / name
        lines = [f"{row},2026-07-01T12:00:00Z" for row in rows]
        path.write_text("\n".join(["attempt_id,user_id,item_id,correct,score,completed_at", *lines]) + "\n")
        return path

    first = scored("a.csv", "a1,u1,q,,2", "a2,u2,q,1,", "a3,u3,q,0,", "a4,u4,r,1,", "a5,u5,r,,0", "a0,u9,q,,3")
    with pytest.raises(PermanentFailure, match=r"item q has scores up to 3(.|\n)*--max-score"):
        imported(first)
    assert imported(first, max_scores=["q=4"]).accepted == 6
    records = "SELECT item_id, meta, max_score FROM question ORDER BY 1"
    assert query(database, records) == [("q", {"irt": {"max_score": 4}}, 4), ("r", {}, None)]
    stored = "SELECT attempt_id, correct, score FROM response_log ORDER BY 1"
    before = query(database, stored)
    assert before == [
        ("a0", False, 3),
        ("a1", False, 2),
        ("a2", True, None),
        ("a3", False, None),
        ("a4", True, None),
        ("a5", False, 0),
    ]
    same = scored("b.csv", "a1,u1,q,0,2", "a2,u2,q,,4", "a3,u3,q,0,", "a4,u4,r,,1", "a5,u5,r,0,")
    assert imported(same).duplicates == 5
    other = scored("c.csv", "a1,u1,q,,3", "a3,u3,q,0,0", "a4,u4,r,,0", "a6,u6,q,,4", "a6,u6,q,1,", "a6,u6,q,,1")
    report = imported(other)
    assert (report.accepted, report.duplicates, report.rejected) == (1, 1, {"conflicting_duplicate": 4})
    assert query(database, stored) == [*before, ("a6", True, 4)]
    for rule in ({"max_scores": ["q=5"]}, {"dichotomise": "at=2"}):
        with pytest.raises(PermanentFailure, match="item q: its record has max_score 4"):
            imported(scored("d.csv", "a7,u7,q,,2"), **rule)
    matrix = tmp_path / "matrix.csv"
    matrix.write_text("person,q,r,age\nann,4,1,30\nbob,0,0,31\ncid,3,,32\n")
    assert imported(matrix, at=date(2026, 7, 2)).accepted == 5
    people = "user_id IN ('ann', 'bob', 'cid')"
    found = query(database, f"SELECT user_id, item_id, correct, score FROM response_log WHERE {people} ORDER BY 1, 2")
    assert found == [
        ("ann", "q", True, 4),
        ("ann", "r", True, None),
        ("bob", "q", False, 0),
        ("bob", "r", False, None),
        ("cid", "q", False, 3),
    ]


def test_declared_maximum_score_applies_to_the_answers_an_import_compares(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    """This also holds if the import adds no answers: wrong is then not 0, and right may be less than full credit."""
    path = tmp_path / "log.csv"
    head, at = "attempt_id,user_id,item_id,correct,score,completed_at\n", "2026-07-01T12:00:00Z\n"
    path.write_text(f"{head}a1,u1,q,0,,{at}a2,u2,q,1,,{at}a3,u3,q,,1,{at}")
    assert imported(path).accepted == 3
    path.write_text(f"{head}a1,u1,q,,0,{at}a2,u2,q,,4,{at}a3,u3,q,,1,{at}")
    report = imported(path, max_scores=["q=4"])
    assert (report.accepted, report.duplicates, report.rejected) == (0, 2, {"conflicting_duplicate": 1})
    assert query(database, "SELECT max_score FROM question") == [(4,)]
    stored = query(database, "SELECT attempt_id, correct, score FROM response_log ORDER BY attempt_id")
    assert stored == [("a1", False, None), ("a2", True, None), ("a3", False, 1)]


def test_choices_of_a_matrix_are_stored_with_the_key(database: Database, imported: Import, tmp_path: Path) -> None:
    matrix, key = tmp_path / "choices.csv", tmp_path / "key.csv"
    matrix.write_text("person,q1,q2,q3\nann,A,C,B\nbob,B,,\n")
    key.write_text("item,key\nq1,A\nq2,D\nq3,B\nq3,E\n")
    assert imported(matrix, key=key, at=date(2026, 7, 1)).accepted == 4
    answers = "SELECT user_id, item_id, response, correct FROM response_log ORDER BY 1, 2"
    assert (query(database, answers), query(database, "SELECT meta->>'key' FROM question ORDER BY item_id")) == (
        [("ann", "q1", "A", True), ("ann", "q2", "C", False), ("ann", "q3", "B", True), ("bob", "q1", "B", False)],
        [("A",), ("D",), ('["B", "E"]',)],
    )
    key.write_text("item,key\nq1,B\nq2,D\nq3,B|E\n")
    with pytest.raises(PermanentFailure, match="item q1: its record has key A, but this import has key B"):
        imported(matrix, key=key, at=date(2026, 7, 2))


def test_list_of_choices_is_scored_by_the_given_or_the_recorded_key(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    """`irt fit`, posts and pulls could do this, but an import used to demand a column correct or no key."""
    key, log = tmp_path / "key.csv", tmp_path / "log.csv"
    key.write_text("item,key\nq1,a\n")
    at = "2026-07-01T12:00:00Z"
    log.write_text(f"user_id,item_id,completed_at,response\nann,q1,{at},a\nbob,q1,{at},b\nann,q2,{at},c\n")
    report = imported(log)
    assert (report.accepted, report.rejected, "--key FILE" in (report.complaint or "")) == (0, {"missing_key": 3}, True)
    assert (imported(log, key=key).accepted, imported(log).duplicates) == (2, 2)
    log.write_text(log.read_text() + f"cid,q1,{at},a\n")
    assert imported(log).accepted == 1
    stored = query(database, "SELECT user_id, response, correct FROM response_log ORDER BY 1")
    assert stored == [("ann", "a", True), ("bob", "b", False), ("cid", "a", True)]
    run_sql(database, 'UPDATE question SET meta = meta || \'{"key": "A"}\'')
    log.write_text("user_id,item_id,completed_at,response\n" + "".join(f"u{n},q1,{at},a\n" for n in range(60)))
    with pytest.raises(PermanentFailure, match="nobody chose the key of 1 of 1 items: item q1, key 'A', chosen: 'a'"):
        imported(log)
    assert query(database, "SELECT count(*) FROM response_log") == [(3,)]


def test_empty_column_of_scores_leaves_choices_to_the_keys(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    """Every answer once counted as not reached, and scores of 0 points were handed out."""
    run_sql(
        database,
        """INSERT INTO question (item_id, meta) VALUES ('q1', '{"key": "A"}'), ('q2', '{"key": ["B", "C"]}')""",
    )
    log, at = tmp_path / "log.csv", "2026-07-01T12:00:00Z"
    cells = "".join(f"u{n},q{n % 3 + 1},{at},,,{'ABCD'[n % 4]}\n" for n in range(24))
    log.write_text(f"user_id,item_id,completed_at,correct,score,response\n{cells}shy,q1,{at},,,\n")
    report = imported(log)
    assert (report.accepted, report.rejected) == (17, {"missing_key": 8})
    stored = query(database, "SELECT item_id, response, correct FROM response_log WHERE user_id <> 'shy'")
    right = {"q1": "A", "q2": "BC"}
    assert Counter(stored) == Counter(
        (item, "ABCD"[n % 4], "ABCD"[n % 4] in right[item]) for n in range(24) if (item := f"q{n % 3 + 1}") in right
    )
    assert query(database, "SELECT correct FROM response_log WHERE user_id = 'shy'") == [(None,)]


def test_file_with_choices_is_scored_like_a_post(database: Database, imported: Import, tmp_path: Path) -> None:
    run_sql(database, """INSERT INTO question (item_id, meta) VALUES ('k', '{"key": "B"}'), ('all', '{"key": true}')""")
    given = [
        *(("k", right, choice) for right in ("0", "1", "") for choice in ("B", "C", "")),
        *(("all", right, choice) for right in ("0", "") for choice in ("C", "")),
        ("free", "1", "B"),
        ("free", "", "B"),
    ]
    table = [
        answer(n, attempt_id=f"f{n}", user_id=f"u{n}", item_id=item, correct=right, response=choice)
        for n, (item, right, choice) in enumerate(given)
    ]
    report = imported(write(tmp_path / "log.csv", table))
    assert "scored by the keys in the bank: two items" in " ".join(report.notes)
    stored = "SELECT user_id, response, correct FROM response_log WHERE attempt_id ~ %s ORDER BY user_id"
    posted = [row | {"attempt_id": f"p{n}"} for n, row in enumerate(table)]
    for row in posted:
        row["correct"] = {"0": False, "1": True, "": None}[row["correct"]]  # type: ignore[assignment]
    with database.connect() as connection:
        done = store_post(connection, Post("exam", json.dumps(posted).encode(), lines=False), first_month=FIRST_MONTH)
    reasons = Counter(row["reason"] for row in done.results if row["result"] == "rejected")
    assert (report.rejected, query(database, stored, ("f",))) == (reasons, query(database, stored, ("p",)))
    assert reasons == {"missing_response": 3}


def test_file_whose_answers_never_choose_a_recorded_key_is_refused(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    run_sql(database, """INSERT INTO question (item_id, meta) VALUES ('q1', '{"key": "A"}')""")
    log = write(tmp_path / "log.csv", [answer(n, item_id="q1", response=str(n % 4 + 1)) for n in range(60)])
    with pytest.raises(PermanentFailure, match="nobody chose the key of 1 of 1 items: item q1, key 'A'"):
        imported(log)


def test_unusual_characters_in_cells_are_stored_unchanged(database: Database, imported: Import, tmp_path: Path) -> None:
    """The database stores every row that the fuzzer of files accepts. Ids alone lose the invisible U+FEFF."""
    odd = [
        "\u2028",
        "\x85",
        "\ufeff",
        "\\.",
        "\\N",
        '"',
        "a,b",
        "two\r\nlines",
        "😀",
        "NULL",
        "\x01",
        "\ufffe",
        "'; --",
    ]
    rows = [answer(n, user_id=f"u{text}", response=text, session_id=text) for n, text in enumerate(odd)]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert imported(path).accepted == len(odd)
    kept = {text for (text,) in query(database, "SELECT user_id FROM response_log")}
    assert kept == {f"u{text}".strip(" \t\r\n\v\f\ufeff") for text in odd}
    assert ("\ufeff",) in query(database, "SELECT response FROM response_log")


KILLED = """
import sys
from pathlib import Path
from irt_assets.intake.load import import_attempts
from resources.postgres.database import Database
from resources.settings import Settings
import_attempts(
    Database(Settings(database_url=sys.argv[1], _env_file=None)),
    [Path(sys.argv[2])], first_month="2026-06",
)
"""


@pytest.mark.parametrize("blocked", ["question", "learner", "response_log"])
def test_killed_import_stores_no_rows_and_can_be_repeated(
    database: Database, settings: Settings, imported: Import, tmp_path: Path, blocked: str
) -> None:
    """The import gets SIGKILL while it waits for a table that the test has locked."""
    imported(write(tmp_path / "before.csv", [answer(0)]))
    log = write(tmp_path / "log.csv", [answer(n) for n in range(1, 500)])
    before = everything(database)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with database.connect() as gate:
        gate.execute(f"LOCK TABLE {blocked} IN SHARE MODE")
        process = subprocess.Popen([sys.executable, "-c", KILLED, database.url, log])
        try:
            deadline = time.monotonic() + patient(30)
            while query(database, waiting) == [(0,)]:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.05)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    assert everything(database) == before
    assert imported(log).accepted == 499


# -- real logs ---------------------------------------------------------------------------------------
# The real logs of the shared folder are imported with the counts that another program finds in them.

DAY = date(2026, 10, 1)


@pytest.fixture
def imported_log(database: Database) -> Import:
    def run(*files: Path, **options: Any) -> ImportReport:
        return import_attempts(database, files, **{"first_month": "2010-01"} | options)

    return run


def rows(path: Path, *, delimiter: str = ",", encoding: str = "utf-8") -> Iterator[dict[str, str]]:
    """Rows of a file, read by the csv module. If a column's name occurs twice, the first column counts."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding=encoding, newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        header = next(reader)
        for row in reader:
            yield dict(reversed(list(zip(header, row, strict=True))))


@pytest.mark.ci
def test_statistics_cloze_log_is_imported_completely(database: Database, imported_log: Import, shared: Path) -> None:
    path = shared / "data" / "lkt_statistics_cloze.csv.gz"
    report = imported_log(path)
    assert (report.read, report.accepted, report.duplicates, report.rejected) == (58_316, 58_316, 0, {})
    assert (report.new_learners, report.new_items) == (478, 144)
    expected = list(rows(path))
    totals = "SELECT count(*), count(correct), count(*) FILTER (WHERE correct), sum(response_time_ms) FROM response_log"
    assert query(database, totals) == [
        (
            58_316,
            58_316 - 3_194,  # the STUDY rows have no answer
            sum(row["correct"] == "1" for row in expected),
            sum(int(row["response_time_ms"]) for row in expected if row["response_time_ms"]),
        )
    ]
    times = [datetime.fromisoformat(row["answered_at"]) for row in expected]
    assert query(database, "SELECT min(completed_at), max(completed_at) FROM response_log") == [
        (min(times), max(times))
    ]
    topics = Counter(row["topic_id"] for row in expected)
    assert dict(query(database, "SELECT topic_id, count(*) FROM attempt GROUP BY 1")) == topics
    firsts = len({(row["user_id"], row["item_id"]) for row in expected if row["correct"]})
    assert firsts == 20_949
    assert query(database, "SELECT count(DISTINCT (user_id, item_id)) FROM response_log WHERE correct IS NOT NULL") == [
        (firsts,)
    ]
    assert imported_log(path).duplicates == 58_316


@pytest.mark.ci
def test_the_mapping_file_of_the_docs_reads_the_cloze_log(
    database: Database, imported_log: Import, shared: Path, tmp_path: Path
) -> None:
    """The example in docs/reference/import.md, as it stands there."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "import.md").read_text("utf-8")
    example = page.split("<!-- example: cloze -->")[1].split("```")[1].removeprefix("yaml\n")
    mapping = tmp_path / "cloze.yaml"
    mapping.write_text(example)
    path = shared / "data" / "lkt_statistics_cloze.csv.gz"
    report = imported_log(path, mapping=mapping)
    study = sum(row["outcome"] == "STUDY" for row in rows(path))
    assert (report.rejected, report.accepted) == ({"skipped_by_mapping": study}, report.read - study)
    timeouts = sum(row["timeout"] == "1" and row["outcome"] != "STUDY" for row in rows(path))
    assert query(database, "SELECT count(*) FROM response_log WHERE response = 'timeout'") == [(timeouts,)]


@pytest.mark.ci
def test_datashop_export_is_imported_except_rows_with_times_in_a_different_format(
    database: Database, imported_log: Import, shared: Path
) -> None:
    path = shared / "data" / "synthetic_datashop_tx_export.txt"
    report = imported_log(path)
    assert (report.read, report.accepted, report.rejected) == (1_754, 1_754 - 23, {"bad_time": 23})
    sound = [row for row in rows(path, delimiter="\t") if "/" not in row["Time"]]
    scores = {"CORRECT": True, "OK": True, "INCORRECT": False, "ERROR": False, "HINT": False, "": None}
    expected = {
        row["Transaction Id"]: (
            row["Anon Student Id"],
            f"{row['Problem Name']}/{row['Step Name']}",
            datetime.fromisoformat(row["Time"]).replace(tzinfo=ZoneInfo(row["Time Zone"])).astimezone(UTC),
            scores[row["Outcome"]],
            None if row["Duration (sec)"] == "." else 1_000 * int(row["Duration (sec)"]),
        )
        for row in sound
    }
    columns = "attempt_id, user_id, item_id, completed_at, correct, response_time_ms"
    assert {row[0]: row[1:] for row in query(database, f"SELECT {columns} FROM response_log")} == expected
    assert (report.new_items, report.new_learners) == (
        len({item for _, item, *_ in expected.values()}),
        len({user for user, *_ in expected.values()}),
    )


@pytest.mark.ci
def test_dirty_assistments_rows_are_rejected_by_reason(database: Database, imported_log: Import, shared: Path) -> None:
    """The expected counts follow the rules of the docs: the first reason per row, then the first row per order_id."""
    path = shared / "data" / "synthetic_assistments_like_dirty.csv"
    with pytest.raises(PermanentFailure, match="not UTF-8; it looks like cp1252"):
        imported_log(path, at=DAY)
    with pytest.raises(PermanentFailure, match="--at DATE"):
        imported_log(path, mapping="assistments")
    report = imported_log(path, mapping="assistments", at=DAY)
    reasons: Counter[str] = Counter()
    kept: dict[str, tuple[str, str, str]] = {}
    duplicates = conflicts = 0
    for row in rows(path, encoding="latin-1"):
        answer = (row["user_id"], row["problem_id"].removesuffix(".0"), row["correct"])
        if not row["user_id"]:
            reasons["missing_user"] += 1
        elif row["correct"] not in ("", "0", "1"):
            reasons["bad_score"] += 1
        elif row["ms_first_response"].startswith("-"):
            reasons["bad_response_time"] += 1
        elif kept.setdefault(row["order_id"], answer) is not answer:
            duplicates += kept[row["order_id"]] == answer
            conflicts += kept[row["order_id"]] != answer
    assert conflicts == 0
    assert report.as_dict() == {
        "read": 2_007,
        "accepted": len(kept),
        "corrected": 0,
        "duplicates": duplicates,
        "rejected": reasons,
        "new_items": len({item for _, item, _ in kept.values()}),
        "new_learners": len({user for user, _, _ in kept.values()}),
    }
    assert duplicates >= 60  # 30 exact duplicates and 40 order_ids with a second skill, a few of them injured too
    stored = query(database, "SELECT attempt_id FROM response_log ORDER BY completed_at")
    assert [int(order) for (order,) in stored] == sorted(map(int, kept))
    assert any("latin-1" in note for note in report.notes)
    assert imported_log(path, encoding="latin-1", at=DAY).accepted == 0


@pytest.mark.ci
@pytest.mark.parametrize(
    ("name", "key", "aside"),
    [
        ("sat12_scored_wide.csv", "sat12", []),
        ("lsat6_wide.csv", "lsat6", []),
        ("irtoys_scored_wide.csv", "irtoys_scored", []),
        ("spisa_wide.csv.gz", "spisa", ["gender", "age", "semester", "elite", "spon"]),
        ("verbal_aggression_binary_wide.csv", "verbal_aggression_binary_wide", ["gender", "anger"]),
    ],
)
def test_imported_matrix_has_the_published_proportions_correct(
    database: Database, imported_log: Import, shared: Path, name: str, key: str, aside: list[str]
) -> None:
    counts = json.loads((shared / "data" / "reference_values.json").read_text())["counts"][key]
    report = imported_log(shared / "data" / name, at=DAY)
    assert report.accepted == report.read == counts["persons"] * counts["items"]
    assert (report.new_learners, report.new_items) == (counts["persons"], counts["items"])
    proportions = query(database, "SELECT item_id, avg(correct::int)::float FROM response_log GROUP BY 1")
    # the reference values have four decimals
    assert dict(proportions) == pytest.approx(counts["pvalues"], abs=6e-5)
    left_out = [note for note in report.notes if "left out" in note]
    assert (bool(left_out), all(column in left_out[0] for column in aside)) == (bool(aside), True)
    first = query(database, "SELECT item_id FROM response_log ORDER BY completed_at")[: counts["items"]]
    assert [item for (item,) in first] == list(counts["pvalues"])


@pytest.mark.ci
def test_matrix_of_scores_is_imported_if_its_maximum_score_is_given(
    database: Database, imported_log: Import, shared: Path
) -> None:
    """The questionnaire is scored 0 to 2; the other columns are not items, although they contain numbers."""
    path = shared / "data" / "verbal_aggression_poly_wide.csv"
    with pytest.raises(PermanentFailure, match="--max-score"):
        imported_log(path, at=DAY)
    assert imported_log(path, at=DAY, max_scores=["S*=2"]).accepted == 316 * 24
    given = Counter(
        (name, int(cell))
        for row in rows(path)
        for name, cell in row.items()
        if name not in ("person", "gender", "anger")
    )
    counted = "SELECT item_id, score, count(*), bool_and(correct), bool_or(correct) FROM response_log GROUP BY 1, 2"
    found = query(database, counted)
    assert (
        {(item, score): n for item, score, n, _, _ in found},
        all(all_right == some_right == (score == 2) for _, score, _, all_right, some_right in found),
    ) == (given, True)
    assert query(database, "SELECT DISTINCT max_score FROM question") == [(2,)]
    assert imported_log(path, at=DAY).duplicates == 316 * 24, "the record says it from then on"


# -- banks -------------------------------------------------------------------------------------------
# The bank and the learners: values in a file are stored unchanged, and values missing in the file stay as they were.

BANK = """item_id,scale_id,topic_id,testlet_id,tags,a,b,c,a_se,b_se,n,D,model,key
q1,algebra,sums,t1,anchor;old,1.2,-0.3,0.1,0.11,0.08,1000,1.7,3PL,B
q2,,,,,,,,,,,,,
"""


AT = datetime(2026, 3, 5, tzinfo=UTC)
BANK_ROWS = "SELECT item_id, scale_id, topic_id, testlet_id, meta FROM question"


def bank(database: Database) -> dict[str, tuple[Any, ...]]:
    return {row[0]: row[1:] for row in query(database, BANK_ROWS)}


def learners(database: Database) -> dict[str, tuple[Any, ...]]:
    columns = "user_id, attributes, is_test, target_scale_id, target_theta"
    return {row[0]: row[1:] for row in query(database, f"SELECT {columns} FROM learner")}


def file(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "file.csv"
    path.write_text(content)
    return path


def test_bank_parameters_are_stored_unchanged_and_a_second_import_changes_no_rows(
    database: Database, tmp_path: Path
) -> None:
    dry = import_bank_file(database, QUESTIONS, file(tmp_path, BANK), dry_run=True)
    assert (dry.accepted, bank(database)) == (2, {})
    report = import_bank_file(database, QUESTIONS, file(tmp_path, BANK))
    assert (report.read, report.accepted, report.new_items, report.rejected) == (2, 2, 2, {})
    irt = {"a": 1.2, "b": -0.3, "c": 0.1, "a_se": 0.11, "b_se": 0.08, "n": 1000, "D": 1.7, "model": "3pl"}
    stored = {
        "q1": ("algebra", "sums", "t1", {"tags": ["anchor", "old"], "irt": irt, "key": "B"}),
        "q2": ("default", None, None, {}),
    }
    assert bank(database) == stored
    again = import_bank_file(database, QUESTIONS, file(tmp_path, BANK))
    assert (again.accepted, again.duplicates, again.new_items, bank(database)) == (0, 2, 0, stored)


def test_parameters_of_scored_items_are_read_in_the_formats_of_mirt_and_parscale(
    database: Database, tmp_path: Path
) -> None:
    """The mirt table is from coef(simplify = TRUE), the PARSCALE table has D = 1.7, which is not converted here."""
    header = "item_id,a1,d,g,ak0,ak1,ak2,d0,d1,d2,max_score"
    content = f"{header}\nm1,1.2,0.6,0,,,,,,,\nm2,0.8,,,0,1,2,0,0.4,-0.8,\nm3,0.8,,,0,1,2,0,0.4,-0.8,3\n"
    import_bank_file(database, QUESTIONS, file(tmp_path, content))
    content = "item_id,slope,location,category1,category2,a_se,D\np,0.5,0.2,0.6,-0.6,0.03,1.7\n"
    import_bank_file(database, QUESTIONS, file(tmp_path, content))
    import_bank_file(database, QUESTIONS, file(tmp_path, "item_id,a,b,max_score,t0,t1,t1_se,t2\no,1,0,2,0,0.3,0.1,0\n"))
    found = {item: row[3]["irt"] for item, row in bank(database).items()}
    assert found["m1"] == pytest.approx({"a": 1.2, "b": -0.5})
    scored = {"a": 0.8, "b": 0.5, "max_score": 2, "t0": 0.0, "t1": 0.8, "t2": 0.0}
    assert (found["m2"], found["m3"]) == (pytest.approx(scored), pytest.approx(scored | {"max_score": 3}))
    t = {"t0": 0.0, "t1": 0.3, "t2": 0.0}
    assert (found["p"], found["o"]) == (
        pytest.approx({"a": 0.5, "b": 0.2, "a_se": 0.03, "D": 1.7, "max_score": 2} | t),
        pytest.approx({"a": 1.0, "b": 0.0, "max_score": 2, "t1_se": 0.1} | t),
    )
    wrong = f"{header}\nm1,0.8,,,0,1,,0,,-0.8,\nm2,0.8,,,0,1,2,0,0.4,-0.8,1\nm4,1,0,0,,,,,,,\n"
    report = import_bank_file(database, QUESTIONS, file(tmp_path, wrong))
    assert report.rejected == {"incomplete_parameters": 1, "bad_max_score": 1}


def test_thresholds_of_graded_items_are_read_in_the_formats_of_mirt_and_parscale(
    database: Database, tmp_path: Path
) -> None:
    """Thresholds b₁ = −.5 and b₂ = 1 with a = 2: b is their mean, w₁ = ln(2 · 1.5). Thresholds that cross are refused
    with their values."""
    own = {"a": 2.0, "b": 0.25, "max_score": 2, "w0": 0.0, "w1": math.log(3.0), "w2": 0.0}
    forms = {
        "a,b1,b2,model": "2,-.5,1,graded",
        "a1,d1,d2": "2,1,-2",
        "slope,location,category1,category2,model": "2,.25,.75,-.75,GRM",
        "a,b,max_score,w0,w1,w2,model": f"2,.25,2,0,{math.log(3.0)},0,grm",
        "a,b,max_score,w0,w1,w2": f"2,.25,2,0,{math.log(3.0)},0",
    }
    for k, (header, row) in enumerate(forms.items()):
        report = import_bank_file(database, QUESTIONS, file(tmp_path, f"item_id,{header}\nq{k},{row}\n"))
        assert report.accepted == 1, header
        stored = bank(database)[f"q{k}"][3]["irt"]
        assert stored.pop("model") == "grm"
        assert stored == pytest.approx(own), header
    refused: list[tuple[str, ...]] = []
    crossed = file(tmp_path, "item_id,a,b1,b2,model\nq1,1,1,-.5,grm\n")
    report = import_bank_file(database, QUESTIONS, crossed, reject=refused.extend)
    assert report.rejected == {"bad_thresholds": 1}
    assert refused[0][3].startswith("thresholds of a graded item must ascend, got 1, -0.5 with a = 1")


def test_parameters_of_an_unsupported_model_are_refused_by_name(database: Database, tmp_path: Path) -> None:
    """Previously, `d` and `u` were listed as read, but dropped."""
    refused: list[tuple[str, ...]] = []
    content = "item_id,a,b,g,d,u,a2,model\nq1,1,0,0.2,0.9,,,\nq2,1,0,,,0.9,,\nq3,1,0,,,,0.4,\nq4,1,0,0.2,1,1,0,\n"
    report = import_bank_file(database, QUESTIONS, file(tmp_path, content), reject=refused.extend)
    assert (report.accepted, report.rejected) == (1, {"bad_model": 3})
    assert [row[3].partition(" is ")[0] for row in refused] == ["d = 0.9", "u = 0.9", "a2 = 0.4"]
    assert bank(database)["q4"][3]["irt"] == {"a": 1.0, "b": 0.0, "c": 0.2}


def test_nominal_items_are_refused_by_name(database: Database, tmp_path: Path) -> None:
    """mirt's slopes ak of these scores are not whole numbers."""
    refused: list[tuple[str, ...]] = []
    content = "item_id,a1,ak0,ak1,ak2,d0,d1,d2\nq1,0.8,0,0.7,2,0,0.4,0.1\n"
    report = import_bank_file(database, QUESTIONS, file(tmp_path, content), reject=refused.extend)
    assert (report.accepted, report.rejected) == (0, {"bad_model": 1})
    assert refused[0][3] == "parameters of a nominal item are not read: leave them out"
    steps = import_bank_file(database, QUESTIONS, file(tmp_path, "item_id,a,b1,b2\ns,1,-1,1\n"))
    assert any("a column model with gpcm, pcm, rsm or graded" in note for note in steps.notes)
    named = import_bank_file(database, QUESTIONS, file(tmp_path, "item_id,a,b1,b2,model\ns,1,-1,1,gpcm\n"))
    assert not any("graded" in note for note in named.notes)


def test_empty_cells_and_absent_columns_leave_stored_values_unchanged(database: Database, tmp_path: Path) -> None:
    import_bank_file(database, QUESTIONS, file(tmp_path, BANK))
    later = file(tmp_path, "item_id,topic_id,key,tags\nq1,,C,\nq2,fractions,,\n")
    report = import_bank_file(database, QUESTIONS, later)
    assert (report.accepted, report.new_items) == (2, 0)
    after = bank(database)
    assert after["q1"][:3] == ("algebra", "sums", "t1")
    assert (after["q1"][3]["key"], after["q1"][3]["tags"], after["q1"][3]["irt"]["a"]) == ("C", ["anchor", "old"], 1.2)
    assert after["q2"][1] == "fractions"


def test_enemies_are_item_ids_and_unknown_ones_are_noted(database: Database, tmp_path: Path) -> None:
    content = [{"item_id": "q1", "meta": {"enemies": ["q2", "q9"]}}, {"item_id": "q2"}]
    content += [{"item_id": "q3", "meta": {"enemies": wrong}} for wrong in ("q1", [1])]
    lines = "\n".join(map(json.dumps, content))
    report = import_bank_file(database, QUESTIONS, file(tmp_path, lines))
    assert (report.accepted, report.rejected) == (2, {"bad_enemies": 2})
    assert bank(database)["q1"][3]["enemies"] == ["q2", "q9"]
    assert any(note.endswith("has items that the bank does not have yet: q9") for note in report.notes)
    later = import_bank_file(database, QUESTIONS, file(tmp_path, "item_id,topic_id\nq9,algebra\nq1,algebra\n"))
    assert not any("does not have yet" in note for note in later.notes)
    assert call(database, read_enemies) == {"q1": ["q2", "q9"], "q2": ["q1"], "q9": ["q1"]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("q,nan,0,,", "bad_number"),
        ("q,steep,0,,", "bad_number"),
        ("q,1,0,1.2,", "bad_number"),
        ("q,1,,,", "incomplete_parameters"),
        ("q,1,0,,5pl", "bad_model"),
        ("q,,,,gpcm,2.5", "bad_max_score"),
        ("q,,,,,21", "bad_max_score"),
        ("q,1,0,.2,3pl,4", "bad_model"),
        (",1,0,,", "missing_item"),
        ("x" * 2501 + ",1,0,,", "id_too_long"),
    ],
)
def test_invalid_item_is_refused_with_its_line(database: Database, tmp_path: Path, row: str, reason: str) -> None:
    row += "," * (5 - row.count(","))
    content = file(tmp_path, f"item_id,a,b,c,model,max_score\n{row}\nok,1,0,,,\n")
    report = import_bank_file(database, QUESTIONS, content)
    assert (report.accepted, report.rejected) == (1, {reason: 1})
    with database.connect() as connection:
        refused = [(one.source, one.line, one.reason, one.row) for one in refused_rows(connection)]
        assert refused == [(str(content), 2, reason, row)]
        [arrived] = arrivals(connection, 9)
    assert (arrived["kind"], arrived["accepted"], arrived["rejected"]) == ("question", 1, 1)


def test_new_maximum_score_changes_the_full_credit_of_stored_answers(database: Database, tmp_path: Path) -> None:
    """A maximum below a stored score, or one that contradicts published parameters, is refused."""
    import_bank_file(database, QUESTIONS, file(tmp_path, "item_id,max_score,model\nq,3,gpcm\n"))
    for content in ("item_id,a,b\nq,1,0\n", "item_id,max_score\nq,4\n"):
        import_bank_file(database, QUESTIONS, file(tmp_path, content))
    assert bank(database)["q"][3] == {"irt": {"max_score": 4, "a": 1.0, "b": 0.0}}
    add_attempts(
        database,
        [attempt("u", "q", AT, correct=right, score=n) for right, n in ((False, 3), (True, 4), (True, None))],
    )
    with pytest.raises(PermanentFailure, match="item q has an answer with the score 4"):
        import_bank_file(database, QUESTIONS, file(tmp_path, "item_id,max_score\nq,3\n"))
    report = import_bank_file(database, QUESTIONS, file(tmp_path, "item_id,max_score\nq,5\n"))
    assert any("q (4 → 5); 1 answers gain or lose full credit" in note for note in report.notes)
    assert any("1 answers to these items have no score" in note for note in report.notes)
    with database.connect() as connection:
        log = connection.execute("SELECT score, correct FROM response_log ORDER BY score").fetchall()
        former = connection.execute("SELECT score, correct, reason FROM attempt_correction").fetchall()
    assert log == [(3, False), (4, False), (None, True)]
    assert former == [(4, True, "the maximum score is 5")]
    with database.connect() as connection:
        connection.execute(
            """INSERT INTO item_parameter_publication
                 (scale_id, item_id, parameters, effective_from, rule, reason, anchor_hash, code_version)
               VALUES ('default', 'q', '{"a": 1, "b": 0, "c": 0}', now(), 'origin', 'made up', '', '')"""
        )
    with pytest.raises(PermanentFailure, match="maximum score of q cannot change"):
        import_bank_file(database, QUESTIONS, file(tmp_path, "item_id,max_score\nq,6\n"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("q,,rsm,", "an rsm shares the steps of a block"),
        ("q,2,pcm,likert", "only the items of an rsm have a block"),
        ("q,2,rsm,likert\np,3,rsm,likert", "the block likert has"),
    ],
)
def test_bank_with_contradictory_rows_is_refused(database: Database, tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(PermanentFailure, match=message):
        import_bank_file(database, QUESTIONS, file(tmp_path, f"item_id,max_score,model,block\n{rows}\n"))
    assert not bank(database)


def test_repeated_item_with_different_values_is_a_conflict(database: Database, tmp_path: Path) -> None:
    content = "item_id,key\nq,A\nq,A\nq,B\n"
    report = import_bank_file(database, QUESTIONS, file(tmp_path, content))
    assert (report.accepted, report.duplicates, report.rejected) == (1, 1, {"conflicting_duplicate": 1})
    assert bank(database)["q"][3] == {"key": "A"}


def test_lists_and_numbers_are_read_from_json_lines(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "bank.jsonl"
    path.write_text(json.dumps({"item_id": "q", "tags": ["anchor", "x;y"], "a": 1, "b": 0.5, "D": 1}))
    import_bank_file(database, QUESTIONS, path)
    assert bank(database)["q"][3] == {"tags": ["anchor", "x;y"], "irt": {"a": 1.0, "b": 0.5, "D": 1.0}}


def test_a_mapping_file_names_the_columns(database: Database, tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("columns: {item_id: Frage, topic_id: Thema}\nconstants: {scale_id: mathe}")
    import_bank_file(database, QUESTIONS, file(tmp_path, "Frage,Thema\n1,Brüche\n"), mapping=mapping)
    assert bank(database) == {"1": ("mathe", "Brüche", None, {})}
    with pytest.raises(PermanentFailure, match="Columns of the file: Frage, Text"):
        import_bank_file(database, QUESTIONS, file(tmp_path, "Frage,Text\n1,x\n"))


def test_unmapped_columns_of_learners_become_attributes(database: Database, tmp_path: Path) -> None:
    content = "user_id,is_test,lang,target_scale_id,target_theta,tier\nann,,de,algebra,1.5,\nbob,true,,,,gold\n"
    report = import_bank_file(database, LEARNERS, file(tmp_path, content))
    assert (report.accepted, report.new_learners) == (2, 2)
    assert learners(database) == {
        "ann": ({"lang": "de"}, False, "algebra", 1.5),
        "bob": ({"tier": "gold"}, True, None, None),
    }
    later = import_bank_file(database, LEARNERS, file(tmp_path, "user_id,lang,is_test\nann,fr,\nbob,en,\n"))
    assert (later.accepted, later.new_learners) == (2, 0)
    assert (learners(database)["ann"], learners(database)["bob"]) == (
        ({"lang": "fr"}, False, "algebra", 1.5),
        ({"tier": "gold", "lang": "en"}, True, None, None),
    )


def test_with_a_mapping_only_named_columns_are_attributes(database: Database, tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("columns: {user_id: person, sex: gender}")
    content = "person,gender,item_1,item_2\np1,female,1,0\n"
    import_bank_file(database, LEARNERS, file(tmp_path, content), mapping=mapping)
    assert learners(database) == {"p1": ({"sex": "female"}, False, None, None)}


@pytest.mark.parametrize(
    ("row", "reason"), [(",true,", "missing_user"), ("u,maybe,", "bad_is_test"), ("u,,x", "bad_number")]
)
def test_invalid_learner_is_refused(database: Database, tmp_path: Path, row: str, reason: str) -> None:
    report = import_bank_file(database, LEARNERS, file(tmp_path, f"user_id,is_test,target_theta\n{row}\n"))
    assert (report.accepted, report.rejected) == (0, {reason: 1})


def test_learners_with_values_the_database_cannot_store_are_refused_by_row(database: Database, tmp_path: Path) -> None:
    """Imports of these rows used to end with the database's own error or with a traceback."""
    refused = {
        '{"user_id": "ann", "attributes": "{\\"x\\": NaN}"}': "bad_attributes",
        '{"user_id": "ann", "attributes": "{\\"x\\": 1e999}"}': "bad_attributes",
        '{"user_id": "ann", "attributes": {"x": "a\\u0000b"}}': "bad_attributes",
        '{"user_id": "ann", "attributes": "{\\"x\\": \\"\\\\ud800\\"}"}': "bad_attributes",
        '{"user_id": "ann", "attributes": ' + '{"x": ' * 101 + "1" + "}" * 102: "bad_attributes",
        '{"user_id": "ann", "attributes": "{\\"x\\": 1, \\"x\\": 2}"}': "bad_attributes",
        '{"user_id": "ann", "lang": "a\\u0000b"}': "bad_character",
        '{"user_id": "ann", "' + "x" * 601 + '": 1}': "id_too_long",
        '{"user_id": "ann", "target_scale_id": "' + "x" * 601 + '"}': "id_too_long",
        '{"user_id": "ann", "target_theta": "1_0"}': "bad_number",
    }
    sound = '{"user_id": "bob", "lang": "\\\\u0000", "attributes": {"deep": ' + "[" * 90 + "]" * 90 + "}}"
    path = tmp_path / "learners.jsonl"
    path.write_text("\n".join([*refused, sound]))
    report = import_bank_file(database, LEARNERS, path)
    assert (report.read, report.accepted, report.rejected) == (11, 1, Counter(refused.values()))
    assert learners(database)["bob"][0]["lang"] == "\\u0000"


def test_learner_with_id_zero_is_imported(database: Database, tmp_path: Path) -> None:
    """Previously, rows of zeros in a column of numbers were mistaken for empty lines."""
    pq.write_table(pa.table({"user_id": [0, 1], "is_test": [False, False]}), tmp_path / "learners.parquet")
    assert import_bank_file(database, LEARNERS, tmp_path / "learners.parquet").accepted == 2
