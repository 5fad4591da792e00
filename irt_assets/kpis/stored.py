"""Queries of `weekly_kpi`: one learner's weeks, and the quartiles of all learners.

A null KPI is read as None; its reason is under `why` in the week's record (see `kpi_definitions`).
"""

from dataclasses import dataclass
from datetime import date, datetime

import psycopg

from irt_assets.kpis.kpi_definitions import RANGES
from irt_assets.kpis.record import Record
from resources.postgres.database import first_column, records


@dataclass(frozen=True)
class Week:
    """A learner's KPIs of the week that begins on a Monday."""

    week_start: date
    kpis: Record
    updated_at: datetime


@dataclass(frozen=True)
class Quartiles:
    """Quartiles of a KPI in a week, over the `n` of `of` learners who have a value. They are None if `n` is 0."""

    week_start: date
    name: str
    of: int
    n: int
    low: float | None
    median: float | None
    high: float | None


def weeks_of(connection: psycopg.Connection, user_id: str, most: int) -> list[Week]:
    """A learner's last weeks, newest first."""
    return records(
        connection,
        Week,
        """SELECT week_start, kpis, greatest(updated_at, inactivity_at) AS updated_at FROM weekly_kpi WHERE user_id = %s
               ORDER BY week_start DESC LIMIT %s""",
        (user_id, most),
    )


def last_weeks(connection: psycopg.Connection, most: int) -> list[date]:
    """The last weeks that were computed, newest first. Finding each takes one step in the index."""
    return first_column(
        connection,
        """WITH RECURSIVE known AS (
             SELECT max(week_start) AS week, 1 AS n FROM weekly_kpi
             UNION ALL
             SELECT (SELECT max(week_start) FROM weekly_kpi WHERE week_start < known.week), n + 1
             FROM known WHERE week IS NOT NULL AND n < %s)
           SELECT week FROM known WHERE week IS NOT NULL ORDER BY 1 DESC""",
        (most,),
    )


def version_of(connection: psycopg.Connection, week: date) -> tuple[int, datetime | None]:
    """A week's number of rows and its last time of writing. While both are unchanged, its quartiles are, too."""
    [(n, updated_at)] = connection.execute(
        "SELECT count(*), max(greatest(updated_at, inactivity_at)) FROM weekly_kpi WHERE week_start = %s", (week,)
    ).fetchall()
    return n, updated_at


def quartiles(connection: psycopg.Connection, week: date) -> list[Quartiles]:
    """Every KPI of a week, over all learners."""
    columns = ", ".join(
        f"""count("{name}"), percentile_cont(ARRAY[0.25, 0.5, 0.75]) WITHIN GROUP (ORDER BY "{name}")"""
        for name in RANGES
    )
    record = ", ".join(f'"{name}" float8' for name in RANGES)
    [row] = connection.execute(
        f"""SELECT count(*), {columns} FROM weekly_kpi, jsonb_to_record(kpis) AS of_one ({record})
            WHERE week_start = %s""",
        (week,),
    ).fetchall()
    return [
        Quartiles(week, name, row[0], n, *(values or (None, None, None)))
        for name, n, values in zip(RANGES, row[1::2], row[2::2], strict=True)
    ]
