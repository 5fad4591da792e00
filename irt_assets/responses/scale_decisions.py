"""What people decided on a scale's model, its priors and how its learners' abilities move, and what of it holds for a
window.

A decision holds for windows that begin at its `effective_from` or later, until a later decision on the same subject.
Where none holds, the model is the one that `irt scale init` stored, there is no prior, and abilities stand still. Rows
are never changed. What does not belong here: what a new model does to months and anchors, and another movement to
learners (see `decisions.model_change`, `decisions.movement_change`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import psycopg

from irt_psychometrics.items import Priors
from irt_psychometrics.scoring import Movement
from resources.postgres.database import records

Subject = Literal[
    "model",
    "prior_a",
    "prior_b",
    "prior_c",
    "occasions",
    "ability_variance",
    "ability_growth",
    "occasion_variance",
    "guessing",
    "misfit",
]
OF_THE_MODEL: tuple[Subject, ...] = ("model", "prior_a", "prior_b", "prior_c", "occasions")
"""Subjects that a fit depends on."""
ACCEPTABLE: tuple[Subject, ...] = ("guessing", "misfit")
"""Subjects that are accepted, with a reason, where they hold a month."""
PRIORS: Mapping[Subject, str] = {"prior_a": "a", "prior_b": "b", "prior_c": "c"}
"""Subject → the parameter that the prior is on."""
MOVEMENT: Mapping[Subject, tuple[str, float, float]] = {
    "ability_variance": ("variance", 0.0, 1.0),
    "ability_growth": ("growth", -1.0, 1.0),
    "occasion_variance": ("occasion_variance", 0.0, 4.0),
}
"""Subject → the part of a `Movement` that it sets, the least and the greatest value."""
AUTO = "auto"
"""Value of a part of the movement: proposals are wanted, and the number in force stays."""
ACCEPTED = "accepted"
REFERENCE = "reference"
"""Subject of misfit: it is accepted, and the decision's first month is what later ones are compared with."""


@dataclass(frozen=True)
class ScaleDecision:
    """A row of `scale_decision`."""

    decision_id: int
    scale_id: str
    subject: Subject
    value: str
    effective_from: datetime
    decided_by: str
    reason: str
    decided_at: datetime


def read_decisions(connection: psycopg.Connection, scale_id: str | None = None) -> list[ScaleDecision]:
    """The decisions on a scale (None: on every one), in the order in which they were made."""
    return records(
        connection,
        ScaleDecision,
        """SELECT decision_id, scale_id, subject, value, effective_from, decided_by, reason, decided_at
               FROM scale_decision WHERE %(scale)s::text IS NULL OR scale_id = %(scale)s ORDER BY decision_id""",
        {"scale": scale_id},
    )


def record_decisions(
    connection: psycopg.Connection,
    scale_id: str,
    values: Mapping[Subject, str],
    effective_from: datetime,
    *,
    by: str,
    reason: str,
) -> None:
    """Append a decision on each subject, in the caller's transaction."""
    connection.cursor().executemany(
        """INSERT INTO scale_decision (scale_id, subject, value, effective_from, decided_by, reason)
               VALUES (%s, %s, %s, %s, %s, %s)""",
        [(scale_id, subject, value, effective_from, by, reason) for subject, value in values.items()],
    )


def decision_in_force(
    decisions: Iterable[ScaleDecision], subject: Subject, window_start: datetime | None
) -> ScaleDecision | None:
    """The newest of one scale's `decisions` on `subject` that a window from `window_start` on follows (None: the
    newest of all)."""
    return max(
        (
            decision
            for decision in decisions
            if decision.subject == subject and (window_start is None or decision.effective_from <= window_start)
        ),
        key=lambda decision: decision.decision_id,
        default=None,
    )


def priors_in_force(decisions: Iterable[ScaleDecision], window_start: datetime | None) -> Priors | None:
    """The scale's own priors; None where it has none. Raises PsychometricsError for a prior that cannot be read."""
    decisions = list(decisions)
    chosen: dict[str, Any] = {}
    for subject, parameter in PRIORS.items():
        decided = decision_in_force(decisions, subject, window_start)
        chosen[parameter] = Priors.parse(parameter, decided.value) if decided else None
    priors = Priors(**chosen)
    return None if priors == Priors() else priors


def movement_in_force(decisions: Iterable[ScaleDecision], at: datetime | None) -> Movement:
    """How abilities of a scale move as of a time (None: by the newest decisions of all).

    A month's abilities are those of its end, so a decision from October on first counts after 1 October 00:00.
    """
    numbers = [
        decision
        for decision in decisions
        if decision.subject in MOVEMENT and decision.value != AUTO and (at is None or decision.effective_from < at)
    ]
    decided = {subject: decision_in_force(numbers, subject, None) for subject in MOVEMENT}
    return Movement(
        **{part: float(found.value) for subject, (part, *_) in MOVEMENT.items() if (found := decided[subject])}
    )


def proposals_wanted(decisions: Iterable[ScaleDecision]) -> bool:
    """Whether the newest decision on a part of one scale's movement is `auto`."""
    decisions = list(decisions)
    newest = (decision_in_force(decisions, subject, None) for subject in MOVEMENT)
    return any(decided is not None and decided.value == AUTO for decided in newest)
