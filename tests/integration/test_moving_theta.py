"""θ of moving abilities in months, nights, the θ API and learner reports, with the time to which each applies."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from irt_assets.abilities.batch import judge_until, measure, measure_at
from irt_assets.abilities.online import Measure, Theta, read_measures, read_thetas, update
from irt_assets.common.partitions import Month, month_of
from irt_assets.kpis.ability import abilities
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.ledger.publications import in_force
from irt_assets.responses.facts import abilities_start
from irt_assets.responses.scored_answers import scored_answers
from irt_assets.scales import scale as scales
from irt_assets.scales.scale import read_scales
from irt_psychometrics.scoring import Movement
from resources.cluster.relational import on_postgres
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import MONTHS, SCALE, add_attempts, attempt, call, rows, run_sql

MONTH, LATER = MONTHS
END = Month(LATER).end
SAME = 1e-9
WALK = Movement(variance=0.1**2, growth=0.02, occasion_variance=0.2**2)


@pytest.fixture(autouse=True)
def moving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let abilities of every scale move."""
    still = scales._scale
    monkeypatch.setattr(scales, "_scale", lambda *of: replace(still(*of), movement=WALK))


def request_theta(database: Database, user: str, days: int | None = None, now: datetime = END) -> dict[str, Theta]:
    with database.connect() as connection:
        return update(connection, read_measures(connection, now), user, days, now)


def published_items(database: Database) -> list[str]:
    return sorted(call(database, in_force, SCALE, END).items)


def test_month_night_api_and_learner_report_have_equal_theta(published: Settings) -> None:
    """The log has new items, answers that are rapid by the times of a single month, and learners with few days."""
    database = Database(published)
    items, draw = published_items(database), np.random.default_rng(5)
    odd = []
    for n in range(12):
        for k, item in enumerate(items[:20]):
            when = END - timedelta(days=float(draw.uniform(0, 420)), hours=k)
            odd.append(
                attempt(
                    f"m{n}",
                    item,
                    when,
                    correct=bool(draw.random() < 0.6),
                    response_time_ms=int(draw.lognormal(8.5, 1.5)),
                )
            )
    add_attempts(database, odd)
    measure(database, LATER, "run")
    call(database, measure_at, END, "nightly", "night")
    query = """SELECT user_id, theta, se, n_items, as_of, se_total FROM mirt_ability
               WHERE window_end = %s AND kind = %s ORDER BY 1"""
    monthly, nightly = (rows(database, query, (END, kind)) for kind in ("monthly", "nightly"))
    assert monthly == nightly
    assert len(monthly) > 500
    with database.connect() as connection:
        at_end = read_scales(connection, END)
        sets = {scale: set_with_errors(connection, scale, END) for scale in at_end}
        answers = on_postgres(connection)(scored_answers(abilities_start(END, at_end), END))
        kpi = abilities([answers], END, at_end, sets)
    of_report = kpi.set_index("user_id")
    some = [row for row in monthly if row[0].startswith("m")] + monthly[:30]
    assert {row[3] for row in some} > {20} or len({row[3] for row in some}) > 3
    for user, theta, se, n_items, as_of, total in some:
        one = request_theta(database, user)[SCALE]
        assert (one.theta, one.se) == pytest.approx((theta, se), abs=SAME, rel=0)
        assert (one.n_items, one.as_of, one.lookback_days) == (n_items, as_of, None)
        assert one.se_total == (total and pytest.approx(total, abs=SAME, rel=0))
        reported: Any = of_report.loc[user]
        assert (reported.theta, reported.se) == pytest.approx((theta, se), abs=SAME, rel=0)


@pytest.mark.parametrize(
    ("end", "start"),
    [
        (datetime(2026, 11, 1, tzinfo=UTC), datetime(2025, 10, 1, tzinfo=UTC)),
        (datetime(2026, 11, 1, 0, 0, 0, 1, tzinfo=UTC), datetime(2025, 11, 1, tzinfo=UTC)),
        (datetime(2028, 2, 29, 12, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC)),
    ],
)
def test_answers_count_from_the_first_day_of_a_month_on(world: Settings, end: datetime, start: datetime) -> None:
    """A window that ends at the start of a month is the window of that month. An answer at the start of the window
    counts, and an answer a microsecond earlier does not."""
    database, before = Database(world), start - timedelta(microseconds=1)
    items = published_items(database)
    add_attempts(database, [attempt("w", items[0], before), attempt("w", items[1], start)])
    assert request_theta(database, "w", now=end)[SCALE].n_items == 1
    add_attempts(database, [attempt("v", items[0], before)])
    assert not request_theta(database, "v", now=end)


def test_theta_is_as_of_the_last_eligible_answer_and_unchanged_until_the_next(world: Settings) -> None:
    database, user = Database(world), "stays"
    items, last = published_items(database), END - timedelta(days=9)
    add_attempts(
        database,
        [
            attempt(user, items[0], END - timedelta(days=40)),
            attempt(user, items[1], last),
            attempt(user, items[2], END - timedelta(days=2), mode="sandbox"),
        ],
    )
    first = request_theta(database, user)[SCALE]
    assert first.as_of == last
    later = request_theta(database, user, now=END + timedelta(days=20))[SCALE]
    assert later == first
    assert rows(database, "SELECT count(*), min(as_of) FROM mirt_ability WHERE user_id = %s", (user,)) == [(1, last)]


def test_request_for_fewer_days_returns_their_theta_and_stores_theta_of_all_answers(world: Settings) -> None:
    database, user = Database(world), "few"
    items = published_items(database)
    add_attempts(
        database,
        [attempt(user, items[0], END - timedelta(days=100)), attempt(user, items[1], END - timedelta(days=3))],
    )
    few = request_theta(database, user, 30)[SCALE]
    assert (few.n_items, few.lookback_days) == (1, 30)
    [stored] = call(database, read_thetas, user)
    assert (stored.n_items, stored.lookback_days) == (2, None)
    whole = request_theta(database, user)[SCALE]
    assert stored == whole
    assert (whole.n_items, whole.lookback_days) == (2, None)
    assert call(database, read_thetas, user) == [whole]


@pytest.fixture
def timed(world: Settings) -> Database:
    """A bank whose first item has its first times in the last month, the second in the month before."""
    database = Database(world)
    run_sql(database, "UPDATE response_log SET response_time_ms = NULL")
    return database


def test_rapid_guess_is_judged_by_earlier_item_times_only(
    timed: Database,
) -> None:
    """An item's times come from the previous month, or for a new item from the days until the answer's day ends.
    Later answers change no verdict."""
    new, old = published_items(timed)[:2]
    start = Month(LATER).start

    def flood(item: str, at: datetime, ms: int, many: int, name: str) -> None:
        add_attempts(timed, [attempt(f"{name}{n}", item, at, response_time_ms=ms) for n in range(many)])

    def counted(user: str, now: datetime = END) -> int:
        found = request_theta(timed, user, now=now)
        return found[SCALE].n_items if found else 0

    flood(old, start - timedelta(days=5), 60_000, 150, "a")
    flood(new, start + timedelta(days=4, hours=5), 60_000, 150, "b")
    add_attempts(
        timed,
        [
            attempt("day before", new, start + timedelta(days=3, hours=6), response_time_ms=3_000),
            attempt("same day", new, start + timedelta(days=4, hours=4), response_time_ms=3_000),
            attempt("next day", new, start + timedelta(days=5, hours=6), response_time_ms=3_000),
            attempt("old", old, start + timedelta(days=1), response_time_ms=3_000),
            attempt("old before", old, start - timedelta(days=1), response_time_ms=3_000),
        ],
    )
    expected = {"day before": 1, "same day": 0, "next day": 0, "old": 0, "old before": 0}
    assert {user: counted(user) for user in expected} == expected
    flood(new, start + timedelta(days=6), 4_000, 2000, "c")
    flood(old, start + timedelta(days=6), 4_000, 2000, "d")
    assert {user: counted(user) for user in expected} == expected
    judge_until(timed, END)
    call(timed, measure_at, END, "nightly", "night")
    assert {user: counted(user) for user in expected} == expected
    night = rows(timed, "SELECT user_id FROM mirt_ability WHERE kind = 'nightly' AND user_id = ANY(%s)", ([*expected],))
    assert night == [("day before",)]


def test_theta_on_answers_since_the_night_equals_theta_on_their_verdicts(published: Settings) -> None:
    """Answers of new days and of the same day, late and corrected answers, and omissions by a later session: θ of
    the log is equal before and after judging."""
    database, draw = Database(published), np.random.default_rng(8)
    run_sql(database, "DELETE FROM response_log WHERE completed_at < %s", (END - timedelta(days=3),))
    items, now = published_items(database), END + timedelta(days=1)
    add_attempts(
        database,
        [
            attempt("g", item, END - timedelta(days=float(draw.uniform(1, 300))), correct=bool(draw.random() < 0.5))
            for item in items[:10]
        ],
    )
    remaining, measures = items[10:], None
    events = ["same day", "new day", "new day", "late", "corrected", "omitted", "nothing", "repeated", "sandbox"]
    for n, event in enumerate([*draw.permutation(events), "new day", "same day"]):
        now += timedelta(minutes=5) if event in ("same day", "nothing") else timedelta(days=float(draw.uniform(0, 3)))
        right, item = bool(draw.random() < 0.5), remaining[n % len(remaining)]
        session: dict[str, Any] = {"session_id": f"s{n}", "form_id": "f"}
        if event == "corrected":
            run_sql(
                database,
                """UPDATE response_log SET correct = NOT correct
                   WHERE attempt_id = (SELECT attempt_id FROM response_log WHERE user_id = 'g' AND correct IS NOT NULL
                                       ORDER BY md5(attempt_id || %s), attempt_id LIMIT 1)""",
                (str(n),),
            )
        elif event == "omitted":
            add_attempts(database, [attempt("g", item, now - timedelta(hours=20), correct=None, position=1, **session)])
            judge_until(database, Month(month_of(now)).end)
            after = attempt("g", remaining[(n + 7) % len(remaining)], now - timedelta(seconds=9), position=2, **session)
            add_attempts(database, [after | {"correct": right}])
        elif event != "nothing":
            at = now - timedelta(days=40 if event == "late" else 0, seconds=9)
            item = items[0] if event == "repeated" else item
            mode = "sandbox" if event == "sandbox" else "live"
            add_attempts(database, [attempt("g", item, at, correct=right, mode=mode)])
        measures = call(database, read_measures, now, measures)
        one = call(database, update, measures, "g", None, now)[SCALE]
        judge_until(database, Month(month_of(now)).end)
        assert request_theta(database, "g", now=now)[SCALE] == replace(
            one, theta=pytest.approx(one.theta, abs=SAME, rel=0)
        ), event
    assert measures is not None
    used = measures.scales[SCALE]
    for set_hash, kept in ((used.published.set_hash, True), ("of others", False)):
        again = Measure.from_published_set(used.scale, replace(used.published, set_hash=set_hash), used)
        assert (again.curves is used.curves) == kept
