"""A learner with 100,000 attempts in one month: all counts are right, and no step is slow.

The limit of each step is generous for a busy machine and far below the time of any quadratic step: 10¹⁰ pairs of one
learner's attempts take PostgreSQL a quarter of an hour.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from irt_assets.abilities.batch import judge_until, measure
from irt_assets.calibration.month import fit_month, link_month, publish_month
from irt_assets.calibration.nightly import calibrate_night
from irt_assets.common.partitions import Month, week_of
from irt_assets.decisions.origin import initialise
from irt_assets.engines.em import EmEngine
from irt_assets.features.daily import write_features
from irt_assets.invariants.history import make_report
from irt_assets.kpis.weekly import write_quiet, write_week
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.simulation.truth import Truth
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.rooms import LOWERED, MONTHS, SCALE, calibrate, copied, folder_store, rows, run_sql
from tests.testbed.partitions import ensure_month_partitions
from tests.testbed.patience import patient

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("heavy learner")]
"""One group, as each step of a month reads the results of the step before."""

ATTEMPTS = 100_000
JULY = MONTHS[1]
START, END = Month(JULY).bounds
HEAVY = "heavy"
LONGEST_STEP_S = 90.0

PRACTISE = """
    INSERT INTO response_log (attempt_id, user_id, item_id, session_id, position, started_at, completed_at, correct,
                              response_time_ms, hints_used, mode)
    SELECT 'heavy-' || n, %s, items[1 + n %% cardinality(items)], 'day ' || n / 3300, n %% 3300, at,
           at + interval '15 seconds', n %% 7 <> 0, 15000, 0, 'live'
    FROM (SELECT array_agg(item_id ORDER BY item_id) AS items FROM question) bank,
         generate_series(0, %s - 1) n, LATERAL (SELECT %s::timestamptz + n * interval '26 seconds' AS at) t
"""


@contextmanager
def time_limit(step: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    print(f"{step}: {seconds:.1f} s")
    assert seconds < patient(LONGEST_STEP_S), step


@pytest.fixture(scope="module")
def heavy(
    postgres: EmbeddedPostgres, small_truth: Truth, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """The small world, its June published, and a learner who answered day and night in July."""
    with copied(postgres.start(), "template_rooms", "heavy", tmp_path_factory.mktemp("heavy")) as settings:
        database = Database(settings)
        initialise(database, SCALE, first_month=MONTHS[0], thresholds=LOWERED)
        calibrate(settings, MONTHS[0])
        with database.connect() as connection:
            ensure_month_partitions(connection, JULY, JULY)
        run_sql(database, PRACTISE, (HEAVY, ATTEMPTS, START))
        run_sql(database, "ANALYZE response_log")
        yield settings


def test_features_of_a_heavy_learner_count_every_attempt(heavy: Settings) -> None:
    database = Database(heavy)
    with time_limit("features of a month"), database.connect() as connection:
        write_features(connection, START, END)
    of_heavy = "SELECT sum(attempts), sum(correct), max(rt_median) FROM features_topic_daily WHERE user_id = %s"
    wrong = -(-ATTEMPTS // 7)
    assert rows(database, of_heavy, (HEAVY,)) == [(ATTEMPTS, ATTEMPTS - wrong, 15000)]


def test_month_scores_only_the_first_attempts_of_a_heavy_learner(heavy: Settings) -> None:
    """The learner adds a single person to the fit, with an answer per item."""
    database, store = Database(heavy), folder_store(heavy)
    with time_limit("snapshot"):
        take_snapshot(database, store, JULY, "run")
    with time_limit("fit"):
        (fit,) = fit_month(database, store, JULY, EmEngine(1), "run")
    with time_limit("linking and publication"):
        link_month(database, JULY, "run")
        publish_month(database, store, JULY, (), "run")
    with time_limit("abilities"):
        measure(database, JULY, "abilities")
    ((counts,),) = rows(database, "SELECT counts FROM scored_snapshot WHERE month = %s", (JULY,))
    first = "SELECT count(DISTINCT item_id) FROM response_log WHERE user_id = %s"
    ((met,),) = rows(database, first, (HEAVY,))
    assert counts[SCALE]["repeat"] >= ATTEMPTS - met
    assert fit.calibration.n.max() <= fit.calibration.n_persons
    ((theta, se, n),) = rows(database, "SELECT theta, se, n_items FROM mirt_ability WHERE user_id = %s", (HEAVY,))
    assert n <= met
    assert 0 < theta < 3  # six of seven first answers are right
    assert 0.1 < se < 1


def test_kpis_and_night_with_a_heavy_learner_finish_in_time(heavy: Settings) -> None:
    database = Database(heavy)
    week = week_of(END - timedelta(days=7))
    judge_until(database, END)
    with time_limit("KPIs of a week"), database.connect() as connection:
        write_week(connection, week, END)
    ((record,),) = rows(database, "SELECT kpis FROM weekly_kpi WHERE user_id = %s", (HEAVY,))
    assert record["A_t"] > 0.5
    assert record["S"] < 0.2
    with time_limit("inactivity"), database.connect() as connection:
        write_quiet(connection, week, END)
    with time_limit("a night"):
        night = calibrate_night(database, f"{END - timedelta(days=1):%Y-%m-%d}", "night", lambda _: EmEngine())
    assert night


def test_invariants_with_a_heavy_learner_finish_in_time(heavy: Settings, tmp_path: Path) -> None:
    database = Database(heavy)
    with dg.DagsterInstance.ephemeral() as instance, time_limit("invariants"):
        report = make_report(database, folder_store(heavy), instance, first_month=MONTHS[0], run="invariants")
    assert report.crashed_results == []
    (features,) = (v for v in report.verdicts if v.invariant.name == "features_conserve_attempts")
    assert [violation for violation in features.violations if violation.partition.startswith(JULY)] == []
