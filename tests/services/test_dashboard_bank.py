"""The dashboard's bank, its items and its downloads: the numbers are the rooms' own, whatever the address holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from irt_assets.calibration.bank import bank_items
from irt_assets.calibration.proposals import asking, proposals, waiting_proposals
from irt_assets.calibration.publication import publications_in_force
from irt_assets.drift.month import ScaleDrift
from irt_assets.psychometrics.truth import Truth
from irt_assets.reports.drift_facts import observed_of
from irt_assets.reports.drift_rows import Curve
from irt_assets.reports.item_facts import item_facts, observed_in
from irt_assets.responses.scales import read_scales
from irt_assets.responses.snapshot import read_snapshot, snapshot_of
from irt_assets.responses.window import scored_responses_of
from resources.database import Database
from resources.settings import Settings
from tests.integration import rooms
from tests.integration.conftest import faulty, small_truth  # noqa: F401 - fixtures

Faulty = tuple[Settings, Truth, dict[str, list[ScaleDrift]]]
NOW = datetime(2026, 12, 1, tzinfo=UTC)


def test_what_waits_is_what_asks_of_all_that_is_proposed(faulty: Faulty) -> None:  # noqa: F811
    with Database(faulty[0]).connect() as connection:
        found, wanted = waiting_proposals(connection), asking(proposals(connection))
        assert [replace(p, wabc=None) for p in found] == [replace(p, wabc=None) for p in wanted] != []
        assert [p.wabc for p in found] == pytest.approx([p.wabc for p in wanted])  # up to the order of summing
        of_one = waiting_proposals(connection, rooms.SCALE, [found[0].item_id])
        assert [p.reference for p in of_one] == [found[0].reference]
        assert waiting_proposals(connection, "elsewhere") == []


def test_the_bank_is_what_is_in_force_and_what_drifted(faulty: Faulty) -> None:  # noqa: F811
    with Database(faulty[0]).connect() as connection:
        scale = read_scales(connection)[rooms.SCALE]
        found = bank_items(connection, scale, NOW)
        in_force = publications_in_force(connection, scale.scale_id, NOW)
        bank = [i for (i,) in connection.execute("SELECT item_id FROM question WHERE scale_id = %s", (rooms.SCALE,))]
        flagged = {
            item
            for (item,) in connection.execute(
                "SELECT item_id FROM item_drift WHERE month = %s AND severity <> 'none'", (rooms.MONTHS[1],)
            )
        }
    assert [item.item_id for item in found] == sorted(bank)
    assert {i.item_id: (i.a, i.b, i.a_se, i.b_se) for i in found if i.since} == {
        row["item_id"]: (row["a"], row["b"], row["a_se"], row["b_se"]) for row in in_force
    }
    assert {item.item_id for item in found if item.drifted} == flagged != set()


@pytest.mark.parametrize("month", rooms.MONTHS)
def test_observed_proportions_are_those_of_the_whole_snapshot(faulty: Faulty, month: str) -> None:  # noqa: F811
    settings = faulty[0]
    store = rooms.folder_store(settings)
    with Database(settings).connect() as connection:
        scale = read_scales(connection)[rooms.SCALE]
        item = waiting_proposals(connection)[0].item_id
        facts = item_facts(connection, scale, item, NOW)
        assert facts is not None
        fitted = next(one for one in facts.months if one.month == month)
        seen = observed_in(connection, store, facts, fitted)
        snapshot = snapshot_of(connection, month, fitted.snapshot_hash)
        assert snapshot is not None
        responses, _ = scored_responses_of(read_snapshot(store, snapshot), scale.scale_id)
        rows = connection.execute("SELECT item_id, params FROM mirt_item_params WHERE fit_id = %s", (fitted.fit_id,))
        wanted = observed_of(responses, {name: Curve.of(of) for name, of in rows}, fitted.latent, [item])[item]
    assert seen is not None
    assert seen.n.tolist() == wanted.n.tolist()
    assert seen.n.sum() == fitted.n
    np.testing.assert_allclose(seen.theta, wanted.theta, atol=1e-12)  # up to the order of summing
    np.testing.assert_array_equal(seen.proportion, wanted.proportion)
