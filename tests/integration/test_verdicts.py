"""Verdicts of a day: judged again if the log has changed, and all old or all new if judging is interrupted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import hypothesis
import hypothesis.strategies as st
import psycopg
import pytest
from hypothesis import Phase

from irt_assets.abilities.batch import measure
from irt_assets.common.partitions import Month, day_bounds
from irt_assets.intake.load import import_attempts
from irt_assets.intake.report import ImportReport
from irt_assets.responses import verdicts
from irt_assets.responses.closed_months import rules_of_month
from irt_assets.responses.item_time import take_item_times, times_of_day
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.responses.verdicts import JudgedDay, days_that_differ, judge_day, judge_differing, rules_hash
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale, store_scale
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.rooms import SCALE, add_attempts, add_items, attempt, call, rows, run_sql
from tests.helpers.typed import Irt, IrtOf
from tests.helpers.verdict_worlds import WORLDS, World, WrongVerdict, compare, judge_world, months_of_log
from tests.testbed.partitions import ensure_month_partitions
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for

DAY = timedelta(days=1)
VERDICTS = """SELECT attempt_id, completed_at, user_id, item_id, scale_id, reason, score, max_score, rules_hash,
                     recorded_at
              FROM attempt_verdict LEFT JOIN learner USING (learner_key) WHERE completed_at >= %s AND completed_at < %s
              ORDER BY 1, 2"""


def stored_verdicts(database: Database, day: date, until: date | None = None) -> list[tuple[Any, ...]]:
    return rows(database, VERDICTS, (day, (until or day) + DAY))


# -- judging again -----------------------------------------------------------------------------------

DAYS = [date(2026, 6, 29), date(2026, 6, 30), date(2026, 7, 1), date(2026, 7, 2), date(2026, 7, 3)]
TABLES = ("response_log", "attempt_verdict", "judged_day", "item_time", "learner", "question", "calibration_scale")
RULES = Rules.from_settings({"rapid_min_times": 3, "rapid_share": 0.9, "lookback_months": 2})
USERS, ITEMS = ("ann", "bob"), ("i0", "i1", "i2")
CHOSEN = """(SELECT attempt_id FROM response_log WHERE completed_at > '2026-06-02'
             ORDER BY md5(attempt_id || %s) LIMIT 1)"""


def time_of_day(day: int, second: int = 0) -> datetime:
    return day_bounds(DAYS[day].isoformat())[0] + timedelta(seconds=second)


moments = st.builds(time_of_day, st.integers(1, 3), st.sampled_from([0, 60, 86_399]))
new_attempts = st.builds(
    lambda user, item, when, exam, correct, place, ms, hints, mode: attempt(
        user, item, when, session_id=f"{user} {exam}", form_id="F" if exam else None, correct=correct, position=place,
        response_time_ms=ms, hints_used=hints, mode=mode,
    ),
    st.sampled_from(USERS), st.sampled_from([*ITEMS, "unknown"]), moments, st.integers(0, 1),
    st.sampled_from([True, False, None, None]), st.sampled_from([None, 1, 2, 3]), st.sampled_from([None, 100, 1000]),
    st.sampled_from([0, 0, 1]), st.sampled_from(["live", "live", "live", "sandbox"]),
)  # fmt: skip
changes = st.one_of(
    st.tuples(st.just("INSERT"), st.lists(new_attempts, min_size=1, max_size=4)),
    *(
        st.tuples(
            st.just(f"UPDATE response_log SET {change}, recorded_at = clock_timestamp() WHERE attempt_id = {CHOSEN}"),
            st.text("ab", max_size=4),
        )
        for change in (
            "correct = NOT coalesce(correct, false)",
            "correct = NULL",
            "item_id = 'i1'",
            "user_id = 'bob'",
            "completed_at = completed_at + interval '1 day'",
            "session_id = 'bob 1', form_id = 'F', user_id = 'bob'",
            "response_time_ms = 10",
        )
    ),
    st.tuples(st.just(f"DELETE FROM response_log WHERE attempt_id = {CHOSEN}"), st.text("ab", max_size=4)),
    *(
        st.tuples(st.just(statement), st.just(None))
        for statement in (
            "UPDATE learner SET is_test = NOT is_test WHERE user_id = 'ann'",
            "UPDATE question SET scale_id = 'other' WHERE item_id = 'i2'",
            """UPDATE question SET meta = '{"irt": {"max_score": 2}}' WHERE item_id = 'i0'""",
            "INSERT INTO question (item_id, scale_id) VALUES ('unknown', 'default') ON CONFLICT DO NOTHING",
            """UPDATE calibration_scale SET rules = rules || '{"lookback_months": 1, "hinted": "exclude"}'""",
        )
    ),
)


def begin(database: Database) -> None:
    with database.connect() as connection:
        for table in TABLES:  # faster than TRUNCATE, which makes new files
            connection.execute(f"DELETE FROM {table}".encode())
        store_scale(connection, Scale(SCALE, rules=RULES), {})
        ensure_month_partitions(connection, "2026-05", "2026-07")
    add_items(database, dict.fromkeys(ITEMS))
    early = [attempt(f"u{n}", ITEMS[n % 2], datetime(2026, 5, 1, tzinfo=UTC), response_time_ms=500) for n in range(8)]
    add_attempts(database, early)


def from_scratch(database: Database) -> list[tuple[Any, ...]]:
    """The verdicts as they would be if every day were judged for the first time."""
    with database.connect() as connection:
        connection.execute("DELETE FROM attempt_verdict")
        connection.execute("DELETE FROM judged_day")
        for day in [*DAYS, DAYS[-1] + DAY]:
            judge_day(connection, day)
        found = connection.execute(VERDICTS.encode(), (DAYS[0], DAYS[-1] + 2 * DAY)).fetchall()
        connection.rollback()
    return found


@hypothesis.settings(
    max_examples=5,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[*hypothesis.HealthCheck],
)
@hypothesis.given(
    st.lists(new_attempts, min_size=6, max_size=12), st.lists(st.lists(changes, min_size=1, max_size=3), max_size=2)
)
@hypothesis.example(
    [
        attempt("ann", "i0", time_of_day(1, 86_399)),
        attempt("ann", "i0", time_of_day(2)),
        attempt("ann", "i0", time_of_day(3)),
    ],
    [
        [("INSERT", [attempt("ann", "i0", time_of_day(0))])],
        [(f"DELETE FROM response_log WHERE attempt_id = {CHOSEN}", "a")],
    ],
)
@hypothesis.example(
    [attempt("ann", "i0", time_of_day(1, 86_399), session_id="exam", form_id="F", correct=None)],
    [[("INSERT", [attempt("ann", "i1", time_of_day(2), session_id="exam", form_id="F")])]],
)
def test_repeated_judging_equals_judging_from_scratch(
    database: Database, first: list[dict[str, Any]], nights: list[list[tuple[str, Any]]]
) -> None:
    names = map(str, count())
    begin(database)
    for of_night in [[("INSERT", first)], *nights]:
        for statement, value in of_night:
            if statement == "INSERT":
                add_attempts(database, [one | {"attempt_id": next(names)} for one in value])
            else:
                run_sql(database, statement, () if value is None else (value,))
        judge_differing(database, DAYS[0], DAYS[-1] + 2 * DAY)
    assert stored_verdicts(database, DAYS[0], DAYS[-1] + DAY) == from_scratch(database)
    assert call(database, days_that_differ, DAYS[0], DAYS[-1] + 2 * DAY) == []


NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
LOG = [
    attempt("ann", "i0", NOON, attempt_id="first"),
    attempt("ann", "i1", NOON + timedelta(hours=1), attempt_id="other"),
    attempt("bob", "i0", NOON, attempt_id="bob's", correct=False),
    attempt("ann", "i0", NOON + DAY, attempt_id="again"),
]
EVERY = {one["attempt_id"] for one in LOG}


@pytest.fixture
def judged_log(database: Database) -> Database:
    """Two judged days of two learners; `again` is a repeat."""
    begin(database)
    add_attempts(database, LOG)
    assert [(one.day, one.n) for one in judge_differing(database, DAYS[0], DAYS[-1])] == [(DAYS[2], 3), (DAYS[3], 1)]
    return database


def reasons(database: Database) -> dict[str, str | None]:
    return dict(rows(database, "SELECT attempt_id, reason FROM attempt_verdict"))


def judged_at(database: Database) -> dict[str, datetime]:
    return dict(rows(database, "SELECT attempt_id, judged_at FROM attempt_verdict"))


@pytest.mark.parametrize(
    ("change", "judged_again"),
    [
        ("""INSERT INTO response_log (attempt_id, completed_at, user_id, item_id, correct)
            VALUES ('new', '2026-07-01 13:00+00', 'bob', 'i2', true)""", {"new"}),
        ("UPDATE response_log SET correct = true, recorded_at = now() WHERE attempt_id = 'bob''s'", {"bob's"}),
        ("DELETE FROM response_log WHERE attempt_id = 'other'", set()),
        ("DELETE FROM response_log WHERE attempt_id = 'first'", {"again"}),
        ("UPDATE learner SET is_test = true WHERE user_id = 'bob'", {"bob's"}),
        ("UPDATE question SET scale_id = 'other' WHERE item_id = 'i1'", {"other"}),
        ("""UPDATE question SET meta = '{"irt": {"max_score": 3}}' WHERE item_id = 'i1'""", {"other"}),
        ("""UPDATE calibration_scale SET rules = rules || '{"rapid_share": 0.2}'""", EVERY),
    ],
)  # fmt: skip
def test_change_of_the_log_is_detected_and_only_affected_rows_are_judged_again(
    judged_log: Database, change: str, judged_again: set[str]
) -> None:
    before = judged_at(judged_log)
    run_sql(judged_log, change)
    assert DAYS[2] in call(judged_log, days_that_differ, DAYS[0], DAYS[-1])
    judge_differing(judged_log, DAYS[0], DAYS[-1])
    assert call(judged_log, days_that_differ, DAYS[0], DAYS[-1]) == []
    assert {name for name, at in judged_at(judged_log).items() if before.get(name) != at} == judged_again


def test_unjudged_days_are_judged_once_each_and_newest_first(database: Database) -> None:
    begin(database)
    add_attempts(database, LOG)
    reported: list[JudgedDay] = []
    judge_differing(database, DAYS[0], DAYS[-1], reported.append, newest_first=True)
    assert [one.day for one in reported] == [DAYS[3], DAYS[2]]
    assert stored_verdicts(database, DAYS[0], DAYS[-1]) == from_scratch(database)


def test_answer_that_arrives_during_judging_counts_for_newer_days(database: Database) -> None:
    begin(database)
    first, *others = LOG
    add_attempts(database, others)

    def come(_: JudgedDay) -> None:
        if not rows(database, "SELECT FROM response_log WHERE attempt_id = 'first'"):
            assert reasons(database) == {"again": None}
            add_attempts(database, [first])

    judge_differing(database, DAYS[0], DAYS[-1], come, newest_first=True)
    assert reasons(database)["again"] == "repeat"


def test_minimum_counts_do_not_affect_stored_verdicts() -> None:
    assert rules_hash(Rules.from_settings({"min_responses": 7, "min_learner_responses": 3})) == rules_hash(Rules())
    assert rules_hash(Rules.from_settings({"hinted": "exclude"})) != rules_hash(Rules())


def test_answer_is_a_repeat_only_while_the_log_contains_an_earlier_answer(judged_log: Database) -> None:
    assert reasons(judged_log)["again"] == "repeat"
    run_sql(judged_log, "DELETE FROM response_log WHERE attempt_id = 'first'")
    found = judge_differing(judged_log, DAYS[0], DAYS[-1])
    assert [(one.day, one.written) for one in found] == [(DAYS[2], 1), (DAYS[3], 1)]
    assert reasons(judged_log)["again"] is None
    add_attempts(judged_log, [attempt("ann", "i0", NOON - DAY, attempt_id="late")])
    judge_differing(judged_log, DAYS[0], DAYS[-1])
    assert reasons(judged_log) == {"late": None, "other": None, "bob's": None, "again": "repeat"}


def test_exam_that_continues_after_midnight_scores_items_omitted_before_midnight(judged_log: Database) -> None:
    exam = {"session_id": "exam", "form_id": "F"}
    left_out = attempt("cid", "i2", NOON + timedelta(hours=11), attempt_id="left out", correct=None, **exam)
    add_attempts(judged_log, [left_out])
    judge_differing(judged_log, DAYS[0], DAYS[-1])
    assert reasons(judged_log)["left out"] == "not_reached"
    add_attempts(judged_log, [attempt("cid", "i1", NOON + timedelta(hours=13), attempt_id="after", **exam)])
    judge_differing(judged_log, DAYS[0], DAYS[-1])
    assert reasons(judged_log)["left out"] is None


def test_a_kill_at_any_statement_leaves_all_old_or_all_new_verdicts(
    judged_log: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change writes verdicts of two days, in the transaction of the first."""
    execute, lock = psycopg.Cursor.execute, verdicts._lock

    def state() -> tuple[Any, ...]:
        return stored_verdicts(judged_log, DAYS[0], DAYS[-1]), rows(
            judged_log, "SELECT day, n, recorded_sum FROM judged_day ORDER BY 1"
        )

    def killed(nth: int) -> bool:
        """Stop judging at its nth statement after it has the lock. Returns false if judging ended before that."""
        calls = count()

        def stops(cursor: Any, *arguments: Any, **options: Any) -> Any:
            if next(calls) == nth:
                raise KeyboardInterrupt
            return execute(cursor, *arguments, **options)

        with monkeypatch.context() as patched:

            def begins(connection: psycopg.Connection) -> None:
                lock(connection)
                patched.setattr(psycopg.Cursor, "execute", stops)

            patched.setattr(verdicts, "_lock", begins)
            try:
                judge_differing(judged_log, DAYS[0], DAYS[-1])
            except KeyboardInterrupt:
                return True
        return False

    old = state()
    run_sql(judged_log, "DELETE FROM response_log WHERE attempt_id = 'first'")
    seen = []
    for nth in count():
        if not killed(nth):
            break
        seen.append(state())
    new = state()
    assert new[0] == from_scratch(judged_log)
    assert {*map(repr, seen)} == {repr(old), repr(new)}


def test_second_concurrent_night_waits_and_judges_no_day_again(
    judged_log: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two days differ, with a verdict each."""
    run_sql(judged_log, "DELETE FROM response_log WHERE attempt_id = 'first'")
    usual, judging, let_go, calls = verdicts._judge, Event(), Event(), count()

    def slowly(*arguments: Any) -> Any:
        next(calls)
        judging.set()
        assert let_go.wait(patient(60))
        return usual(*arguments)

    waits = """SELECT FROM pg_locks JOIN pg_database d ON d.oid = database
               WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()"""
    monkeypatch.setattr(verdicts, "_judge", slowly)
    with ThreadPoolExecutor(2) as nights:
        first = nights.submit(judge_differing, judged_log, DAYS[0], DAYS[-1])
        assert judging.wait(patient(60))
        second = nights.submit(judge_differing, judged_log, DAYS[0], DAYS[-1])
        try:
            wait_for("the second to wait", lambda: rows(judged_log, waits))
        finally:
            let_go.set()
        found = [*first.result(), *second.result()]
    assert (next(calls), sum(one.written for one in found)) == (2, 2)
    assert stored_verdicts(judged_log, DAYS[0], DAYS[-1]) == from_scratch(judged_log)


def test_answer_committed_while_its_day_is_judged_is_judged_next_time(
    judged_log: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sql(judged_log, "DELETE FROM response_log WHERE attempt_id = 'other'")
    usual = verdicts._learners_to_judge

    def meanwhile(*arguments: Any) -> Any:
        add_attempts(judged_log, [attempt("bob", "i2", NOON, attempt_id="meanwhile")])
        return usual(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(verdicts, "_learners_to_judge", meanwhile)
        judge_differing(judged_log, DAYS[0], DAYS[-1])
    assert call(judged_log, days_that_differ, DAYS[0], DAYS[-1]) == [DAYS[2]]
    judge_differing(judged_log, DAYS[0], DAYS[-1])
    assert "meanwhile" in reasons(judged_log)


# -- times of items ------------------------------------------------------------------------------------


def timed_attempt(user: str, item: str, at: datetime, ms: int) -> dict[str, Any]:
    return attempt(user, item, at, response_time_ms=ms)


def test_day_is_judged_by_the_item_times_of_the_previous_month(database: Database) -> None:
    begin(database)
    june = [timed_attempt(f"j{n}", "i0", datetime(2026, 6, 9, tzinfo=UTC), 100 * n) for n in (1, 2, 3, 4)]
    june += [timed_attempt("j1", "i1", datetime(2026, 6, 9, tzinfo=UTC), 7)]
    july = [timed_attempt(f"k{n}", "i1", datetime(2026, 7, n, tzinfo=UTC), 1000 * n) for n in (1, 2, 3, 4)]
    add_attempts(database, june + july)
    rules = call(database, rules_of_month, "2026-07")
    times = call(database, times_of_day, date(2026, 7, 3), ["i0", "i1", "i2"], rules)
    assert dict(zip(times.item_ids, times.median_ms, strict=True)) == {"i0": 250.0, "i1": 2000.0}
    assert dict(zip(times.item_ids, times.n, strict=True)) == {"i0": 4, "i1": 3}
    assert rows(database, "SELECT month, item_id, median_ms, n FROM item_time ORDER BY 2") == [
        ("2026-06", "i0", 250.0, 4),
        ("2026-06", "i1", 7.0, 1),
    ]


def test_recomputed_item_times_make_later_days_differ(judged_log: Database) -> None:
    late = [timed_attempt(f"m{n}", "i0", datetime(2026, 6, 3, tzinfo=UTC), 900) for n in range(4)]
    add_attempts(judged_log, late)
    call(judged_log, take_item_times, "2026-06")
    assert call(judged_log, days_that_differ, DAYS[2], DAYS[-1]) == [DAYS[2], DAYS[3]]
    run_sql(judged_log, "UPDATE response_log SET response_time_ms = 10, recorded_at = now() WHERE attempt_id = 'first'")
    judge_differing(judged_log, DAYS[0], DAYS[-1])
    assert reasons(judged_log)["first"] == "rapid"


def test_late_answers_to_a_new_item_change_the_verdicts_of_later_days(judged_log: Database) -> None:
    new = [timed_attempt(f"n{n}", "i2", datetime(2026, 7, 2, 8 + n, tzinfo=UTC), 100) for n in range(5)]
    add_attempts(judged_log, new)
    judge_differing(judged_log, DAYS[0], DAYS[-1])
    assert not {one["attempt_id"] for one in new} & {a for a, reason in reasons(judged_log).items() if reason}
    add_attempts(
        judged_log, [timed_attempt(f"l{n}", "i2", datetime(2026, 7, 1, 1, tzinfo=UTC), 9_000) for n in range(6)]
    )
    judge_differing(judged_log, DAYS[0], DAYS[-1])
    assert {reasons(judged_log)[one["attempt_id"]] for one in new} == {"rapid"}
    assert stored_verdicts(judged_log, DAYS[0], DAYS[-1]) == from_scratch(judged_log)


def test_backfill_of_closed_months_gives_the_same_rows_as_the_nights(database: Database) -> None:
    begin(database)
    june, august = date(2026, 6, 1), date(2026, 8, 1)

    def night(*answers: dict[str, Any]) -> dict[str, str | None]:
        if answers:
            add_attempts(database, answers)
        judge_differing(database, june, august)
        return reasons(database)

    night(
        *(timed_attempt(f"j{n}", "i0", time_of_day(0), 100) for n in range(3)),
        timed_attempt("ann", "i2", time_of_day(1, 60), 40),
    )
    answer = timed_attempt("ann", "i0", time_of_day(2), 80)
    new = [timed_attempt(f"k{n}", "i1", time_of_day(2, n), 100) for n in range(3)]
    assert night(answer, *new)[answer["attempt_id"]] == "rapid"
    again = timed_attempt("ann", "i2", time_of_day(3), 40)
    assert night(again, timed_attempt("bob", "i1", time_of_day(3), 80))[again["attempt_id"]] == "repeat"
    night(
        *(timed_attempt(f"l{n}", "i0", time_of_day(1), 50) for n in range(5)),
        *(timed_attempt(f"m{n}", "i1", time_of_day(2), 50) for n in range(5)),
    )
    run_sql(database, "DELETE FROM response_log WHERE attempt_id = %s", (new[0]["attempt_id"],))
    assert night()[answer["attempt_id"]] == "rapid"
    for month in ("2026-06", "2026-07"):
        call(database, take_item_times, month)
    assert night()[answer["attempt_id"]] is None
    by_night = stored_verdicts(database, june, august)
    for table in ("attempt_verdict", "judged_day"):
        run_sql(database, f"DELETE FROM {table}")
    judge_differing(database, june, august)
    assert stored_verdicts(database, june, august) == by_night


# -- verdicts of whole worlds ------------------------------------------------------------------------
# Stored verdicts equal verdicts of plain loops over the whole log, in small worlds with every edge of the rules.

BY_NAME = {world.name: world for world in WORLDS}
QUICK = {"slower month", "exam over midnight", "change of clocks", "leap day"}
WRITTEN = "SELECT attempt_id, judged_at FROM attempt_verdict WHERE completed_at::date = %s ORDER BY 1"


@pytest.mark.parametrize(
    "world",
    [pytest.param(one, marks=[] if one.name in QUICK else pytest.mark.ci, id=one.name) for one in WORLDS],
)
def test_stored_verdicts_equal_a_reference_in_plain_loops(database: Database, world: World) -> None:
    for by_reason in judge_world(database, world):
        assert {"scored", *world.reasons} <= {reason for reason, n in by_reason.items() if n}


def test_interrupted_backfill_of_a_year_resumes_at_the_next_day(database: Database) -> None:
    BY_NAME["leap day"].fill(database)
    months = months_of_log(database)
    kept: list[tuple[JudgedDay, Any]] = []

    def is_killed(judged: JudgedDay) -> None:
        kept.append((judged, rows(database, WRITTEN, (judged.day,))))
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            judge_differing(database, months[0].start.date(), months[-1].end.date(), is_killed)
    rest = judge_differing(database, months[0].start.date(), months[-1].end.date())
    assert compare(database)["scored"]
    days = [judged.day for judged, _ in kept] + [one.day for one in rest]
    assert days == sorted({*days})
    assert len(days) > 4
    assert [rows(database, WRITTEN, (judged.day,)) for judged, _ in kept] == [written for _, written in kept]


def test_comparison_with_plain_loops_detects_a_wrong_verdict(database: Database) -> None:
    [before] = judge_world(database, BY_NAME["leap day"])
    run_sql(database, "CREATE TABLE kept AS SELECT * FROM attempt_verdict")
    for fault in (
        "UPDATE attempt_verdict SET score = 1 - score WHERE attempt_id = {one}",
        "UPDATE attempt_verdict SET reason = 'hinted', score = NULL WHERE attempt_id = {one}",
        "UPDATE attempt_verdict SET scale_id = 'other' WHERE attempt_id = {one}",
        "UPDATE attempt_verdict SET max_score = 2 WHERE attempt_id = {one}",
        "DELETE FROM attempt_verdict WHERE attempt_id = {one}",
    ):
        run_sql(database, fault.format(one="(SELECT min(attempt_id) FROM kept WHERE score IS NOT NULL)"))
        with pytest.raises(WrongVerdict, match=r"^1 of "):
            compare(database)
        run_sql(database, "DELETE FROM attempt_verdict")
        run_sql(database, "INSERT INTO attempt_verdict SELECT * FROM kept")
    assert compare(database) == before


# -- corrections -------------------------------------------------------------------------------------
# Answers that are scored again or withdrawn: former values are kept, dependent results are stale, θ follows.

MONTH = rooms.MONTHS[0]
START = datetime(2026, 6, 3, tzinfo=UTC)
BY = ("--by", "Ann", "--reason", "the key was wrong")


@pytest.fixture
def typed(settings: Settings, database: Database, irt: IrtOf) -> Irt:
    """Commands on a log of six answers to q1 (A, A, B, B, B, one without a choice) on two days, and one to q2."""
    add_items(database, {"q1": None, "q2": None})
    run_sql(database, """UPDATE question SET meta = '{"key": "A"}' WHERE item_id = 'q1'""")
    chosen = ["A", "A", "B", "B", "B", None]
    for n, choice in enumerate(chosen):
        at = START + timedelta(days=n % 2, minutes=n)
        one = attempt(f"u{n}", "q1", at, response=choice, correct=choice != "B")
        add_attempts(database, [one | {"attempt_id": f"a{n}"}])
    add_attempts(database, [attempt("u1", "q2", START, response="B", correct=False) | {"attempt_id": "other"}])
    run_sql(database, "UPDATE response_log SET recorded_at = '2026-06-10'")
    take_snapshot(database, rooms.folder_store(settings), MONTH, None)
    return irt(settings)


def correctness(database: Database) -> dict[str, bool]:
    return dict(rows(database, "SELECT id, correct FROM attempt ORDER BY 1"))  # type: ignore[arg-type]


def corrections(database: Database) -> list[tuple[object, ...]]:
    return rows(
        database,
        """SELECT attempt_id, correct, how, corrected_by, reason, recorded_at::date::text FROM attempt_correction
           ORDER BY attempt_id, correction_id""",
    )


@pytest.mark.ci
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("withdraw", "--item", "q3"), "the log has no such answers"),
        (("withdraw",), "choose the answers"),
        (("withdraw", "--item", "q1", "--ids", __file__), "choose the answers"),
    ],
)
def test_correction_without_effect_is_refused(
    typed: Irt, database: Database, words: tuple[str, ...], message: str
) -> None:
    done = typed("attempts", *words, *BY)
    outcome = (done.code, message in " ".join(done.err.split()), corrections(database))
    assert outcome == (2, True, []), done.err


@pytest.mark.ci
def test_withdrawn_answers_are_restored_only_by_a_higher_revision(
    typed: Irt, database: Database, tmp_path: Path
) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_bytes("학생\n".encode("cp949"))
    refused = typed("attempts", "withdraw", "--ids", ids, *BY)
    assert (refused.code, "ids.txt is not UTF-8" in refused.err) == (2, True)
    ids.write_text("a0\n\na1 \nunknown\n", "utf-8-sig")
    done = typed("attempts", "withdraw", "--ids", ids, *BY)
    assert (done.code, "ids of which the log has no answer: 1" in done.err) == (0, True)
    assert done.out.splitlines() == [
        "changed: two answers of two days",
        f"stale until calibrated again, by the daemon or irt calibrate: {MONTH}",
    ]
    assert [one[:3] for one in corrections(database)] == [("a0", True, "withdraw"), ("a1", True, "withdraw")]
    assert [*correctness(database)] == ["a2", "a3", "a4", "a5", "other"]

    def imported(revision: int) -> ImportReport:
        log = tmp_path / "log.csv"
        log.write_text(
            "attempt_id,user_id,item_id,completed_at,correct,revision\n"
            f"a0,u0,q1,2026-06-03T00:00:00Z,1,{revision}\na2,u2,q1,2026-06-03T00:02:00Z,0,{revision}\n"
        )
        return import_attempts(database, [log], first_month=MONTH)

    assert (imported(0).rejected, imported(0).duplicates) == ({"withdrawn_attempt": 1}, 1)
    back = imported(1)
    assert (back.accepted, back.corrected, back.rejected) == (1, 1, {})
    assert [*correctness(database)] == ["a0", "a2", "a3", "a4", "a5", "other"]
    assert imported(0).duplicates == imported(1).duplicates == 2


@pytest.mark.ci
def test_an_items_answers_are_withdrawn(typed: Irt, database: Database) -> None:
    assert typed("attempts", "withdraw", "--item", "q1", "--dry-run", *BY, "--json").json["answers"] == 6
    assert len(correctness(database)) == 7
    typed("attempts", "withdraw", "--item", "q1", "--from", f"{START + timedelta(days=1):%Y-%m-%d}", *BY)
    assert [*correctness(database)] == ["a0", "a2", "a4", "other"]


@pytest.mark.ci
def test_import_of_a_rescored_answer_is_a_duplicate(typed: Irt, database: Database, tmp_path: Path) -> None:
    """Nightly exports of the source still contain the old score, which has been corrected."""
    typed("items", "rekey", "q1", "--key", "B", "--yes", *BY)
    log = tmp_path / "log.csv"
    log.write_text("attempt_id,user_id,item_id,completed_at,correct\na0,u0,q1,2026-06-03T00:00:00Z,1\n")
    report = import_attempts(database, [log], first_month=MONTH)
    assert (report.duplicates, correctness(database)["a0"]) == (1, False)


@pytest.mark.ci
def test_erasure_covers_corrected_and_withdrawn_answers(typed: Irt, database: Database) -> None:
    typed("attempts", "withdraw", "--item", "q1", *BY)
    done = typed("learner", "erase", "u0", "--yes", "--by", "Ann", "--reason", "asked for", "--json")
    assert done.json["removed"]["attempt_correction"] == 1, done.err
    assert rows(database, "SELECT count(*) FROM attempt_correction WHERE user_id = 'u0'") == [(0,)]
    assert len(corrections(database)) == 5


@pytest.mark.ci
def test_2000_regraded_answers_change_abilities_and_the_ledger_only_proposes(calibrated: Settings) -> None:
    """Wrong answers to items that are not anchors turn out to be right."""
    database = Database(calibrated)
    theta = "SELECT user_id, theta FROM mirt_ability WHERE kind = 'monthly' ORDER BY 1"
    published = "SELECT * FROM item_parameter_publication ORDER BY publication_id"
    measure(database, MONTH, "before")
    before, in_force = dict(rows(database, theta)), rows(database, published)  # type: ignore[arg-type]
    start, end = Month(MONTH).bounds
    run_sql(
        database,
        """UPDATE response_log SET correct = true WHERE attempt_id IN (
             SELECT attempt_id FROM response_log JOIN question USING (item_id)
             WHERE NOT correct AND completed_at >= %s AND completed_at < %s
               AND NOT coalesce(meta->'tags' ? 'anchor', false)
             ORDER BY md5(attempt_id) LIMIT 2000)""",
        (start, end),
    )
    assert rooms.is_stale(database, MONTH)
    step = rooms.calibrate(calibrated, MONTH)
    assert not rooms.is_stale(database, MONTH)
    assert rows(database, published) == in_force
    proposed = rows(database, "SELECT count(*) FROM item_parameter_proposal WHERE fit_id = %s", (step.fit_id,))
    assert (step.n_published, step.n_proposed) == (0, proposed[0][0])
    assert step.n_proposed > 0
    measure(database, MONTH, "after")
    after = dict(rows(database, theta))  # type: ignore[arg-type]
    assert sum(after[user] > before[user] for user in before) > 0.9 * len(before)
