"""θ on request against the month's and the night's on the same answers, and what becomes of its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from irt_assets.abilities.batch import judge_until, measure, measure_at
from irt_assets.abilities.online import Theta, read_measures, read_thetas, update
from irt_assets.common.partitions import Month
from irt_assets.ledger.publications import in_force
from irt_assets.responses import learner_answers
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import MONTHS, SCALE, add_attempts, attempt, rows, run_sql

MONTH, LATER = MONTHS
END = Month(LATER).end
SAME = 1e-12
"""Sums of some 60 terms in one order: rounding alone."""


def asked(database: Database, user_id: str, days: int = 365, now: datetime = END) -> dict[str, Theta]:
    with database.connect() as connection:
        return update(connection, read_measures(connection, now), user_id, days, now)


def published_items(database: Database) -> list[str]:
    with database.connect() as connection:
        return list(in_force(connection, SCALE, END).items)


@pytest.fixture(scope="module")
def batch(calibrated: Settings) -> dict[str, tuple[float, float, int, str]]:
    """θ, SE, answers and set of every learner at the month's end, by the month; the night has the same."""
    database = Database(calibrated)
    measure(database, LATER, "run")
    with database.connect() as connection:
        measure_at(connection, END, "nightly", "night")
    found = {
        kind: {
            user: tuple(others)
            for user, *others in rows(
                database,
                "SELECT user_id, theta, se, n_items, set_hash FROM mirt_ability WHERE window_end = %s AND kind = %s",
                (END, kind),
            )
        }
        for kind in ("monthly", "nightly")
    }
    assert found["monthly"] == found["nightly"]
    return found["monthly"]  # type: ignore[return-value]


@pytest.fixture
def database(calibrated: Settings, batch: object) -> Iterator[Database]:
    made = Database(calibrated)
    yield made
    run_sql(made, "DELETE FROM mirt_ability WHERE kind = 'online'")


def test_it_is_the_months_and_the_nights_on_the_same_answers(
    database: Database, batch: dict[str, tuple[float, float, int, str]]
) -> None:
    """Every learner who has one, and none who has none."""
    with database.connect() as connection:
        measures = read_measures(connection, END)
        everybody = [user for (user,) in connection.execute("SELECT user_id FROM learner ORDER BY 1").fetchall()]
        found = {user: update(connection, measures, user, 365, END) for user in everybody}
    assert {user for user, one in found.items() if one} == set(batch)
    assert len(batch) > 500
    for user, (theta, se, n_items, set_hash) in batch.items():
        one = found[user][SCALE]
        assert one.theta == pytest.approx(theta, abs=SAME, rel=0)
        assert (one.se, one.n_items, one.set_hash) == (pytest.approx(se, abs=SAME, rel=0), n_items, set_hash)


def test_the_same_answers_are_the_same_row(database: Database, batch: dict[str, tuple[float, float, int, str]]) -> None:
    user = min(batch)
    first, second = asked(database, user), asked(database, user, now=END + timedelta(minutes=1))
    assert first == second
    assert rows(database, "SELECT count(*), min(fitted_at) FROM mirt_ability WHERE kind = 'online'") == [(1, END)]


def test_what_was_asked_for_last_stands_first(world: Settings) -> None:
    """A year, a few days and a year again are two rows, of which the year's is the newer."""
    database, user = Database(world), "two"
    items = published_items(database)
    add_attempts(database, [attempt(user, items[0], END - timedelta(days=20)), attempt(user, items[1], END)])
    now = END + timedelta(hours=1)
    year = asked(database, user, 365, now)[SCALE]
    days = asked(database, user, 10, now + timedelta(minutes=1))[SCALE]
    again = asked(database, user, 365, now + timedelta(minutes=2))[SCALE]
    assert (year.n_items, days.n_items) == (2, 1)
    assert (again.theta, again.fitted_at) == (year.theta, now + timedelta(minutes=2))
    with database.connect() as connection:
        known = [one for one in read_thetas(connection, user) if one.kind == "online"]
    assert known == [again, days]


def test_a_release_measures_anew(begun: Database) -> None:
    user, item = rows(
        begun,
        """SELECT user_id, item_id FROM attempt JOIN item_parameter_publication USING (item_id)
           WHERE completed_at > %s AND completed_at < %s AND mode = 'live' AND correct ORDER BY 1, 2 LIMIT 1""",
        (END - timedelta(days=20), END),
    )[0]
    before = asked(begun, user)[SCALE]
    run_sql(
        begun,
        """INSERT INTO item_parameter_publication
             (scale_id, item_id, parameters, effective_from, rule, reason, anchor_hash, code_version)
           SELECT scale_id, item_id, parameters || jsonb_build_object('b', b + 1), %s, 'decision', 'a test',
             anchor_hash, code_version
           FROM item_parameter_publication WHERE item_id = %s ORDER BY publication_id DESC LIMIT 1""",
        (END - timedelta(days=1), item),
    )
    after = asked(begun, user)[SCALE]
    assert after.set_hash != before.set_hash
    assert after.theta > before.theta
    assert rows(begun, "SELECT count(*) FROM mirt_ability WHERE kind = 'online'") == [(2,)]


Event = Callable[[Database, str, Sequence[str]], None]


def insert(database: Database, user: str, items: Sequence[str]) -> None:
    """An answer to a new item, and one to an item that was answered before."""
    add_attempts(database, [attempt(user, items[6], END - timedelta(hours=2), correct=False)])
    add_attempts(database, [attempt(user, items[0], END - timedelta(hours=1), correct=False)])


def insert_late(database: Database, user: str, items: Sequence[str]) -> None:
    """An answer of before all others, to the item of the second: that one is now a repeat."""
    add_attempts(database, [attempt(user, items[1], END - timedelta(days=20))])


def correct(database: Database, user: str, items: Sequence[str]) -> None:
    run_sql(
        database,
        "UPDATE response_log SET correct = NOT correct WHERE (user_id, item_id) = (%s, %s)",
        (user, items[1]),
    )


def correct_item(database: Database, user: str, items: Sequence[str]) -> None:
    """The first answer was to another item, so that the repeat of it is a first one."""
    run_sql(
        database,
        """UPDATE response_log SET item_id = %s WHERE attempt_id = (
             SELECT attempt_id FROM response_log WHERE (user_id, item_id) = (%s, %s) ORDER BY completed_at LIMIT 1)""",
        (items[6], user, items[0]),
    )


def delete(database: Database, user: str, items: Sequence[str]) -> None:
    """The first answer to an item, so that its repeat counts."""
    run_sql(
        database,
        """DELETE FROM response_log WHERE attempt_id = (
             SELECT attempt_id FROM response_log WHERE (user_id, item_id) = (%s, %s) ORDER BY completed_at LIMIT 1)""",
        (user, items[0]),
    )


def go_on_after_midnight(database: Database, user: str, items: Sequence[str]) -> None:
    """The exam of the evening, whose last item was left blank, goes on: the blank is an omission."""
    after = MIDNIGHT + timedelta(minutes=5)
    add_attempts(database, [attempt(user, items[7], after, session_id=f"exam {user}", form_id="f", position=9)])


def end_before_midnight(database: Database, user: str, items: Sequence[str]) -> None:
    """The last answer of the exam is deleted: its blanks were not reached."""
    run_sql(
        database,
        "DELETE FROM response_log WHERE user_id = %s AND session_id = %s AND position = 5",
        (user, f"exam {user}"),
    )


def guess(database: Database, user: str, items: Sequence[str]) -> None:
    """Two answers below a tenth of the item's usual time: it is known of the first item and not of the second."""
    at = END - timedelta(hours=1)
    add_attempts(database, [attempt(user, items[k], at, correct=False, response_time_ms=500) for k in (7, 8)])


MIDNIGHT = END - timedelta(days=2)
DIFFERENCES: dict[Event, int] = {
    insert: 7,
    insert_late: 6,
    correct: 6,
    correct_item: 7,
    delete: 6,
    go_on_after_midnight: 8,
    end_before_midnight: 3,
    guess: 7,
}
"""What may differ from a learner's verdicts, and how many answers count then; 6 do before."""


@pytest.fixture
def judged_learner(begun: Database) -> tuple[Database, str, list[str]]:
    """A learner with an exam over midnight, a repeat, and an item without usual times; every day is judged."""
    items, user = sorted(published_items(begun))[:9], "judged"
    exam = {"session_id": f"exam {user}", "form_id": "f"}
    run_sql(begun, "DELETE FROM response_log WHERE completed_at < %s", (Month(LATER).start,))
    run_sql(begun, "UPDATE response_log SET response_time_ms = 20000 WHERE item_id = %s", (items[7],))
    run_sql(begun, "UPDATE response_log SET response_time_ms = NULL WHERE item_id = %s", (items[8],))
    add_attempts(
        begun,
        [
            attempt(user, items[0], END - timedelta(days=9)),
            attempt(user, items[1], END - timedelta(days=8), correct=False),
            attempt(user, items[0], END - timedelta(days=5), correct=False),
            attempt(user, items[2], MIDNIGHT - timedelta(minutes=9), position=1, **exam),
            attempt(user, items[3], MIDNIGHT - timedelta(minutes=8), correct=None, position=3, **exam),
            attempt(user, items[6], MIDNIGHT - timedelta(minutes=7), correct=None, position=6, **exam),
            attempt(user, items[4], MIDNIGHT + timedelta(minutes=1), correct=None, position=4, **exam),
            attempt(user, items[5], MIDNIGHT + timedelta(minutes=2), position=5, **exam),
        ],
    )
    judge_until(begun, END)
    return begun, user, items


@pytest.mark.parametrize("event", DIFFERENCES, ids=lambda event: event.__name__)
def test_theta_of_what_has_no_verdict_yet_is_that_after_the_night_has_judged_it(
    judged_learner: tuple[Database, str, list[str]], event: Event
) -> None:
    database, user, items = judged_learner
    before = asked(database, user)[SCALE]
    assert before.n_items == 6
    event(database, user, items)
    at_once = asked(database, user)[SCALE]
    judge_until(database, END)
    assert not differing(database, user)
    judged = asked(database, user)[SCALE]
    assert at_once.theta != before.theta
    assert judged.n_items == at_once.n_items == DIFFERENCES[event]
    assert (judged.theta, judged.se) == pytest.approx((at_once.theta, at_once.se), abs=SAME, rel=0)


def test_answer_of_last_month_counts_if_an_exam_of_this_month_leaves_its_item_blank(
    judged_learner: tuple[Database, str, list[str]],
) -> None:
    """A correction in July has the August exam judged again, too, but not the July answer to the item left blank."""
    database, user, items = judged_learner
    exam, started = {"session_id": f"august {user}", "form_id": "g"}, END + timedelta(days=3)
    add_attempts(
        database,
        [
            attempt(user, items[6], END - timedelta(hours=5)),
            attempt(user, items[7], END - timedelta(hours=4), correct=False),
            attempt(user, items[7], started, correct=None, position=1, **exam),
            attempt(user, items[8], started + timedelta(minutes=1), position=2, **exam),
        ],
    )
    now = started + timedelta(days=1)
    judge_until(database, now)
    run_sql(database, "UPDATE response_log SET correct = false WHERE (user_id, item_id) = (%s, %s)", (user, items[6]))
    at_once = asked(database, user, now=now)[SCALE]
    judge_until(database, now)
    judged = asked(database, user, now=now)[SCALE]
    assert judged.n_items == at_once.n_items
    assert judged.theta == pytest.approx(at_once.theta, abs=SAME, rel=0)


def differing(database: Database, user: str) -> list[tuple[Any, ...]]:
    """The learner's attempts whose verdict is missing or older, and verdicts without an attempt."""
    return rows(
        database,
        """SELECT * FROM (SELECT * FROM attempt WHERE user_id = %s) a FULL JOIN (
             SELECT v.* FROM attempt_verdict v JOIN learner USING (learner_key) WHERE user_id = %s) v
           ON (a.id, a.completed_at) = (v.attempt_id, v.completed_at)
           WHERE a.recorded_at IS DISTINCT FROM v.recorded_at""",
        (user, user),
    )


def test_learner_whose_answers_all_have_verdicts_is_measured_without_facts(
    judged_learner: tuple[Database, str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, user, items = judged_learner
    monkeypatch.setattr(learner_answers, "_judge", lambda *_: pytest.fail("facts were read"))
    assert asked(database, user)[SCALE].n_items == 6
    correct(database, user, items)
    with pytest.raises(pytest.fail.Exception):
        asked(database, user)


def test_an_answer_of_this_minute_counts_and_one_of_the_future_does_not(begun: Database) -> None:
    item = published_items(begun)[0]
    now = datetime(2026, 8, 10, 12, tzinfo=UTC)
    add_attempts(
        begun,
        [
            attempt("now", item, now - timedelta(microseconds=1)),
            attempt("ahead", item, now + timedelta(seconds=1)),
            attempt("edge", item, now - timedelta(days=1)),
            attempt("old", item, now - timedelta(days=1, microseconds=1)),
        ],
    )
    counted = {user for user in ("now", "ahead", "edge", "old") if asked(begun, user, 1, now)}
    assert counted == {"now", "edge"}
