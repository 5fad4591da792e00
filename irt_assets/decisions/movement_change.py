"""Preview and decide changes to the movement of a scale's abilities (variance and growth) for future months.

Only θ and its readers depend on it; fits, linkings, published values and drift do not. `scales.scale_decisions`
reads the values in force; `abilities.batch` computes θ.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace as with_changes

import numpy as np
import psycopg

from irt_assets.abilities.batch import last_measured_month, score_learners, stale_months
from irt_assets.common.partitions import Month
from irt_assets.decisions.model_change import DatedChange, first_open_month, newest_decision, start_of
from irt_assets.decisions.release_impact import ThetaShift
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.ledger.steps import last_done_month
from irt_assets.scales.scale import initialised_scale, read_scales
from irt_assets.scales.scale_decisions import (
    AUTO,
    MOVEMENT,
    ScaleDecision,
    Subject,
    decision_in_force,
    movement_in_force,
    read_decisions,
    record_decisions,
)
from irt_psychometrics.scoring import Movement
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock

TOLERANCE = 1e-9
"""Largest difference between two values of θ, or two standard errors, that count as equal."""


@dataclass(frozen=True)
class MovementEffect(ThetaShift):
    """Effect of a change on the θ of learners at a month's end.

    Attributes:
        why: reason why no learner could be scored; empty if some were. The numbers are zero if it is set.
        changed: number of `learners` whose θ or standard error changes by more than 1e-9.
        added: number of learners who are measured only after the change, because it looks further back.
        se, se_after: mean standard errors before and after the change.
    """

    month: str
    why: str = ""
    changed: int = 0
    added: int = 0
    se: float = 0.0
    se_after: float = 0.0

    @property
    def sentence(self) -> str:
        """Text that a person reads before deciding."""
        if self.why:
            return f"the effect on learners cannot be shown: {self.why}"
        added = f"; {self.added:,} more would be measured" if self.added else ""
        return (
            f"{self.changed:,} of {self.learners:,} learners of {self.month} would get another θ: "
            f"{self.shift_in_words}; mean standard error {self.se:.3f} → {self.se_after:.3f}; "
            f"{self.passing_in_words}{added}"
        )


@dataclass(frozen=True)
class MovementChange(DatedChange):
    """A decision on the movement of a scale's abilities, and its effects.

    Attributes:
        before: movement of abilities before the change.
        overtaken: decisions for later months that no longer apply.
        effect: effect on learners, or None if the movement stays the same.
        stale: months whose abilities have to be measured again.
    """

    before: Movement
    overtaken: tuple[ScaleDecision, ...] = ()
    effect: MovementEffect | None = None
    stale: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """Text that a person reads before deciding."""
        if not self.values:
            return [f"scale {self.scale_id}: these values already hold from {self.first_month} on"]
        change = ", ".join(
            f"{subject} {getattr(self.before, MOVEMENT[subject][0]):g} → {value}"
            for subject, value in self.values.items()
        )
        lines = [f"scale {self.scale_id}: {change} from {self.first_month} on; months before stay as they are"]
        lines += [f"no longer holds: {d.subject} {d.value} from {d.effective_from:%Y-%m} on" for d in self.overtaken]
        if AUTO in self.values.values():
            lines.append("auto: values are proposed, and the values in force stay until somebody decides")
        if self.effect is not None:
            lines.append(self.effect.sentence)
        lines.append(
            f"abilities to be measured again: {', '.join(self.stale)}" if self.stale else "no month becomes stale"
        )
        return [*lines, "fits, linkings, published values and drift stay"]


def preview_movement_change(
    database: Database,
    scale_id: str,
    values: Mapping[Subject, str],
    first_month: str | None,
    *,
    calibrations_begin: str,
) -> MovementChange:
    """Compute the effects of deciding on `values` (subject → number or `auto`) from `first_month` on. Writes nothing.

    first_month: None for the month after the last done month, or `calibrations_begin` if no month is done.

    Raises PermanentFailure if the scale has no origin or a value is out of range.
    """
    with database.connect() as connection, connection.transaction(force_rollback=True):
        change = _requested_change(connection, scale_id, values, first_month, calibrations_begin)
        if not change.values:
            return change
        end = Month(max(change.first_month, _last_scored_month(connection, scale_id) or "")).end
        before = movement_in_force(read_decisions(connection, scale_id), end)
        change = _write(connection, change, by="preview", reason="preview")
        after = movement_in_force(read_decisions(connection, scale_id), end)
        if after == before:
            return change
        return with_changes(change, effect=movement_effect(connection, scale_id, before, after))


def decide_movement_change(database: Database, change: MovementChange, *, by: str, reason: str) -> MovementChange:
    """Record the previewed decision by `by`.

    Raises PermanentFailure if the scale or its months have changed since the preview.
    """
    with database.connect() as connection:
        advisory_lock(connection, "ledger", change.scale_id)
        change.require_unchanged(connection)
        return _write(connection, change, by=by, reason=reason)


def movement_effect(connection: psycopg.Connection, scale_id: str, before: Movement, after: Movement) -> MovementEffect:
    """Score the learners of the last month with both movements, by the function that measures abilities."""
    month = _last_scored_month(connection, scale_id)
    if month is None:
        return MovementEffect("", "no month of the scale has been measured yet")
    end = Month(month).end
    scale, published = read_scales(connection, end)[scale_id], set_with_errors(connection, scale_id, end)
    old, new = (
        score_learners(connection, end, with_changes(scale, movement=movement), published, Counter())
        for movement in (before, after)
    )
    _, in_old, in_new = np.intersect1d(old["user_id"], new["user_id"], assume_unique=True, return_indices=True)
    if not in_old.size:
        return MovementEffect(month, f"no answers to published items before {end:%Y-%m-%d}")
    theta, theta_after = old["theta"].to_numpy()[in_old], new["theta"].to_numpy()[in_new]
    se, se_after = old["se"].to_numpy()[in_old], new["se"].to_numpy()[in_new]
    changed = (np.abs(theta_after - theta) > TOLERANCE) | (np.abs(se_after - se) > TOLERANCE)
    return MovementEffect(
        month,
        changed=int(changed.sum()),
        added=len(new) - in_new.size,
        se=float(se.mean()),
        se_after=float(se_after.mean()),
        **ThetaShift.from_thetas(theta, theta_after, scale.pass_theta).as_dict(),
    )


def _last_scored_month(connection: psycopg.Connection, scale_id: str) -> str | None:
    """The last month whose publication step is done or, without one, the last month with abilities."""
    return last_done_month(connection, scale_id) or last_measured_month(connection, scale_id)


def _requested_change(
    connection: psycopg.Connection,
    scale_id: str,
    values: Mapping[Subject, str],
    first_month: str | None,
    calibrations_begin: str,
) -> MovementChange:
    """The change without its effects. Values that are in force already are left out."""
    month = first_month or first_open_month(connection, scale_id) or calibrations_begin
    start_of(month)
    initialised_scale(connection, scale_id, Month(month).start)
    decisions = read_decisions(connection, scale_id)
    requested = {subject: _parse(subject, text) for subject, text in values.items()}
    new = {subject: value for subject, value in requested.items() if _differs(decisions, subject, value, month)}
    later = [d for d in decisions if new.get(d.subject, AUTO) != AUTO and d.effective_from > Month(month).start]
    return MovementChange(
        scale_id,
        month,
        new,
        movement_in_force(decisions, Month(month).end),
        tuple(d for d in later if decision_in_force(decisions, d.subject, d.effective_from) == d),
        by_default=first_month is None,
        newest_decision=newest_decision(connection, scale_id),
    )


def _differs(decisions: list[ScaleDecision], subject: Subject, value: str, month: str) -> bool:
    """Whether the value differs from the decision in force from that month on, or a later decision replaces it."""
    if any(decision.subject == subject and decision.effective_from > Month(month).start for decision in decisions):
        return True
    decided = decision_in_force(decisions, subject, Month(month).start)
    return value != (decided.value if decided else "0")


def _parse(subject: Subject, text: str) -> str:
    """Convert a value to its stored text. Raises PermanentFailure if it is out of range."""
    _, least, greatest = MOVEMENT[subject]
    if text.strip().lower() == AUTO:
        return AUTO
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= greatest:
        raise PermanentFailure(f"{subject} is a number from {least:g} to {greatest:g}, or auto; got {text!r}")
    return f"{value + 0.0:.10g}"


def _write(connection: psycopg.Connection, change: MovementChange, *, by: str, reason: str) -> MovementChange:
    """Write the change, in the caller's transaction. Returns it with the months whose abilities become stale."""
    before = stale_months(connection)
    record_decisions(connection, change.scale_id, change.values, Month(change.first_month).start, by=by, reason=reason)
    stale = stale_months(connection)
    return with_changes(change, stale=tuple(sorted(m for m in stale if stale[m] != before.get(m))))
