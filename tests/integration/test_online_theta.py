"""θ on request against the month's and the night's on the same answers, and its stored rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from irt_assets.abilities.batch import judge_until, measure, measure_at, stale_months
from irt_assets.abilities.online import Theta, read_measures, read_thetas, update
from irt_assets.cli import app
from irt_assets.common.partitions import Month
from irt_assets.decisions.anchor_versions import change_anchors
from irt_assets.decisions.exports import read_export
from irt_assets.decisions.proposals import find_proposals, latest_waiting, proposals, settled_items
from irt_assets.decisions.withdrawal import next_day
from irt_assets.kpis.ability import abilities
from irt_assets.ledger.publications import in_force
from irt_assets.responses import learner_answers
from irt_assets.responses.scored_answers import scored_answers
from irt_assets.scales.item_status import Status, item_status, read_withdrawals
from irt_assets.scales.scale import read_scales
from resources.cluster.relational import on_postgres
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.settings import Settings, get_settings
from tests.helpers.decided import decide_use
from tests.helpers.rooms import MONTHS, SCALE, add_attempts, attempt, rows, run_sql
from tests.helpers.waiting_decision import FEB, MOVED, NOW, bank

MONTH, LATER = MONTHS
END = Month(LATER).end
SAME = 1e-12
"""Tolerance for sums of about 60 terms in the same order, which differ only by rounding."""


def request_theta(database: Database, user_id: str, days: int = 365, now: datetime = END) -> dict[str, Theta]:
    with database.connect() as connection:
        return update(connection, read_measures(connection, now), user_id, days, now)


def published_items(database: Database) -> list[str]:
    with database.connect() as connection:
        return list(in_force(connection, SCALE, END).items)


@pytest.fixture(scope="module")
def batch(calibrated: Settings) -> dict[str, tuple[float, float, int, str]]:
    """θ, SE, number of answers and set of every learner at the month's end. Month and night have the same values."""
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
def measured(calibrated: Settings, batch: object) -> Iterator[Database]:
    made = Database(calibrated)
    yield made
    run_sql(made, "DELETE FROM mirt_ability WHERE kind = 'online'")


def test_online_theta_equals_the_months_and_the_nights_theta_on_the_same_answers(
    measured: Database, batch: dict[str, tuple[float, float, int, str]]
) -> None:
    """Learners without a monthly θ have no online θ either."""
    with measured.connect() as connection:
        measures = read_measures(connection, END)
        everybody = [user for (user,) in connection.execute("SELECT user_id FROM learner ORDER BY 1").fetchall()]
        found = {user: update(connection, measures, user, 365, END) for user in everybody}
    assert {user for user, one in found.items() if one} == set(batch)
    assert len(batch) > 500
    for user, (theta, se, n_items, set_hash) in batch.items():
        one = found[user][SCALE]
        assert one.theta == pytest.approx(theta, abs=SAME, rel=0)
        assert (one.se, one.n_items, one.set_hash) == (pytest.approx(se, abs=SAME, rel=0), n_items, set_hash)


def test_last_requested_theta_is_listed_first(world: Settings) -> None:
    """Requests for a year, a few days and a year again store two rows, of which the year's row is newer."""
    database, user = Database(world), "two"
    items = published_items(database)
    add_attempts(database, [attempt(user, items[0], END - timedelta(days=20)), attempt(user, items[1], END)])
    now = END + timedelta(hours=1)
    year = request_theta(database, user, 365, now)[SCALE]
    days = request_theta(database, user, 10, now + timedelta(minutes=1))[SCALE]
    again = request_theta(database, user, 365, now + timedelta(minutes=2))[SCALE]
    assert (year.n_items, days.n_items) == (2, 1)
    assert (again.theta, again.fitted_at) == (year.theta, now + timedelta(minutes=2))
    with database.connect() as connection:
        known = [one for one in read_thetas(connection, user) if one.kind == "online"]
    assert known == [again, days]


def test_changed_parameters_store_a_new_online_theta(world_database: Database) -> None:
    user, item = rows(
        world_database,
        """SELECT user_id, item_id FROM attempt JOIN item_parameter_publication USING (item_id)
           WHERE completed_at > %s AND completed_at < %s AND mode = 'live' AND correct ORDER BY 1, 2 LIMIT 1""",
        (END - timedelta(days=20), END),
    )[0]
    before = request_theta(world_database, user)[SCALE]
    run_sql(
        world_database,
        """INSERT INTO item_parameter_publication
             (scale_id, item_id, parameters, effective_from, rule, reason, anchor_hash, code_version)
           SELECT scale_id, item_id, parameters || jsonb_build_object('b', b + 1), %s, 'decision', 'a test',
             anchor_hash, code_version
           FROM item_parameter_publication WHERE item_id = %s ORDER BY publication_id DESC LIMIT 1""",
        (END - timedelta(days=1), item),
    )
    after = request_theta(world_database, user)[SCALE]
    assert after.set_hash != before.set_hash
    assert after.theta > before.theta
    assert rows(world_database, "SELECT count(*) FROM mirt_ability WHERE kind = 'online'") == [(2,)]


Event = Callable[[Database, str, Sequence[str]], None]


def insert(database: Database, user: str, items: Sequence[str]) -> None:
    """Insert an answer to a new item, and an answer to an item that was answered before."""
    add_attempts(database, [attempt(user, items[6], END - timedelta(hours=2), correct=False)])
    add_attempts(database, [attempt(user, items[0], END - timedelta(hours=1), correct=False)])


def insert_late(database: Database, user: str, items: Sequence[str]) -> None:
    """Insert an answer before all others, to the item of the second answer, which becomes a repeat."""
    add_attempts(database, [attempt(user, items[1], END - timedelta(days=20))])


def correct(database: Database, user: str, items: Sequence[str]) -> None:
    run_sql(
        database,
        "UPDATE response_log SET correct = NOT correct WHERE (user_id, item_id) = (%s, %s)",
        (user, items[1]),
    )


def correct_item(database: Database, user: str, items: Sequence[str]) -> None:
    """Correct the item of the first answer, so that its former repeat becomes a first answer."""
    run_sql(
        database,
        """UPDATE response_log SET item_id = %s WHERE attempt_id = (
             SELECT attempt_id FROM response_log WHERE (user_id, item_id) = (%s, %s) ORDER BY completed_at LIMIT 1)""",
        (items[6], user, items[0]),
    )


def delete(database: Database, user: str, items: Sequence[str]) -> None:
    """Delete the first answer to an item, so that its repeat counts."""
    run_sql(
        database,
        """DELETE FROM response_log WHERE attempt_id = (
             SELECT attempt_id FROM response_log WHERE (user_id, item_id) = (%s, %s) ORDER BY completed_at LIMIT 1)""",
        (user, items[0]),
    )


def go_on_after_midnight(database: Database, user: str, items: Sequence[str]) -> None:
    """Continue the evening's exam, whose last item was left blank: the blank becomes an omission."""
    after = MIDNIGHT + timedelta(minutes=5)
    add_attempts(database, [attempt(user, items[7], after, session_id=f"exam {user}", form_id="f", position=9)])


def end_before_midnight(database: Database, user: str, items: Sequence[str]) -> None:
    """Delete the last answer of the exam, so that the blanks before it become unreached."""
    run_sql(
        database,
        "DELETE FROM response_log WHERE user_id = %s AND session_id = %s AND position = 5",
        (user, f"exam {user}"),
    )


def guess(database: Database, user: str, items: Sequence[str]) -> None:
    """Insert two answers below a tenth of the usual time, which is known only for the first item."""
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
"""Event that changes the log after a learner's verdicts → number of answers that count then. It was 6 before."""


@pytest.fixture
def judged_learner(world_database: Database) -> tuple[Database, str, list[str]]:
    """A learner with an exam over midnight, a repeat, and an item without usual times; every day is judged."""
    items, user = sorted(published_items(world_database))[:9], "judged"
    exam = {"session_id": f"exam {user}", "form_id": "f"}
    run_sql(world_database, "DELETE FROM response_log WHERE completed_at < %s", (Month(LATER).start,))
    run_sql(world_database, "UPDATE response_log SET response_time_ms = 20000 WHERE item_id = %s", (items[7],))
    run_sql(world_database, "UPDATE response_log SET response_time_ms = NULL WHERE item_id = %s", (items[8],))
    add_attempts(
        world_database,
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
    judge_until(world_database, END)
    return world_database, user, items


@pytest.mark.parametrize("event", DIFFERENCES, ids=lambda event: event.__name__)
def test_theta_on_unjudged_answers_equals_the_theta_after_the_night(
    judged_learner: tuple[Database, str, list[str]], event: Event
) -> None:
    database, user, items = judged_learner
    before = request_theta(database, user)[SCALE]
    assert before.n_items == 6
    event(database, user, items)
    at_once = request_theta(database, user)[SCALE]
    judge_until(database, END)
    assert not differing(database, user)
    after_night = request_theta(database, user)[SCALE]
    assert at_once.theta != before.theta
    assert after_night.n_items == at_once.n_items == DIFFERENCES[event]
    assert (after_night.theta, after_night.se) == pytest.approx((at_once.theta, at_once.se), abs=SAME, rel=0)


def test_last_months_answer_counts_if_this_months_exam_leaves_the_item_blank(
    judged_learner: tuple[Database, str, list[str]],
) -> None:
    """A correction in July also has the August exam judged again, but not the July answer to the blank item."""
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
    at_once = request_theta(database, user, now=now)[SCALE]
    judge_until(database, now)
    after_night = request_theta(database, user, now=now)[SCALE]
    assert after_night.n_items == at_once.n_items
    assert after_night.theta == pytest.approx(at_once.theta, abs=SAME, rel=0)


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


def test_learner_with_only_judged_answers_is_measured_without_reading_facts(
    judged_learner: tuple[Database, str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, user, items = judged_learner
    monkeypatch.setattr(learner_answers, "_judge", lambda *_: pytest.fail("facts were read"))
    assert request_theta(database, user)[SCALE].n_items == 6
    correct(database, user, items)
    with pytest.raises(pytest.fail.Exception):
        request_theta(database, user)


def test_answer_of_this_minute_counts_and_future_answer_does_not(world_database: Database) -> None:
    item = published_items(world_database)[0]
    now = datetime(2026, 8, 10, 12, tzinfo=UTC)
    add_attempts(
        world_database,
        [
            attempt("now", item, now - timedelta(microseconds=1)),
            attempt("ahead", item, now + timedelta(seconds=1)),
            attempt("edge", item, now - timedelta(days=1)),
            attempt("old", item, now - timedelta(days=1, microseconds=1)),
        ],
    )
    counted = {user for user in ("now", "ahead", "edge", "old") if request_theta(world_database, user, 1, now)}
    assert counted == {"now", "edge"}


# -- withdrawn answers -------------------------------------------------------------------------------
# Items that are out of use: from a date on, for the month, the night, the θ API and the KPIs alike.

__all__ = ["bank"]  # a fixture
SINCE = END - timedelta(days=5)
BEFORE = SINCE - timedelta(days=3)
LEAKED = {"by": "Ann", "reason": "it was posted", "now": BEFORE}


def free_items(database: Database) -> list[str]:
    """Make two published items ordinary items, as every published item of this world is an anchor."""
    with database.connect() as connection:
        items = list(in_force(connection, SCALE, END).items)[:2]
    change_anchors(database, "drop_anchor", SCALE, items, f"{END:%Y-%m}", by="Ann", reason="to be withdrawn")
    return items


def monthly(database: Database, month: str = LATER) -> dict[str, tuple[float, float, int]]:
    end = Month(month).end
    found = rows(
        database,
        "SELECT user_id, theta, se, n_items FROM mirt_ability WHERE (kind, window_end) = ('monthly', %s) ORDER BY 1",
        (end,),
    )
    return {user: (theta, se, n) for user, theta, se, n in found}


def test_answers_to_a_withdrawn_item_count_only_before_the_withdrawal(world_database: Database) -> None:
    withdrawn, kept = free_items(world_database)
    add_attempts(
        world_database,
        [
            attempt("early", withdrawn, SINCE - timedelta(microseconds=1)),
            attempt("early", kept, SINCE - timedelta(days=1)),
            attempt("late", withdrawn, SINCE),
            attempt("late", kept, SINCE),
            attempt("only", withdrawn, SINCE + timedelta(hours=1)),
        ],
    )
    measure(world_database, MONTH, "made before")
    measure(world_database, LATER, "in use")
    in_use, made_before = monthly(world_database), monthly(world_database, MONTH)
    assert [in_use[user][2] for user in ("early", "late", "only")] == [2, 2, 1]
    with world_database.connect() as connection:
        hashed = in_force(connection, SCALE, END).set_hash
    decide_use(world_database, [withdrawn], "withdrawn", since=SINCE, **LEAKED)
    judge_until(world_database, END)
    with world_database.connect() as connection:
        assert stale_months(connection) == {}, "months that are made stay as they are"
        assert in_force(connection, SCALE, END).set_hash == hashed
        measure_at(connection, END, "nightly", "night")
        published = {SCALE: in_force(connection, SCALE, END)}
        answers = on_postgres(connection)(scored_answers(END - timedelta(days=365), END))
        kpi = abilities([answers], END, read_scales(connection), published).set_index("user_id")
    measure(world_database, LATER, "withdrawn")
    measure(world_database, MONTH, "made again")
    out = monthly(world_database)
    assert monthly(world_database, MONTH) == made_before
    assert (out["early"], out["late"][2], out.get("only")) == (in_use["early"], 1, None)
    assert [
        request_theta(world_database, "only"),
        request_theta(world_database, "late", now=SINCE - timedelta(hours=1)),
    ] == [{}, {}]
    nightly = rows(
        world_database, "SELECT user_id, theta, se, n_items FROM mirt_ability WHERE kind = 'nightly' ORDER BY 1"
    )
    assert {user: (theta, se, n) for user, theta, se, n in nightly} == out
    assert set(kpi.index) == set(out)
    changed = [user for user in in_use if user in out and out[user] != in_use[user]]
    for user in ["early", "late", *changed[:20], *list(out)[:20]]:
        online = request_theta(world_database, user)[SCALE]
        assert (online.theta, online.se, online.n_items) == pytest.approx(out[user], abs=SAME, rel=0)
    for user in ("early", "late"):
        assert (kpi.theta[user], kpi.se[user]) == pytest.approx(out[user][:2], abs=SAME, rel=0)
    assert "late" in changed


def test_answers_during_a_withdrawal_do_not_count_after_the_items_restoration(world_database: Database) -> None:
    withdrawn = free_items(world_database)[0]
    back = SINCE + timedelta(days=2)
    add_attempts(world_database, [attempt("meanwhile", withdrawn, SINCE), attempt("again", withdrawn, back)])
    decide_use(world_database, [withdrawn], "withdrawn", since=SINCE, **LEAKED)
    decide_use(world_database, [withdrawn], "restored", since=back, by="Ben", reason="reworded", now=BEFORE)
    measure(world_database, LATER, "run")
    assert monthly(world_database)["again"][2] == 1
    assert "meanwhile" not in monthly(world_database)
    assert [request_theta(world_database, user) == {} for user in ("meanwhile", "again")] == [True, False]
    with world_database.connect() as connection:
        states = [item_status(connection, at).get(withdrawn) for at in (BEFORE, SINCE, back)]
    assert [one and one.state for one in states] == [None, "withdrawn", "restored"]


def test_parameters_cached_by_the_api_include_future_withdrawals(world_database: Database) -> None:
    """The cache was filled on the evening before the withdrawal."""
    withdrawn = free_items(world_database)[0]
    add_attempts(world_database, [attempt("night owl", withdrawn, SINCE + timedelta(seconds=1))])
    decide_use(world_database, [withdrawn], "withdrawn", since=SINCE, **LEAKED)
    with world_database.connect() as connection:
        measures = read_measures(connection, SINCE - timedelta(seconds=20))
        assert update(connection, measures, "night owl", 30, SINCE + timedelta(seconds=5)) == {}


# -- deciding ----------------------------------------------------------------------------------------


def withdraw_items(database: Database, *items: str, **others: Any) -> list[Status]:
    return decide_use(
        database, [*items] or ["moved"], "withdrawn", **{"by": "Ann", "reason": "it leaked", "now": NOW} | others
    )


def restore_items(database: Database, *items: str, **others: Any) -> list[Status]:
    return decide_use(
        database, [*items] or ["moved"], "restored", **{"by": "Ben", "reason": "reworded", "now": NOW} | others
    )


def refusal_of(act: Any, database: Database, *items: str, **others: Any) -> str:
    query = "SELECT * FROM item_status ORDER BY status_id"
    before = rows(database, query)
    with pytest.raises(PermanentFailure) as failure:
        act(database, *items, **others)
    assert rows(database, query) == before
    return str(failure.value)


def test_withdrawn_item_has_no_waiting_proposals_and_keeps_its_values(bank: Database) -> None:
    (status,) = withdraw_items(bank)
    assert status.effective_from == datetime(2026, 3, 11, tzinfo=UTC) == next_day(NOW)
    with bank.connect() as connection:
        assert latest_waiting(proposals(connection)) == []
        assert "it leaked" in find_proposals(connection, [MOVED])[0].cautions[-1]
        assert settled_items(connection, FEB)[SCALE, "moved"] == "withdrawn from 2026-03-11 on by Ann"
        on_the_day = read_export(connection, "parameters", status.effective_from).set_index("item_id")
        before = read_export(connection, "parameters", NOW).set_index("item_id")
    columns = ["status", "withdrawn_because", "withdrawn_from", "b"]
    row = ["withdrawn", "it leaked", status.effective_from, before.b["moved"]]
    assert on_the_day.loc["moved", columns].tolist() == row
    assert (before.status["moved"], on_the_day.status["still"]) == ("in use", "in use")
    restore_items(bank)
    with bank.connect() as connection:
        assert [str(p.reference) for p in latest_waiting(proposals(connection))] == [str(MOVED)]


def test_restoration_before_the_date_cancels_the_withdrawal(bank: Database) -> None:
    day = datetime(2026, 12, 1, tzinfo=UTC)
    withdraw_items(bank, since=day)
    (status,) = restore_items(bank)
    assert (status.state, status.effective_from) == ("restored", day)
    with bank.connect() as connection:
        assert read_withdrawals(connection).stretches == {}
    withdraw_items(bank, since=day)
    with bank.connect() as connection:
        assert read_withdrawals(connection).stretches == {"moved": ((day, None),)}


def test_invalid_withdrawal_is_refused_with_the_reason(bank: Database) -> None:
    assert "is not in the future" in refusal_of(withdraw_items, bank, since=NOW)
    assert "is not in the future" in refusal_of(withdraw_items, bank, since=NOW + timedelta(seconds=30)), (
        "servers read it in a minute"
    )
    assert "the bank has no item 'Moved' (ids are case-sensitive)" in refusal_of(withdraw_items, bank, "Moved", "still")
    assert "irt release drop-anchors K1" in refusal_of(withdraw_items, bank, "moved", "K1")
    assert "a decision needs a reason" in refusal_of(withdraw_items, bank, reason="  ")
    assert "moved is not withdrawn" in refusal_of(restore_items, bank)
    withdraw_items(bank, since=datetime(2026, 12, 1, tzinfo=UTC))
    assert "moved is withdrawn from 2026-12-01 on by Ann: it leaked" in refusal_of(withdraw_items, bank)
    early = refusal_of(restore_items, bank, since=datetime(2026, 11, 1, tzinfo=UTC))
    assert "moved is withdrawn from 2026-12-01 on: name that day or a later one" in early


def test_items_command_confirms_withdraws_restores_and_lists(bank: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", bank.url)
    get_settings.cache_clear()

    def irt(*words: str) -> Any:
        return CliRunner().invoke(app, ["items", *words])

    words = ("withdraw", "moved", "--from", "2099-12-01", "--by", "Ann", "--reason", "posted [online]")
    assert "with --yes" in str(irt(*words).exception)
    assert "must be a day such as" in str(
        irt("withdraw", "moved", "--from", "soon", "--by", "A", "--reason", "b").exception
    )
    done = irt(*words, "--yes")
    assert "recorded as decision 1 by Ann" in done.output
    listed = json.loads(irt("list", "--withdrawn", "--json").output)
    assert [(row["item_id"], row["status"]["state"]) for row in listed] == [("moved", "withdrawn")]
    assert all(part in irt("list").output for part in ("6 items, 1 of them withdrawn", "by Ann: posted [online]"))
    done = irt("restore", "moved", "--by", "Ben", "--reason", "reworded", "--yes")
    assert "moved is in use again from 2099-12-01 00:00 UTC on" in done.output
    assert json.loads(irt("list", "--withdrawn", "--json").output) == []
