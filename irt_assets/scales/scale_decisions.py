"""Decisions on a scale: model, priors, rules, movement of abilities, keys of items, forms, and pass mark.

A decision applies to windows that begin at its `effective_from` or later, until a later decision on the same subject.
Without a decision, `irt scale init` has set the model, there is no prior, and abilities do not move. Rows are never
changed. Rules hold for all months: the scale has their values, and the decision has only the person and the reason.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import psycopg

from irt_assets.common.wording import shorten
from irt_psychometrics.items import Priors
from irt_psychometrics.scoring import Movement
from resources.failures import PermanentFailure
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
MODEL_SUBJECTS: tuple[Subject, ...] = ("model", "prior_a", "prior_b", "prior_c", "occasions")
"""Subjects that a fit depends on."""
Acceptable = Literal["guessing", "misfit"]
ACCEPTABLE: tuple[Acceptable, ...] = ("guessing", "misfit")
"""Subjects that can hold a month, and that a person can accept with a reason."""
PRIORS: Mapping[Subject, str] = {"prior_a": "a", "prior_b": "b", "prior_c": "c"}
"""Subject → the parameter that has the prior."""
MOVEMENT: Mapping[Subject, tuple[str, float, float]] = {
    "ability_variance": ("variance", 0.0, 1.0),
    "ability_growth": ("growth", -1.0, 1.0),
    "occasion_variance": ("occasion_variance", 0.0, 4.0),
}
"""Subject → the field of `Movement` that it sets, and its minimum and maximum."""
KEY_OF, TABLE_OF, EQUATING_OF, FORM_OF = "key:", "scores:", "equating:", "form:"
"""Beginnings of subjects: the key of the item that follows (`decisions.rekey`), or the score table (`scores.releases`),
equating (`scores.chosen_equating`) or items (`adaptive.forms`) of the form that follows."""
STANDARD = "standard"
"""Subject of the pass mark in θ, from a standard setting or not (see `scores.standards`)."""
STANDARD_IN = f"{STANDARD} in "
"""Beginning of the subject of the pass mark in the unit that follows, on scales whose scores need no θ."""
AUTO = "auto"
"""Value of a field of the movement: keep the number in force, and propose changes."""
MAX_TEXT_LENGTH = 2_000
"""Largest length of a name or a reason, in characters. Longer text was probably pasted by mistake."""
ACCEPTED = "accepted"
REFERENCE = "reference"
"""Value of the subject misfit: misfit is accepted, and later months are compared with the decision's first month."""

_WORDS = {
    "theta": "θ = ",
    "raw": "raw score ",
    "percent": "per cent ",
    "percentile": "percentile rank ",
    "method": "",
    "panel": "",
    "change": "",
    "state": "",
    "table": "table ",
    "old": "to ",
    "undoes": "undoes decision ",
}
"""Parts of a value in JSON that a list of decisions names, and the words before them."""


@dataclass(frozen=True)
class ScaleDecision:
    """A row of `scale_decision`. For a rule, `subject` is its name and `value` its value as JSON."""

    decision_id: int
    scale_id: str
    subject: Subject
    value: str
    effective_from: datetime
    decided_by: str
    reason: str
    decided_at: datetime

    @property
    def in_short(self) -> str:
        """The value in a few words, for a list of decisions."""
        found = json.loads(self.value) if self.value.startswith("{") else {}
        words = [
            f"{word}{value:.4g}" if isinstance(value, float) else f"{word}{value}"
            for name, word in _WORDS.items()
            if (value := found.get(name)) is not None
        ]
        return shorten(", ".join(words) or self.value)


def read_decisions(connection: psycopg.Connection, scale_id: str | None = None) -> list[ScaleDecision]:
    """The decisions on a scale (None: all scales), in the order in which they were made."""
    return records(
        connection,
        ScaleDecision,
        """SELECT decision_id, scale_id, subject, value, effective_from, decided_by, reason, decided_at
               FROM scale_decision WHERE %(scale)s::text IS NULL OR scale_id = %(scale)s ORDER BY decision_id""",
        {"scale": scale_id},
    )


def require_text(subject: str, text: str) -> str:
    """Return a name or a reason without surrounding space.

    Raises PermanentFailure if it has no letters or digits, is too long, or has unprintable characters.
    """
    stripped = text.strip()
    if not any(character.isalnum() for character in stripped):
        raise PermanentFailure(f"a decision needs a {subject}, got {text!r}: it is stored for later readers")
    if len(stripped) > MAX_TEXT_LENGTH or any(not c.isprintable() and c not in "\n\t" for c in stripped):
        raise PermanentFailure(f"the {subject} must be text of at most {MAX_TEXT_LENGTH:,} printable characters")
    return stripped


def record_decisions(
    connection: psycopg.Connection,
    scale_id: str,
    values: Mapping[Subject, str] | Mapping[str, str],
    effective_from: datetime | None = None,
    *,
    by: str,
    reason: str,
) -> None:
    """Append a decision on each subject, in the caller's transaction. By default it takes effect now.

    Raises PermanentFailure without a person or a reason.
    """
    by, reason = require_text("name", by), require_text("reason", reason)
    connection.cursor().executemany(
        """INSERT INTO scale_decision (scale_id, subject, value, effective_from, decided_by, reason)
               VALUES (%s, %s, %s, coalesce(%s, now()), %s, %s)""",
        [(scale_id, subject, value, effective_from, by, reason) for subject, value in values.items()],
    )


def standing_decisions(decisions: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Find the decisions on one subject that neither undo another one nor are undone, by their `undoes`.

    Raises PermanentFailure if no decision, which is of this kind in words, stands.
    """
    undone = {decision["undoes"] for decision in decisions}
    standing = [d for d in decisions if d["undoes"] is None and d["decision_id"] not in undone]
    if not standing:
        raise PermanentFailure(f"no {kind} stands, so there is nothing to undo")
    return standing


def decision_in_force(
    decisions: Iterable[ScaleDecision], subject: Subject, window_start: datetime | None
) -> ScaleDecision | None:
    """The newest of one scale's `decisions` on `subject` that applies to a window from `window_start` on.

    If `window_start` is None, the newest decision of any date. Returns None if there is no such decision.
    """
    return max(
        (
            decision
            for decision in decisions
            if decision.subject == subject and (window_start is None or decision.effective_from <= window_start)
        ),
        key=lambda decision: decision.decision_id,
        default=None,
    )


def marks_in_force(decisions: Iterable[ScaleDecision]) -> dict[str, float]:
    """The newest pass mark of one scale by unit, of scores without θ."""
    marks = dict[str, float | None]()
    for decision in decisions:
        if decision.subject.startswith(STANDARD_IN):
            unit = decision.subject.removeprefix(STANDARD_IN)
            marks[unit] = json.loads(decision.value)[unit]
    return {unit: mark for unit, mark in marks.items() if mark is not None}


def priors_in_force(decisions: Iterable[ScaleDecision], window_start: datetime | None) -> Priors | None:
    """The scale's own priors. Returns None if no prior is decided. Raises PsychometricsError for an invalid prior."""
    decisions = list(decisions)
    chosen: dict[str, Any] = {}
    for subject, parameter in PRIORS.items():
        decided = decision_in_force(decisions, subject, window_start)
        chosen[parameter] = Priors.parse(parameter, decided.value) if decided else None
    priors = Priors(**chosen)
    return None if priors == Priors() else priors


def movement_in_force(decisions: Iterable[ScaleDecision], at: datetime | None) -> Movement:
    """The movement of a scale's abilities as of a time (None: by the newest decisions).

    A month's abilities are as of its end, so a decision with effect from October first counts after 1 October 00:00.
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
    """Whether the newest decision on any field of one scale's movement is `auto`."""
    decisions = list(decisions)
    newest = (decision_in_force(decisions, subject, None) for subject in MOVEMENT)
    return any(decided is not None and decided.value == AUTO for decided in newest)
