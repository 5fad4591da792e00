"""Runs and their workers, on a graph of sleepers: no run stays "started" after the death of its worker."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterRunStatus, RunsFilter

from irt_assets.common import retries
from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.run_progress import BACKFILL_TAG, PARTITION_TAG, partitions_under_way
from irt_assets.runs.in_process_runs import run_month
from irt_assets.servers.claims import StackError
from irt_assets.servers.instance import dagster_instance
from irt_assets.servers.stack import Stack
from irt_psychometrics import PsychometricsError
from jobs.launching.launcher import WORKER_TAG, own_worker_tags, process_start
from jobs.watching.stuck_runs import cancel_run, fail_lost_runs, stuck_runs
from resources.dagster_compat import MAX_RETRIES_TAG, BulkActionStatus, PartitionBackfill
from resources.failures import PermanentFailure, TransientFailure, is_transient
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.dagster_private import freeze_time, make_new_run_id, run_monitoring
from tests.helpers.databases import template_copy
from tests.integration.toy_location import defs
from tests.testbed.patience import patient
from tests.testbed.stack_harness import ROOT, Harness, running_stack, wait_for

TOY = "tests.integration.toy_location"
SECONDS = {"seconds": "600"}
FAILED_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def stack(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Harness]:
    with (
        template_copy(postgres, migrated_template, tmp_path_factory.mktemp("home")) as settings,
        running_stack(settings, TOY) as harness,
    ):
        yield harness


def sleeping(stack: Harness, month: str) -> str:
    """Start a run. A server that an earlier test killed may still be restarting."""
    run_id = stack.launch_when_up("toy_job", month, **SECONDS)
    stack.step_started(run_id, "sleeper")
    return run_id


@pytest.mark.ci
@pytest.mark.xdist_group("launcher")
@pytest.mark.parametrize("victims", [pytest.param(("worker",), marks=pytest.mark.long), ("worker", "code server")])
def test_a_killed_worker_fails_its_run_and_frees_its_pool(stack: Harness, victims: tuple[str, ...]) -> None:
    """A run whose worker and code server die together would stay "started" for a day without the health check."""
    run_id = sleeping(stack, "2026-01")
    waiting = stack.launch("toy_job", "2026-02")
    processes = [stack.worker(run_id) if name == "worker" else stack.server(name) for name in victims]
    killed = stack.kill(*processes)
    assert stack.finished(run_id) is DagsterRunStatus.FAILURE
    failed_after = time.monotonic() - killed
    assert stack.until(waiting, DagsterRunStatus.SUCCESS) is DagsterRunStatus.SUCCESS
    print(f"{'+'.join(victims)}: failed after {failed_after:.1f} s, next ended {time.monotonic() - killed:.1f} s")
    assert failed_after < patient(FAILED_WITHIN_S)


@pytest.mark.ci
@pytest.mark.xdist_group("launcher")
def test_worker_can_be_stopped_after_its_code_server_has_died(stack: Harness) -> None:
    """The new code server has no record of the run, so Dagster's launcher would only wait and lose the worker."""
    run_id = sleeping(stack, "2026-05")
    worker = stack.worker(run_id)
    old = stack.kill(stack.server("code server"))
    stack.finished(stack.launch_when_up("toy_job", "2026-06", ["dream"]))
    stack.terminate(run_id)
    assert stack.finished(run_id) in (DagsterRunStatus.CANCELED, DagsterRunStatus.FAILURE)
    worker.wait(patient(20))
    assert time.monotonic() - old < patient(FAILED_WITHIN_S)


@pytest.mark.ci
@pytest.mark.xdist_group("launcher")
def test_killed_webserver_and_daemon_are_restarted(stack: Harness) -> None:
    stack.kill(stack.server("webserver"), stack.server("daemon"))
    assert stack.finished(stack.launch_when_up("toy_job", "2026-06")) is DagsterRunStatus.SUCCESS


@pytest.mark.ci
@pytest.mark.xdist_group("launcher")
def test_runs_of_a_pool_are_sequential_and_the_urgent_run_is_first(stack: Harness) -> None:
    """A run requested during a backfill of months waits for the current month, not for all months."""
    first = sleeping(stack, "2026-01")
    month = stack.launch("toy_job", "2026-02", seconds="1")
    night = stack.launch("toy_job", "2026-04", **{"seconds": "1", "dagster/priority": "10"})
    stack.wait_for_queue_polls()
    assert {stack.status(run_id) for run_id in (month, night)} == {DagsterRunStatus.QUEUED}
    stack.terminate(first)
    for run_id in (night, month):
        stack.finished(run_id, 180)
    records = stack.instance.get_run_records(RunsFilter(run_ids=[night, month]))
    spans = sorted((r.start_time or 0, r.end_time or 0, r.dagster_run.run_id) for r in records)
    assert spans[0][2] == night
    assert all(later[0] >= earlier[1] for earlier, later in pairwise(spans))


@pytest.mark.ci
@pytest.mark.xdist_group("launcher")
def test_run_over_its_time_limit_is_stopped(stack: Harness) -> None:
    """Dagster cancels the worker and fails the run; on a busy machine the cancellation may be recorded last."""
    run_id = stack.launch_when_up("toy_job", "2026-10", **{"seconds": "600", "dagster/max_runtime": "3"})
    assert stack.finished(run_id, 240) in (DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)


@pytest.mark.ci
@pytest.mark.xdist_group("launcher")
def test_second_stack_on_the_same_home_is_refused_with_the_address_of_the_first(stack: Harness) -> None:
    with pytest.raises(StackError, match=f"already runs.*{stack.stack.address}.*IRT_HOME"):
        Stack(stack.settings, stack.database, module=TOY).start()


@pytest.mark.ci
@pytest.mark.xdist_group("launcher")
def test_port_in_use_is_refused_with_its_setting(tmp_path: Path, stack: Harness) -> None:
    settings = Settings(irt_home=tmp_path, irt_ui_port=stack.stack.port or 0)
    with pytest.raises(StackError, match="IRT_UI_PORT"):
        Stack(settings, stack.database, module=TOY).start()


@pytest.mark.ci
@pytest.mark.xdist_group("launcher")
def test_code_location_that_does_not_load_is_reported_with_its_error(settings: Settings, database: Database) -> None:
    broken = Stack(settings, database, module="tests.integration.nowhere")
    with pytest.raises(StackError, match=r"No module named 'tests\.integration\.nowhere'"):
        broken.start()


@pytest.mark.ci
@pytest.mark.xdist_group("launcher")
def test_servers_die_with_the_process_that_started_the_stack(settings: Settings, database: Database) -> None:
    """SIGKILL of `irt` must not leave servers that hold the port and run schedules."""
    script = f"""
import json, time
from irt_assets.servers.stack import Stack
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
settings = Settings(irt_home={str(settings.irt_home)!r}, database_url={database.url!r})
with Stack(settings, Database(settings), module={TOY!r}) as stack:
    servers = [stack.supervisor.children[name] for name in ("code server", "daemon", "webserver")]
    print(json.dumps([server.process.pid for server in servers]), flush=True)
    stack.wait()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT) as irt:
        servers = json.loads(irt.stdout.readline())
        assert all(process_start(pid) is not None for pid in servers)
        irt.kill()
    wait_for("the servers to be gone", lambda: all(process_start(pid) is None for pid in servers), 10)


@pytest.mark.ci
@pytest.mark.xdist_group("launcher")
def test_run_interrupted_by_a_host_crash_fails_at_the_next_poll(stack: Harness) -> None:
    """After a reboot the same services start in the same order: the worker's id and start may fit another process."""
    run_id = sleeping(stack, "2026-09")
    wait_for("the worker to be on record", lambda: "pid" in worker_on_record(stack, run_id))
    before = worker_on_record(stack, run_id) | {"boot": "the one before the crash"}

    def failed() -> bool:
        """A server that read the run before the worker was on record may write today's boot once more."""
        if worker_on_record(stack, run_id) != before:
            stack.instance.add_run_tags(run_id, {WORKER_TAG: json.dumps(before)})
        return stack.status(run_id) is DagsterRunStatus.FAILURE

    wait_for("the run to fail", failed)
    stack.worker(run_id).kill()


@pytest.mark.ci
@pytest.mark.xdist_group("launcher")
def test_run_whose_launch_was_lost_in_a_crash_fails_after_the_start_timeout(stack: Harness) -> None:
    """The host crashed after the run was taken from the queue and before its worker existed."""
    job = stack.instance.get_run_by_id(stack.launch("toy_job", "2026-06"))
    stack.finished(job.run_id)
    lost = job._replace(run_id=make_new_run_id(), status=DagsterRunStatus.NOT_STARTED)
    stack.instance.add_run(lost)
    launching = DagsterEvent(DagsterEventType.PIPELINE_STARTING.value, lost.job_name)
    stack.instance.report_dagster_event(launching, lost.run_id)
    (record,) = stack.instance.get_run_records(RunsFilter(run_ids=[lost.run_id]))
    launched = stack.instance.get_run_stats(lost.run_id).launch_time
    # dagster.yaml gives a launch two minutes
    for seconds, expected in ((100, DagsterRunStatus.STARTING), (140, DagsterRunStatus.FAILURE)):
        with freeze_time(launched + seconds):
            run_monitoring.monitor_starting_run(stack.instance, record, logging.getLogger(__name__))
        assert stack.status(lost.run_id) is expected


def worker_on_record(stack: Harness, run_id: str) -> dict[str, Any]:
    return json.loads(stack.instance.get_run_by_id(run_id).tags.get(WORKER_TAG, "{}"))


@pytest.mark.ci
@pytest.mark.xdist_group("launcher")
def test_worker_is_identified_by_host_boot_process_id_and_start_time(stack: Harness) -> None:
    """Process ids are reused, on this host and on other hosts, so an id alone proves nothing."""
    run_id = stack.launch("toy_job", "2026-08")
    stack.finished(run_id)
    run = stack.instance.get_run_by_id(run_id)

    def health(**worker: object) -> str:
        tags = {**run.tags, WORKER_TAG: json.dumps(worker)} if worker else run.tags
        return stack.instance.run_launcher.check_run_worker_health(run.with_tags(tags)).status.value

    wait_for("the worker to end", lambda: health() == "FAILED")
    me = json.loads(own_worker_tags()[WORKER_TAG])
    assert (health(**me), health(**{**me, "started": me["started"] - 60})) == ("RUNNING", "FAILED")
    assert health(**{**me, "pid": 2**22 + 1}) == "FAILED"  # above the kernel's limit
    assert health(**{**me, "boot": "another"}) == "FAILED"
    assert health(**{name: me[name] for name in ("host", "boot")}) == "FAILED"  # launched, but never reported
    assert health(host="elsewhere", pid=2**22 + 1, started=0.0) == "RUNNING"


# -- stuck runs --------------------------------------------------------------------------------------
# Runs that keep a partition busy if no daemon runs: they fail if their worker is gone, are listed, and are cancelled.

MONTH = "2026-06"
JOB = defs.resolve_job_def("toy_job")
ENDED = 2**22 + 1
"""A process id above the kernel's limit."""


class Runs:
    """Runs of a toy month, on an instance as the servers have it, with no daemon and no code server."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance

    def start_elsewhere(self, **worker: object) -> str:
        """A run that `irt` in another terminal executes; `worker` contains its host and process."""
        record = json.loads(own_worker_tags()[WORKER_TAG]) | worker
        run = self.instance.create_run_for_job(
            JOB, tags={PARTITION_TAG: MONTH, WORKER_TAG: json.dumps(record), MAX_RETRIES_TAG: "0"}
        )
        self.instance.report_dagster_event(
            dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, run.job_name), run.run_id
        )
        return run.run_id

    def create_unqueued(self, **tags: str) -> str:
        """Create a run that is not queued yet, as the queue requires a code server, which is absent here."""
        return self.instance.create_run_for_job(JOB, tags={PARTITION_TAG: MONTH, **tags}).run_id

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        return self.instance.get_run_by_id(run_id).status

    @property
    def busy(self) -> set[str]:
        return partitions_under_way(self.instance, "toy_job", ["sleeper"])


@pytest.fixture
def runs(settings: Settings) -> Iterator[Runs]:
    with dagster_instance(settings, Database(settings)) as instance:
        yield Runs(instance)


def test_run_with_a_dead_process_is_failed_by_the_next_command(runs: Runs) -> None:
    """A killed `irt calibrate` used to block its month permanently if no daemon ran."""
    lost, own_run = runs.start_elsewhere(pid=ENDED), runs.start_elsewhere()
    reused = runs.start_elsewhere(started=process_start(os.getpid()) - 60)  # type: ignore[operator]
    assert runs.busy == {MONTH}
    assert sorted(fail_lost_runs(runs.instance)) == sorted([lost, reused])
    assert runs.status(lost) is runs.status(reused) is dg.DagsterRunStatus.FAILURE
    assert runs.status(own_run) is dg.DagsterRunStatus.STARTED
    assert [one.run_id for one in stuck_runs(runs.instance)] == [own_run]


def test_launching_run_is_failed_only_after_its_grace_period(runs: Runs) -> None:
    worker = json.loads(own_worker_tags()[WORKER_TAG])
    record = {name: worker[name] for name in ("host", "boot")}
    run = runs.instance.create_run_for_job(JOB, tags={WORKER_TAG: json.dumps(record)})
    assert fail_lost_runs(runs.instance) == []
    with freeze_time(datetime.now(UTC) - timedelta(minutes=3)):  # the time of its last change
        runs.instance.add_run_tags(run.run_id, {"other": "tag"})
    assert fail_lost_runs(runs.instance) == [run.run_id]


def test_queued_run_without_a_daemon_states_the_reason_and_can_be_cancelled(runs: Runs, settings: Settings) -> None:
    queued = runs.create_unqueued()
    (one,) = stuck_runs(runs.instance)
    assert (one.run_id, one.partition, one.status) == (queued, MONTH, "not_started")
    assert "no daemon is running that could start it" in one.why
    assert cancel_run(runs.instance, queued[:8]) == "cancelled"
    assert (runs.status(queued), runs.busy) == (dg.DagsterRunStatus.CANCELED, set())


def test_refused_command_names_the_run_to_cancel(
    runs: Runs, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("irt_assets.common.run_progress._concerns", lambda run, job, assets: job == MONTHLY_JOB)
    queued, other = runs.create_unqueued(), runs.create_unqueued(**{PARTITION_TAG: "2026-07"})
    settings = settings.model_copy(update={"irt_first_month": MONTH})
    with pytest.raises(PermanentFailure, match=f"irt runs cancel {queued[:8]}") as refused:
        run_month(runs.instance, settings, MONTH)
    assert other[:8] not in str(refused.value)


def test_killed_run_that_awaits_a_retry_can_be_cancelled(runs: Runs) -> None:
    run_id = runs.start_elsewhere(pid=ENDED)
    runs.instance.add_run_tags(run_id, {MAX_RETRIES_TAG: "3"})
    fail_lost_runs(runs.instance)
    assert runs.busy == {MONTH}
    (one,) = stuck_runs(runs.instance)
    assert "no daemon is running that could repeat it" in one.why
    assert cancel_run(runs.instance, run_id) == "it will not be repeated"
    assert runs.busy == set()


def test_cancelled_backfill_cancels_its_queued_runs(runs: Runs) -> None:
    backfill = PartitionBackfill(
        backfill_id="abcdefgh",
        status=BulkActionStatus.REQUESTED,
        from_failure=False,
        tags={},
        backfill_timestamp=datetime.now(UTC).timestamp(),
        partition_names=[MONTH],
    )
    runs.instance.add_backfill(backfill)
    queued = runs.create_unqueued(**{BACKFILL_TAG: "abcdefgh"})
    assert {one.status for one in stuck_runs(runs.instance)} == {"backfill", "not_started"}
    assert cancel_run(runs.instance, "abcdefgh") == "cancelled"
    assert runs.status(queued) is dg.DagsterRunStatus.CANCELED
    assert stuck_runs(runs.instance) == []


def test_run_on_another_host_is_cancelled_only_with_unseen(runs: Runs) -> None:
    run_id = runs.start_elsewhere(host="elsewhere")
    assert fail_lost_runs(runs.instance) == []
    with pytest.raises(PermanentFailure, match="is on elsewhere"):
        cancel_run(runs.instance, run_id)
    assert cancel_run(runs.instance, run_id, unseen=True) == "cancelled"
    assert runs.status(run_id) is dg.DagsterRunStatus.CANCELED


def test_unknown_or_ambiguous_run_id_is_refused(runs: Runs) -> None:
    with pytest.raises(PermanentFailure, match="no run or backfill under way begins with 'abc'"):
        cancel_run(runs.instance, "abc")
    runs.create_unqueued()
    runs.create_unqueued()
    with pytest.raises(PermanentFailure, match="more than one"):
        cancel_run(runs.instance, "")


def test_run_in_another_process_can_be_cancelled(runs: Runs, settings: Settings) -> None:
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


# -- repeated runs -----------------------------------------------------------------------------------
# Failures of a step: the step is retried later, or fails with the remedy.


def attempts(error: Exception, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[float]]:
    """Number of tries of a step that always fails with `error`, and the pauses between them."""
    tried, pauses = [], []
    requested = dg.RetryRequested

    def recorded(**options: float) -> dg.RetryRequested:
        pauses.append(options["seconds_to_wait"])
        return requested(max_retries=int(options["max_retries"]), seconds_to_wait=0)

    monkeypatch.setattr(retries.dg, "RetryRequested", recorded)

    @dg.asset
    def failing() -> None:
        tried.append(1)
        with retries.classify_failures():
            raise error

    assert not dg.materialize([failing], raise_on_error=False).success
    monkeypatch.setattr(retries.dg, "RetryRequested", requested)
    return len(tried), pauses


@pytest.mark.parametrize("error", [TransientFailure("busy"), psycopg.errors.AdminShutdown("restarting")], ids=str)
def test_transient_failure_is_retried_with_growing_pauses(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    tried, pauses = attempts(error, monkeypatch)
    assert tried == retries.MAX_RETRIES + 1
    assert all(later == 2 * earlier for earlier, later in pairwise(pauses[: retries.MAX_RETRIES]))
    assert sum(pauses[: retries.MAX_RETRIES]) > 60  # a failover of a managed PostgreSQL takes a minute


@pytest.mark.parametrize(
    "error", [PermanentFailure("no anchors"), PsychometricsError("no item"), ValueError("a fault of ours")], ids=str
)
def test_a_permanent_failure_is_tried_once(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert attempts(error, monkeypatch) == (1, [])


@pytest.fixture
def guarded(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL, without a password, of a server that requires the password of the role `guarded`."""
    url = postgres.start()
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        (file,) = admin.execute("SHOW hba_file").fetchone() or ("",)
        rules = Path(file).read_text("utf-8")
        Path(file).write_text(f"host all guarded all scram-sha-256\n{rules}", "utf-8")
        admin.execute("SELECT pg_reload_conf()")
        yield f"postgresql://guarded{{}}@{url.rpartition('@')[2]}"
        Path(file).write_text(rules, "utf-8")
        admin.execute("SELECT pg_reload_conf()")
        admin.execute("DROP ROLE guarded")


def test_refused_logins_of_a_real_server_are_permanent_by_their_message(guarded: str) -> None:
    """Wrong password, database and role, in a single test, as the server's rules are shared by all workers."""
    right = guarded.format(":right")
    for url in (guarded.format(":wrong"), right.rpartition("/")[0] + "/nowhere", guarded.format("_nobody")):
        with pytest.raises(psycopg.OperationalError) as caught:
            psycopg.connect(url, connect_timeout=round(patient(15)))
        assert caught.value.sqlstate is None, "libpq tells by now: read the SQLSTATE instead of the words"
        assert not is_transient(caught.value), str(caught.value)


# -- forks -------------------------------------------------------------------------------------------
# A process that speaks to the code server starts children.

PROGRAM = """
import os, subprocess
from irt_assets.common import probes
from irt_assets.servers import supervisor
for _ in range(400):
    for _ in range(3):
        assert probes.code_server("unix:/nowhere/code-server.sock")
    subprocess.run(["true"], preexec_fn=supervisor.prepare_server, check=True)
"""
AT_MOST_S = 300
"""Timeout of forks that take four seconds on an idle machine. With gRPC's own preparation, fewer than 100 succeed."""


@pytest.mark.ci
def test_fork_in_a_process_with_grpc_does_not_block() -> None:
    """`irt serve` once stopped between the start of the code server and the start of the daemon."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=AT_MOST_S)
    assert done.returncode == 0, done.stderr
