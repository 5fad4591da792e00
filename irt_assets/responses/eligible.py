"""The answers that learners are scored by on Spark, where attempts of the lake have no verdicts yet.

What does not belong here: the facts (see `facts`) and what is scored with the answers.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.psychometrics.eligibility.attempts import judge
from irt_assets.responses.columns import attempts_of, codes, instants
from irt_assets.responses.facts import LOOKBACK, abilities_start, candidates, lookback_start
from irt_assets.responses.item_times import NOT_DATED, DatedTimes, compute_item_times
from irt_assets.responses.scales import Scale
from resources.cluster.relational import Run

COLUMNS = ["user_id", "item_id", "completed_at"]


def judge_candidates(
    run: Run, end: datetime, scales: Mapping[str, Scale], dated: Mapping[str, DatedTimes] = NOT_DATED
) -> Iterator[pa.Table]:
    """The answers that count for abilities at `end`, with the columns of `scored_answers`, judged by the present rules.

    In parts with all answers of their learners. `dated`: the times of scales on which ability moves.
    """
    start = abilities_start(end, scales)
    times = compute_item_times(run, end, lookback_start(end - LOOKBACK, scales))
    for rows in run.parts(candidates(start, end, scales), "user_id"):
        parts = []
        for scale_id, scale in scales.items():
            found = rows.filter(pc.equal(rows["scale_id"], scale_id))
            item, item_ids = codes(found["item_id"])
            usual = dated.get(scale_id, times).among(item_ids).of(item, instants(found["completed_at"]))
            attempts = attempts_of(found, codes(found["user_id"])[0], item, *usual)
            judgement = judge(attempts, scale.rules, min_learner=False, min_item=False)
            most = found["max_score"] if "max_score" in found.column_names else pa.nulls(found.num_rows, pa.int16())
            found = found.select(COLUMNS).append_column("score", pa.array(judgement.score, pa.int16()))
            parts.append(found.append_column("max_score", most.cast(pa.int16())).filter(pa.array(judgement.scored)))
        yield pa.concat_tables(parts)
