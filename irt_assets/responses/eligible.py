"""The eligible responses of a stretch of time, for scoring: relational facts, then the rules of `eligibility`.

What does not belong here: the facts (see `facts`) and what is scored with the responses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from irt_assets.psychometrics.eligibility.attempts import judge
from irt_assets.responses.columns import attempts_of, codes
from irt_assets.responses.facts import LOOKBACK, abilities_start, ability_start, candidates, lookback_start
from irt_assets.responses.item_status import Withdrawals, microseconds
from irt_assets.responses.item_times import NOT_DATED, DatedTimes, ItemTimes, compute_item_times
from irt_assets.responses.scales import Scale
from resources.cluster.relational import Run


@dataclass(frozen=True)
class Eligible:
    """N eligible responses of [start, end) to some items, one array of shape (N,) each.

    Attributes:
        user, item: codes of `user_ids` and `item_ids` of `EligibleAnswers`.
        score: int8, from 0 to the item's highest.
        age: microseconds before the end, > 0.
        max_score: the item's highest score; None: 1 everywhere.
    """

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    score: npt.NDArray[np.int8]
    age: npt.NDArray[np.int64]
    max_score: npt.NDArray[np.int16] | None = None


class EligibleAnswers:
    """The eligible responses of [start, end), read once, judged by the rules of whatever scale asks.

    Eligible is what may score a learner: live, of a real learner, to an item of the bank, not met before within the
    look-back, answered or omitted in an exam, no rapid guess. The minima for a fit do not apply.
    """

    def __init__(self, rows: pa.Table, times: ItemTimes, end: datetime, dated: Mapping[str, DatedTimes]) -> None:
        """rows: `candidates` of whole learners until `end`. dated: the times of scales on which ability moves."""
        self._user, self.user_ids = codes(rows["user_id"])
        self._item, self.item_ids = codes(rows["item_id"])
        completed = rows["completed_at"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        self._completed, self._end = completed.to_numpy(), end
        self._facts = rows.drop_columns(["user_id", "item_id", "completed_at"])
        self._times, self._dated = times, dated

    @property
    def until(self) -> int:
        """The end, in microseconds since 1970."""
        return microseconds(self._end)

    @classmethod
    def read(
        cls,
        run: Run,
        start: datetime,
        end: datetime,
        scales: Mapping[str, Scale],
        everybody: Run | None = None,
        dated: Mapping[str, DatedTimes] = NOT_DATED,
    ) -> EligibleAnswers:
        """everybody: where the whole log is, if `run` reads some learners' alone: items' times are everybody's."""
        rows = run(candidates(start, end, scales))
        return cls(rows, compute_item_times(everybody or run, end, lookback_start(start, scales)), end, dated)

    @classmethod
    def in_parts(
        cls,
        run: Run,
        end: datetime,
        scales: Mapping[str, Scale],
        everybody: Run | None = None,
        dated: Mapping[str, DatedTimes] = NOT_DATED,
    ) -> Iterator[EligibleAnswers]:
        """The same of all answers that count for abilities at the end, some learners at a time where the engine gives
        its rows in parts."""
        start = abilities_start(end, scales)
        times = compute_item_times(everybody or run, end, lookback_start(end - LOOKBACK, scales))
        for rows in run.parts(candidates(start, end, scales), "user_id"):
            yield cls(rows, times, end, dated)

    def of(self, scale: Scale, items: Collection[str], withdrawn: Withdrawals) -> Eligible:
        """The eligible responses to `items` by the rules of `scale` that count for abilities at the end, but not those
        given while the item was `withdrawn`."""
        wanted = np.isin(self.item_ids, list(items))
        since = microseconds(ability_start(self._end, scale))
        rows = np.flatnonzero(wanted[self._item] & (self._completed >= since))
        rows = rows[~withdrawn.mask(self._item[rows], self.item_ids, self._completed[rows])]
        facts = self._facts.take(pa.array(rows))
        times = self._dated.get(scale.scale_id, self._times).among(self.item_ids)
        usual = times.of(self._item[rows], self._completed[rows])
        attempts = attempts_of(facts, self._user[rows], self._item[rows], *usual)
        judgement = judge(attempts, scale.rules, min_learner=False, min_item=False)
        kept = rows[judgement.scored]
        most = attempts.max_score
        return Eligible(
            self._user[kept],
            self._item[kept],
            judgement.score[judgement.scored],
            self.until - self._completed[kept],
            None if most is None else most[judgement.scored],
        )
