"""Convert the attempts of a month's file to responses, and judged attempts to the columns of that file."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.common.arrays import Floats, Ints
from irt_assets.responses.columns import codes, instants, max_scores, numbers
from irt_assets.responses.eligibility.attempts import Judgement, Reason
from irt_assets.responses.facts import KEY, SCORES
from irt_psychometrics import PsychometricsError, Responses

FILE = (
    "row", KEY, "item_id", "scale_id", "topic_id", "session", "form_id", "position", "started_at", "completed_at",
    "correct", "response", "response_time_ms", "hints_used", "mode", *SCORES, "reason", "score",
)  # fmt: skip
"""The columns of a month's file, in this order. `SCORES` are present only if an attempt is on a scored item."""


def without_ids(table: pa.Table) -> pa.Table:
    """Judged attempts as they are written to files: with numbers of rows and sessions instead of ids."""
    session = table["session_id"].cast(pa.string()).combine_chunks().dictionary_encode().indices
    numbered = table.append_column("row", pa.array(np.arange(table.num_rows)))
    numbered = numbered.append_column("session", session.cast(pa.int64()))
    return numbered.select([name for name in FILE if name in numbered.column_names])


def with_outcome(found: pa.Table, code: npt.NDArray[np.int8], score: npt.NDArray[np.int8]) -> pa.Table:
    """Add the columns `reason` and `score` from a judgement's arrays."""
    reasons = pa.array([str(reason.value) for reason in Judgement.REASONS], pa.string())
    found = found.append_column("reason", reasons.take(pa.array(code, mask=code < 0)))
    return found.append_column("score", pa.array(score, pa.int8(), mask=score < 0))


@dataclass(frozen=True)
class ItemCounts:
    """Numbers of responses by item of a scale.

    Attributes:
        scored: scored responses of the items that have enough.
        left_out: responses of the items that are left out for having too few.
        categories: number of categories of each item in `scored`, in their order. None: two each.
    """

    scored: Mapping[str, int]
    left_out: Mapping[str, int]
    categories: Ints | None = None


@dataclass(frozen=True)
class ScoredResponses:
    """Responses and their origin.

    Attributes:
        learners: key of each person (or id, if read from the log), in the order of the persons of `responses`.
        rows: index of each response's row in the table.
    """

    responses: Responses
    learners: npt.NDArray[np.object_]
    rows: npt.NDArray[np.intp]


def left_out_items(table: pa.Table, scale_id: str) -> dict[str, int]:
    """Item → number of responses, for the items of a scale with too few responses to be fitted."""
    few = pc.and_(pc.equal(table["reason"], Reason.FEW_ITEM_RESPONSES), pc.equal(table["scale_id"], scale_id))
    counts = pc.value_counts(table.filter(few)["item_id"])
    return {str(entry["values"]): int(entry["counts"]) for entry in counts.to_pylist()}


def scored_responses_of(table: pa.Table, scale_id: str) -> tuple[Responses, npt.NDArray[np.object_]]:
    """The scored responses of one scale, and the learner key of each person."""
    scored = _collect_rows(_scored_rows(table, scale_id))
    return scored.responses, scored.learners


def timed_responses_of(
    table: pa.Table, scale_id: str, forms: Sequence[str]
) -> tuple[ScoredResponses, Floats, npt.NDArray[np.bool_]]:
    """The scored responses of one scale, the days since the learner's first response, shape (R,), and whether a
    response belongs to one of `forms`, shape (R,)."""
    found = _scored_rows(table, scale_id, "completed_at", "form_id")
    scored = _collect_rows(found)
    at = instants(found["completed_at"])[scored.rows]
    in_forms = pc.is_in(found["form_id"].cast(pa.string()), value_set=pa.array(forms, pa.string()))
    among = in_forms.to_numpy(zero_copy_only=False)[scored.rows]
    return scored, replace(scored.responses, at=at).days_since_first, among


def scored_sittings_of(table: pa.Table, scale_id: str) -> tuple[ScoredResponses, npt.NDArray[np.object_]]:
    """The scored responses of one scale, and the form of each, shape (R,) (None: practice)."""
    found = _scored_rows(table, scale_id, "form_id")
    scored = _collect_rows(found)
    return scored, found["form_id"].to_numpy(zero_copy_only=False)[scored.rows]


def _scored_rows(table: pa.Table, scale_id: str, *also: str) -> pa.Table:
    scored = pc.and_(pc.is_null(table["reason"]), pc.equal(table["scale_id"], scale_id))
    names = [KEY, "item_id", "score", *also, *(name for name in SCORES if name in table.column_names)]
    return table.select(names).filter(scored)


def _collect_rows(found: pa.Table) -> ScoredResponses:
    person, learners = codes(found[KEY])
    item, items = codes(found["item_id"])
    return collect_scored(person, learners, item, items, numbers(found["score"], -1).astype(np.int8), max_scores(found))


def eligible_responses_of(table: pa.Table, scale_id: str) -> Responses:
    """Like `scored_responses_of`, including responses that the minima per learner and item leave out of the fit."""
    few = pa.array([str(Reason.FEW_LEARNER_RESPONSES), str(Reason.FEW_ITEM_RESPONSES)])
    counted = pc.or_(pc.is_null(table["reason"]), pc.is_in(table["reason"], value_set=few))
    table = table.filter(pc.and_(counted, pc.equal(table["scale_id"], scale_id)))
    person, learners = codes(table[KEY])
    item, items = codes(table["item_id"])
    return collect_scored(person, learners, item, items, given_points(table), max_scores(table)).responses


def given_points(table: pa.Table) -> npt.NDArray[np.int8]:
    """The points of each answer, scored or not; −1 if unknown. An answer with hints gets 0."""
    right = numbers(table["correct"], False)
    points = right.astype(np.int8)
    if (max_score := max_scores(table)) is not None:
        given = numbers(table["given_score"], -1)
        points = np.where(max_score == 1, right, np.where(right, max_score, given)).astype(np.int8)
    points[numbers(table["hints_used"], 0) > 0] = 0
    return points


def collect_scored(
    person: npt.NDArray[np.int32],
    learners: npt.NDArray[np.object_],
    item: npt.NDArray[np.int32],
    items: npt.NDArray[np.object_],
    score: npt.NDArray[np.int8],
    max_score: npt.NDArray[np.int16] | None,
) -> ScoredResponses:
    """The scored attempts (score ≥ 0) as responses, sorted by person, item and score.

    Learners without a scored attempt are left out. `person` and `item` are indices in `learners` and `items`.
    """
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
    return ScoredResponses(
        Responses(index[order], item[rows], score[rows], learners.size, ids, categories, key), learners, rows
    )


def categories_of(
    item: npt.NDArray[np.int32], max_score: npt.NDArray[np.int16], item_ids: Sequence[str] | npt.NDArray[np.object_]
) -> Ints:
    """Number of categories of each item, shape (J,), from the maximum score of each attempt's item.

    Raises PsychometricsError if the attempts on an item have different maximum scores.
    """
    categories = np.full(len(item_ids), 2)
    categories[item] = max_score + 1
    if (other := np.flatnonzero(categories[item] != max_score + 1)).size:
        raise PsychometricsError(
            f"item {item_ids[item[other[0]]]} has different maximum scores in these months: materialise "
            "the months from before the change again (`irt status` lists them)"
        )
    return categories
