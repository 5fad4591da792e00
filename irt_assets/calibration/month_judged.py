"""The state of a month of a scale from its evidence: the one place that judges it.

It loads nothing that computes, so that the exporter judges by it too. What does not belong here: reading the evidence
(see `month_status`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from irt_assets.ledger.steps import Step

DECIDED = "decided, to be made again"
NO_ANSWERS = "no answers"
NOT_JUDGED = "not judged"
"""The reason of a gate that fails only because another one does begins with these words."""
MONTHLY_ASSETS = ("scored_responses", "item_calibration", "linked_item_parameters", "published_item_parameters")


class State(StrEnum):
    """State of a month of a scale, worst first. One that was red is stale once a person has decided what to change."""

    RED = "red"
    STALE = "stale"
    PENDING = "pending"
    RUNNING = "running"
    MISSING = "missing"
    GREEN = "green"


@dataclass(frozen=True)
class MonthState:
    """What state a month of a scale is in, why, and what to do about it. `asset`: the one at which the month stands."""

    month: str
    scale_id: str
    state: State
    why: str
    asset: str = MONTHLY_ASSETS[-1]

    @property
    def is_empty(self) -> bool:
        """Whether the month has no answers, and so nothing to be made from."""
        return self.why == NO_ANSWERS


@dataclass(frozen=True)
class GateStatus:
    """The latest evaluation of a set gate: None where it was never evaluated or its run was killed. `asked`: whether a
    run ever set out to evaluate it."""

    passed: bool | None
    why: str
    asset: str = MONTHLY_ASSETS[-1]
    asked: bool = True


@dataclass(frozen=True)
class Newer:
    """What is newer than a month's numbers, the asset to be made again first, and whether a person decided so."""

    why: str
    asset: str
    decided: bool = False


def classify_month(
    month: str,
    scale_id: str,
    gates: dict[str, GateStatus],
    step: Step | None,
    changed: Newer | None,
    running: bool,
    has_snapshot: bool,
    failure: str | None = None,
    has_answers: bool = True,
) -> MonthState:
    """The state of a month of a scale from its evidence.

    `changed` says what is newer than the month's numbers, `failure` why it could not be fitted or linked.
    """

    def state(value: State, why: str, asset: str = MONTHLY_ASSETS[-1]) -> MonthState:
        return MonthState(month, scale_id, value, why, asset)

    if running:
        return state(State.RUNNING, "a run of the month is queued or under way")
    if not has_snapshot:
        why = f"never materialised: `irt calibrate --month {month}`" if has_answers else NO_ANSWERS
        return state(State.MISSING, why, MONTHLY_ASSETS[0])
    if changed and changed.decided:  # what held the month may no longer do so
        return state(State.STALE, f"{DECIDED}: {changed.why}", changed.asset)
    if step is not None:
        gates = _of_its_time(gates)
    failed = {name: status for name, status in gates.items() if status.passed is False}
    if failed:
        failures = {name: status.why for name, status in failed.items() if not status.why.startswith(NOT_JUDGED)}
        return state(State.RED, "; ".join(f"{name}: {why}" for name, why in failures.items()), _first(failed))
    unknown = {name: status for name, status in gates.items() if status.passed is None}
    if unknown and step is None and failure is None and not any(status.asked for status in unknown.values()):
        why = f"its answers are scored and nothing was fitted: `irt calibrate --month {month}`"
        return state(State.MISSING, why, _first(unknown))
    if unknown:
        why = failure or "a run ended early, materialise the month again"
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


def _of_its_time(gates: dict[str, GateStatus]) -> dict[str, GateStatus]:
    """The gates without those that did not exist when a month was judged: only others of their asset were evaluated."""
    judged = {status.asset for status in gates.values() if status.asked}
    return {name: status for name, status in gates.items() if status.asked or status.asset not in judged}


def _first(gates: dict[str, GateStatus]) -> str:
    return next(iter(gates.values())).asset
