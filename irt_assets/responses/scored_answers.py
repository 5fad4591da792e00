"""The answers by which learners are scored, from stored verdicts.

Verdicts take no account of the set in force and of withdrawn items, so the functions here select by both.
`learner_answers` also reads answers that have no verdict yet.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.responses.answers import attempts_with_verdicts, instant
from irt_assets.responses.columns import codes, instants, max_scores, numbers
from irt_assets.responses.facts import lookback_start
from irt_assets.responses.verdicts import judge_missing
from irt_assets.responses.window import collect_scored
from irt_assets.scales.item_status import Withdrawals, microseconds
from irt_assets.scales.scale import Scale
from irt_psychometrics import Responses
from resources.cluster.relational import on_postgres
from resources.postgres.database import Database
from resources.postgres.relations import LEARNER, VERDICT
from resources.postgres.warehouse import read_arrow, read_parts

ANSWERS_OF_A_GROUP = 5_000_000
"""Number of answers that are scored at once; they take about two gigabytes."""
COLUMNS = ("learner_key", "user_id", "item_id", "completed_at", "score", "max_score")


def scored_answers(start: datetime, end: datetime, *, in_lake: bool = False) -> ir.Table:
    """Relation of the answers of [start, end) that count by their verdicts, with `COLUMNS`; max_score null means 1."""
    if in_lake:
        rows = attempts_with_verdicts(start, end, in_lake=True)
        counts = rows.filter(rows.learner_key.notnull(), rows.reason.isnull()).mutate(score=rows.verdict_score)
        return counts.select(*COLUMNS)
    counts = VERDICT.filter(
        VERDICT.reason.isnull(), VERDICT.completed_at >= instant(start), VERDICT.completed_at < instant(end)
    )
    known = counts.join(LEARNER.select("learner_key", "user_id"), "learner_key")
    return known.select(*COLUMNS)


def scoring_responses(
    connection: psycopg.Connection,
    start: datetime,
    end: datetime,
    items: Sequence[str],
    learners: Sequence[str] | None = None,
    withdrawn: Withdrawals | None = None,
) -> tuple[Responses, npt.NDArray[np.object_]]:
    """The responses to `items` in [start, end) by their verdicts, with their times, and the learners' ids.

    `learners`: None for all. `withdrawn`: answers that were given while their item was withdrawn do not count.
    """
    query = f"SELECT * FROM ({on_postgres.sql(scored_answers(start, end))}) f WHERE item_id = ANY(%(items)s)"
    if learners is not None:
        query += " AND learner_key IN (SELECT learner_key FROM learner WHERE user_id = ANY(%(learners)s))"
    values = {"items": list(items), "learners": None if learners is None else list(learners)}
    return responses_of(read_arrow(connection, query, values), withdrawn)


def earlier_responses(
    connection: psycopg.Connection,
    start: datetime,
    scale: Scale,
    items: Sequence[str],
    learners: Sequence[str],
    wanted: Sequence[str],
) -> Responses:
    """The responses to `items` in the scale's look-back before `start` by the learners in `wanted`.

    Has one person for each of `learners`, in their order, also for learners without responses. Days of the look-back
    without verdicts have no responses: call `judge_before` first.
    """
    begin = lookback_start(start, {scale.scale_id: scale})
    responses, users = scoring_responses(connection, begin, start, items, wanted)
    person_of = {learner: person for person, learner in enumerate(learners)}
    return responses.renumber_persons(np.array([person_of[user] for user in users], dtype=np.int32), len(learners))


def judge_before(database: Database, start: datetime, scales: Mapping[str, Scale]) -> None:
    """Judge the days of the look-back before a window that were never judged, for `earlier_responses`."""
    judge_missing(database, lookback_start(start, scales), start)


def scoring_groups(
    connection: psycopg.Connection,
    start: datetime,
    end: datetime,
    items: Sequence[str],
    withdrawn: Withdrawals,
) -> Iterator[tuple[Responses, npt.NDArray[np.object_]]]:
    """Like `scoring_responses` for all learners, but a group of learners at a time, as all may not fit in memory.

    The connection must not be used for anything else until the iterator ends.
    """
    answers = on_postgres.sql(scored_answers(start, end))
    query = f"SELECT * FROM ({answers}) f WHERE item_id = ANY(%(items)s) ORDER BY learner_key"
    held: list[pa.Table] = []
    for part in read_parts(connection, query, {"items": list(items)}):
        held.append(part.drop_columns(["learner_key"]))
        if sum(part_held.num_rows for part_held in held) >= ANSWERS_OF_A_GROUP:
            found = pa.concat_tables(held)
            whole = pc.index(found["user_id"], found["user_id"][-1]).as_py()  # the last learner may have more rows
            held = [found.slice(whole)]
            if whole:
                yield responses_of(found.slice(0, whole), withdrawn)
    yield responses_of(pa.concat_tables(held), withdrawn)


def answers_to(found: pa.Table, items: Collection[str], since: datetime) -> pa.Table:
    """The rows of `scored_answers` that are answers to `items` since a time."""
    to_items = pc.is_in(found["item_id"], value_set=pa.array(sorted(items), pa.string()))
    return found.filter(pc.and_(to_items, pa.array(instants(found["completed_at"]) >= microseconds(since))))


def responses_of(found: pa.Table, withdrawn: Withdrawals | None) -> tuple[Responses, npt.NDArray[np.object_]]:
    """Convert rows of `scored_answers` to responses with their times, sorted by person and item, and the learners' ids.

    Answers that were given while their item was withdrawn are left out.
    """
    at = instants(found["completed_at"])
    if withdrawn is not None and withdrawn.stretches:
        item, item_ids = codes(found["item_id"])
        counts = ~withdrawn.mask(item, item_ids, at)
        found, at = found.filter(pa.array(counts)), at[counts]
    score = numbers(found["score"], -1).astype(np.int8)
    scored = collect_scored(*codes(found["user_id"]), *codes(found["item_id"]), score, max_scores(found))
    return replace(scored.responses, at=at[scored.rows]), scored.learners
