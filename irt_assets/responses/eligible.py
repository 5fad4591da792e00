"""The eligible responses of a stretch of time, for scoring: relational facts, then the rules of `eligibility`.

What does not belong here: the facts (see `facts`) and what is scored with the responses.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.psychometrics.eligibility.rules import Attempts, judge
from irt_assets.responses.facts import candidates, first_look
from irt_assets.responses.item_status import Withdrawals, microseconds
from irt_assets.responses.item_times import compute_item_times
from irt_assets.responses.scales import Scale
from resources.relational import Run


@dataclass(frozen=True)
class Eligible:
    """N eligible responses of [start, end) to some items, one array of shape (N,) each.

    Attributes:
        user, item: codes of `user_ids` and `item_ids` of `EligibleAnswers`.
        score: int8, 0 or 1.
        age: microseconds before the end, > 0.
    """

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    score: npt.NDArray[np.int8]
    age: npt.NDArray[np.int64]


class EligibleAnswers:
    """The eligible responses of [start, end), read once, judged by the rules of whatever scale asks.

    Eligible is what may score a learner: live, of a real learner, to an item of the bank, not met before within the
    look-back, answered or omitted in an exam, no rapid guess. The minima for a fit do not apply.
    """

    def __init__(
        self, run: Run, start: datetime, end: datetime, scales: Mapping[str, Scale], everybody: Run | None = None
    ) -> None:
        """everybody: where the whole log is, if `run` reads some learners' alone: items' times are everybody's."""
        rows = run(candidates(start, end, scales))
        self._user, self.user_ids = codes(rows["user_id"])
        self._item, self.item_ids = codes(rows["item_id"])
        self._correct = numbers(rows["correct"].cast(pa.int8()), -1)
        self._hints = numbers(rows["hints_used"].cast(pa.int32()), -1)
        self._time = numbers(rows["response_time_ms"].cast(pa.float64()), np.nan)
        completed = rows["completed_at"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        self._completed, self._end = completed.to_numpy(), microseconds(end)
        times = compute_item_times(everybody or run, end, first_look(start, scales))
        self._median, self._n_timed = times.of(self.item_ids)

    def of(self, scale: Scale, items: Collection[str], withdrawn: Withdrawals) -> Eligible:
        """The eligible responses to `items` by the rules of `scale`, but those given while the item was `withdrawn`."""
        wanted = np.isin(self.item_ids, list(items))
        rows = np.flatnonzero(wanted[self._item])
        rows = rows[~withdrawn.mask(self._item[rows], self.item_ids, self._completed[rows])]
        item = self._item[rows]
        yes, no = np.ones(rows.size, dtype=bool), np.zeros(rows.size, dtype=bool)
        judgement = judge(
            Attempts(
                user=self._user[rows],
                item=item,
                live=yes,
                test_account=no,
                unusable=no,
                repeat=no,
                exam=yes,
                answered_later=yes,
                correct=self._correct[rows],
                hints=self._hints[rows],
                time_ms=self._time[rows],
                item_median_ms=self._median[item],
                item_n_timed=self._n_timed[item],
            ),
            scale.rules,
            min_learner=False,
            min_item=False,
        )
        kept = rows[judgement.scored]
        return Eligible(
            self._user[kept], self._item[kept], judgement.score[judgement.scored], self._end - self._completed[kept]
        )


def numbers(column: pa.ChunkedArray, missing: Any) -> npt.NDArray[Any]:
    """The values, `missing` in the place of nulls."""
    return pc.fill_null(column, missing).to_numpy()


def codes(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.object_]]:
    """Integer codes in the sort order of the labels, whatever that of the rows, and the labels."""
    if len(column) == 0:
        return np.array([], dtype=np.int32), np.array([], dtype=object)
    encoded = column.combine_chunks().dictionary_encode()
    labels = encoded.dictionary.to_numpy(zero_copy_only=False)
    order = pc.array_sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return rank[encoded.indices.to_numpy(zero_copy_only=False)], labels[order]
