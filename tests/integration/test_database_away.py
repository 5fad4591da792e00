"""A database that can only be read, as after a failover, and a database with an outage."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable

import dagster_postgres.utils
import pytest

from irt_assets.common import retries
from irt_assets.runs import in_process_runs
from irt_assets.servers.instance import dagster_instance
from jobs.launching.launcher import WORKER_TAG
from jobs.watching.stuck_runs import fail_lost_runs
from resources.dagster_compat import keep_connections
from resources.postgres.daemon_lock import DaemonLock
from resources.postgres.database import Database
from resources.settings import Settings
from services.theta_api.parameter_cache import Ledger
from tests.helpers import rooms
from tests.helpers.databases import READ_ONLY, altered
from tests.helpers.typed import IrtOf
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for

MONTH = rooms.MONTHS[0]
READS = ("status", "runs list", "release list", "items list", "invariants list", "export parameters", "export flags")
WRITES = (f"calibrate --month {MONTH}", f"report drift --month {MONTH}", "nightly", "invariants run", "backup")


def test_reading_commands_work_on_a_read_only_database_and_writing_commands_are_refused(
    made_month: Settings, irt: IrtOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = irt(made_month)
    monkeypatch.chdir(made_month.irt_home)
    before = {words: typed(*words.split()).code for words in READS}
    with altered(made_month, *READ_ONLY):
        after = {words: typed(*words.split()).code for words in READS}
        refused = {words: typed(*words.split()) for words in WRITES}
        doctor = typed("doctor")
    assert after == before
    for words, done in refused.items():
        explained = "error: the database is read-only at the moment" in done.err
        assert (done.code, explained, "Traceback" in done.err + done.out) == (2, True, False), (words, done.err)
    assert (doctor.code, "it is read-only" in doctor.out + doctor.err) == (1, True)


@pytest.fixture
def lost_run(made_month: Settings) -> Database:
    """A database with a run in progress whose worker has died."""
    database = Database(made_month)
    rooms.run_sql(
        database, "UPDATE dagster.runs SET status = 'STARTED', run_body = replace(run_body, 'SUCCESS', 'STARTED')"
    )
    ended = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": 0.0})
    with dagster_instance(made_month, database) as instance:
        for run in instance.get_runs():
            instance.add_run_tags(run.run_id, {WORKER_TAG: ended})
    return database


def test_lost_run_is_unchanged_on_a_read_only_database(made_month: Settings, lost_run: Database) -> None:
    with altered(made_month, *READ_ONLY), dagster_instance(made_month, lost_run) as instance:
        assert fail_lost_runs(instance) == []
    with dagster_instance(made_month, lost_run) as instance:
        assert len(fail_lost_runs(instance)) == 1


def test_status_shows_the_months_if_a_full_disk_prevents_failing_a_lost_run(
    made_month: Settings, lost_run: Database, irt: IrtOf
) -> None:
    """PostgreSQL needs space for every changed row."""
    rooms.run_sql(
        lost_run,
        """CREATE FUNCTION dagster.full_disk() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$""",
    )
    rooms.run_sql(
        lost_run,
        "CREATE TRIGGER full_disk BEFORE UPDATE ON dagster.runs FOR EACH ROW EXECUTE FUNCTION dagster.full_disk()",
    )
    assert f'"month": "{MONTH}"' in irt(made_month)("status", "--json").out
    rooms.run_sql(lost_run, "DROP FUNCTION dagster.full_disk CASCADE")
    with dagster_instance(made_month, lost_run) as instance:
        assert len(fail_lost_runs(instance)) == 1


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses of Dagster's own retries and of retried steps."""
    monkeypatch.setattr(dagster_postgres.utils, "calculate_delay", lambda **_options: 0.01)
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.1)


def after_first_step(settings: Settings, do: Callable[[], None]) -> threading.Thread:
    """A thread that calls `do` when the first step of the next run has succeeded."""
    database = Database(settings)
    query = "SELECT count(*) FROM dagster.event_logs WHERE dagster_event_type = 'STEP_SUCCESS'"

    def steps() -> int:
        return rooms.rows(database, query)[0][0]

    before = steps()

    def wait() -> None:
        wait_for("a step", lambda: steps() != before, 600, 0.02)
        do()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.usefixtures("hasty")
def test_calibration_fails_without_traceback_if_its_database_does_not_return(
    made_month: Settings, irt: IrtOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_process_runs, "MAX_OUTAGE_S", 0.5)
    ended = threading.Event()

    def take_away() -> None:
        with altered(made_month, "ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true"):
            ended.wait(patient(30))

    typed = irt(made_month)
    thread = after_first_step(made_month, take_away)
    done = typed("calibrate", "--month", MONTH)
    ended.set()
    thread.join()
    explained = "error: the database does not answer" in done.err
    assert (done.code, explained, "Traceback" in done.err + done.out) == (2, True, False), done.err + done.out


CUTS_OFF = """
    CREATE SEQUENCE public.writes;
    CREATE FUNCTION cut_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('public.writes') = 9 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER cut_off AFTER INSERT ON dagster.event_logs EXECUTE FUNCTION cut_off()
"""


@pytest.mark.usefixtures("hasty")
def test_calibration_interrupted_while_dagster_records_a_step_is_repeated_once(
    made_month: Settings, irt: IrtOf
) -> None:
    typed, database = irt(made_month), Database(made_month)
    rooms.run_sql(database, CUTS_OFF)
    done = typed("calibrate", "--month", MONTH)
    assert done.code == 0, done.err + done.out
    runs = "SELECT status FROM dagster.runs WHERE pipeline_name = 'monthly_calibration' ORDER BY id"
    assert rooms.rows(database, runs)[-2:] == [("FAILURE",), ("SUCCESS",)]


def test_kept_connections_are_replaced_if_the_database_has_closed_them(made_month: Settings) -> None:
    database = Database(made_month)
    with dagster_instance(made_month, database) as instance:
        keep_connections(instance)

        def read() -> tuple[object, ...]:
            return instance.get_runs(), instance.get_asset_keys(), instance.all_instigator_state()

        before = read()
        with altered(made_month, "CONNECTION LIMIT -1", "CONNECTION LIMIT -1"):
            assert read() == before


def test_connections_to_a_vanished_host_time_out_within_seconds(database: Database) -> None:
    """A vanished host does not refuse: the system's limits are minutes for a connection and hours for a response."""
    lock, ledger = DaemonLock(database), Ledger(database, 1)
    lock.acquire(0)
    ledger.start()
    ledger.wait_for_first_read()
    assert lock._connection is not None
    with database.connect() as ours, ledger.connect() as thetas:
        for connection, most_s in ((ours, 25), (lock._connection, 25), (thetas, 5)):
            parameters = {
                name: int(value) for name, value in connection.info.get_parameters().items() if value.isdigit()
            }
            assert 0 < parameters["connect_timeout"] <= 10
            assert 0 < parameters["tcp_user_timeout"] <= 1000 * most_s
            assert 0 < parameters["keepalives_idle"] + parameters["keepalives_interval"] <= most_s
    ledger.stop()
    lock.release()
