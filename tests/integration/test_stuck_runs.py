"""Runs that keep a partition busy where no daemon runs: failed when their worker is gone, listed, cancelled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.run_progress import BACKFILL_TAG, PARTITION_TAG, under_way
from irt_assets.runs.in_process_runs import run_month
from irt_assets.servers.instance import dagster_instance
from jobs.launching.launcher import WORKER_TAG, own_worker_tags, process_start
from jobs.watching.stuck_runs import cancel_run, fail_lost_runs, stuck_runs
from resources.dagster_compat import MAX_RETRIES_TAG, BulkActionStatus, PartitionBackfill
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.settings import Settings
from tests.integration.toy_location import defs
from tests.testbed.patience import patient
from tests.testbed.stack_harness import ROOT, wait_for

MONTH = "2026-06"
JOB = defs.resolve_job_def("toy_job")
ENDED = 2**22 + 1
"""No kernel gives this process id."""


class Runs:
    """Runs of a toy month, on an instance as the servers have it, with no daemon and no code server."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance

    def started(self, **worker: object) -> str:
        """A run that an `irt` in another terminal executes; `worker` says where."""
        record = json.loads(own_worker_tags()[WORKER_TAG]) | worker
        run = self.instance.create_run_for_job(
            JOB, tags={PARTITION_TAG: MONTH, WORKER_TAG: json.dumps(record), MAX_RETRIES_TAG: "0"}
        )
        self.instance.report_dagster_event(
            dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, run.job_name), run.run_id
        )
        return run.run_id

    def queued(self, **tags: str) -> str:
        """As it is before the queue takes it, which wants to know the code server that is not there."""
        return self.instance.create_run_for_job(JOB, tags={PARTITION_TAG: MONTH, **tags}).run_id

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        return self.instance.get_run_by_id(run_id).status

    @property
    def busy(self) -> set[str]:
        return under_way(self.instance, "toy_job", ["sleeper"])


@pytest.fixture
def runs(settings: Settings) -> Iterator[Runs]:
    with dagster_instance(settings, Database(settings)) as instance:
        yield Runs(instance)


def test_a_run_whose_process_was_killed_is_failed_by_whoever_comes_next(runs: Runs) -> None:
    """`irt calibrate` that was killed held its month for ever where no daemon runs."""
    lost, mine = runs.started(pid=ENDED), runs.started()
    reused = runs.started(started=process_start(os.getpid()) - 60)  # type: ignore[operator]
    assert runs.busy == {MONTH}
    assert sorted(fail_lost_runs(runs.instance)) == sorted([lost, reused])
    assert runs.status(lost) is runs.status(reused) is dg.DagsterRunStatus.FAILURE
    assert runs.status(mine) is dg.DagsterRunStatus.STARTED
    assert [one.run_id for one in stuck_runs(runs.instance)] == [mine]


def test_a_run_that_is_being_launched_is_given_its_time(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = json.loads(own_worker_tags()[WORKER_TAG])
    record = {name: mine[name] for name in ("host", "boot")}
    run = runs.instance.create_run_for_job(JOB, tags={WORKER_TAG: json.dumps(record)})
    assert fail_lost_runs(runs.instance) == []
    monkeypatch.setattr("jobs.watching.stuck_runs.LAUNCHED_WITHIN", timedelta(0))
    assert fail_lost_runs(runs.instance) == [run.run_id]


def test_what_is_queued_says_that_nobody_will_start_it_and_can_be_cancelled(runs: Runs, settings: Settings) -> None:
    queued = runs.queued()
    (one,) = stuck_runs(runs.instance)
    assert (one.run_id, one.partition, one.status) == (queued, MONTH, "not_started")
    assert "no daemon is there to start it" in one.why
    assert cancel_run(runs.instance, queued[:8]) == "cancelled"
    assert (runs.status(queued), runs.busy) == (dg.DagsterRunStatus.CANCELED, set())


def test_a_command_that_is_refused_says_which_run_to_cancel(
    runs: Runs, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("irt_assets.common.run_progress._concerns", lambda run, job, assets: job == MONTHLY_JOB)
    queued, other = runs.queued(), runs.queued(**{PARTITION_TAG: "2026-07"})
    settings = settings.model_copy(update={"irt_first_month": MONTH})
    with pytest.raises(PermanentFailure, match=f"irt runs cancel {queued[:8]}") as refused:
        run_month(runs.instance, settings, MONTH)
    assert other[:8] not in str(refused.value)


def test_a_killed_run_that_the_daemon_would_repeat_can_be_given_up(runs: Runs) -> None:
    run_id = runs.started(pid=ENDED)
    runs.instance.add_run_tags(run_id, {MAX_RETRIES_TAG: "3"})
    fail_lost_runs(runs.instance)
    assert runs.busy == {MONTH}
    (one,) = stuck_runs(runs.instance)
    assert "no daemon is there to repeat it" in one.why
    assert cancel_run(runs.instance, run_id) == "it will not be repeated"
    assert runs.busy == set()


def test_a_backfill_is_cancelled_with_what_it_has_queued(runs: Runs) -> None:
    backfill = PartitionBackfill(
        backfill_id="abcdefgh",
        status=BulkActionStatus.REQUESTED,
        from_failure=False,
        tags={},
        backfill_timestamp=datetime.now(UTC).timestamp(),
        partition_names=[MONTH],
    )
    runs.instance.add_backfill(backfill)
    queued = runs.queued(**{BACKFILL_TAG: "abcdefgh"})
    assert {one.status for one in stuck_runs(runs.instance)} == {"backfill", "not_started"}
    assert cancel_run(runs.instance, "abcdefgh") == "cancelled"
    assert runs.status(queued) is dg.DagsterRunStatus.CANCELED
    assert stuck_runs(runs.instance) == []


def test_a_worker_on_another_host_is_left_alone_unless_it_is_known_to_be_gone(runs: Runs) -> None:
    run_id = runs.started(host="elsewhere")
    assert fail_lost_runs(runs.instance) == []
    with pytest.raises(PermanentFailure, match="is on elsewhere"):
        cancel_run(runs.instance, run_id)
    assert cancel_run(runs.instance, run_id, unseen=True) == "cancelled"
    assert runs.status(run_id) is dg.DagsterRunStatus.CANCELED


def test_an_id_that_names_nothing_or_too_much_is_refused(runs: Runs) -> None:
    with pytest.raises(PermanentFailure, match="no run or backfill under way begins with 'abc'"):
        cancel_run(runs.instance, "abc")
    runs.queued()
    runs.queued()
    with pytest.raises(PermanentFailure, match="more than one"):
        cancel_run(runs.instance, "")


def test_a_run_in_another_process_is_stopped(runs: Runs, settings: Settings) -> None:
    script = f"""
import dagster as dg
from irt_assets.servers.instance import dagster_instance
from jobs.launching.launcher import own_worker_tags
from resources.postgres.database import Database
from resources.settings import Settings
from tests.integration.toy_location import defs
settings = Settings(irt_home={str(settings.irt_home)!r}, database_url={settings.database_url.get_secret_value()!r})
with dagster_instance(settings, Database(settings)) as instance:
    tags = {{**own_worker_tags(), "seconds": "600"}}
    job = defs.resolve_job_def("toy_job")
    job.execute_in_process(partition_key={MONTH!r}, instance=instance, raise_on_error=False, tags=tags)
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE) as irt:
        sleeping = wait_for(
            "the asset to sleep",
            lambda: [
                run.run_id
                for run in runs.instance.get_runs()
                if runs.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)
            ],
        )
        assert cancel_run(runs.instance, sleeping[0]) == "its worker was asked to stop"
        _, printed = irt.communicate(timeout=patient(60))
    assert runs.status(sleeping[0]) in (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE), printed
    assert runs.busy == set()
