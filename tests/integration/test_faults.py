"""The real graph while processes are killed: a month has all its old rows or all its new rows.

A gate makes the moment certain: a trigger on the table that a step writes waits for an advisory lock
that the test holds, so the step stops in the middle of its writing transaction.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
import pytest
from dagster import DagsterEventType, DagsterRunStatus, RunsFilter

from irt_assets.common.environment import instance_environment
from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.run_progress import BACKFILL_TAG
from irt_assets.gates.month_classification import State
from irt_assets.gates.month_status import month_states
from irt_assets.runs.in_process_runs import run_month
from resources.dagster_compat import MAX_RETRIES_TAG, PARENT_RUN_ID_TAG
from resources.settings import Settings
from tests.helpers.databases import altered
from tests.testbed.patience import patient
from tests.testbed.small_world import last_months, small_world
from tests.testbed.stack_harness import ROOT, Harness, running_stack, wait_for

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("faults")]

STEPS = "publication_step"
WRITES = {
    "scored_responses": "scored_snapshot",
    "item_calibration": "fit_staging",
    "linked_item_parameters": "mirt_item_params",
    "published_item_parameters": STEPS,
    "abilities": "mirt_ability",
}
"""The last table that each step of the monthly job writes."""
ONE = "published_item_parameters"
"""The table that changes the ledger. Tests of the other tables are in the long tier."""
TABLES = [*WRITES.values(), "mirt_fit_meta", "item_parameter_publication", "item_parameter_proposal"]
GATE = 7_201_901
FAILED_WITHIN_S = 60.0
AWAY_S = 12.0

MONTHS = last_months(3)
MONTH = MONTHS[0]
"""Complete months, which do not depend on the time of the test."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with small_world(tmp_path_factory.mktemp("world"), MONTHS) as settings:
        yield settings


@pytest.fixture(scope="module")
def stack(world: Settings) -> Iterator[Harness]:
    """A stack on which a month was materialised."""
    with running_stack(world, "tests.helpers.quiet_location") as harness:
        with harness.database.connect() as connection:
            connection.execute(
                f"""CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NULL; END $$"""
            )
            for table in WRITES.values():
                # The view of steps has its rows in a table that checks write, too, but without the time of the step.
                written = "UPDATE OF stepped_at ON month_verdict" if table == STEPS else f"INSERT OR UPDATE ON {table}"
                connection.execute(
                    f"CREATE TRIGGER gate AFTER {written} FOR EACH STATEMENT EXECUTE FUNCTION wait_at_gate()"
                )
        assert run_month(harness.instance, world, MONTH).success
        assert state(harness, MONTH) is State.GREEN
        yield harness


def state(stack: Harness, month: str) -> State:
    (of_scale,) = month_states(stack.database, stack.instance, [month])
    return of_scale.state


def contents(stack: Harness) -> dict[str, str]:
    """A digest of every row of every table that the monthly job writes."""
    with stack.database.connect() as connection:
        rows = {
            table: connection.execute(
                f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} t"
            ).fetchone()
            for table in TABLES
        }
    return {table: str(row[0]) for table, row in rows.items() if row}


@contextmanager
def closed_gate(stack: Harness) -> Iterator[None]:
    """Steps that write wait until the end of the block, or until the database stops."""
    with psycopg.connect(stack.database.url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (GATE,))
        yield
        with suppress(psycopg.OperationalError):
            connection.execute("SELECT pg_advisory_unlock(%s)", (GATE,))


def someone_waits_at_the_gate(stack: Harness) -> bool:
    with stack.database.connect() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted", (GATE,)
        ).fetchone()
    return bool(row and row[0])


def as_by_earlier_code(stack: Harness) -> None:
    """Mark all stored results as written by earlier code; an unchanged outcome would not be written again."""
    with stack.database.connect() as connection:
        connection.execute("UPDATE fit_staging SET code_version = 'earlier'")
        connection.execute(
            """UPDATE mirt_fit_meta SET model_spec = model_spec || '{"software": {"earlier": "1"}}'
               WHERE kind = 'monthly'"""
        )


def stopped_while_writing(stack: Harness, step: str) -> str:
    """Start a run of one step of a month and stop it in the middle of its write. Returns the run's id."""
    run_id = stack.launch_when_up(MONTHLY_JOB, MONTH, [step])
    stack.step_started(run_id, step)
    wait_for(f"{step} to write", lambda: someone_waits_at_the_gate(stack))
    return run_id


@pytest.mark.parametrize(
    "step", [step if step == ONE else pytest.param(step, marks=pytest.mark.long) for step in WRITES]
)
def test_month_has_all_old_or_all_new_rows_after_kills_in_every_step(stack: Harness, step: str) -> None:
    """Kills worker and code server while the step writes, then the worker, then the code server alone."""
    as_by_earlier_code(stack)
    before = contents(stack)

    with closed_gate(stack):
        run_id = stopped_while_writing(stack, step)
        killed = stack.kill(stack.worker(run_id), stack.server("code server"))
        assert stack.finished(run_id) is DagsterRunStatus.FAILURE
        both = time.monotonic() - killed
    assert contents(stack) == before

    with closed_gate(stack):  # the step may get as far as its write
        run_id = stack.launch_when_up(MONTHLY_JOB, MONTH, [step])
        stack.step_started(run_id, step)
        killed = stack.kill(stack.worker(run_id))
        assert stack.finished(run_id) is DagsterRunStatus.FAILURE
    alone = time.monotonic() - killed
    assert contents(stack) == before

    with closed_gate(stack):
        run_id = stopped_while_writing(stack, step)
        stack.kill(stack.server("code server"))
    stack.until(run_id, DagsterRunStatus.SUCCESS)
    assert contents(stack)[WRITES[step]] != before[WRITES[step]]

    print(f"{step}: failed {both:.1f} s after both were killed, {alone:.1f} s after the worker was")
    assert max(both, alone) < patient(FAILED_WITHIN_S)


@pytest.mark.long
def test_run_or_its_retry_succeeds_after_a_lost_database(world: Settings, stack: Harness) -> None:
    """The outage is longer than the retries of Dagster's storage."""
    with closed_gate(stack):
        run_id = stack.launch_when_up(MONTHLY_JOB, MONTH, [ONE], **{MAX_RETRIES_TAG: "3"})
        stack.step_started(run_id, ONE)
        wait_for(f"{ONE} to write", lambda: someone_waits_at_the_gate(stack))
        with altered(world, "ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true"):
            time.sleep(AWAY_S)
    if stack.finished(run_id) is not DagsterRunStatus.SUCCESS:
        repeats = RunsFilter(tags={PARENT_RUN_ID_TAG: run_id})
        (repeat,) = wait_for("its repetition", lambda: stack.instance.get_runs(repeats), 180, pause=1)
        stack.until(repeat.run_id, DagsterRunStatus.SUCCESS)
    assert state(stack, MONTH) is State.GREEN


def test_step_is_retried_if_the_database_restarts_during_a_write(stack: Harness) -> None:
    """The connection is lost, and the first attempt leaves no rows."""
    as_by_earlier_code(stack)
    with stack.database.connect() as connection:
        row = connection.execute("SELECT count(*) FROM fit_staging WHERE month = %s", (MONTH,)).fetchone()
    assert row
    with closed_gate(stack):
        run_id = stopped_while_writing(stack, "item_calibration")
        kill_database(stack)
    stack.until(run_id, DagsterRunStatus.SUCCESS)
    retried = stack.instance.all_logs(run_id, of_type=DagsterEventType.STEP_UP_FOR_RETRY)
    assert [event.step_key for event in retried] == ["item_calibration"]
    with stack.database.connect() as connection:
        after = connection.execute("SELECT count(*) FROM fit_staging WHERE month = %s", (MONTH,)).fetchone()
    assert after == (row[0] + 1,)


def kill_database(stack: Harness) -> None:
    """Kill the server, which the stack restarts, and wait for its response."""
    with stack.database.connect() as connection:
        (file,) = connection.execute("SELECT pg_read_file('postmaster.pid')").fetchall()
    subprocess.run(["kill", "-KILL", file[0].split()[0]], check=True)
    wait_for("the database to be back", lambda: _answers(stack), 30)


def _answers(stack: Harness) -> bool:
    try:
        with stack.database.connect():
            return True
    except psycopg.OperationalError:
        return False


def calibrate(stack: Harness) -> subprocess.Popen[str]:
    """Start `irt calibrate --here` of the month in a child process."""
    return subprocess.Popen(
        [sys.executable, "-m", "irt_assets.cli", "calibrate", "--here", "--month", MONTH],
        cwd=ROOT,
        env={**os.environ, **instance_environment(stack.settings, stack.database)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_calibrate_command_is_refused_while_the_ui_calibrates_the_month(stack: Harness) -> None:
    with closed_gate(stack):
        run_id = stopped_while_writing(stack, "scored_responses")
        with calibrate(stack) as refused:
            output, _ = refused.communicate(timeout=patient(60))
    assert refused.returncode != 0
    assert "queued or under way" in output
    stack.until(run_id, DagsterRunStatus.SUCCESS)


def test_ui_run_waits_for_the_command_line_and_continues_after_a_kill(stack: Harness) -> None:
    """The queue counts runs that it did not start, and the daemon detects the death of such a run's process. Processes
    killed by earlier tests do not block the month."""
    with closed_gate(stack):
        with calibrate(stack) as killed:
            try:
                wait_for(
                    "irt calibrate to write", lambda: someone_waits_at_the_gate(stack) or killed.poll() is not None
                )
                assert killed.poll() is None, killed.stdout.read()
                of_the_month = RunsFilter(job_name=MONTHLY_JOB, statuses=[DagsterRunStatus.STARTED])
                (own,) = stack.instance.get_runs(of_the_month)
                waiting = stack.launch(MONTHLY_JOB, MONTH)
                stack.wait_for_queue_polls()
                assert stack.status(waiting) is DagsterRunStatus.QUEUED
            finally:
                killed.kill()
            assert stack.finished(own.run_id, FAILED_WITHIN_S) is DagsterRunStatus.FAILURE
        stack.step_started(waiting, "scored_responses")
    stack.until(waiting, DagsterRunStatus.SUCCESS)
    assert state(stack, MONTH) is State.GREEN


@pytest.mark.long
def test_backfill_leaves_every_month_green_even_if_the_database_restarts(stack: Harness) -> None:
    """The database restarts during the first run, which is repeated once."""
    backfill = stack.backfill(list(WRITES), MONTHS)
    runs = RunsFilter(tags={BACKFILL_TAG: backfill})
    (first,) = wait_for(
        "a run",
        lambda: [run for run in stack.instance.get_runs(runs) if run.status is DagsterRunStatus.STARTED][:1],
        120,
    )
    stack.step_started(first.run_id, "item_calibration")
    kill_database(stack)
    wait_for("the backfill", lambda: stack.backfill_status(backfill) == "COMPLETED_SUCCESS", 400, pause=1)
    assert {month: state(stack, month) for month in MONTHS} == dict.fromkeys(MONTHS, State.GREEN)
    assert len(stack.instance.get_runs(runs)) <= len(MONTHS) + 1
