"""Daily features by learner and topic: the expression that computes them, and the storage of its rows."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import ibis
import ibis.expr.types as ir
import pandas as pd
import psycopg
import pyarrow as pa

from irt_assets.common.partitions import day_bounds
from irt_assets.responses.answers import live_answers
from irt_assets.responses.verdict_states import record_states, states_of_verdicts
from resources import tables
from resources.cluster.relational import Run, on_log
from resources.postgres import warehouse

DAYS_AT_ONCE = 31
"""Days that one query reads: the log is partitioned by month."""


def topic_days(start: datetime, end: datetime) -> ir.Table:
    """A row per learner, topic and UTC day of [start, end) with a live answer, columns as in `features_topic_daily`.

    `rt_median` is the median time of correct answers, `hints` the sum of known hints. Each is null if there are none.
    """
    answers = live_answers(start, end, "topic_id")
    return answers.group_by("user_id", "topic_id", date=answers.day).agg(
        attempts=answers.count(),
        correct=answers.count(where=answers.correct),
        # Not `median(where=…)`, because Spark rejects the SQL that Ibis generates for it.
        rt_median=ibis.ifelse(answers.correct, answers.time, ibis.null("float64")).median(),
        hints=answers.hints_used.cast("int64").sum(),
    )


def features(run: Run, start: datetime, end: datetime) -> pd.DataFrame:
    """The rows of `topic_days` in the types of the table."""
    return _fit_for_table(run(topic_days(start, end)))


def features_in_parts(run: Run, start: datetime, end: datetime) -> Iterator[pd.DataFrame]:
    """The same rows in several frames, which fit in memory if the engine returns its rows in parts."""
    return map(_fit_for_table, run.parts(topic_days(start, end)))


def _fit_for_table(rows: pa.Table) -> pd.DataFrame:
    kinds = {"attempts": "int64", "correct": "int64", "rt_median": "float64", "hints": "float64"}
    return rows.to_pandas().astype(kinds)


@dataclass(frozen=True)
class DayCounts:
    """Numbers of rows of a day's features, and of answers in them."""

    rows: int
    answers: int


def write_features(connection: psycopg.Connection, start: datetime, end: datetime) -> dict[str, DayCounts]:
    """Compute the days of [start, end), two midnights, and replace their stored rows. Returns counts by YYYY-MM-DD.

    The state of each day's verdicts is stored with its rows. It is read before them, so that a day that is judged
    meanwhile is requested again.
    """
    written: dict[str, DayCounts] = {}
    while start < end:
        until = min(start + timedelta(days=DAYS_AT_ONCE), end)
        days = [(start + timedelta(days=n)).date() for n in range((until - start).days)]
        for day in days:
            warehouse.lock_rows(connection, tables.features_topic_daily, {"date": day})
        states = states_of_verdicts(connection, {str(day): day_bounds(str(day)) for day in days})
        run = on_log(connection, start, until)
        rows: Counter[str] = Counter()
        answers: Counter[str] = Counter()
        connection.execute(
            "DELETE FROM features_topic_daily WHERE date >= %s AND date < %s", (start.date(), until.date())
        )
        frames = features_in_parts(run, start, until)
        warehouse.append_parts(connection, tables.features_topic_daily, _count_rows(frames, rows, answers))
        record_states(connection, tables.features_topic_daily.name, states)
        written |= {str(day): DayCounts(rows[str(day)], answers[str(day)]) for day in days}
        start = until
    return written


def _count_rows(frames: Iterable[pd.DataFrame], rows: Counter[str], answers: Counter[str]) -> Iterator[pd.DataFrame]:
    """Yield the frames, and add their rows and answers to the counts of their days."""
    for frame in frames:
        for day, attempts in frame.groupby("date")["attempts"]:
            rows[str(day)] += len(attempts)
            answers[str(day)] += int(attempts.sum())
        yield frame
