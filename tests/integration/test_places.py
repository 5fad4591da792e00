"""In how many places of the code a change is made: each is made in a copy of the code, which then has what was added.

`docs/explanation/architecture.md` lists the numbers ("What a change touches").
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from irt_assets.responses.answers import attempts_with_verdicts
from resources.cluster.relational import on_postgres
from resources.postgres.database import Database
from resources.postgres.relations import LEARNER, QUESTION, VERDICT
from resources.settings import Settings
from tests.helpers.kpi_worlds import WEEK, load, random_world
from tests.helpers.rooms import run_sql

pytestmark = pytest.mark.ci

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Place:
    """Lines put into a file of the code, by the line that they follow ("": into a new file). An import goes with the
    line that uses it."""

    file: str
    lines: Mapping[str, str]


def told_by(script: str, folder: Path, places: tuple[Place, ...] = (), **environment: str) -> Any:
    """What `script` prints as JSON, run with a copy of the code that is changed in `places`."""
    copy = folder / f"code-{len(places)}"
    for package in ("irt_assets", "resources", "jobs", "services"):
        shutil.copytree(ROOT / package, copy / package)  # with times and compiled kernels, which so stay valid
    for place in places:
        path = copy / place.file
        text = path.read_text("utf-8") if path.exists() else ""
        for after, lines in place.lines.items():
            assert text.count(after) == 1 or not text, f"{after!r} is not one line of {place.file}"
            text = text.replace(after, after + lines) if text else lines
        path.write_text(text, "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": f"{copy}:{ROOT}", "NUMBA_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# -- item flags --------------------------------------------------------------------------------------

FLAG = (
    Place(
        "irt_assets/psychometrics/core/models.py",
        {
            '    NO_DATA = _Meaning("no_data", "no learner answered it in this window")\n': """\
    EASY = _Meaning("easy", "few learners got it wrong", key_doubt="hardly anybody gets it wrong")
"""
        },
    ),
    Place(
        "irt_assets/psychometrics/estimation/response_layout.py",
        {
            "            Flag.NO_DATA: ~kept & (self.n == 0),\n": """\
            Flag.EASY: kept & (self.n - self.correct < 50),
"""
        },
    ),
)
FLAGGED = """
import json
import numpy as np
from irt_assets.engines.mirt_fit import fit_mirt
from irt_assets.engines.screening import screen_items
from tests.testbed.made_anchors import anchor_set_of
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.psychometrics.linking.linking import link
from irt_assets.reports.drift_actions import Evidence, propose

rng = np.random.default_rng(1)
b = np.array([-5.0, -1.0, -0.6, -0.3, 0.0, 0.3, 0.6, 1.0])
theta = rng.normal(size=(2000, 1))
responses = Responses.from_wide((rng.random((2000, 8)) < 1 / (1 + np.exp(b - theta))).astype(float))
em = fit_em(responses, threads=1)

def as_mirt(name, asked):
    return {
        "warnings": [], "cov_of": ["a", "d"], "a": em.a.tolist(), "d": em.d.tolist(), "c": em.c.tolist(),
        "cov": em.cov.tolist(), "latent": {"mean": 0.0, "sd": 1.0}, "loglik": em.convergence.loglik,
        "n_parameters": 16, "converged": True, "reason": "", "iterations": 9, "diagnostics": {}, "versions": {},
    }

by_engine = {
    "em": em,
    "mirt": fit_mirt(responses, call=as_mirt, model="2pl"),
    "pymc and brms": screen_items(responses, "2pl", None, "")[0],
}
known = np.ones(8)
anchors = anchor_set_of("s", "1", em.item_ids, known, b, 0 * b, 0.1 * known, 0.1 * known, 0 * b, (None,) * 8, known > 1)
flag = em.flags[0][0]
print(json.dumps({
    "flags": {engine: fit.flags for engine, fit in by_engine.items()},
    "dropped": link(em, anchors, rules=Rules.from_settings({"min_anchors": 3})).anchors_dropped,
    "proposed": propose(Evidence(flags=(flag,))).reason,
}))
"""


def test_an_item_flag_has_two_places(tmp_path: Path) -> None:
    assert len(FLAG) == 2
    told = told_by(FLAGGED, tmp_path, FLAG)
    assert set(told["flags"]) == {"em", "mirt", "pymc and brms"}
    for flags in told["flags"].values():
        assert flags == [["easy"], *[[]] * 7]
    assert told["dropped"] == {"i1": "This fit could not estimate it: few learners got it wrong."}
    assert told["proposed"] == "hardly anybody gets it wrong"


# -- reasons -----------------------------------------------------------------------------------------

REASON = (
    Place(
        "irt_assets/psychometrics/eligibility/attempts.py",
        {
            "    is_test: Mask\n": "    of_testlet: Mask\n",
        },
    ),
    Place(
        "irt_assets/psychometrics/eligibility/attempts.py",
        {
            '"The learner is a test account.", lambda attempts, _: attempts.is_test, is_answer=False\n    )\n': """\
    TESTLET = _Meaning(
        "testlet", "Its item shares a stimulus.", lambda attempts, _: attempts.of_testlet, is_answer=False
    )
"""
        },
    ),
    Place(
        "irt_assets/responses/facts.py",
        {
            '    "answered_later": lambda rows, _: rows.answered_later,\n': """\
    "of_testlet": lambda rows, _: rows.testlet_id.notnull(),
"""
        },
    ),
    Place(
        "irt_assets/responses/facts.py",
        {'ITEM_COLUMNS = ("scale_id", "item_id"': ', "testlet_id"'},
    ),
)
"""The worst case: a fact from a column that was not read so far, and a reason that takes the answer's place away."""
JUDGED = """
import json
import os
from datetime import timedelta
from irt_assets.ledger.publications import in_force
from irt_assets.common.partitions import week_bounds
from irt_assets.psychometrics.eligibility.attempts import rejected
from irt_assets.responses.learner_answers import learner_answers, read_judging
from irt_assets.responses.scales import read_scales
from irt_assets.responses.scored_answers import scored_answers, scoring_responses
from irt_assets.responses.stored_window import stored_window
from irt_assets.responses.verdicts import judge_differing
from resources.postgres.database import Database
from resources.cluster.relational import on_postgres
from resources.settings import Settings

settings = Settings(_env_file=None)
_, end = week_bounds(os.environ["WEEK"])
start = end - timedelta(days=28)
database = Database(settings)
with database.connect() as connection:
    connection.execute("TRUNCATE attempt_verdict, judged_day")
judge_differing(database, start.date(), end.date())
with database.connect() as connection:
    scales = read_scales(connection)
    scale = scales["math"]
    items = sorted(in_force(connection, "math", end).items)
    window = stored_window(connection, start, end, scales)
    answers = on_postgres(connection)(scored_answers(start, end))
    scored, users = scoring_responses(connection, start, end, items)
    judging = read_judging(connection, scales, items, start, end)
    answered = {row[0] for user in users for row in learner_answers(connection, user, start, end, judging)}
    table = window.table.to_pylist()
    print(json.dumps({
        "counts": window.judgements["math"].counts,
        "answers": rejected(window.judgements["math"].counts)[1],
        "of a testlet": sorted({str(row["reason"]) for row in table if row["item_id"] == os.environ["ITEM"]}),
        "eligible": sorted({*answers["item_id"].to_pylist()} & set(items)),
        "scoring": sorted({scored.item_ids[j] for j in scored.item}),
        "one by one": sorted(answered & set(items)),
        "hash": window.data_hash,
    }))
"""


OF_TESTLET = "math-01"


@pytest.fixture
def world(database: Database, settings: Settings) -> dict[str, str]:
    """A random log of two scales, with one item in a testlet; the environment of a script that reads it."""
    load(database, random_world(11))
    run_sql(database, "UPDATE question SET testlet_id = 'stimulus' WHERE item_id = %s", (OF_TESTLET,))
    return {
        "DATABASE_URL": settings.database_url.get_secret_value() if settings.database_url else "",
        "IRT_HOME": str(settings.irt_home),
        "WEEK": WEEK,
        "ITEM": OF_TESTLET,
    }


def test_a_reason_has_four_places_at_most(tmp_path: Path, world: dict[str, str]) -> None:
    assert len(REASON) == 4
    before, after = told_by(JUDGED, tmp_path, **world), told_by(JUDGED, tmp_path, REASON, **world)
    n = after["counts"].pop("testlet")
    assert n > 0
    assert after["answers"] == before["answers"] - n
    assert sum(after["counts"].values()) == sum(before["counts"].values()) - n
    assert set(after["of a testlet"]) <= {"testlet", "sandbox", "test_account"}
    for reader in ("eligible", "scoring", "one by one"):
        assert OF_TESTLET in before[reader]
        assert after[reader] == [item for item in before[reader] if item != OF_TESTLET]
    assert after["hash"] != before["hash"]


# -- backends ----------------------------------------------------------------------------------------

BACKEND = (
    Place(
        "resources/cluster/relational.py",
        {
            "    return on_spark(session)\n": """

def _lake() -> duckdb.DuckDBPyConnection:
    import os

    import duckdb

    lake = duckdb.connect()
    lake.execute("SET TimeZone = 'UTC'")
    for name in ("attempt", "question", "learner", "attempt_verdict"):
        lake.execute(f"CREATE VIEW {name} AS FROM read_parquet('{os.environ['LAKE']}/{name}.parquet')")
    return lake


_on_lake = Backend(
    dialect="duckdb",
    read=lambda _, query: _lake().sql(query).to_arrow_table(),
    number="('0x' || {digits})::bigint",
)


def on_log(connection: psycopg.Connection, since: datetime, until: datetime) -> Run:
    return _on_lake(connection)
"""
        },
    ),
)
COMPUTED = """
import json
import os
from datetime import timedelta
from irt_assets.features.checks import unconserved
from irt_assets.features.daily import write_features
from irt_assets.kpis.weekly import write_week
from irt_assets.common.partitions import week_bounds
from irt_assets.responses.scales import read_scales
from irt_assets.responses.stored_window import verdict_hash
from resources.postgres.database import Database
from resources.cluster.relational import on_log
from resources.settings import Settings

def rounded(value):
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return round(value, 6) if isinstance(value, float) else value

_, end = week_bounds(os.environ["WEEK"])
start = end - timedelta(days=60)
with Database(Settings(_env_file=None)).connect() as connection:
    scales = read_scales(connection)
    write_features(connection, start, end)
    features = connection.execute(
        "SELECT user_id, topic_id, date::text, attempts, correct, round(rt_median::numeric, 6)::text, hints"
        " FROM features_topic_daily ORDER BY 1, 2, 3"
    ).fetchall()
    write_week(connection, os.environ["WEEK"], end)
    kpis = dict(connection.execute("SELECT user_id, kpis FROM weekly_kpi").fetchall())
    print(json.dumps({
        "dialect": on_log(connection, start, end).backend.dialect,
        "features": features,
        "kpis": rounded(kpis),
        "unconserved": unconserved(connection, start, end),
        "hash": verdict_hash(on_log(connection, start, end), start, end),
    }))
    connection.rollback()
"""


def test_a_backend_of_relations_has_one_place(tmp_path: Path, database: Database, world: dict[str, str]) -> None:
    assert len(BACKEND) == 1
    lake = tmp_path / "lake"
    lake.mkdir()
    with database.connect() as connection:
        all_time = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
        attempts = attempts_with_verdicts(*all_time, in_lake=False)
        tables = {"attempt": attempts} | {table.get_name(): table for table in (QUESTION, LEARNER, VERDICT)}
        for name, table in tables.items():
            pq.write_table(on_postgres(connection)(table), lake / f"{name}.parquet")
    on_server = told_by(COMPUTED, tmp_path, **world)
    run_sql(database, "TRUNCATE response_log")
    in_lake = told_by(COMPUTED, tmp_path, BACKEND, **world | {"LAKE": str(lake)})
    assert (on_server.pop("dialect"), in_lake.pop("dialect")) == ("postgres", "duckdb")
    assert len(on_server["features"]) > 100
    assert len(on_server["kpis"]) > 10
    for what, found in on_server.items():
        assert in_lake[what] == found, what


# -- checks and engines ------------------------------------------------------------------------------

CHECK = (
    Place(
        "irt_assets/gates/advisory_checks.py",
        {
            '"warnings": list(constants.warnings), "gaps": uncovered},\n    )\n': """\


def many_items_are_fitted(evidence: Evidence) -> Verdict:
    return Verdict(True, "they are")
"""
        },
    ),
    Place(
        "irt_assets/gates/advisory_checks.py",
        {
            "ADVISORY_CHECKS: tuple[SetGate, ...] = (\n": """\
    SetGate(many_items_are_fitted, "item_calibration", "Many items are fitted.", "Fit more."),
"""
        },
    ),
)
ENGINE = (
    Place(
        "irt_assets/engines/twin.py",
        {
            "": """\
from dataclasses import replace

from irt_assets.engines import em

SPEC = replace(em.SPEC, name="twin", for_comparison=True)
"""
        },
    ),
    Place(
        "irt_assets/engines/registry.py",
        {
            "    r_engines.REMOTE,\n": "    twin.SPEC,\n",
            "from irt_assets.engines import em, pymc, r_engines": ", twin",
        },
    ),
)
GRAPH = """
import json
from irt_assets.definitions import build_defs
from irt_assets.engines.registry import build
from resources.settings import Settings

settings = Settings(_env_file=None)
graph = build_defs(settings).resolve_asset_graph()
print(json.dumps({
    "assets": sorted(key.to_user_string() for key in graph.get_all_asset_keys()),
    "checks": sorted(f"{key.asset_key.to_user_string()}: {key.name}" for key in graph.asset_check_keys),
    "engine": type(build("twin", settings)).__name__,
}))
"""


def test_a_check_and_an_engine_have_two_places_each(tmp_path: Path) -> None:
    assert len(CHECK) == len(ENGINE) == 2
    told = told_by(GRAPH, tmp_path, CHECK + ENGINE, IRT_ENGINES="twin", IRT_HOME=str(tmp_path))
    assert "item_calibration: many_items_are_fitted" in told["checks"]
    assert "item_calibration_twin" in told["assets"]
    assert told["engine"] == "EmEngine"
