"""SQL on Dagster's own tables, for the version of Dagster that `dagster_compat` names.

For processes that do without Dagster, which takes seconds to import, and for what it has no call for. Functions that
read raise psycopg's UndefinedTable where Dagster never ran. No other module names these tables; what does not belong
here: what their rows mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import LiteralString

import psycopg

SCHEMA: LiteralString = "dagster"
"""The schema of Dagster's tables, apart from ours because both keep an `alembic_version`."""
_TEXTS: tuple[tuple[LiteralString, LiteralString], ...] = (
    ("event_logs", "event"),
    ("asset_check_executions", "evaluation_event"),
    ("asset_keys", "last_materialization"),
    ("job_ticks", "tick_body"),
    ("instigators", "instigator_body"),
    ("jobs", "job_body"),
)
"""Columns with text of ours: metadata of assets and checks, errors, cursors."""


def run_status(connection: psycopg.Connection, run_id: str) -> str | None:
    """The status of a run; None where there is no such run."""
    row = connection.execute(f"SELECT status FROM {SCHEMA}.runs WHERE run_id = %s", (run_id,)).fetchone()
    return str(row[0]) if row else None


def runs_by_status(connection: psycopg.Connection) -> dict[tuple[str, str], tuple[int, float | None]]:
    """By job and status how many runs, and when the last of them ended (Unix time, seconds), in that order."""
    rows = connection.execute(
        f"SELECT pipeline_name, status, count(*), max(end_time) FROM {SCHEMA}.runs GROUP BY 1, 2 ORDER BY 4"
    )
    return {(job, status): (n, ended) for job, status, n, ended in rows}


def heartbeats(connection: psycopg.Connection) -> dict[str, float]:
    """The last heartbeat of each part of the daemon (Unix time, seconds)."""
    query: LiteralString = f"SELECT daemon_type, extract(epoch FROM timestamp)::float8 FROM {SCHEMA}.daemon_heartbeats"
    return dict(connection.execute(query).fetchall())


def schedules(connection: psycopg.Connection) -> list[tuple[str, datetime | None]]:
    """The serialised state of each schedule, and its last tick that did not fail (UTC, without a zone)."""
    return connection.execute(
        f"""SELECT i.instigator_body, (SELECT max(t.timestamp) FROM {SCHEMA}.job_ticks t
                                       WHERE t.selector_id = i.selector_id AND t.status IN ('SUCCESS', 'SKIPPED'))
           FROM {SCHEMA}.instigators i WHERE i.instigator_type = 'SCHEDULE'"""
    ).fetchall()


def last_made(connection: psycopg.Connection, partitions: Sequence[tuple[str, str, str]]) -> dict[str, datetime]:
    """When each job last made what is named: job, asset (as JSON), partition; of every other job its last success."""
    jobs, assets, keys = (list(column) for column in zip(*partitions, strict=True)) if partitions else ([], [], [])
    return dict(
        connection.execute(
            f"""SELECT wanted.job, max(made.timestamp) AT TIME ZONE 'UTC'
               FROM unnest(%(jobs)s::text[], %(assets)s::text[], %(keys)s::text[]) AS wanted (job, asset, partition)
               JOIN {SCHEMA}.event_logs made ON made.asset_key = wanted.asset AND made.partition = wanted.partition
                 AND made.dagster_event_type = 'ASSET_MATERIALIZATION'
               GROUP BY 1
               UNION ALL
               SELECT pipeline_name, to_timestamp(max(end_time)) FROM {SCHEMA}.runs
               WHERE status = 'SUCCESS' AND pipeline_name <> ALL (%(jobs)s) GROUP BY 1""",
            {"jobs": jobs, "assets": assets, "keys": keys},
        ).fetchall()
    )


def replace_in_texts(connection: psycopg.Connection, replacements: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Replace regular expressions in all text of ours, and yield each table with the number of changes; none where
    Dagster never ran."""
    for table, column in _TEXTS:
        if connection.execute("SELECT to_regclass(%s) IS NULL", (f"{SCHEMA}.{table}",)).fetchone() == (True,):
            continue
        changed = 0
        for find, replacement in replacements.items():
            query: LiteralString = (
                f"UPDATE {SCHEMA}.{table} SET {column} = regexp_replace({column}, %s, %s, 'g') WHERE {column} ~ %s"
            )
            changed += connection.execute(query, (find, replacement, find)).rowcount
        yield table, changed
