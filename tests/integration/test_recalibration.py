"""Recalibration on a world with drift and a leak: pooled months, answers after the change, and the consequences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from irt_assets.calibration.linking_history import read_history
from irt_assets.common.partitions import Month
from irt_assets.decisions import release
from irt_assets.decisions.anchor_versions import change_anchors
from irt_assets.decisions.proposals import State, find_proposals, latest_waiting, parse_reference, proposals
from irt_assets.decisions.recalibration import last_item_changes, pool_answers, recalibrate
from irt_assets.drift.month import ScaleDrift, drift_of_month
from irt_assets.engines.em import EmEngine
from irt_assets.ledger.anchors import read_every_anchor
from irt_assets.ledger.values_with_errors import (
    compare_with_published,
    linked_window,
    set_in_force_with_errors,
)
from irt_assets.scales.scale import read_scales
from irt_assets.simulation.truth import Truth
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import template_copy
from tests.helpers.rooms import IN_TRANSACTION, MONTHS, SCALE, call, folder_store, rows, run_sql
from tests.helpers.sentences import refusal

FIRST, LAST = MONTHS
BOTH = f"{FIRST}:{LAST}"


@dataclass(frozen=True)
class FaultyBank:
    """Both months calibrated, published and judged; `items`: the drifted item and the leaked one."""

    database: Database
    store: FolderStore
    truth: Truth

    @property
    def items(self) -> tuple[str, str]:
        drifted, leaked = (fault.item_ids[0] for fault in self.truth.bank.faults)
        return drifted, leaked


@pytest.fixture
def faulty(
    postgres: EmbeddedPostgres, faulty: tuple[Settings, Truth, dict[str, list[ScaleDrift]]], tmp_path: Path
) -> Iterator[FaultyBank]:
    """A copy that the test may change."""
    with template_copy(postgres, "template_faulty", tmp_path) as settings:
        yield FaultyBank(Database(settings), folder_store(settings), faulty[1])


def test_drifted_item_is_estimated_only_on_answers_after_the_change(faulty: FaultyBank) -> None:
    drifted, leaked = faulty.items
    done = recalibrate(faulty.database, faulty.store, SCALE, FIRST, LAST, threads=1)
    after = datetime(2026, 7, 1, tzinfo=UTC)
    assert (done.months, done.passed_over) == (MONTHS, {})
    assert (done.changed[drifted], done.changed[leaked]) == (after, after)
    found, last = (
        {p.item_id: p for p in call(faulty.database, proposals, windows=[window])} for window in (BOTH, LAST)
    )
    assert set(found) == set(done.proposed)
    estimate = found[drifted].new
    truth = faulty.truth.bank.b[1][faulty.truth.bank.item_ids.index(drifted)]
    # Two and a half standard errors of 0.17. An estimate from both months would differ by 0.6.
    assert abs(estimate.b - truth) < 0.42
    assert estimate.b_se == pytest.approx(0.17, abs=0.02)
    assert found[drifted].n == last[drifted].n
    sound = [item for item in found if item in last and item not in done.changed]
    assert len(sound) > 10
    narrower = [found[item].new.b_se / last[item].new.b_se for item in sound]  # type: ignore[operator]
    assert np.median(narrower) < 0.9, "twice the answers: 0.71, and the linking's error on top"


def test_anchors_are_proposed_only_if_named(faulty: FaultyBank) -> None:
    anchor = rows(faulty.database, "SELECT min(item_id) FROM anchor_set")[0][0]
    assert anchor not in recalibrate(faulty.database, faulty.store, SCALE, LAST, LAST, threads=1).proposed
    named = recalibrate(faulty.database, faulty.store, SCALE, LAST, LAST, [anchor], threads=1)
    assert named.proposed == (anchor,)


def test_later_recalibration_of_a_window_supersedes_the_earlier_recalibration(faulty: FaultyBank) -> None:
    drifted, _ = faulty.items
    for _ in range(2):
        recalibrate(faulty.database, faulty.store, SCALE, FIRST, LAST, [drifted], threads=1)
    states = [p.state for p in call(faulty.database, proposals, windows=[BOTH], items=[drifted])]
    history = call(faulty.database, read_history, call(faulty.database, read_scales)[SCALE], LAST)
    assert states[-2:] == [State.SUPERSEDED, State.OPEN]
    assert [one.month for one in history] == [FIRST, LAST], "of months: the months together are not one"


def test_recalibrating_an_item_leaves_the_proposals_of_further_items_open(faulty: FaultyBank) -> None:
    drifted, _ = faulty.items
    everything = recalibrate(faulty.database, faulty.store, SCALE, FIRST, LAST, threads=1)
    recalibrate(faulty.database, faulty.store, SCALE, FIRST, LAST, [drifted], threads=1)
    recalibrate(faulty.database, faulty.store, SCALE, FIRST, FIRST, [drifted], threads=1)
    still = [p for p in call(faulty.database, proposals, windows=[BOTH]) if p.state is State.OPEN]
    assert sorted(p.item_id for p in still) == sorted(everything.proposed)
    assert [p.item_id for p in still if p.fit_id != everything.fit_id] == [drifted]


def test_recalibration_is_refused_if_the_anchors_change_during_the_fit(
    faulty: FaultyBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No transaction is open during the fit. The dropped anchor changes the linking, so no item may be proposed."""
    drifted, _ = faulty.items
    [(anchor,)] = rows(faulty.database, "SELECT min(item_id) FROM anchor_set")
    before = rows(faulty.database, "SELECT count(*) FROM item_parameter_proposal")
    calibrate, seen = EmEngine.calibrate, []

    def meanwhile(self: EmEngine, *args: Any, **others: Any) -> Any:
        seen.extend(rows(faulty.database, IN_TRANSACTION))
        change_anchors(faulty.database, "drop_anchor", SCALE, [anchor], LAST, by="Ann", reason="it leaked")
        return calibrate(self, *args, **others)

    monkeypatch.setattr(EmEngine, "calibrate", meanwhile)
    assert f"while {BOTH} was being fitted, the anchors changed" in refusal(
        recalibrate, faulty.database, faulty.store, SCALE, FIRST, LAST, [drifted], threads=1
    )
    assert seen == []
    assert rows(faulty.database, "SELECT count(*) FROM item_parameter_proposal") == before


def test_accepted_item_is_compared_with_its_new_value_and_its_trend_restarts(faulty: FaultyBank) -> None:
    """The item counts as published in May and decided on in June: July flags the leak but not the drift."""
    drifted, leaked = faulty.items
    query = "SELECT item_id FROM item_drift WHERE month = %s AND severity <> 'none'"
    assert {item for (item,) in rows(faulty.database, query, (LAST,))} >= {drifted, leaked}
    recalibrate(faulty.database, faulty.store, SCALE, LAST, LAST, [drifted], threads=1)
    run_sql(
        faulty.database, "UPDATE item_parameter_publication SET effective_from = '2026-06-01Z' WHERE rule = 'first'"
    )
    now = datetime(2026, 6, 20, tzinfo=UTC)
    name = parse_reference(f"{LAST}:{LAST}/{drifted}")
    release.accept(faulty.database, [name], by="Ann", reason="new text", effective_from=None, now=now)
    assert "was accepted by Ann" in refusal(
        release.accept, faulty.database, [name], by="Ben", reason="again", effective_from=None, now=now
    )
    drift_of_month(faulty.database, faulty.store, LAST)
    after = {item for (item,) in rows(faulty.database, query, (LAST,))}
    assert after & {drifted, leaked} == {leaked}
    with faulty.database.connect() as connection:
        scale = read_scales(connection)[SCALE]
        anchors = read_every_anchor(connection, scale.scale_id, scale.anchor_version)
        window = linked_window(connection, scale, LAST)
        at = set_in_force_with_errors(connection, scale, Month(LAST).start, anchors)
        earlier = compare_with_published(window, anchors, at, Month(FIRST).end - timedelta(days=1))
        assert drifted not in earlier.item_ids, "no month before the decision counts for the trend"
        assert drifted in compare_with_published(window, anchors, at, Month(LAST).start).item_ids
        assert drifted not in [p.item_id for p in latest_waiting(proposals(connection))]
        assert find_proposals(connection, [name])[0].state is State.ACCEPTED
    closed = rows(faulty.database, "SELECT count(*) FROM drift_alerts WHERE item_id = %s", (drifted,))
    assert closed == [(0,)], "the month that opened its alert, judged again, flags it no more"


@pytest.mark.parametrize(
    ("first", "last", "items", "reason"),
    [
        (
            "2026-01",
            "2026-02",
            (),
            "no month of 2026-01:2026-02 is green: 2026-01 has not been through its publication step",
        ),
        (LAST, FIRST, (), "lies after"),
        ("June", "2026-07", (), "needs two months"),
        (FIRST, LAST, ("nowhere",), "nowhere was not answered"),
    ],
)
def test_recalibration_of_an_invalid_window_is_refused(
    faulty: FaultyBank, first: str, last: str, items: tuple[str, ...], reason: str
) -> None:
    assert re.search(reason, refusal(recalibrate, faulty.database, faulty.store, SCALE, first, last, items, threads=1))


# -- which answers count -----------------------------------------------------------------------------

ALERT = """INSERT INTO drift_alerts (scale_id, item_id, kind, severity, opened_month, closed_month)
           VALUES (%s, %s, 'drift', 'high', %s, %s)"""
ONSET = """INSERT INTO item_drift (month, scale_id, item_id, engine, severity, details)
           VALUES (%s, %s, %s, 'em', 'high', jsonb_build_object('change', jsonb_build_object('onset', %s::text)))"""


@pytest.mark.parametrize(
    ("opened", "closed", "onset", "since"),
    [
        ("2026-02", None, None, "2026-02-01"),
        ("2026-02", None, "2026-02-11", "2026-02-11"),
        ("2026-02", None, "2026-01-20", "2026-02-01"),
        ("2026-02", "2026-03", "2026-02-11", "2026-03-01"),
        ("2026-02", "2026-05", None, "2026-02-01"),
        ("2026-01", None, None, None),
        ("2026-04", None, None, None),
    ],
    ids=["flagged", "leak", "onset before", "and back", "and back later", "at the beginning", "after the window"],
)
def test_answers_count_from_the_last_change_within_the_window(
    database: Database, opened: str, closed: str | None, onset: str | None, since: str | None
) -> None:
    run_sql(database, ALERT, (SCALE, "i", opened, closed))
    run_sql(database, ONSET, (opened, SCALE, "i", onset))
    found = call(database, last_item_changes, SCALE, "2026-01", "2026-03")
    assert {item: f"{at:%Y-%m-%d}" for item, at in found.items()} == ({} if since is None else {"i": since})


def test_pooling_excludes_earlier_answers_and_separates_the_months_of_a_learner() -> None:
    times = [datetime(2026, month, 5, tzinfo=UTC) for month in (1, 2, 2)]
    table = pa.table(
        {
            "learner_key": [1, 1, 2],
            "item_id": ["i", "i", "j"],
            "completed_at": pa.array(times, pa.timestamp("us", "UTC")),
        }
    )
    assert pool_answers(table, {})["learner_key"].to_pylist() == ["2026-01/1", "2026-02/1", "2026-02/2"]
    remaining = pool_answers(table, {"i": datetime(2026, 2, 5, tzinfo=UTC), "j": datetime(2026, 1, 1, tzinfo=UTC)})
    assert remaining["learner_key"].to_pylist() == ["2026-02/1", "2026-02/2"]
