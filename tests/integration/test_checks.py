"""The checks as Dagster runs them: severity, scales by name, items by name, and the inventory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from scipy.special import expit

from irt_assets.calibration import checks
from irt_assets.calibration.blocks import parameters_metadata
from irt_assets.calibration.group_shift import measure_month
from irt_assets.calibration.month import publish_month
from irt_assets.common.partitions import Month, last_complete_month, monthly, months_between
from irt_assets.common.wording import quantity
from irt_assets.decisions.origin import initialise
from irt_assets.gates.advisory_checks import ADVISORY_CHECKS
from irt_assets.gates.evidence import Evidence, GateResult
from irt_assets.gates.gates import SET_GATES, failures, judge_gates
from irt_assets.gates.linking_gates import anchors_move_with_the_others, linking_stays_near_its_history
from irt_assets.gates.month_classification import State
from irt_assets.gates.month_status import month_states
from irt_assets.ledger.steps import Step
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.scales.scale import change_rules, read_scales
from irt_psychometrics.estimation import Flag
from resources.dagster_schema import rows_of
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import (
    MONTHS,
    SCALE,
    add_attempts,
    add_items,
    answer_matrix,
    check_context,
    evidence_of,
    fit_and_link,
    folder_store,
    link_made_up,
    made_up_calibration,
    rows,
    run_sql,
    stage_made_up,
)
from tests.helpers.sentences import missing_sentences
from tests.helpers.worlds import OF_MONTHS

MONTH = MONTHS[0]
MONTHLY, INVENTORY_CHECKS = checks.build_calibration_checks(monthly(MONTH), MONTH)
BY_NAME = {key.name: check for check in MONTHLY for key in check.check_keys}


def evaluate(settings: Settings, name: str) -> dg.AssetCheckResult:
    """Result of a check of the month, from the check's function."""
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


def test_every_set_gate_is_partitioned_by_month_and_does_not_block() -> None:
    for gate in SET_GATES:
        (spec,) = (spec for spec in BY_NAME[gate.name].check_specs if spec.name == gate.name)
        assert (spec.partitions_def, spec.asset_key) == (monthly(MONTH), dg.AssetKey(gate.asset)), gate.name
    specs = [spec for check in [*MONTHLY, INVENTORY_CHECKS] for spec in check.check_specs]
    of_items, of_engines, inventory = 2, 1, 4
    assert (len(specs), any(spec.blocking for spec in specs)) == (
        len(SET_GATES) + len(ADVISORY_CHECKS) + of_items + of_engines + inventory,
        False,
    )


def test_gates_of_an_asset_run_in_a_single_step() -> None:
    steps = {check.node_def.name: {key.asset_key.to_user_string() for key in check.check_keys} for check in MONTHLY}
    assert steps == {
        "scored_responses_checks": {"scored_responses"},
        "item_calibration_checks": {"item_calibration"},
        "linked_item_parameters_checks": {"linked_item_parameters"},
        "published_item_parameters_checks": {"published_item_parameters"},
        "engine_agreement_engines_agree": {"engine_agreement"},
    }


def test_gate_failed_by_a_single_scale_is_an_error_and_names_both_scales(calibrated: Settings) -> None:
    """The passing scale continues: `green` and publication read the verdict of each scale."""
    database = Database(calibrated)
    add_items(database, {"o1": None}, "other")
    run_sql(database, """UPDATE scored_snapshot SET counts = counts || '{"other": {"scored": 1}}'""")
    found = evaluate(calibrated, "converged")
    run_sql(database, "DELETE FROM question WHERE scale_id = 'other'")
    run_sql(database, "UPDATE scored_snapshot SET counts = counts - 'other'")
    assert (
        found.passed,
        found.severity,
        scales_of(found),
        "other: the month has not been fitted" in (found.description or ""),
    ) == (False, dg.AssetCheckSeverity.ERROR, {SCALE: True, "other": False}, True)


def test_month_with_answers_to_one_of_two_scales_is_empty_on_the_other_and_its_gates_pass(
    calibrated: Settings, instance: dg.DagsterInstance
) -> None:
    database = Database(calibrated)
    add_items(database, {"o1": None}, "other")
    found = [evaluate(calibrated, name) for name in ("few_answers_are_rejected", "converged", "linked")]
    states = {state.scale_id: state for state in month_states(database, instance, [MONTH])}
    run_sql(database, "DELETE FROM question WHERE scale_id = 'other'")
    assert [scales_of(result) for result in found] == [{SCALE: True, "other": True}] * 3
    assert all("other: no answers to this scale in this month" in (result.description or "") for result in found)
    assert (states["other"].state, states["other"].why) == (State.EMPTY, "no answers")
    assert states[SCALE].state is not State.EMPTY


def test_crashed_check_fails_with_the_reason_and_does_not_stop_further_checks(
    calibrated: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connected(evidence: Evidence) -> GateResult:
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


def test_unreadable_fit_fails_its_checks_with_the_reason(world: Settings) -> None:
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
        assert (
            {result.check_name for result in results},
            [result for result in results if "could not be judged" in (result.description or "")],
        ) == ({key.name for key in check.check_keys}, [])


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
    assert found.description == f"{MONTH}: {quantity(len(items), 'item')} held back: {named}"


def test_items_held_back_by_the_previous_month_do_not_fail_the_check_again(calibrated: Settings) -> None:
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


def test_newest_evaluation_names_the_earlier_months_that_still_fail(
    calibrated: Settings, instance: dg.DagsterInstance
) -> None:
    """Dagster shows the newest evaluation for all months."""
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


def test_items_without_estimates_are_named(calibrated: Settings, world: Settings) -> None:
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
    """Results of the inventory checks by asset."""
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


def test_inventories_name_each_month_once_with_its_last_finished_step(
    world: Settings, instance: dg.DagsterInstance, now: datetime
) -> None:
    """The first month has a snapshot whose gates have not been evaluated; the remaining months have no assets."""
    take_snapshot(Database(world), folder_store(world), MONTH, None)
    found = take_stock(world, instance)
    months = list(months_between(MONTH, last_complete_month(now)))
    scored = found.pop("scored_responses")
    assert not scored.passed
    assert (scored.description or "").startswith(f"{len(months)} of {len(months)} months: {months[-1]} empty, ")
    rows = {row["month"]: row for row in rows_of(scored.metadata, "not green")}
    assert (
        rows[MONTH]["state"],
        rows[MONTH]["why"].startswith("its answers are scored, but nothing was fitted"),
        {month: rows[month]["state"] for month in months},
    ) == ("missing", True, {month: "missing" if month in MONTHS else "empty" for month in months})
    others = {(one.passed, one.description) for one in found.values()}
    assert others == {(True, f"none of {len(months)} months waits for it")}


def test_inventories_fail_if_the_bank_is_empty(settings: Settings, instance: dg.DagsterInstance) -> None:
    for found in take_stock(settings, instance).values():
        assert (found.passed, "the bank has no items" in (found.description or "")) == (False, True)


# -- gates of a month --------------------------------------------------------------------------------
# Months that are held because of earlier publications: constants that jump, and anchors that moved as a group.

FIRST, NEXT, OTHERS_LEARN = "2026-06", "2026-07", "2026-08"
EARLIER = list(months_between("2025-10", "2026-05"))
LEARNERS, ANCHORS, OTHERS = 1200, 12, 12
ITEMS = [f"k{j:02d}" for j in range(ANCHORS)] + [f"o{j:02d}" for j in range(OTHERS)]
RULES = {"min_responses": 200, "min_anchor_responses": 200, "latent": "normal"}
EASIER = 0.5
"""Decrease of all anchors' difficulties in the second month."""


def three_months(settings: Settings) -> None:
    """Add a sound month, a month whose anchors are all easier, and a month of learners who are 1 SD better."""
    database, rng = Database(settings), np.random.default_rng(11)
    a, b = np.exp(rng.normal(0.2, 0.2, ANCHORS + OTHERS)), rng.normal(0.2, 0.9, ANCHORS + OTHERS)
    easier = b - np.where(np.arange(b.size) < ANCHORS, EASIER, 0.0)
    of_bank = [{"a": a[j], "b": b[j], "a_se": 0.05, "b_se": 0.04} if j < ANCHORS else None for j in range(b.size)]
    add_items(database, dict(zip(ITEMS, of_bank, strict=True)))
    for month, mean, of_month in ((FIRST, 0.0, b), (NEXT, 0.1, easier), (OTHERS_LEARN, 1.0, b)):
        p = expit(a * (rng.normal(mean, 1.0, LEARNERS)[:, None] - of_month))
        scores = (rng.random(p.shape) < p).astype(float)
        add_attempts(database, answer_matrix(month, scores, ITEMS, [f"{month}-{i}" for i in range(LEARNERS)]))


@pytest.fixture
def bank(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Settings]:
    made_once(postgres, "template_month_gates", migrated_template, three_months)
    with template_copy(postgres, "template_month_gates", tmp_path, **OF_MONTHS) as settings:
        yield settings


def begin(settings: Settings, rule: str = "hold", **thresholds: Any) -> Database:
    database = Database(settings)
    initialise(database, SCALE, first_month=EARLIER[0], thresholds=RULES | {"new_misfit": rule} | thresholds)
    return database


def link(settings: Settings, month: str) -> None:
    database = Database(settings)
    fit_and_link(database, folder_store(settings), month)
    measure_month(database, month)


def publish(settings: Settings, month: str, unsettled: tuple[str, ...] = ()) -> dict[str, Step]:
    return publish_month(Database(settings), folder_store(settings), month, unsettled, "run")[SCALE]


def calibrate(settings: Settings, month: str) -> Step:
    link(settings, month)
    return publish(settings, month)[month]


def evaluate_gate(settings: Settings, month: str, gate: Any) -> tuple[GateResult, set[str]]:
    """The gate's result, and the names of all gates that fail."""
    with Database(settings).connect() as connection:
        evidence = evidence_of(connection, folder_store(settings), month, read_scales(connection)[SCALE])
    return gate(evidence), set(failures(judge_gates(evidence)))


def with_history(settings: Settings, intercepts: tuple[float, ...]) -> None:
    """Store earlier months whose publication step is done, with these linking constants."""
    database = Database(settings)
    made_up = made_up_calibration(dict.fromkeys(ITEMS[:ANCHORS], (1.0, 0.0)))
    for month, intercept in zip(EARLIER, intercepts, strict=True):
        fit_id = link_made_up(database, folder_store(settings), month, made_up)
        constants = f'{{"intercept": {intercept}, "intercept_se": 0.04, "slope_se": 0.04}}'
        run_sql(
            database,
            """UPDATE mirt_fit_meta SET model_spec = jsonb_set(model_spec, '{linking_constants}',
                 model_spec->'linking_constants' || %s::jsonb) WHERE fit_id = %s""",
            (constants, fit_id),
        )
        run_sql(
            database,
            """INSERT INTO publication_step (month, scale_id, fit_id, state, n_published, n_proposed, n_held, held, why)
               VALUES (%s, %s, %s, 'done', 0, 0, 0, '{}', 'made up')""",
            (month, SCALE, fit_id),
        )


NEAR_ZERO = (0.05, -0.06, 0.02, 0.08, -0.04, 0.0, -0.05, 0.03)


# -- anchors that moved as a group -------------------------------------------------------------------


def test_month_whose_anchors_all_moved_together_is_held(bank: Settings) -> None:
    """Q does not detect this, as the anchors agree with each other; the remaining published items do."""
    begin(bank)
    first = calibrate(bank, FIRST)
    result, _ = evaluate_gate(bank, FIRST, anchors_move_with_the_others)
    assert (first.state, first.n_published) == ("done", OTHERS)
    assert result.why.endswith(
        "the month has estimated 0 published items besides the anchors well enough, and 5 are needed"
    )

    step = calibrate(bank, NEXT)
    verdict, failed = evaluate_gate(bank, NEXT, anchors_move_with_the_others)
    assert step.state == "held"
    assert failed == {"anchors_move_with_the_others"}
    assert not missing_sentences(
        step.why, "the anchors became easier, or the others harder", "decide: find out which group moved"
    )
    assert (verdict.details["shift"], verdict.details["items"]) == (
        pytest.approx(EASIER, abs=4 * verdict.details["shift_se"]),
        OTHERS,
    )


def test_months_that_run_together_are_classified_as_in_sequence(bank: Settings) -> None:
    """The second month is linked and pending before the first publishes; its comparison is repeated afterwards."""
    begin(bank)
    link(bank, NEXT)
    assert publish(bank, NEXT, (FIRST,))[NEXT].state == "pending"
    link(bank, FIRST)
    assert (
        {month: step.state for month, step in publish(bank, FIRST).items()},
        evaluate_gate(bank, NEXT, anchors_move_with_the_others)[1],
    ) == ({FIRST: "done", NEXT: "held"}, {"anchors_move_with_the_others"})


def test_a_month_is_not_compared_with_itself(bank: Settings) -> None:
    """The third month is sound, and runs twice. Values that its first run published are not in force in the month."""
    database = begin(bank, min_responses=LEARNERS)
    run_sql(database, "DELETE FROM response_log WHERE item_id = 'o00' AND completed_at < '2026-08-01'")
    calibrate(bank, FIRST)
    found = []
    for _ in range(2):
        assert calibrate(bank, OTHERS_LEARN).state == "done"
        found.append(evaluate_gate(bank, OTHERS_LEARN, anchors_move_with_the_others)[0].details)
    assert (found[0], found[0]["items"]) == (pytest.approx(found[1]), OTHERS - 1)
    assert abs(found[0]["shift"]) < 4 * found[0]["shift_se"] < 0.4
    assert ("o00",) in rows(
        database, "SELECT item_id FROM item_parameter_publication WHERE month = %s", (OTHERS_LEARN,)
    )


def test_anchor_gate_passes_if_no_published_item_can_be_compared(bank: Settings) -> None:
    """All published items are withdrawn, or an earlier month runs later, when no parameters were in force yet."""
    database = begin(bank)
    calibrate(bank, NEXT)
    run_sql(
        database,
        """INSERT INTO decision (kind, scale_id, subject, value, effective_from, decided_by, reason)
           SELECT 'withdraw an item', scale_id, item_id, '{"state": "withdrawn"}', '2026-08-01', 'Ann', 'to see'
           FROM question WHERE item_id ~ '^o'""",
    )
    calibrate(bank, OTHERS_LEARN)
    result = evaluate_gate(bank, OTHERS_LEARN, anchors_move_with_the_others)[0]
    assert (result.passed, result.why.startswith("the anchors cannot be compared with other items")) == (True, True)
    calibrate(bank, FIRST)
    assert evaluate_gate(bank, FIRST, anchors_move_with_the_others)[0].why.startswith(
        "the anchors cannot be compared with other items"
    )


# -- constants that jump -----------------------------------------------------------------------------


def test_month_far_from_the_previous_months_is_held(bank: Settings) -> None:
    begin(bank)
    with_history(bank, NEAR_ZERO)
    assert calibrate(bank, FIRST).state == "done"
    step = calibrate(bank, OTHERS_LEARN)
    assert (step.state, "against 9 earlier months the intercept jumps by +1.0" in step.why) == ("held", True)
    assert evaluate_gate(bank, OTHERS_LEARN, linking_stays_near_its_history)[1] == {"linking_stays_near_its_history"}
