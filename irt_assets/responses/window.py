"""The attempts of a window as eligibility sees them: one query, then the pure rules of `psychometrics.eligibility`.

The facts (is it a test account, was the item seen before, was a later item answered) are those of
`eligibility_facts`; the rules decide what they mean. What does not belong here: storing the outcome (see `snapshot`).
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import ibis.expr.types as ir
import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.psychometrics.core.arrays import Floats, Ints
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.eligibility.attempts import Attempts, Judgement, Reason, judge
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.psychometrics.fit.growth import days_since_first_answer
from irt_assets.responses.answers import attempts_between
from irt_assets.responses.columns import attempts_of, codes, max_scores, numbers
from irt_assets.responses.facts import FACTS, KEY, LATER, SCORES, eligibility_facts, judged, lookback_start
from irt_assets.responses.item_time import ItemTimes
from irt_assets.responses.item_time import compute_item_times as current_item_times
from irt_assets.responses.row_hash import OF_LOG, digest_of, md5, query_of_sums, row_hash, sums_of
from irt_assets.responses.scales import Scale
from resources.cluster.relational import Run, on_log, on_postgres
from resources.failures import PermanentFailure
from resources.postgres.warehouse import read_parts

SNAPSHOT = (
    "attempt_id", "user_id", "item_id", "scale_id", "topic_id", "session_id", "form_id", "position", "started_at",
    "completed_at", "correct", "response", "response_time_ms", "hints_used", "mode", *FACTS,
)  # fmt: skip
"""The columns of an attempt of which a window's hash is made, in this order: to change them makes every month stale."""
IDS = {"attempt_id": "row", "user_id": KEY, "session_id": "session"}
"""Hashed columns that no file has, and the numbers that files have instead of them."""


def hashed_columns(columns: Collection[str]) -> list[str]:
    """The columns that a window's hash is made of: `SNAPSHOT`, and `SCORES` if they are among `columns`."""
    return [*SNAPSHOT, *(name for name in SCORES if name in columns)]


ANSWERS_OF_A_GROUP = 5_000_000
"""Answers of the learners who are scored at once: some two gigabytes while they are judged."""


@dataclass(frozen=True)
class JudgedWindow:
    """A window's attempts, by learner and time, with texts as dictionaries and three more columns: `learner_key`,
    `reason` (null: scored) and `score` (null: not scored). It has `SCORES` only if an attempt is to an item with more
    than right and wrong.

    `left_out` names, by scale, the items with too few responses and how many they had.
    """

    table: pa.Table
    judgements: dict[str, Judgement]
    left_out: dict[str, dict[str, int]]
    data_hash: str

    @property
    def totals(self) -> WindowTotals:
        counts = {scale: {str(k): int(n) for k, n in one.counts.items()} for scale, one in self.judgements.items()}
        return WindowTotals(self.table.num_rows, counts, self.left_out, self.data_hash)


@dataclass(frozen=True)
class WindowTotals:
    """What is known of a judged window without its attempts, which may lie on a cluster.

    `counts`: attempts by scale and reason, those that are scored under "scored". `left_out`: as in `JudgedWindow`.
    """

    n_attempts: int
    counts: dict[str, dict[str, int]]
    left_out: dict[str, dict[str, int]]
    data_hash: str


_MICROSECONDS_OF_A_DAY = 86_400_000_000


def data_hash(connection: psycopg.Connection, start: datetime, end: datetime, scales: Mapping[str, Scale]) -> str:
    """Hash of the answers of [start, end) and of every fact that eligibility reads about them, now."""
    return data_hash_by(whole_log(connection, start, end, scales), start, end, scales)


def whole_log(connection: psycopg.Connection, start: datetime, end: datetime, scales: Mapping[str, Scale]) -> Run:
    """Runs over the log, as far as the facts of [start, end) read it."""
    return on_log(connection, lookback_start(start, scales), end + LATER)


def data_hash_by(run: Run, start: datetime, end: datetime, scales: Mapping[str, Scale]) -> str:
    """The same hash, over whatever holds the relations."""
    sums = query_of_sums(window_rows(start, end, scales), run.backend)
    # As text, because numbers as large as the sums are read as floats.
    found = run.read(f"SELECT concat(a, ' ', b, ' ', c) AS sums FROM ({sums}) t(a, b, c)")
    return digest_of(found["sums"][0].as_py().split(), OF_LOG)


def window_rows(start: datetime, end: datetime, scales: Mapping[str, Scale]) -> ir.Table:
    """The facts of a window: the columns that are hashed, in their order."""
    found = eligibility_facts(start, end, scales, "topic_id", "started_at", "response")
    return found.rename(attempt_id="id").select(*hashed_columns(found.columns))


def hashed_rows(start: datetime, end: datetime, scales: Mapping[str, Scale]) -> ir.Table:
    """The rows of `window_rows` with the learner's key and, as `h`, their hash."""
    found = eligibility_facts(start, end, scales, "topic_id", "started_at", "response", KEY).rename(attempt_id="id")
    hashed = hashed_columns(found.columns)
    return found.select(*hashed, KEY, h=row_hash(found, hashed))


def file_columns(hashed: Sequence[str]) -> list[str]:
    """The columns of a month's file, if the hash of the month is made of the columns `hashed`."""
    return [*(IDS.get(name, name) for name in hashed), "reason", "score"]


def without_ids(table: pa.Table) -> pa.Table:
    """Judged attempts as files have them: a number for each row and each session instead of their ids.

    Raises PermanentFailure if a learner has no key.
    """
    if table[KEY].null_count:
        raise PermanentFailure(
            f"{table[KEY].null_count:,} answers are of learners who have no row in the table learner: add these rows "
            "(`irt import learners FILE`). If they were erased, delete their answers"
        )
    session = table["session_id"].cast(pa.string()).combine_chunks().dictionary_encode().indices
    numbered = table.append_column("row", pa.array(np.arange(table.num_rows)))
    numbered = numbered.append_column("session", session.cast(pa.int64()))
    columns = file_columns(hashed_columns(table.column_names))
    return numbered.select([name for name in columns if name in numbered.column_names])


def n_attempts(run: Run, start: datetime, end: datetime) -> int:
    """How many attempts [start, end) has."""
    return int(run(attempts_between(start, end).aggregate(n=lambda t: t.count()))["n"][0].as_py())


def share_for_run(run: Run, most: int | None, start: datetime, end: datetime) -> float:
    """The share of learners whose attempts of [start, end) a run reads, so that they are no more than `most`."""
    if most is None:
        return 1.0
    n = n_attempts(run, start, end)
    return min(1.0, most / n) if n else 1.0


def judged_window(
    connection: psycopg.Connection,
    start: datetime,
    end: datetime,
    scales: Mapping[str, Scale],
    run: Run | None = None,
    share: float = 1.0,
) -> JudgedWindow:
    """Every attempt of [start, end) and what the rules of its scale say of it.

    run: where the attempts are read; None: `on_log`.
    share: less than 1 for the attempts of this share of learners only, those with the smallest md5 of their ids.
    """
    rows = hashed_rows(start, end, scales)
    if share < 1:
        rows = rows.filter(md5(rows.user_id)[:8] < f"{int(share * 16**8):08x}")
    hashed = rows.order_by(KEY, "completed_at", "attempt_id")
    run = run or whole_log(connection, start, end, scales)
    found, digest = read_hashed(run, run.backend.sql(hashed))
    if max_scores(found) is None:
        found = found.select([*SNAPSHOT, KEY])
    # After the answers, so that the times are of no fewer than these.
    times = current_item_times(run, end, lookback_start(start, scales))
    code, score = (np.full(found.num_rows, -1, dtype=np.int8) for _ in range(2))
    judgements, left_out = {}, {}
    for part in by_scale(found, sorted({*found["scale_id"].unique().to_pylist(), *scales}), times):
        rules = scales[part.scale_id].rules if part.scale_id in scales else Rules()
        judgement = judge(part.attempts, rules)
        judgements[part.scale_id] = judgement
        left_out[part.scale_id] = {part.items[item]: few for item, few in judgement.few_items.items()}
        code[part.rows], score[part.rows] = judgement.code, judgement.score
    return JudgedWindow(with_outcome(found, code, score), judgements, left_out, digest)


def read_hashed(run: Run, query: str, mark: str = OF_LOG) -> tuple[pa.Table, str]:
    """The rows of a query as `_coded`, and the hash that their column `h` makes."""
    parts, sums = [], [0, 0]
    for part in read_parts(run.connection, query) if run.backend is on_postgres else [run.read(query)]:
        sums = [mine + more for mine, more in zip(sums, sums_of(part["h"]), strict=True)]
        parts.append(_coded(part.drop_columns(["h"])))
    found = pa.concat_tables(parts).unify_dictionaries()
    return found, digest_of((found.num_rows, *sums), mark)


def _coded(rows: pa.Table) -> pa.Table:
    """The rows with each text that returns kept once, and a code of four bytes in its places."""
    for place, name in enumerate(rows.column_names):
        if rows[name].type == pa.string() and name != "attempt_id":
            rows = rows.set_column(place, name, rows[name].dictionary_encode())
    return rows


@dataclass(frozen=True)
class ScaleAttempts:
    """The attempts of a scale: their `rows` in a table, and the `items` by the codes of `attempts`."""

    scale_id: str
    rows: npt.NDArray[np.intp]
    items: npt.NDArray[np.object_]
    attempts: Attempts


def by_scale(found: pa.Table, scales: Iterable[str], times: ItemTimes) -> Iterator[ScaleAttempts]:
    """The rows of `found`, which has the columns of a snapshot that the rules read, for each of `scales`."""
    scale_of_row, present = codes(found["scale_id"])
    rows_of = {scale_id: np.flatnonzero(scale_of_row == code) for code, scale_id in enumerate(present.tolist())}
    del scale_of_row
    facts = found.select(["user_id", "item_id", *judged(found.column_names)])
    for scale_id in scales:
        rows = rows_of.get(scale_id, np.empty(0, dtype=np.intp))
        part = facts if rows.size == found.num_rows else facts.take(pa.array(rows))
        item, items = codes(part["item_id"])
        yield ScaleAttempts(scale_id, rows, items, attempts_of(part, codes(part["user_id"])[0], item, *times.of(items)))


def with_outcome(found: pa.Table, code: npt.NDArray[np.int8], score: npt.NDArray[np.int8]) -> pa.Table:
    """The attempts with the columns `reason` and `score` of a judgement's arrays."""
    reasons = pa.array([str(one.value) for one in Judgement.REASONS], pa.string())
    found = found.append_column("reason", reasons.take(pa.array(code, mask=code < 0)))
    return found.append_column("score", pa.array(score, pa.int8(), mask=score < 0))


@dataclass(frozen=True)
class ItemCounts:
    """By item of a scale, how many responses are `scored`, and how many those have that are `left_out` because they
    have too few. `categories`: of the items in `scored`, in their order; None: two of each."""

    scored: Mapping[str, int]
    left_out: Mapping[str, int]
    categories: Ints | None = None


@dataclass(frozen=True)
class Scored:
    """Responses, the learners (keys, or ids if they were read from the log) in the order of their indices, and the row
    of the table that each response was."""

    responses: Responses
    learners: npt.NDArray[np.object_]
    rows: npt.NDArray[np.intp]


def left_out_items(table: pa.Table, scale_id: str) -> dict[str, int]:
    """The items of a scale that have too few responses to be fitted, and how many each had."""
    few = pc.and_(pc.equal(table["reason"], Reason.FEW_ITEM_RESPONSES), pc.equal(table["scale_id"], scale_id))
    counts = pc.value_counts(table.filter(few)["item_id"])
    return {str(entry["values"]): int(entry["counts"]) for entry in counts.to_pylist()}


def scored_responses_of(table: pa.Table, scale_id: str) -> tuple[Responses, npt.NDArray[np.object_]]:
    """The scored responses of one scale, and the learners' keys in the order of their indices."""
    scored = _scored_of(_scored_rows(table, scale_id))
    return scored.responses, scored.learners


def timed_responses_of(table: pa.Table, scale_id: str) -> tuple[Scored, Floats]:
    """The scored responses of one scale, and the days since the learner's first of them, shape (R,)."""
    found = _scored_rows(table, scale_id, "completed_at")
    scored = _scored_of(found)
    at = pc.cast(pc.cast(found["completed_at"], pa.timestamp("us", "UTC")), pa.int64()).to_numpy()[scored.rows]
    return scored, days_since_first_answer(scored.responses.person, at / _MICROSECONDS_OF_A_DAY)


def scored_sittings_of(table: pa.Table, scale_id: str) -> tuple[Scored, npt.NDArray[np.object_]]:
    """The scored responses of one scale, and the form of each (None: practice)."""
    found = _scored_rows(table, scale_id, "form_id")
    scored = _scored_of(found)
    return scored, found["form_id"].to_numpy(zero_copy_only=False)[scored.rows]


def _scored_rows(table: pa.Table, scale_id: str, *also: str) -> pa.Table:
    scored = pc.and_(pc.is_null(table["reason"]), pc.equal(table["scale_id"], scale_id))
    names = [KEY, "item_id", "score", *also, *(name for name in SCORES if name in table.column_names)]
    return table.select(names).filter(scored)


def _scored_of(found: pa.Table) -> Scored:
    person, learners = codes(found[KEY])
    item, items = codes(found["item_id"])
    return collect_scored(person, learners, item, items, numbers(found["score"], -1).astype(np.int8), max_scores(found))


def eligible_responses_of(table: pa.Table, scale_id: str) -> Responses:
    """Like `scored_responses_of`, with those that were left out of the fit only because there are too few of them."""
    few = pa.array([str(Reason.FEW_LEARNER_RESPONSES), str(Reason.FEW_ITEM_RESPONSES)])
    counted = pc.or_(pc.is_null(table["reason"]), pc.is_in(table["reason"], value_set=few))
    table = table.filter(pc.and_(counted, pc.equal(table["scale_id"], scale_id)))
    person, learners = codes(table[KEY])
    item, items = codes(table["item_id"])
    return collect_scored(person, learners, item, items, given_points(table), max_scores(table)).responses


def given_points(table: pa.Table) -> npt.NDArray[np.int8]:
    """What each answer is worth, whether it is scored or not; −1 where this is not known."""
    right = numbers(table["correct"], False)
    points = right.astype(np.int8)
    if (most := max_scores(table)) is not None:
        given = numbers(table["given_score"], -1)
        points = np.where(most == 1, right, np.where(right, most, given)).astype(np.int8)
    points[numbers(table["hints_used"], 0) > 0] = 0
    return points


def collect_scored(
    person: npt.NDArray[np.int32],
    learners: npt.NDArray[np.object_],
    item: npt.NDArray[np.int32],
    items: npt.NDArray[np.object_],
    score: npt.NDArray[np.int8],
    max_score: npt.NDArray[np.int16] | None,
) -> Scored:
    """What is scored (score ≥ 0), sorted by person, item and score; learners without a scored response drop out."""
    rows = np.flatnonzero(score >= 0)
    present = np.zeros(learners.size, dtype=bool)
    present[person[rows]] = True
    index = (np.cumsum(present, dtype=np.int32) - 1)[person[rows]]
    order = np.lexsort((score[rows], item[rows], index))
    rows = rows[order]
    learners = learners[present]
    key = np.array([zlib.crc32(str(learner).encode()) for learner in learners], dtype=np.uint32)
    ids = tuple(str(x) for x in items)
    categories = None if max_score is None else categories_of(item, max_score, ids)
    return Scored(Responses(index[order], item[rows], score[rows], learners.size, ids, categories, key), learners, rows)


def categories_of(
    item: npt.NDArray[np.int32], max_score: npt.NDArray[np.int16], item_ids: Sequence[str] | npt.NDArray[np.object_]
) -> Ints:
    """Shape (J,): how many categories each item has, from the highest score beside each of its attempts.

    Raises PsychometricsError where an item has had several.
    """
    categories = np.full(len(item_ids), 2)
    categories[item] = max_score + 1
    if (other := np.flatnonzero(categories[item] != max_score + 1)).size:
        raise PsychometricsError(
            f"item {item_ids[item[other[0]]]} had another maximum score in some of these months: make those again that "
            "were made before it was changed (`irt status` names them)"
        )
    return categories
