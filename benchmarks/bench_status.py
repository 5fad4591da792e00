"""Cost of `irt status` for three years of three scales, beside an empty home, and after a late answer.

    python -m benchmarks.bench_status [--answers ANSWERS] [--months MONTHS] [--folder FOLDER]

ANSWERS is the number of answers of each scale in a month (default 100,000), MONTHS the number of months (default 36).
Every month is green: its snapshot, fits, verdict and publication are made up. The databases are kept in FOLDER;
existing databases are reused.

Seconds are elapsed time and processor time (ours and the server's), which depends less on other load. Each figure is
the least of `REPEATS` runs. Goals: at most 2 s of processor time for an unchanged status, including loading the code,
and at most 0.3 s more than in an empty home. Exit status 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg

from irt_assets.common.partitions import MONTHS, Month
from irt_assets.gates.gates import SET_GATES
from irt_assets.ledger.month_verdicts import GateVerdict, write_gates
from irt_assets.ledger.steps import Step, write_step
from irt_assets.responses.snapshot import rules_of
from irt_assets.responses.verdict_states import states_of_months
from irt_assets.scales.scale import read_scales
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema import upgrade
from resources.settings import Settings
from tests.testbed.partitions import ensure_month_partitions

SCALES = ("algebra", "grammar", "physics")
ITEMS, LEARNERS = 300, 20_000
GOAL_S, ADDED_GOAL_S = 2.0, 0.3
REPEATS = 3
ANCHORS = "made up"
LATEST_MATERIALISATION = "SELECT count(*) FROM scored_snapshot"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--months", type=int, default=36)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    months = MONTHS.last_keys(datetime.now(UTC), arguments.months)
    with tempfile.TemporaryDirectory() as folder:
        home = (arguments.folder or Path(folder)).resolve()
        print(f"{len(months)} months of {len(SCALES)} scales; load {os.getloadavg()[0]:.1f}", flush=True)
        empty = measure(home / "empty", months, "an empty home")
        unchanged = measure(home, months, "nothing has changed", arguments.answers)
    added = unchanged - empty
    print(f"the months add {added:.2f} s of processor time to an empty home")
    is_kept = unchanged <= GOAL_S and added <= ADDED_GOAL_S
    print("kept" if is_kept else "not kept")
    return int(not is_kept)


def measure(home: Path, months: Sequence[str], described: str, answers: int = 0) -> float:
    """Processor seconds of the status in a home with `answers` answers of each scale in a month; 0: an empty home."""
    settings = Settings(irt_home=home, irt_first_month=months[0], _env_file=None)  # type: ignore[call-arg]
    os.environ |= {"IRT_HOME": str(home), "IRT_FIRST_MONTH": months[0]}
    database = Database(settings)
    try:
        upgrade(database)
        with database.connect() as connection:
            row = connection.execute(LATEST_MATERIALISATION).fetchone()
        if answers and row == (0,):
            make(database, months, answers)
        timed = Clock(settings)
        timed("loading the code", load)
        timed("status, the first", status)
        unchanged = min(timed(f"status, {described}", status) for _ in range(REPEATS))
        if answers:
            late(database, months[-1])
            timed("status, a late answer of the last month was judged", status)
        return unchanged
    finally:
        EmbeddedPostgres(home / "postgres").stop()


class Clock:
    """Measures the processor time of this process, its children and the server."""

    def __init__(self, settings: Settings) -> None:
        self.server = EmbeddedPostgres(settings.irt_home / "postgres")

    def __call__(self, name: str, act: Callable[[], object]) -> float:
        """Run `act`. Returns seconds of processor time."""
        began, used = time.perf_counter(), self._processor_seconds()
        result = act()
        seconds, processor = time.perf_counter() - began, self._processor_seconds() - used
        print(f"{name:<40} {seconds:6.1f} s, processor {processor:6.2f} s  {result or ''}", flush=True)
        return processor

    def _processor_seconds(self) -> float:
        """Processor seconds of this process, its children, and the server's ended backends."""
        own, server_times = os.times(), psutil.Process(self.server.status().pid).cpu_times()
        return sum(own[:4]) + server_times.children_user + server_times.children_system


def status() -> dict[str, int]:
    """Number of months in each state, from the command line."""
    command = [sys.executable, "-m", "irt_assets.cli", "status", "--json"]
    report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout)
    states = [month["state"] for month in report["months"]]
    return {state: states.count(state) for state in sorted(set(states))}


def load() -> None:
    subprocess.run(
        [sys.executable, "-c", "import irt_assets.cli, irt_assets.servers.stack, jobs.watching.overview"], check=True
    )


def make(database: Database, months: Sequence[str], answers: int) -> None:
    with database.connect() as connection:
        for scale in SCALES:
            connection.execute(
                """INSERT INTO question (item_id, scale_id, topic_id)
                   SELECT %(scale)s || n, %(scale)s, 't' || n %% 20 FROM generate_series(0, %(n)s - 1) n""",
                {"scale": scale, "n": ITEMS},
            )
            connection.execute("INSERT INTO calibration_scale (scale_id, origin) VALUES (%s, '{}')", (scale,))
            connection.execute(
                """INSERT INTO anchor_set (scale_id, version, item_id, parameters, errors_assumed, anchor_hash)
                   VALUES (%s, 1, %s, '{"a": 1, "b": 0, "c": 0}', true, %s)""",
                (scale, f"{scale}0", ANCHORS),
            )
        connection.execute(
            "INSERT INTO learner (user_id) SELECT 'u' || n FROM generate_series(0, %s) n", (LEARNERS - 1,)
        )
    for month in months:
        began = time.perf_counter()
        with database.connect() as connection:
            ensure_month_partitions(connection, month, month)
            for scale in SCALES:
                answer(connection, month, scale, answers)
        print(f"{month}: {time.perf_counter() - began:.1f} s", flush=True)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    for month in months:
        with database.connect() as connection:
            calibrate(connection, month)


def answer(connection: psycopg.Connection, month: str, scale: str, n: int) -> None:
    start, end = Month(month).bounds
    connection.execute(
        """INSERT INTO response_log (attempt_id, completed_at, user_id, item_id, session_id, started_at, correct,
                                     response_time_ms, mode)
           SELECT %(name)s || n, %(start)s + n * %(step)s * interval '1 second',
                  'u' || (n * 7919) %% %(learners)s, %(scale)s || (n * 104729) %% %(items)s, 's' || n / 10,
                  %(start)s + (n * %(step)s - 30) * interval '1 second', n %% 3 > 0, 5000 + n %% 30000, 'live'
           FROM generate_series(0::bigint, %(n)s - 1) n""",
        {"name": f"{month}{scale}", "start": start, "step": (end - start).total_seconds() / n, "n": n}
        | {"learners": LEARNERS, "items": ITEMS, "scale": scale},
    )


def calibrate(connection: psycopg.Connection, month: str) -> None:
    """Write the rows of a published month to the tables that determine its state."""
    scales = read_scales(connection)
    start, end = Month(month).bounds
    connection.execute(
        """INSERT INTO judged_day (day, n, recorded_sum, revision_sum, test_accounts, items, rules)
           SELECT day, 1, 0, 0, '', '', '' FROM generate_series(%s::date, %s::date - 1, interval '1 day') day""",
        (start, end),
    )
    connection.execute(
        """INSERT INTO scored_snapshot (month, snapshot_hash, uri, data_hash, n_attempts, counts, rules, verdict_state)
           VALUES (%s, %s, 'none', 'made up', 1, %s, %s, %s)""",
        (month, month, json.dumps({scale: {"eligible": 1} for scale in SCALES}), json.dumps(rules_of(scales)))
        + (states_of_months(connection, [month])[month],),
    )
    for scale in SCALES:
        fit = f"{month} {scale}"
        connection.execute(
            """INSERT INTO fit_staging (fit_id, month, scale_id, engine, snapshot_hash, spec, code_version)
               VALUES (%s, %s, %s, 'em', %s, '{"model": "2pl", "eligibility": {}}', '1')""",
            (fit, month, scale, month),
        )
        connection.execute(
            """INSERT INTO mirt_fit_meta
                 (fit_id, scale_id, kind, window_start, window_end, engine, engine_version, model, n_persons, n_items,
                  n_responses, loglik, aic, bic, converged, iterations, model_spec, data_hash, snapshot_hash,
                  anchor_hash, code_version)
               VALUES (%s, %s, 'monthly', %s, %s, 'em', '1', '2pl', 1, 1, 1, 0, 0, 0, true, 1, '{"eligibility": {}}',
                       '', %s, %s, '')""",
            (fit, scale, start, end, month, ANCHORS),
        )
        passed = {
            gate.name: GateVerdict(asset=gate.asset, passed=True, why="made up", fit_id=fit) for gate in SET_GATES
        }
        write_gates(connection, month, scale, month, passed)
        write_step(connection, Step(month=month, scale_id=scale, fit_id=fit, state="done", why="made up"), None)


def late(database: Database, month: str) -> None:
    with database.connect() as connection:
        connection.execute("UPDATE judged_day SET judged_at = clock_timestamp() WHERE day = %s", (Month(month).start,))


if __name__ == "__main__":
    sys.exit(main())
