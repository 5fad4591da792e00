"""The checks as Dagster runs them: severity, scales by name, items by name, and the inventory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from irt_assets.calibration.cautions import CAUTIONS
from irt_assets.calibration.checks import INVENTORY, build_calibration_checks
from irt_assets.calibration.gates import SET_GATES
from irt_assets.partitions import last_complete_month, monthly, months_between
from irt_assets.psychometrics.models import Flag
from irt_assets.responses.scales import change_rules
from irt_assets.responses.snapshot import take_snapshot
from resources.database import Database
from resources.settings import Settings
from tests.integration import rooms
from tests.integration.rooms import SCALE, add_items, folder_store, made_up_calibration, run_sql, stage_made_up

MONTH = rooms.MONTHS[0]
MONTHLY, INVENTORY_CHECKS = build_calibration_checks(monthly(MONTH), MONTH)
BY_NAME = {key.name: check for check in MONTHLY for key in check.check_keys}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def evaluate(settings: Settings, name: str) -> dg.AssetCheckResult:
    """One check of the month, as its function decides it."""
    context: Any = type("Context", (), {"partition_key": MONTH})()
    found = BY_NAME[name].op.compute_fn.decorated_fn(context, Database(settings), folder_store(settings))
    assert isinstance(found, dg.AssetCheckResult)
    return found


def scales_of(result: dg.AssetCheckResult) -> Any:
    return result.metadata["scales"].value


def test_every_set_gate_blocks_and_is_partitioned_by_month() -> None:
    for gate in SET_GATES:
        (spec,) = BY_NAME[gate.name].check_specs
        assert spec.blocking, gate.name
        assert spec.partitions_def == monthly(MONTH), gate.name
        assert spec.asset_key == dg.AssetKey(gate.asset)


def test_item_gates_agreement_and_inventories_never_block() -> None:
    gates = {gate.name for gate in SET_GATES}
    others = [c for c in MONTHLY if not {k.name for k in c.check_keys} & gates] + [INVENTORY_CHECKS]
    assert len(others) == 2 + len(CAUTIONS) + 1 + 1
    assert not any(spec.blocking for check in others for spec in check.check_specs)


def test_a_gate_that_one_of_two_scales_passes_only_warns_and_names_both(calibrated: Settings) -> None:
    """So the scale that passes goes on; `green` reads the verdict of each scale, and not the severity."""
    add_items(Database(calibrated), {"o1": None}, "other")
    found = evaluate(calibrated, "converged")
    run_sql(Database(calibrated), "DELETE FROM question WHERE scale_id = 'other'")
    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.WARN
    assert {scale: said["passed"] for scale, said in scales_of(found).items()} == {SCALE: True, "other": False}
    assert "other: the month has not been fitted" in (found.description or "")


def test_a_gate_that_no_scale_passes_is_an_error(calibrated: Settings) -> None:
    run_sql(Database(calibrated), "UPDATE calibration_scale SET thresholds = thresholds || '{\"anchor_q_alpha\": 1}'")
    found = evaluate(calibrated, "anchors_agree")
    run_sql(Database(calibrated), "UPDATE calibration_scale SET thresholds = thresholds - 'anchor_q_alpha'")
    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.ERROR
    assert "anchors disagree" in (found.description or "")


@pytest.mark.parametrize("gate", [gate.name for gate in SET_GATES])
def test_a_sound_month_passes_every_gate_and_says_by_what(calibrated: Settings, gate: str) -> None:
    found = evaluate(calibrated, gate)
    assert found.passed, found.description
    assert scales_of(found) == {SCALE: {"passed": True, "why": found.description}}


def test_a_spoilt_snapshot_fails_its_gate(world: Settings) -> None:
    store = folder_store(world)
    snapshot, _ = take_snapshot(Database(world), store, MONTH, None)
    store.put(snapshot.uri, b"something else")
    found = evaluate(world, "snapshot_matches_its_hash")
    assert not found.passed
    assert snapshot.uri in (found.description or "")


def test_a_fit_that_did_not_converge_fails_its_gate_with_the_engines_reason(world: Settings) -> None:
    stage_made_up(
        Database(world), folder_store(world), MONTH, made_up_calibration({"A01": (1.0, 0.0)}, converged=False)
    )
    found = evaluate(world, "converged")
    assert not found.passed
    assert found.description == "em did not converge: made up"


def test_items_held_back_are_named_with_a_warning(calibrated: Settings) -> None:
    change_rules(Database(calibrated), SCALE, {"max_abs_b": 1.0})
    found = evaluate(calibrated, "items_pass_their_gates")
    change_rules(Database(calibrated), SCALE, {"max_abs_b": 6.0})
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    items = found.metadata["all"].value[SCALE]  # type: ignore[index,union-attr]
    assert len(items) > 5
    assert all("is above 1" in why[0] for why in items.values())
    assert (found.description or "").startswith(f"{len(items)} items held back: {min(items)}")


def test_items_that_could_not_be_estimated_are_named(calibrated: Settings, world: Settings) -> None:
    assert evaluate(calibrated, "items_were_estimated").passed
    flagged = made_up_calibration({"A01": (1.0, 0.0), "A02": (1.0, 0.0)}, flags={"A02": (Flag.ALL_CORRECT,)})
    stage_made_up(Database(world), folder_store(world), MONTH, flagged)
    found = evaluate(world, "items_were_estimated")
    assert not found.passed
    assert found.metadata["all"].value == {  # type: ignore[union-attr]
        SCALE: {"A02": [f"all_correct: {Flag.ALL_CORRECT.explanation}"]}
    }


# -- inventory ---------------------------------------------------------------------------------------


def take_stock(settings: Settings, instance: dg.DagsterInstance) -> dg.AssetCheckResult:
    keys = INVENTORY_CHECKS.check_keys
    context: Any = type("Context", (), {"instance": instance, "selected_asset_check_keys": keys})()
    found = list(INVENTORY_CHECKS.op.compute_fn.decorated_fn(context, Database(settings)))
    assert {dg.AssetCheckKey(result.asset_key, result.check_name) for result in found} == set(keys)
    assert len({result.description for result in found}) == 1
    return found[0]


def test_each_monthly_asset_has_an_inventory() -> None:
    assert set(INVENTORY_CHECKS.check_keys) == {
        dg.AssetCheckKey(dg.AssetKey(asset), INVENTORY)
        for asset in ("scored_responses", "item_calibration", "linked_item_parameters", "published_item_parameters")
    }


def test_the_inventory_names_missing_and_red_months(world: Settings, instance: dg.DagsterInstance) -> None:
    take_snapshot(Database(world), folder_store(world), MONTH, None)
    found = take_stock(world, instance)
    months = list(months_between(MONTH, last_complete_month(datetime.now(UTC))))
    table = str(found.metadata["not green"].value)  # type: ignore[union-attr]
    assert not found.passed
    assert found.description.startswith(f"0 of {len(months)} months are green; {MONTH} red, ")
    assert f"| {MONTH} | {SCALE} | red | a run ended early" in table
    assert all(f"| {month} | {SCALE} | missing |" in table for month in months[1:])


def test_an_empty_bank_is_no_clean_inventory(settings: Settings, instance: dg.DagsterInstance) -> None:
    found = take_stock(settings, instance)
    assert not found.passed
    assert "the bank has no items" in (found.description or "")
