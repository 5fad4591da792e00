"""Determine the state of a month of a scale from its evidence. No other code determines it.

`month_status` reads the evidence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from irt_assets.blocks import Badge, Tone
from irt_assets.ledger.steps import Step

DECIDED = "decided, to be made again"
NOT_JUDGED = "not judged"
"""First words of a gate's reason if the gate fails only because a different gate fails."""
MONTHLY_ASSETS = ("scored_responses", "item_calibration", "linked_item_parameters", "published_item_parameters")
SCORED, FITTED, LINKED, PUBLISHED = MONTHLY_ASSETS


class State(StrEnum):
    """State of a month of a scale, worst first.

    A red month becomes stale when a person has decided on a change. `EMPTY` means that the month has no answers.
    `ORIGIN` means that the month is part of the origin window and needs no fit of its own, unless its answers change.
    """

    RED = "red"
    STALE = "stale"
    PENDING = "pending"
    RUNNING = "running"
    MISSING = "missing"
    EMPTY = "empty"
    ORIGIN = "origin"
    GREEN = "green"

    @property
    def badge(self) -> Badge:
        return Badge(self.value, _TONES.get(self, "neutral"))


_TONES: dict[State, Tone] = {
    State.GREEN: "good",
    State.PENDING: "info",
    State.RUNNING: "info",
    State.STALE: "warning",
    State.RED: "bad",
}


@dataclass(frozen=True)
class MonthState:
    """State of a month of a scale.

    Attributes:
        why: the reason, with the remedy if something has to be done.
        asset: the asset that failed or is missing or stale; the last monthly asset if the state concerns no other.
    """

    month: str
    scale_id: str
    state: State
    why: str
    asset: str = MONTHLY_ASSETS[-1]


@dataclass(frozen=True)
class GateStatus:
    """The result of a set gate.

    Attributes:
        passed: the result, or None if the gate was not evaluated.
        why: the reason.
        asset: the asset that the gate checks.
    """

    passed: bool | None
    why: str
    asset: str = MONTHLY_ASSETS[-1]

    @property
    def follows(self) -> bool:
        """Whether the gate fails only because a different gate fails."""
        return self.why.startswith(NOT_JUDGED)

    @property
    def failed_itself(self) -> bool:
        return self.passed is False and not self.follows


class Cause(StrEnum):
    """Causes that make a month stale."""

    ANSWERS = "other answers"
    RULES = "rules or model changed by a decision"
    DECISION = "anchors or reference changed by a decision"
    STEP = "a step without the next"


@dataclass(frozen=True)
class Newer:
    """The reason why a month of a scale is stale, its cause, and the first asset to materialise again."""

    why: str
    asset: str
    cause: Cause

    @property
    def decided(self) -> bool:
        """Whether a person's decision is the cause, so a failed gate may pass now."""
        return self.cause is Cause.RULES or (self.cause, self.asset) == QUESTIONS["other_anchors"]


QUESTIONS = {
    "other_answers": (Cause.ANSWERS, SCORED),
    "other_eligibility": (Cause.RULES, SCORED),
    "scored_alone": (Cause.STEP, FITTED),
    "other_model": (Cause.RULES, FITTED),
    "other_reference": (Cause.DECISION, FITTED),
    "fitted_alone": (Cause.STEP, LINKED),
    "other_anchors": (Cause.DECISION, LINKED),
    "other_linking": (Cause.RULES, LINKED),
    "other_limits": (Cause.RULES, PUBLISHED),
    "linked_alone": (Cause.STEP, PUBLISHED),
}
"""Possible reasons why a month is stale, each with its cause and the asset to make again. The first that applies
counts."""


def first_newer(answers: Mapping[str, str | None]) -> Newer | None:
    """The first of `QUESTIONS` that has a reason in `answers`. Returns None if the month is not stale.

    `answers` maps a question to the reason why it makes the month stale, or to None.
    """
    for question, (cause, asset) in QUESTIONS.items():
        if why := answers.get(question):
            return Newer(why, asset, cause)
    return None


@dataclass(frozen=True, kw_only=True)
class MonthEvidence:
    """The evidence on a month of a scale.

    Attributes:
        gates: the set gates that count, by name.
        step: the publication step, or None if it has not run.
        changed: the first reason why the month is stale, or None if it is not.
        running: whether a run of the month is queued or has started.
        answers: whether the month has answers on the scale, and "scored" if it has a snapshot.
        was_fitted: whether the scale's engine has ever tried to fit the month.
        failure: why the month could not be fitted or linked, or None if it could.
        drift_begins: the first month after the scale's origin window if the month is part of this window.
    """

    gates: Mapping[str, GateStatus]
    step: Step | None = None
    changed: Newer | None = None
    running: bool = False
    answers: Literal["none", "unscored", "scored"] = "scored"
    was_fitted: bool = True
    failure: str | None = None
    drift_begins: str | None = None


def classify_month(month: str, scale_id: str, evidence: MonthEvidence) -> MonthState:
    """Determine the state of a month of a scale, with the reason, from its evidence."""
    step, changed, drift_begins = evidence.step, evidence.changed, evidence.drift_begins

    def state(value: State, why: str, asset: str = MONTHLY_ASSETS[-1]) -> MonthState:
        return MonthState(month, scale_id, value, why, asset)

    def missing(reason: str, asset: str) -> MonthState:
        if drift_begins:
            why = f"part of the origin window, and drift begins after it, in {drift_begins}"
            return state(State.ORIGIN, why, asset)
        return state(State.MISSING, f"{reason}: `irt calibrate --month {month}`", asset)

    if evidence.running:
        return state(State.RUNNING, "a run of the month is queued or under way")
    if evidence.answers != "scored":
        if evidence.answers == "none" and not drift_begins:
            return state(State.EMPTY, "no answers", SCORED)
        return missing("never materialised", SCORED)
    if changed and changed.decided:  # the gates that held the month may pass now
        return state(State.STALE, f"{DECIDED}: {changed.why}", changed.asset)
    failed = {name: status for name, status in evidence.gates.items() if status.passed is False}
    if failed:
        failures = {name: status.why for name, status in failed.items() if not status.follows}
        return state(State.RED, "; ".join(f"{name}: {why}" for name, why in failures.items()), _first(failed))
    unknown = {name: status for name, status in evidence.gates.items() if status.passed is None}
    if unknown and not (step or evidence.was_fitted or evidence.failure) and not (drift_begins and changed):
        return missing("its answers are scored, but nothing was fitted", _first(unknown))
    if unknown and (step or evidence.was_fitted or evidence.failure):
        why = evidence.failure or "a run ended early, materialise the month again"
        return state(State.RED, f"{why} (not evaluated: {', '.join(unknown)})", _first(unknown))
    if changed:
        return state(State.STALE, f"{changed.why}: materialise the month again", changed.asset)
    if step is None:
        return state(State.RED, "its publication step has not run: materialise published_item_parameters")
    if step.state == "pending":
        return state(State.PENDING, step.why)
    if step.state == "held":
        return state(State.RED, step.why)
    return state(State.GREEN, step.why)


def _first(gates: Mapping[str, GateStatus]) -> str:
    return next(iter(gates.values())).asset
