"""Alerts of the sensors for runs, checks and schedules of a real Dagster instance: one per problem, one at its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster_shared.error import SerializableErrorInfo

from irt_assets.common.partitions import DAYS, MONTHS as MONTHS_PERIOD, WEEKS
from irt_assets.common.retries import HELD
from irt_assets.decisions.rekey import rekey
from irt_assets.gates.gates import SET_GATES, SetGate
from irt_assets.invariants.history import Report, store_results
from irt_assets.invariants.invariant import InvariantResult, Violation
from irt_assets.invariants.registry import INVARIANTS
from irt_assets.ledger.month_verdicts import GateVerdict, write_gates
from irt_assets.servers.instance import dagster_instance
from jobs.plans import Plan
from jobs.watching.alert_sensors import build_alert_sensors
from jobs.watching.alerts import held_alert
from jobs.watching.lateness import Lateness, PlanRecord, lateness
from resources.alerts.outbox import Alert, open_alert, queue
from resources.dagster_compat import InstigatorState, InstigatorType, ScheduleInstigatorData, TickStatus
from resources.dagster_schema import HOW_TO_FIX, ITEMS, KNOWN_FROM, row_table
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.dagster_private import (
    InstigatorStatus,
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
    SensorInstigatorData,
    TickData,
    check_run_timeout,
)
from tests.helpers.decided import WITHDRAWN
from tests.helpers.rooms import SCALE, add_attempts, add_items, attempt, call, rows, run_sql
from tests.helpers.worlds import not_before

pytestmark = pytest.mark.ci

MONTHS = dg.MonthlyPartitionsDefinition(start_date="2026-06", fmt="%Y-%m", end_offset=0)
JUNE = "2026-06"
NIGHTLY = Plan("nightly", "0 3 * * *", "nights", DAYS, 14)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class World:
    """Two assets that break and checks that fail on request, and the sensors that watch them."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings, self.instance = settings, instance
        self.broken, self.gate, self.evaluate = False, True, True
        self.items: dict[str, list[str]] = {}
        """The new items that each check on items reports."""
        self.error: BaseException = dg.Failure("the month has no answers", allow_retries=False)
        self.cursors: dict[str, str | None] = {}

        @dg.asset(partitions_def=MONTHS)
        def first() -> None:
            if self.broken:
                raise self.error

        @dg.asset(partitions_def=MONTHS, deps=[first])
        def second() -> None:
            pass

        @dg.asset_check(asset=first, partitions_def=MONTHS)
        def gate() -> dg.AssetCheckResult:
            tests = row_table(("scale", "test"), [(SCALE, "placement")])  # some checks report other things than items
            details = {} if self.gate else {HOW_TO_FIX: "look for a leak", ITEMS: tests}
            return dg.AssetCheckResult(passed=self.gate, description="anchors disagree", metadata=details)

        @dg.asset(partitions_def=MONTHS, check_specs=[dg.AssetCheckSpec("maybe", asset="third", partitions_def=MONTHS)])
        def third() -> Iterator[Any]:
            checks = [dg.AssetCheckResult(check_name="maybe", passed=True)] if self.evaluate else []
            yield dg.MaterializeResult(check_results=checks)

        @dg.asset(partitions_def=MONTHS, check_specs=[dg.AssetCheckSpec("of_the_last", asset="fourth")])
        def fourth() -> dg.MaterializeResult:
            if self.broken:
                raise dg.Failure("the month has no answers", allow_retries=False)
            return dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="of_the_last", passed=self.gate)])

        assets = sorted({gate.asset for gate in SET_GATES})
        monthly = [dg.asset(name=name, partitions_def=MONTHS)(lambda: None) for name in assets]

        @dg.asset(partitions_def=MONTHS, deps=assets)
        def published_item_parameters() -> None:
            if self.failed_gates:
                raise dg.Failure("June is held", metadata={HELD: "June is held"}, allow_retries=False)

        self.failed_gates: set[str] = set()
        on_items = [self._item_check(name) for name in ("keys_are_right", "no_item_drifted", "item_gate")]
        self.defs = dg.Definitions(
            assets=[first, second, third, fourth, *monthly, published_item_parameters],
            asset_checks=[gate, *on_items, *map(self._set_gate, SET_GATES)],
            jobs=[
                dg.define_asset_job("calibration", selection=[*assets, "published_item_parameters"]),
                dg.define_asset_job("month", selection=["first", "second"]),
                dg.define_asset_job("mirt_calibrate", selection=["first"]),
                dg.define_asset_job("calibrate_night", selection=["first"]),
                dg.define_asset_job("rest", selection=["second"]),
                dg.define_asset_job("only_third", selection=["third"]),
                dg.define_asset_job("only_fourth", selection=["fourth"]),
                dg.define_asset_job("fourth_by_hand", selection=["fourth"]),
            ],
            executor=dg.in_process_executor,
        )
        self.sensors = {sensor.name: sensor for sensor in build_alert_sensors([NIGHTLY], settings)}

    def _item_check(self, name: str) -> dg.AssetChecksDefinition:
        @dg.asset_check(asset="second", name=name, partitions_def=MONTHS)
        def check() -> dg.AssetCheckResult:
            new = self.items.get(name, [])
            rows = [(SCALE, "q0", "2026-05"), *((SCALE, item, "") for item in new)]
            return dg.AssetCheckResult(
                passed=not new,
                severity=dg.AssetCheckSeverity.WARN,
                description=f"{len(new)} items",
                metadata={ITEMS: row_table(("scale", "item", KNOWN_FROM), rows)},
            )

        return check

    def _set_gate(self, gate: SetGate) -> dg.AssetChecksDefinition:
        @dg.asset_check(asset=gate.asset, name=gate.name, partitions_def=MONTHS, op_tags={"dagster/priority": "100"})
        def check() -> dg.AssetCheckResult:
            passed, why = gate.name not in self.failed_gates, f"of {gate.name}"
            verdict = GateVerdict(asset=gate.asset, passed=passed, why=why)
            call(Database(self.settings), write_gates, JUNE, "default", None, {gate.name: verdict})
            return dg.AssetCheckResult(passed=passed, description=why)

        return check

    def run(self, job: str = "month", partition: str = JUNE, assets: list[str] | None = None) -> bool:
        return (
            self.defs.resolve_job_def(job)
            .execute_in_process(
                partition_key=partition,
                instance=self.instance,
                raise_on_error=False,
                run_config=QUIET,
                asset_selection=[dg.AssetKey(name) for name in assets] if assets else None,
            )
            .success
        )

    def tick(self, name: str) -> str:
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors.get(name),
            definitions=self.defs,
            resources={"database": Database(self.settings)},
        )
        with context:
            result = self.sensors[name](context)
            self.cursors[name] = context.cursor
        assert isinstance(result, dg.SkipReason)
        return result.skip_message or ""

    def watch(self) -> None:
        """Tick both sensors twice, as their ticks overlap."""
        for name in ("alerts_of_runs", "alerts_of_checks") * 2:
            self.tick(name)

    def alerts_after_sensors(self) -> list[tuple[Any, ...]]:
        """The alerts after ticks of both sensors."""
        self.watch()
        return self.alerts()

    def alerts(self) -> list[tuple[Any, ...]]:
        """Key (without the run), severity and partition of each alert, and whether the alert is open."""
        found = rows(
            Database(self.settings), "SELECT key, severity, partition, resolved_at IS NULL FROM alert ORDER BY alert_id"
        )
        return [(key.partition("|")[0].strip(), *rest) for key, *rest in found]


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(settings, instance)


@pytest.fixture
def real_world(settings: Settings) -> Iterator[World]:
    """A world whose Dagster instance is stored in PostgreSQL, as on the servers. Its runs take seconds."""
    with dagster_instance(settings, Database(settings)) as instance:
        yield World(settings, instance)


# -- runs --------------------------------------------------------------------------------------------


def test_successful_run_opens_no_alert(world: World) -> None:
    assert (world.run(), world.alerts_after_sensors()) == (True, [])


def test_failed_run_is_a_single_alert_until_its_repetition_succeeds(real_world: World) -> None:
    real_world.broken = True
    for _ in range(2):
        assert (real_world.run(), real_world.alerts_after_sensors()) == (
            False,
            [("run month 2026-06", "error", JUNE, True)],
        )
    ((message, kind, subjects, link),) = rows(
        Database(real_world.settings), "SELECT what, kind, subjects, link FROM alert"
    )
    assert message == "the run of month failed: the month has no answers"
    assert (kind, subjects) == ("steps", ["first"])
    assert link.startswith("/runs/")
    real_world.broken = False
    assert (real_world.run(), real_world.alerts_after_sensors()) == (
        True,
        [("run month 2026-06", "error", JUNE, False)],
    )


def test_runs_under_either_name_of_a_job_share_an_alert_with_the_former_key(world: World) -> None:
    world.broken = True
    for name in ("mirt_calibrate", "calibrate_night"):
        world.run(name)
        world.watch()
    ((key, message),) = rows(Database(world.settings), "SELECT key, what FROM alert")
    assert key.startswith(f"run mirt_calibrate {JUNE}|")
    assert message == "the run of calibrate_night failed: the month has no answers"
    world.broken = False
    world.run("calibrate_night")
    world.watch()
    assert rows(Database(world.settings), "SELECT 1 FROM alert WHERE resolved_at IS NULL") == []


def test_alert_of_a_failed_run_ends_when_other_runs_have_materialised_its_assets(world: World) -> None:
    world.broken = True
    world.run()
    world.watch()
    world.broken = False
    world.run(assets=["first"])
    assert world.alerts_after_sensors()[0][3]
    world.run("rest")
    assert world.alerts_after_sensors() == [("run month 2026-06", "error", JUNE, False)]


def test_alert_of_a_failed_run_ends_if_its_asset_has_an_unpartitioned_check(real_world: World) -> None:
    """The sensor used to search for such a check under the run's partition, so the alert stayed open."""
    real_world.broken = True
    real_world.run("only_fourth")
    real_world.watch()
    real_world.broken = False
    real_world.run("fourth_by_hand")
    assert real_world.alerts_after_sensors() == [("run only_fourth 2026-06", "error", JUNE, False)]


def test_check_without_partitions_is_a_single_alert_if_several_partitions_fail(world: World) -> None:
    world.gate = False
    world.run("only_fourth")
    world.run("only_fourth", partition="2026-07")
    assert world.alerts_after_sensors() == [("check fourth of_the_last", "error", "", True)]
    world.gate = True
    world.run("only_fourth", partition="2026-07")
    assert world.alerts_after_sensors() == [("check fourth of_the_last", "error", "", False)]


def test_failed_runs_of_two_months_are_two_alerts(world: World) -> None:
    world.broken = True
    world.run()
    world.run(partition="2026-07")
    assert [(key, partition) for key, _, partition, _ in world.alerts_after_sensors()] == [
        ("run month 2026-06", JUNE),
        ("run month 2026-07", "2026-07"),
    ]


def test_failure_that_was_fixed_before_the_sensor_ran_opens_no_alert(world: World) -> None:
    world.broken = True
    world.run()
    world.broken = False
    world.run()
    assert world.alerts_after_sensors() == []


def test_alert_of_a_run_whose_worker_died_states_the_cause(world: World) -> None:
    job = world.defs.resolve_job_def("month")
    run = world.instance.create_run_for_job(job, tags={"dagster/partition": JUNE}, status=dg.DagsterRunStatus.STARTED)
    world.instance.report_run_failed(run, "the run worker died without a word")
    world.watch()
    ((message,),) = rows(Database(world.settings), "SELECT what FROM alert")
    assert message == "the run of month failed: the run worker died without a word"


def test_alert_of_a_stopped_run_states_the_cause(world: World) -> None:
    """Previously, the alert contained only the name of Dagster's exception."""
    world.broken, world.error = True, dg.DagsterExecutionInterruptedError()
    assert not world.run()
    world.watch()
    ((message,),) = rows(Database(world.settings), "SELECT what FROM alert")
    assert message.startswith("the run of month failed: it was stopped while it ran, by hand or because the service")
    assert message.endswith("start it again")


def test_cancelled_run_opens_no_alert(world: World) -> None:
    job = world.defs.resolve_job_def("month")
    run = world.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    world.instance.report_run_canceling(run)
    world.instance.report_run_canceled(run)
    assert world.alerts_after_sensors() == []


@pytest.mark.parametrize("last_word", ["canceled", "failed"])
def test_run_over_its_time_limit_opens_an_alert_even_if_its_worker_reports_a_cancellation(
    world: World, last_word: str
) -> None:
    """Dagster's daemon fails a run at `max_runtime`; its worker may report a cancellation afterwards."""
    run = world.instance.create_run_for_job(
        world.defs.resolve_job_def("month"),
        tags={"dagster/partition": JUNE, dg.MAX_RUNTIME_SECONDS_TAG: "10"},
        status=dg.DagsterRunStatus.STARTED,
    )
    run_record = dg.RunRecord(
        0, run, datetime.now(UTC), datetime.now(UTC), start_time=datetime.now(UTC).timestamp() - 60
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(world.instance), "run_launcher", SimpleNamespace(terminate=lambda run_id: True))
        check_run_timeout(world.instance, run_record, logging.getLogger(), 0.0)
    if last_word == "canceled":
        world.instance.report_run_canceled(run)
    assert world.alerts_after_sensors() == [("run month 2026-06", "error", JUNE, True)]
    ((message,),) = rows(Database(world.settings), "SELECT what FROM alert")
    assert message == "the run of month failed: it took longer than it may, so it was stopped"


# -- checks ------------------------------------------------------------------------------------------


def test_held_month_is_a_single_alert_that_ends_when_every_gate_passes(world: World) -> None:
    """A held month is a failed run and any number of failed checks; only the checks report it, in a single alert."""
    world.failed_gates = {"linked", "anchors_agree"}
    assert (world.run("calibration"), world.alerts_after_sensors()) == (False, [("held 2026-06", "error", JUNE, True)])
    ((message, fix, subjects, link),) = rows(Database(world.settings), "SELECT what, fix, subjects, link FROM alert")
    assert message == "2026-06 is held: of linked; of anchors_agree"
    remedy = next(gate.fix for gate in SET_GATES if gate.name == "linked")
    assert fix == f"{remedy} Open decisions: `irt release list --month 2026-06`"
    with_dashboard = call(Database(world.settings), held_alert, JUNE, "https://irt.example.org/admin")
    assert with_dashboard is not None
    page = "https://irt.example.org/admin/?view=month&month=2026-06"
    assert with_dashboard.fix == f"{remedy} Open decisions: {page}"
    assert subjects == ["linked", "anchors_agree"]
    assert link == "/assets/linked_item_parameters?view=checks&checkDetail=linked"
    world.failed_gates = {"anchors_agree"}
    assert (world.run("calibration"), [open_ for *_, open_ in world.alerts_after_sensors()]) == (False, [True])
    world.failed_gates = set()
    assert (world.run("calibration"), world.alerts_after_sensors()) == (True, [("held 2026-06", "error", JUNE, False)])


def test_held_month_stays_a_single_alert_if_invariants_ran_before_the_sensor(world: World) -> None:
    """This happens if months and invariants ran before the daemon was started."""
    world.failed_gates = {"anchors_agree"}
    assert not world.run("calibration")
    names = ("anchors_agree", "every_month_is_green")
    violated = [one for one in INVARIANTS if one.name in (*names, "large_drift_is_decided_on")]
    red = Violation("default", "red: anchors moved", "green", JUNE)
    call(
        Database(world.settings),
        store_results,
        "night",
        Report(datetime.now(UTC), tuple(InvariantResult(one, (red,)) for one in violated)),
    )
    assert [open_ for *_, open_ in world.alerts()] == [True] * 3
    world.watch()
    another = ("invariant large_drift_is_decided_on 2026-06", "warning", JUNE, True)
    held = ("held 2026-06", "error", JUNE, True)
    assert [alert for alert in world.alerts() if alert[-1]] == [another, held]
    world.failed_gates = set()
    assert (world.run("calibration"), [alert for alert in world.alerts_after_sensors() if alert[-1]]) == (
        True,
        [another],
    )


def test_held_publication_is_reported_as_a_failed_run_if_its_gates_passed(world: World) -> None:
    """This happens if the publication runs alone and the database no longer agrees with the gates' results."""
    assert world.run("calibration")
    world.failed_gates = {"linked"}
    assert (world.run("calibration", assets=["published_item_parameters"]), world.alerts_after_sensors()) == (
        False,
        [("run calibration 2026-06", "error", JUNE, True)],
    )


def test_failed_check_is_a_single_alert_with_the_remedy(world: World) -> None:
    world.gate = False
    assert (world.run(), world.alerts_after_sensors()) == (True, [("checks 2026-06", "error", JUNE, True)])
    ((message, fix, link),) = rows(Database(world.settings), "SELECT what, fix, link FROM alert")
    assert message == "the check gate of first failed: anchors disagree"
    assert fix == "look for a leak Open decisions: `irt release list --month 2026-06`"
    assert link == "/assets/first?view=checks&checkDetail=gate"
    world.gate = True
    assert (world.run(), world.alerts_after_sensors()) == (True, [("checks 2026-06", "error", JUNE, False)])


def test_alert_of_items_held_back_is_a_warning_with_their_names(world: World) -> None:
    world.items = {"item_gate": ["q2", "q1"]}
    assert (
        world.run(),
        world.alerts_after_sensors(),
        rows(Database(world.settings), "SELECT kind, subjects FROM alert"),
    ) == (
        True,
        [("checks 2026-06", "warning", JUNE, True)],
        [("checks", ["item_gate: q2", "item_gate: q1"])],
    )


# -- several failed checks of a month ----------------------------------------------------------------


@pytest.fixture
def wrong_key(world: World) -> World:
    """A world whose item q1 has the key A, although learners who chose B are right. Checks report it."""
    database = Database(world.settings)
    add_items(database, {"q1": None, "q2": None})
    run_sql(database, """UPDATE question SET meta = '{"key": "A"}' WHERE item_id = 'q1'""")
    start = utc(2026, 6, 3)
    add_attempts(database, [attempt(f"u{n}", "q1", start, response="AB"[n % 2], correct=n % 2 == 0) for n in range(4)])
    world.items = {"keys_are_right": ["q1"], "no_item_drifted": ["q1"]}
    world.run()
    return world


def decide_on_key(world: World, key: str | None) -> None:
    """Change the key of q1, or undo the change."""
    rekey(Database(world.settings), "q1", key, by="Ann", reason="wrong key")


def open_subjects(world: World) -> list[list[str]]:
    """The subjects of each open alert, after ticks of the sensors."""
    world.watch()
    return [subjects for (subjects,) in rows(Database(world.settings), OPEN_SUBJECTS)]


OPEN_SUBJECTS = "SELECT subjects FROM alert WHERE resolved_at IS NULL ORDER BY alert_id"
Q1 = ["keys_are_right: q1", "no_item_drifted: q1"]


def test_wrong_key_is_a_single_alert_until_the_key_is_corrected(wrong_key: World) -> None:
    assert wrong_key.alerts_after_sensors() == [("checks 2026-06", "warning", JUNE, True)]
    ((message,),) = rows(Database(wrong_key.settings), "SELECT what FROM alert")
    assert message == "the check keys_are_right of second failed: 1 items; other failed checks: 1"
    assert open_subjects(wrong_key) == [Q1]
    decide_on_key(wrong_key, "B")
    assert open_subjects(wrong_key) == []
    decide_on_key(wrong_key, None)
    assert open_subjects(wrong_key) == [Q1], "the key is wrong again"
    decide_on_key(wrong_key, "B")
    wrong_key.items = {}
    assert (wrong_key.run(), open_subjects(wrong_key)) == (True, [])
    decide_on_key(wrong_key, None)
    assert open_subjects(wrong_key) == [], "the checks passed; the sensor reads no keys"


def test_corrected_key_that_mends_nothing_is_reported_after_the_recomputation(wrong_key: World) -> None:
    decide_on_key(wrong_key, "B")
    assert open_subjects(wrong_key) == []
    assert (wrong_key.run(), open_subjects(wrong_key)) == (True, [Q1])


def test_faults_that_a_key_does_not_mend_keep_their_alert(wrong_key: World) -> None:
    wrong_key.gate = False
    wrong_key.items["keys_are_right"].append("q2")
    wrong_key.items["item_gate"] = ["q1"]
    wrong_key.run()
    every = ["gate", "keys_are_right: q1", "keys_are_right: q2", "no_item_drifted: q1", "item_gate: q1"]
    [subjects] = open_subjects(wrong_key)
    assert sorted(subjects) == sorted(every)
    decide_on_key(wrong_key, "B")
    [subjects] = open_subjects(wrong_key)
    assert sorted(subjects) == ["gate", "item_gate: q1", "keys_are_right: q2"], "item_gate may fail for another reason"
    wrong_key.gate, wrong_key.items = True, {"keys_are_right": ["q2"]}
    assert (wrong_key.run(), open_subjects(wrong_key)) == (True, [["keys_are_right: q2"]])
    assert len(wrong_key.alerts()) == 1


def test_decision_on_drift_ends_the_alert_of_the_item_but_not_of_scales_that_were_not_judged(wrong_key: World) -> None:
    database = Database(wrong_key.settings)
    wrong_key.items = {"no_item_drifted": ["q1", ""]}  # a scale that was not judged has a row without an item
    wrong_key.run()
    assert open_subjects(wrong_key) == [["no_item_drifted: q1"]]
    run_sql(database, WITHDRAWN, ("q1", "2026-06-01"))
    assert open_subjects(wrong_key) == [["no_item_drifted"]]
    wrong_key.items = {"no_item_drifted": ["q1"]}
    assert (wrong_key.run(), open_subjects(wrong_key)) == (True, [])


def test_open_alert_is_sent_again_only_if_a_check_or_an_item_is_new(wrong_key: World) -> None:
    database = Database(wrong_key.settings)

    def messages_after_run() -> list[tuple[Any, ...]]:
        """The messages that are due after a run of the month. They are then delivered."""
        wrong_key.run()
        wrong_key.watch()
        call(database, queue, ["slack"])
        due = rows(database, "SELECT event FROM alert_delivery WHERE delivered_at IS NULL")
        run_sql(database, "UPDATE alert_delivery SET delivered_at = now()")
        return due

    assert messages_after_run() == [("opened",)]
    assert messages_after_run() == []
    wrong_key.items["keys_are_right"] = ["q1", "q2"]
    assert messages_after_run() == [("opened",)]
    wrong_key.items = {"keys_are_right": ["q2"]}
    assert messages_after_run() == [], "there is less to do"
    assert open_subjects(wrong_key) == [["keys_are_right: q2"]]
    wrong_key.items = {}
    assert messages_after_run() == [("resolved",)]
    assert len(wrong_key.alerts()) == 1


def test_alert_of_an_earlier_version_for_a_single_check_becomes_the_months_alert(wrong_key: World) -> None:
    former = Alert("check second keys_are_right 2026-06", "warning", "a check failed", "look", partition=JUNE)
    call(Database(wrong_key.settings), open_alert, former)
    assert wrong_key.alerts_after_sensors() == [
        (former.key, "warning", JUNE, False),
        ("checks 2026-06", "warning", JUNE, True),
    ]


def test_failed_check_stays_an_alert_while_it_is_evaluated_again(wrong_key: World) -> None:
    assert open_subjects(wrong_key) == [Q1]
    job = wrong_key.defs.resolve_job_def("month")
    wrong_key.instance.create_run_for_job(job, tags={"dagster/partition": JUNE}, status=dg.DagsterRunStatus.STARTED)
    assert open_subjects(wrong_key) == [Q1]


def test_planned_check_that_was_never_evaluated_is_an_alert_until_the_check_passes(world: World) -> None:
    job = world.defs.resolve_job_def("only_third")
    run = world.instance.create_run_for_job(job, tags={"dagster/partition": JUNE}, status=dg.DagsterRunStatus.STARTED)
    world.instance.report_dagster_event(
        dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, "only_third"), run_id=run.run_id
    )
    assert world.alerts_after_sensors() == [("check third maybe 2026-06", "error", JUNE, True)]
    world.run("only_third")
    assert world.alerts_after_sensors() == [("check third maybe 2026-06", "error", JUNE, False)]


def test_step_that_failed_after_materialising_its_asset_stays_an_alert(world: World) -> None:
    world.evaluate = False  # Dagster fails a step that yields less than it declared
    assert (world.run("only_third"), world.alerts_after_sensors()) == (
        False,
        [("run only_third 2026-06", "error", JUNE, True)],
    )
    world.evaluate = True
    world.run("only_third")
    assert [open_ for *_, open_ in world.alerts_after_sensors()] == [False]


def test_history_of_checks_is_read_in_batches(real_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.watching.alert_sensors.MAX_EVENTS", 4)
    monkeypatch.setattr("jobs.watching.alert_sensors.OVERLAP_IDS", 0)
    for month in ("2026-06", "2026-07", "2026-08"):
        real_world.run(partition=month)
    real_world.gate = False
    real_world.run(partition="2026-09")
    for _ in range(3):
        real_world.tick("alerts_of_checks")
    assert real_world.alerts() == []
    real_world.tick("alerts_of_checks")
    assert real_world.alerts() == [("checks 2026-09", "error", "2026-09", True)]


# -- schedules ---------------------------------------------------------------------------------------


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


BEGUN = utc(2026, 1, 1)


@pytest.mark.parametrize(
    ("cron", "zone", "now", "succeeded", "due"),
    [
        # daily: an hour of grace, so a result is at most 25 hours old
        ("0 3 * * *", "UTC", utc(2026, 8, 2, 3, 59), utc(2026, 8, 1, 3), None),
        ("0 3 * * *", "UTC", utc(2026, 8, 2, 4, 1), utc(2026, 8, 1, 3), utc(2026, 8, 2, 3)),
        ("0 3 * * *", "UTC", utc(2026, 8, 2, 4, 1), utc(2026, 8, 2, 3), None),
        ("0 3 * * *", "UTC", utc(2026, 8, 2, 4, 1), None, utc(2026, 8, 2, 3)),
        # monthly, over the end of a year
        ("0 2 1 * *", "UTC", utc(2027, 1, 20), utc(2026, 12, 1, 2), utc(2027, 1, 1, 2)),
        ("0 2 1 * *", "UTC", utc(2026, 12, 31), utc(2026, 12, 1, 2), None),
        # weekly
        ("0 4 * * 1", "UTC", utc(2026, 8, 4, 4, 59), utc(2026, 7, 27, 4), None),
        ("0 4 * * 1", "UTC", utc(2026, 8, 4, 5, 1), utc(2026, 7, 27, 4), utc(2026, 8, 3, 4)),
        # 02:00 in New York: 06:00 UTC in summer, 07:00 in winter, 07:00 on the day that has no 02:00
        ("0 2 * * *", "America/New_York", utc(2026, 7, 2, 7, 1), utc(2026, 7, 1, 6), utc(2026, 7, 2, 6)),
        ("0 2 * * *", "America/New_York", utc(2026, 12, 2, 7, 59), utc(2026, 12, 1, 7), None),
        ("0 2 * * *", "America/New_York", utc(2026, 3, 8, 8, 1), utc(2026, 3, 7, 7), utc(2026, 3, 8, 7)),
    ],
)
def test_a_job_without_partitions_is_late_until_its_next_success(
    cron: str, zone: str, now: datetime, succeeded: datetime | None, due: datetime | None
) -> None:
    record = PlanRecord(BEGUN, succeeded=succeeded, is_on=True)
    found = lateness(Plan("job", cron, zone=zone), record, now, "2026-01")
    assert found == (due and Lateness(due, "", of_schedule=True))


@pytest.mark.parametrize(
    ("is_on", "switched_on", "of_schedule"),
    [(True, None, True), (True, utc(2026, 8, 2, 3), True), (True, utc(2026, 8, 2, 4), False), (False, None, False)],
)
def test_a_schedule_is_late_only_if_on_at_the_due_time_of_its_job(
    is_on: bool, switched_on: datetime | None, of_schedule: bool
) -> None:
    record = PlanRecord(BEGUN, is_on=is_on, switched_on=switched_on)
    found = lateness(NIGHTLY, record, utc(2026, 8, 2, 5), "2026-01")
    assert found == Lateness(utc(2026, 8, 2, 3), "2026-08-01", of_schedule)


MONTHLY = Plan("monthly", "0 2 * * *", "months", MONTHS_PERIOD, 3)
WEEKLY = Plan("weekly", "10 2 * * *", "weeks", WEEKS, 8, running=True)


@pytest.mark.parametrize(
    ("plan", "now", "made", "found"),
    [
        # the night of the last tick, an hour after it
        (NIGHTLY, utc(2026, 8, 3, 4, 1), {"2026-08-01": utc(2026, 8, 2, 3)}, ("2026-08-02", utc(2026, 8, 3, 3))),
        (NIGHTLY, utc(2026, 8, 3, 4, 1), {"2026-08-02": utc(2026, 8, 3, 3)}, None),
        (NIGHTLY, utc(2026, 8, 3, 3, 59), {"2026-08-01": utc(2026, 8, 2, 3)}, None),
        (NIGHTLY, utc(2026, 8, 3, 4, 1), {"2026-08-02": utc(2026, 8, 3, 0)}, None),  # made before the tick
        # every tick recomputes the running week
        (
            WEEKLY,
            utc(2026, 8, 5, 3, 11),
            {"2026-08-03": utc(2026, 8, 4, 2, 11)},
            ("2026-08-03", utc(2026, 8, 5, 2, 10)),
        ),
        (WEEKLY, utc(2026, 8, 5, 4), {"2026-08-03": utc(2026, 8, 5, 2, 11)}, None),
        # a month, 25 hours after its tick
        (MONTHLY, utc(2026, 8, 2, 3, 1), {}, ("2026-07", utc(2026, 8, 1, 2))),
        (MONTHLY, utc(2026, 8, 2, 2, 59), {"2026-06": utc(2026, 7, 1, 3)}, None),
        (MONTHLY, utc(2026, 8, 31), {"2026-07": utc(2026, 8, 1, 3)}, None),
    ],
)
def test_job_is_late_until_its_newest_partition_has_been_materialised(
    plan: Plan, now: datetime, made: dict[str, datetime], found: tuple[str, datetime] | None
) -> None:
    late = lateness(plan, PlanRecord(BEGUN, made, is_on=True), now, "2026-01")
    assert late == (found and Lateness(found[1], found[0], of_schedule=True))


def test_running_daily_job_is_late_only_after_25_hours() -> None:
    now, earlier = utc(2026, 8, 3, 4, 1), {"2026-07-31": utc(2026, 8, 1, 3)}
    made = earlier | {"2026-08-01": utc(2026, 8, 2, 3)}
    assert lateness(NIGHTLY, PlanRecord(BEGUN, made, is_running=True), now, "2026-01") is None
    late = lateness(NIGHTLY, PlanRecord(BEGUN, earlier, is_running=True), now, "2026-01")
    assert late == Lateness(utc(2026, 8, 2, 3), "2026-08-01", of_schedule=False)


def test_jobs_are_never_late_before_the_first_scale_or_the_first_month() -> None:
    now = utc(2026, 8, 2, 5)
    assert (
        lateness(NIGHTLY, PlanRecord(), now, "2026-01"),
        lateness(NIGHTLY, PlanRecord(utc(2026, 8, 2, 4)), now, "2026-01"),
    ) == (None, None)
    assert lateness(NIGHTLY, PlanRecord(BEGUN), utc(2026, 8, 2, 3, 59), "2026-08") is None


@pytest.fixture
def switched(real_world: World) -> Callable[[InstigatorStatus], InstigatorState]:
    """Switch the nightly schedule on or off; it was switched on ten days ago."""
    origin = RemoteInstigatorOrigin(
        RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("location"), "repository"), NIGHTLY.name
    )

    def switch(status: InstigatorStatus) -> InstigatorState:
        since = (datetime.now(UTC) - timedelta(days=10)).timestamp()
        state = InstigatorState(origin, InstigatorType.SCHEDULE, status, ScheduleInstigatorData("0 3 * * *", since))
        known = real_world.instance.get_instigator_state(state.instigator_origin_id, state.selector_id)
        (real_world.instance.update_instigator_state if known else real_world.instance.add_instigator_state)(state)
        return state

    return switch


def initialise_scale(world: World) -> None:
    scale = "INSERT INTO calibration_scale (scale_id, origin, initialised_at) VALUES ('maths', '{}', %s)"
    run_sql(Database(world.settings), scale, [datetime.now(UTC) - timedelta(days=10)])


def test_schedule_without_ticks_is_a_single_alert_until_its_night_has_been_materialised(
    real_world: World, switched: Callable[[InstigatorStatus], InstigatorState]
) -> None:
    not_before(30.0, timedelta(hours=4))  # by then the previous night must exist
    initialise_scale(real_world)
    switched(InstigatorStatus.RUNNING)
    for _ in range(2):
        assert real_world.tick("alerts_of_schedules") == f"late: {NIGHTLY.name}"
    ((key, severity, night, is_open),) = real_world.alerts()
    assert (key, severity, is_open) == (f"schedule {NIGHTLY.name}", "error", True)
    ((message, fix),) = rows(Database(real_world.settings), "SELECT what, fix FROM alert")
    assert message.startswith(f"nights of {night} was due at ")
    assert "launch nightly" in fix
    real_world.instance.report_runless_asset_event(dg.AssetMaterialization("nights", partition=night))
    assert (real_world.tick("alerts_of_schedules"), real_world.alerts()) == (
        "every schedule that is switched on is in time",
        [(key, "error", night, False)],
    )


def test_the_alert_of_a_failed_run_replaces_the_alert_of_its_late_schedule(
    real_world: World, switched: Callable[[InstigatorStatus], InstigatorState]
) -> None:
    not_before(30.0, timedelta(hours=4))
    initialise_scale(real_world)
    switched(InstigatorStatus.RUNNING)
    real_world.tick("alerts_of_schedules")
    ((key, _, night, _),) = real_world.alerts()
    failed = f"run {NIGHTLY.documents_name} {night}"
    call(
        Database(real_world.settings),
        open_alert,
        Alert(f"{failed}|1", "error", "it failed", "launch it", partition=night),
    )
    assert (real_world.tick("alerts_of_schedules"), real_world.alerts()) == (
        f"late: {NIGHTLY.name}",
        [(key, "error", night, False), (failed, "error", night, True)],
    )


def test_a_schedule_that_is_switched_off_is_never_late(
    real_world: World, switched: Callable[[InstigatorStatus], InstigatorState]
) -> None:
    initialise_scale(real_world)
    switched(InstigatorStatus.RUNNING)
    real_world.tick("alerts_of_schedules")
    switched(InstigatorStatus.STOPPED)
    real_world.tick("alerts_of_schedules")
    assert [(key, is_open) for key, *_, is_open in real_world.alerts()] == [(f"schedule {NIGHTLY.name}", False)]


def test_late_backup_is_a_single_alert_until_the_next_backup(real_world: World) -> None:
    database = Database(real_world.settings)
    in_time = "every schedule that is switched on is in time"
    backed_up = "INSERT INTO backup (address, made_at, size, seconds) VALUES (%s, now() - %s * interval '1 hour', 1, 1)"
    assert real_world.tick("alerts_of_schedules") == in_time  # no backup was ever requested
    run_sql(database, backed_up, ["/backups/1", 26])
    for _ in range(2):
        assert real_world.tick("alerts_of_schedules") == "late: backup"
    assert real_world.alerts() == [("backup", "error", "", True)]
    run_sql(database, backed_up, ["/backups/2", 1])
    assert (real_world.tick("alerts_of_schedules"), real_world.alerts()) == (in_time, [("backup", "error", "", False)])


def test_silent_source_is_a_single_alert_until_its_next_answers(real_world: World) -> None:
    database = Database(real_world.settings)
    in_time = "every schedule that is switched on is in time"
    came = """INSERT INTO intake SELECT 'exam', 'http', now() - n * interval '1 hour', 1, 1, 1, 0, 0, 0, '{}', now()
              FROM generate_series(%s::int, %s) n"""
    run_sql(database, came, [3, 120])
    assert real_world.tick("alerts_of_schedules") == in_time  # the source is in its first week
    run_sql(database, came, [121, 200])
    for _ in range(2):
        assert real_world.tick("alerts_of_schedules") == "late: exam"
    assert real_world.alerts() == [("silent exam", "warning", "", True)]
    run_sql(database, "UPDATE intake SET arrived_at = arrived_at - interval '40 days'")
    assert (real_world.tick("alerts_of_schedules"), real_world.alerts()) == (
        in_time,
        [("silent exam", "warning", "", True)],  # nothing came
    )
    run_sql(database, came, [0, 0])
    assert (real_world.tick("alerts_of_schedules"), real_world.alerts()) == (
        in_time,
        [("silent exam", "warning", "", False)],
    )


# -- sensors -----------------------------------------------------------------------------------------


def test_failing_sensor_is_a_single_alert_until_the_sensor_succeeds(real_world: World) -> None:
    location = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("location"), "repository")
    origin = RemoteInstigatorOrigin(location, "stale_months")
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData())
    real_world.instance.add_instigator_state(state)

    def look(status: TickStatus, minutes_ago: int) -> None:
        error = SerializableErrorInfo("the log is gone", [], "Error") if status is TickStatus.FAILURE else None
        at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
        tick = TickData(
            state.instigator_origin_id,
            "stale_months",
            InstigatorType.SENSOR,
            status,
            at.timestamp(),
            error=error,
            selector_id=state.selector_id,
        )
        real_world.instance.create_tick(tick)
        real_world.tick("alerts_of_schedules")

    look(TickStatus.SKIPPED, 70)
    look(TickStatus.FAILURE, 40)
    look(TickStatus.FAILURE, 30)
    assert real_world.alerts() == []
    look(TickStatus.FAILURE, 20)
    look(TickStatus.FAILURE, 10)
    assert (real_world.alerts(), rows(Database(real_world.settings), "SELECT what FROM alert")) == (
        [("sensor stale_months", "error", "", True)],
        [("stale_months fails at every evaluation: the log is gone",)],
    )
    look(TickStatus.SKIPPED, 1)
    assert real_world.alerts() == [("sensor stale_months", "error", "", False)]


# -- delivery ----------------------------------------------------------------------------------------


def test_delivery_without_a_channel_is_reported_in_its_tick(world: World) -> None:
    assert world.tick("alert_delivery") == "no channel is configured"
