"""Anchors that are dropped by decision: later windows do not use them, and the scale stays the same."""

from __future__ import annotations

import re
from typing import Any

import pytest

from irt_assets.calibration.group_shift import measure_month
from irt_assets.calibration.month import link_month
from irt_assets.common.partitions import Month
from irt_assets.decisions.anchor_versions import change_anchors, preview_change
from irt_assets.decisions.rule_trial import try_anchors
from irt_assets.drift.month import drift_of_month
from irt_assets.gates.gates import SET_GATES
from irt_assets.invariants.invariant import InvariantContext, evaluate
from irt_assets.invariants.publications import anchors_change_by_decision_alone
from irt_assets.ledger.anchors import anchor_hash
from irt_assets.ledger.publications import in_force
from irt_assets.scales.scale import read_scales
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.decided import WITHDRAWN
from tests.helpers.rooms import MONTHS, SCALE, FolderStore, call, folder_store, rows, run_sql

FIRST, LAST = MONTHS
LATER = Month(LAST).end


@pytest.fixture
def bank(published: Settings) -> Database:
    return Database(published)


def anchor(bank: Database) -> str:
    """An anchor that linked both months."""
    used = [
        set(constants["anchors_used"])
        for (constants,) in rows(
            bank, "SELECT model_spec->'linking_constants' FROM mirt_fit_meta WHERE superseded_at IS NULL"
        )
    ]
    return min(set.intersection(*used))


def drop(bank: Database, items: list[str], month: str) -> Any:
    return change_anchors(bank, "drop_anchor", SCALE, items, month, by="Ann", reason="its text was changed")


def linked_with(bank: Database, month: str) -> dict[str, Any]:
    (found,) = rows(
        bank,
        """SELECT model_spec->'linking_constants', anchor_hash FROM mirt_fit_meta
           WHERE window_start = %s AND superseded_at IS NULL""",
        (Month(month).start,),
    )
    return {**found[0], "hash": found[1]}


def test_dropped_anchor_is_not_used_from_its_month_on_and_earlier_months_are_unchanged(bank: Database) -> None:
    item = anchor(bank)
    before = {month: linked_with(bank, month) for month in MONTHS}
    done = drop(bank, [item], LAST)
    assert (done.n_left, done.stale) == (14, (LAST,))
    with bank.connect() as connection:
        now_in_force = in_force(connection, SCALE, LATER).set_hash
        versions = [read_scales(connection, Month(m).start)[SCALE].anchor_version for m in MONTHS]
        assert (versions, read_scales(connection)[SCALE].anchor_version) == ([1, 2], 2)
        hashes = [anchor_hash(connection, SCALE, version) for version in versions]
    assert hashes[0] == before[FIRST]["hash"], "not stale"
    assert hashes[1] != before[LAST]["hash"], "stale, until it is linked again"
    for month in MONTHS:
        link_month(bank, month, "run again")
    after = {month: linked_with(bank, month) for month in MONTHS}
    assert after[FIRST] == before[FIRST]
    used = set(before[LAST]["anchors_used"])
    assert (set(after[LAST]["anchors_used"]), after[LAST]["hash"]) == (used - {item}, hashes[1])
    for reported, stored in ((done.before, before), (done.after, after)):
        assert (reported.slope, reported.intercept) == (stored[LAST]["slope"], stored[LAST]["intercept"])
    # The other fourteen anchors agree; a standard error of the intercept is about 0.07.
    assert abs(done.mean_shift) < 0.07
    assert call(bank, in_force, SCALE, LATER).set_hash == now_in_force


def test_drift_compares_with_fits_that_were_linked_by_a_dropped_anchor(bank: Database) -> None:
    """The values in force come from the first month, whose linking used the anchor."""
    store = folder_store_of(bank)
    (before,) = drift_of_month(bank, store, LAST)
    drop(bank, [anchor(bank)], LAST)
    link_month(bank, LAST, "run again")
    measure_month(bank, LAST)
    (drift,) = drift_of_month(bank, store, LAST)
    assert drift.drift.item_ids == before.drift.item_ids


def folder_store_of(bank: Database) -> FolderStore:
    return folder_store(bank.settings)


def violations(bank: Database) -> list[str]:
    with bank.connect() as connection:
        look = InvariantContext(connection, folder_store_of(bank), LATER, ())
        (verdict,) = evaluate(look, [anchors_change_by_decision_alone])
        return [violation.observed for violation in verdict.violations]


@pytest.mark.parametrize(
    "plant",
    [
        (
            "UPDATE anchor_set SET parameters = parameters || jsonb_build_object('b', b + 0.1)"
            " WHERE version = 1 AND item_id = (SELECT min(item_id) FROM anchor_set)"
        ),
        "DELETE FROM anchor_set WHERE version = 2 AND item_id = (SELECT max(item_id) FROM anchor_set)",
        "DELETE FROM release_decision",
    ],
    ids=["a value changed", "an anchor left", "no decision"],
)
def test_silent_change_of_the_anchors_violates_an_invariant(bank: Database, plant: str) -> None:
    drop(bank, [anchor(bank)], LAST)
    run_sql(bank, plant)
    assert violations(bank)


@pytest.mark.parametrize(
    ("items", "month", "reason"),
    [
        (["nowhere"], LAST, "no anchors of scale default in 2026-07: nowhere"),
        ([], LAST, "no item was named"),
        (["A01"], "July", "from a month on"),
    ],
)
def test_drop_of_an_invalid_anchor_or_month_is_refused(
    bank: Database, items: list[str], month: str, reason: str
) -> None:
    with pytest.raises(PermanentFailure, match=reason):
        drop(bank, items, month)
    assert rows(bank, "SELECT max(version) FROM anchor_set") == [(1,)]


def test_drop_is_refused_if_too_few_anchors_remain(bank: Database) -> None:
    every = [item for (item,) in rows(bank, "SELECT item_id FROM anchor_set ORDER BY 1")]
    with pytest.raises(PermanentFailure, match="4 anchors would remain, and linking needs 5"):
        drop(bank, every[:-4], LAST)
    few = call(bank, preview_change, "drop_anchor", SCALE, every[:-5], LAST)
    assert few.n_left == 5


def test_anchor_versions_are_in_order_of_time_and_a_second_drop_is_refused(bank: Database) -> None:
    item = anchor(bank)
    drop(bank, [item], LAST)
    with pytest.raises(PermanentFailure, match=f"no anchors of scale default in {LAST}: {item}"):
        drop(bank, [item], LAST)
    with pytest.raises(PermanentFailure, match="change from 2026-07 on"):
        drop(bank, [item], FIRST)
    assert (drop(bank, [anchor_other_than(bank, item)], LAST).n_left, violations(bank)) == (13, [])


def restore(bank: Database, items: list[str], month: str) -> Any:
    return change_anchors(bank, "restore_anchor", SCALE, items, month, by="Ben", reason="the text was the old one")


def values_of(bank: Database, version: int) -> list[tuple[Any, ...]]:
    return rows(
        bank,
        """SELECT item_id, a, b, c, a_se, b_se, cov_ab, cov, errors_assumed, topic_id, anchor_hash FROM anchor_set
           WHERE version = %s ORDER BY item_id""",
        (version,),
    )


def test_restored_anchors_have_their_frozen_values(bank: Database) -> None:
    item = anchor(bank)
    drop(bank, [item], LAST)
    assert violations(bank) == []
    link_month(bank, LAST, "without it")
    done = restore(bank, [item], LAST)
    assert (done.n_left, done.stale) == (15, (LAST,))
    assert f"{item} back among the anchors from {LAST} on, 15 again, as they were frozen" in done.sentence
    assert done.sentence.endswith(f"to be calibrated again: {LAST}")
    assert (values_of(bank, 3), len(values_of(bank, 2)), violations(bank)) == (
        values_of(bank, 1),  # the set that was frozen first, with the same hash
        14,  # earlier versions are kept
        [],
    )
    recorded = "SELECT month, item_id, decision, decided_by, effective_from FROM release_decision ORDER BY decision_id"
    assert (rows(bank, recorded), drop(bank, [item], LAST).n_left) == (
        [
            (LAST, item, "drop_anchor", "Ann", Month(LAST).start),
            (LAST, item, "restore_anchor", "Ben", Month(LAST).start),
        ],
        14,
    )


def test_restored_set_leaves_months_linked_to_the_same_anchors_current(bank: Database) -> None:
    item = anchor(bank)
    drop(bank, [item], LAST)
    done = restore(bank, [item], LAST)
    assert (done.stale, "no month has to be calibrated again" in done.sentence) == ((), True)
    assert call(bank, anchor_hash, SCALE, 3) == linked_with(bank, LAST)["hash"]


def test_restoration_of_an_anchor_in_force_or_a_withdrawn_item_is_refused(bank: Database) -> None:
    item, other = anchor(bank), anchor_other_than(bank, anchor(bank))
    drop(bank, [item], LAST)
    with pytest.raises(
        PermanentFailure, match=f"no dropped anchors of scale default in {LAST}: {other}; it has {item}"
    ):
        restore(bank, [item, other], LAST)
    run_sql(
        bank,
        WITHDRAWN,
        (item, "2026-01-01"),
    )
    with pytest.raises(PermanentFailure, match=f"out of use: {item}; `irt items restore`"):
        restore(bank, [item], LAST)


def test_anchors_dropped_before_a_model_change_cannot_be_restored(bank: Database) -> None:
    """Their values belong to the former model."""
    item = anchor(bank)
    drop(bank, [item], LAST)
    run_sql(
        bank,
        """INSERT INTO scale_decision (scale_id, subject, value, effective_from, decided_by, reason, decided_at)
           SELECT scale_id, 'model', '3pl', effective_from, 'Ann', 'guessing', frozen_at FROM anchor_set
           WHERE version = 2 LIMIT 1""",
    )
    with pytest.raises(PermanentFailure, match="it has none"):
        restore(bank, [item], LAST)


def test_anchor_restored_without_a_decision_violates_an_invariant(bank: Database) -> None:
    item = anchor(bank)
    drop(bank, [item], LAST)
    restore(bank, [item], LAST)
    run_sql(bank, "DELETE FROM release_decision WHERE decision = 'restore_anchor'")
    (found,) = violations(bank)
    assert f"version 3: {item}" in found


def test_trial_of_an_anchor_change_writes_no_rows(bank: Database) -> None:
    item = anchor(bank)
    tables = "SELECT count(*), max(version) FROM anchor_set", "SELECT fit_id, anchor_hash FROM mirt_fit_meta ORDER BY 1"
    before = [rows(bank, table) for table in tables]
    one = call(bank, preview_change, "drop_anchor", SCALE, [item], LAST)
    assert (try_anchors(bank, folder_store_of(bank), one), [rows(bank, table) for table in tables]) == (
        {LAST: f"would be green: all {len(SET_GATES)} set gates pass"},
        before,
    )


def test_trial_of_an_anchor_change_names_the_gate_that_would_hold_the_month(bank: Database) -> None:
    """Half of the anchors are frozen one logit too hard: the month is red with these anchors and green without them."""
    half = [item for (item,) in rows(bank, "SELECT item_id FROM anchor_set ORDER BY item_id LIMIT 7")]
    drop(bank, half, LAST)
    link_month(bank, LAST, "without them")
    run_sql(
        bank,
        "UPDATE anchor_set SET parameters = parameters || jsonb_build_object('b', b + 1)"
        " WHERE version = 1 AND item_id = ANY(%s)",
        (half,),
    )
    back = call(bank, preview_change, "restore_anchor", SCALE, half, LAST)
    (effect,) = try_anchors(bank, folder_store_of(bank), back).values()
    assert re.match("would be red: .*anchors_agree: ", effect, re.DOTALL), effect


def anchor_other_than(bank: Database, item: str) -> str:
    return str(rows(bank, "SELECT max(item_id) FROM anchor_set WHERE item_id <> %s", (item,))[0][0])
