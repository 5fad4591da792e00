"""Runs and their workers, on a graph of sleepers: no run stays "started" when its worker is gone."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterRunStatus, RunsFilter

from irt_assets.servers.claims import StackError
from irt_assets.servers.stack import Stack
from jobs.launching.launcher import WORKER_TAG, own_worker_tags, process_start
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.dagster_private import freeze_time, make_new_run_id, run_monitoring
from tests.helpers.databases import template_copy
from tests.testbed.patience import patient
from tests.testbed.stack_harness import ROOT, Harness, running_stack, wait_for

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("launcher")]

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
    """A run under way; a server that the test before killed may still be on its way back."""
    run_id = stack.launch_when_up("toy_job", month, **SECONDS)
    stack.step_started(run_id, "sleeper")
    return run_id


@pytest.mark.parametrize("victims", [pytest.param(("worker",), marks=pytest.mark.long), ("worker", "code server")])
def test_a_killed_worker_fails_its_run_and_frees_its_pool(stack: Harness, victims: tuple[str, ...]) -> None:
    """Without the health check, a run whose worker and code server die together stays "started" for a day."""
    run_id = sleeping(stack, "2026-01")
    waiting = stack.launch("toy_job", "2026-02")
    processes = [stack.worker(run_id) if name == "worker" else stack.server(name) for name in victims]
    killed = stack.kill(*processes)
    assert stack.finished(run_id) is DagsterRunStatus.FAILURE
    failed_after = time.monotonic() - killed
    assert stack.until(waiting, DagsterRunStatus.SUCCESS) is DagsterRunStatus.SUCCESS
    print(f"{'+'.join(victims)}: failed after {failed_after:.1f} s, next ended {time.monotonic() - killed:.1f} s")
    assert failed_after < patient(FAILED_WITHIN_S)


def test_a_worker_that_outlived_its_code_server_can_be_stopped(stack: Harness) -> None:
    """The new code server does not know the run, so Dagster's launcher would only wait and lose the worker."""
    run_id = sleeping(stack, "2026-05")
    worker = stack.worker(run_id)
    old = stack.kill(stack.server("code server"))
    stack.finished(stack.launch_when_up("toy_job", "2026-06", ["dream"]))
    stack.terminate(run_id)
    assert stack.finished(run_id) in (DagsterRunStatus.CANCELED, DagsterRunStatus.FAILURE)
    worker.wait(patient(20))
    assert time.monotonic() - old < patient(FAILED_WITHIN_S)


def test_a_killed_webserver_and_a_killed_daemon_come_back(stack: Harness) -> None:
    stack.kill(stack.server("webserver"), stack.server("daemon"))
    assert stack.finished(stack.launch_when_up("toy_job", "2026-06")) is DagsterRunStatus.SUCCESS


def test_runs_of_a_pool_go_one_by_one_and_the_urgent_one_first(stack: Harness) -> None:
    """What is asked for during a backfill of months waits for the one under way, and not for all of them."""
    first = sleeping(stack, "2026-01")
    month = stack.launch("toy_job", "2026-02", seconds="1")
    night = stack.launch("toy_job", "2026-04", **{"seconds": "1", "dagster/priority": "10"})
    stack.looked_at_its_queue()
    assert {stack.status(run_id) for run_id in (month, night)} == {DagsterRunStatus.QUEUED}
    stack.terminate(first)
    for run_id in (night, month):
        stack.finished(run_id, 180)
    records = stack.instance.get_run_records(RunsFilter(run_ids=[night, month]))
    spans = sorted((r.start_time or 0, r.end_time or 0, r.dagster_run.run_id) for r in records)
    assert spans[0][2] == night
    assert all(later[0] >= earlier[1] for earlier, later in pairwise(spans))


def test_a_run_that_takes_longer_than_it_may_is_stopped(stack: Harness) -> None:
    """Dagster has its worker cancelled and calls it failed; on a busy machine the worker's word may be the last."""
    run_id = stack.launch_when_up("toy_job", "2026-10", **{"seconds": "600", "dagster/max_runtime": "3"})
    assert stack.finished(run_id, 240) in (DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)


def test_a_second_stack_on_the_same_home_is_refused_and_told_the_address(stack: Harness) -> None:
    with pytest.raises(StackError, match=f"already runs.*{stack.stack.address}.*IRT_HOME"):
        Stack(stack.settings, stack.database, module=TOY).start()


def test_a_taken_port_is_refused_where_it_was_asked_for(tmp_path: Path, stack: Harness) -> None:
    asked = Settings(irt_home=tmp_path, irt_ui_port=stack.stack.port or 0)
    with pytest.raises(StackError, match="IRT_UI_PORT"):
        Stack(asked, stack.database, module=TOY).start()


def test_a_location_that_does_not_load_is_shown_with_its_error(settings: Settings, database: Database) -> None:
    broken = Stack(settings, database, module="tests.integration.nowhere")
    with pytest.raises(StackError, match=r"No module named 'tests\.integration\.nowhere'"):
        broken.start()


def test_the_servers_die_with_the_process_that_started_them(settings: Settings, database: Database) -> None:
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


def test_a_run_that_a_crash_of_the_host_cut_off_fails_at_the_next_poll(stack: Harness) -> None:
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


def test_a_run_whose_launch_was_lost_in_a_crash_does_not_wait_for_ever(stack: Harness) -> None:
    """The host went down when the run was taken from the queue, and before a worker was there."""
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


def test_a_worker_is_known_by_host_boot_process_id_and_start(stack: Harness) -> None:
    """A process id is used again, on this host and on others: alone it says nothing."""
    run_id = stack.launch("toy_job", "2026-08")
    stack.finished(run_id)
    run = stack.instance.get_run_by_id(run_id)

    def health(**worker: object) -> str:
        tags = {**run.tags, WORKER_TAG: json.dumps(worker)} if worker else run.tags
        return stack.instance.run_launcher.check_run_worker_health(run.with_tags(tags)).status.value

    wait_for("the worker to end", lambda: health() == "FAILED")
    me = json.loads(own_worker_tags()[WORKER_TAG])
    assert (health(**me), health(**{**me, "started": me["started"] - 60})) == ("RUNNING", "FAILED")
    assert health(**{**me, "pid": 2**22 + 1}) == "FAILED"  # no kernel gives this one
    assert health(**{**me, "boot": "another"}) == "FAILED"
    assert health(**{name: me[name] for name in ("host", "boot")}) == "FAILED"  # launched, and never heard of
    assert health(host="elsewhere", pid=2**22 + 1, started=0.0) == "RUNNING"
