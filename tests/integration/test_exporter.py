"""Metrics of the exporter for a calibrated world and for Dagster, which agree with `irt status`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count

import dagster as dg
import psycopg
import pytest
from pydantic import SecretStr

from irt_assets.common.probes import DAEMONS
from irt_assets.invariants.registry import INVARIANTS
from irt_assets.runs.in_process_runs import run_job
from irt_assets.servers.instance import dagster_instance
from jobs.plans import PLANS
from jobs.watching.overview import collect_overview
from resources.alerts.outbox import Alert, open_alert, queue
from resources.postgres.database import Database
from resources.settings import Settings
from services.exporter import app
from services.exporter.app import CACHED_S, STATEMENT_TIMEOUT_MS, StateCollector
from services.exporter.families import FAMILIES, UP
from tests.helpers import rooms
from tests.helpers.dagster_private import DaemonHeartbeat, InstigatorStatus, create_run_for_test
from tests.helpers.databases import altered
from tests.integration.schedule_states import switch_on
from tests.testbed.patience import patient


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let queries run for two minutes, for slow machines."""
    monkeypatch.setattr(app, "STATEMENT_TIMEOUT_MS", 120_000)


Read = dict[str, dict[tuple[str, ...], float]]


def read(settings: Settings) -> Read:
    """Values of all metrics: metric → labels → value."""
    metrics = list(StateCollector(Database(settings), settings).collect())
    labels = {family.name: family.labels for family in FAMILIES}
    found: Read = {}
    for metric in metrics:
        assert all(tuple(sample.labels) == labels[metric.name] for sample in metric.samples)
        found[metric.name] = {tuple(sample.labels.values()): sample.value for sample in metric.samples}
    return found


def states(found: Read) -> dict[str, str]:
    return {month: state for (_, month, state), value in found["irt_month_state"].items() if value}


@pytest.fixture
def instance(world: Settings) -> Iterator[dg.DagsterInstance]:
    with dagster_instance(world, Database(world)) as made:
        yield made


def test_exporter_has_the_metrics_of_a_calibrated_world(calibrated: Settings) -> None:
    found = read(calibrated)
    shown = states(found)
    assert ({month: shown[month] for month in rooms.MONTHS}, set(shown.values())) == (
        dict.fromkeys(rooms.MONTHS, "green"),
        {"green", "empty"},
    )
    assert len(found["irt_month_state"]) == 7 * len(shown) <= 91
    steps = rooms.rows(Database(calibrated), "SELECT scale_id, month, n_published FROM publication_step")
    published = {key: n for key, n in found["irt_month_published_items"].items() if n}
    assert published == {(scale, month): n for scale, month, n in steps if n}
    ((slope, intercept),) = rooms.rows(
        Database(calibrated),
        """SELECT model_spec->'linking_constants'->'slope', model_spec->'linking_constants'->'intercept'
           FROM mirt_fit_meta WHERE window_start = '2026-07-01' AND kind = 'monthly'""",
    )
    of_plans = {(plan.documents_name,): 0.0 for plan in PLANS}
    expected = {
        "irt_exporter_up": {(): 1.0},
        "irt_linking_slope": {(rooms.SCALE,): slope},
        "irt_linking_intercept": {(rooms.SCALE,): intercept},
        "irt_invariant_violations": {(one.name, one.severity): 0.0 for one in INVARIANTS},
        # Dagster never ran here, and the invariants were never checked.
        "irt_daemon_heartbeat_age_seconds": {(): float("inf")},
        "irt_job_overdue": of_plans,
    }
    assert {name: found[name] for name in expected} == expected
    assert {name for name, samples in found.items() if not samples} == {
        "irt_runs",
        "irt_closed_month_changed_answers",
        "irt_schedule_last_success_timestamp_seconds",
        "irt_invariants_last_run_timestamp_seconds",
        "irt_nightly_last_run_timestamp_seconds",
        "irt_backup_last_success_timestamp_seconds",
        # Nothing was imported: the answers were written into the log.
        "irt_intake_last_arrival_timestamp_seconds",
        "irt_intake_rows_last_day",
        "irt_intake_silent",
        "irt_alerts_undelivered",
    }


def test_exported_silent_sources_equal_the_silent_sources_of_the_status(
    world: Settings, instance: dg.DagsterInstance
) -> None:
    """All sources sent answers every minute of eight days until two hours ago; files of people are not expected."""
    rooms.run_sql(
        Database(world),
        """INSERT INTO intake SELECT source, kind, now() - n * interval '1 minute', w, 1, 1, 0, 0, 0, '{}', now()
           FROM generate_series(120, 11520) n, generate_series(1, 2) w, (VALUES ('exam, "new"', 'http'),
             ('quiet', 'http'), ('log-1.csv', 'file'), ('exams/a.csv', 'inbox')) AS source (source, kind)""",
    )
    world = world.model_copy(update={"irt_silent_after": "quiet=3h"})
    found = read(world)["irt_intake_silent"]
    assert found == {('exam, "new"',): 1.0, ("quiet",): 0.0, ("irt import",): 0.0, ("inbox",): 1.0}
    overview = collect_overview(Database(world), instance, world)
    assert [one.source for one in overview.silent] == ['exam, "new"', "inbox"]


def test_late_schedules_of_the_status_are_exported_as_overdue_jobs(
    world: Settings, instance: dg.DagsterInstance, now: datetime
) -> None:
    def late() -> set[str]:
        overdue = {job for (job,), value in read(world)["irt_job_overdue"].items() if value}
        found = {s.job for s in collect_overview(Database(world), instance, world).schedules if s.late}
        assert {plan.documents_name for plan in PLANS if plan.job in found} <= overdue
        return found

    plans = {plan.job: plan for plan in PLANS if not plan.asset}
    rooms.run_sql(Database(world), "UPDATE calibration_scale SET initialised_at = now() - interval '40 days'")
    assert late() == set()
    switch_on(instance, plans["prune"], now - timedelta(days=9))
    counted = switch_on(instance, plans["inventory"], now - timedelta(days=9))
    assert late() == {"prune", "inventory"}
    run_job(instance, world, "prune")
    assert late() == {"inventory"}
    instance.update_instigator_state(counted.with_status(InstigatorStatus.STOPPED))
    assert late() == set()


def test_job_of_a_suspended_cronjob_is_overdue_until_its_newest_partition_exists(
    world: Settings, instance: dg.DagsterInstance, now: datetime
) -> None:
    """All schedules are off, as if CronJobs or timers request runs. Only a newer partition counts."""

    def overdue() -> set[str]:
        return {job for (job,), value in read(world)["irt_job_overdue"].items() if value}

    def made(*days_ago: int) -> None:
        for days in days_ago:
            day = f"{now - timedelta(days=days):%Y-%m-%d}"
            instance.report_runless_asset_event(dg.AssetMaterialization("inactivity", partition=day))

    assert overdue() == set(), "nothing was due before the scale was there"
    rooms.run_sql(Database(world), "UPDATE calibration_scale SET initialised_at = now() - interval '40 days'")
    assert overdue() == {plan.documents_name for plan in PLANS}
    run_job(instance, world, "prune")
    assert overdue() == {plan.documents_name for plan in PLANS} - {"prune"}
    made(5, 4, 3)
    assert "detect_inactivity" in overdue()
    made(2, 1)
    assert overdue() == {plan.documents_name for plan in PLANS} - {"prune", "detect_inactivity"}


def test_exporter_counts_runs_and_has_the_time_of_the_last_success(
    world: Settings, instance: dg.DagsterInstance
) -> None:
    before = datetime.now(UTC).timestamp()
    run_job(instance, world, "prune")
    found = read(world)
    assert found["irt_runs"] == {("success",): 1.0}
    ((job, ended),) = found["irt_schedule_last_success_timestamp_seconds"].items()
    assert job == ("prune",)
    assert before <= ended <= datetime.now(UTC).timestamp()


def test_runs_by_either_name_of_a_job_have_the_label_of_the_documents_name(
    world: Settings, instance: dg.DagsterInstance
) -> None:
    for name in ("calibrate_night", "mirt_calibrate"):
        run = create_run_for_test(instance, job_name=name)
        for event in ("PIPELINE_START", "PIPELINE_SUCCESS"):
            instance.report_dagster_event(dg.DagsterEvent(event, name), run_id=run.run_id)
        record = instance.get_run_record_by_id(run.run_id)
        assert read(world)["irt_schedule_last_success_timestamp_seconds"] == {("mirt_calibrate",): record.end_time}


def test_heartbeat_age_of_the_daemon_is_the_age_of_its_oldest_heartbeat(
    world: Settings, instance: dg.DagsterInstance
) -> None:
    for part in DAEMONS:
        age = 240 if part == "SCHEDULER" else 10
        instance.add_daemon_heartbeat(DaemonHeartbeat(datetime.now(UTC).timestamp() - age, part, "d", []))
    (age,) = read(world)["irt_daemon_heartbeat_age_seconds"].values()
    assert 240 <= age < 270
    instance.add_daemon_heartbeat(DaemonHeartbeat(datetime.now(UTC).timestamp() + 3600, "SENSOR", "d", []))
    (ahead,) = read(world)["irt_daemon_heartbeat_age_seconds"].values()
    assert ahead > 3500, "the clock was set back"


def test_exporter_counts_undelivered_messages_of_configured_channels(world: Settings) -> None:
    with Database(world).connect() as connection:
        for name in ("a", "b"):
            open_alert(connection, Alert(name, "error", "something", "look"))
        queue(connection, ["slack", "webhook"])
        connection.execute("UPDATE alert_delivery SET delivered_at = now() WHERE channel = 'slack' AND alert_id = 1")
    settings = world.model_copy(
        update={
            "slack_webhook_url": SecretStr("https://hooks.slack.com/services/T/B/x"),
            "alert_email": "a@example.org",
        }
    )
    assert read(settings)["irt_alerts_undelivered"] == {("slack",): 1.0, ("email",): 0.0}


def test_exporter_has_open_violations_and_the_last_times_of_invariants_and_night(world: Settings) -> None:
    day = datetime(2026, 8, 20, 6, tzinfo=UTC)
    night = day - timedelta(hours=3)
    rooms.run_sql(
        Database(world),
        """INSERT INTO invariant_result (run, invariant, partition, subject, passed, evaluated_at, resolved_at)
           SELECT 'made up', 'anchors_agree', '', subject, false, %s, CASE subject WHEN 'q3' THEN %s END
           FROM unnest(ARRAY['', 'q1', 'q2', 'q3']) subject""",
        (day, day),
    )
    for back, fitted_at in ((0, night), (1, day)):  # the older night was recomputed later
        rooms.run_sql(
            Database(world),
            """INSERT INTO mirt_ability (update_id, user_id, scale_id, theta, se, method, n_items, kind, window_end,
                                         published_as_of, set_hash, scale_version, fitted_at)
               VALUES (%s, 'ann', %s, 0, 1, 'eap', 3, 'nightly', %s, %s, '', 1, %s)""",
            (f"u{back}", rooms.SCALE, night - timedelta(days=back), night, fitted_at),
        )
    found = read(world)
    assert {name: n for (name, _), n in found["irt_invariant_violations"].items() if n} == {"anchors_agree": 2.0}
    for part, at in (("invariants", day), ("nightly", night)):
        assert found[f"irt_{part}_last_run_timestamp_seconds"] == {(): at.timestamp()}


def test_slow_query_is_cancelled_and_the_remaining_metrics_are_exported(
    world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "STATEMENT_TIMEOUT_MS", round(patient(STATEMENT_TIMEOUT_MS)))
    with psycopg.connect(Database(world).url) as other:
        other.execute("LOCK TABLE alert_delivery")
        found = read(world)
    assert (found["irt_exporter_up"], found["irt_alerts_undelivered"]) == ({(): 0.0}, {})
    assert len(found["irt_invariant_violations"]) == len(INVARIANTS)


def test_lost_database_is_read_again_after_its_return(world: Settings) -> None:
    now = count(0, step=2 * int(CACHED_S))
    collector = StateCollector(Database(world), world, clock=lambda: float(next(now)))

    def up() -> list[float]:
        return [s.value for metric in collector.collect() if metric.name == UP.name for s in metric.samples]

    assert up() == [1.0]
    with altered(world, "ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true"):
        assert up() == [0.0]
    assert up() == [1.0]
