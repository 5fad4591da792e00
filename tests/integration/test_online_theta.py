"""θ on request against the month's and the night's on the same answers, and what becomes of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from irt_assets.abilities.batch import measure, measure_at
from irt_assets.abilities.online import Theta, read_measures, read_thetas, update
from irt_assets.common.partitions import Month
from irt_assets.ledger.publications import in_force
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


def test_exams_with_omissions_repeats_hints_rapid_guesses_and_other_modes_are_judged_as_the_month_does(
    begun: Database,
) -> None:
    """A log made of what the rules tell apart; the item times are of everybody, so that rapid guesses are found."""
    items = published_items(begun)[:8]
    at, odd = END - timedelta(days=3), []
    for n, user in enumerate(("o1", "o2", "o3")):
        for k, item in enumerate(items):
            exam = {"session_id": f"s{n}", "form_id": "f", "position": k}
            when = at + timedelta(minutes=k, hours=n)
            shown = [
                {"correct": None, **exam},
                {"correct": k % 2 == 0, "response_time_ms": 1 if n == 1 else 60_000},
                {"hints_used": 2},
                {"mode": "sandbox"},
                {"correct": False, **exam},
            ][(k + n) % 5]
            odd.append(attempt(user, item, when, **shown))
        odd.append(attempt(user, items[0], END - timedelta(hours=1), correct=False))
        odd.append(attempt(user, items[1], END - timedelta(days=500), correct=False))
        odd.append(attempt(user, "not in the bank", at))
    add_attempts(begun, odd)
    measure(begun, LATER, "run")
    monthly = {
        user: others
        for user, *others in rows(
            begun,
            "SELECT user_id, theta, se, n_items FROM mirt_ability WHERE user_id LIKE 'o_' AND kind = 'monthly'",
        )
    }
    assert len({n for *_, n in monthly.values()}) > 1, "the rules tell them apart"
    for user, (theta, se, n_items) in monthly.items():
        one = asked(begun, user)[SCALE]
        assert (one.theta, one.se) == pytest.approx((theta, se), abs=SAME, rel=0)
        assert one.n_items == n_items


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


def test_times_are_those_of_the_last_night_whatever_has_come_since(begun: Database) -> None:
    """The night stored them; a flood of slow answers afterwards, which would make others rapid, changes nothing."""
    with begun.connect() as connection:
        measure_at(connection, END, "nightly", "night")
    later = END + timedelta(hours=5)
    with begun.connect() as connection:
        before = read_measures(connection, later).scales[SCALE].items
    item = before.item_ids[0]
    add_attempts(
        begun,
        [attempt(f"slow{n}", str(item), END + timedelta(hours=1), response_time_ms=10**6) for n in range(500)],
    )
    with begun.connect() as connection:
        after = read_measures(connection, later).scales[SCALE].items
    assert (after.times.median_ms == before.times.median_ms).all()


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
