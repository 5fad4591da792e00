"""Whether a month is green: the pure judgement, and the states that the real job leaves in a Dagster instance."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from irt_assets.calibration.assets import MONTH_STATE_TAG
from irt_assets.calibration.checks import gates_of_rules
from irt_assets.calibration.group_shift import measure_month
from irt_assets.calibration.month import fit_month, link_month
from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.partitions import Month, months_between
from irt_assets.common.retries import HELD
from irt_assets.decisions.closing import close_months
from irt_assets.decisions.rule_trial import TrialResult, try_rules
from irt_assets.engines.em import EmEngine
from irt_assets.engines.registry import build
from irt_assets.gates import month_status
from irt_assets.gates.gates import SET_GATES
from irt_assets.gates.judged_months import judge_again
from irt_assets.gates.month_classification import (
    MONTHLY_ASSETS,
    QUESTIONS,
    Cause,
    GateStatus,
    MonthEvidence,
    Newer,
    State,
    classify_month,
    first_newer,
)
from irt_assets.ledger.month_state import LatestAttempt, latest_attempts
from irt_assets.ledger.month_verdicts import judged_months
from irt_assets.ledger.steps import Step
from irt_assets.responses.closed_months import scales_of_months
from irt_assets.responses.snapshot import settle_states, stored_rules, take_snapshot
from irt_assets.responses.verdicts import judge_differing
from irt_assets.runs.in_process_runs import run_checks
from irt_assets.scales.rules import PublicationRules, Rules, WarningRules
from irt_assets.scales.scale import Scale, change_rules, read_scales
from irt_assets.scales.scale_decisions import MOVEMENT, record_decisions
from resources.dagster_compat import BulkActionStatus, PartitionBackfill
from resources.postgres.embedded_postgres import EmbeddedPostgres
from tests.helpers import rooms
from tests.helpers.dagster_private import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemotePartitionSetOrigin,
    RemoteRepositoryOrigin,
)
from tests.helpers.sentences import missing_sentences
from tests.integration.graph import Graph, graph_after_first_month

BEFORE = "2026-05"
MONTH, LATER = rooms.MONTHS
PASSED, FAILED, UNKNOWN = GateStatus(True, "fine"), GateStatus(False, "broken"), GateStatus(None, "not evaluated")
ANCHORS = Newer("anchors were dropped", "linked_item_parameters", Cause.DECISION)
ANSWERS = Newer("new answers", "scored_responses", Cause.ANSWERS)

# -- the judgement -----------------------------------------------------------------------------------


def step(state: Any) -> Step:
    return Step(month=MONTH, scale_id=rooms.SCALE, fit_id="fit", state=state, n_published=1, why=f"it is {state}")


@pytest.mark.parametrize(
    ("evidence", "expected", "reason"),
    [
        (MonthEvidence(gates={"g": PASSED}, step=step("done")), State.GREEN, "it is done"),
        (MonthEvidence(gates={"g": PASSED}, step=step("done"), running=True), State.RUNNING, "queued or under way"),
        (MonthEvidence(gates={}, answers="unscored"), State.MISSING, "irt calibrate --month 2026-06"),
        (MonthEvidence(gates={}, answers="none"), State.EMPTY, "no answers"),
        (MonthEvidence(gates={}, answers="unscored", running=True), State.RUNNING, "queued"),
        (MonthEvidence(gates={"g": PASSED, "h": FAILED}, step=step("done")), State.RED, "h: broken"),
        (MonthEvidence(gates={"g": PASSED, "h": UNKNOWN}, was_fitted=False), State.MISSING, "nothing was fitted"),
        (MonthEvidence(gates={"g": PASSED, "h": UNKNOWN}), State.RED, "a run ended early, materialise the month again"),
        (
            MonthEvidence(gates={"g": PASSED, "h": UNKNOWN}, step=step("done"), failure="no fit"),
            State.RED,
            "no fit (not",
        ),
        (MonthEvidence(gates={"g": FAILED}, step=step("done"), changed=ANSWERS), State.RED, "g: broken"),
        (MonthEvidence(gates={"g": PASSED}, step=step("done"), changed=ANSWERS), State.STALE, "new answers"),
        (
            MonthEvidence(gates={"g": FAILED}, step=step("held"), changed=ANCHORS),
            State.STALE,
            "decided, to be made again",
        ),
        (
            MonthEvidence(gates={"g": UNKNOWN}, step=step("held"), changed=ANCHORS),
            State.STALE,
            "to be made again: anchors",
        ),
        (MonthEvidence(gates={"g": FAILED}, changed=ANCHORS, running=True), State.RUNNING, "queued or under way"),
        (MonthEvidence(gates={"g": PASSED}), State.RED, "publication step has not run"),
        (MonthEvidence(gates={"g": PASSED}, step=step("pending")), State.PENDING, "it is pending"),
        (MonthEvidence(gates={"g": PASSED}, step=step("held")), State.RED, "it is held"),
    ],
)
def test_the_state_of_a_month_follows_from_its_evidence(evidence: MonthEvidence, expected: State, reason: str) -> None:
    found = classify_month(MONTH, rooms.SCALE, evidence)
    assert (found.state, reason in found.why) == (expected, True), found.why


@pytest.mark.parametrize(
    "evidence",
    [
        MonthEvidence(gates={}, answers="none"),
        MonthEvidence(gates={"g": PASSED, "h": UNKNOWN}, was_fitted=False),
    ],
    ids=["never made", "only scored"],
)
def test_month_in_the_origin_window_is_not_missing_and_names_the_first_month_of_drift(evidence: MonthEvidence) -> None:
    found = classify_month(MONTH, rooms.SCALE, replace(evidence, drift_begins=LATER))
    assert found.state is State.ORIGIN
    assert found.why == f"part of the origin window, and drift begins after it, in {LATER}"
    assert classify_month(MONTH, rooms.SCALE, evidence).state in (State.EMPTY, State.MISSING)


def test_month_of_the_origin_window_is_stale_once_its_answers_change() -> None:
    gates = {"g": PASSED, "h": UNKNOWN}
    evidence = MonthEvidence(gates=gates, was_fitted=False, drift_begins=LATER, changed=ANSWERS)
    assert classify_month(MONTH, rooms.SCALE, evidence).state is State.STALE


def test_stale_month_has_four_possible_causes_and_is_recomputed_from_its_earliest_step() -> None:
    assert {cause for cause, _ in QUESTIONS.values()} == {*Cause}
    assert first_newer({}) is None
    steps = [asset for _, asset in QUESTIONS.values()]
    assert steps == sorted(steps, key=MONTHLY_ASSETS.index)
    found = first_newer({"linked_alone": "later", "other_model": "earlier", "scored_alone": None})
    assert found == Newer("earlier", "item_calibration", Cause.RULES)
    decided = {question for question, (cause, asset) in QUESTIONS.items() if Newer("", asset, cause).decided}
    assert decided == {"other_eligibility", "other_model", "other_anchors", "other_linking", "other_limits"}


# -- the real job ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graph(postgres: EmbeddedPostgres, small_truth: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    with graph_after_first_month(postgres, tmp_path_factory.mktemp("graph")) as graph:
        yield graph


@pytest.fixture
def own_graph(postgres: EmbeddedPostgres, small_truth: object, tmp_path: Path) -> Iterator[Graph]:
    """A graph in which a test may make the later month, which is missing in other tests."""
    with graph_after_first_month(postgres, tmp_path) as graph:
        yield graph


def scale_rules(graph: Graph) -> Rules:
    with graph.database.connect() as connection:
        return read_scales(connection)[rooms.SCALE].rules


@contextmanager
def with_rules(graph: Graph, rules: dict[str, Any]) -> Iterator[None]:
    """Context in which the scale has other rules."""
    before = scale_rules(graph).settings()
    change_rules(graph.database, rooms.SCALE, rules)
    try:
        yield
    finally:
        change_rules(graph.database, rooms.SCALE, {name: before[name] for name in rules})


def test_month_with_a_successful_run_is_green_and_a_month_without_a_run_is_missing(graph: Graph) -> None:
    found = graph.state(MONTH)
    assert (found.state, "first published" in found.why) == (State.GREEN, True), found.why
    assert graph.state(LATER).state is State.MISSING


def test_month_of_a_scale_without_origin_names_the_origin_even_if_its_fit_failed(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    def uninitialised(*arguments: Any) -> dict[str, dict[str, Scale]]:
        return {
            month: {name: replace(scale, initialised=False) for name, scale in scales.items()}
            for month, scales in scales_of_months(*arguments).items()
        }

    def unfitted(*arguments: Any) -> dict[tuple[str, str, str], LatestAttempt]:
        why = "only 7 learners answered two or more items: widen the window or collect more answers"
        return {key: replace(own, fit_id="new", error=why) for key, own in latest_attempts(*arguments).items()}

    monkeypatch.setattr(month_status, "scales_of_months", uninitialised)
    monkeypatch.setattr(month_status, "latest_attempts", unfitted)
    found = graph.state(MONTH)
    assert found.state is State.RED
    assert not missing_sentences(
        found.why, f"scale {rooms.SCALE} has no origin", f"`irt scale init --scale {rooms.SCALE} --origin {MONTH}`"
    )
    assert "collect more answers" not in found.why


def test_month_belongs_to_the_origin_window_only_if_the_window_contains_all_of_its_days(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    (start, _), (_, end) = Month(MONTH).bounds, Month(LATER).bounds
    for until, state in ((end, State.ORIGIN), (end - timedelta(days=1), State.MISSING)):
        monkeypatch.setattr(month_status, "origin_windows", lambda _, until=until: {rooms.SCALE: (start, until)})
        assert graph.state(LATER).state is state
        assert graph.state(MONTH).state is State.GREEN, "it was made"


def test_states_of_many_months_take_as_many_queries_as_the_state_of_one(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries: list[str] = []
    execute = psycopg.Connection.execute

    def counted(connection: psycopg.Connection, query: Any, *others: Any, **options: Any) -> Any:
        queries.append(str(query))
        return execute(connection, query, *others, **options)

    years = list(months_between("2016-01", BEFORE))
    with graph.database.connect() as connection:
        monkeypatch.setattr(psycopg.Connection, "execute", counted)
        month_status.ledger_states(connection, [MONTH])
        alone = len(queries)
        states = month_status.ledger_states(connection, [*years, MONTH, LATER])
    assert [one.state for one in states] == [State.EMPTY] * len(years) + [State.GREEN, State.MISSING]
    assert len(queries) <= 2 * alone + 1, "months without a snapshot are looked up in the log, by one query"


def judge(graph: Graph) -> None:
    """Judge the month, as the night does."""
    judge_differing(graph.database, *(at.date() for at in Month(MONTH).bounds))


def test_late_answer_makes_an_open_month_stale_but_not_a_closed_month(graph: Graph) -> None:
    """A changed eligibility rule leaves a closed month green; a changed rule of the fit does not."""
    late = rooms.attempt("someone", "A01", datetime(2026, 6, 15, tzinfo=UTC))
    rooms.add_attempts(graph.database, [late])
    assert graph.state(MONTH).state is State.GREEN, "not judged yet"
    judge(graph)
    found = graph.state(MONTH)
    assert (found.state, "answers have changed" in found.why) == (State.STALE, True)
    rooms.run_sql(graph.database, "DELETE FROM response_log WHERE attempt_id = %s", (late["attempt_id"],))
    judge(graph)
    settle_states(graph.database)
    assert graph.state(MONTH).state is State.GREEN
    assert MONTH in {one.month for one in close_months(graph.database, datetime.now(UTC))}
    rooms.add_attempts(graph.database, [late])
    judge(graph)
    with with_rules(graph, {"rapid_share": 0.2}):
        assert graph.state(MONTH).state is State.GREEN
    with with_rules(graph, {"latent": "histogram"}):
        assert graph.state(MONTH).asset == "item_calibration"
    rooms.run_sql(graph.database, "DELETE FROM response_log WHERE attempt_id = %s", (late["attempt_id"],))
    rooms.run_sql(graph.database, "DELETE FROM month_state")
    judge(graph)
    settle_states(graph.database)
    assert graph.state(MONTH).state is State.GREEN


@pytest.mark.parametrize(
    ("rule", "value", "asset", "reason"),
    [
        ("rapid_share", 0.2, "scored_responses", "the scale's settings have changed since"),
        ("assignment", "by_level", "item_calibration", "the scale's settings have changed since it was fitted"),
        ("latent", "histogram", "item_calibration", "the scale's model has changed since it was fitted"),
        ("min_anchor_responses", 81, "linked_item_parameters", "the scale's settings have changed since it was linked"),
    ],
)
def test_changed_rule_makes_a_month_stale_from_the_step_that_uses_the_rule(
    graph: Graph, rule: str, value: Any, asset: str, reason: str
) -> None:
    with with_rules(graph, {rule: value}):
        found = graph.state(MONTH)
    assert (found.state, found.asset) == (State.STALE, asset)
    assert found.why.startswith(f"decided, to be made again: {reason}")
    assert graph.state(MONTH).state is State.GREEN


LIMITS: dict[str, Any] = {
    "max_abs_b": 5.0, "max_b_se": 0.9, "max_rmsd": 0.08, "min_anchors": 4, "min_anchor_share": 0.6,
    "max_item_variation": 0.2, "max_linking_error": 0.3, "warn_linking_error": 0.2, "max_anchor_shift": 0.2,
    "max_rejected_share": 0.2, "second_dimension": "hold", "new_misfit": "warn",
    "demanded_engines": "pymc", "warn_anchor_share": 0.8, "agreement_max_se": 2.0, "agreement_max_rms": 1.0,
    "dif_attributes": "lang", "item_variation_max": 0.2, "min_facility": 0.2, "max_facility": 0.9,
    "min_item_rest": 0.2, "min_option_share": 0.1, "max_group_shift": 0.1,
}  # fmt: skip


def test_changed_limits_make_a_month_stale_only_if_a_set_gate_reads_them(graph: Graph) -> None:
    assert set(LIMITS) == {*PublicationRules.model_fields, *WarningRules.model_fields}
    read = {rule for gate in SET_GATES for rule in gate.rules}
    with with_rules(graph, {name: value for name, value in LIMITS.items() if name not in read}):
        assert graph.state(MONTH).state is State.GREEN
    with with_rules(graph, LIMITS):
        found = graph.state(MONTH)
    assert (found.state, found.asset) == (State.STALE, "published_item_parameters")
    assert "max_item_variation" in found.why
    assert graph.state(MONTH).state is State.GREEN


def test_gate_limits_stored_with_a_month_do_not_make_the_month_stale(graph: Graph) -> None:
    used = stored_rules(scale_rules(graph)) | LIMITS
    for statement in (
        "UPDATE scored_snapshot SET rules = jsonb_build_object('default', %s::jsonb)",
        "UPDATE fit_staging SET spec = spec || jsonb_build_object('eligibility', %s::jsonb)",
        "UPDATE mirt_fit_meta SET model_spec = model_spec || jsonb_build_object('eligibility', %s::jsonb)",
    ):
        rooms.run_sql(graph.database, statement, (json.dumps(used),))
    assert graph.state(MONTH).state is State.GREEN


def test_decision_on_the_growth_of_abilities_leaves_a_month_green(graph: Graph) -> None:
    with graph.database.connect() as connection:
        values = dict.fromkeys(MOVEMENT, "0.01")
        record_decisions(connection, rooms.SCALE, values, Month(MONTH).start, by="Ann", reason="to see")
    found = graph.state(MONTH)
    rooms.run_sql(graph.database, "DELETE FROM scale_decision")
    assert found.state is State.GREEN, found.why


def test_month_fitted_before_its_reference_month_is_stale(graph: Graph) -> None:
    """A killed month may be recomputed after the next month, whose misfit then had no reference."""
    for table, key in (("scored_snapshot", ""), ("fit_staging", ", 'fit_id', 'later ' || fit_id")):
        rooms.run_sql(
            graph.database,
            f"""INSERT INTO {table} SELECT (jsonb_populate_record(t, jsonb_build_object('month', %s::text{key}))).*
                FROM {table} t WHERE month = %s""",
            (BEFORE, MONTH),
        )
    found = graph.state(MONTH)
    for table in ("fit_staging", "scored_snapshot"):
        rooms.run_sql(graph.database, f"DELETE FROM {table} WHERE month = %s", (BEFORE,))
    assert (found.state, found.asset) == (State.STALE, "item_calibration")
    assert found.why.startswith("its misfit was judged before 2026-05 was fitted")
    assert graph.state(MONTH).state is State.GREEN


def test_step_materialised_alone_makes_a_month_stale_until_the_next_steps_have_run(graph: Graph) -> None:
    """Any step can be materialised alone in the UI, so that the month's numbers come from two different times."""
    with with_rules(graph, {"hinted": "exclude"}):
        take_snapshot(graph.database, graph.store, MONTH, None)
        found = [graph.state(MONTH)]
        fit_month(graph.database, graph.store, MONTH, EmEngine(1), None)
        found.append(graph.state(MONTH))
        link_month(graph.database, MONTH, None)
        found.append(graph.state(MONTH))
    assert [(state.state, state.why.partition(":")[0]) for state in found] == [
        (State.STALE, "its answers were judged again, but not fitted since"),
        (State.STALE, "it was fitted again, but not linked since"),
        (State.STALE, "it was linked again, but its publication step has not run since"),
    ]
    result = graph.run(MONTH)
    assert result.success
    assert graph.state(MONTH).state is State.GREEN
    [published] = result.asset_materializations_for_node("published_item_parameters")
    assert next(iter(published.metadata)) == "state"
    assert str(published.metadata["state"].value).startswith(f"**green**: {graph.state(MONTH).why}")


def test_new_snapshot_does_not_hide_a_fit_with_outdated_rules(graph: Graph) -> None:
    """No item has times so long that the rule changes the snapshot: the file is the same, with new rules."""
    with with_rules(graph, {"rapid_cap_ms": 9_999}):
        take_snapshot(graph.database, graph.store, MONTH, None)
        found = graph.state(MONTH)
    take_snapshot(graph.database, graph.store, MONTH, None)
    assert found.state is State.STALE
    assert "settings have changed since it was fitted" in found.why
    assert graph.state(MONTH).state is State.GREEN


def test_month_is_running_during_a_run_and_as_before_if_the_run_ends_before_its_first_step(graph: Graph) -> None:
    run = graph.planned_run(MONTH)
    assert graph.state(MONTH).state is State.RUNNING
    graph.instance.report_run_failed(run)
    assert graph.state(MONTH).state is State.GREEN


def test_failed_gate_makes_a_month_red_and_its_run_states_the_reason(own_graph: Graph) -> None:
    graph = own_graph
    with with_rules(graph, {"min_anchors": 1000}):
        result = graph.run(LATER)
        found = graph.state(LATER)
    assert (result.success, found.state) == (False, State.RED)
    assert found.why.startswith("anchors_agree: ")
    assert rooms.rows(graph.database, "SELECT 1 FROM item_parameter_publication WHERE month = %s", (LATER,)) == []
    (failed,) = (event for event in result.all_events if event.is_step_failure)
    assert failed.step_key == "published_item_parameters"
    failure = failed.step_failure_data.user_failure_data
    assert re.fullmatch(
        f"{LATER} is held: .* anchors agree with each other.*; decide: take the anchors that changed .*",
        failure.description or "",
    )
    assert failure.metadata["decide in"].value == "the dashboard, or `irt release`"
    name, shown = next(iter(failure.metadata.items()))
    assert (name, str(shown.value).startswith("**red**: anchors_agree: ")) == ("state", True), shown
    tagged = graph.instance.get_runs(dg.RunsFilter(tags={MONTH_STATE_TAG: "red"}))
    assert [run.run_id for run in tagged] == [result.run_id]
    seen = graph.instance.fetch_observations(dg.AssetKey("published_item_parameters"), limit=1).records[0]
    assert (seen.partition_key, seen.asset_observation.metadata[HELD].value) == (LATER, failure.description)
    assert "abilities" not in {event.step_key for event in result.all_events if event.is_step_start}
    evaluations = {e.check_name: (e.passed, e.severity) for e in result.get_asset_check_evaluations()}
    assert evaluations["anchors_agree"] == (False, dg.AssetCheckSeverity.ERROR)
    assert {gate.name for gate in SET_GATES} <= evaluations.keys()


# -- requests of the sensor --------------------------------------------------------------------------


def test_ledger_sensor_requests_a_pending_month(graph: Graph) -> None:
    sensor = graph.defs.resolve_sensor_def("ledger")

    def asked() -> list[tuple[str | None, set[str]]]:
        context = dg.build_sensor_context(
            instance=graph.instance, resources={"database": graph.database}, definitions=graph.defs
        )
        return [
            (request.partition_key, {key.to_user_string() for key in request.asset_selection or ()})
            for request in sensor.evaluate_tick(context).run_requests or ()
        ]

    assert asked() == []
    rooms.run_sql(
        graph.database, "UPDATE publication_step SET state = 'pending' WHERE month = %s AND state = 'done'", (MONTH,)
    )
    waiting = asked()
    run = graph.planned_run(MONTH)
    under_way = asked()
    graph.instance.delete_run(run.run_id)
    rooms.run_sql(graph.database, "UPDATE publication_step SET state = 'done' WHERE month = %s", (MONTH,))
    assert waiting == [(MONTH, {"published_item_parameters", "abilities", "group_abilities"})]
    assert under_way == []


# -- runs in progress --------------------------------------------------------------------------------

REPOSITORY = RemoteRepositoryOrigin(
    code_location_origin=RegisteredCodeLocationOrigin("irt"), repository_name="__repository__"
)


def put_run(instance: dg.DagsterInstance, **run: Any) -> str:
    origin = RemoteJobOrigin(repository_origin=REPOSITORY, job_name=MONTHLY_JOB)
    stored = instance.run_storage.add_run(dg.DagsterRun(**{"job_name": MONTHLY_JOB, "remote_job_origin": origin} | run))
    return stored.run_id


def of_month(month: str, **tags: str) -> dict[str, str]:
    return {"dagster/partition": month} | tags


@pytest.mark.parametrize(
    ("statuses", "unsettled"),
    [
        (["QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"], {MONTH}),
        (["SUCCESS", "FAILURE", "CANCELED"], set()),
    ],
)
def test_month_is_unsettled_until_all_its_runs_have_ended(
    instance: dg.DagsterInstance, statuses: list[str], unsettled: set[str]
) -> None:
    for status in statuses:
        run_id = put_run(instance, tags=of_month(MONTH), status=dg.DagsterRunStatus[status])
        assert month_status.unsettled_months(instance) == unsettled, status
        assert month_status.unsettled_months(instance, besides_run=run_id) == set(), status
        instance.delete_run(run_id)


def test_runs_of_assets_without_publication_leave_months_settled(instance: dg.DagsterInstance) -> None:
    queued = dg.DagsterRunStatus.QUEUED
    put_run(instance, tags=of_month(MONTH), status=queued, asset_selection={dg.AssetKey("abilities")})
    put_run(instance, tags=of_month("2026-06-03"), status=queued, job_name="daily")
    assert month_status.unsettled_months(instance) == set()
    put_run(instance, tags=of_month(LATER), status=queued, asset_selection={dg.AssetKey("item_calibration")})
    assert month_status.unsettled_months(instance) == {LATER}


def job_backfill(months: list[str], job: str = MONTHLY_JOB) -> PartitionBackfill:
    return PartitionBackfill(
        backfill_id="backfill",
        status=BulkActionStatus.REQUESTED,
        from_failure=False,
        tags={},
        backfill_timestamp=time.time(),
        partition_set_origin=RemotePartitionSetOrigin(
            repository_origin=REPOSITORY, partition_set_name=f"{job}_partition_set"
        ),
        partition_names=months,
    )


def asset_backfill(graph: Graph, months: list[str], assets: list[str]) -> PartitionBackfill:
    return PartitionBackfill.from_asset_partitions(
        asset_graph=graph.defs.resolve_asset_graph(),
        backfill_id="backfill",
        tags={},
        backfill_timestamp=time.time(),
        asset_selection=[dg.AssetKey(name) for name in assets],
        partition_names=months,
        dynamic_partitions_store=graph.instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )


def test_months_still_to_come_in_a_job_backfill_are_unsettled(instance: dg.DagsterInstance) -> None:
    instance.add_backfill(job_backfill([MONTH, LATER, "2026-08"]))
    assert month_status.unsettled_months(instance) == {MONTH, LATER, "2026-08"}
    put_run(instance, tags=of_month(MONTH, **{"dagster/backfill": "backfill"}), status=dg.DagsterRunStatus.SUCCESS)
    assert month_status.unsettled_months(instance) == {LATER, "2026-08"}


def test_months_still_to_come_in_a_backfill_of_assets_are_unsettled(graph: Graph, instance: dg.DagsterInstance) -> None:
    instance.add_backfill(asset_backfill(graph, [MONTH, LATER], ["scored_responses", "item_calibration"]))
    put_run(instance, tags=of_month(LATER, **{"dagster/backfill": "backfill"}), status=dg.DagsterRunStatus.FAILURE)
    assert month_status.unsettled_months(instance) == {MONTH}


def test_backfill_without_publication_leaves_months_settled(graph: Graph, instance: dg.DagsterInstance) -> None:
    instance.add_backfill(asset_backfill(graph, [MONTH], ["abilities"]))
    assert month_status.unsettled_months(instance) == set()


def test_cancelled_backfill_leaves_months_settled(instance: dg.DagsterInstance) -> None:
    backfill = job_backfill([MONTH])
    instance.add_backfill(backfill)
    instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELED))
    assert month_status.unsettled_months(instance) == set()


# -- rules on trial ----------------------------------------------------------------------------------
# Trials of other rules for a month: a trial leaves nothing behind, and predicts the effect of the change.


def everything(own_graph: Graph) -> tuple[object, ...]:
    """The rows of every table, as text, the files of the store, and the runs."""
    tables = rooms.rows(
        own_graph.database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
    )
    content = [
        rooms.rows(
            own_graph.database, f"SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM \"{name}\" t"
        )
        for (name,) in tables
    ]
    return content, sorted(map(str, own_graph.store.root.rglob("*"))), len(own_graph.instance.get_run_ids())


@pytest.mark.parametrize(
    ("settings", "done"),
    [
        ({"max_rmsd": 0.001}, "its stored fit was judged again"),
        ({"min_anchor_responses": 1}, "its stored fit was linked again"),
        ({"latent": "normal"}, "it was fitted and linked again"),
        ({"hinted": "exclude", "max_abs_b": 1.0}, "its answers were judged, fitted and linked again"),
    ],
)
def test_trial_of_rules_stores_no_rows_and_predicts_the_result_of_the_change(
    own_graph: Graph, settings: dict, done: str
) -> None:
    before = everything(own_graph)
    trial = try_rules(
        own_graph.database, own_graph.store, MONTH, rooms.SCALE, settings, partial(build, settings=own_graph.settings)
    )
    assert everything(own_graph) == before
    assert done in "\n".join(trial.lines)
    assert trial.change.sentence in trial.lines
    change_rules(own_graph.database, rooms.SCALE, settings)
    if done != "its stored fit was judged again":
        take_snapshot(own_graph.database, own_graph.store, MONTH, None)
        if "fitted" in done:
            fit_month(own_graph.database, own_graph.store, MONTH, EmEngine(1), None)
        link_month(own_graph.database, MONTH, None)
        measure_month(own_graph.database, MONTH)
    now = month_before_trial(own_graph)
    assert now.held == trial.after.held
    assert {name: of.passed for name, of in now.verdicts.items()} == {
        name: of.passed for name, of in trial.after.verdicts.items()
    }
    # The same code on the same answers; threads may add them up in another order.
    for item, values in trial.after.items.items():
        assert now.items[item].abc == pytest.approx(values.abc, abs=1e-6)


def month_before_trial(own_graph: Graph) -> TrialResult:
    """State of the month before a trial of its present rules."""
    make = partial(build, settings=own_graph.settings)
    return try_rules(own_graph.database, own_graph.store, MONTH, rooms.SCALE, {}, make).before


def test_changed_gate_limit_is_evaluated_again_on_the_stored_fit(own_graph: Graph) -> None:
    """A green month turns red by the new limit, and green again by the old limit. Until then it is stale."""
    fits = rooms.rows(own_graph.database, "SELECT count(*) FROM fit_staging")
    gates = gates_of_rules({"min_anchors"})
    assert [gate.name for gate in gates] == ["anchors_agree"]
    found = []
    for limit in (1000, scale_rules(own_graph).publication.min_anchors):
        change_rules(own_graph.database, rooms.SCALE, {"min_anchors": limit})
        before = own_graph.state(MONTH)
        with own_graph.database.connect() as connection:
            judged = judged_months(connection, rooms.SCALE)
            changed = [
                (each.month, each.gate, each.passed) for each in judge_again(connection, gates, rooms.SCALE, judged)
            ]
        run_checks(own_graph.instance, own_graph.settings, gates, [MONTH])
        state = own_graph.state(MONTH)
        shown = own_graph.instance.event_log_storage.get_latest_asset_check_execution_by_key(
            [key := dg.AssetCheckKey(dg.AssetKey("linked_item_parameters"), "anchors_agree")]
        )[key]
        found.append((before.state, changed, state.state, shown.evaluation.passed))
        if limit == 1000:
            assert "of the anchors with enough responses; at least 1000 and 70% are needed" in state.why
    assert found == [
        (State.STALE, [(MONTH, "anchors_agree", False)], State.RED, False),
        (State.STALE, [(MONTH, "anchors_agree", True)], State.GREEN, True),
    ]
    assert rooms.rows(own_graph.database, "SELECT count(*) FROM fit_staging") == fits


def test_every_publication_rule_belongs_to_a_set_gate_except_item_limits_and_new_misfit() -> None:
    of_gates = {rule for gate in SET_GATES for rule in gate.rules}
    assert {*PublicationRules.model_fields} - of_gates == {"max_abs_b", "max_b_se", "max_rmsd", "new_misfit"}
