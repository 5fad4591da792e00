"""Answers of a month or a day as item analysis counts them."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.responses.columns import instants, max_scores, numbers
from irt_assets.responses.eligibility.attempts import Reason
from irt_assets.responses.facts import KEY, SCORES
from irt_assets.responses.window import given_points

COLUMNS = (
    *(KEY, "item_id", "scale_id", "form_id", "position", "correct", "response", "response_time_ms", "hints_used"),
    *("completed_at", "reason", "score", *SCORES),
)
"""The columns of judged attempts that item analysis reads."""
MIN_COMPLETE_SHARE = 0.8
"""Share of a form's learners that must have a score on all its items for the statistics of the sum score."""
FEW = (Reason.FEW_LEARNER_RESPONSES, Reason.FEW_ITEM_RESPONSES)


def read_answers(table: pa.Table, scale_id: str) -> pd.DataFrame:
    """The live attempts of real learners on a scale, one row each.

    Columns: learner, item, form (empty: practice), position, at (µs), option (None: not known), seconds, score,
    max_score, and whether the attempt is counted (it has a score, or 0 for an omission), answered, not_reached, rapid
    and seed (a seed draw chose the item). Seed answers are counted, but do not belong to a form. The minima of
    responses per learner and item do not apply.
    """
    table = table.filter(pc.equal(table["scale_id"], scale_id))
    reason = pc.fill_null(table["reason"].cast(pa.string()), "").to_numpy(zero_copy_only=False)
    answered = pc.is_valid(table["correct"]).to_numpy(zero_copy_only=False)
    points = np.where(reason == "", numbers(table["score"], -1), np.where(answered, given_points(table), 0))
    ms = numbers(pc.cast(table["response_time_ms"], pa.float64()), np.nan)
    most = max_scores(table)
    frame = pd.DataFrame(
        {
            "learner": table[KEY].to_numpy(),
            "item": table["item_id"].cast(pa.string()).to_pandas(),
            "form": pc.fill_null(table["form_id"].cast(pa.string()), "").to_pandas(),
            "position": numbers(table["position"], 0),
            "at": instants(table["completed_at"]),
            "option": [text or None for text in table["response"].to_pylist()],
            "seconds": np.where(ms > 0, ms / 1000, np.nan),
            "score": points,
            "max_score": np.ones(len(points), dtype=int) if most is None else most,
            "counted": np.isin(reason, ["", Reason.SEED, *map(str, FEW)]) & (points >= 0),
            "answered": answered,
            "not_reached": reason == Reason.NOT_REACHED,
            "rapid": reason == Reason.RAPID,
            "seed": reason == Reason.SEED,
        }
    )
    of_others = np.isin(reason, [str(Reason.SANDBOX), str(Reason.TEST_ACCOUNT)])
    return frame[~of_others].drop_duplicates(["learner", "form", "item"], ignore_index=True)


def complete_form(answers: pd.DataFrame, form: pd.DataFrame) -> pd.DataFrame | None:
    """The rows of the learners who have a score on all items of the form. Returns None if they are too few.

    `form` has the columns of `forms`, and no rows if the form is not known. Items that a learner did not reach, or that
    have no row although the form has them, have the score 0. Learners with an answer that does not count are left out.
    """
    scored = form[form["scored"].astype(bool)].set_index("item_id")
    if len(form):
        answers = answers[answers["item"].isin(scored.index)]
    sat = answers[answers["counted"] | (answers["not_reached"] & (answers["form"] != ""))]
    learners = pd.unique(sat["learner"][sat["answered"]])
    rejected = answers["learner"][~answers.index.isin(sat.index)]
    sat = sat[sat["learner"].isin(learners) & ~sat["learner"].isin(rejected)]
    if sat.empty:
        return None
    if len(form):
        sat = _fill(sat, scored["position"])
    n = sat.groupby("learner")["item"].transform("size")
    sat = sat[n == sat["item"].nunique()]
    enough = sat["learner"].nunique() >= MIN_COMPLETE_SHARE * len(learners)
    return sat.assign(score=sat["score"].where(sat["counted"], 0)) if enough else None


def _fill(sat: pd.DataFrame, positions: pd.Series) -> pd.DataFrame:
    """Add a row for each item of the form without an attempt: omitted, or not reached if it is at the form's end."""
    positions = positions[positions.index.isin(sat["item"])]
    whole = pd.MultiIndex.from_product([sat["learner"].unique(), positions.index], names=["learner", "item"])
    added = whole.difference(pd.MultiIndex.from_frame(sat[["learner", "item"]])).to_frame(index=False)
    if added.empty:
        return sat
    last = sat["item"].map(positions)[sat["answered"]].groupby(sat["learner"]).max()
    late = added["item"].map(positions) > added["learner"].map(last)
    added = added.assign(
        form=sat["form"].iloc[0],
        score=0,
        max_score=added["item"].map(sat.groupby("item")["max_score"].first()),
        counted=~late,
        answered=False,
        not_reached=late,
        rapid=False,
    )
    return pd.concat([sat, added], ignore_index=True)
