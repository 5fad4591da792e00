"""The jobs of every day while the database restarts in the middle of their writes: retried, with one complete result.

A gate makes the moment certain, as in `test_faults`: a trigger on the table that a job writes waits for an advisory
lock that the test holds. Dagster's own tables are in the same server, so it loses its connections too.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
import psycopg
import pytest

from irt_assets.common.job_names import KPI_JOB, NIGHTLY_JOB
from irt_assets.common.partitions import Month, week_of
from irt_assets.common.retries import is_dagsters_own
from irt_assets.common.run_progress import PARTITION_TAG
from irt_assets.definitions import build_defs
from irt_assets.runs.in_process_runs import run_month
from irt_assets.servers.instance import dagster_instance
from jobs.launching.launcher import own_worker_tags
from jobs.plans import PLANS
from jobs.watching.alert_sensors import build_alert_sensors
from resources.failures import is_transient
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.rooms import folder_store, rows, run_sql
from tests.testbed.small_world import last_months, small_world
from tests.testbed.stack_harness import wait_for

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("faults_daily")]

GATE = 7_201_902
MONTHS = last_months(2)
LAST_DAY = Month(MONTHS[-1]).end - timedelta(days=1)
DAY = f"{LAST_DAY:%Y-%m-%d}"
JOBS = {
    "aggregate_features_daily": ("features_topic_daily", DAY),
    KPI_JOB: ("weekly_kpi", week_of(LAST_DAY)),
    "detect_inactivity": ("weekly_kpi", DAY),
    NIGHTLY_JOB: ("mirt_item_params", DAY),
    "invariants": ("invariant_result", f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"),
}
"""The table that a job writes, and a partition of it."""
CHEAPEST = "aggregate_features_daily"
"""The job that CI tests, as the same code retries all jobs. The other jobs are in the long tier."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
OF_THE_ATTEMPT = [
    "computed_at",
    "inactivity_at",
    "updated_at",
    "run",
    "run_id",
    "evaluated_at",
    "opened_at",
    "fit_id",
    "fitted_at",
]


@dataclass
class Daily:
    settings: Settings
    instance: dg.DagsterInstance
    database: Database
    definitions: dg.Definitions

    def run(self, job: str) -> dg.ExecuteInProcessResult:
        return self.definitions.resolve_job_def(job).execute_in_process(
            partition_key=JOBS[job][1], instance=self.instance, raise_on_error=False, run_config=QUIET
        )

    def contents(self, table: str) -> list[tuple[str]]:
        """All rows of a table, without their time and run."""
        return rows(
            self.database, f"SELECT (to_jsonb(t) - %s::text[])::text FROM {table} t ORDER BY 1", (OF_THE_ATTEMPT,)
        )

    @property
    def server(self) -> EmbeddedPostgres:
        return EmbeddedPostgres(self.settings.irt_home / "postgres")

    @contextmanager
    def closed_gate(self) -> Iterator[None]:
        with psycopg.connect(self.database.url, autocommit=True) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", (GATE,))
            yield
            with suppress(psycopg.OperationalError):
                connection.execute("SELECT pg_advisory_unlock(%s)", (GATE,))

    def someone_waits(self) -> bool:
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted"
        return rows(self.database, waiting, (GATE,)) != [(0,)]

    def restart_at_once(self) -> None:
        """Restart like `pg_ctl restart -m immediate`: no connection is ended, the server recovers from its log."""
        ((pid_file,),) = rows(self.database, "SELECT pg_read_file('postmaster.pid')")
        os.kill(int(pid_file.split()[0]), signal.SIGQUIT)
        wait_for("the server to be gone", lambda: self.server.status().state != "running", 30)
        self.server.start()


@pytest.fixture(scope="module")
def daily(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daily]:
    """A world with a gate at each table."""
    with small_world(tmp_path_factory.mktemp("daily"), MONTHS) as settings:
        database = Database(settings)
        with dagster_instance(settings, database) as instance:
            resources = {"database": database, "store": folder_store(settings)}
            world = Daily(settings, instance, database, build_defs(settings, resources=resources))
            run_sql(
                database,
                f"""CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NULL; END $$""",
            )
            for table in {"alert", *(table for table, _ in JOBS.values())}:
                run_sql(
                    database,
                    f"""CREATE TRIGGER gate AFTER INSERT OR UPDATE ON {table}
                        FOR EACH STATEMENT EXECUTE FUNCTION wait_at_gate()""",
                )
            yield world


@pytest.fixture(scope="module")
def every_job_ran(daily: Daily) -> None:
    """The other jobs read published months and each other's results."""
    for month in MONTHS:
        assert run_month(daily.instance, daily.settings, month).success
    for job in JOBS:
        assert daily.run(job).success, job


def test_job_waits_for_a_database_that_restarts_during_a_write(daily: Daily) -> None:
    restarts_while_writing(daily, CHEAPEST)


@pytest.mark.long
@pytest.mark.parametrize("job", [job for job in JOBS if job != CHEAPEST])
@pytest.mark.usefixtures("every_job_ran")
def test_every_daily_job_waits_for_a_database_that_restarts_during_a_write(daily: Daily, job: str) -> None:
    restarts_while_writing(daily, job)


def restarts_while_writing(daily: Daily, job: str) -> None:
    table, _ = JOBS[job]
    assert daily.run(job).success, "others may have written to its table since it ran"
    before = daily.contents(table)
    assert before
    with ThreadPoolExecutor(1) as other, daily.closed_gate():
        running = other.submit(daily.run, job)
        wait_for(f"{job} to write", lambda: running.done() or daily.someone_waits(), 120)
        assert not running.done(), running.result()
        daily.restart_at_once()
        result = running.result(180)
    if is_dagsters_own(result.all_events):  # Dagster was recording the step, or tried for too short a time
        result = daily.run(job)
    else:
        retried = [event for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY]
        assert len(retried) == 1, [event.step_key for event in retried]
    assert result.success
    if job == "invariants":  # each report is kept, except reports of an attempt that failed
        made = rows(
            daily.database, "SELECT DISTINCT run FROM invariant_result WHERE run LIKE %s", (f"{result.run_id}%",)
        )
        assert made == [(f"{result.run_id}/1",)]
    else:
        assert daily.contents(table) == before


def test_sensor_that_lost_the_database_opens_the_alert_at_its_next_tick(daily: Daily) -> None:
    """Its cursor does not move, and the alert opened before the restart was not committed."""
    job = daily.definitions.resolve_job_def("aggregate_features_daily")
    run = daily.instance.create_run_for_job(job, tags={PARTITION_TAG: "2026-01-01", **own_worker_tags()})
    daily.instance.report_run_failed(run)
    (sensor,) = (s for s in build_alert_sensors(PLANS, daily.settings) if s.name == "alerts_of_runs")

    def tick() -> str | None:
        with dg.build_sensor_context(instance=daily.instance, resources={"database": daily.database}) as context:
            sensor(context)
            return context.cursor

    with ThreadPoolExecutor(1) as other, daily.closed_gate():
        running = other.submit(tick)
        wait_for("the alert to be opened", lambda: running.done() or daily.someone_waits(), 60)
        assert not running.done(), running.result()
        daily.restart_at_once()
        with pytest.raises(psycopg.OperationalError) as lost:
            running.result(60)
    assert is_transient(lost.value)
    assert rows(daily.database, "SELECT partition FROM alert WHERE starts_with(key, 'run ')") == []
    assert tick() is not None
    assert rows(daily.database, "SELECT partition FROM alert WHERE starts_with(key, 'run ')") == [("2026-01-01",)]
