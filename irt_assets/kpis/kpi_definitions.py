"""The meaning and the range of each KPI, and the reasons why it may be null.

The formulas are in `record` and docs/reference/kpis.md. This module imports nothing, so that any page can use it.
"""

from enum import StrEnum

RANGES = {"I_t": (-1.0, 1.0), "E_t": (0.0, 1.0), "R_t": (0.0, 1.0), "A_t": (0.0, 1.0), "P": (0.0, 1.0), "S": (0.0, 1.0)}
"""The KPIs of a record, each with the range of its values."""
TITLES = {
    "I_t": "improvement",
    "E_t": "efficiency",
    "R_t": "recovery",
    "A_t": "engagement",
    "P": "goal probability",
    "S": "churn risk",
}
"""The name of each KPI."""
MEANINGS = {
    "I_t": "improvement: increase of θ from the previous fortnight to the last one, shrunk towards 0 if there are few "
    "answers",
    "E_t": "efficiency: decrease of the time for a right answer compared with the four weeks before, as a share",
    "R_t": "recovery: share now right among the items that were wrong four to eight weeks ago and were tried again",
    "A_t": "engagement: sessions, gaps between days, hints and time spent, over four weeks; 1 is daily and without "
    "hints",
    "P": "goal probability: probability that the learner's θ is above the target",
    "S": "churn risk: time without an answer, over eight weeks; 1 means that the learner has left",
}
"""Description of each KPI in a sentence; the formulas are in docs/reference/kpis.md."""
MIN_ANSWERS = 5
"""Minimum number of eligible answers in each of the two fortnights."""
MIN_TIMED = 20


class NullReason(StrEnum):
    """Why a KPI is null, in the words of a record."""

    NO_SCALE = "the learner has no target scale, and the bank has several"
    NOTHING_PUBLISHED = "no parameters of the scale were in force"
    FEW_RECENT = f"fewer than {MIN_ANSWERS} eligible answers to published items in the last 14 days"
    FEW_PREVIOUS = f"fewer than {MIN_ANSWERS} eligible answers to published items in the 14 days before the last 14"
    NO_INFORMATION = "the items answered say nothing of ability"
    FEW_TIMED_RECENT = f"fewer than {MIN_TIMED} correct answers with a time in the last 28 days"
    FEW_TIMED_PREVIOUS = f"fewer than {MIN_TIMED} correct answers with a time in the 28 days before the last 28"
    NOTHING_WRONG = "no item was wrong at its last answer 28 to 56 days ago"
    NOT_AGAIN = "no item that was wrong 28 to 56 days ago was answered again"
    NO_TARGET = "the learner has no target ability on this scale"
    NO_ABILITY = "no eligible answer to a published item in 365 days"
    NOT_COMPUTED = "the week's KPIs were not computed"
