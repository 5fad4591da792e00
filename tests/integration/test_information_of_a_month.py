"""Information of a month: its loss, the cost of retiring items, and all parts that can be missing.

A made-up bank, so that the truth is known: 24 anchors, of which one was flattened, one got a wrong key, one lost most
of its answers, one all of them, and one its place in the bank; and an item that is new.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import dagster as dg
import numpy as np
import pytest

from irt_assets.blocks.markdown import markdown
from irt_assets.decisions.anchor_versions import FIND_OUT_FIRST
from irt_assets.decisions.origin import initialise
from irt_assets.drift.assets import DRIFT_JOB, drift_sentence, flagged_table, information_sentence, unestimated_items
from irt_assets.drift.checks import ITEM_INFORMATION_REMEDY, items_result
from irt_assets.drift.information import information_of_month
from irt_assets.drift.month import ScaleDrift, drift_of_month
from irt_assets.drift.rows import read_compared_items
from irt_assets.drift.uncompared_months import unjudged_scales
from irt_assets.gates.advisory_checks import anchors_cover_the_bank
from irt_assets.gates.evidence import GateResult
from irt_assets.gates.judged_months import judge_and_store
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.ledger.steps import Step, write_step
from irt_assets.reports import drift_facts
from irt_assets.reports.drift_report import verdict
from irt_assets.scales.scale import read_scales
from irt_assets.simulation.truth import Truth
from psychometrics_testbed.linked_months import errors
from resources.dagster_schema import ITEMS as ITEM_ROWS, rows_of
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import (
    LOWERED,
    MONTHS,
    SCALE,
    add_attempts,
    add_items,
    add_learners,
    answer_matrix,
    calibrate,
    call,
    evidence_of,
    folder_store,
    link_made_up,
    made_up_calibration,
    model_scores,
    rows,
    run_sql,
)
from tests.helpers.sentences import missing_sentences
from tests.helpers.worlds import OF_MONTHS
from tests.integration.graph import Graph, checks, metadata

ITEMS, LEARNERS = 24, 900
FLAT, KEY, FEW, NOBODY, VANISHED, NEW = "q00", "q01", "q02", "q03", "q04", "q99"
IDS = [f"q{j:02d}" for j in range(ITEMS)]
A, B = np.full(ITEMS, 1.3), np.linspace(-1.5, 1.5, ITEMS)[[*range(8, ITEMS), *range(8)]]
MONTH, EARLIER = MONTHS[1], MONTHS[0]


@pytest.fixture(scope="module")
def found(postgres: EmbeddedPostgres, migrated_template: str) -> dict[str, Any]:
    """The rows of the judged month by item."""
    return made_once(postgres, "template_information", migrated_template, judged_month, **OF_MONTHS)


@pytest.fixture(scope="module")
def made_up(
    postgres: EmbeddedPostgres, found: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """The world with the information of the month."""
    home = tmp_path_factory.mktemp("information")
    with template_copy(postgres, "template_information", home, **OF_MONTHS) as settings:
        yield settings


def judged_month(settings: Settings) -> dict[str, Any]:
    database, store = Database(settings), folder_store(settings)
    covariances = errors(A, B, 3000)
    a_se, b_se = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2)).T
    values = zip(IDS, A, B, a_se, b_se, covariances[:, 0, 1], strict=True)
    bank: dict[str, dict[str, Any] | None] = {
        item: {"a": a, "b": b, "a_se": sa, "b_se": sb, "cov_ab": sab, "n": 3000, "D": 1.0}
        for item, a, b, sa, sb, sab in values
    }
    add_items(database, bank | {NEW: None})
    add_items(database, {"nothing": None}, "empty scale")
    initialise(database, SCALE, first_month=MONTH, thresholds=LOWERED)
    rng = np.random.default_rng(11)
    theta = rng.normal(0.3, 1.1, LEARNERS)
    a_now = np.append(np.where(np.array(IDS) == FLAT, 0.4, A), 1.0)
    scores = model_scores(theta, a_now, np.append(B, 0.0), rng)
    scores[:, 1] = 1 - scores[:, 1]
    scores[60:, 2] = np.nan
    scores[:, 3] = np.nan
    users = [f"u{i:04d}" for i in range(LEARNERS)]
    add_learners(database, users)
    add_attempts(database, answer_matrix(MONTH, scores, [*IDS, NEW], users))
    run_sql(database, "DELETE FROM question WHERE item_id = %s", (VANISHED,))
    calibrate(settings, MONTH)
    information_of_month(database, store, MONTH)
    stored = rows(
        database,
        "SELECT item_id, curve, flagged, details FROM test_information WHERE month = %s AND scale_id = %s",
        (MONTH, SCALE),
    )
    return {item: {"curve": curve, "flagged": flag} | details for item, curve, flag, details in stored}


def information(a: float, b: float, theta: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-a * (theta - b)))
    return a**2 * p * (1 - p)


def test_only_items_that_lost_information_are_flagged(found: dict[str, Any]) -> None:
    assert {item for item, row in found.items() if item and row["flagged"]} == {FLAT, KEY}
    flat, key = found[FLAT], found[KEY]
    # 0.4² / 1.3² is 0.095 of the peak, and more of the average, as the flat curve is the wider one
    assert (flat["ratio"], flat["upper"] < 0.8) == (pytest.approx(0.14, abs=0.09), True)
    assert (key["now"], key["ratio"], key["upper"]) == (0.0, 0.0, None)
    b = B[IDS.index(FLAT)]
    assert flat["largest_drop"]["theta"] == pytest.approx(b, abs=0.2), "at its peak, as published"


def test_every_item_has_a_status_by_its_available_parameters(found: dict[str, Any]) -> None:
    missing = {FEW: "60 eligible answers", NOBODY: "it has no eligible answer", VANISHED: "no longer in the bank"}
    for item, reason in missing.items():
        row = found[item]
        assert (row["status"], row["curve"]["now"], row["now"]) == ("not estimated", None, None)
        assert (reason in row["why"], "ratio" in row) == (True, False)
    assert (found[NEW]["status"], found[NEW]["curve"]["published"], found[NEW]["published"]) == ("new", None, None)
    others = set(found) - {*missing, NEW, ""}
    assert ({found[item]["status"] for item in others}, len(others)) == ({"compared"}, ITEMS - 3)


def test_curves_equal_the_information_of_the_stored_parameters(made_up: Settings, found: dict[str, Any]) -> None:
    """The curves are stored with five digits, the parameters of the fit with all digits."""
    fitted = dict(
        rows(
            Database(made_up),
            """SELECT item_id, params FROM mirt_item_params JOIN mirt_fit_meta USING (fit_id)
               WHERE superseded_at IS NULL AND kind = 'monthly'""",
        )
    )
    theta = np.array(found[""]["curve"]["theta"])
    assert (theta[0], theta[-1], theta.size) == (-4, 4, 81)
    item = IDS[10]
    for side, a, b in (("published", A[10], B[10]), ("now", fitted[item]["a"], fitted[item]["b"])):
        np.testing.assert_allclose(found[item]["curve"][side], information(a, b, theta), rtol=1e-4)


def test_test_information_is_the_sum_of_its_items_and_its_se_the_inverse_root(found: dict[str, Any]) -> None:
    test, items = found[""]["curve"], {item: row for item, row in found.items() if item}
    compared = [row["curve"] for row in items.values() if row["status"] == "compared"]
    for side in ("published", "now"):
        np.testing.assert_allclose(test[side], np.sum([c[side] for c in compared], axis=0), rtol=1e-4)
    in_force = [row for row in items.values() if row["status"] != "new"]
    whole = np.sum([row["curve"]["now"] or row["curve"]["published"] for row in in_force], axis=0)
    curves = [row["curve"]["now"] or row["curve"]["published"] for row in in_force if not row["retire"]]
    expected = {"in_force": whole, "without_flagged": np.sum(curves, axis=0), "se_now": 1 / np.sqrt(test["now"])}
    np.testing.assert_allclose([test[name] for name in expected], list(expected.values()), rtol=1e-4)


def test_severity_of_an_item_equals_the_severity_in_item_drift(made_up: Settings, found: dict[str, Any]) -> None:
    database, store = Database(made_up), folder_store(made_up)
    drift_of_month(database, store, MONTH)
    severities = dict(rows(database, "SELECT item_id, severity FROM item_drift WHERE month = %s", (MONTH,)))
    assert (severities, severities[FEW], {item for item, level in severities.items() if level == "high"}) == (
        {item: row["severity"] for item, row in found.items() if item and row["severity"]},
        "none",  # by its proportion correct
        set(found[""]["drifted_items"]),
    )


def test_drift_job_writes_test_information_and_its_checks_warn_of_the_items(
    made_up: Settings, instance: dg.DagsterInstance
) -> None:
    result = Graph(made_up, instance).run(MONTH, DRIFT_JOB)
    evaluations = checks(result)
    items, test = evaluations["no_item_lost_information"], evaluations["the_test_kept_its_information"]
    assert (
        items.passed,
        items.severity,
        (items.description or "").startswith(f"{MONTH}: two items: {KEY} (keeps 0%), {FLAT} (keeps "),
        items.metadata["how to fix it"].value,
    ) == (False, dg.AssetCheckSeverity.WARN, True, ITEM_INFORMATION_REMEDY)
    assert test.passed
    reported = metadata(result, "test_information")
    assert f"plot: information ({SCALE})" in reported
    assert (
        "2 of 21 items lost information (q00 and q01)" in reported["information"],
        reported["dagster/row_count"],
    ) == (
        True,
        ITEMS + 2,
    )


def test_repeated_comparison_changes_no_rows(made_up: Settings) -> None:
    database, store = Database(made_up), folder_store(made_up)
    query = "SELECT item_id, curve, flagged, details FROM test_information ORDER BY 1"
    before = rows(database, query)
    information_of_month(database, store, MONTH)
    assert rows(database, query) == before


def test_month_without_a_comparison_states_the_reason_and_stores_no_rows(
    made_up: Settings,
) -> None:
    """The month has no parameters in force at its start and no fit; a second scale was never declared."""
    database = Database(made_up)
    reported = {
        one.scale_id: information_sentence(one)
        for one in information_of_month(database, folder_store(made_up), EARLIER)
    }
    assert (set(reported), all("has no converged fit that was linked" in text for text in reported.values())) == (
        {SCALE, "empty scale"},
        True,
    )
    assert rows(database, "SELECT count(*) FROM test_information WHERE month = %s", (EARLIER,)) == [(0,)]
    assert markdown(flagged_table({})) == "none"


# -- items that could not be estimated ---------------------------------------------------------------
# Published items that a month could not estimate: tested by proportion correct, or named with the reason.

FEW_ANSWERS = 80
"""Number of answers to an item. A fit of the small world requires 120."""


class Gaps(NamedTuple):
    """Items that the first month publishes, their changes in the second month, and its drift."""

    easier: str
    sound: str
    vanished: str
    unanswered: str
    judged: ScaleDrift


@pytest.fixture(scope="module")
def gaps(postgres: EmbeddedPostgres, small_truth: Truth) -> Gaps:
    return made_once(postgres, "template_gaps", "template_rooms", with_gaps, **OF_MONTHS)


@pytest.fixture(scope="module")
def world_with_gaps(
    postgres: EmbeddedPostgres, gaps: Gaps, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """The small world, whose second month lost answers to three published items, and whose bank lost one item."""
    with template_copy(postgres, "template_gaps", tmp_path_factory.mktemp("gaps"), **OF_MONTHS) as settings:
        yield settings


def with_gaps(settings: Settings) -> Gaps:
    database, store = Database(settings), folder_store(settings)
    initialise(database, SCALE, first_month=MONTHS[0], thresholds=LOWERED)
    calibrate(settings, MONTHS[0])
    easier, sound, vanished, unanswered = _published_and_answered(database)
    second = f"completed_at >= '{MONTHS[1]}-01' AND completed_at < '2026-08-01'"
    for item in (easier, sound):
        run_sql(
            database,
            f"""DELETE FROM response_log WHERE item_id = %s AND {second} AND attempt_id NOT IN (
                  SELECT attempt_id FROM response_log WHERE item_id = %s AND {second}
                  ORDER BY md5(attempt_id) LIMIT {FEW_ANSWERS})""",
            (item, item),
        )
    run_sql(database, f"UPDATE response_log SET correct = true WHERE item_id = %s AND {second}", (easier,))
    run_sql(database, f"DELETE FROM response_log WHERE item_id = %s AND {second}", (unanswered,))
    run_sql(database, "DELETE FROM question WHERE item_id = %s", (vanished,))
    calibrate(settings, MONTHS[1])
    (drift,) = drift_of_month(database, store, MONTHS[1])
    return Gaps(easier, sound, vanished, unanswered, drift)


def _published_and_answered(database: Database) -> list[str]:
    """Four items that are not anchors, neither hard nor easy, with enough answers in the second month."""
    found = rows(
        database,
        f"""SELECT p.item_id FROM item_parameter_current p JOIN response_log r USING (item_id)
            WHERE p.rule = 'first' AND abs(p.b) < 1 AND r.completed_at >= '{MONTHS[1]}-01'
              AND r.completed_at < '2026-08-01'
            GROUP BY 1 HAVING count(*) > 150 ORDER BY 1 LIMIT 4""",
    )
    return [item for (item,) in found]


def test_item_with_too_few_answers_for_a_fit_is_flagged_by_its_proportion_correct(
    world_with_gaps: Settings,
    gaps: Gaps,
) -> None:
    ((severity, area, delta_b, details),) = rows(
        Database(world_with_gaps),
        "SELECT severity, wabc, delta_b, details FROM item_drift WHERE month = %s AND item_id = %s",
        (MONTHS[1], gaps.easier),
    )
    tested = details["proportion_correct"]
    assert (severity, delta_b, tested["observed"]) == ("high", None, 1.0)
    assert 40 <= tested["n"] <= FEW_ANSWERS
    assert tested["difference"] == pytest.approx(1 - tested["expected"]) == pytest.approx(area)
    assert "a fit needs 120" in tested["why"]
    assert (details["change"]["kind"] in ("leak", "drift", "easier: drift or leak"), set(details["published"])) == (
        True,
        {"a", "b", "c"},
    )
    assert gaps.easier in gaps.judged.items("high")


def test_sound_item_with_too_few_answers_has_a_row_without_severity(
    world_with_gaps: Settings,
    gaps: Gaps,
) -> None:
    found = rows(
        Database(world_with_gaps),
        "SELECT severity FROM item_drift WHERE month = %s AND item_id = %s AND details ? 'proportion_correct'",
        (MONTHS[1], gaps.sound),
    )
    assert found == [("none",)]


def test_items_that_can_be_neither_compared_nor_tested_are_named_with_the_reason(
    world_with_gaps: Settings,
    gaps: Gaps,
) -> None:
    assert gaps.judged.unestimated.untested_items == {
        gaps.vanished: "it is no longer in the bank",
        gaps.unanswered: f"it has no eligible answer in {MONTHS[1]}",
    }
    with Database(world_with_gaps).connect() as connection:
        judged_rows = read_compared_items(connection, read_scales(connection)[SCALE], MONTHS[1])
    untested = "two published items could be neither compared nor tested"
    assert not missing_sentences(drift_sentence(gaps.judged, judged_rows), "2 tested by proportion correct", untested)
    table = markdown(*unestimated_items([gaps.judged], {SCALE: judged_rows}))
    assert table.index(gaps.easier) < table.index(gaps.vanished)
    with_rows = rows(Database(world_with_gaps), "SELECT item_id FROM item_drift WHERE month = %s", MONTHS[1:])
    assert not {(gaps.vanished,), (gaps.unanswered,)} & set(with_rows)


def test_easier_item_opens_an_alert_and_checks_name_the_easier_and_the_vanished_item(
    world_with_gaps: Settings,
    gaps: Gaps,
    instance: dg.DagsterInstance,
) -> None:
    opened = rows(
        Database(world_with_gaps), "SELECT opened_month, severity FROM drift_alerts WHERE item_id = %s", (gaps.easier,)
    )
    assert opened == [(MONTHS[1], "high")]
    evaluations = checks(Graph(world_with_gaps, instance).run(MONTHS[1], DRIFT_JOB))
    assert gaps.easier in (evaluations["no_item_drifted_far"].description or "")
    bank = evaluations["published_items_are_in_the_bank"]
    assert (bank.passed, bank.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert f"{gaps.vanished} (it is no longer in the bank)" in (bank.description or "")


# -- items that could not be judged ------------------------------------------------------------------
# A red month is not compared with published values; coverage of the bank by its anchors.

FEBRUARY = "2026-02"
ANCHORS = {"K1": (1.0, -1.0), "K2": (1.0, 0.0), "K3": (1.0, 1.0)}
WAY_OUT = (
    f"the month is red: its anchors disagree. {FIND_OUT_FIRST} Those that did change: "
    "`irt release drop-anchors K3 K1 --from 2026-02 --by NAME "
    "--reason WHY`, then `irt calibrate --month 2026-02`"
)


@pytest.fixture
def bank(database: Database, store: FolderStore) -> Database:
    """Its month is linked."""
    add_items(database, {item: {"a": a, "b": b, "a_se": 0.1, "b_se": 0.1} for item, (a, b) in ANCHORS.items()})
    initialise(database, SCALE, first_month="2026-01", thresholds={"min_anchors": 3})
    link_made_up(database, store, FEBRUARY, made_up_calibration(ANCHORS))
    return database


def make_red(bank: Database, store: FolderStore) -> None:
    """Its anchors disagree, and two are known to have moved."""
    link_made_up(bank, store, FEBRUARY, made_up_calibration(ANCHORS), q_p=0.001)
    suspects = {"K1": {"z": 3.0}, "K3": {"z": -7.0}}
    run_sql(
        bank,
        "UPDATE mirt_fit_meta SET model_spec = jsonb_set(model_spec, '{linking_constants,suspects}', %s)",
        (json.dumps({item: {"delta_b": 1.0, "delta_a": 0.0, "parameter": "b"} | z for item, z in suspects.items()}),),
    )
    with bank.connect() as connection:
        judge_and_store(connection, evidence_of(connection, store, FEBRUARY, read_scales(connection)[SCALE]))


def test_red_month_is_not_compared_and_names_the_open_decision(bank: Database, store: FolderStore) -> None:
    assert drift_of_month(bank, store, FEBRUARY)[0].drift is not None
    assert len(rows(bank, "SELECT * FROM item_drift")) == len(ANCHORS)
    make_red(bank, store)
    assert (
        drift_sentence(drift_of_month(bank, store, FEBRUARY)[0], []),
        information_of_month(bank, store, FEBRUARY)[0].why,
        rows(bank, "SELECT * FROM item_drift"),
        call(bank, unjudged_scales, FEBRUARY, "item_drift"),
    ) == (f"{SCALE}: not judged: {WAY_OUT}", f"not judged: {WAY_OUT}", [], {SCALE: f"not judged: {WAY_OUT}"})


def test_fit_in_the_ledger_has_the_state_of_its_publication_step(bank: Database, store: FolderStore) -> None:
    fit_id = link_made_up(bank, store, FEBRUARY, made_up_calibration(ANCHORS))
    with bank.connect() as connection:
        reason = "other learners; decide: look at them"
        write_step(connection, Step(month=FEBRUARY, scale_id=SCALE, fit_id=fit_id, state="held", why=reason), None)
    assert drift_of_month(bank, store, FEBRUARY)[0].why == f"not judged: the month is red: {reason}"
    link_made_up(bank, store, FEBRUARY, made_up_calibration(ANCHORS))
    assert drift_of_month(bank, store, FEBRUARY)[0].drift is not None


def test_report_of_a_red_month_recommends_the_open_decision(
    bank: Database, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same holds for a month that was compared before it turned red, at a different place on the scale."""
    monkeypatch.setattr(drift_facts, "snapshot_for_scale", lambda *_: None)  # nobody gave the answers of a made-up fit
    drift_of_month(bank, store, FEBRUARY)
    make_red(bank, store)
    red = MonthState(FEBRUARY, SCALE, State.RED, "anchors_agree: 3 anchors disagree")
    with bank.connect() as connection:
        facts = drift_facts.gather(connection, store, FEBRUARY, read_scales(connection)[SCALE], red)
    assert (facts.n_compared, facts.not_compared) == (0, WAY_OUT)
    assert "materialise item_drift" not in verdict(facts).look_at


def test_scale_without_a_comparison_fails_the_check(bank: Database) -> None:
    """The comparison failed or was never requested."""
    silent = call(bank, unjudged_scales, FEBRUARY, "item_drift")
    result = items_result([], "no item", "do this", severity=dg.AssetCheckSeverity.ERROR, unjudged=silent)
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert silent == {SCALE: result.description}
    (row,) = rows_of(result.metadata, ITEM_ROWS)
    assert (row["scale"], row["item"], row["why"]) == (SCALE, "", result.description)
    assert items_result([], "no item", "do this", unjudged={}).passed


# -- coverage by the anchors ---------------------------------------------------------------------------


def evaluate_coverage(bank: Database, store: FolderStore) -> GateResult:
    with bank.connect() as connection:
        return anchors_cover_the_bank(evidence_of(connection, store, FEBRUARY, read_scales(connection)[SCALE]))


def publish(bank: Database, b: dict[str, float], topic: str, effective_from: str = "2026-01-01Z") -> None:
    """Items of one topic, with the bank's values in another unit."""
    with bank.connect() as connection:
        for item, value in b.items():
            connection.execute(
                "INSERT INTO question (item_id, scale_id, topic_id, meta) VALUES (%s, %s, %s, %s)",
                (item, SCALE, topic, json.dumps({"irt": {"a": 1.0, "b": 500 + 100 * value}})),
            )
            connection.execute(
                """INSERT INTO item_parameter_publication
                     (scale_id, item_id, parameters, effective_from, rule, reason, anchor_hash, code_version)
                   VALUES (%s, %s, jsonb_build_object('a', 1, 'b', %s::float8, 'c', 0), %s, 'first', 'r', 'h', 'v')""",
                (SCALE, item, value, effective_from),
            )


def change_constants(bank: Database, **values: object) -> None:
    run_sql(
        bank,
        "UPDATE mirt_fit_meta SET model_spec = jsonb_set(model_spec, '{linking_constants}',"
        " (model_spec->'linking_constants') || %s)",
        (json.dumps(values),),
    )


def test_bank_is_covered_if_the_linking_error_is_small_at_both_ends(bank: Database, store: FolderStore) -> None:
    publish(bank, {f"N{k:02d}": float(b) for k, b in enumerate(np.linspace(-4, 4, 17))}, "topic")
    change_constants(bank, slope_se=0.03, intercept_se=0.03, slope_intercept_cov=0.0)
    assert evaluate_coverage(
        bank, store
    ).passed  # with the anchors the ends are b = ±3.05: √(0.03²·3.05² + 0.03²) = 0.096
    change_constants(bank, slope_intercept_cov=0.0003)
    assert evaluate_coverage(bank, store).why == (
        "the anchors used place b = 3.05, the 90th percentile of the published b, with a standard error of 0.11, "
        "limit 0.10"
    )


def test_a_topic_of_the_bank_needs_two_anchors(bank: Database, store: FolderStore) -> None:
    publish(bank, {f"N{k}": 0.0 for k in range(9)}, "sets")
    assert evaluate_coverage(bank, store).why == (
        "fewer than 2 anchors used from these topics, each a tenth of the bank or more: sets (0)"
    )


def test_coverage_is_evaluated_only_if_more_items_than_the_anchors_are_published(
    bank: Database, store: FolderStore
) -> None:
    """The ledger in force at the month's start counts, whatever further items the bank contains."""
    change_constants(bank, slope_se=0.5, intercept_se=0.5)
    publish(bank, {"N1": 0.0}, "sets", effective_from="2026-03-01Z")
    early = evaluate_coverage(bank, store)
    assert (early.passed, early.why) == (
        True,
        "3 anchors used; how they cover the bank is judged once it has published more than its anchors",
    )
    publish(bank, {"N2": 0.0}, "sets")
    assert not evaluate_coverage(bank, store).passed


def test_few_kept_anchors_fail_the_check_and_assumed_errors_are_only_reported(
    bank: Database, store: FolderStore
) -> None:
    assumed = "3 anchors have no errors in the bank"
    change_constants(bank, warnings=[assumed])
    assert (evaluate_coverage(bank, store).passed, evaluate_coverage(bank, store).why) == (True, assumed)
    change_constants(bank, share_kept=0.8)
    assert not evaluate_coverage(bank, store).passed
