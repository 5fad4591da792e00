"""The rule `late_days`: a handful of answers that come weeks after a month leave it as it is; nothing else does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from irt_assets.cli import status
from irt_assets.common.partitions import Month
from irt_assets.gates.month_judged import MonthState, State
from irt_assets.intake.corrections import Answers, rescore, withdraw
from irt_assets.intake.load import import_attempts
from irt_assets.responses.data_versions import data_version
from irt_assets.responses.late_answers import n_left_out
from irt_assets.responses.late_months import changed_hash
from irt_assets.responses.scales import Scale, change_rules, consider_rules, read_scales, store_scale
from irt_assets.responses.snapshot import (
    Snapshot,
    current_snapshots,
    months_of_other_answers,
    read_snapshot,
    take_snapshot,
    user_ids_of,
)
from irt_assets.responses.window import scoring_responses
from jobs.watching.overview import Overview
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.rooms import add_attempts, add_items, add_learners, attempt, rows, run_sql

MONTH, NEXT = "2026-06", "2026-07"
START, END = Month(MONTH).bounds
ITEMS = [f"q{n}" for n in range(10)]
BY = {"by": "Ann", "reason": "why"}
EMPTY = {"late_days": None}


class Log:
    """A month with 2,000 answers to one scale and 100 to another, all in time; the next month has some, too."""

    def __init__(self, settings: Settings) -> None:
        self.database, self.store = Database(settings), rooms.folder_store(settings)
        add_items(self.database, dict.fromkeys(ITEMS))
        add_items(self.database, {"r0": None}, "other")
        add_learners(self.database, [f"u{n}" for n in range(205)])
        with self.database.connect() as connection:
            for scale_id in (rooms.SCALE, "other"):
                store_scale(connection, Scale(scale_id), {"kind": "made up"})
        at = START + timedelta(days=3)
        answers = [
            attempt(f"u{n}", item, at + timedelta(minutes=n, seconds=place), correct=n % 3 > 0, response="AB"[n % 2])
            for n in range(200)
            for place, item in enumerate(ITEMS)
        ]
        answers += [attempt(f"u{n}", "r0", at + timedelta(hours=9, minutes=n)) for n in range(100)]
        answers += [attempt(f"u{n}", "q0", END + timedelta(days=3)) for n in range(200, 205)]
        add_attempts(self.database, answers)
        run_sql(self.database, "UPDATE response_log SET recorded_at = completed_at")

    def come(self, n: int, item: str = "q1", at: datetime = START + timedelta(days=5), days: float = 20) -> None:
        """So many answers to an item, recorded so many days after the month's end. Learners who are new to it."""
        new = [attempt(f"u{200 + one}", item, at + timedelta(seconds=one)) for one in range(n)]
        add_attempts(self.database, new)
        ids = [one["attempt_id"] for one in new]
        late = "UPDATE response_log SET recorded_at = %s WHERE attempt_id = ANY(%s)"
        run_sql(self.database, late, (END + timedelta(days=days), ids))

    def make(self, month: str = MONTH) -> Snapshot:
        return take_snapshot(self.database, self.store, month, None)[0]

    def left_out(self, scale_id: str = rooms.SCALE) -> int:
        """As the month's page has it."""
        with self.database.connect() as connection:
            return n_left_out(connection, MONTH, read_scales(connection)[scale_id])

    @property
    def stale(self) -> set[str]:
        """As sensors, publication and decisions see it, and those who read everything again (`--fresh`)."""
        with self.database.connect() as connection:
            scales, made = read_scales(connection), current_snapshots(connection)
            found = {month for month in made if changed_hash(connection, month)}
            for month, snapshot in made.items():
                again = data_version(connection, month, scales, read_again=True)
                assert (again != snapshot.data_hash) == (month in found)
            return found


@pytest.fixture
def log(settings: Settings) -> Log:
    return Log(settings)


def test_a_phone_that_comes_back_leaves_the_month_as_it_is_and_counts_for_θ_and_later_months(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    before = log.make()
    log.come(2, days=20)
    assert (log.stale, log.left_out()) == (set(), 2)
    state = MonthState(MONTH, rooms.SCALE, State.GREEN, "")
    late = status.late_answers(log.database, [state])
    assert late == [{"month": MONTH, "scale_id": rooms.SCALE, "answers": 2}]
    status.show(Overview(datetime.now(UTC), True, None, [], [state], [], [], [], []), late, ZoneInfo("UTC"))
    assert f"2 new answers came too late for {MONTH} ({rooms.SCALE})" in capsys.readouterr().out
    again = log.make()
    assert (again.data_hash, again.snapshot_hash, again.n_attempts) == (before.data_hash, before.snapshot_hash, 2100)
    with log.database.connect() as connection:
        scale = read_scales(connection)[rooms.SCALE]
        responses, learners = scoring_responses(connection, START, END, scale, ["q1"])
    assert {"u200", "u201"} <= {*learners}
    assert responses.person.size == 202
    add_attempts(log.database, [attempt("u200", "q1", END + timedelta(days=9))])
    table = read_snapshot(log.store, log.make(NEXT))
    with log.database.connect() as connection:
        users = user_ids_of(connection, table["learner_key"].to_numpy())
    seen = dict(zip(users, table["seen_before"].to_pylist(), strict=True))
    assert seen["u200"], "its next month knows that the learner met the item"


def test_answers_within_the_days_are_read_and_so_are_all_that_are_more_than_one_for_a_thousand(log: Log) -> None:
    log.make()
    log.come(1, days=14)
    assert (log.stale, log.left_out()) == ({MONTH}, 0)
    log.make()
    log.come(4)
    assert (log.stale, log.left_out()) == ({MONTH}, 0)
    assert log.make().n_attempts == 2105
    assert log.stale == set()


def test_the_share_is_that_of_the_scale(log: Log) -> None:
    log.make()
    log.come(1, "r0")
    assert (log.stale, log.left_out("other")) == ({MONTH}, 0)
    log.come(2, "q1")
    assert log.make().n_attempts == 2101
    assert (log.stale, log.left_out("other"), log.left_out()) == (set(), 0, 2)


def test_a_late_answer_changes_no_other_of_the_month(log: Log) -> None:
    """It would make a later one a repeat, and one that was left open in an exam wrong."""
    exam = {"form_id": "f", "session_id": "s"}
    open_answer = attempt("u203", "q2", START + timedelta(days=8), correct=None, position=1, **exam)
    add_attempts(log.database, [open_answer, attempt("u200", "q1", START + timedelta(days=9))])
    run_sql(log.database, "UPDATE response_log SET recorded_at = completed_at")
    before = log.make()
    log.come(1)
    late = attempt("u203", "q3", START + timedelta(days=8, minutes=1), position=2, **exam)
    add_attempts(log.database, [late])
    assert (log.stale, log.left_out()) == (set(), 2)
    assert log.make().snapshot_hash == before.snapshot_hash


def test_the_first_import_of_an_old_month_reads_all_of_it(log: Log) -> None:
    run_sql(log.database, "UPDATE response_log SET recorded_at = now()")
    assert log.make().n_attempts == 2100
    assert (log.stale, log.left_out()) == (set(), 0)


def test_a_late_correction_is_read_with_its_new_value_beside_late_answers_that_are_not(
    log: Log, tmp_path: Path
) -> None:
    log.make()
    log.come(1, days=20)
    [(attempt_id, at)] = rows(log.database, "SELECT attempt_id, completed_at FROM response_log WHERE user_id = 'u3' AND item_id = 'q4'")  # fmt: skip  # noqa: E501
    file = tmp_path / "log.csv"
    file.write_text(f"attempt_id,user_id,item_id,completed_at,correct,revision\n{attempt_id},u3,q4,{at},true,1\n")
    report = import_attempts(log.database, [file], first_month=MONTH)
    assert report.corrected == 1
    assert log.stale == {MONTH}
    table = read_snapshot(log.store, log.make())
    with log.database.connect() as connection:
        users = user_ids_of(connection, table["learner_key"].to_numpy())
    correct = dict(
        zip(zip(users, table["item_id"].to_pylist(), strict=True), table["correct"].to_pylist(), strict=True)
    )
    assert (table.num_rows, correct["u3", "q4"], log.left_out()) == (2100, True, 1)
    rescore(log.database, Answers("q5", start=START, end=START + timedelta(days=3, minutes=2)), "A", **BY)
    assert log.stale == {MONTH}
    assert log.make().n_attempts == 2100
    assert log.stale == set()


def test_a_withdrawn_or_deleted_answer_makes_the_month_stale_and_a_withdrawn_late_one_does_not(log: Log) -> None:
    log.make()
    log.come(2)
    gone = "SELECT attempt_id FROM response_log WHERE user_id = %s"
    withdraw(log.database, Answers(ids=[one for (one,) in rows(log.database, gone, ("u201",))]), **BY)
    assert (log.stale, log.left_out()) == (set(), 1)
    withdraw(log.database, Answers(ids=[one for (one,) in rows(log.database, gone, ("u5",))]), **BY)
    assert log.stale == {MONTH}
    assert log.make().n_attempts == 2089
    run_sql(log.database, "DELETE FROM response_log WHERE user_id = 'u6'")
    assert (log.stale, log.left_out()) == ({MONTH}, 1)


def test_where_the_rule_is_empty_each_late_answer_is_read_and_stays_until_the_next_time(log: Log) -> None:
    """As months were made by earlier releases."""
    change_rules(log.database, rooms.SCALE, EMPTY)
    log.make()
    log.come(1)
    assert (log.stale, log.left_out()) == ({MONTH}, 0)
    made = log.make()
    change_rules(log.database, rooms.SCALE, {"late_days": 14})
    assert (made.n_attempts, log.stale, log.left_out()) == (2101, set(), 0)
    now = rows(log.database, "SELECT max(created_at) + interval '1 second' FROM scored_snapshot")[0][0]
    log.come(1, "q2", days=(now - END) / timedelta(days=1))
    assert (log.stale, log.left_out()) == (set(), 1)
    assert log.make().n_attempts == 2100
    assert (log.stale, log.left_out()) == (set(), 2)
    with log.database.connect() as connection:
        for days, months in ((None, [MONTH]), (30, [MONTH]), (15, [])):
            change = consider_rules(connection, rooms.SCALE, {"late_days": days})
            assert months_of_other_answers(connection, change.after) == months, "as `irt scale set` says"
    change_rules(log.database, rooms.SCALE, EMPTY)
    assert (log.stale, log.left_out()) == ({MONTH}, 0)


assert datetime.now(UTC) > END + timedelta(days=60), "the months of these tests are over"
