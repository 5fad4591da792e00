"""A month's state in words: whether the month is safe to release, the short reason, and the next step."""

import re

from irt_assets.blocks import Span, Text
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import quantity, with_capital
from irt_assets.gates.gates import SET_GATES
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.ledger.steps import Step

MAX_REASON_LENGTH = 100
NOTHING_TO_DO = "nothing to do"
_GATES = re.compile("|".join(f"{gate.name}: " for gate in SET_GATES))


def shorten_reason(reason: str) -> str:
    """The first clause of a reason, without the gate's name in front of it."""
    clause = re.split(r"[:;] | \(", _GATES.sub("", reason, count=1), maxsplit=1)[0]
    return clause if len(clause) <= MAX_REASON_LENGTH else f"{clause[:MAX_REASON_LENGTH].rpartition(' ')[0]} …"


def verdict(state: MonthState, waiting: int, step: Step | None) -> str:
    """Whether the month is safe to release, in one or two sentences. `step`: its publication step, if it has one."""
    name, short = state.month, shorten_reason(state.why)
    match state.state:
        case State.GREEN:
            wait = f"{waiting_decisions(waiting)}." if waiting else "nothing waits for a decision."
            return f"{name} is green and safe to release; {wait}"
        case State.RED:
            published = step is not None and step.settled_at is not None
            publication = "What it published before stays in force." if published else "Nothing of it was published."
            return f"{name} is red and not safe to release: {short}. {publication}"
        case State.STALE:
            return f"{name} is not safe to release yet: {short}."
        case State.PENDING:
            return f"{name} is not released yet: it {short}."
        case State.RUNNING:
            wait = (
                with_capital(waiting_decisions(waiting)) if waiting else "Its decisions follow when its runs have ended"
            )
            return f"{name} is not settled yet: {short}. {wait}."
        case State.EMPTY:
            return f"{name} has no answers."
        case State.ORIGIN:
            return f"{name} is {state.why}."
        case _:
            return f"{name} has not been calibrated: {short}."


def waiting_decisions(n: int) -> str:
    """Such as "2 decisions wait" or "1 decision waits"."""
    return f"{quantity(n, 'decision')} {'waits' if n == 1 else 'wait'}"


def next_step(state: MonthState, waiting: int) -> Text:
    """The next step for the month, as a link or a command."""
    fields = {"month": state.month, "scale": state.scale_id}
    by_hand = Span(f"irt calibrate --month {state.month}", "code")
    match state.state:
        case State.GREEN if waiting:
            return page_link(waiting_decisions(waiting), "decisions", **fields)
        case State.GREEN:
            return NOTHING_TO_DO
        case State.RED:
            return page_link("why, and what to do", "month", **fields)
        case State.PENDING:
            return "follows by itself"
        case State.RUNNING:
            runs = page_link("what runs", "health")
            return (runs, ", ", page_link(waiting_decisions(waiting), "decisions", **fields)) if waiting else runs
        case State.STALE:
            return page_link("recompute it", "month", **fields), " or ", by_hand
        case State.ORIGIN:
            return page_link("look at the window's fit", "month", **fields)
        case State.EMPTY:
            return Span("irt import attempts FILE", "code")
        case _:
            return by_hand
