"""Kill a stack's processes at random, then check the rows of each month and that nothing is left behind.

`test_kills` and `benchmarks/kill_backfill.py` use this module.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
from dagster import AssetKey, AssetRecordsFilter, RunsFilter

from irt_assets.abilities.batch import stale_months
from irt_assets.common.environment import instance_environment
from irt_assets.common.run_progress import PARTITION_TAG
from irt_assets.definitions import defs
from irt_assets.gates.month_status import month_states
from irt_assets.runs.in_process_runs import run_month
from irt_assets.servers.claims import StackError
from irt_assets.servers.instance import dagster_instance
from resources.dagster_compat import NOT_FINISHED_STATUSES
from resources.postgres.database import Database
from tests.testbed.small_world import small_world
from tests.testbed.stack_harness import ROOT, Harness, wait_for

ASSETS = ("scored_responses", "item_calibration", "linked_item_parameters", "published_item_parameters", "abilities")
KINDS = (
    ("worker",),
    ("worker",),
    ("code server",),
    ("daemon",),
    ("worker", "code server"),
    ("daemon", "code server"),
    ("worker", "code server", "daemon"),
)
"""Kinds of processes that are killed together."""
LONGEST_WAIT_S = 45.0
"""Maximum wait for a victim that does not exist at the moment. There is no worker while no run can be started."""
SETTLED_WITHIN_S = 300.0
"""Time after a backfill for sensors, which run every 30 s and request abilities and drift of changed months."""

BY_MONTH = {
    "snapshot": "SELECT month AS partition, s.* FROM scored_snapshot s WHERE superseded_at IS NULL",
    "fit": """SELECT to_char(window_start, 'YYYY-MM') AS partition, mirt_fit_meta.* FROM mirt_fit_meta
              WHERE superseded_at IS NULL AND kind = 'monthly'""",
    "parameters": """SELECT to_char(window_start, 'YYYY-MM') AS partition, p.* FROM mirt_item_params p
                     JOIN mirt_fit_meta USING (fit_id) WHERE superseded_at IS NULL AND kind = 'monthly'""",
    "publications": "SELECT month AS partition, p.* FROM item_parameter_publication p WHERE month IS NOT NULL",
    "abilities": """SELECT to_char(published_as_of - interval '1 day', 'YYYY-MM') AS partition, mirt_ability.*
                    FROM mirt_ability WHERE kind = 'monthly'""",
}
"""Queries for all results of a finished month, except proposals, which a second attempt may add."""
OF_THE_ATTEMPT = (
    *("fit_id", "publication_id", "replaces", "update_id", "run_id"),
    *("created_at", "fitted_at", "published_at", "code_version"),
)
"""Columns with the time, run and checkout of a row.

All other columns are equal to the last bit, except the id of the fit that a month was compared with.
"""


@dataclass(frozen=True)
class Kill:
    """Kind of a kill, its time (wall clock), and the killed processes."""

    kind: tuple[str, ...]
    at: float
    pids: tuple[int, ...]


@dataclass
class BackfillRequests:
    """Backfills that the analyst requested.

    Attributes:
        months: months of each backfill.
        ended: final status of each backfill.
        stale: months that were stale after a backfill: fitted before the repeated month they are compared with.
        again: other months that were not green.
    """

    months: list[list[str]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    stale: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)


# -- killing -----------------------------------------------------------------------------------------


def kill_while_backfilling(
    stack: Harness, months: Sequence[str], kills: int, rng: random.Random, pause: tuple[float, float]
) -> tuple[list[Kill], BackfillRequests]:
    """Request a backfill and kill processes `kills` times.

    After a backfill, the analyst requests months that are not green, or all months if it ends before the last kill.
    Pauses between kills are uniform in `pause`, in seconds. Returns after the last kill; runs may still be in progress.
    """
    made: list[Kill] = []
    requests = BackfillRequests()
    backfill = ask(stack, requests, months)
    while len(made) < kills:
        time.sleep(rng.uniform(*pause))
        if is_over(stack, backfill):
            requests.ended.append(status(stack, backfill))
            backfill = ask(stack, requests, unfinished(stack, months, requests) or months)
        kind = rng.choice(KINDS)
        victims = _victims(stack, kind, rng)
        if victims:
            with suppress(ProcessLookupError):  # the victim's run has ended meanwhile
                at = time.time()
                stack.kill(*victims)
                made.append(Kill(kind, at, tuple(victim.pid for victim in victims)))
    return made, requests


def until_whole(stack: Harness, months: Sequence[str], requests: BackfillRequests, timeout: float) -> None:
    """Wait for the backfill, and request months that `irt status` does not show as green, until all are green."""
    deadline = time.monotonic() + timeout
    while True:
        wait_for("the backfill to end", lambda: is_over(stack, None), deadline - time.monotonic(), pause=1)
        requests.ended.append(str(stack.instance.get_backfills(limit=1)[0].status.value))
        remaining = unfinished(stack, months, requests)
        if not remaining:
            return
        ask(stack, requests, remaining)


def ask(stack: Harness, requests: BackfillRequests, months: Sequence[str]) -> str:
    """Request a backfill of these months as soon as the webserver has loaded the assets again. Returns its id."""

    def attempt() -> str | None:
        try:
            return stack.backfill(ASSETS, months)
        except (OSError, AssertionError, StackError):
            return None

    requests.months.append(list(months))
    return wait_for("the backfill to be taken", attempt, 120, pause=1)


def is_over(stack: Harness, backfill: str | None) -> bool:
    """Whether a backfill (None: every one) has ended."""
    backfills = [stack.instance.get_backfill(backfill)] if backfill else stack.instance.get_backfills()
    return all(b is not None and b.status.value not in ("REQUESTED", "CANCELING", "FAILING") for b in backfills)


def status(stack: Harness, backfill: str) -> str:
    found = stack.instance.get_backfill(backfill)
    assert found is not None
    return str(found.status.value)


def unfinished(stack: Harness, months: Sequence[str], requests: BackfillRequests) -> list[str]:
    """Months that are not green once no run is in progress and the sensors have requested all follow-up runs.

    They are added to `asked`.
    """

    def settled() -> dict[str, str] | None:
        with stack.database.connect() as connection:
            stale = stale_months(connection)
        states = {state.month: state.state.value for state in month_states(stack.database, stack.instance, months)}
        green = [month for month, state in states.items() if state == "green"]
        under_way = {"running", "pending"} & set(states.values()) or stack.instance.get_runs(
            RunsFilter(statuses=NOT_FINISHED_STATUSES), limit=1
        )
        return None if stale or under_way or not all(map(partial(_followed, stack), green)) else states

    states = wait_for("the months to settle", settled, SETTLED_WITHIN_S, pause=2)
    remaining = [month for month in months if states[month] != "green"]
    for month in remaining:
        (requests.stale if states[month] == "stale" else requests.again).add(month)
    return remaining


def _followed(stack: Harness, month: str) -> bool:
    """Whether every asset with an automation condition is newer than the assets it depends on."""

    def made(key: AssetKey) -> float:
        found = stack.instance.fetch_materializations(
            AssetRecordsFilter(asset_key=key, asset_partitions=[month]), limit=1
        ).records
        return found[0].timestamp if found else 0.0

    graph = defs.resolve_asset_graph()
    followers = [node for node in map(graph.get, graph.materializable_asset_keys) if node.automation_condition]
    return all(made(node.key) > max(map(made, node.parent_keys)) for node in followers)


def _victims(stack: Harness, kind: tuple[str, ...], rng: random.Random) -> list[psutil.Process] | None:
    """Running processes of a kind of kill. Returns None if one of them is missing for too long."""

    def find() -> list[psutil.Process] | None:
        workers = stack.workers()
        found = [_one_of(workers, rng) if name == "worker" else stack.running(name) for name in kind]
        return [process for process in found if process is not None] if all(found) else None

    try:
        return wait_for(f"{kind} to live", find, LONGEST_WAIT_S)
    except TimeoutError:
        return None


def _one_of(workers: list[psutil.Process], rng: random.Random) -> psutil.Process | None:
    return rng.choice(workers) if workers else None


# -- judging -----------------------------------------------------------------------------------------


def undisturbed(home: Path, months: list[str]) -> dict[str, dict[str, str]]:
    """Digests of the months' rows if this process calibrates them one after another."""
    with small_world(home, months) as settings:
        database = Database(settings)
        with dagster_instance(settings, database) as instance:
            for month in months:
                outcome = run_month(instance, settings, month, ASSETS)
                assert outcome.success, outcome
        return rows_of_months(database)


def rows_of_months(database: Database) -> dict[str, dict[str, str]]:
    """A digest of the rows of each month in each table, by table and month."""
    found: dict[str, dict[str, str]] = {}
    with database.connect() as connection:
        for name, query in BY_MONTH.items():
            cursor = connection.execute(
                f"""SELECT partition, string_agg(line, E'\\n' ORDER BY line) FROM (
                      SELECT partition, (to_jsonb(r) - %s::text[] #- '{{model_spec,misfit,fit_id}}')::text AS line
                      FROM ({query}) r
                    ) lines GROUP BY partition""".encode(),
                (list(OF_THE_ATTEMPT),),
            )
            found[name] = {month: hashlib.sha256(text.encode()).hexdigest() for month, text in cursor.fetchall()}
    return found


def differences(found: dict[str, dict[str, str]], expected: dict[str, dict[str, str]]) -> dict[str, list[str]]:
    """Months whose rows differ, by table."""
    return {
        name: differing
        for name, months in expected.items()
        if (differing := sorted(m for m in months.keys() | found[name].keys() if found[name].get(m) != months.get(m)))
    }


def states_by_status(stack: Harness) -> dict[str, tuple[str, str]]:
    """State and reason of each month from `irt status`, run in its own process."""
    done = subprocess.run(
        [sys.executable, "-m", "irt_assets.cli", "status", "--json"],
        cwd=ROOT,
        env={**os.environ, **instance_environment(stack.settings, stack.database)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    shown = json.loads(done.stdout)
    months = shown if isinstance(shown, list) else shown["months"]
    return {state["month"]: (state["state"], state["why"]) for state in months}


def left_behind(stack: Harness) -> list[str]:
    """Sentences about leftovers that must not exist once all runs have ended."""
    instance = stack.instance
    found = [
        f"run {run.run_id} of {run.tags.get(PARTITION_TAG)} is {run.status.value}"
        for run in instance.get_runs(RunsFilter(statuses=NOT_FINISHED_STATUSES))
    ]
    for pool in instance.event_log_storage.get_concurrency_keys():
        info = instance.event_log_storage.get_concurrency_info(pool)
        if info.claimed_slots or info.pending_steps:
            found.append(f"pool {pool}: {info.claimed_slots} slots held, {info.pending_steps} steps waiting")
    with stack.database.connect() as connection:
        queries = {
            "sessions that hold a transaction open": """SELECT count(*) FROM pg_stat_activity
                WHERE pid <> pg_backend_pid() AND state LIKE 'idle in transaction%%' AND application_name = 'irt'
                  AND state_change < now() - interval '10 s'""",
            "months with two fits in use": """SELECT count(*) FROM (SELECT 1 FROM mirt_fit_meta
                WHERE superseded_at IS NULL GROUP BY scale_id, kind, window_start, engine HAVING count(*) > 1) two""",
            "months with two snapshots in use": """SELECT count(*) FROM (SELECT 1 FROM scored_snapshot
                WHERE superseded_at IS NULL GROUP BY month HAVING count(*) > 1) two""",
            "months whose last fit is not the linked one": """SELECT count(*) FROM (
                SELECT DISTINCT ON (month, scale_id, engine) fit_id FROM fit_staging
                ORDER BY month, scale_id, engine, fitted_at DESC, fit_id DESC) last
                WHERE fit_id NOT IN (SELECT fit_id FROM mirt_fit_meta WHERE superseded_at IS NULL)""",
            "items published twice": """SELECT count(*) FROM (SELECT 1 FROM item_parameter_publication
                GROUP BY scale_id, item_id, effective_from HAVING count(*) > 1) two""",
        }
        for kind, query in queries.items():
            row = connection.execute(query.encode()).fetchone()
            if row and row[0]:
                found.append(f"{row[0]} {kind}")
    return found + [f"worker {process.pid} lives" for process in stack.workers()]
