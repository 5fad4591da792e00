"""SQL on Dagster's own tables, for the version of Dagster that `dagster_compat` names.

It is for processes that do not import Dagster, which takes seconds, and for queries that Dagster does not offer.
Functions that read raise psycopg's UndefinedTable if Dagster has never run. No other module names these tables.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import sql

from resources.postgres.database import database_settings

T = TypeVar("T")
_TEXTS: tuple[tuple[LiteralString, LiteralString], ...] = (
    ("event_logs", "event"),
    ("asset_check_executions", "evaluation_event"),
    ("asset_keys", "last_materialization"),
    ("job_ticks", "tick_body"),
    ("instigators", "instigator_body"),
    ("jobs", "job_body"),
)
"""Columns that contain our text: metadata of assets and checks, errors, cursors."""


def _execute(connection: psycopg.Connection, query: LiteralString, values: Sequence[Any] = ()) -> psycopg.Cursor:
    """Execute a query in which {dagster} is replaced by the schema of Dagster's tables."""
    schema = sql.Identifier(database_settings(connection).irt_dagster_schema)
    return connection.execute(sql.SQL(query).format(dagster=schema), values)


def runs_by_status(connection: psycopg.Connection) -> dict[str, int]:
    """The number of runs by status."""
    return dict(_execute(connection, "SELECT status, count(*) FROM {dagster}.runs GROUP BY 1").fetchall())


def last_successes(connection: psycopg.Connection) -> dict[str, float]:
    """End of the last successful run by job name (Unix time, seconds); the latest comes last."""
    query: LiteralString = (
        "SELECT pipeline_name, max(end_time) FROM {dagster}.runs "
        "WHERE status = 'SUCCESS' AND end_time IS NOT NULL GROUP BY 1 ORDER BY 2"
    )
    return dict(_execute(connection, query).fetchall())


def heartbeats(connection: psycopg.Connection) -> dict[str, float]:
    """The last heartbeat of each part of the daemon (Unix time, seconds)."""
    query: LiteralString = "SELECT daemon_type, extract(epoch FROM timestamp)::float8 FROM {dagster}.daemon_heartbeats"
    return dict(_execute(connection, query).fetchall())


def unfinished_jobs(connection: psycopg.Connection) -> list[str]:
    """The names of jobs with a run that has not ended."""
    query: LiteralString = (
        "SELECT DISTINCT pipeline_name FROM {dagster}.runs WHERE status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED')"
    )
    return [job for (job,) in _execute(connection, query)]


def schedules(connection: psycopg.Connection) -> list[str]:
    """The serialised state of each schedule."""
    query: LiteralString = "SELECT instigator_body FROM {dagster}.instigators WHERE instigator_type = 'SCHEDULE'"
    return [body for (body,) in _execute(connection, query)]


def latest_materialisations(
    connection: psycopg.Connection, partitions: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], datetime]:
    """Time of the last materialisation of each (asset, partition); partitions without one are left out."""
    rows = _execute(
        connection,
        """SELECT wanted.asset, wanted.partition, max(made.timestamp) AT TIME ZONE 'UTC'
           FROM unnest(%s::text[], %s::text[]) AS wanted (asset, partition)
           JOIN {dagster}.event_logs made ON made.asset_key = '["' || wanted.asset || '"]'
             AND made.partition = wanted.partition AND made.dagster_event_type = 'ASSET_MATERIALIZATION'
           GROUP BY 1, 2""",
        ([asset for asset, _ in partitions], [partition for _, partition in partitions]),
    )
    return {(asset, partition): at for asset, partition, at in rows}


def run_if_dagster_exists(connection: psycopg.Connection, read: Callable[[psycopg.Connection], T]) -> T | None:
    """The result of `read`, which reads Dagster's tables. Returns None if Dagster has never run."""
    try:
        with connection.transaction():
            return read(connection)
    except psycopg.errors.UndefinedTable:
        return None


def replace_in_texts(connection: psycopg.Connection, replacements: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Replace regular expressions in all our text, and yield each table with the number of changes.

    Yields nothing if Dagster has never run.
    """
    schema = database_settings(connection).irt_dagster_schema
    for table, column in _TEXTS:
        if connection.execute("SELECT to_regclass(%s) IS NULL", (f"{schema}.{table}",)).fetchone() == (True,):
            continue
        changed = 0
        for find, replacement in replacements.items():
            query: LiteralString = (
                f"UPDATE {{dagster}}.{table} SET {column} = regexp_replace({column}, %s, %s, 'g') WHERE {column} ~ %s"
            )
            changed += _execute(connection, query, (find, replacement, find)).rowcount
        yield table, changed
