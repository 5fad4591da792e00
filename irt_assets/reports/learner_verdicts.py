"""Turn a learner's numbers into verdicts on KPIs and topics, and into next steps.

Verdicts are keys of the catalogues, so they are the same in every language. The reasons for each limit are in
docs/reference/learner-reports.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from irt_assets.kpis.kpi_definitions import RANGES, NullReason

KPIS = ("P", "I_t", "R_t", "A_t", "S", "E_t")
"""KPIs in the order of the report."""
LADDERS: dict[str, tuple[tuple[float, str], ...]] = {
    "I_t": ((0.4, "up"), (0.2, "perhaps_up"), (-0.2, "steady"), (-0.4, "perhaps_down"), (-1.0, "down")),
    "E_t": ((0.2, "faster"), (0.0, "same")),
    "R_t": ((0.7, "most"), (0.4, "half"), (0.0, "few")),
    "A_t": ((0.6, "strong"), (0.45, "fair"), (0.0, "low")),
    "P": ((0.9, "reached"), (0.65, "near"), (0.35, "open"), (0.1, "away"), (0.0, "far")),
    "S": ((0.6, "pause"), (0.3, "loose"), (0.0, "steady")),
}
"""Lower limits of each KPI's verdicts, highest first."""
FEW_ANSWERS = 10
"""Minimum number of eligible answers for a verdict on a topic."""
CERTAIN = 1.645
"""Posterior mean over SD at which the topic is easier (or harder) than others with a probability of 95 %."""
MAX_STEPS = 3


@dataclass(frozen=True)
class Topic:
    """A topic of a learner in the last eight weeks.

    Attributes:
        answers: number of live answers, counted as in the daily features.
        correct: number of correct ones.
        judged: number of eligible answers to published items. A question omitted in an exam counts as wrong.
        difference: ability in the topic minus the learner's θ; posterior mean (`topic_differences`).
        error: posterior SD of the difference.
        name: name of the topic in the learner's language; "" if the bank has no name.
    """

    topic_id: str
    answers: int
    correct: int
    judged: int = 0
    difference: float = 0.0
    error: float = 1.0
    name: str = ""

    @property
    def label(self) -> str:
        return self.name or self.topic_id

    @property
    def verdict(self) -> str:
        """`strong`, `weak`, `even` or `few`."""
        if self.judged < FEW_ANSWERS:
            return "few"
        if abs(self.difference) < CERTAIN * self.error:
            return "even"
        return "strong" if self.difference > 0 else "weak"


def verdict(kpi: str, value: float) -> str:
    """Verdict on a KPI's value. Raises ValueError if the value is outside the KPI's range."""
    low, high = RANGES[kpi]
    if not low <= value <= high:
        raise ValueError(f"{kpi} = {value}, expected {low:g} to {high:g}")
    return next(word for limit, word in LADDERS[kpi] if value >= limit)


def reason_key(kpis: Mapping[str, Any], kpi: str) -> str:
    """Key of the reason why a KPI is null; `other` for a reason that this code does not know."""
    stored = kpis["why"].get(kpi)
    return next((reason.name for reason in NullReason if reason == stored), "other")


def sorted_topics(topics: Sequence[Topic], verdict: str) -> list[Topic]:
    """Topics with the verdict: the largest differences first, or for `even` and `few` the most answers first."""
    found = [topic for topic in topics if topic.verdict == verdict]
    if verdict in ("strong", "weak"):
        return sorted(found, key=lambda t: (-abs(t.difference), t.topic_id))
    return sorted(found, key=lambda t: (-t.answers, t.topic_id))


def next_steps(kpis: Mapping[str, Any], topics: Sequence[Topic], *, answered: bool) -> list[tuple[str, str]]:
    """One to three next steps, most urgent first, as pairs of key under `steps` and topic name (or '')."""
    far = kpis["P"] is not None and verdict("P", kpis["P"]) in ("away", "far")
    return [*_steps(kpis, topics, answered)][:MAX_STEPS] or [("easier" if far else "keep_going", "")]


def _steps(kpis: Mapping[str, Any], topics: Sequence[Topic], answered: bool) -> Iterator[tuple[str, str]]:
    weak, strong = (sorted_topics(topics, name) for name in ("weak", "strong"))
    if not answered:
        yield ("come_back_topic", weak[0].label) if weak else ("come_back", "")
    elif weak:
        yield "weak", weak[0].label
    if kpis["R_t"] is None:
        if reason_key(kpis, "R_t") == "NOT_AGAIN":
            yield "retry", ""
    elif kpis["R_t"] < LADDERS["R_t"][1][0]:
        yield "explain", ""
    elif kpis["R_t_coverage"] < 0.5:
        yield "retry", ""
    if answered and kpis["S"] is not None and verdict("S", kpis["S"]) != "steady":
        yield "routine", ""
    if answered and kpis["I_t"] is None and reason_key(kpis, "I_t") in ("FEW_RECENT", "FEW_PREVIOUS"):
        yield "new_questions", ""
    if kpis["P"] is None:
        if reason_key(kpis, "P") == "NO_TARGET":
            yield "set_goal", ""
    elif verdict("P", kpis["P"]) == "reached":
        yield "raise_goal", ""
    if answered and strong:
        yield "harder", strong[0].label
