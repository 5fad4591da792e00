"""`irt status`: every schedule, month, open violation, alert and run, on one screen.

Dagster reads the annotations of the decorated functions, so this module does not postpone them.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from irt_assets.common.probes import DAEMONS, daemon
from irt_assets.ledger.steps import step_of, stepped_months, write_step
from irt_assets.runs.in_process_runs import run_job
from irt_assets.servers.instance import dagster_instance
from jobs.plans import PLANS
from jobs.watching.overview import Overview, SparkState, collect_overview
from resources.alerts.outbox import Alert, open_alert
from resources.cluster.lake import Lake
from resources.dagster_compat import TickStatus
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.dagster_private import (
    DaemonHeartbeat,
    InstigatorStatus,
)
from tests.helpers.sentences import missing_sentences
from tests.helpers.typed import IrtOf
from tests.integration.schedule_states import switch_on, tick


class StatusView:
    """A world, its instance, and the status of both."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings, self.instance, self.database = settings, instance, Database(settings)

    def look(self) -> Overview:
        return collect_overview(self.database, self.instance, self.settings)


@pytest.fixture
def seen(world: Settings) -> Iterator[StatusView]:
    rooms.run_sql(Database(world), "UPDATE calibration_scale SET initialised_at = now() - interval '40 days'")
    with dagster_instance(world, Database(world)) as instance:
        yield StatusView(world, instance)


def test_status_of_a_new_installation_lists_missing_months_and_schedules(seen: StatusView) -> None:
    overview = seen.look()
    assert (overview.daemon_alive, overview.daemon_seen) == (False, None)
    assert [s.job for s in overview.schedules] == [plan.job for plan in PLANS]
    assert {(s.last_tick, s.result, s.newest, s.late) for s in overview.schedules} == {(None, "", "", "")}
    assert all(s.next_tick and s.next_tick > overview.now for s in overview.schedules)
    assert {month.state for month in overview.months} == {"missing", "empty"}
    assert {month.month for month in overview.months if month.state == "missing"} == set(rooms.MONTHS)
    assert (overview.violations, overview.alerts, overview.runs) == ([], [], [])


def test_daemon_is_alive_only_if_each_of_its_parts_sends_heartbeats(seen: StatusView) -> None:
    required = list(seen.instance.get_required_daemon_types())

    def beat(*silent: str) -> Overview:
        for kind in required:
            age = 200 if kind in silent else 100
            heartbeat = DaemonHeartbeat(datetime.now(UTC).timestamp() - age, kind, "d", [])
            seen.instance.add_daemon_heartbeat(heartbeat)
        return seen.look()

    assert beat().daemon_alive
    overview = beat("SCHEDULER")
    assert not overview.daemon_alive
    assert overview.now - overview.daemon_seen > timedelta(minutes=3)
    assert daemon(seen.database) == "SCHEDULER of the daemon sent no heartbeat in the last three minutes"


def test_ticks_and_heartbeats_ahead_of_the_clock_are_ignored(seen: StatusView, now: datetime) -> None:
    plan = next(plan for plan in PLANS if plan.job == "prune")
    state = switch_on(seen.instance, plan, now - timedelta(days=9))
    ahead = now + timedelta(days=300)
    tick(seen.instance, state, now - timedelta(days=3), TickStatus.SKIPPED)
    tick(seen.instance, state, ahead, TickStatus.SKIPPED)
    for kind in DAEMONS:
        seen.instance.add_daemon_heartbeat(DaemonHeartbeat(ahead.timestamp(), kind, "d", []))
    overview = seen.look()
    assert not overview.daemon_alive
    assert [bool(one.late) for one in overview.schedules if one.job == plan.job] == [True]
    assert "the clock, which was set back" in (daemon(seen.database) or "")


def test_status_of_a_schedule_shows_its_last_tick_and_the_result(seen: StatusView, now: datetime) -> None:
    plan = next(plan for plan in PLANS if plan.job == "prune")
    state = switch_on(seen.instance, plan, now - timedelta(days=9))

    def said() -> tuple[bool, str, bool]:
        (one,) = [s for s in seen.look().schedules if s.job == plan.job]
        return one.on, one.result, bool(one.late)

    tick(seen.instance, state, now - timedelta(days=3), TickStatus.SKIPPED)
    assert said() == (True, "nothing", True)
    run_job(seen.instance, seen.settings, "prune")
    (run,) = seen.instance.get_runs()
    tick(seen.instance, state, now, TickStatus.SUCCESS, (run.run_id,))
    assert said() == (True, "1 success", False)
    seen.instance.update_instigator_state(state.with_status(InstigatorStatus.STOPPED))
    assert said()[0] is False


@pytest.fixture
def seen_month(made_month: Settings) -> Iterator[StatusView]:
    with dagster_instance(made_month, Database(made_month)) as instance:
        yield StatusView(made_month, instance)


def test_status_shows_months_violations_alerts_and_runs(seen_month: StatusView, irt: IrtOf) -> None:
    done = seen_month.instance.get_runs()[0]
    seen_month.instance.add_run(
        done._replace(run_id="e" * 32, status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": "2026-07"})
    )
    with seen_month.database.connect() as connection:
        open_alert(connection, Alert("check x", "error", "the check anchors_agree failed", "look", partition="2026-06"))
        connection.execute(
            """INSERT INTO invariant_result (run, invariant, partition, subject, passed, observed)
               SELECT 'r', 'anchors_agree', '2026-06', 'K' || n, false, 'moved' FROM generate_series(1, 7) n"""
        )
    overview = seen_month.look()
    assert [(v.invariant, v.severity, v.subjects, v.example) for v in overview.violations] == [
        ("anchors_agree", "error", 7, "2026-06 K1")
    ]
    assert [(r.name, r.partition, r.status) for r in overview.runs] == [("monthly_calibration", "2026-07", "started")]
    typed = irt(seen_month.settings)
    shown = typed("status")
    missing = missing_sentences(
        shown.out,
        "not running and never was",
        "aggregate_features_daily",
        "2026-06 the check anchors_agree failed",
        "violated anchors_agree: 7 open, e.g. 2026-06 K1",
        "run monthly_calibration 2026-07 started",
        "without answers",
    )
    assert (shown.code, missing) == (1, [])
    status = typed("status", "--json").json
    assert {m["month"]: m["state"] for m in status["months"]}["2026-07"] == "running"
    assert status["alerts"][0]["partition"] == "2026-06"
    empty = [month["month"] for month in status["months"] if month["state"] == "empty"]
    lines = shown.out.splitlines()
    assert (sum(any(month in line for month in empty) for line in lines), len(lines) <= 30) == (1, True)


def test_status_reports_a_recomputation_until_the_invariants_are_evaluated(seen_month: StatusView, irt: IrtOf) -> None:
    typed = irt(seen_month.settings)

    def outdated() -> str:
        return "".join(line for line in typed("status").out.splitlines() if "invariants were evaluated" in line)

    assert outdated() == ""  # they have never been evaluated
    typed("invariants", "run")
    assert outdated() == ""
    with seen_month.database.connect() as connection:
        month, *_ = stepped_months(connection, rooms.SCALE)
        step = step_of(connection, rooms.SCALE, month)
        assert step is not None
        assert step.settled_at is not None
        write_step(connection, step, "a repeated run")  # keeps the time at which the month was settled
    assert f", before {month} was recomputed → irt invariants run" in outdated()
    assert seen_month.look().outdated == f"{month} was recomputed"
    typed("invariants", "run")
    assert outdated() == ""


def test_status_names_spark_and_the_lake_if_configured(world: Settings, tmp_path: Path, now: datetime) -> None:
    lake = Lake.at(world.model_copy(update={"irt_attempts": f"{tmp_path}/lake"}))
    configured = world.model_copy(update={"irt_spark": "local[2]", "irt_attempts": lake.name})
    database = Database(world)
    with dagster_instance(world, database) as instance:

        def seen_with(settings: Settings) -> SparkState | None:
            return collect_overview(database, instance, settings).on_spark

        assert seen_with(world) is None
        assert seen_with(configured) == SparkState("local[2]", lake.name, "", None)
        lake.commit("2026-10-31", [], "", 0)
        run_job(instance, configured, "invariants", f"{now - timedelta(days=1):%Y-%m-%d}")
        assert seen_with(configured) == SparkState("local[2]", lake.name, "2026-10-31", False)
