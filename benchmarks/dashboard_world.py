"""Make years of a platform's data in a minute: two months are calibrated, and later months are copies of the second.

The first two months come from the platform's own functions on simulated answers. For every later month, SQL writes
these rows: the second month's answers, at that month's times; its snapshot, with the hash of those answers and the
second month's file; its fits, proposals and drift, with slightly different parameters. In each month, one item in
twenty is marked as drifted, and no decision is ever made, so that after three years most items wait. DIF of three
attributes is made up for every item and month. The platform's own function opens alerts on items from the drift.

So answers, parameters and drift do not match each other, and states of gates are made up. The number and size of the
rows that pages read are realistic.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import psycopg
import sqlalchemy as sa

from irt_assets.calibration.month import fit_month, link_month, publish_month
from irt_assets.common.partitions import Month, month_of
from irt_assets.decisions.origin import initialise
from irt_assets.drift.alerts import settle_alerts
from irt_assets.drift.month import drift_of_month
from irt_assets.engines.em import EmEngine
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.responses.stored_window import verdict_hash
from irt_assets.simulation.files import write
from irt_assets.simulation.response_log import simulate
from resources import tables
from resources.cluster.relational import on_postgres
from resources.files.object_store import object_store
from resources.postgres import warehouse
from resources.postgres.database import Database
from resources.settings import Settings
from tests.testbed.partitions import ensure_month_partitions
from tests.testbed.scenario import AnyScenario

SCALES = ("algebra", "geometry", "numbers")
THRESHOLDS = {"min_responses": 20, "min_anchor_responses": 15, "min_anchors": 10}
SAMPLING_RATE = 20
"""Share of a month's items that have drifted: one in this number."""


def build(database: Database, settings: Settings, months: Sequence[str]) -> None:
    """Build the world of these months, unless it exists."""
    with database.connect() as connection:
        ensure_month_partitions(connection, months[0], month_of(datetime.now(UTC)))
        row = connection.execute("SELECT count(DISTINCT month) FROM item_drift").fetchone()
    n_attempts = row[0] if row else 0
    if n_attempts == len(months):
        return
    began = time.perf_counter()
    if n_attempts < 2:
        _calibrate(database, settings, months)
        print(f"two months calibrated: {time.perf_counter() - began:.0f} s", flush=True)
    with database.connect() as connection:
        connection.execute("SELECT setseed(0.1)")
        for month in months[2:]:
            _copy(connection, months[1], month)
        _let_items_drift(connection)
        _add_dif(connection)
        for scale in SCALES:
            settle_alerts(connection, scale)
    with database.connect() as connection:
        for month in months[2:]:
            digest = verdict_hash(on_postgres(connection), *Month(month).bounds)
            connection.execute("UPDATE scored_snapshot SET data_hash = %s WHERE month = %s", (digest, month))
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    print(f"{len(months)} months: {time.perf_counter() - began:.0f} s", flush=True)


def _calibrate(database: Database, settings: Settings, months: Sequence[str]) -> None:
    """Calibrate the first two months with the platform's own functions."""
    for k, scale in enumerate(SCALES):
        _load(database, scale, months[:2], seed=k + 1)
        initialise(database, scale, first_month=months[0], thresholds=THRESHOLDS)
    store = object_store(settings)
    for month in months[:2]:
        take_snapshot(database, store, month, "benchmark")
        fit_month(database, store, month, EmEngine(settings.irt_threads), "benchmark")
        link_month(database, month, "benchmark")
        publish_month(database, store, month, (), "benchmark")
        drift_of_month(database, store, month)


def _load(database: Database, scale: str, months: Sequence[str], seed: int) -> None:
    scenario = AnyScenario(
        months=tuple(months),
        now=Month(months[-1]).end,
        seed=seed,
        learners_per_month=300,
        blocks=20,
        items_per_block=50,
        anchors_per_block=5,
        practice_sessions=0.0,
    )
    with tempfile.TemporaryDirectory() as folder:
        files = write(*simulate(scenario), Path(folder))
        questions = pd.DataFrame([json.loads(line) for line in files.questions.read_text("utf-8").splitlines()])
        learners = pd.DataFrame([json.loads(line) for line in files.learners.read_text("utf-8").splitlines()])
        answers = pd.read_parquet(files.attempts)
    questions["item_id"], answers["item_id"] = scale[0] + questions["item_id"], scale[0] + answers["item_id"]
    questions["scale_id"] = learners["target_scale_id"] = scale
    for name in ("user_id", "attempt_id", "session_id"):
        answers[name] = scale[0] + answers[name]
    learners["user_id"] = scale[0] + learners["user_id"]
    with database.connect() as connection:
        warehouse.append(connection, tables.question, questions)
        warehouse.append(connection, tables.learner, learners)
        warehouse.append(connection, tables.response_log, answers)


def _copy(connection: psycopg.Connection, source: str, month: str) -> None:
    """Copy all rows of the month `source` to another month."""
    (start, end), (first, _) = Month(month).bounds, Month(source).bounds
    later, name = f"+ '{(start - first) / timedelta(days=1):.0f} days'::interval", f"'{month}'"
    near = "+ (random() - 0.5) / 5"
    fit = f"md5(fit_id || {name})"
    _insert(
        connection,
        tables.response_log,
        f"completed_at >= '{first}' AND completed_at {later} < '{end}'",
        attempt_id=f"attempt_id || {name}",
        session_id=f"session_id || {name}",
        completed_at=f"completed_at {later}",
        started_at=f"started_at {later}",
    )
    of_month = f"month = '{source}'"
    copies = {
        tables.scored_snapshot: {"month": name},
        tables.fit_staging: {
            "month": name,
            "fit_id": fit,
            "spec": f"jsonb_set(spec, '{{misfit,reference}}', '\"{source}\"')",
        },
        tables.month_verdict: {"month": name, "fit_id": fit, "n_published": "0"},
        tables.item_parameter_proposal: {
            "month": name,
            "fit_id": fit,
            "parameters": f"parameters || jsonb_build_object('b', b {near})",
        },
        tables.item_drift: {"month": name, "delta_b": f"delta_b {near}"},
    }
    for table, changed in copies.items():
        _insert(connection, table, of_month, **changed)
    _insert(
        connection,
        tables.mirt_item_params,
        f"fit_id IN (SELECT fit_id FROM fit_staging WHERE {of_month})",
        fit_id=fit,
        params=f"coalesce(jsonb_set(params, '{{b}}', to_jsonb((params->>'b')::float8 {near})), params)",
    )
    _insert(
        connection,
        tables.mirt_fit_meta,
        f"fit_id IN (SELECT fit_id FROM fit_staging WHERE {of_month})",
        fit_id=fit,
        window_start=f"'{start}'",
        window_end=f"'{end}'",
    )


def _insert(connection: psycopg.Connection, table: sa.Table, where: str, **changed: str) -> None:
    """Copy rows of the table, with columns changed to SQL expressions."""
    names = [column.name for column in table.columns if column.computed is None]
    values = ", ".join(changed.get(name, f'"{name}"') for name in names)
    columns = ", ".join(f'"{name}"' for name in names)
    connection.execute(
        f'INSERT INTO "{table.name}" ({columns}) SELECT {values} FROM "{table.name}" WHERE {where}'.encode()
    )


def _let_items_drift(connection: psycopg.Connection) -> None:
    connection.execute(
        """UPDATE item_drift SET severity = CASE WHEN random() < 0.5 THEN 'high' ELSE 'medium' END, wabc = 0.12,
             details = jsonb_set(details, '{change}', jsonb_build_object('kind', 'drift', 'size', 0.5, 'onset',
               month || '-10', 'distractor_above_the_key', false))
           WHERE abs(hashtext(month || item_id)) %% %s = 0""",
        (SAMPLING_RATE,),
    )
    connection.execute(
        """UPDATE item_parameter_proposal p
             SET parameters = parameters || jsonb_build_object('b', b + 0.6) FROM item_drift d
           WHERE (d.month, d.scale_id, d.item_id) = (p.month, p.scale_id, p.item_id) AND d.severity <> 'none'"""
    )


def _add_dif(connection: psycopg.Connection) -> None:
    connection.execute(
        """INSERT INTO dif_analysis (month, scale_id, item_id, attribute, focal_group, reference_group, p_value,
             q_value, ets_class, details, computed_at)
           SELECT month, scale_id, item_id, attribute, 'focal', 'reference', p, p, 'A',
             jsonb_build_object('large', false, 'why_not', '', 'low_power', false, 'n',
               jsonb_build_object('reference', 200, 'focal', 100), 'wald', jsonb_build_object('statistic', 1.0, 'df', 2,
               'severity', 'none', 'wabc', 0.01, 'shift', 0.01, 'shift_se', 0.02, 'delta_a', 0.1, 'delta_a_se', 0.1,
               'delta_b', 0.1, 'delta_b_se', 0.1, 'delta_b_95', jsonb_build_array(-0.1, 0.3), 'anchor', false)),
             computed_at
           FROM item_drift, random() AS p, unnest(ARRAY['gender', 'region', 'language']) AS attribute"""
    )
