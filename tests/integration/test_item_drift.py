"""Drift of a month: planted changes are found, told apart and stored; alerts open and close with the months."""

from __future__ import annotations

import json

import dagster as dg
import numpy as np

from irt_assets.common.partitions import Month
from irt_assets.drift.alerts import episodes
from irt_assets.drift.assets import DRIFT_JOB
from irt_assets.drift.checks import WHAT_TO_DO
from irt_assets.drift.information import judge_information
from irt_assets.drift.month import ScaleDrift, drift_of_month
from irt_assets.ledger.values_with_errors import frozen_anchors, in_force_with_errors
from irt_assets.psychometrics.simulation.truth import Truth
from irt_assets.responses.scales import read_scales
from jobs.watching.alerts import check_alert
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import MONTHS, SCALE, folder_store, rows, run_sql
from tests.integration.graph import Graph, checks


def planted(truth: Truth) -> dict[str, str]:
    """Kind by item."""
    return {item: fault.kind.replace("_", " ") for fault in truth.bank.faults for item in fault.item_ids}


def run_drift(settings: Settings, month: str) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return Graph(settings, instance).run(month, DRIFT_JOB)


def test_planted_changes_are_flagged_and_told_apart(
    faulty: tuple[Settings, Truth, dict[str, list[ScaleDrift]]],
) -> None:
    settings, truth, _ = faulty
    flagged = dict(
        rows(
            Database(settings),
            "SELECT item_id, details->'change'->>'kind' FROM item_drift WHERE month = %s AND severity <> 'none'",
            (MONTHS[1],),
        )
    )
    wanted = planted(truth)
    assert {item: flagged.get(item) for item in wanted} == wanted
    assert len(set(flagged) - set(wanted)) <= 1, "at q < 0.05 a false one happens"


def test_its_check_names_the_items_and_so_does_its_alert(
    faulty: tuple[Settings, Truth, dict[str, list[ScaleDrift]]],
) -> None:
    settings, truth, _ = faulty
    far = checks(run_drift(settings, MONTHS[1]))["no_item_drifted_far"]
    assert not far.passed
    alert = check_alert(far)
    assert set(planted(truth)) <= set(alert.subjects)
    assert (alert.kind, alert.partition, alert.severity) == ("items", MONTHS[1], "error")
    assert alert.fix == WHAT_TO_DO["high"]


def test_the_first_month_compares_the_anchors_alone(
    faulty: tuple[Settings, Truth, dict[str, list[ScaleDrift]]],
) -> None:
    """Everything else is first published at its end."""
    settings, truth, _ = faulty
    compared = {
        item for (item,) in rows(Database(settings), "SELECT item_id FROM item_drift WHERE month = %s", MONTHS[:1])
    }
    anchors = {item for item, is_anchor in zip(truth.bank.item_ids, truth.bank.anchor, strict=True) if is_anchor}
    assert compared == anchors


def test_judging_a_month_again_changes_nothing(faulty: tuple[Settings, Truth, dict[str, list[ScaleDrift]]]) -> None:
    settings, _, _ = faulty
    database, store = Database(settings), folder_store(settings)
    query = "SELECT month, item_id, delta_b, q_value, wabc, severity, details FROM item_drift ORDER BY 1, 2"
    alerts = (
        "SELECT alert_id, item_id, kind, severity, opened_month, closed_month, opened_at FROM drift_alerts ORDER BY 1"
    )
    before = rows(database, query), rows(database, alerts)
    assert before[1], "there is something to keep"
    for month in reversed(MONTHS):
        drift_of_month(database, store, month)
    assert (rows(database, query), rows(database, alerts)) == before


def test_a_month_that_was_not_linked_says_so_and_stores_nothing(world: Settings) -> None:
    database = Database(world)
    run_sql(database, "DELETE FROM item_drift")
    (judged,) = drift_of_month(database, folder_store(world), MONTHS[0])
    assert "no converged fit" in judged.why
    assert rows(database, "SELECT count(*) FROM item_drift") == [(0,)]


def test_an_alert_lasts_from_the_first_flagged_month_to_the_first_sound_one() -> None:
    judged = [
        ("a", "2026-01", "medium", {}),
        ("a", "2026-03", "high", {"change": {"kind": "leak"}}),
        ("a", "2026-04", "none", {}),
        ("a", "2026-05", "medium", {}),
        ("b", "2026-01", "none", {}),
    ]
    found = [(e.item_id, e.opened_month, e.closed_month, e.severity, e.kind) for e in episodes(judged)]
    assert found == [("a", "2026-01", "2026-04", "high", "leak"), ("a", "2026-05", None, "medium", "drift")]


def test_items_published_as_another_model_are_compared_by_their_curves_and_named(
    faulty: tuple[Settings, Truth, dict[str, list[ScaleDrift]]],
) -> None:
    """The bank says that two anchors were a 3PL's; what an item was published as by a month is that month's model."""
    settings, _, _ = faulty
    database, store = Database(settings), folder_store(settings)
    named = sorted(item for (item,) in rows(database, "SELECT item_id FROM anchor_set ORDER BY item_id LIMIT 2"))
    bank = rows(database, "SELECT meta::text, item_id FROM question WHERE item_id = ANY(%s)", (named,))
    run_sql(
        database,
        """UPDATE question SET meta = jsonb_set(meta, '{irt,model}', '"3pl"') WHERE item_id = ANY(%s)""",
        (named,),
    )
    model_before = """UPDATE mirt_item_params SET params = jsonb_set(params, '{model}', %s::jsonb)
                      WHERE fit_id IN (SELECT fit_id FROM mirt_fit_meta WHERE window_start < '2026-06-15')"""
    run_sql(database, model_before, ('"rasch"',))
    try:
        (judged,) = drift_of_month(database, store, MONTHS[1])
        assert run_drift(settings, MONTHS[1]).success, "the page shows items that have no change of b"
        with database.connect() as connection:
            information = judge_information(connection, store, MONTHS[1], read_scales(connection)[SCALE])
        stored = {
            item: (changes, details)
            for item, *changes, details in rows(
                database,
                "SELECT item_id, delta_a, delta_b, delta_c, p_value, details FROM item_drift WHERE month = %s",
                MONTHS[1:],
            )
        }
    finally:
        for meta, item in bank:
            run_sql(database, "UPDATE question SET meta = %s::jsonb WHERE item_id = %s", (meta, item))
        run_sql(database, model_before, ('"2pl"',))
        drift_of_month(database, store, MONTHS[1])
    across = judged.drift.across_models
    assert sorted(item for item, models in across.items() if models == ("3pl", "2pl")) == named
    assert ("rasch", "2pl") in across.values(), "first published by the first month"
    (delta_a, delta_b, delta_c, p), details = stored[named[0]]
    assert details["across_models"] == "compared by curves: published as 3PL, fitted as 2PL"
    assert (delta_a, delta_b, delta_c, details["limits"]) == (None, None, None, None)
    assert details["curves"]["df"] == 2
    assert 0 <= p <= 1
    assert "trend" not in details
    assert set(across).isdisjoint(information.found.losses.item_ids)
    own = next(item for item in judged.drift.item_ids if item not in across)
    assert "across_models" not in stored[own][1]
    assert stored[own][0][1] is not None


def test_what_a_published_c_errs_with_is_read_from_the_fit_that_it_came_from(
    faulty: tuple[Settings, Truth, dict[str, list[ScaleDrift]]],
) -> None:
    """Of values that a month published, of that month; of frozen anchors, of the window whose values they are."""
    settings, _, _ = faulty
    known, start = [0.01, -0.02, 0.3], Month(MONTHS[1]).start
    with Database(settings).connect() as connection:
        scale = read_scales(connection)[SCALE]
        anchors = frozen_anchors(connection, scale)
        assert anchors.further_cov is None, "these are the bank's"
        first = anchors.item_ids[0]
        connection.execute(
            """UPDATE mirt_item_params SET params = params || jsonb_build_object('cov_logit_c', %s::jsonb)
               WHERE fit_id IN (SELECT fit_id FROM mirt_fit_meta WHERE window_start < %s)""",
            (json.dumps(known), start),
        )
        in_force = in_force_with_errors(connection, scale, start, anchors).published
        connection.execute("UPDATE mirt_fit_meta SET kind = 'origin', model = '3pl' WHERE window_start < %s", (start,))
        connection.execute(
            """UPDATE mirt_item_params SET params = params || jsonb_build_object('a', %s::float, 'b', %s::float)
               WHERE item_id = %s""",
            (float(anchors.a[0]), float(anchors.b[0]), first),
        )
        of_window = frozen_anchors(connection, scale)
        connection.rollback()
    by_month = np.array([of is not None and of.mean is not None for of in in_force.fitted])
    assert set(by_month) == {True, False}
    assert (in_force.further_cov[by_month, 0] == known).all()
    assert not in_force.further_cov[~by_month].any()
    assert of_window.further_cov[0, 0].tolist() == known
    assert not of_window.further_cov[1:].any(), "their values are not the window's"
