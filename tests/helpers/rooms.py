"""Minimal banks, answers and fits, made up or simulated, for tests of the packages `responses` and `calibration`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Concatenate, ParamSpec, TypeVar

import dagster as dg
import numpy as np
import pandas as pd
import psycopg
import pyarrow.parquet as pq
from pydantic import SecretStr

from irt_assets.calibration.month import fit_month, link_month, publish_month
from irt_assets.common.partitions import Month, month_of
from irt_assets.engines.em import EmEngine
from irt_assets.gates.evidence import Evidence, load_evidence
from irt_assets.ledger import fits
from irt_assets.ledger.fit_spec import ComparedMisfit, StagedSpec
from irt_assets.ledger.group_shift import GroupShift
from irt_assets.ledger.steps import Step
from irt_assets.responses.open_months import scales_with_changed_verdicts
from irt_assets.responses.snapshot import Snapshot, take_snapshot
from irt_assets.responses.verdict_states import states_of_months
from irt_assets.responses.verdicts import judge_differing
from irt_assets.scales.scale import Scale
from irt_assets.simulation.files import SCALE_ID, write
from irt_assets.simulation.response_log import simulate
from irt_assets.simulation.truth import Truth
from irt_psychometrics import Calibration
from irt_psychometrics.estimation import Convergence, Flag
from irt_psychometrics.linking import Linking
from resources import tables
from resources.files.object_store import FolderStore, ObjectStore
from resources.postgres import warehouse
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.databases import database_copy
from tests.testbed.partitions import ensure_month_partitions
from tests.testbed.scenario import AnyScenario

SCALE = SCALE_ID
MONTHS = ("2026-06", "2026-07")
LOWERED = {"min_responses": 120, "min_anchor_responses": 80}
"""Thresholds of the small world, in which an item has about 200 first answers a month. The defaults require 500."""

IN_TRANSACTION = """SELECT pid, query FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
      AND backend_type = 'client backend'"""
"""Query for other processes with an open transaction."""

Given = ParamSpec("Given")
Found = TypeVar("Found")

attempt_numbers = count(1)


# -- databases ---------------------------------------------------------------------------------------


@contextmanager
def copied(server: str, template: str, name: str, home: Path) -> Iterator[Settings]:
    """Yields settings of a copy of the database `template`, dropped at the end."""
    with database_copy(server, template, name) as url:
        yield Settings(
            irt_home=home, database_url=SecretStr(url), irt_first_month=MONTHS[0], irt_threads=1, _env_file=None
        )


def folder_store(settings: Settings) -> FolderStore:
    return FolderStore(settings.irt_home / "objects")


def rows(database: Database, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(query.encode(), values).fetchall()


def call(
    database: Database,
    function: Callable[Concatenate[psycopg.Connection, Given], Found],
    *arguments: Given.args,
    **named: Given.kwargs,
) -> Found:
    """Call a function with a connection to the database, in its own transaction."""
    with database.connect() as connection:
        return function(connection, *arguments, **named)


def run_sql(database: Database, statement: str, values: Sequence[Any] = ()) -> None:
    with database.connect() as connection:
        connection.execute(statement.encode(), values)


# -- a simulated log ---------------------------------------------------------------------------------


def load_small_world(database: Database, **knobs: Any) -> Truth:
    """Load two months with 300 new learners each, later practice, and 36 items, of which 15 are anchors."""
    usual = {"months": MONTHS, "now": datetime(2026, 8, 20, tzinfo=UTC), "seed": 20260601}
    scenario = AnyScenario(**usual | {"learners_per_month": 300, "items_per_block": 12, "anchors_per_block": 5} | knobs)
    log, truth = simulate(scenario)
    with TemporaryDirectory() as folder, database.connect() as connection:
        files = write(log, truth, Path(folder))
        ensure_month_partitions(connection, scenario.months[0], month_of(scenario.now))
        for table, path in ((tables.question, files.questions), (tables.learner, files.learners)):
            lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            warehouse.append(connection, table, pd.DataFrame(lines))
        warehouse.append(connection, tables.response_log, pq.read_table(files.attempts).to_pandas())
    return truth


def is_stale(database: Database, month: str) -> bool:
    """Judge the month's days. Returns whether its verdicts differ from its snapshot."""
    judge_differing(database, *(at.date() for at in Month(month).bounds))
    return month in call(database, scales_with_changed_verdicts, [month])


def calibrate(settings: Settings, month: str, scale_id: str = SCALE) -> Step:
    """Calibrate a month from its snapshot to its publication. Returns its publication step."""
    database, store = Database(settings), folder_store(settings)
    fit_and_link(database, store, month)
    return publish_month(database, store, month, (), "run")[scale_id][month]


def fit_and_link(database: Database, store: ObjectStore, month: str, engine: EmEngine | None = None) -> None:
    """Fit and link a month from its snapshot."""
    take_snapshot(database, store, month, "run")
    fit_month(database, store, month, engine or EmEngine(1), "run")
    link_month(database, month, "run")


# -- made-up rows ------------------------------------------------------------------------------------


def add_items(database: Database, items: Mapping[str, Mapping[str, Any] | None], scale_id: str = SCALE) -> None:
    """Add items of a scale. An item with `irt` values is an anchor."""
    with database.connect() as connection:
        for item, irt in items.items():
            meta = {} if irt is None else {"tags": ["anchor"], "irt": dict(irt)}
            connection.execute(
                "INSERT INTO question (item_id, scale_id, topic_id, meta) VALUES (%s, %s, 'topic', %s)",
                (item, scale_id, json.dumps(meta)),
            )


def add_learners(database: Database, users: Iterable[str], *, is_test: bool = False) -> None:
    with database.connect() as connection:
        for user in users:
            connection.execute(
                """INSERT INTO learner (user_id, is_test) VALUES (%s, %s)
                   ON CONFLICT (user_id) DO UPDATE SET is_test = excluded.is_test""",
                (user, is_test),
            )


def attempt(user: str, item: str, at: datetime, **others: Any) -> dict[str, Any]:
    """Returns a live, correct answer outside exams, with the values of `others`."""
    row = {
        "attempt_id": f"t{next(attempt_numbers):06d}",
        "completed_at": at,
        "user_id": user,
        "item_id": item,
        "session_id": None,
        "form_id": None,
        "position": None,
        "started_at": None,
        "correct": True,
        "response": None,
        "response_time_ms": None,
        "hints_used": None,
        "mode": "live",
        "score": None,
    }
    unknown = set(others) - set(row)
    assert not unknown, unknown
    return row | others


def add_attempts(database: Database, attempts: Sequence[Mapping[str, Any]]) -> None:
    times, columns = [a["completed_at"] for a in attempts], list(attempts[0])
    with database.connect() as connection:
        ensure_month_partitions(connection, f"{min(times):%Y-%m}", f"{max(times):%Y-%m}")
        with connection.cursor().copy(f"COPY response_log ({', '.join(columns)}) FROM STDIN".encode()) as copy:
            for one in attempts:
                copy.write_row([one[name] for name in columns])


def answer_matrix(
    month: str, scores: np.ndarray, items: Sequence[str], users: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Attempts for every 0 or 1 in `scores` (persons × items; NaN:

    not shown), minutes apart, from the 2nd of the month.
    """
    start = Month(month).start + timedelta(days=1)
    names = users or [f"u{i:04d}" for i in range(scores.shape[0])]
    return [
        attempt(names[i], items[j], start + timedelta(minutes=int(j), seconds=int(i) % 60), correct=bool(scores[i, j]))
        for i, j in zip(*np.nonzero(~np.isnan(scores)), strict=True)
    ]


def model_scores(theta: np.ndarray, a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw scores 0 and 1 from a 2PL, persons × items."""
    return (rng.random((theta.size, a.size)) < 1 / (1 + np.exp(-a * (theta[:, None] - b)))).astype(float)


# -- made-up fits ------------------------------------------------------------------------------------


def made_up_calibration(
    items: Mapping[str, tuple[float, float]],
    *,
    n: int = 1000,
    converged: bool = True,
    flags: Mapping[str, tuple[Flag, ...]] | None = None,
    b_se: Mapping[str, float] | None = None,
) -> Calibration:
    """A fit with the given parameters (a, b), as if from an engine."""
    a, b = np.array(list(items.values()), dtype=float).reshape(-1, 2).T
    se = np.array([(b_se or {}).get(item, 0.1) for item in items])
    cov = np.zeros((len(items), 2, 2))
    cov[:, 0, 0], cov[:, 1, 1] = 1e-4, (a * se) ** 2
    sample = np.full(len(items), n)
    return Calibration(
        item_ids=tuple(items),
        models=("2pl",) * len(items),
        engine="em",
        engine_version="made up",
        a=a,
        d=-a * b,
        c=np.zeros(len(items)),
        cov=cov,
        joint_cov=None,
        n=sample,
        n_correct=sample // 2,
        flags=tuple((flags or {}).get(item, ()) for item in items),
        latent_mean=0.0,
        latent_sd=1.0,
        n_persons=n,
        convergence=Convergence(converged, 10, 1e-6, 1e-4, -1000.0, 2 * len(items), "" if converged else "made up"),
        data_hash="made up",
    )


def made_up_linking(used: Sequence[str], *, q_p: float = 0.5) -> Linking:
    return Linking(
        slope=1.0,
        intercept=0.0,
        slope_se=0.0,
        intercept_se=0.0,
        cov=np.zeros((2, 2)),
        method="stocking-lord",
        rmse=0.0,
        anchors_used=tuple(used),
        anchors_dropped={},
        q=1.0,
        q_df=2 * len(used) - 2,
        q_p=q_p,
        share_kept=1.0,
        warnings=(),
        anchor_set="1",
    )


def made_up_snapshot(connection: psycopg.Connection, store: ObjectStore, month: str, content: bytes = b"") -> Snapshot:
    """Store a snapshot whose file exists and whose rows are not needed."""
    content = content or month.encode()
    digest = hashlib.sha256(content).hexdigest()
    snapshot = Snapshot(month, digest, f"snapshots/{month}/{digest}", "made up", 1, {SCALE: {"scored": 1}}, {})
    store.put(snapshot.uri, content)
    connection.execute(
        "UPDATE scored_snapshot SET superseded_at = now() WHERE month = %s AND superseded_at IS NULL", (month,)
    )
    connection.execute(
        """INSERT INTO scored_snapshot
             (month, snapshot_hash, uri, data_hash, n_attempts, counts, rules, verdict_state)
           VALUES (%s, %s, %s, %s, 1, %s, '{}', %s)
           ON CONFLICT (month, snapshot_hash) DO UPDATE
           SET superseded_at = NULL, verdict_state = excluded.verdict_state""",
        (month, digest, snapshot.uri, snapshot.data_hash, json.dumps(snapshot.counts))
        + (states_of_months(connection, [month])[month],),
    )
    return snapshot


MADE_UP_SPEC = StagedSpec(model="2pl", misfit=ComparedMisfit(reference="no month", why="the fit is made up"))


def stage_made_up(database: Database, store: ObjectStore, month: str, calibration: Calibration) -> str:
    """Store a month that is fitted and not linked. Returns the id of the fit."""
    with database.connect() as connection:
        snapshot = made_up_snapshot(connection, store, month)
        return fits.stage_fit(connection, snapshot, SCALE, "em", calibration, MADE_UP_SPEC, None)


def link_made_up(
    database: Database, store: ObjectStore, month: str, calibration: Calibration, *, q_p: float = 0.5
) -> str:
    """Store a month that is fitted and linked.

    Returns the id of the fit. With `q_p` below 0.01 its anchors disagree.
    """
    with database.connect() as connection:
        snapshot = made_up_snapshot(connection, store, month)
        fit_id = fits.stage_fit(connection, snapshot, SCALE, "em", calibration, MADE_UP_SPEC, None)
        fits.save_linked_fit(
            connection,
            fits.StagedFit(
                fit_id=fit_id,
                month=month,
                scale_id=SCALE,
                engine="em",
                snapshot_hash=snapshot.snapshot_hash,
                spec=MADE_UP_SPEC,
                code_version="made up",
                fitted_at=datetime.now(UTC),
            ),
            calibration,
            calibration,
            made_up_linking(("K1", "K2", "K3"), q_p=q_p),
            kind="monthly",
            window=Month(month).bounds,
            anchor_hash="made up",
            run_id=None,
        )
        fits.write_group_shift(connection, fit_id, GroupShift("nothing in force to compare"), None)
    return fit_id


def evidence_of(connection: psycopg.Connection, store: ObjectStore, month: str, scale: Scale) -> Evidence:
    """Evidence for a month's gates, after reading and checking the stored file."""
    return load_evidence(connection, month, scale, store)


def check_context(partition: str, instance: dg.DagsterInstance, *selected: dg.AssetCheckKey) -> Any:
    """Context of a check of a partition. `selected`: the checks of the same step that are selected."""
    return SimpleNamespace(
        partition_key=partition,
        has_partition_key=True,
        partition_time_window=None,
        instance=instance,
        selected_asset_check_keys=set(selected),
    )
