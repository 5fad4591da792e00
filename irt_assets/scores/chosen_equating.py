"""The equating that a person has chosen for a form: its raw scores as raw scores of an older form, and their θ.

The numbers are stored with the choice, so a later month does not change them. `equating` computes them.
"""

from dataclasses import dataclass

import numpy as np
import psycopg
from pydantic import TypeAdapter

from irt_assets.common.arrays import Floats
from irt_assets.responses.scale_decisions import EQUATING_OF
from irt_psychometrics.scoring import ScoreScale, ScoreTable


@dataclass(frozen=True)
class ChosenEquating:
    """Equivalents of a new form's raw scores 0 … K on an old form with a released table.

    Attributes:
        old: the old form.
        table_id: its released table.
        method: method and design, such as linear, tucker; common items.
        equated, equated_se: raw scores of the old form, not rounded, with the errors of equating.
        value: place on the reported scale before slope and intercept, from the old form's table.
        theta, theta_se: θ of the old form's scores, and its error with the error of equating.
    """

    old: str
    table_id: int
    method: str
    equated: tuple[float, ...]
    equated_se: tuple[float, ...]
    value: tuple[float, ...]
    theta: tuple[float, ...]
    theta_se: tuple[float, ...]

    def convert(self, line: ScoreScale, norm_counts: tuple[int, ...] | None, mark: float | None) -> ScoreTable:
        """The score table of the new form."""
        theta, se = np.array(self.theta), np.array(self.theta_se)
        note = f"Raw scores are equated to {self.old} ({self.method}), whose table {self.table_id} gives the scores."
        made = ScoreTable.from_values(np.array(self.value), se, line, norm_counts=norm_counts, mark=mark, notes=(note,))
        return made.with_theta(theta, se)


def chosen_equatings(connection: psycopg.Connection, scale_id: str) -> dict[str, ChosenEquating]:
    """The equating in force of each new form: its newest choice, unless that is an undo."""
    newest = connection.execute(
        """SELECT DISTINCT ON (subject) substr(subject, %s), value FROM scale_decision
           WHERE scale_id = %s AND starts_with(subject, %s) ORDER BY subject, decision_id DESC""",
        (len(EQUATING_OF) + 1, scale_id, EQUATING_OF),
    )
    return {form: _parse(value) for form, value in newest if value != "null"}


def _parse(value: str) -> ChosenEquating:
    return TypeAdapter(ChosenEquating).validate_json(value)


def as_floats(values: Floats) -> tuple[float, ...]:
    """Numbers that JSON can hold."""
    return tuple(map(float, values))
