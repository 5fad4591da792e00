"""Computation of the rows of `weekly_kpi`: all learners' KPIs of a week, and P and S of learners who have gone quiet.

Both refer to the week's end, or to the last midnight while the week runs, so the days of a week may be computed in any
order.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa

from irt_assets.common.partitions import day_bounds, day_of, week_bounds
from irt_assets.kpis.ability import abilities
from irt_assets.kpis.behaviour import (
    EIGHT_WEEKS,
    YEAR,
    learners,
    microseconds,
    pace,
    presence,
    recovery,
    scales_answered,
)
from irt_assets.kpis.kpi_definitions import RANGES, NullReason
from irt_assets.kpis.record import Record, churn, engagement, goal, progress, records
from irt_assets.kpis.summary import Summary
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.ledger.publications import PublishedSet
from irt_assets.responses.answers import attempts_between
from irt_assets.responses.facts import abilities_start
from irt_assets.responses.scored_answers import scored_answers
from irt_assets.responses.verdict_states import record_states, states_of_verdicts
from irt_assets.scales.scale import Scale, read_scales
from resources import tables
from resources.cluster.relational import Run, copy_to_memory, on_log, on_postgres, on_spark, require_judged
from resources.postgres import warehouse
from resources.postgres.database import one_value
from resources.postgres.relations import LEARNER, QUESTION

IDLE = timedelta(days=7)
LEARNERS_AT_ONCE = 10_000
ON_SCALE = ["user_id", "scale_id"]
ANSWER_COLUMNS = (
    "user_id",
    "item_id",
    "session_id",
    "started_at",
    "completed_at",
    "correct",
    "response_time_ms",
    "hints_used",
    "mode",
)
"""Columns of `attempt` that `live_answers` reads."""
Scales = Mapping[str, Scale]
Published = Mapping[str, PublishedSet]


def kpis(run: Run, end: datetime, scales: Scales, published: Published) -> pd.DataFrame:
    """user_id and kpis (a record) of every learner with a live answer in the 365 days before `end`.

    docs/reference/kpis.md describes the record. `published`: the sets in force at `end`.
    If the bank has only one scale, it is the target scale of learners without a target scale.
    """
    return pd.concat(kpi_parts(run, end, scales, published), ignore_index=True)


def kpi_parts(
    run: Run, end: datetime, scales: Scales, published: Published, answers: Iterable[pa.Table] | None = None
) -> Iterator[pd.DataFrame]:
    """Yield the rows of `kpis` in frames of LEARNERS_AT_ONCE learners, because a record takes some kilobytes, ten times
    as much as its numbers. There is at least one frame.

    `answers`: the answers that count for abilities at `end`, in the parts of `abilities`; None: read them with `run`.
    """
    people = _people(run, end, scales)
    pairs = pd.concat([people[ON_SCALE], run(scales_answered(end)).to_pandas()]).drop_duplicates(ON_SCALE)
    rows = pairs.merge(people[[*ON_SCALE, "target_theta"]], on=ON_SCALE, how="left")
    measured = abilities(answers or _answers(run, end, scales), end, scales, published)
    for columns in (measured, run(pace(end)).to_pandas(), run(recovery(end)).to_pandas()):
        rows = rows.merge(columns, on=ON_SCALE, how="left")
    visits = _presence(run, end, people)
    in_use = {scale_id for scale_id, in_force in published.items() if in_force.items}
    learner = pd.Index(people["user_id"]).get_indexer(rows["user_id"])
    order = np.argsort(learner, kind="stable")
    for first in range(0, max(len(people), 1), LEARNERS_AT_ONCE):
        part = slice(first, min(first + LEARNERS_AT_ONCE, len(people)))
        begin, stop = np.searchsorted(learner, (part.start, part.stop), sorter=order)
        yield _records(people[part], rows.iloc[order[begin:stop]], visits[part], in_use)


def _records(people: pd.DataFrame, rows: pd.DataFrame, visits: pd.DataFrame, in_use: Collection[str]) -> pd.DataFrame:
    """The records of some learners. `rows`: one row per learner and scale."""
    on_scale = records(progress(rows, in_use) | {"P": goal(rows, in_use)})
    targets = dict(zip(people["user_id"], people["scale_id"], strict=True))
    found: dict[str, Record] = {user: {"by_scale": {}, "assumed": {}} for user in targets}
    for user, scale, record in zip(rows["user_id"], rows["scale_id"], on_scale, strict=True):
        if scale == targets[user] or pd.isna(scale):
            found[user] |= record
        else:
            found[user]["by_scale"][scale] = record
    idle = people["idle"].to_numpy(dtype=float)
    for name, (values, unknown) in (("A_t", engagement(visits)), ("S", churn(visits, idle))):
        for user, value, parts in zip(targets, values.tolist(), unknown, strict=True):
            found[user][name] = value
            if parts:
                found[user]["assumed"][name] = parts
    return pd.DataFrame({"user_id": list(found), "kpis": list(found.values())})


def write_week(connection: psycopg.Connection, week: str, now: datetime) -> Summary:
    """Compute a week (the date of its Monday) from the stored verdicts and replace its stored rows. Returns their
    summary."""
    monday = {"week_start": date.fromisoformat(week)}
    warehouse.lock_rows(connection, tables.weekly_kpi, monday)
    states = states_of_verdicts(connection, {week: window_of_week(week)})
    parts = kpi_parts(*_read_inputs(connection, end_of_week(week, now)))
    connection.execute("DELETE FROM weekly_kpi WHERE week_start = %(week_start)s", monday)
    written = Summary()
    database_now = one_value(connection, "SELECT clock_timestamp()")
    frames = (frame.assign(**monday) for frame in _most_complete_last(written.count_records(parts), database_now))
    warehouse.append_parts(connection, tables.weekly_kpi, frames)
    record_states(connection, tables.weekly_kpi.name, states)
    return written


def window_of_week(week: str) -> tuple[datetime, datetime]:
    """The midnights between which answers determine a week's KPIs. θ also depends, a little, on earlier answers."""
    start, end = week_bounds(week)
    return start - EIGHT_WEEKS, end


def _most_complete_last(parts: Iterator[pd.DataFrame], since: datetime) -> Iterator[pd.DataFrame]:
    """Order each part's rows by whether I_t is known, then by the number of known KPIs, and date them. The first row is
    dated `since`, each further row a microsecond later.

    The documents' query shows I_t, P and S of the ten rows with the newest `updated_at`. If all rows of a week
    had the same date, it would show any ten learners, most of them without I_t.
    """
    n = 0
    for frame in parts:
        n_known = [sum(record[name] is not None for name in RANGES) for record in frame["kpis"]]
        improvement_known = [record["I_t"] is not None for record in frame["kpis"]]
        dates = since + pd.to_timedelta(np.arange(n, n + len(frame)), unit="us")
        yield frame.iloc[np.lexsort((n_known, improvement_known))].assign(updated_at=dates)
        n += len(frame)


def quiet_learners(
    run: Run, end: datetime, scales: Scales, published: Published, answers: Iterable[pa.Table] | None = None
) -> pd.DataFrame:
    """user_id and kpis (only P and S, with `why` and `assumed`) of learners without a live answer in the 7 days before
    `end`. `answers`: see `kpi_parts`."""
    people = _people(run, end, scales)
    people = people[people["idle"] >= microseconds(IDLE)]
    measured = abilities(answers or _answers(run, end, scales), end, scales, published)
    rows = people.merge(measured, on=ON_SCALE, how="left")
    found = records({"P": goal(rows, {scale_id for scale_id, in_force in published.items() if in_force.items})})
    values, unknown = churn(_presence(run, end, people), people["idle"].to_numpy(dtype=float))
    for record, value, parts in zip(found, values.tolist(), unknown, strict=True):
        record["S"] = value
        record["assumed"] = {"S": parts} if parts else {}
    return pd.DataFrame({"user_id": people["user_id"].tolist(), "kpis": found})


def write_quiet(connection: psycopg.Connection, week: str, now: datetime) -> pd.DataFrame:
    """Set P and S of idle learners in a week (the date of its Monday). Returns the rows of `quiet`.

    A learner without a row in that week gets one whose other KPIs are null, because the week was not computed.
    `updated_at` does not change, so queries for the latest weeks return complete ones.
    """
    start, end = week_bounds(week)[0], end_of_week(week, now)
    warehouse.lock_rows(connection, tables.weekly_kpi, {"week_start": start.date()})
    frame = quiet_learners(*_read_inputs(connection, end))
    others = [name for name in (*RANGES, "R_t_coverage") if name not in ("P", "S")]
    blank = dict.fromkeys(others) | {"by_scale": {}, "why": dict.fromkeys(others, NullReason.NOT_COMPUTED)}
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE quiet (user_id text, kpis jsonb) ON COMMIT DROP")
        with cursor.copy("COPY quiet FROM STDIN") as copy:
            for user, record in zip(frame["user_id"], frame["kpis"], strict=True):
                copy.write_row((user, json.dumps(record, allow_nan=False)))
        cursor.execute(
            """INSERT INTO weekly_kpi (user_id, week_start, kpis, updated_at)
               SELECT user_id, %(week)s, %(blank)s::jsonb, %(monday)s FROM quiet ON CONFLICT DO NOTHING""",
            {"week": start.date(), "blank": json.dumps(blank), "monday": start},
        )
        cursor.execute(
            """UPDATE weekly_kpi w SET inactivity_at = now(), kpis = w.kpis
                 || jsonb_build_object('P', q.kpis->'P', 'S', q.kpis->'S')
                 || jsonb_build_object('why', (coalesce(w.kpis->'why', '{}') - 'P' - 'S') || (q.kpis->'why'))
                 || jsonb_build_object('assumed', (coalesce(w.kpis->'assumed', '{}') - 'S') || (q.kpis->'assumed'))
               FROM quiet q WHERE w.user_id = q.user_id AND w.week_start = %s""",
            (start.date(),),
        )
    return frame


def end_of_week(week: str, now: datetime) -> datetime:
    """End of a week, or the last midnight (UTC) while it runs. The week's KPIs use the answers before it."""
    return min(week_bounds(week)[1], day_bounds(day_of(now))[0])


def _read_inputs(
    connection: psycopg.Connection, end: datetime
) -> tuple[Run, datetime, Scales, Published, Iterable[pa.Table]]:
    """The arguments of `kpi_parts`: access to the part of the log that they need, `end`, scales and sets in force then,
    and the answers that count for abilities.

    The log is read once, so that all KPIs use the same answers. It takes 100 bytes per attempt of a year. Sorting and
    grouping it in memory takes a fraction of the server's time. On Spark it stays in the lake, with its verdicts.
    """
    scales = read_scales(connection, end)
    published = {scale_id: set_with_errors(connection, scale_id, end) for scale_id in scales}
    start = abilities_start(end, scales)
    run = on_log(connection, min(start, end - YEAR), end)
    if run.backend is not on_postgres:
        require_judged(connection, start, end)
        return run, end, scales, published, _answers(run, end, scales)
    copied = {
        "attempt": attempts_between(end - YEAR, end).select(*ANSWER_COLUMNS),
        "question": QUESTION.select("item_id", "scale_id"),
        "learner": LEARNER.select("user_id", "is_test", "target_scale_id", "target_theta"),
    }
    return copy_to_memory(run, copied), end, scales, published, [run(scored_answers(start, end))]


def _answers(run: Run, end: datetime, scales: Scales) -> Iterator[pa.Table]:
    in_lake = run.backend is on_spark  # outside a lake, verdicts have their own table
    return run.parts(scored_answers(abilities_start(end, scales), end, in_lake=in_lake), "user_id")


def _people(run: Run, end: datetime, scales: Scales) -> pd.DataFrame:
    """Every learner in order of id: user_id, scale_id (null: none), target_theta, idle (µs since the last answer)."""
    people = run(learners(end)).to_pandas().sort_values("user_id", ignore_index=True)
    only = next(iter(scales)) if len(scales) == 1 else None
    target = people.pop("target_scale_id").astype(object)
    people["scale_id"] = target.where(target.notna(), only)
    return people


def _presence(run: Run, end: datetime, people: pd.DataFrame) -> pd.DataFrame:
    """`behaviour.presence` in the order of `people`, with NaN for learners who are not in it."""
    return run(presence(end)).to_pandas().set_index("user_id").reindex(people["user_id"])
