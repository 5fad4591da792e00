"""DIF of a month: the planted item is detected between its groups only, and bad attributes cause no error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from irt_assets.blocks.markdown import markdown
from irt_assets.common.partitions import Month
from irt_assets.decisions.origin import initialise
from irt_assets.definitions import build_defs
from irt_assets.drift.alerts import episodes
from irt_assets.drift.assets import DRIFT_JOB
from irt_assets.drift.checks import DIF_REMEDY, DRIFT_REMEDIES
from irt_assets.drift.dif_month import Row, dif_of_month
from irt_assets.drift.dif_page import dif_summary, groups_table, items_blocks
from irt_assets.drift.information import judge_information
from irt_assets.drift.month import ScaleDrift, drift_of_month
from irt_assets.drift.rows import DifRow
from irt_assets.ledger.anchors import read_every_anchor
from irt_assets.ledger.values_with_errors import set_in_force_with_errors
from irt_assets.scales.scale import change_rules, read_scales
from irt_assets.simulation.scenario import Fault
from irt_assets.simulation.truth import Truth
from jobs.watching.alerts import check_alert
from resources import tables
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import LOWERED, MONTHS, SCALE, fit_and_link, folder_store, load_small_world, rows, run_sql
from tests.helpers.worlds import OF_MONTHS
from tests.integration.graph import Graph, checks

MONTH = MONTHS[0]
LEARNERS = 1500
"""Number of learners: 750 of each language, two thirds of whom meet an item, so fewer than 500 answers by a group."""
MARKUP = "<b>a|b</b>"
BAD = {
    "markup": f"""CASE WHEN mod(n, 2) = 0 THEN '"{MARKUP}"' ELSE '"c\\n  d"' END""",
    "odd": """CASE mod(n, 8) WHEN 0 THEN '3' WHEN 1 THEN '3.0' WHEN 2 THEN '"3"' WHEN 3 THEN 'true'
              WHEN 4 THEN '" true "' WHEN 5 THEN '["a", "b"]' WHEN 6 THEN 'null'
              ELSE to_jsonb(repeat('long ', 3000)) END""",
    "own": "to_jsonb(user_id)",
}
"""Attributes of the learners, in SQL by their number."""


Made = tuple[Truth, list[Row]]


def analyse_month(settings: Settings) -> Made:
    """One month of a world with an item that is harder for one language, calibrated. Returns the truth and the
    rows of a scale's default attributes."""
    database, store = Database(settings), folder_store(settings)
    truth = load_small_world(database, faults=(Fault("dif", size=1.2),), learners_per_month=LEARNERS)
    initialise(database, SCALE, first_month=MONTH, thresholds=LOWERED)
    fit_and_link(database, store, MONTH)
    return truth, dif_of_month(database, store, MONTH, 1)[SCALE]


@pytest.fixture(scope="module")
def analysed_template(postgres: EmbeddedPostgres, migrated_template: str) -> Made:
    return made_once(postgres, "template_dif", migrated_template, analyse_month, **OF_MONTHS)


@pytest.fixture(scope="module")
def planted(
    postgres: EmbeddedPostgres, analysed_template: Made, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, Truth]]:
    with template_copy(postgres, "template_dif", tmp_path_factory.mktemp("dif"), **OF_MONTHS) as settings:
        yield settings, analysed_template[0]


@pytest.fixture
def found(analysed_template: Made) -> list[Row]:
    return analysed_template[1]


def whole_details(rows_: list[Row], attribute: str) -> dict[str, object]:
    (row,) = [r for r in rows_ if r["attribute"] == attribute and r["item_id"] == ""]
    return row["details"]


def the_item(truth: Truth) -> str:
    ((item,),) = [fault.item_ids for fault in truth.bank.faults]
    return item


def test_only_the_planted_item_has_large_dif(planted: tuple[Settings, Truth], found: list[Row]) -> None:
    """The item is 1.2 harder for ko."""
    item = the_item(planted[1])
    large = {(r["attribute"], r["item_id"]) for r in found if r["details"].get("large")}
    assert ("lang", item) in large
    assert len(large - {("lang", item), ("country", item)}) <= 1, "at q < 0.05 a false one happens"
    (row,) = [r for r in found if r["attribute"] == "lang" and r["item_id"] == item]
    sign = 1 if row["focal_group"] == "ko" else -1
    wald = row["details"]["wald"]
    # three standard errors, which the row itself gives; the reference group's SD is about 1
    assert sign * wald["delta_b"] == pytest.approx(1.2, abs=3 * wald["delta_b_se"])
    assert (sign * wald["shift"] < 0, wald["severity"], row["q_value"] < 0.001) == (True, "high", True)


def test_every_item_has_a_row_for_every_group_with_the_reason_if_untested(
    planted: tuple[Settings, Truth], found: list[Row]
) -> None:
    settings, truth = planted
    n_items = len(truth.bank.item_ids)
    stored = rows(
        Database(settings),
        """SELECT attribute, focal_group, count(*), count(p_value), count(*) FILTER (WHERE details->>'why_not' <> '')
           FROM dif_analysis WHERE item_id <> '' GROUP BY 1, 2""",
    )
    by_group = {(attribute, group): counts for attribute, group, *counts in stored}
    (lang,) = [counts for (attribute, _), counts in by_group.items() if attribute == "lang"]
    assert lang == [n_items, n_items, 0]
    for attribute in ("lang", "country", "tier"):
        details = whole_details(found, attribute)
        for group in details["groups"]:
            if (attribute, group["name"]) in by_group:
                assert by_group[attribute, group["name"]][0] == n_items
        tested = sum(by_group[key][1] for key in by_group if key[0] == attribute)
        assert details["items"]["tested"] == tested
    small = [g for g in whole_details(found, "tier")["groups"] if g["n_learners"] < 200]
    assert small, "a tenth has the third tier"
    assert by_group["tier", small[0]["name"]] == [n_items, 0, n_items]
    (reason,) = {r["details"]["why_not"] for r in found if r["focal_group"] == small[0]["name"]}
    assert reason == f"{small[0]['n_learners']} learners, 200 are needed"


def test_items_with_few_answers_are_marked_as_low_power(found: list[Row]) -> None:
    """The languages have 750 learners and fewer than 500 answers per item."""
    tested = [r["details"] for r in found if r["attribute"] == "lang" and r["item_id"]]
    assert {(d["low_power"], 200 <= min(d["n"].values()) < 500) for d in tested} == {(True, True)}


def test_keys_of_details_equal_the_keys_in_the_registrys_description(found: list[Row]) -> None:
    assert len({frozenset(row) for row in found}) == 1, "no row lacks a column: all null, it would have no type"
    described = set(re.findall(r"\w+", str(tables.dif_analysis.c.details.comment)))

    def keys(value: object) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {k for v in value.values() for k in keys(v)}
        return {k for v in value for k in keys(v)} if isinstance(value, list) else set()

    assert {k for row in found for k in keys(row["details"])} <= described


def test_repeated_dif_analysis_of_a_month_has_the_same_rows(planted: tuple[Settings, Truth], found: list[Row]) -> None:
    database, store = Database(planted[0]), folder_store(planted[0])
    query = "SELECT attribute, item_id, focal_group, p_value, ets_class, details FROM dif_analysis ORDER BY 1, 2, 3"
    before = rows(database, query)
    assert len(before) == len(found)
    dif_of_month(database, store, MONTH, 1)
    assert rows(database, query) == before


def test_dif_check_warns_of_the_item_and_does_not_block(
    planted: tuple[Settings, Truth], found: list[Row], instance: dg.DagsterInstance
) -> None:
    settings, truth = planted
    graph = build_defs(settings, resources={"database": Database(settings), "store": folder_store(settings)})
    assert {"item_drift", "dif_analysis"} <= {
        key.to_user_string() for key in graph.resolve_job_def(DRIFT_JOB).asset_layer.executable_asset_keys
    }
    result = graph.resolve_implicit_global_asset_job_def().execute_in_process(
        partition_key=MONTH, instance=instance, asset_selection=[dg.AssetKey("dif_analysis")]
    )
    (check,) = result.get_asset_check_evaluations()
    assert (check.passed, check.severity, check.blocking) == (False, dg.AssetCheckSeverity.WARN, False)
    with Database(settings).connect() as connection:
        alert = check_alert(connection, check)
    assert alert is not None
    assert the_item(truth) in alert.subjects
    assert (alert.severity, alert.fix) == ("warning", DIF_REMEDY)
    assert f"{SCALE}: {the_item(truth)} (" in alert.what
    metadata = result.asset_materializations_for_node("dif_analysis")[0].metadata
    assert metadata["dagster/row_count"].value == len(found)
    assert "data:image/svg+xml;base64," in str(metadata[f"plot: DIF ({SCALE}, lang)"].value)
    assert f"items: {the_item(truth)}" in str(metadata["DIF"].value)


# -- bad input ---------------------------------------------------------------------------------------


def analysed_as_bad(settings: Settings) -> list[Row]:
    """The rows of attributes of bad quality, and of an attribute without values."""
    database = Database(settings)
    for name, value in BAD.items():
        run_sql(
            database,
            f"""UPDATE learner SET attributes = attributes || jsonb_build_object('{name}', value::jsonb)
                FROM (SELECT user_id AS numbered, ({value})::jsonb AS value FROM
                      (SELECT user_id, row_number() OVER (ORDER BY md5(user_id)) AS n FROM learner) numbered) made
                WHERE numbered = user_id""",
        )
    change_rules(database, SCALE, {"dif_attributes": ",".join([*BAD, "nobody"])})
    return dif_of_month(database, folder_store(settings), MONTH, 1)[SCALE]


@pytest.fixture(scope="module")
def bad(postgres: EmbeddedPostgres, analysed_template: Made) -> list[Row]:
    return made_once(postgres, "template_dif_bad", "template_dif", analysed_as_bad, **OF_MONTHS)


def test_markup_in_a_groups_name_is_stored_unchanged_and_shown_as_text(bad: list[Row]) -> None:
    assert {g["name"] for g in whole_details(bad, "markup")["groups"]} == {MARKUP, "c d"}
    typed = [*map(DifRow.from_row, bad)]
    shown = markdown(groups_table({SCALE: typed}), *items_blocks({SCALE: typed}))
    assert "<b>" not in shown
    assert "a\\|b" in shown


def test_attribute_with_a_value_per_learner_is_limited_to_20_groups(
    planted: tuple[Settings, Truth], bad: list[Row]
) -> None:
    details = whole_details(bad, "own")
    assert len(details["groups"]) == 20
    assert details["smaller_groups"]["groups"] == details["smaller_groups"]["learners"] > 1000
    assert len([r for r in bad if r["attribute"] == "own"]) == 1 + 19 * len(planted[1].bank.item_ids)


def test_stored_rows_of_bad_attributes_equal_the_returned_rows(
    postgres: EmbeddedPostgres, bad: list[Row], tmp_path: Path
) -> None:
    with template_copy(postgres, "template_dif_bad", tmp_path, **OF_MONTHS) as settings:
        stored = rows(Database(settings), "SELECT attribute, item_id, focal_group, details FROM dif_analysis")
    expected = {(r["attribute"], r["item_id"], r["focal_group"]): json.dumps(r["details"], sort_keys=True) for r in bad}
    assert {key: json.dumps(details, sort_keys=True) for *key_, details in stored for key in [tuple(key_)]} == expected


def test_month_without_a_linked_fit_states_the_reason_for_each_attribute(world: Settings) -> None:
    database = Database(world)
    found = dif_of_month(database, folder_store(world), MONTH, 1)[SCALE]
    stored = rows(database, "SELECT attribute, item_id, details->>'why_not' FROM dif_analysis ORDER BY 1")
    reason = f"{MONTH} has no converged fit that was linked to the anchors"
    assert stored == [(attribute, "", reason) for attribute in ("country", "lang", "tier")]
    assert dif_summary([*map(DifRow.from_row, found)]).count("not tested") == 3


def test_scale_without_dif_attributes_has_no_rows(world: Settings) -> None:
    database = Database(world)
    change_rules(database, SCALE, {"dif_attributes": ""})
    found = dif_of_month(database, folder_store(world), MONTH, 1)[SCALE]
    assert (found, "names no attribute" in dif_summary([*map(DifRow.from_row, found)])) == ([], True)


# -- drift of items ----------------------------------------------------------------------------------
# Drift of a month: planted changes are found, distinguished and stored; alerts open and close with the months.


def planted_faults(truth: Truth) -> dict[str, str]:
    """Item → kind of change."""
    return {item: fault.kind.replace("_", " ") for fault in truth.bank.faults for item in fault.item_ids}


def run_drift(settings: Settings, month: str) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return Graph(settings, instance).run(month, DRIFT_JOB)


def test_planted_changes_are_flagged_with_their_kind(
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
    expected = planted_faults(truth)
    assert {item: flagged.get(item) for item in expected} == expected
    assert len(set(flagged) - set(expected)) <= 1, "at q < 0.05 a false one happens"


def test_drift_check_and_its_alert_name_the_drifted_items(
    faulty: tuple[Settings, Truth, dict[str, list[ScaleDrift]]],
) -> None:
    settings, truth, _ = faulty
    far = checks(run_drift(settings, MONTHS[1]))["no_item_drifted_far"]
    assert not far.passed
    with Database(settings).connect() as connection:
        alert = check_alert(connection, far)
    assert alert is not None
    assert set(planted_faults(truth)) <= set(alert.subjects)
    assert (alert.kind, alert.partition, alert.severity) == ("items", MONTHS[1], "error")
    assert alert.fix == DRIFT_REMEDIES["high"]


def test_first_month_compares_only_the_anchors(
    faulty: tuple[Settings, Truth, dict[str, list[ScaleDrift]]],
) -> None:
    """All other items are first published at its end."""
    settings, truth, _ = faulty
    compared = {
        item for (item,) in rows(Database(settings), "SELECT item_id FROM item_drift WHERE month = %s", MONTHS[:1])
    }
    anchors = {item for item, is_anchor in zip(truth.bank.item_ids, truth.bank.anchor, strict=True) if is_anchor}
    assert compared == anchors


def test_repeated_drift_comparison_changes_no_rows_or_alerts(
    faulty: tuple[Settings, Truth, dict[str, list[ScaleDrift]]],
) -> None:
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


def test_unlinked_month_states_the_reason_and_stores_no_drift(world: Settings) -> None:
    database = Database(world)
    run_sql(database, "DELETE FROM item_drift")
    (drift,) = drift_of_month(database, folder_store(world), MONTHS[0])
    assert "no converged fit" in drift.why
    assert rows(database, "SELECT count(*) FROM item_drift") == [(0,)]


def test_drift_alert_lasts_from_the_first_flagged_month_to_the_first_sound_month() -> None:
    drifts = [
        ("a", "2026-01", "medium", {}),
        ("a", "2026-03", "high", {"change": {"kind": "leak"}}),
        ("a", "2026-04", "none", {}),
        ("a", "2026-05", "medium", {}),
        ("b", "2026-01", "none", {}),
        ("c", "2026-01", "high", {}),
        ("c", "2026-02", "none", {"proportion_correct": {"n": 60}}),  # too few answers to end the alert
        ("c", "2026-03", "medium", {"proportion_correct": {"n": 60}}),
    ]
    found = [(e.item_id, e.opened_month, e.closed_month, e.severity, e.kind) for e in episodes(drifts)]
    assert found == [
        ("a", "2026-01", "2026-04", "high", "leak"),
        ("a", "2026-05", None, "medium", "drift"),
        ("c", "2026-01", None, "high", "drift"),
    ]


def test_items_published_under_a_different_model_are_compared_by_their_curves_and_named(
    faulty: tuple[Settings, Truth, dict[str, list[ScaleDrift]]],
) -> None:
    """The bank declares two anchors as 3PL; an item published by a month has that month's model."""
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
        (drift,) = drift_of_month(database, store, MONTHS[1])
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
    across = drift.drift.across_models
    assert sorted(item for item, models in across.items() if models == ("3pl", "2pl")) == named
    assert ("rasch", "2pl") in across.values(), "first published by the first month"
    (delta_a, delta_b, delta_c, p), details = stored[named[0]]
    assert details["across_models"] == "compared by curves: published as 3PL, fitted as 2PL"
    assert (delta_a, delta_b, delta_c, details["limits"]) == (None, None, None, None)
    assert details["curves"]["df"] == 2
    assert 0 <= p <= 1
    assert "trend" not in details
    assert set(across).isdisjoint(information.found.loss.items.item_ids)
    own = next(item for item in drift.drift.item_ids if item not in across)
    assert "across_models" not in stored[own][1]
    assert stored[own][0][1] is not None


def test_covariance_of_a_published_c_is_read_from_its_fit(
    faulty: tuple[Settings, Truth, dict[str, list[ScaleDrift]]],
) -> None:
    """Values published by a month have that month's fit; frozen anchors, the fit of the window that they come from."""
    settings, _, _ = faulty
    known, start = [0.01, -0.02, 0.3], Month(MONTHS[1]).start
    with Database(settings).connect() as connection:
        scale = read_scales(connection)[SCALE]
        anchors = read_every_anchor(connection, scale.scale_id, scale.anchor_version)
        assert anchors.further_cov is None, "these are the bank's"
        first = anchors.item_ids[0]
        connection.execute(
            """UPDATE mirt_item_params SET params = params || jsonb_build_object('cov_logit_c', %s::jsonb)
               WHERE fit_id IN (SELECT fit_id FROM mirt_fit_meta WHERE window_start < %s)""",
            (json.dumps(known), start),
        )
        in_force = set_in_force_with_errors(connection, scale, start, anchors).published
        connection.execute("UPDATE mirt_fit_meta SET kind = 'origin', model = '3pl' WHERE window_start < %s", (start,))
        connection.execute(
            """UPDATE mirt_item_params SET params = params || jsonb_build_object('a', %s::float, 'b', %s::float)
               WHERE item_id = %s""",
            (float(anchors.a[0]), float(anchors.b[0]), first),
        )
        of_window = read_every_anchor(connection, scale.scale_id, scale.anchor_version)
        connection.rollback()
    by_month = np.array([fitted is not None and fitted.mean is not None for fitted in in_force.fitted])
    assert set(by_month) == {True, False}
    assert (in_force.further_cov[by_month, 0] == known).all()
    assert not in_force.further_cov[~by_month].any()
    assert of_window.further_cov[0, 0].tolist() == known
    assert not of_window.further_cov[1:].any(), "their values are not the window's"
