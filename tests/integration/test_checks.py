"""The checks as Dagster runs them: severity, scales by name, items by name, and the inventory."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
from typing import Any

import dagster as dg
import pytest

from irt_assets.calibration import checks
from irt_assets.calibration.shown import parameters_metadata
from irt_assets.common.partitions import Month, last_complete_month, monthly, months_between
from irt_assets.common.wording import counted
from irt_assets.gates.advisory_checks import ADVISORY_CHECKS
from irt_assets.gates.evidence import Evidence, Verdict
from irt_assets.gates.gates import SET_GATES
from irt_assets.psychometrics.core.models import Flag
from irt_assets.responses.scales import change_rules
from irt_assets.responses.snapshot import take_snapshot
from resources.dagster_schema import rows_of
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import (
    MONTHS,
    SCALE,
    add_items,
    check_context,
    folder_store,
    made_up_calibration,
    rows,
    run_sql,
    stage_made_up,
)

MONTH = MONTHS[0]
MONTHLY, INVENTORY_CHECKS = checks.build_calibration_checks(monthly(MONTH), MONTH)
BY_NAME = {key.name: check for check in MONTHLY for key in check.check_keys}


def evaluate(settings: Settings, name: str) -> dg.AssetCheckResult:
    """One check of the month, as its function decides it."""
    with dg.DagsterInstance.ephemeral() as instance:
        return evaluate_in(settings, name, instance)


def evaluate_in(settings: Settings, name: str, instance: dg.DagsterInstance) -> dg.AssetCheckResult:
    (key,) = (key for key in BY_NAME[name].check_keys if key.name == name)
    judge = BY_NAME[name].op.compute_fn.decorated_fn
    found = judge(check_context(MONTH, instance, key), Database(settings), folder_store(settings))
    (result,) = [found] if isinstance(found, dg.AssetCheckResult) else found
    return result


def scales_of(result: dg.AssetCheckResult) -> dict[str, bool]:
    return {row["scale"]: row["passed"] for row in rows_of(result.metadata, "scales")}


def test_every_set_gate_is_partitioned_by_month_and_leaves_it_to_publication_to_stop_the_run() -> None:
    for gate in SET_GATES:
        (spec,) = (spec for spec in BY_NAME[gate.name].check_specs if spec.name == gate.name)
        assert (spec.partitions_def, spec.asset_key) == (monthly(MONTH), dg.AssetKey(gate.asset)), gate.name
    specs = [spec for check in [*MONTHLY, INVENTORY_CHECKS] for spec in check.check_specs]
    of_items, of_engines, inventory = 2, 1, 4
    assert len(specs) == len(SET_GATES) + len(ADVISORY_CHECKS) + of_items + of_engines + inventory
    assert not any(spec.blocking for spec in specs)


def test_the_gates_of_an_asset_are_one_step() -> None:
    steps = {check.node_def.name: {key.asset_key.to_user_string() for key in check.check_keys} for check in MONTHLY}
    assert steps == {
        "scored_responses_checks": {"scored_responses"},
        "item_calibration_checks": {"item_calibration"},
        "linked_item_parameters_checks": {"linked_item_parameters"},
        "published_item_parameters_checks": {"published_item_parameters"},
        "engine_agreement_engines_agree": {"engine_agreement"},
    }


def test_a_gate_that_one_of_two_scales_passes_is_an_error_and_names_both(calibrated: Settings) -> None:
    """The scale that passes goes on all the same: `green` and publication read the verdict of each scale."""
    add_items(Database(calibrated), {"o1": None}, "other")
    found = evaluate(calibrated, "converged")
    run_sql(Database(calibrated), "DELETE FROM question WHERE scale_id = 'other'")
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert scales_of(found) == {SCALE: True, "other": False}
    assert "other: the month has not been fitted" in (found.description or "")


def test_a_check_that_breaks_down_fails_with_the_reason_and_leaves_the_others_judged(
    calibrated: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connected(evidence: Evidence) -> Verdict:
        raise ZeroDivisionError("division by zero")

    gates = [replace(gate, judge=connected) if gate.name == "connected" else gate for gate in SET_GATES]
    monkeypatch.setattr(checks, "SET_GATES", gates)
    monthly_checks, _ = checks.build_calibration_checks(monthly(MONTH), MONTH)
    (of_fit,) = (check for check in monthly_checks if check.node_def.name == "item_calibration_checks")
    context = check_context(MONTH, instance, *of_fit.check_keys)
    found = {r.check_name: r for r in of_fit.op.compute_fn.decorated_fn(context, Database(calibrated), None)}
    assert [name for name, result in found.items() if not result.passed] == ["connected"]
    assert (found["connected"].severity, found["connected"].description) == (
        dg.AssetCheckSeverity.ERROR,
        f"{MONTH}: could not be judged: ZeroDivisionError: division by zero",
    )


def test_a_fit_that_cannot_be_read_fails_its_checks_with_the_reason(world: Settings) -> None:
    stage_made_up(Database(world), folder_store(world), MONTH, made_up_calibration({"A01": (1.0, 0.0)}))
    run_sql(Database(world), "UPDATE fit_staging SET calibration = 'not a fit'")
    for name in ("converged", "items_are_independent"):
        found = evaluate(world, name)
        assert not found.passed
        assert (found.description or "").startswith(f"{MONTH}: could not be judged: ")


def test_only_the_checks_of_the_snapshot_read_its_file(calibrated: Settings, instance: dg.DagsterInstance) -> None:
    for check in MONTHLY[1:4]:
        context = check_context(MONTH, instance, *check.check_keys)
        results = list(check.op.compute_fn.decorated_fn(context, Database(calibrated), store=None))
        assert {result.check_name for result in results} == {key.name for key in check.check_keys}
        assert not [result for result in results if "could not be judged" in (result.description or "")]


def test_the_items_of_a_linked_month_are_shown_with_their_errors_and_fit(calibrated: Settings) -> None:
    table = str(parameters_metadata(Database(calibrated), MONTH)[f"items ({SCALE})"].value).splitlines()
    fitted = rows(
        Database(calibrated),
        "SELECT count(*) FROM mirt_item_params JOIN mirt_fit_meta USING (fit_id) WHERE window_start = %s",
        [Month(MONTH).start],
    )
    assert len(table) - 2 == fitted[0][0] > 0
    assert " ± " in table[2]


def test_items_held_back_are_named_with_a_warning(calibrated: Settings) -> None:
    change_rules(Database(calibrated), SCALE, {"max_abs_b": 1.0})
    found = evaluate(calibrated, "items_pass_their_gates")
    change_rules(Database(calibrated), SCALE, {"max_abs_b": 6.0})
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    items = rows_of(found.metadata, checks.ITEMS)
    assert len(items) > 5
    assert all("is above 1" in row["why"] for row in items)
    named = ", ".join(sorted(row["item"] for row in items))
    assert found.description == f"{MONTH}: {counted(len(items), 'item')} held back: {named}"


def test_items_that_the_month_before_held_back_do_not_fail_again(calibrated: Settings) -> None:
    database = Database(calibrated)
    change_rules(database, SCALE, {"max_abs_b": 1.0})
    items = [row["item"] for row in rows_of(evaluate(calibrated, "items_pass_their_gates").metadata, checks.ITEMS)]
    held = json.dumps({item: ["|b| was large"] for item in items[1:]})
    run_sql(
        database,
        "INSERT INTO publication_step (month, scale_id, state, held, why) VALUES ('2026-05', %s, 'done', %s, '')",
        (SCALE, held),
    )
    one = evaluate(calibrated, "items_pass_their_gates")
    run_sql(
        database, "UPDATE publication_step SET held = %s WHERE month = '2026-05'", (json.dumps(dict.fromkeys(items)),)
    )
    none = evaluate(calibrated, "items_pass_their_gates")
    run_sql(database, "DELETE FROM publication_step WHERE month = '2026-05'")
    change_rules(database, SCALE, {"max_abs_b": 6.0})
    assert (one.passed, none.passed) == (False, True)
    assert (one.description or "").startswith(
        f"{MONTH}: one item held back: {items[0]}; {len(items) - 1} as in the month"
    )
    assert f"no item is newly held back; {len(items)} as in the month before: " in (none.description or "")


def test_the_newest_evaluation_says_which_earlier_months_fail_still(
    calibrated: Settings, instance: dg.DagsterInstance
) -> None:
    """Dagster puts it in the place of all months."""
    for month, passed in (("2026-03", False), ("2026-04", False), ("2026-05", True), ("2026-07", False)):
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey("item_calibration"), check_name="converged", passed=passed, partition=month
            )
        )
    found = evaluate_in(calibrated, "converged", instance)
    assert found.passed
    assert re.fullmatch(
        rf"{MONTH}: em converged after \d+ iterations. Still fails: 2026-04, 2026-03", found.description or ""
    )


def test_items_that_could_not_be_estimated_are_named(calibrated: Settings, world: Settings) -> None:
    assert evaluate(calibrated, "items_were_estimated").passed
    flagged = made_up_calibration({"A01": (1.0, 0.0), "A02": (1.0, 0.0)}, flags={"A02": (Flag.ALL_CORRECT,)})
    stage_made_up(Database(world), folder_store(world), MONTH, flagged)
    found = evaluate(world, "items_were_estimated")
    assert not found.passed
    (row,) = rows_of(found.metadata, checks.ITEMS)
    assert (row["item"], row["why"]) == ("A02", f"all_correct: {Flag.ALL_CORRECT.explanation}")
    assert evaluate(world, "items_pass_their_gates").passed  # told once


# -- inventory ---------------------------------------------------------------------------------------


def take_stock(settings: Settings, instance: dg.DagsterInstance) -> dict[str, dg.AssetCheckResult]:
    """What the inventory of each asset says."""
    keys = INVENTORY_CHECKS.check_keys
    context: Any = type("Context", (), {"instance": instance, "selected_asset_check_keys": keys})()
    found = list(INVENTORY_CHECKS.op.compute_fn.decorated_fn(context, Database(settings)))
    assert {dg.AssetCheckKey(result.asset_key, result.check_name) for result in found} == set(keys)
    return {result.asset_key.to_user_string(): result for result in found}


def test_each_monthly_asset_has_an_inventory() -> None:
    assert set(INVENTORY_CHECKS.check_keys) == {
        dg.AssetCheckKey(dg.AssetKey(asset), checks.INVENTORY)
        for asset in ("scored_responses", "item_calibration", "linked_item_parameters", "published_item_parameters")
    }


def test_the_inventories_name_each_month_once_where_it_stands(
    world: Settings, instance: dg.DagsterInstance, now: datetime
) -> None:
    """The first month has a snapshot, whose gates no run has evaluated; of the others nothing was made."""
    take_snapshot(Database(world), folder_store(world), MONTH, None)
    found = take_stock(world, instance)
    months = list(months_between(MONTH, last_complete_month(now)))
    scored = found.pop("scored_responses")
    assert not scored.passed
    assert (scored.description or "").startswith(f"{len(months)} of {len(months)} months: {months[-1]} empty, ")
    rows = {row["month"]: row for row in rows_of(scored.metadata, "not green")}
    assert rows[MONTH]["state"] == "missing"
    assert rows[MONTH]["why"].startswith("its answers are scored and nothing was fitted")
    assert {month: rows[month]["state"] for month in months} == {
        month: "missing" if month in MONTHS else "empty" for month in months
    }
    others = {(one.passed, one.description) for one in found.values()}
    assert others == {(True, f"none of {len(months)} months waits for it")}


def test_an_empty_bank_is_no_clean_inventory(settings: Settings, instance: dg.DagsterInstance) -> None:
    for found in take_stock(settings, instance).values():
        assert (found.passed, "the bank has no items" in (found.description or "")) == (False, True)
