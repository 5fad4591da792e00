"""Runs whose workers were killed: the daemon repeats them, and until then no other process does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster_shared.error import SerializableErrorInfo

from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.run_progress import PARTITION_TAG, partitions_under_way
from irt_assets.runs.start import await_run
from irt_assets.servers.instance import dagster_instance
from jobs.launching.launcher import own_worker_tags
from jobs.sensors import report_again
from jobs.watching import alert_sensors
from jobs.watching.alert_sensors import build_alert_sensors
from resources.dagster_compat import (
    AUTO_RETRY_RUN_ID_TAG,
    MAX_RETRIES_TAG,
    PARENT_RUN_ID_TAG,
    RETRY_NUMBER_TAG,
    ErrorSource,
    RunFailureReason,
    StepFailureData,
)
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.dagster_private import ROOT_RUN_ID_TAG, WILL_RETRY_TAG, EngineEventData, JobFailureData, freeze_time
from tests.helpers.rooms import rows
from tests.integration.schedule_states import daemon_lives

MONTH = "2026-06"


@dg.asset(partitions_def=dg.MonthlyPartitionsDefinition(start_date="2026-06", fmt="%Y-%m"))
def rows_of_month() -> None:
    pass


@dg.asset(partitions_def=rows_of_month.partitions_def)
def abilities_of_month() -> None:
    pass


def job_of(*assets: dg.AssetsDefinition) -> dg.JobDefinition:
    jobs = [dg.define_asset_job("monthly", selection=[*assets])]
    return dg.Definitions(assets=assets, jobs=jobs).resolve_job_def("monthly")


JOB = job_of(rows_of_month)
BOTH = job_of(rows_of_month, abilities_of_month)


class KilledRuns:
    """Runs that the monitor failed because their workers had died, on an instance like the servers'."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings, self.instance, self.database = settings, instance, Database(settings)
        self.cursor: str | None = None

    def run(self, **tags: str) -> dg.DagsterRun:
        root = tags.get(ROOT_RUN_ID_TAG)
        tags = {PARTITION_TAG: MONTH, **tags}
        run = self.instance.create_run_for_job(JOB, tags=tags, root_run_id=root, parent_run_id=root)
        self.instance.report_run_failed(run, "the run worker died without a word")
        return self.instance.get_run_by_id(run.run_id)

    def failed_step(self, source: ErrorSource, **tags: str) -> dg.DagsterRun:
        """A run in which a step failed by an error of `source`."""
        root = tags.get(ROOT_RUN_ID_TAG)
        tags = {PARTITION_TAG: MONTH, **tags}
        run = self.instance.create_run_for_job(JOB, tags=tags, root_run_id=root, parent_run_id=root)
        error = SerializableErrorInfo("OperationalError: server closed the connection\n", [], "OperationalError")
        failure = StepFailureData(error, None, error_source=source)
        failed = dg.DagsterEvent(
            dg.DagsterEventType.STEP_FAILURE.value, JOB.name, step_key="rows_of_month", event_specific_data=failure
        )
        self.instance.report_dagster_event(failed, run.run_id)
        self.instance.report_run_failed(run, job_failure_data=JobFailureData(None, RunFailureReason.STEP_FAILURE))
        return self.instance.get_run_by_id(run.run_id)

    @property
    def under_way(self) -> set[str]:
        return partitions_under_way(self.instance, "monthly", ["rows_of_month"])

    def tick(self) -> None:
        (sensor,) = (s for s in build_alert_sensors([], self.settings) if s.name == "alerts_of_runs")
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"database": self.database}
        ) as context:
            sensor(context)
            self.cursor = context.cursor

    def alerts_after_tick(self) -> list[str]:
        self.tick()
        return [key.rpartition("|")[2] for (key,) in rows(self.database, "SELECT key FROM alert ORDER BY alert_id")]


def test_watchdog_is_requested_once_per_successful_night(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[Settings] = []
    monkeypatch.setattr(alert_sensors, "request_watchdog", requested.append)
    with dagster_instance(settings, Database(settings)) as instance:
        daily = KilledRuns(settings, instance)
        for job, succeeds, expected in (
            ("calibrate_night", True, 1),
            ("calibrate_night", False, 1),
            ("monthly_calibration", True, 1),
            ("calibrate_night", True, 2),
        ):
            run = instance.create_run_for_job(dg.JobDefinition(name=job, graph_def=JOB.graph))
            if succeeds:
                ended = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, job)
                instance.report_dagster_event(ended, run.run_id)
            else:
                instance.report_run_failed(run, "no database")
            daily.tick()
            daily.tick()
            assert len(requested) == expected, (job, succeeds)


def before(**ago: float) -> AbstractContextManager[None]:
    """Let Dagster record events of this context as this long ago."""
    return freeze_time(datetime.now(UTC) - timedelta(**ago))


@pytest.fixture
def a_minute_ago() -> Iterator[None]:
    """Date all records a minute ago, so that the daemon has had its turn."""
    with before(minutes=1):
        yield


@pytest.fixture
def killed(settings: Settings) -> Iterator[KilledRuns]:
    with dagster_instance(settings, Database(settings)) as instance:
        yield KilledRuns(settings, instance)


def test_month_with_a_killed_worker_is_under_way_until_the_daemon_repeats_the_run(killed: KilledRuns) -> None:
    """Otherwise a later month's publication would pass the killed month, which would then only propose."""
    run = killed.run()
    assert (run.tags[WILL_RETRY_TAG], killed.under_way) == ("true", {MONTH})
    killed.instance.add_run_tags(run.run_id, {AUTO_RETRY_RUN_ID_TAG: "the repetition"})
    assert killed.under_way == set()


@pytest.mark.parametrize("succeeds", [True, False])
def test_followed_run_has_the_outcome_of_its_last_retry(
    killed: KilledRuns, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, succeeds: bool
) -> None:
    runs = [killed.run()]
    without_words = dg.DagsterEvent(dg.DagsterEventType.RUN_STARTING.value, "monthly")
    killed.instance.report_dagster_event(without_words, runs[0].run_id)
    killed.instance.report_run_failed(runs[0], "it is gone")

    def daemons_turn(_seconds: float) -> None:
        """Repeat the run between two polls. Repetitions are killed too, except the third one if `succeeds`."""
        assert len(runs) < 4
        tags = {PARENT_RUN_ID_TAG: runs[-1].run_id, ROOT_RUN_ID_TAG: runs[0].run_id, RETRY_NUMBER_TAG: str(len(runs))}
        if succeeds and len(runs) == 3:
            tags |= {PARTITION_TAG: MONTH}
            runs.append(killed.instance.create_run_for_job(JOB, tags=tags, status=dg.DagsterRunStatus.SUCCESS))
        else:
            runs.append(killed.run(**tags))

    daemon_lives(killed.instance)
    # Not `time.sleep` itself: threads that other tests left behind sleep, too.
    monkeypatch.setattr("irt_assets.runs.start.time", SimpleNamespace(sleep=daemons_turn, monotonic=time.monotonic))
    outcome = await_run(killed.instance, runs[0].run_id, MONTHLY_JOB, MONTH)
    reason = "" if succeeds else f"its run {runs[3].run_id} ended as FAILURE"
    assert (outcome.success, outcome.why) == (succeeds, reason)
    assert [record.getMessage() for record in caplog.records].count("run starting") == 1
    assert [run.run_id in caplog.text for run in runs[1:]] == [True, True, True]
    assert caplog.text.count("the run worker died without a word") == 3 + (not succeeds)


def test_followed_run_does_not_wait_for_a_stopped_daemon(killed: KilledRuns) -> None:
    run = killed.run()
    outcome = await_run(killed.instance, run.run_id, MONTHLY_JOB, MONTH)
    assert outcome.why == f"the daemon has stopped; the run {run.run_id} is to be repeated"


def test_followed_run_reports_the_error_of_a_worker_that_ran_no_step(killed: KilledRuns) -> None:
    """This happens if the limit of tasks is reached, so that no step can begin."""
    run = killed.instance.create_run_for_job(JOB, tags={PARTITION_TAG: MONTH, MAX_RETRIES_TAG: "0"})
    error = SerializableErrorInfo("RuntimeError: can't start new thread\n", [], "RuntimeError")
    killed.instance.report_engine_event("No step began.", run, EngineEventData.engine_error(error))
    killed.instance.report_run_failed(run)
    outcome = await_run(killed.instance, run.run_id, MONTHLY_JOB, MONTH)
    assert outcome.why == f"its run {run.run_id} ended as FAILURE: RuntimeError: can't start new thread"


def test_run_given_up_by_the_daemon_is_under_way_and_reported_to_the_daemon_again(killed: KilledRuns) -> None:
    """The daemon gives up on a run if the code server has died together with the worker."""
    run = killed.run()
    assert report_again(killed.instance) == []  # the daemon may repeat it first
    for _ in range(4):
        with before(minutes=1):
            killed.instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "false"})
        assert killed.under_way == {MONTH}
        assert report_again(killed.instance) == [run.run_id]
        assert killed.instance.get_run_by_id(run.run_id).is_complete_and_waiting_to_retry
    assert len(killed.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)) == 5
    with before(minutes=1):
        killed.instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "false"})
    assert report_again(killed.instance) == []  # a retry would not help
    assert (killed.under_way, killed.alerts_after_tick()) == (set(), [run.run_id])


@pytest.mark.usefixtures("a_minute_ago")
@pytest.mark.parametrize("source", ErrorSource)
def test_run_with_an_unrecorded_step_is_repeated_once(killed: KilledRuns, source: ErrorSource) -> None:
    run = killed.failed_step(source)
    broke_off = source is ErrorSource.UNEXPECTED_ERROR
    assert killed.under_way == ({MONTH} if broke_off else set())
    assert report_again(killed.instance) == [run.run_id] * broke_off
    found = killed.instance.get_run_by_id(run.run_id)
    assert found.is_complete_and_waiting_to_retry == broke_off
    repetition = killed.failed_step(source, **{**found.tags, RETRY_NUMBER_TAG: "1", ROOT_RUN_ID_TAG: run.run_id})
    assert killed.under_way == set()
    assert repetition.run_id not in report_again(killed.instance)


@pytest.mark.usefixtures("a_minute_ago")
def test_killed_month_is_not_repeated_if_a_person_has_requested_the_month_again(killed: KilledRuns) -> None:
    killed.run()
    killed.instance.create_run_for_job(JOB, tags={PARTITION_TAG: MONTH})
    assert report_again(killed.instance) == []


@pytest.mark.usefixtures("a_minute_ago")
def test_killed_run_is_repeated_even_if_automation_requested_different_assets(killed: KilledRuns) -> None:
    """Runs of selected assets share a job name, so that a later run replaces an earlier run only by its assets."""
    run = killed.run()
    other = frozenset([dg.AssetKey("abilities_of_month")])
    killed.instance.create_run_for_job(BOTH, tags={PARTITION_TAG: MONTH}, asset_selection=other)
    assert killed.alerts_after_tick() == []
    assert report_again(killed.instance) == [run.run_id]


def test_killed_run_with_an_unmarked_retry_opens_no_alert(killed: KilledRuns) -> None:
    run = killed.run()
    repetition = {PARENT_RUN_ID_TAG: run.run_id, ROOT_RUN_ID_TAG: run.run_id, RETRY_NUMBER_TAG: "1"}
    killed.instance.create_run_for_job(
        JOB, tags={PARTITION_TAG: MONTH, **repetition}, root_run_id=run.run_id, parent_run_id=run.run_id
    )
    assert killed.alerts_after_tick() == []


@pytest.mark.usefixtures("a_minute_ago")
def test_run_killed_four_times_is_not_repeated_and_opens_an_alert(killed: KilledRuns) -> None:
    first = killed.run()
    for _ in range(3):
        killed.run(**{PARENT_RUN_ID_TAG: first.run_id, ROOT_RUN_ID_TAG: first.run_id})
    assert report_again(killed.instance) == []
    assert len(killed.alerts_after_tick()) == 1


def test_month_without_a_retry_is_not_under_way(killed: KilledRuns) -> None:
    killed.run(**own_worker_tags())  # a run of `irt calibrate`, whose user sees that it has ended
    assert killed.under_way == set()
    with before(hours=5):
        run = killed.run()
    assert killed.under_way == {MONTH}
    with before(hours=7):  # the daemon has had enough time
        killed.instance.add_run_tags(run.run_id, {"other": "tag"})
    assert killed.under_way == set()


def test_run_that_the_daemon_repeats_opens_no_alert_and_run_without_retry_does(killed: KilledRuns) -> None:
    run = killed.run()
    assert killed.alerts_after_tick() == []
    killed.instance.add_run_tags(run.run_id, {AUTO_RETRY_RUN_ID_TAG: "the repetition"})
    killed.run(**own_worker_tags(), other="run")
    (alert,) = killed.alerts_after_tick()
    assert alert != run.run_id


# -- clocks ------------------------------------------------------------------------------------------


def test_run_that_fails_after_the_clock_was_set_back_opens_an_alert(killed: KilledRuns) -> None:
    """Such a failure is dated before the cursor."""
    killed.tick()
    with freeze_time(datetime.now(UTC) + timedelta(hours=1)):
        first = killed.run(**own_worker_tags())
        assert killed.alerts_after_tick() == [first.run_id]
    second = killed.run(**own_worker_tags(), **{PARTITION_TAG: "2026-07"})
    assert killed.alerts_after_tick() == [first.run_id, second.run_id]
