"""An import is all or nothing, says what it did, and done twice is done once."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from irt_assets.intake.arrivals import Arrival
from irt_assets.intake.load import import_attempts
from irt_assets.intake.report import ImportReport, Refused, csv_of_refused, unseen
from irt_assets.intake.staging import Staging
from resources.failures import PermanentFailure
from resources.postgres import schema
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import run_sql
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


def query(database: Database, text: str) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(text).fetchall()


def everything(database: Database) -> list[list[tuple[Any, ...]]]:
    """All that an import can change, to the microsecond at which a row was written."""
    return [
        query(database, "SELECT * FROM response_log ORDER BY attempt_id, completed_at"),
        query(database, "SELECT * FROM question ORDER BY item_id"),
        query(database, "SELECT * FROM learner ORDER BY user_id"),
        query(database, "SELECT inhrelid::regclass::text FROM pg_inherits ORDER BY 1"),
    ]


def rejects(folder: Path) -> list[dict[str, str]]:
    """What the import that `imported` did last refused."""
    written = folder / "rejects.csv"
    assert written.stat().st_mode & 0o077 == 0, "names and answers of learners are nobody else's to read"
    with written.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_column_arrives(database: Database, imported: Import, tmp_path: Path) -> None:
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
    assert query(database, f"SELECT {columns} FROM response_log") == [
        ("a1", row["user_id"], row["item_id"], "s1", "f1", 3, "B, or\nC", 30_500, 2, "sandbox")
    ]
    assert query(database, "SELECT completed_at, started_at, correct FROM response_log") == [
        (datetime(2026, 8, 1, 12, 1, tzinfo=UTC), datetime(2026, 8, 1, 12, 0, 30, tzinfo=UTC), True)
    ]
    assert query(database, "SELECT item_id, scale_id, topic_id FROM question") == [
        (row["item_id"], "default", "algebra")
    ]
    assert query(database, "SELECT user_id, is_test FROM learner") == [(row["user_id"], False)]
    assert query(database, "SELECT topic_id FROM attempt") == [("algebra",)]


def test_the_same_file_again_changes_nothing(database: Database, imported: Import, tmp_path: Path) -> None:
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


def test_of_answers_with_one_id_the_first_stays_wherever_it_is(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    """In the log, in another month, earlier in the file, in an earlier file: compared on user, item, time, correct."""
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


def test_a_higher_revision_replaces_an_answer_and_what_it_was_is_kept(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    """Wherever its time moves to: within the month, to a month that is there, and to one that is not."""
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
    assert [one for (one,) in query(database, fresh)] == ["a0", "a1", "a2", "a5"]
    assert query(database, "SELECT DISTINCT recorded_at::date::text FROM attempt_correction") == [("2026-09-01",)]
    before = everything(database)
    assert imported(again).duplicates == 5
    assert everything(database) == before


def test_the_highest_revision_holds_wherever_the_others_are(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    """A lower one is a duplicate whatever it says, an equal one that says something else a conflict."""
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
    theirs = tmp_path / "theirs.csv"
    theirs.write_text("id,u,i,t,c,v\na0,u0,q0,2026-07-01T12:00:00Z,1,12\n")
    assert imported(theirs, mapping=mapping).corrected == 1
    assert query(database, STORED)[0] == ("a0", 12, "u0", True, "2026-07-01")


def test_one_id_at_two_times_is_one_answer_after_a_higher_revision(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    """Whoever writes into the log alone can store it twice: the key of a partitioned table holds the time, too."""
    imported(write(tmp_path / "log.csv", [answer(0)]))
    run_sql(
        database,
        """INSERT INTO response_log (attempt_id, user_id, item_id, completed_at, correct)
           VALUES ('a0', 'u0', 'q0', '2026-07-02+00', true)""",
    )
    assert imported(write(tmp_path / "same.csv", [answer(0)])).duplicates == 1
    report = imported(write(tmp_path / "right.csv", [answer(0, correct="1", revision="1")]))
    assert (report.accepted, report.corrected) == (0, 1)
    assert query(database, STORED) == [("a0", 1, "u0", True, "2026-07-01")]
    assert len(query(database, CORRECTIONS)) == 2


def test_two_imports_with_one_id_at_two_times_bring_one_answer(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    files = [
        write(tmp_path / f"{month}.csv", [answer(n, completed_at=f"2026-0{month}-01T12:00:00Z") for n in range(2_000)])
        for month in (7, 8)
    ]
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(imported, files))
    assert sorted(report.accepted for report in reports) == [0, 2_000]
    assert sorted(report.new_learners for report in reports) == [0, 3]
    assert query(database, "SELECT count(*) FROM response_log") == [(2_000,)]


def test_a_longer_export_of_a_log_without_ids_adds_only_what_is_new(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    answers = [{k: v for k, v in answer(n).items() if k != "attempt_id"} for n in range(20)]
    assert imported(write(tmp_path / "july.csv", answers[:12])).accepted == 12
    report = imported(write(tmp_path / "both.csv", [*answers, answers[3] | {"correct": "0"}]))
    assert (report.accepted, report.duplicates, report.rejected) == (8, 12, {"conflicting_duplicate": 1})
    assert query(database, "SELECT count(*), count(DISTINCT attempt_id) FROM response_log") == [(20, 20)]


def test_an_id_that_is_empty_in_one_row_is_made(database: Database, imported: Import, tmp_path: Path) -> None:
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
    """The id of a cell depended on the columns that were items: w1 came in twice for each learner."""
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


def test_a_log_in_cp949_brings_the_learners_of_its_utf_8(database: Database, imported: Import, tmp_path: Path) -> None:
    """It was taken for latin-1, and its learners and items were new ones."""
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


def test_a_matrix_that_1_0_imported_keeps_its_ids_and_doubles_are_named(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    """1.0 numbered the cells: line × number of items + place among the items."""
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
    ("options", "said"),
    [
        ({"zone": "Mars/Olympus"}, "--zone Mars/Olympus"),
        ({"at": date(2026, 10, 1)}, "leave --at out"),
        ({"mapping": "nonsense"}, "--mapping nonsense"),
    ],
)
def test_a_wrong_argument_is_named(imported: Import, tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(PermanentFailure, match=said):
        imported(write(tmp_path / "log.csv", [answer(0)]), **options)


@pytest.mark.parametrize("day", [date(2026, 5, 31), date(2100, 1, 1)])
def test_a_day_outside_the_log_is_refused(imported: Import, tmp_path: Path, day: date) -> None:
    log = write(tmp_path / "log.csv", [{"user_id": "u", "item_id": "q", "correct": "1"}])
    with pytest.raises(PermanentFailure, match=f"--at {day}"):
        imported(log, at=day)


def test_what_was_refused_before_an_erasure_began_is_kept_without_its_text(database: Database) -> None:
    """An import that has read the learner's rows already stores them after the erasure has looked for them."""
    with database.connect() as connection:
        arrival = Arrival(connection, "file", "log.csv", unseen)
        arrival.refuse([Refused("log.csv", 2, "bad_time", "never", "ann,q1,never")])
        with database.connect() as beside:
            beside.execute(
                "INSERT INTO erasure (learner_hash, salt, erased_by, reason) VALUES ('x', 'salt', 'me', 'asked')"
            )
        arrival.note()
    assert query(database, 'SELECT line, reason, value, "row" FROM intake_reject') == [(2, "bad_time", "", "")]


def test_times_without_a_zone_are_asked_about_and_nothing_is_half_in(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    sound = write(tmp_path / "sound.csv", [answer(n) for n in range(20)] + [answer(30, correct="bad")])
    naive = write(tmp_path / "naive.csv", [answer(21, completed_at="2026-07-01 21:00:00")])
    before = everything(database)
    with pytest.raises(PermanentFailure, match=r"naive\.csv.*2026-07-01 21:00:00.*--zone"):
        imported(sound, naive)
    assert everything(database) == before
    assert query(database, "SELECT (SELECT count(*) FROM intake), (SELECT count(*) FROM intake_reject)") == [(0, 0)]
    assert imported(sound, naive, zone="Asia/Seoul").accepted == 21
    assert query(database, "SELECT completed_at FROM response_log WHERE attempt_id = 'a21'") == [
        (datetime(2026, 7, 1, 12, tzinfo=UTC),)
    ]


def test_strict_refuses_what_is_not_known(database: Database, imported: Import, tmp_path: Path) -> None:
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


def test_a_dry_run_tells_the_same_and_leaves_nothing(database: Database, imported: Import, tmp_path: Path) -> None:
    log = write(tmp_path / "log.csv", [answer(n) for n in range(20)] + [answer(3), answer(4, correct="2")])
    before = everything(database)
    dry, refused = imported(log, dry_run=True), rejects(tmp_path)
    assert (everything(database), query(database, "SELECT FROM intake_reject")) == (before, [])
    assert [row["line"] for row in refused] == ["23"]
    assert dry.as_dict() == imported(log).as_dict()
    assert refused == rejects(tmp_path)


def test_months_that_exist_and_months_that_do_not_are_filled_alike(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    with database.connect() as connection:
        ensure_month_partitions(connection, "2026-08", "2026-08")
    assert imported(write(tmp_path / "log.csv", [answer(n) for n in range(90)])).accepted == 90
    months = (
        "SELECT to_char(completed_at, 'YYYY-MM'), tableoid::regclass::text, count(*) FROM response_log GROUP BY 1, 2"
    )
    assert sorted(query(database, months)) == [
        ("2026-07", "response_log_2026_07", 30),
        ("2026-08", "response_log_2026_08", 30),
        ("2026-09", "response_log_2026_09", 30),
    ]
    indexes = "SELECT tablename, count(*) FROM pg_indexes WHERE tablename LIKE 'response_log_2%' GROUP BY 1"
    assert len({count for _, count in query(database, indexes)}) == 1
    assert query(database, "SELECT to_regclass('response_log_incoming')") == [(None,)]
    assert schema.drift(database) == []


def test_progress_never_goes_back_and_ends_at_its_total(imported: Import, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    imported(write(tmp_path / "log.csv", [answer(n) for n in range(50)]), progress=lambda *args: told.append(args))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]
    assert len({total for _, total in told}) == 1


@pytest.mark.parametrize("content", ["attempt_id,user_id,item_id,completed_at,correct\n", ",".join(HEADER)])
def test_a_log_without_answers_is_no_error(database: Database, imported: Import, tmp_path: Path, content: str) -> None:
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


def test_how_points_became_right_is_in_the_items_records_and_is_held_to(
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
    assert query(database, records) == [("full=3",)]
    assert query(database, "SELECT count(*) FILTER (WHERE correct) FROM response_log") == [(1,)]
    assert imported(points("b.csv", "22"), dichotomise="full").accepted == 2
    assert query(database, "SELECT count(*) FILTER (WHERE correct) FROM response_log") == [(1,)], "3 is full marks"
    for scores, rule in (("04", "full"), ("02", "at=2"), ("01", None)):
        with pytest.raises(PermanentFailure, match="item q: its record says dichotomise full=3"):
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
        with pytest.raises(PermanentFailure, match="item q: its record says max_score 4"):
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


def test_what_an_import_declares_holds_for_the_answers_it_compares(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    """Also where it adds none: wrong is then not 0, and right may be less than full credit."""
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


def test_choices_of_a_matrix_are_kept_with_their_key(database: Database, imported: Import, tmp_path: Path) -> None:
    matrix, key = tmp_path / "choices.csv", tmp_path / "key.csv"
    matrix.write_text("person,q1,q2\nann,A,C\nbob,B,\n")
    key.write_text("item,key\nq1,A\nq2,D\n")
    assert imported(matrix, key=key, at=date(2026, 7, 1)).accepted == 3
    answers = "SELECT user_id, item_id, response, correct FROM response_log ORDER BY 1, 2"
    assert query(database, answers) == [("ann", "q1", "A", True), ("ann", "q2", "C", False), ("bob", "q1", "B", False)]
    assert query(database, "SELECT meta->>'key' FROM question ORDER BY item_id") == [("A",), ("D",)]
    key.write_text("item,key\nq1,B\nq2,D\n")
    with pytest.raises(PermanentFailure, match="item q1: its record says key A, and this import key B"):
        imported(matrix, key=key, at=date(2026, 7, 2))


def test_a_list_of_choices_is_scored_by_a_key_or_by_the_recorded_ones(
    database: Database, imported: Import, tmp_path: Path
) -> None:
    """`irt fit`, posts and pulls could; a file was told to leave the key out, or that it needs the column correct."""
    key, log = tmp_path / "key.csv", tmp_path / "log.csv"
    key.write_text("item,key\nq1,a\n")
    at = "2026-07-01T12:00:00Z"
    log.write_text(f"user_id,item_id,completed_at,response\nann,q1,{at},a\nbob,q1,{at},b\nann,q2,{at},c\n")
    report = imported(log)
    assert (report.accepted, report.rejected) == (0, {"missing_key": 3})
    assert "--key FILE" in (report.complaint or "")
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


def test_whatever_cells_hold_comes_back_from_the_database(database: Database, imported: Import, tmp_path: Path) -> None:
    """What the fuzzer of files lets through, the database takes."""
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
    assert kept == {f"u{text}".strip(" \t\r\n\v\f") for text in odd}


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
def test_an_import_that_is_killed_leaves_nothing_and_can_be_repeated(
    database: Database, settings: Settings, imported: Import, tmp_path: Path, blocked: str
) -> None:
    """SIGKILL while it waits to write a table that the test has locked: what it wrote before is gone."""
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
