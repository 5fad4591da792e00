"""Runs that have not ended: the reason why each waits, and how to end them if no daemon runs.

`run_progress` finds the partitions that are busy, `launcher` the workers that are alive.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

import dagster as dg

from irt_assets.common.job_names import job_of
from irt_assets.common.run_progress import BACKFILL_TAG, runs_to_repeat
from jobs.launching.launched_by import LAUNCHED_BY
from jobs.launching.launcher import HealthCheckedRunLauncher
from jobs.watching.alerts import run_name, run_partition
from jobs.watching.daemons import daemon_alive
from resources.dagster_compat import (
    MAX_RETRIES_TAG,
    NOT_FINISHED_STATUSES,
    SCHEDULE_NAME_TAG,
    SENSOR_NAME_TAG,
    BulkActionStatus,
)
from resources.failures import PermanentFailure, explain

LOG = logging.getLogger(__name__)
LAUNCH_TIMEOUT = timedelta(minutes=2)
"""Same as `start_timeout_seconds` in dagster.yaml: a run whose worker has not reported by then never will."""
QUEUE_STATUSES = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED)
ID_LENGTH = 8
"""Number of characters of an id that the UI shows, enough to distinguish runs."""
NO_DAEMON = "no daemon is running that could start it: run `irt serve`, or cancel it"


@dataclass(frozen=True)
class UnfinishedRun:
    """A run that has not ended, or the rest of a backfill.

    Attributes:
        by: the person, schedule or sensor that launched it; empty if unknown.
        why: the reason why it waits; empty if it is working.
    """

    run_id: str
    name: str
    partition: str
    status: str
    since: datetime
    by: str = ""
    why: str = ""

    @classmethod
    def from_record(cls, record: dg.RunRecord, why: str = "") -> Self:
        run = record.dagster_run
        since = datetime.fromtimestamp(record.start_time or record.create_timestamp.timestamp(), UTC)
        works = run.status not in (*QUEUE_STATUSES, dg.DagsterRunStatus.FAILURE)
        about = run.run_id, run_name(run), run_partition(run), run.status.value.lower(), since, _launched_by(run)
        return cls(*about, why="" if works else why)

    def may_hold(self, partition: str) -> bool:
        """Whether the run may keep the partition busy: it is a run of the partition or of a range, or a backfill."""
        return self.partition == partition or "…" in self.partition or not self.partition


def fail_lost_runs(instance: dg.DagsterInstance) -> list[str]:
    """Fail every run whose worker is known to be gone, as the daemon would. Returns their ids.

    The runs stay as they are if the database cannot be written to, because it is read-only or its disk is full.
    """
    if not can_see_processes(instance):
        return []
    launcher = instance.run_launcher
    assert isinstance(launcher, HealthCheckedRunLauncher)
    lost = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES)):
        run = record.dagster_run
        if run.status is dg.DagsterRunStatus.QUEUED or not launcher.is_lost(run):
            continue
        launching = run.status is not dg.DagsterRunStatus.STARTED and not launcher.has_process_id(run)
        if launching and datetime.now(UTC) - record.update_timestamp.astimezone(UTC) < LAUNCH_TIMEOUT:
            continue
        try:
            if run.status is dg.DagsterRunStatus.CANCELING:
                instance.report_run_canceled(run, "the run worker is gone")
            else:
                instance.report_run_failed(run, "the process that executed the run is gone: killed, or out of memory")
        except Exception as error:
            if (reason := explain(error)) is None:
                raise
            LOG.warning("the run %s stays as it is: %s", run.run_id, reason)
            break
        lost.append(run.run_id)
    return lost


def can_see_processes(instance: dg.DagsterInstance) -> bool:
    """Whether runs are processes of a host, whose death can be detected, and not pods.

    It does not create the launcher, which takes seconds in a cluster and is not needed in most pods.
    """
    stated = instance.get_ref().run_launcher_data if instance.is_persistent else None
    return stated is not None and stated.class_name == HealthCheckedRunLauncher.__name__


def runs_under_way(instance: dg.DagsterInstance, why: str = "") -> list[UnfinishedRun]:
    """Every run that has not ended, newest first. `why`: the reason to state for runs that wait."""
    run_records = instance.get_run_records(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
    return [UnfinishedRun.from_record(record, why) for record in run_records]


def stuck_runs(instance: dg.DagsterInstance) -> list[UnfinishedRun]:
    """Runs that are queued, under way or waiting to be repeated, and unfinished backfills; newest first."""
    absent = not daemon_alive(instance)
    why = NO_DAEMON if absent else ""
    runs = runs_under_way(instance, why)
    waits = "its worker was killed, and " + (
        "no daemon is running that could repeat it" if absent else "the daemon repeats it"
    )
    runs += [UnfinishedRun.from_record(record, waits) for record in runs_to_repeat(instance)]
    for backfill in instance.get_backfills(status=BulkActionStatus.REQUESTED):
        since = datetime.fromtimestamp(backfill.backfill_timestamp, UTC)
        job = job_of(backfill.job_name or "assets")
        runs.append(UnfinishedRun(backfill.backfill_id, job, "", "backfill", since, why=why))
    return sorted(runs, key=lambda run: run.since, reverse=True)


def cancel_run(instance: dg.DagsterInstance, run_id: str, *, unseen: bool = False) -> str:
    """End a run or a backfill, named by its id or the beginning of the id. Returns the outcome in words.

    `unseen`: end the run without checking its worker. Raises PermanentFailure if there is not exactly one such run, if
    its worker is on a host that cannot be checked from here and `unseen` is false, or if it could not be stopped.
    """
    matches = [match for match in stuck_runs(instance) if match.run_id.startswith(run_id)]
    if len(matches) != 1:
        problem = "more than one run or backfill begins with" if matches else "no run or backfill under way begins with"
        raise PermanentFailure(f"{problem} {run_id!r}: `irt runs list` lists them")
    (match,) = matches
    if match.status == "backfill":
        return _cancel_backfill(instance, match.run_id)
    run = instance.get_run_by_id(match.run_id)
    assert run is not None
    return _cancel(instance, run, unseen=unseen)


def _cancel(instance: dg.DagsterInstance, run: dg.DagsterRun, *, unseen: bool) -> str:
    if run.status is dg.DagsterRunStatus.FAILURE:
        instance.add_run_tags(run.run_id, {MAX_RETRIES_TAG: "0"})
        return "it will not be repeated"
    if run.status in QUEUE_STATUSES or unseen:
        instance.report_run_canceling(run)
        instance.report_run_canceled(run)
        return "cancelled"
    launcher = instance.run_launcher
    if isinstance(launcher, HealthCheckedRunLauncher) and not launcher.can_see(run):
        raise PermanentFailure(
            f"the worker of {run.run_id} is on {launcher.host_of(run)}, which cannot be checked from "
            "here: cancel the run "
            "there, or with --unseen if that worker is gone"
        )
    if not launcher.terminate(run.run_id):
        raise PermanentFailure(f"the worker of {run.run_id} could not be stopped: try again in a minute")
    return "its worker was asked to stop"


def _cancel_backfill(instance: dg.DagsterInstance, backfill_id: str) -> str:
    """Cancel a backfill and its queued runs. If a daemon is alive, it also cancels the runs that it has launched."""
    backfill = instance.get_backfill(backfill_id)
    assert backfill is not None
    alive = daemon_alive(instance)
    instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELING if alive else BulkActionStatus.CANCELED))
    queued = dg.RunsFilter(tags={BACKFILL_TAG: backfill_id}, statuses=list(QUEUE_STATUSES))
    for run in instance.get_runs(queued):
        _cancel(instance, run, unseen=False)
    return "the daemon cancels it" if alive else "cancelled"


def _launched_by(run: dg.DagsterRun) -> str:
    for tag, prefix in ((SCHEDULE_NAME_TAG, "schedule "), (SENSOR_NAME_TAG, "sensor "), (LAUNCHED_BY, "")):
        if name := run.tags.get(tag):
            return f"{prefix}{name}"
    return ""
