"""The attempts of a window as eligibility sees them: one query, then the pure rules of `psychometrics.eligibility`.

The facts (is it a test account, was the item seen before, was a later item answered) are those of
`eligibility_facts`; the rules decide what they mean. What does not belong here: storing the outcome (see `snapshot`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import ibis
import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.eligibility.attempts import Attempts, Judgement, judge
from irt_assets.psychometrics.eligibility.rules import Reason, Rules
from irt_assets.responses.eligible import codes, numbers
from irt_assets.responses.facts import eligibility_facts, lookback_start
from irt_assets.responses.item_status import Withdrawals
from irt_assets.responses.item_times import ItemTimes, current_item_times
from irt_assets.responses.scales import Scale
from resources.warehouse import read_arrow

FACTS = """id AS attempt_id, user_id, item_id, scale_id, topic_id, session_id, form_id, position, started_at,
    completed_at, correct, response, response_time_ms, hints_used, mode, is_test, unknown_item, seen_before,
    answered_later"""
"""A row of the snapshot in this order is what its hash is made of: to change it makes every month stale."""


def _with_facts(start: datetime, end: datetime, scales: Mapping[str, Scale]) -> str:
    """The opening of a query that reads `f`, the facts of the window."""
    found = ibis.to_sql(eligibility_facts(start, end, scales, "topic_id", "started_at", "response"), dialect="postgres")
    return f"WITH f AS (SELECT {FACTS} FROM ({found}) r)"


_FOR_SNAPSHOT = """
SELECT f.*, md5(f::text) AS h FROM f ORDER BY f.user_id, f.completed_at, f.attempt_id
"""

_FOR_SCORING = """
SELECT f.user_id, f.item_id, f.form_id, f.correct, f.response_time_ms, f.hints_used, f.mode, f.is_test, f.unknown_item,
       f.seen_before, f.answered_later, f.completed_at
FROM f
WHERE f.item_id = ANY(%(items)s) AND (%(learners)s::text[] IS NULL OR f.user_id = ANY(%(learners)s))
"""

# Sums, so that the order of the rows does not matter and the window needs no sort. OFFSET 0 keeps the planner from
# writing a row out for each half of its hash.
_HASH = """
SELECT count(*), coalesce(sum(('x' || left(h, 16))::bit(64)::bigint::numeric), 0),
       coalesce(sum(('x' || right(h, 16))::bit(64)::bigint::numeric), 0)
FROM (SELECT md5(f::text) AS h FROM f OFFSET 0) t
"""


_VALUE_OF_DIGIT = np.zeros(256, dtype=np.uint8)
_VALUE_OF_DIGIT[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


@dataclass(frozen=True)
class JudgedWindow:
    """A window's attempts with two more columns: `reason` (null: scored) and `score` (null where not scored).

    `left_out` names, by scale, the items with too few responses and how many they had.
    """

    table: pa.Table
    judgements: dict[str, Judgement]
    left_out: dict[str, dict[str, int]]
    data_hash: str


def data_hash(connection: psycopg.Connection, start: datetime, end: datetime, scales: Mapping[str, Scale]) -> str:
    """Hash of the answers of [start, end) and of every fact that eligibility reads about them, now."""
    row = connection.execute((_with_facts(start, end, scales) + _HASH).encode()).fetchone()
    assert row is not None
    return _digest(*(int(x) for x in row))


def _digest(rows: int, first: int, second: int) -> str:
    return hashlib.sha256(f"{rows} {first} {second}".encode()).hexdigest()


def _sums(hashes: pa.ChunkedArray) -> tuple[int, int]:
    """The exact sums of both halves of 128-bit hashes in hexadecimal, each a signed integer."""
    halves = [0, 0]
    for chunk in hashes.chunks:
        _, ends, text = chunk.buffers()
        first = np.frombuffer(ends, np.int32)[chunk.offset]
        digits = _VALUE_OF_DIGIT[np.frombuffer(text, np.uint8)[first:][: 32 * len(chunk)]].reshape(-1, 16, 2)
        values = (digits[:, :, 0] * 16 + digits[:, :, 1]).reshape(-1, 2, 8).view(">i8")[:, :, 0]
        for half in (0, 1):
            value = values[:, half].astype(np.int64)
            halves[half] += int(np.sum(value >> 32)) * 2**32 + int(np.sum(value & 0xFFFFFFFF))
    return halves[0], halves[1]


def judged_window(
    connection: psycopg.Connection,
    start: datetime,
    end: datetime,
    scales: Mapping[str, Scale],
) -> JudgedWindow:
    """Every attempt of [start, end) and what the rules of its scale say of it."""
    found = read_arrow(connection, _with_facts(start, end, scales) + _FOR_SNAPSHOT)
    times = current_item_times(
        connection, end, lookback_start(start, scales)
    )  # after the answers: of no fewer than these
    digest = _digest(found.num_rows, *_sums(found["h"]))
    found = found.drop_columns(["h"])
    reason = np.full(found.num_rows, -1, dtype=np.int8)
    score = np.full(found.num_rows, -1, dtype=np.int8)
    judgements, left_out = {}, {}
    scale_of_row, present = codes(found["scale_id"])
    code_of = {scale_id: code for code, scale_id in enumerate(present.tolist())}
    judged = found.select(_JUDGED)
    for scale_id in sorted({*code_of, *scales}):
        rows = np.flatnonzero(scale_of_row == code_of.get(scale_id, -1))
        rules = scales[scale_id].rules if scale_id in scales else Rules()
        part = judged if rows.size == found.num_rows else judged.take(pa.array(rows))
        item, items = codes(part["item_id"])
        judgement = judge(_attempts(part, codes(part["user_id"])[0], item, items, times), rules)
        judgements[scale_id] = judgement
        left_out[scale_id] = {items[code]: few for code, few in judgement.few_items.items()}
        reason[rows] = judgement.code
        score[rows] = judgement.score
    reasons = pa.array([str(one.value) for one in Judgement.REASONS], pa.string())
    table = found.append_column("reason", reasons.take(pa.array(reason, mask=reason < 0)))
    table = table.append_column("score", pa.array(score, pa.int8(), mask=score < 0))
    return JudgedWindow(table, judgements, left_out, digest)


_JUDGED = (
    "user_id", "item_id", "form_id", "mode", "is_test", "unknown_item", "seen_before", "answered_later", "correct",
    "hints_used", "response_time_ms",
)  # fmt: skip
"""Columns of a window that the rules read."""


def _attempts(
    found: pa.Table,
    person: npt.NDArray[np.int32],
    item: npt.NDArray[np.int32],
    items: npt.NDArray[np.object_],
    times: ItemTimes,
) -> Attempts:
    """`person` codes the learners, `item` codes `items`."""
    median, n_timed = times.of(items)
    return Attempts(
        user=person,
        item=item,
        live=numbers(pc.equal(found["mode"], "live"), False).astype(bool),
        test_account=numbers(found["is_test"], False).astype(bool),
        unusable=numbers(found["unknown_item"], False).astype(bool),
        repeat=numbers(found["seen_before"], False).astype(bool),
        exam=numbers(pc.is_valid(found["form_id"]), False).astype(bool),
        answered_later=numbers(found["answered_later"], False).astype(bool),
        correct=numbers(pc.cast(found["correct"], pa.int8()), -1).astype(np.int8),
        hints=numbers(found["hints_used"], -1).astype(np.int32),
        time_ms=numbers(pc.cast(found["response_time_ms"], pa.float64()), np.nan),
        item_median_ms=median[item],
        item_n_timed=n_timed[item],
    )


def scoring_responses(
    connection: psycopg.Connection,
    start: datetime,
    end: datetime,
    scale: Scale,
    items: Sequence[str],
    learners: Sequence[str] | None = None,
    withdrawn: Withdrawals | None = None,
) -> tuple[Responses, npt.NDArray[np.object_]]:
    """The eligible responses to `items` in [start, end), and the learners' ids; the minima for a fit do not apply.

    `learners`: None for all. `withdrawn`: when answers to which items do not count.
    """
    scales = {scale.scale_id: scale}
    wanted = {"items": list(items), "learners": None if learners is None else list(learners)}
    found = read_arrow(connection, _with_facts(start, end, scales) + _FOR_SCORING, wanted)
    if withdrawn is not None and withdrawn.stretches:
        item, item_ids = codes(found["item_id"])
        at = pc.cast(pc.cast(found["completed_at"], pa.timestamp("us", "UTC")), pa.int64()).to_numpy()
        found = found.filter(pa.array(~withdrawn.mask(item, item_ids, at)))
    person, users = codes(found["user_id"])
    item, item_ids = codes(found["item_id"])
    times = current_item_times(connection, end, lookback_start(start, scales))
    judgement = judge(_attempts(found, person, item, item_ids, times), scale.rules, min_learner=False, min_item=False)
    responses, present, _ = _responses(person, users, item, item_ids, judgement.score)
    return responses, present


def earlier_responses(
    connection: psycopg.Connection,
    start: datetime,
    scale: Scale,
    items: Sequence[str],
    learners: npt.NDArray[np.object_],
    wanted: npt.NDArray[np.object_],
) -> Responses:
    """The eligible responses to `items` in the scale's look-back before `start` by the `wanted` among `learners`.

    One person for each of `learners`, in their order, whether they answered or not. Both are sorted.
    """
    begin = lookback_start(start, {scale.scale_id: scale})
    responses, users = scoring_responses(connection, begin, start, scale, items, wanted.tolist())
    person = np.searchsorted(learners, users).astype(np.int32)[responses.person]
    return Responses(person, responses.item, responses.score, learners.size, responses.item_ids)


def left_out_items(table: pa.Table, scale_id: str) -> dict[str, int]:
    """The items of a scale that have too few responses to be fitted, and how many each had."""
    few = pc.and_(pc.equal(table["reason"], Reason.FEW_ITEM_RESPONSES), pc.equal(table["scale_id"], scale_id))
    counts = pc.value_counts(table.filter(few)["item_id"])
    return {str(entry["values"]): int(entry["counts"]) for entry in counts.to_pylist()}


def scored_responses_of(table: pa.Table, scale_id: str) -> tuple[Responses, npt.NDArray[np.object_]]:
    """The scored responses of one scale, and the learners' ids in the order of their indices."""
    responses, learners, _ = scored_sittings_of(table, scale_id)
    return responses, learners


def scored_sittings_of(
    table: pa.Table, scale_id: str
) -> tuple[Responses, npt.NDArray[np.object_], npt.NDArray[np.object_]]:
    """Like `scored_responses_of`, and the form of each response (None: practice)."""
    scored = table.filter(pc.and_(pc.is_null(table["reason"]), pc.equal(table["scale_id"], scale_id)))
    person, learners = codes(scored["user_id"])
    item, items = codes(scored["item_id"])
    responses, present, rows = _responses(person, learners, item, items, numbers(scored["score"], -1).astype(np.int8))
    return responses, present, scored["form_id"].to_numpy(zero_copy_only=False)[rows]


def eligible_responses_of(table: pa.Table, scale_id: str) -> Responses:
    """Like `scored_responses_of`, with those that were left out of the fit only because there are too few of them."""
    few = pa.array([str(Reason.FEW_LEARNER_RESPONSES), str(Reason.FEW_ITEM_RESPONSES)])
    counted = pc.or_(pc.is_null(table["reason"]), pc.is_in(table["reason"], value_set=few))
    table = table.filter(pc.and_(counted, pc.equal(table["scale_id"], scale_id)))
    person, learners = codes(table["user_id"])
    item, items = codes(table["item_id"])
    right = numbers(table["correct"], False) & (numbers(table["hints_used"], 0) == 0)
    return _responses(person, learners, item, items, right.astype(np.int8))[0]


def _responses(
    person: npt.NDArray[np.int32],
    learners: npt.NDArray[np.object_],
    item: npt.NDArray[np.int32],
    items: npt.NDArray[np.object_],
    score: npt.NDArray[np.int8],
) -> tuple[Responses, npt.NDArray[np.object_], npt.NDArray[np.intp]]:
    """What is scored (score ≥ 0), sorted by person, the learners, and the row that each response was; learners without
    a scored response drop out."""
    rows = np.flatnonzero(score >= 0)
    present, index = np.unique(person[rows], return_inverse=True)
    order = np.lexsort((item[rows], index))
    rows = rows[order]
    responses = Responses(
        index[order].astype(np.int32), item[rows], score[rows], len(present), tuple(str(x) for x in items)
    )
    return responses, learners[present], rows
