"""Retention: each kind of expired data is deleted, and each exception is kept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import psycopg
import pytest

from irt_assets.backup.cited_files import cited_files
from irt_assets.common.job_names import PRUNE_JOB
from irt_assets.gates.month_classification import State
from irt_assets.gates.month_status import month_states
from irt_assets.invariants.history import evaluate_all
from irt_assets.invariants.snapshots import snapshots_match_their_hash
from irt_assets.ledger.citations import cited_names
from irt_assets.reports.artifacts import Artifact, record_files, store_report
from irt_assets.runs.in_process_runs import run_job, run_month
from irt_assets.servers.instance import dagster_instance
from jobs.retention.prune import prune
from jobs.retention.run_retention import RUN_AGE, prune_runs
from jobs.retention.unused import prune_files, prune_rows, prune_unfinished
from resources import tables
from resources.alerts.outbox import Alert, open_alert, resolve_alert
from resources.dagster_compat import ComputeIOType
from resources.files.object_store import PART, FolderStore, ObjectStore
from resources.postgres import warehouse
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers import rooms
from tests.testbed.patience import patient

MONTH = "2026-06"
FITTED = ("mirt_fit_meta", "mirt_item_params", "month_impact", "fit_staging")
LATER, MUCH_LATER = timedelta(days=101), timedelta(days=366)
ITEMS = {"I1": (1.0, 0.0), "K1": (1.2, -0.5), "K2": (0.9, 0.4), "K3": (1.1, 0.9)}


def prune_by_kind(database: Database, now: datetime, *, dry_run: bool = False) -> dict[str, tuple[str, ...]]:
    return {deletion.kind: deletion.names for deletion in prune_rows(database, now, dry_run=dry_run) if deletion.names}


def files_gone(database: Database, store: ObjectStore, now: datetime, *, dry_run: bool = False) -> tuple[str, ...]:
    """Prune files long after `now`. Returns their names."""
    return prune_files(database, store, now + LATER, dry_run=dry_run).names


def refit_month(database: Database, store: ObjectStore) -> tuple[str, str]:
    """A month that was fitted, linked and snapshotted twice; the ids of the superseded fit and of the present one."""
    old = rooms.link_made_up(database, store, MONTH, rooms.made_up_calibration(ITEMS))
    uri = f"snapshots/scored_responses/{MONTH}/old.parquet"
    store.put(uri, b"old")
    for table in ("scored_snapshot", "fit_staging", "mirt_fit_meta"):
        rooms.run_sql(database, f"UPDATE {table} SET snapshot_hash = 'old'")
    rooms.run_sql(database, "UPDATE scored_snapshot SET uri = %s", (uri,))
    return old, rooms.link_made_up(database, store, MONTH, rooms.made_up_calibration(ITEMS))


def fits_of(database: Database) -> dict[str, set[str]]:
    return {table: {fit for (fit,) in rooms.rows(database, f"SELECT fit_id FROM {table}")} for table in FITTED}


def test_superseded_fit_is_deleted_with_its_parameters_attempt_and_snapshot(
    database: Database, store: FolderStore, now: datetime
) -> None:
    old, new = refit_month(database, store)
    assert prune_by_kind(database, now) == {}
    would = prune_by_kind(database, now + LATER, dry_run=True)
    assert set(fits_of(database)["mirt_fit_meta"]) == {old, new}, "a dry run deleted something"
    assert (
        prune_by_kind(database, now + LATER)
        == would
        == {
            "superseded fits": (old,),
            "attempts at fits": (old,),
            "superseded snapshots": (f"{MONTH}/old",),
        }
    )
    assert fits_of(database) == {table: {new} for table in FITTED}
    old_file = f"snapshots/scored_responses/{MONTH}/old.parquet"
    os.utime(store.root / old_file, times=(now.timestamp(), now.timestamp()))
    assert prune_files(database, store, now, dry_run=False).names == (), "they may be about to be cited"
    for dry_run in (True, False):
        assert files_gone(database, store, now, dry_run=dry_run) == (old_file,)
        assert store.exists(old_file) is dry_run
    assert (prune_by_kind(database, now + LATER), files_gone(database, store, now)) == ({}, ())


SUPERSEDED_PROPOSALS = "superseded proposals of fits without a decision"
PROPOSAL = """INSERT INTO item_parameter_proposal (month, scale_id, item_id, fit_id, parameters, why)
    VALUES ('2026-06', 's', 'I1', %s, '{"a": 1, "b": 0, "c": 0}', 'w')"""
CITATIONS = {
    "item_parameter_publication": """INSERT INTO item_parameter_publication
        (scale_id, item_id, parameters, effective_from, fit_id, rule, reason, anchor_hash, code_version)
        VALUES ('s', 'I1', '{"a": 1, "b": 0, "c": 0}', now(), %s, 'first', 'r', 'h', 'v')""",
    "release_decision": """INSERT INTO release_decision (month, scale_id, item_id, fit_id, decision, decided_by, reason)
        VALUES ('2026-06', 's', 'I1', %s, 'reject', 'ann', 'r')""",
    "publication_step": """INSERT INTO publication_step (month, scale_id, fit_id, state, why)
        VALUES ('2026-06', 's', %s, 'done', 'w')""",
}


@pytest.mark.parametrize("table", CITATIONS)
def test_cited_fit_stays_with_its_attempt_and_snapshot(
    table: str, database: Database, store: ObjectStore, now: datetime
) -> None:
    old, new = refit_month(database, store)
    rooms.run_sql(database, CITATIONS[table], (old,))
    assert (prune_by_kind(database, now + LATER), files_gone(database, store, now)) == ({}, ())
    assert fits_of(database) == {table: {old, new} for table in FITTED}


def test_proposal_of_a_superseded_fit_is_deleted_unless_a_decision_cites_the_fit(
    database: Database, store: ObjectStore, now: datetime
) -> None:
    old, new = refit_month(database, store)
    for fit in (old, new):
        rooms.run_sql(database, PROPOSAL, (fit,))
    rooms.run_sql(database, CITATIONS["release_decision"], (old,))
    assert prune_by_kind(database, now + LATER) == {}
    rooms.run_sql(database, "DELETE FROM release_decision")
    assert prune_by_kind(database, now + LATER)[SUPERSEDED_PROPOSALS] == (f"{old}/I1",)
    remaining = {fit for (fit,) in rooms.rows(database, "SELECT fit_id FROM item_parameter_proposal")}
    assert remaining == fits_of(database)["mirt_fit_meta"] == {new}


def test_proposal_of_a_recalibration_is_deleted_only_if_a_newer_proposal_replaced_the_item(
    database: Database, store: ObjectStore, now: datetime
) -> None:
    """The later recalibration of the window proposes only I1 and supersedes the whole fit."""
    old, new = refit_month(database, store)
    rooms.run_sql(database, "UPDATE mirt_fit_meta SET kind = 'pooled'")
    for fit, item in ((old, "I1"), (old, "I2"), (new, "I1")):
        rooms.run_sql(database, PROPOSAL.replace("'2026-06'", "'2026-06:2026-07'").replace("I1", item), (fit,))
    assert prune_by_kind(database, now + LATER) == {SUPERSEDED_PROPOSALS: (f"{old}/I1",)}
    assert fits_of(database)["mirt_fit_meta"] == {old, new}, "the open proposal rests on the superseded fit"


def test_last_attempt_at_a_fit_is_kept_at_any_age(database: Database, store: ObjectStore, now: datetime) -> None:
    """The last attempt records why a month is red."""
    first, last = (rooms.stage_made_up(database, store, MONTH, rooms.made_up_calibration(ITEMS)) for _ in range(2))
    assert prune_by_kind(database, now + LATER) == {"attempts at fits": (first,)}
    assert fits_of(database)["fit_staging"] == {last}


ABILITY = """INSERT INTO mirt_ability (update_id, user_id, scale_id, theta, se, method, n_items, kind, window_end,
                                       published_as_of, set_hash, scale_version)
             VALUES (%s, %s, %s, 0, 1, 'eap', 1, %s, %s, now(), 'h', 1)"""


def nights(database: Database, store: ObjectStore, last: datetime, n: int) -> None:
    """A fit and an ability of each of `n` nights up to `last`, copies of a made-up month's."""
    rooms.link_made_up(database, store, MONTH, rooms.made_up_calibration(ITEMS))
    for k in range(n):
        change = {"fit_id": f"night {k}", "kind": "nightly", "window_end": (last - timedelta(days=k)).isoformat()}
        for table, also in (("mirt_fit_meta", "kind = 'monthly'"), ("mirt_item_params", "fit_id NOT LIKE 'night %%'")):
            rooms.run_sql(
                database,
                f"""INSERT INTO {table} SELECT (jsonb_populate_record(t, %s)).* FROM {table} t WHERE {also}""",
                (json.dumps(change),),
            )
        rooms.run_sql(database, ABILITY, (f"night {k}", "u", "s", "nightly", last - timedelta(days=k)))


def test_fits_of_nights_are_kept_for_thirty_days_and_fits_of_months_permanently(
    database: Database, store: ObjectStore, now: datetime
) -> None:
    nights(database, store, now, 40)
    deleted = prune_by_kind(database, now + timedelta(hours=1))
    assert set(deleted["fits of nights"]) == {f"night {k}" for k in range(30, 40)}
    assert len(deleted["abilities of nights"]) == 10
    assert rooms.rows(database, "SELECT count(*) FROM mirt_ability") == [(30,)]
    fits = fits_of(database)
    assert (fits["mirt_fit_meta"], len(fits["mirt_fit_meta"])) == (fits["mirt_item_params"], 31)


def test_last_night_is_kept_at_any_age(database: Database, store: ObjectStore, now: datetime) -> None:
    nights(database, store, now, 3)
    prune_by_kind(database, now + MUCH_LATER)
    kept = "SELECT fit_id, update_id FROM mirt_fit_meta m, mirt_ability WHERE m.kind = 'nightly'"
    assert rooms.rows(database, kept) == [("night 0", "night 0")]


def test_online_theta_is_deleted_after_ninety_days_unless_newest_of_learner_and_scale(
    database: Database,
    now: datetime,
) -> None:
    ago = [timedelta(days=days) for days in (400, 200, 89, 1)]
    for k, when in enumerate(ago):
        rooms.run_sql(database, ABILITY, (f"busy {k}", "busy", "s", "online", now - when))
        rooms.run_sql(database, ABILITY, (f"month {k}", "busy", "s", "monthly", now - when))
    for user, scale, when in (("idle", "s", ago[1]), ("idle", "s", ago[0]), ("busy", "another", ago[0])):
        rooms.run_sql(database, ABILITY, (f"{user} {scale} {when.days}", user, scale, "online", now - when))
    would = prune_by_kind(database, now, dry_run=True)
    assert would == {"abilities on request": ("busy 0", "busy 1", "idle s 400")}
    assert prune_by_kind(database, now) == would
    kept = rooms.rows(database, "SELECT update_id FROM mirt_ability WHERE kind = 'online' ORDER BY 1")
    assert kept == [("busy 2",), ("busy 3",), ("busy another 400",), ("idle s 200",)]
    assert rooms.rows(database, "SELECT count(*) FROM mirt_ability WHERE kind = 'monthly'") == [(4,)]


def test_online_theta_that_is_updated_during_a_prune_is_kept(database: Database, now: datetime) -> None:
    """The update commits after the prune has selected the old row and before the deletion."""
    for name, days in (("old", 200), ("new", 1)):
        rooms.run_sql(database, ABILITY, (name, "u", "s", "online", now - timedelta(days=days)))
    with psycopg.connect(database.url) as updating, ThreadPoolExecutor(1) as thread:
        updating.execute("UPDATE mirt_ability SET window_end = %s WHERE update_id = 'old'", (now,))
        pruning = thread.submit(prune_by_kind, database, now)
        while not rooms.rows(
            database,
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        ):
            assert not pruning.done()
        updating.commit()
        pruning.result(patient(60))
    assert rooms.rows(database, "SELECT update_id FROM mirt_ability ORDER BY 1") == [("new",), ("old",)]


def test_alerts_and_violations_are_deleted_a_year_after_their_end_and_never_while_open(
    database: Database, now: datetime
) -> None:
    with database.connect() as connection:
        for key in ("over", "open"):
            open_alert(connection, Alert(key, "error", "what", "fix"))
        resolve_alert(connection, "over")
        connection.execute(
            "INSERT INTO alert_delivery (alert_id, event, channel) SELECT alert_id, 'opened', 'email' FROM alert"
        )
        for run, subject, passed, resolved in (
            ("r1", "", True, None),
            ("r2", "", True, None),
            ("r1", "item over", False, now),
            ("r1", "item open", False, None),
        ):
            connection.execute(
                """INSERT INTO invariant_result (run, invariant, partition, subject, passed, resolved_at, evaluated_at)
                   VALUES (%s, 'truth', '', %s, %s, %s, now() + %s)""",
                (run, subject, passed, resolved, timedelta(minutes=run == "r2")),
            )
    assert prune_by_kind(database, now + timedelta(days=364)) == {}
    assert prune_by_kind(database, now + MUCH_LATER) == {
        "alerts that are over": ("1",),
        "violations that are gone": ("r1|truth",),
        "verdicts of invariants": ("r1|truth",),
    }
    alerts = "SELECT key, d.alert_id FROM alert a FULL JOIN alert_delivery d ON d.alert_id = a.alert_id"
    assert rooms.rows(database, alerts) == [("open", 2)]
    kept = rooms.rows(database, "SELECT run, subject FROM invariant_result ORDER BY 1, 2")
    assert kept == [("r1", "item open"), ("r2", "")]


def test_arrivals_are_deleted_after_a_school_year(database: Database, now: datetime) -> None:
    for source, age in (("old.csv", 401), ("both.csv", 401), ("both.csv", 399)):
        rooms.run_sql(
            database,
            """INSERT INTO intake (source, kind, arrived_at, writer, read, accepted, corrected, duplicates, clock_ahead,
                 rejected) VALUES (%s, 'file', %s, 1, 1, 1, 0, 0, 0, '{}')""",
            (source, now - timedelta(days=age)),
        )
    for dry_run in (True, False):
        assert prune_by_kind(database, now, dry_run=dry_run) == {"arrivals": ("both.csv", "old.csv")}
    assert rooms.rows(database, "SELECT source FROM intake") == [("both.csv",)]


def test_files_left_by_an_interrupted_prune_are_deleted_by_the_next_prune(
    database: Database, store: ObjectStore, now: datetime
) -> None:
    """The process died after the deletion of the rows, so the files have no rows."""
    keys = "snapshots/scored_responses/2026-05/abc", "posterior_draws/2026-05/d", "reports/2026-05-04/u1.pdf"
    for key in keys:
        store.put(key, b"x")
    store.put("elsewhere/2026-05.pdf", b"not ours")
    assert files_gone(database, store, now) == keys
    assert [key for key, _ in store.list("elsewhere")] == ["elsewhere/2026-05.pdf"]


def test_unfinished_file_of_a_killed_process_is_deleted_after_a_day(store: FolderStore, now: datetime) -> None:
    part = store.root / "reports" / "2026-05-04" / f"{PART}x1"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half")
    os.utime(part, times=(now.timestamp(), now.timestamp()))
    assert prune_unfinished(store, now, dry_run=False).names == ()
    unfinished = (f"reports/2026-05-04/{PART}x1",)
    for dry_run in (True, False):
        assert prune_unfinished(store, now + LATER, dry_run=dry_run).names == unfinished
        assert part.exists() is dry_run


def test_learner_reports_are_deleted_after_a_school_year_and_bank_reports_are_kept(
    database: Database, store: ObjectStore, now: datetime
) -> None:
    monday = date(2025, 9, 1)
    for user in ("u1", "u2"):
        store_report(
            database, store, f"reports/{monday}/{user}.pdf", b"x", format="pdf", user_id=user, week_start=monday
        )
    store_report(database, store, "reports/drift/2025-09/math-1.pdf", b"x", format="pdf", window="2025-09/math")
    after = datetime(2025, 9, 1, tzinfo=UTC)
    assert prune_by_kind(database, after + timedelta(days=399)) == {}
    assert len(prune_by_kind(database, after + timedelta(days=401))["reports of learners"]) == 2
    assert files_gone(database, store, now) == ("reports/2025-09-01/u1.pdf", "reports/2025-09-01/u2.pdf")
    assert [key for key, _ in store.list("reports")] == ["reports/drift/2025-09/math-1.pdf"]


def test_replaced_drift_report_is_deleted_unless_its_month_has_a_decision(
    database: Database, store: ObjectStore, now: datetime
) -> None:
    """The report that a person had read when deciding is evidence."""
    for month in ("2026-05", "2026-06"):
        for n in (1, 2):
            store_report(
                database, store, f"reports/drift/{month}/math-{n}.pdf", b"x", format="pdf", window=f"{month}/math"
            )
    rooms.run_sql(database, CITATIONS["release_decision"], ("a fit",))
    for decided, other in (("2026-04:2026-05", "2026-06"), ("2026-06", "2026-05")):
        rooms.run_sql(database, "UPDATE release_decision SET month = %s", (decided,))
        assert files_gone(database, store, now, dry_run=True) == (f"reports/drift/{other}/math-1.pdf",)
    assert files_gone(database, store, now) == ("reports/drift/2026-05/math-1.pdf",)
    assert {key for key, _ in store.list("reports/drift/2026-06")} == {
        "reports/drift/2026-06/math-1.pdf",
        "reports/drift/2026-06/math-2.pdf",
    }


def test_prune_waits_for_a_writer_that_has_not_recorded_its_file_yet(
    database: Database, store: ObjectStore, now: datetime
) -> None:
    """The week is written again: its file is replaced before the row is committed."""
    key, monday = "reports/2026-05-04/u1.pdf", date(2026, 5, 4)
    uri = store.put(key, b"new")
    with database.connect() as writer, ThreadPoolExecutor(1) as other:
        warehouse.lock_rows(writer, tables.report_file, {"week_start": monday})
        pruning = other.submit(prune_files, database, store, now + LATER, dry_run=False)
        with pytest.raises(TimeoutError):
            pruning.result(0.5)
        record_files(writer, [Artifact(uri, "0", "pdf", "u1", monday)])
        writer.commit()
        assert pruning.result(patient(60)).names == ()
    assert store.exists(key)


def test_snapshot_and_draws_of_a_kept_fit_are_not_deleted(
    database: Database, store: ObjectStore, now: datetime
) -> None:
    rooms.link_made_up(database, store, MONTH, rooms.made_up_calibration(ITEMS))
    for key in ("snapshots/origin/math/abc", "posterior_draws/2026-06/d"):
        store.put(key, b"x")
    rooms.run_sql(
        database,
        """UPDATE mirt_fit_meta SET model_spec = model_spec || '{"snapshot": "snapshots/origin/math/abc"}';
           UPDATE fit_staging SET spec = spec || '{"draws": {"uri": "posterior_draws/2026-06/d"}}'""",
    )
    assert files_gone(database, store, now) == ()


def test_file_cited_only_by_an_attempt_at_a_fit_is_kept_and_backed_up(
    database: Database, store: ObjectStore, now: datetime
) -> None:
    """The attempt of a recalibration may stay after its fit is deleted; only the attempt then cites the answers."""
    rooms.stage_made_up(database, store, MONTH, rooms.made_up_calibration(ITEMS))
    files = {"snapshots/recalibration/math/abc.parquet": "", "posterior_draws/2026-06/d": "e1"}
    for key in files:
        store.put(key, b"x")
    rooms.run_sql(
        database,
        """UPDATE fit_staging SET spec = spec || '{"snapshot": "snapshots/recalibration/math/abc.parquet",
             "draws": {"uri": "posterior_draws/2026-06/d", "sha256": "e1"}}'""",
    )
    assert files_gone(database, store, now) == ()
    assert {file.key: file.sha256 for file in rooms.call(database, cited_files, store)}.items() >= files.items()
    assert rooms.call(database, cited_names, "snapshots").keys() >= {"snapshots/recalibration/math/abc.parquet"}


@pytest.mark.on_change(
    "jobs/**", "irt_assets/ledger/**", "irt_assets/invariants/**", "irt_assets/backup/cited_files.py"
)
def test_months_keep_their_state_and_evidence_after_a_prune(
    made_month: Settings, monkeypatch: pytest.MonkeyPatch, now: datetime
) -> None:
    """The month ran three times, and its second fit is deleted; the first fit is published."""
    database, store = Database(made_month), rooms.folder_store(made_month)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(days=400)

    with dagster_instance(made_month, database) as instance:
        for month in (rooms.MONTHS[1], rooms.MONTHS[0], rooms.MONTHS[0]):
            rooms.run_sql(database, "UPDATE fit_staging SET code_version = 'earlier'")  # else no fit is stored
            run_month(instance, made_month, month)
        before = month_states(database, instance, rooms.MONTHS)
        assert {state.state for state in before} <= {State.GREEN, State.RED}
        runs = instance.get_runs_count()
        monkeypatch.setattr("jobs.retention.prune.datetime", Later)
        would = [g for g in prune(database, store, instance, dry_run=True) if g.names]
        assert instance.get_runs_count() == runs
        deleted = {g.kind: g.names for g in prune(database, store, instance, dry_run=False) if g.names}
        assert month_states(database, instance, rooms.MONTHS) == before
        report = evaluate_all(database, store, before, now, {}, [snapshots_match_their_hash])
        again = [g for g in prune(database, store, instance, dry_run=False) if g.names]
    assert {g.kind for g in would} <= set(deleted)
    once = ("superseded fits", "attempts at fits", "runs that were superseded or failed")
    assert [len(deleted[kind]) for kind in once] == [1, 1, 1], deleted
    assert report.verdicts[0].passed
    assert [g for g in again if g.kind != "output of old runs that stay"] == []


def test_prune_job_deletes_superseded_fits(world: Settings) -> None:
    database, store = Database(world), rooms.folder_store(world)
    old, new = refit_month(database, store)
    rooms.run_sql(
        database, "UPDATE mirt_fit_meta SET superseded_at = now() - interval '101 days' WHERE fit_id = %s", (old,)
    )
    with dagster_instance(world, database) as instance:
        assert run_job(instance, world, PRUNE_JOB)
        (run,) = instance.get_runs(dg.RunsFilter(job_name=PRUNE_JOB))
        messages = [entry.user_message for entry in instance.all_logs(run.run_id)]
        [seen] = instance.fetch_observations(dg.AssetKey("item_calibration"), limit=10).records
    assert "deleted 1 superseded fits" in messages
    assert seen.asset_observation.description == "deleted 1 superseded fits"
    assert fits_of(database)["mirt_fit_meta"] == {new}


# -- runs --------------------------------------------------------------------------------------------
# Runs of Dagster that are deleted, and runs that are kept because something depends on them.

MONTHS = dg.StaticPartitionsDefinition(["2026-01", "2026-02"])
LATER_RUNS = RUN_AGE + timedelta(days=1)
SUPERSEDED, STAY = "runs that were superseded or failed", "output of old runs that stay"


@dg.asset(partitions_def=MONTHS)
def month() -> None:
    """Fail if the run has the tag `fails`."""
    if "fails" in dg.AssetExecutionContext.get().run.tags:
        raise ValueError("as wanted")


@dg.asset_check(asset=month, partitions_def=MONTHS)
def holds() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.observable_source_asset
def bank() -> dg.DataVersion:
    return dg.DataVersion("1")


DEFINITIONS = dg.Definitions(
    assets=[month, bank],
    asset_checks=[holds],
    jobs=[
        dg.define_asset_job("make", selection=dg.AssetSelection.assets("month").without_checks()),
        dg.define_asset_job("judge", selection=dg.AssetSelection.assets("month")),
        dg.define_asset_job("observe", selection=["bank"]),
    ],
    executor=dg.in_process_executor,
)


class Graph:
    """Runs of the little graph, and their pruning."""

    def __init__(self, database: Database, instance: dg.DagsterInstance) -> None:
        self.database, self.instance = database, instance

    def run(self, job: str, partition: str | None = None, **tags: str) -> str:
        return (
            DEFINITIONS.resolve_job_def(job)
            .execute_in_process(partition_key=partition, instance=self.instance, tags=tags, raise_on_error=False)
            .run_id
        )

    def prune_runs_by_kind(self, later: timedelta = LATER_RUNS, *, dry_run: bool = False) -> dict[str, tuple[str, ...]]:
        at = datetime.now(UTC) + later
        return {one.kind: one.names for one in prune_runs(self.database, self.instance, at, dry_run=dry_run)}

    def prune_superseded(self, later: timedelta = LATER_RUNS, *, dry_run: bool = False) -> tuple[str, ...]:
        return self.prune_runs_by_kind(later, dry_run=dry_run)[SUPERSEDED]

    def runs(self) -> set[str]:
        return {run.run_id for run in self.instance.get_runs()}


@pytest.fixture(scope="module")
def home(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Database, dg.DagsterInstance]]:
    with rooms.copied(
        postgres.start(),
        migrated_template,
        "run_retention",
        tmp_path_factory.mktemp("home"),
    ) as settings:
        database = Database(settings)
        with dagster_instance(settings, database) as instance:
            yield database, instance


@pytest.fixture
def graph(home: tuple[Database, dg.DagsterInstance]) -> Iterator[Graph]:
    database, instance = home
    yield Graph(database, instance)
    instance.wipe()
    rooms.run_sql(database, "DELETE FROM alert; DELETE FROM publication_step")


def test_superseded_run_is_deleted_with_its_events_and_output(graph: Graph) -> None:
    old, other, new = graph.run("make", "2026-01"), graph.run("make", "2026-02"), graph.run("make", "2026-01")
    output = graph.instance.compute_log_manager.get_log_keys_for_log_key_prefix
    assert (graph.prune_superseded(LATER_RUNS - timedelta(days=2)), graph.prune_superseded(dry_run=True)) == (
        (),
        (old,),
    )
    assert (graph.runs(), graph.prune_superseded(), graph.runs()) == ({old, other, new}, (old,), {other, new})
    assert graph.instance.get_materialized_partitions(month.key) == {"2026-01", "2026-02"}
    assert not graph.instance.all_logs(old)
    with pytest.raises(FileNotFoundError):
        output([old, "compute_logs"], ComputeIOType.STDERR)
    assert graph.prune_superseded() == ()


def test_dagster_loses_a_partition_if_its_latest_materialisation_is_deleted(graph: Graph) -> None:
    """This is why such runs are kept; the test detects a newer Dagster that behaves differently."""
    only = graph.run("make", "2026-01")
    assert graph.prune_superseded() == ()
    graph.instance.delete_run(only)
    assert graph.instance.get_materialized_partitions(month.key) == set()


@pytest.mark.parametrize(
    ("runs", "deleted"),
    [
        ([("make", {"fails": "yes"}), ("make", {})], [[], [0]]),
        ([("judge", {}), ("make", {}), ("judge", {})], [[], [], [0, 1]]),
        ([("observe", {})] * 3, [[], [0], [0, 1]]),
    ],
    ids=["a failed run until its partition was made", "the latest evaluation of a check", "the latest observation"],
)
def test_run_is_kept_until_a_later_run_replaces_its_results(
    graph: Graph, runs: list[tuple[str, dict[str, str]]], deleted: list[list[int]]
) -> None:
    """`gone` names the runs that a prune would delete after each run."""
    made: list[str] = []
    for (job, tags), expected in zip(runs, deleted, strict=True):
        made.append(graph.run(job, None if job == "observe" else "2026-01", **tags))
        assert set(graph.prune_superseded(dry_run=True)) == {made[k] for k in expected}


def test_run_named_by_an_open_alert_or_a_row_is_kept(graph: Graph) -> None:
    alerted, cited, last = (graph.run("make", "2026-01") for _ in range(3))
    key = f"run make 2026-01|{alerted}"
    with graph.database.connect() as connection:
        open_alert(connection, Alert(key, "error", "it failed", "look"))
        connection.execute(
            """INSERT INTO publication_step (month, scale_id, state, why, run_id)
               VALUES ('2026-01', 's', 'done', 'w', %s)""",
            (cited,),
        )
    assert graph.prune_superseded() == ()
    rooms.call(graph.database, resolve_alert, key)
    assert (graph.prune_superseded(), graph.runs()) == ((alerted,), {cited, last})


def test_running_run_is_not_deleted(graph: Graph) -> None:
    old, new = graph.run("make", "2026-01"), graph.run("make", "2026-01")
    running = graph.instance.get_run_by_id(old)._replace(run_id="f" * 32, status=dg.DagsterRunStatus.STARTED)
    graph.instance.add_run(running)
    assert (graph.prune_superseded(), graph.runs()) == ((old,), {new, running.run_id})


def test_prune_killed_between_events_and_run_is_completed_by_the_next_prune(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = graph.run("make", "2026-01"), graph.run("make", "2026-01")
    with monkeypatch.context() as killed:
        killed.setattr(graph.instance, "delete_run", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            graph.prune_superseded()
    assert (graph.runs(), graph.prune_superseded()) == ({old, new}, (old,))
    orphans = "SELECT count(*) FROM dagster.event_logs WHERE run_id NOT IN (SELECT run_id FROM dagster.runs)"
    assert rooms.rows(graph.database, orphans) == [(0,)]


def test_output_of_an_old_run_is_deleted_even_if_the_run_is_kept(graph: Graph) -> None:
    run = graph.run("make", "2026-01")
    log = graph.instance.compute_log_manager
    with log.open_log_stream([run, "compute_logs", "month"], ComputeIOType.STDERR) as stream:
        stream.write("a line")
    assert graph.prune_runs_by_kind() == {SUPERSEDED: (), STAY: (run,)}
    assert graph.runs() == {run}
    assert graph.prune_runs_by_kind() == {SUPERSEDED: (), STAY: ()}
