"""What every learner did in every topic on every day: one expression, and its rows put in their place.

What does not belong here: Dagster (see `assets`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import ibis.expr.types as ir
import pandas as pd
import psycopg

from irt_assets.responses.answers import live_answers
from irt_assets.responses.observe import answer_versions
from resources import tables, warehouse
from resources.relational import Run, on_postgres
from resources.sources import record_sources

DAYS_AT_ONCE = 31
"""Days read in one query: a month of the log is one of its partitions."""

NONE = pd.Series([], dtype="int64")


def topic_days(start: datetime, end: datetime) -> ir.Table:
    """A row per learner, topic and UTC day of [start, end) with a live answer, columns as in `features_topic_daily`.

    `rt_median` is over correct answers with a time; `hints` sums what is known of them. Both are null over nothing.
    """
    answers = live_answers(start, end, "topic_id")
    return answers.group_by("user_id", "topic_id", date=answers.day).agg(
        attempts=answers.count(),
        correct=answers.count(where=answers.correct),
        rt_median=answers.time.median(where=answers.correct),
        hints=answers.hints_used.cast("int64").sum(),
    )


def features(run: Run, start: datetime, end: datetime) -> pd.DataFrame:
    """The rows of `topic_days`, fit for the table."""
    frame = run(topic_days(start, end)).to_pandas()
    return frame.astype({"attempts": "int64", "correct": "int64", "rt_median": "float64", "hints": "float64"})


@dataclass(frozen=True)
class Written:
    """What a day's features hold, and the hash of the answers that they were made from."""

    rows: int
    answers: int
    data_hash: str


def write_features(connection: psycopg.Connection, start: datetime, end: datetime) -> dict[str, Written]:
    """Compute the days of [start, end), two midnights, each replacing its stored rows; returns the frames by
    YYYY-MM-DD.

    Each day's hash (`observe.answer_versions`) is stored with its rows, under the asset `features_topic_daily`. It is
    read before them: an answer that arrives in between is in the rows and not in the hash, so that the day is asked for
    once more, and never forgotten.
    """
    written = {}
    while start < end:
        until = min(start + timedelta(days=DAYS_AT_ONCE), end)
        days = [(start + timedelta(days=n)).date() for n in range((until - start).days)]
        for day in days:
            warehouse.own(connection, tables.features_topic_daily, {"date": day})
        hashes = answer_versions(connection, start, until)
        frame = features(on_postgres(connection), start, until)
        connection.execute(
            "DELETE FROM features_topic_daily WHERE date >= %s AND date < %s", (start.date(), until.date())
        )
        warehouse.append(connection, tables.features_topic_daily, frame)
        record_sources(connection, tables.features_topic_daily.name, hashes)
        held = dict(iter(frame.groupby("date")["attempts"]))
        for day in days:
            attempts = held.get(day, NONE)
            written[str(day)] = Written(len(attempts), int(attempts.sum()), hashes[str(day)])
        start = until
    return written
