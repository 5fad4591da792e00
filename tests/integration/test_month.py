"""A month from snapshot to ledger, scale by scale: good logs, bad logs, and rows for the documents' SQL."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from irt_assets.calibration.linking_history import read_history
from irt_assets.calibration.month import UnlinkedMonthError, fit_month, link_month, publish_month
from irt_assets.common.partitions import Month
from irt_assets.decisions.origin import initialise
from irt_assets.drift import information, month as drift_month
from irt_assets.engines.em import EmEngine
from irt_assets.ledger import fits
from irt_assets.ledger.steps import Step, steps
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.runs.in_process_runs import follow_up, run_month
from irt_assets.scales.scale import Scale, change_rules, read_scales
from irt_assets.servers.instance import dagster_instance
from irt_assets.simulation.truth import Truth
from irt_psychometrics import Calibration, PsychometricsError
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.settings import Settings
from resources.tables import METADATA
from tests.helpers.rooms import (
    MADE_UP_SPEC,
    MONTHS,
    SCALE,
    add_attempts,
    add_items,
    answer_matrix,
    attempt,
    fit_and_link,
    folder_store,
    made_up_calibration,
    made_up_snapshot,
    model_scores,
    rows,
    run_sql,
    stage_made_up,
)
from tests.helpers.sentences import missing_sentences

MONTH = MONTHS[0]
ENGINE = EmEngine(1)


def calibrate(settings: Settings, month: str = MONTH) -> dict[str, Step]:
    """Run all steps of a month. Returns its publication step by scale."""
    database, store = Database(settings), folder_store(settings)
    fit_and_link(database, store, month, ENGINE)
    return {scale: taken[month] for scale, taken in publish_month(database, store, month, (), "run").items()}


# -- a sound month -----------------------------------------------------------------------------------


def test_a_sound_month_publishes_parameters_near_the_truth(calibrated: Settings, small_truth: Truth) -> None:
    """Among 72 differences in standard errors, |z| > 4 has probability 0.005 if the errors are right."""
    bank, database = small_truth.bank, Database(calibrated)
    fitted = rows(
        database,
        """SELECT item_id, params FROM mirt_item_params JOIN mirt_fit_meta USING (fit_id)
           WHERE kind = 'monthly' AND window_start = %s AND superseded_at IS NULL""",
        (Month(MONTH).start,),
    )
    assert len(fitted) == 36
    for item, params in fitted:
        j = bank.item_ids.index(item)
        assert abs(params["a"] - bank.a[j]) < 4 * params["a_se"], item
        assert abs(params["b"] - bank.b[0, j]) < 4 * params["b_se"], item
    assert rows(database, "SELECT count(*) FROM item_parameter_publication WHERE rule = 'first'") == [(21,)]


def test_published_parameters_equal_the_linked_fit(months: Database) -> None:
    differing = rows(
        months,
        """SELECT count(*), count(*) FILTER (WHERE p.a = (i.params->>'a')::float AND p.b = (i.params->>'b')::float
                  AND p.b_se = (i.params->>'b_se')::float AND p.data_hash = m.data_hash AND m.converged)
           FROM item_parameter_publication p JOIN mirt_fit_meta m USING (fit_id)
           JOIN mirt_item_params i ON i.fit_id = p.fit_id AND i.item_id = p.item_id WHERE rule = 'first'""",
    )
    assert differing == [(21, 21)]


def test_month_calibrated_before_an_earlier_month_has_bit_identical_numbers(world: Settings, months: Database) -> None:
    """Constants and items depend only on the month's fit and the frozen anchors, and not on publications at the time
    of linking. Fit statistics are excluded: compiled and loaded loops round differently."""
    numbers = """SELECT model_spec->>'linking_constants', item_id, (params - 'fit')::text
                 FROM mirt_fit_meta JOIN mirt_item_params USING (fit_id)
                 WHERE kind = 'monthly' AND window_start = %s AND superseded_at IS NULL ORDER BY item_id"""
    start = (Month(MONTHS[1]).start,)
    calibrate(world, MONTHS[1])
    later_first = rows(Database(world), numbers, start)
    assert len(later_first) == 36
    assert later_first == rows(months, numbers, start)


def test_fit_statistics_of_a_month_are_stored_with_its_parameters(months: Database) -> None:
    """The world is sound: each of 36 items misfits at 0.1 % by chance."""
    ((fit_id, of_set),) = rows(
        months,
        """SELECT fit_id, model_spec->'fit_statistics' FROM mirt_fit_meta
           WHERE kind = 'monthly' AND window_start = %s AND superseded_at IS NULL""",
        (Month(MONTH).start,),
    )
    assert 0.7 < of_set["reliability"] < 0.95
    assert of_set["parallel"] is None  # no two items were seen by 200 learners of a cohort of 300
    items = rows(
        months,
        "SELECT point_biserial, infit, outfit, rmsd, params->'fit' FROM mirt_item_params WHERE fit_id = %s",
        (fit_id,),
    )
    assert len(items) == 36
    found = [(*statistics, others["rmsd_p"], others["rmsd_cutoff"]) for *statistics, others in items]
    lowest = [0.05, 0.7, 0.4, 0.0, 0.001, 0.0]
    highest = [0.8, 1.3, 2.5, 0.1, 1.0, np.inf]  # outfit depends on a few large residuals
    assert (np.min(found, axis=0) >= lowest).all()
    assert (np.max(found, axis=0) <= highest).all()


def items_of(database: Database, step: Step) -> list[tuple[Any, ...]]:
    return rows(database, "SELECT * FROM mirt_item_params WHERE fit_id = %s ORDER BY item_id", (step.fit_id,))


@pytest.fixture
def first(made_month: Settings) -> Step:
    """The publication step of the month in `made_month`."""
    with Database(made_month).connect() as connection:
        return steps(connection, SCALE)[MONTH]


def test_month_recalibrated_by_changed_code_supersedes_and_keeps_the_first_fit(
    made_month: Settings, first: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(made_month)
    kept = items_of(database, first)
    assert calibrate(made_month)[SCALE].fit_id == first.fit_id, "by the same code it is the same fit"
    monkeypatch.setattr("irt_assets.ledger.fits.code_version", lambda: "other code")
    second = calibrate(made_month)[SCALE]
    assert rows(database, "SELECT fit_id, superseded_at IS NULL FROM mirt_fit_meta ORDER BY fitted_at") == [
        (first.fit_id, False),
        (second.fit_id, True),
    ]
    assert (first.n_published, second.n_published, items_of(database, first)) == (21, 0, kept)
    published = "SELECT DISTINCT fit_id FROM item_parameter_publication WHERE rule = 'first'"
    assert rows(database, published) == [(first.fit_id,)]


def test_relinking_with_changed_anchors_leaves_the_published_fit_unchanged(made_month: Settings, first: Step) -> None:
    """The published numbers cite a fit; if its rows were replaced, their source could not be traced."""
    database = Database(made_month)
    kept = items_of(database, first)
    run_sql(database, "UPDATE anchor_set SET parameters = parameters || jsonb_build_object('b', b + 0.5)")
    link_month(database, MONTH, None)
    second = publish_month(database, folder_store(made_month), MONTH, (), None)[SCALE][MONTH]
    assert (second.fit_id != first.fit_id, second.n_published, items_of(database, first)) == (True, 0, kept)


def test_failed_linking_holds_the_month_and_keeps_the_earlier_fit(made_month: Settings, first: Step) -> None:
    database = Database(made_month)
    change_rules(database, SCALE, {"min_anchor_responses": 1_000_000})
    with pytest.raises(UnlinkedMonthError, match="cannot be placed on scale default"):
        link_month(database, MONTH, None)
    step = publish_month(database, folder_store(made_month), MONTH, (), None)[SCALE][MONTH]
    in_use = rows(database, "SELECT fit_id FROM mirt_fit_meta WHERE superseded_at IS NULL")
    assert (step.state, in_use) == ("held", [(first.fit_id,)])


def test_concurrent_runs_of_a_month_leave_a_single_fit_in_use_and_publish_once(world: Settings) -> None:
    """A step waits for the other run's transaction, so that neither leaves a mixed state."""
    with ThreadPoolExecutor(2) as pool:
        steps = [future.result()[SCALE] for future in [pool.submit(calibrate, world) for _ in range(2)]]
    database = Database(world)
    for table in ("mirt_fit_meta", "scored_snapshot"):
        assert rows(database, f"SELECT count(*) FROM {table} WHERE superseded_at IS NULL") == [(1,)]
    published = """SELECT count(*), count(DISTINCT item_id), count(DISTINCT fit_id) FROM item_parameter_publication
                   WHERE rule = 'first'"""
    assert rows(database, published) == [(21, 21, 1)]
    assert all(step.state in ("done", "held") for step in steps)


# -- several scales ----------------------------------------------------------------------------------


def second_scale(database: Database, scores: np.ndarray, *, anchors: bool, start: int = 0) -> None:
    """Items o00, o01, … on a scale `other`, answered by other learners."""
    items = [f"o{start + j:02d}" for j in range(scores.shape[1])]
    irt = {"a": 1.0, "b": 0.0, "a_se": 0.1, "b_se": 0.1} if anchors else None
    add_items(database, dict.fromkeys(items, irt), "other")
    users = [f"v{start}-{i}" for i in range(scores.shape[0])]
    add_attempts(database, answer_matrix(MONTH, scores, items, users))


def test_scale_without_origin_does_not_hold_a_second_scale(world: Settings) -> None:
    rng = np.random.default_rng(1)
    scores = model_scores(rng.normal(size=600), np.ones(8), np.linspace(-1, 1, 8), rng)
    second_scale(Database(world), scores, anchors=False)
    steps = calibrate(world)
    assert (steps[SCALE].state, steps[SCALE].n_published, steps["other"].state) == ("done", 21, "held")
    assert not missing_sentences(
        steps["other"].why, "irt scale init --scale other", f"irt scale init --scale other --origin {MONTH}"
    )


def test_scale_of_two_unconnected_forms_is_refused_and_both_forms_are_named(world: Settings) -> None:
    database, rng = Database(world), np.random.default_rng(2)
    for start in (0, 50):
        scores = model_scores(rng.normal(size=600), np.ones(8), np.linspace(-1, 1, 8), rng)
        second_scale(database, scores, anchors=True, start=start)
    initialise(database, "other", first_month=MONTH)
    steps = calibrate(world)
    assert (steps[SCALE].state, steps["other"].state) == ("done", "held")
    assert re.search(r"2 groups.*8 items, 600 learners \(o00.*8 items, 600 learners", steps["other"].why)
    assert rows(database, "SELECT DISTINCT scale_id FROM mirt_fit_meta") == [(SCALE,)]


def test_fit_of_a_month_fails_with_the_reason_of_each_scale_if_no_scale_can_be_fitted(world: Settings) -> None:
    database, store = Database(world), folder_store(world)
    add_items(database, {"o1": None}, "other")
    change_rules(database, SCALE, {"min_responses": 100_000, "min_provisional_responses": 100_000})
    take_snapshot(database, store, MONTH, None)
    with pytest.raises(
        PermanentFailure, match=r"(?s)default: .*few_item_resp.*from 100000 responses on.*other: .*\(no attempts\)"
    ) as failed:
        fit_month(database, store, MONTH, ENGINE, None)
    assert "no scale of 2026-06 could be fitted" in str(failed.value)


def test_fit_and_linking_name_the_missing_step_of_a_month(world: Settings) -> None:
    with pytest.raises(PermanentFailure, match="2026-06 has no snapshot: materialise scored_responses"):
        fit_month(Database(world), folder_store(world), MONTH, ENGINE, None)
    with pytest.raises(UnlinkedMonthError, match="2026-06 has no fit of scale default: materialise item_calibration"):
        link_month(Database(world), MONTH, None)


def test_fit_with_an_empty_bank_names_the_import_command(settings: Settings) -> None:
    database, store = Database(settings), folder_store(settings)
    add_attempts(database, [attempt("u", "i", Month(MONTH).start)])
    take_snapshot(database, store, MONTH, None)
    with pytest.raises(PermanentFailure, match="the bank has no items: `irt import questions FILE`"):
        fit_month(database, store, MONTH, ENGINE, None)


# -- bad logs: an explained failure or honest flags, never a silent green ---------------------------------

A = np.linspace(0.8, 1.5, 12)
B = np.linspace(-1.5, 1.5, 12)[[3, 7, 0, 11, 5, 9, 1, 10, 4, 8, 2, 6]]
NAMES = [f"i{j:02d}" for j in range(12)]
LOOSE = {"min_responses": 1, "min_learner_responses": 1, "min_anchor_responses": 1}


def sound(n: int = 400) -> np.ndarray:
    rng = np.random.default_rng(11)
    return model_scores(rng.normal(size=n), A, B, rng)


def prepare(
    settings: Settings,
    scores: np.ndarray,
    names: Sequence[str] = NAMES,
    *,
    thresholds: Mapping[str, Any] = LOOSE,
) -> None:
    """A bank whose items i00 … i11 are anchors with their true values; the answers in the month."""
    database = Database(settings)
    anchors = {f"i{j:02d}": {"a": A[j], "b": B[j], "a_se": 0.05, "b_se": 0.05} for j in range(12)}
    add_items(database, anchors | {name: anchors.get(name) for name in names})
    initialise(database, SCALE, first_month=MONTH, thresholds=dict(thresholds))
    add_attempts(database, answer_matrix(MONTH, scores, names))


def failure_of_month(settings: Settings) -> str:
    """Message with which the month fails. Also asserts that the ledger has no rows of the month."""
    with pytest.raises(PermanentFailure) as failed:
        calibrate(settings)
    assert publish_month(Database(settings), folder_store(settings), MONTH, (), None)[SCALE][MONTH].state == "held"
    assert rows(Database(settings), "SELECT * FROM item_parameter_publication WHERE rule <> 'origin'") == []
    return str(failed.value)


def test_baseline_of_the_bad_logs_is_published(settings: Settings) -> None:
    prepare(settings, sound())
    assert calibrate(settings)[SCALE].state == "done"


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (sound()[:, :1], "needs at least 3 items that were answered both correctly and wrongly, found 1"),
        (sound(1), ""),
        (np.ones((400, 12)), "correct"),
    ],
    ids=["one item", "one learner", "all correct"],
)
def test_log_that_determines_no_parameters_is_refused(settings: Settings, scores: np.ndarray, reason: str) -> None:
    prepare(settings, scores, NAMES[: scores.shape[1]])
    assert reason in failure_of_month(settings)


# -- the history of the linking ----------------------------------------------------------------------


def test_history_of_linking_ends_with_the_given_month(months: Database) -> None:
    with months.connect() as connection:
        scale = read_scales(connection)[SCALE]
        first, both = (read_history(connection, scale, month) for month in MONTHS)
    assert [(one.month, one.error) for one in both] == [(month, "") for month in MONTHS]
    assert first == both[:1]
    stored = rows(
        months,
        """SELECT (model_spec->'linking_constants'->>'slope')::float, model_spec->'linking_constants'->'anchors_used'
           FROM mirt_fit_meta WHERE kind = 'monthly' AND superseded_at IS NULL ORDER BY window_start""",
    )
    constants = [one.constants for one in both if one.constants]
    assert [(one.slope, len(one.anchors_used)) for one in constants] == [(slope, len(used)) for slope, used in stored]
    assert all(one.slope_se > 0 and one.intercept_se > 0 for one in constants)


def test_anchor_with_few_answers_is_counted_as_unseen_and_not_as_dropped(world: Settings) -> None:
    """The answers of an anchor are deleted, and the key of a second anchor is inverted."""
    database = Database(world)
    seldom, turned = (
        item for (item,) in rows(database, "SELECT item_id FROM anchor_set WHERE abs(b) < 0.8 ORDER BY item_id LIMIT 2")
    )
    run_sql(database, "DELETE FROM response_log WHERE item_id = %s AND right(attempt_id, 1) <> '1'", (seldom,))
    run_sql(database, "UPDATE response_log SET correct = NOT correct WHERE item_id = %s", (turned,))
    calibrate(world)
    with database.connect() as connection:
        (one,) = read_history(connection, read_scales(connection)[SCALE], MONTH)
    assert (turned in one.dropped, seldom in one.dropped) == (True, False)
    assert one.unseen >= 1


def test_unlinked_month_has_an_error_in_the_history(made_month: Settings) -> None:
    database = Database(made_month)
    run_sql(database, "UPDATE response_log SET correct = right(md5(attempt_id), 1) < '8'")
    change_rules(database, SCALE, {"min_anchor_responses": 1_000_000})
    with pytest.raises(UnlinkedMonthError):
        fit_and_link(database, folder_store(made_month), MONTH, ENGINE)
    with database.connect() as connection:
        (one,) = read_history(connection, read_scales(connection)[SCALE], MONTH)
    assert (one.constants, bool(one.error)) == (None, True)


# -- arithmetic that breaks down -----------------------------------------------------------------------


class BreakingEngine(EmEngine):
    def calibrate(self, *_: Any, **__: Any) -> Calibration:
        raise np.linalg.LinAlgError("Singular matrix")


def test_failed_fit_of_a_scale_is_stored_with_the_reason(world: Settings) -> None:
    database, store = Database(world), folder_store(world)
    take_snapshot(database, store, MONTH, "run")
    reason = (
        rf"{SCALE} could not be fitted by em: the arithmetic broke down on its data \(LinAlgError: Singular matrix\)"
    )
    with pytest.raises(PermanentFailure, match=reason):
        fit_month(database, store, MONTH, BreakingEngine(1), "run", lambda _: BreakingEngine(1))
    assert re.search(reason, rows(database, "SELECT error FROM fit_staging")[0][0])


BROKEN = "broken"
OF_SCALE = {SCALE: ("K1", "K2", "K3"), BROKEN: ("X1", "X2", "X3")}


@pytest.fixture
def two_scales(database: Database, settings: Settings) -> Database:
    """Two fitted scales. The errors of one are not a covariance matrix, as an engine may return them."""
    store = folder_store(settings)
    with database.connect() as connection:
        snapshot = made_up_snapshot(connection, store, MONTH)
    for scale, items in OF_SCALE.items():
        values = {item: (1.0, float(b)) for b, item in enumerate(items, -1)}
        bank = {item: {"a": a, "b": b, "a_se": 0.1, "b_se": 0.1} for item, (a, b) in values.items()}
        add_items(database, bank, scale)
        initialise(database, scale, first_month=MONTH, thresholds={"min_anchors": 3})
        fit = made_up_calibration(values)
        if scale == BROKEN:
            of_d = np.array([0.0, 1.0] * len(items))
            fit = replace(fit, joint_cov=np.outer(of_d, of_d) + np.diag(0.1 - 0.9 * of_d))
        with database.connect() as connection:
            fits.stage_fit(connection, snapshot, scale, "em", fit, MADE_UP_SPEC, None)
    return database


def test_latest_staged_fit_is_used_even_if_the_clock_was_set_back(database: Database, settings: Settings) -> None:
    values = {item: (1.0, float(b)) for b, item in enumerate(OF_SCALE[SCALE], -1)}
    for again in (False, True):
        last = stage_made_up(database, folder_store(settings), MONTH, made_up_calibration(values))
        with database.connect() as connection:
            staged = fits.latest_staged(connection, MONTH, SCALE, "em")
            connection.execute("UPDATE fit_staging SET fitted_at = fitted_at + interval '1 day'")
        assert staged.fit_id == last, again


def test_scale_with_a_failed_linking_is_held_and_does_not_hold_a_second_scale(
    two_scales: Database, settings: Settings
) -> None:
    outcomes = {o.scale_id: o for o in link_month(two_scales, MONTH, None)}
    assert outcomes[SCALE].error is None
    assert outcomes[SCALE].placed.linked
    reason = "it could not be linked to the anchors: the arithmetic broke down on its data (LinAlgError: "
    assert reason in (outcomes[BROKEN].error or "")
    assert rows(two_scales, "SELECT scale_id FROM mirt_fit_meta") == [(SCALE,)]
    taken = publish_month(two_scales, folder_store(settings), MONTH, (), None)
    assert {scale: steps[MONTH].state for scale, steps in taken.items()} == {SCALE: "done", BROKEN: "held"}
    assert reason in taken[BROKEN][MONTH].why


def test_scale_with_a_failed_comparison_does_not_hold_a_second_scale(
    two_scales: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drift, information and DIF are evaluated separately for each scale."""
    link_month(two_scales, MONTH, None)

    def compared(connection: Any, scale: Scale, month: str) -> str:
        if scale.scale_id == BROKEN:
            raise np.linalg.LinAlgError("Singular matrix")
        raise PsychometricsError("nothing")

    store = folder_store(settings)
    for module, judge in ((drift_month, drift_month.drift_of_month), (information, information.information_of_month)):
        monkeypatch.setattr(module, "compare_month", compared)
        reasons = {one.scale_id: one.why for one in judge(two_scales, store, MONTH)}
        assert reasons[SCALE] == "nothing"
        assert reasons[BROKEN].startswith(f"{MONTH} could not be judged: the arithmetic broke down")


# -- recomputed months -------------------------------------------------------------------------------
# A month that is recomputed with the same answers, rules, code and engine changes no visible result.

OF_THE_MAKING = ("run_id", "run", "seconds", "url", "sha256", "artifact_id", "update_id")
"""Columns that belong to a run and not to its result, besides times."""


def stored_rows(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, without the columns that belong to a run."""
    found = {}
    with database.connect() as connection:
        for table in METADATA.sorted_tables:
            rows = [row for (row,) in connection.execute(f'SELECT to_jsonb(t) FROM "{table.name}" t'.encode())]
            kept = [
                {name: value for name, value in row.items() if name not in OF_THE_MAKING and not name.endswith("_at")}
                for row in rows
            ]
            found[table.name] = sorted(kept, key=str)
    return found


@pytest.mark.ci
def test_recomputed_month_leaves_stored_results_unchanged(made_month: Settings) -> None:
    database = Database(made_month)
    with dagster_instance(made_month, database) as instance:
        assert all(outcome.success for outcome in follow_up(instance, made_month))
        before = stored_rows(database)
        assert run_month(instance, made_month, MONTH).success
        assert all(outcome.success for outcome in follow_up(instance, made_month))
        after = stored_rows(database)
    assert {name: len(rows) for name, rows in after.items()} == {name: len(rows) for name, rows in before.items()}
    assert [name for name, rows in before.items() if after[name] != rows] == []
