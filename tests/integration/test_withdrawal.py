"""Items that are out of use: from a date on, for the month, the night, the θ API and the KPIs alike."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from irt_assets.abilities.batch import judge_until, measure, measure_at, stale_months
from irt_assets.abilities.online import read_measures, update
from irt_assets.cli import app
from irt_assets.common.partitions import Month
from irt_assets.decisions.anchor_versions import change_anchors
from irt_assets.decisions.exports import read_export
from irt_assets.decisions.proposals import find_proposals, latest_waiting, proposals
from irt_assets.decisions.withdrawal import next_day, restore, withdraw
from irt_assets.drift.checks import settled_items
from irt_assets.kpis.ability import abilities
from irt_assets.ledger.publications import in_force
from irt_assets.responses.item_status import Status, item_status, read_withdrawals
from irt_assets.responses.scales import read_scales
from irt_assets.responses.scored_answers import scored_answers
from resources.cluster.relational import on_postgres
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.settings import get_settings
from tests.helpers.rooms import SCALE, add_attempts, attempt, rows
from tests.helpers.waiting_decision import FEB, MOVED, NOW, bank
from tests.integration.test_online_theta import END, LATER, MONTH, SAME, asked

__all__ = ["bank"]  # a fixture
SINCE = END - timedelta(days=5)
BEFORE = SINCE - timedelta(days=3)
LEAKED = {"by": "Ann", "reason": "it was posted", "now": BEFORE}


def free_items(database: Database) -> list[str]:
    """Two published items, made ordinary items: every published item of this world is an anchor."""
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


def test_answers_from_the_date_on_count_nowhere_and_earlier_ones_everywhere(begun: Database) -> None:
    gone, kept = free_items(begun)
    add_attempts(
        begun,
        [
            attempt("early", gone, SINCE - timedelta(microseconds=1)),
            attempt("early", kept, SINCE - timedelta(days=1)),
            attempt("late", gone, SINCE),
            attempt("late", kept, SINCE),
            attempt("only", gone, SINCE + timedelta(hours=1)),
        ],
    )
    measure(begun, MONTH, "made before")
    measure(begun, LATER, "in use")
    in_use, made_before = monthly(begun), monthly(begun, MONTH)
    assert [in_use[user][2] for user in ("early", "late", "only")] == [2, 2, 1]
    with begun.connect() as connection:
        hashed = in_force(connection, SCALE, END).set_hash
    withdraw(begun, [gone], since=SINCE, **LEAKED)
    judge_until(begun, END)
    with begun.connect() as connection:
        assert stale_months(connection) == {}, "months that are made stay as they are"
        assert in_force(connection, SCALE, END).set_hash == hashed
        measure_at(connection, END, "nightly", "night")
        published = {SCALE: in_force(connection, SCALE, END)}
        answers = on_postgres(connection)(scored_answers(END - timedelta(days=365), END))
        kpi = abilities([answers], END, read_scales(connection), published).set_index("user_id")
    measure(begun, LATER, "withdrawn")
    measure(begun, MONTH, "made again")
    out = monthly(begun)
    assert monthly(begun, MONTH) == made_before
    assert (out["early"], out["late"][2], out.get("only")) == (in_use["early"], 1, None)
    assert [asked(begun, "only"), asked(begun, "late", now=SINCE - timedelta(hours=1))] == [{}, {}]
    nightly = rows(begun, "SELECT user_id, theta, se, n_items FROM mirt_ability WHERE kind = 'nightly' ORDER BY 1")
    assert {user: (theta, se, n) for user, theta, se, n in nightly} == out
    assert set(kpi.index) == set(out)
    changed = [user for user in in_use if user in out and out[user] != in_use[user]]
    for user in ["early", "late", *changed[:20], *list(out)[:20]]:
        online = asked(begun, user)[SCALE]
        assert (online.theta, online.se, online.n_items) == pytest.approx(out[user], abs=SAME, rel=0)
    for user in ("early", "late"):
        assert (kpi.theta[user], kpi.se[user]) == pytest.approx(out[user][:2], abs=SAME, rel=0)
    assert "late" in changed


def test_answers_given_meanwhile_do_not_count_after_the_item_is_back(begun: Database) -> None:
    gone = free_items(begun)[0]
    back = SINCE + timedelta(days=2)
    add_attempts(begun, [attempt("meanwhile", gone, SINCE), attempt("again", gone, back)])
    withdraw(begun, [gone], since=SINCE, **LEAKED)
    restore(begun, [gone], since=back, by="Ben", reason="reworded", now=BEFORE)
    measure(begun, LATER, "run")
    assert monthly(begun)["again"][2] == 1
    assert "meanwhile" not in monthly(begun)
    assert [asked(begun, user) == {} for user in ("meanwhile", "again")] == [True, False]
    with begun.connect() as connection:
        states = [item_status(connection, at).get(gone) for at in (BEFORE, SINCE, back)]
    assert [one and one.state for one in states] == [None, "withdrawn", "restored"]


def test_what_the_api_holds_in_memory_knows_of_withdrawals_to_come(begun: Database) -> None:
    """Read the evening before, it counts right when the day begins."""
    gone = free_items(begun)[0]
    add_attempts(begun, [attempt("night owl", gone, SINCE + timedelta(seconds=1))])
    withdraw(begun, [gone], since=SINCE, **LEAKED)
    with begun.connect() as connection:
        measures = read_measures(connection, SINCE - timedelta(seconds=20))
        assert update(connection, measures, "night owl", 30, SINCE + timedelta(seconds=5)) == {}


# -- deciding ----------------------------------------------------------------------------------------


def taken(database: Database, *items: str, **others: Any) -> list[Status]:
    return withdraw(database, items or ("moved",), **{"by": "Ann", "reason": "it leaked", "now": NOW} | others)


def brought_back(database: Database, *items: str, **others: Any) -> list[Status]:
    return restore(database, items or ("moved",), **{"by": "Ben", "reason": "reworded", "now": NOW} | others)


def refused(act: Any, database: Database, *items: str, **others: Any) -> str:
    query = "SELECT * FROM item_status ORDER BY status_id"
    before = rows(database, query)
    with pytest.raises(PermanentFailure) as told:
        act(database, *items, **others)
    assert rows(database, query) == before
    return str(told.value)


def test_a_withdrawn_item_asks_for_nothing_and_its_values_stay_with_its_status(bank: Database) -> None:
    (status,) = taken(bank)
    assert status.effective_from == datetime(2026, 3, 11, tzinfo=UTC) == next_day(NOW)
    with bank.connect() as connection:
        assert latest_waiting(proposals(connection)) == []
        assert "it leaked" in find_proposals(connection, [MOVED])[0].cautions[-1]
        assert settled_items(connection, FEB)[SCALE, "moved"] == "withdrawn from 2026-03-11 on by Ann"
        on_the_day = read_export(connection, "parameters", status.effective_from).set_index("item_id")
        before = read_export(connection, "parameters", NOW).set_index("item_id")
    columns = ["status", "withdrawn_because", "withdrawn_from", "b"]
    said = ["withdrawn", "it leaked", status.effective_from, before.b["moved"]]
    assert on_the_day.loc["moved", columns].tolist() == said
    assert (before.status["moved"], on_the_day.status["still"]) == ("in use", "in use")
    brought_back(bank)
    with bank.connect() as connection:
        assert [str(p.reference) for p in latest_waiting(proposals(connection))] == [str(MOVED)]


def test_who_restores_before_the_day_leaves_no_stretch(bank: Database) -> None:
    day = datetime(2026, 12, 1, tzinfo=UTC)
    taken(bank, since=day)
    (status,) = brought_back(bank)
    assert (status.state, status.effective_from) == ("restored", day)
    with bank.connect() as connection:
        assert read_withdrawals(connection).stretches == {}
    taken(bank, since=day)
    with bank.connect() as connection:
        assert read_withdrawals(connection).stretches == {"moved": ((day, None),)}


def test_what_cannot_be_decided_says_why(bank: Database) -> None:
    assert "is not in the future" in refused(taken, bank, since=NOW)
    assert "is not in the future" in refused(taken, bank, since=NOW + timedelta(seconds=30)), (
        "servers read it in a minute"
    )
    assert "the bank has no item 'Moved' (ids are case-sensitive)" in refused(taken, bank, "Moved", "still")
    assert "irt release drop-anchors K1" in refused(taken, bank, "moved", "K1")
    assert "a decision needs a reason" in refused(taken, bank, reason="  ")
    assert "moved is not withdrawn" in refused(brought_back, bank)
    taken(bank, since=datetime(2026, 12, 1, tzinfo=UTC))
    assert "moved is withdrawn from 2026-12-01 on by Ann: it leaked" in refused(taken, bank)
    early = refused(brought_back, bank, since=datetime(2026, 11, 1, tzinfo=UTC))
    assert "moved is withdrawn from 2026-12-01 on: name that day or a later one" in early


def test_the_command_asks_decides_and_lists(bank: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", bank.url)
    get_settings.cache_clear()

    def irt(*words: str) -> Any:
        return CliRunner().invoke(app, ["items", *words])

    words = ("withdraw", "moved", "--from", "2099-12-01", "--by", "Ann", "--reason", "posted [online]")
    assert "with --yes" in str(irt(*words).exception)
    assert "wants a day like" in str(irt("withdraw", "moved", "--from", "soon", "--by", "A", "--reason", "b").exception)
    done = irt(*words, "--yes")
    assert "moved: withdrawn from 2099-12-01 on by Ann: posted [online]" in done.output
    listed = json.loads(irt("list", "--withdrawn", "--json").output)
    assert [(row["item_id"], row["status"]["state"]) for row in listed] == [("moved", "withdrawn")]
    assert "6 items, 1 of them withdrawn" in irt("list").output
    done = irt("restore", "moved", "--by", "Ben", "--reason", "reworded", "--yes")
    assert "moved: restored from 2099-12-01 on by Ben: reworded" in done.output
    assert json.loads(irt("list", "--withdrawn", "--json").output) == []
