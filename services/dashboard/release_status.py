"""A month's state in words: whether the month is safe to release, the short reason, and the next step."""

import re
from collections.abc import Mapping

from irt_assets.blocks import Span, Text
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import quantity, with_capital
from irt_assets.gates.gates import SET_GATES
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.ledger.steps import Step

MAX_REASON_LENGTH = 100
"""Maximum length of a short reason in characters."""
NOTHING_TO_DO = "nothing to do"
VERDICTS: Mapping[State, str] = {
    State.GREEN: "{month} is green and safe to release; {waits}.",
    State.RED: "{month} is red and not safe to release: {short}. {published}.",
    State.STALE: "{month} is not safe to release yet: {short}.",
    State.PENDING: "{month} is not released yet: it {short}.",
    State.RUNNING: "{month} is not settled yet: {short}. {follows}.",
    State.EMPTY: "{month} has no answers.",
    State.ORIGIN: "{month} is {why}.",
}
_GATES = re.compile("|".join(f"{gate.name}: " for gate in SET_GATES))


def shorten_reason(reason: str) -> str:
    """The first clause of a reason, without the gate's name in front of it."""
    clause = re.split(r"[:;] | \(", _GATES.sub("", reason, count=1), maxsplit=1)[0]
    return clause if len(clause) <= MAX_REASON_LENGTH else f"{clause[:MAX_REASON_LENGTH].rpartition(' ')[0]} …"


def verdict(state: MonthState, waiting: int, step: Step | None) -> str:
    """Whether the month is safe to release, in one or two sentences. `step`: its publication step, if it has one."""
    published = step is not None and step.settled_at is not None
    decisions = waiting_decisions(waiting)
    return VERDICTS.get(state.state, "{month} has not been calibrated: {short}.").format(
        month=state.month,
        why=state.why,
        short=shorten_reason(state.why),
        published="What it published before stays in force" if published else "Nothing of it was published",
        waits=decisions if waiting else "nothing waits for a decision",
        follows=with_capital(decisions) if waiting else "Its decisions follow when its runs have ended",
    )


def waiting_decisions(n: int) -> str:
    """Such as "2 decisions wait" or "1 decision waits"."""
    return f"{quantity(n, 'decision')} {'waits' if n == 1 else 'wait'}"


def next_step(state: MonthState, waiting: int) -> Text:
    """The next step for the month, as a link or a command."""
    fields = {"month": state.month, "scale": state.scale_id}
    decide = page_link(waiting_decisions(waiting), "decisions", **fields)
    runs = page_link("what runs", "health")
    by_hand = Span(f"irt calibrate --month {state.month}", "code")
    steps: dict[State, Text] = {
        State.GREEN: decide if waiting else NOTHING_TO_DO,
        State.RED: page_link("why, and what to do", "month", **fields),
        State.PENDING: "follows by itself",
        State.RUNNING: (runs, ", ", decide) if waiting else runs,
        State.STALE: (page_link("recompute it", "month", **fields), " or ", by_hand),
        State.ORIGIN: page_link("look at the window's fit", "month", **fields),
        State.EMPTY: Span("irt import attempts FILE", "code"),
    }
    return steps.get(state.state, by_hand)
