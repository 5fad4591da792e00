"""The check of daily features: no answer is lost and none is counted twice."""

from datetime import datetime

import dagster as dg
import psycopg

from irt_assets.common.partition_checks import CheckInput, partition_check
from irt_assets.responses.answers import live_answers
from resources.cluster.relational import Run, on_log
from resources.dagster_schema import row_table


def build_feature_checks(days: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    description = "The attempts in each day's features sum to the current number of live answers of the day."
    return [partition_check(days, "features_topic_daily", "answers_are_conserved", description, _check_counts)]


def _check_counts(look: CheckInput) -> dg.AssetCheckResult:
    wrong = days_with_wrong_counts(look.connection, look.window.start, look.window.end)
    differences = "; ".join(
        f"{day}: {have:,} in the features, {want:,} in the log" for day, (have, want) in wrong.items()
    )
    return dg.AssetCheckResult(
        passed=not wrong,
        description=f"{differences}: materialise the day again" if wrong else "every live answer is counted once",
        metadata={"days": row_table(("day", "features", "log"), [(day, *pair) for day, pair in wrong.items()])},
    )


def days_with_wrong_counts(
    connection: psycopg.Connection, start: datetime, end: datetime, run: Run | None = None
) -> dict[str, tuple[int, int]]:
    """Days of [start, end), two midnights, on which features and log differ, with both numbers of live answers.

    `run`: reads the log; by default `on_log`.
    """
    answers = live_answers(start, end)
    run = run or on_log(connection, start, end)
    logged = run(answers.group_by(date=answers.day).agg(n=answers.count())).to_pydict()
    stored = connection.execute(
        "SELECT date, sum(attempts) FROM features_topic_daily WHERE date >= %s AND date < %s GROUP BY 1",
        (start.date(), end.date()),
    ).fetchall()
    have = {day: int(n) for day, n in stored}
    want = dict(zip(logged["date"], logged["n"], strict=True))
    return {
        day.isoformat(): (have.get(day, 0), want.get(day, 0))
        for day in sorted(have.keys() | want.keys())
        if have.get(day, 0) != want.get(day, 0)
    }
