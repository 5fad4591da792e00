"""A database that can only be read, as after a failover, and one that goes away for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import dagster_postgres.utils
import pytest

from irt_assets import retries
from irt_assets.stack import dagster_instance
from jobs import stuck_runs
from jobs.stuck_runs import fail_lost_runs
from resources import dagster_compat
from resources.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.databases import READ_ONLY, altered
from tests.helpers.typed import Irt

MONTH = rooms.MONTHS[0]
READS = ("status", "runs list", "release list", "items list", "invariants list", "export parameters", "export flags")
WRITES = (f"calibrate --month {MONTH}", f"report drift --month {MONTH}", "nightly", "invariants run", "backup")


def test_what_only_reads_works_on_a_read_only_database_and_the_rest_ends_in_a_sentence(
    made_month: Settings, irt: Callable[[Settings], Irt], monkeypatch: pytest.MonkeyPatch
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
        assert done.code == 2, (words, done.err)
        assert "error: the database can be read and not changed at the moment" in done.err, words
        assert "Traceback" not in done.err + done.out, words
    assert doctor.code == 1
    assert "it can be read and not changed" in doctor.out + doctor.err


def test_a_lost_run_stays_as_it_is_on_a_read_only_database(
    made_month: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(made_month)
    with database.connect() as connection:
        connection.execute(
            "UPDATE dagster.runs SET status = 'STARTED', run_body = replace(run_body, 'SUCCESS', 'STARTED')"
        )
    monkeypatch.setattr(stuck_runs.HealthCheckedRunLauncher, "is_lost", lambda _self, _run: True)
    with dagster_instance(made_month, database) as instance:
        with altered(made_month, *READ_ONLY):
            assert fail_lost_runs(instance) == []
        assert len(fail_lost_runs(instance)) == 1


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster's own retries and those of steps without their pauses."""
    monkeypatch.setattr(dagster_postgres.utils, "calculate_delay", lambda **_options: 0.01)
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.1)


def after_first_step(settings: Settings, do: Callable[[], None]) -> threading.Thread:
    """A thread that calls `do` when the first step of the next run has succeeded."""
    database = Database(settings)
    query = "SELECT count(*) FROM dagster.event_logs WHERE dagster_event_type = 'STEP_SUCCESS'"

    def steps() -> int:
        with database.connect() as connection:
            ((number,),) = connection.execute(query).fetchall()
        return int(number)

    before = steps()

    def wait() -> None:
        while steps() == before:
            time.sleep(0.02)
        do()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.usefixtures("hasty")
def test_a_calibration_goes_on_when_its_database_is_back(
    made_month: Settings, irt: Callable[[Settings], Irt], caplog: pytest.LogCaptureFixture
) -> None:
    away_s = 2.0

    def take_away() -> None:
        with altered(made_month, "ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true"):
            time.sleep(away_s)

    typed = irt(made_month)
    thread = after_first_step(made_month, take_away)
    done = typed("calibrate", "--month", MONTH)
    thread.join()
    assert done.code == 0, done.err + done.out
    assert "waiting 5 minutes at most: the database does not answer" in caplog.text


@pytest.mark.usefixtures("hasty")
def test_a_calibration_whose_database_stays_away_ends_in_a_sentence(
    made_month: Settings, irt: Callable[[Settings], Irt], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dagster_compat, "LONGEST_OUTAGE_S", 0.5, raising=False)
    ended = threading.Event()

    def take_away() -> None:
        with altered(made_month, "ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true"):
            ended.wait(30)

    typed = irt(made_month)
    thread = after_first_step(made_month, take_away)
    done = typed("calibrate", "--month", MONTH)
    ended.set()
    thread.join()
    assert done.code == 2, done.err + done.out
    assert "error: the database does not answer" in done.err
    assert "Traceback" not in done.err + done.out
