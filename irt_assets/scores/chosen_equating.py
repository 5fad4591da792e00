"""The equating that a person has chosen for a form: its raw scores as raw scores of an older form, and their θ.

The numbers are stored with the choice, so a later month does not change them. `equating` computes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import psycopg
from pydantic import TypeAdapter

from irt_assets.scales.scale import Scale
from irt_assets.scales.scale_decisions import EQUATING_OF
from irt_assets.scores.reported import reported_scale, score_mark
from irt_psychometrics.scoring import ScoreTable
from resources.failures import PermanentFailure


@dataclass(frozen=True)
class ChosenEquating:
    """Equivalents of a new form's raw scores 0 … K on an old form with a released table.

    Attributes:
        old: the old form.
        table_id: its released table.
        method: method and design, such as linear-tucker, common items.
        equated, equated_se: raw scores of the old form, not rounded, with the errors of equating.
        value, value_se: place on the reported scale before slope and intercept, from the old form's table, and its
            error with the error of equating.
        theta, theta_se: the same for θ; empty if the old form's table has no θ.
        mark: the old table's pass mark before slope and intercept, which normalised scores keep. None without a mark.
        unit: unit of the old table's pass mark and line (`ScoreRules.unit`).
    """

    old: str
    table_id: int
    method: str
    equated: tuple[float, ...]
    equated_se: tuple[float, ...]
    value: tuple[float, ...]
    value_se: tuple[float, ...]
    theta: tuple[float, ...]
    theta_se: tuple[float, ...]
    mark: float | None = None
    unit: str = "theta"

    def convert(self, scale: Scale, norm_counts: Sequence[int] | None) -> tuple[ScoreTable, float | None]:
        """The score table of the new form, and the lowest unrounded score that passes.

        Raises PermanentFailure if the scale is scored in another unit than the old form's table.
        """
        if self.unit != scale.rules.scores.unit:
            raise PermanentFailure(
                f"table {self.table_id} of form {self.old} must be scored by {scale.rules.scores.unit}, as the scale "
                f"is now, got {self.unit}: release a newer table of {self.old}, then choose the equating again"
            )
        line, mark = reported_scale(scale), score_mark(scale)
        if scale.rules.scores.score_by == "normalised":
            mark = None if self.mark is None else line.slope * self.mark + line.intercept
        value, value_se, unknown = np.array(self.value), np.array(self.value_se), (np.nan,) * len(self.value)
        note = f"Raw scores are equated to {self.old} ({self.method}), whose table {self.table_id} gives the scores."
        made = ScoreTable.from_values(value, value_se, line, norm_counts=norm_counts, mark=mark, notes=(note,))
        return made.with_theta(np.array(self.theta or unknown), np.array(self.theta_se or unknown)), mark


def chosen_equatings(connection: psycopg.Connection, scale_id: str) -> dict[str, ChosenEquating]:
    """The equating in force of each new form: its newest choice, unless that is an undo."""
    newest = connection.execute(
        """SELECT DISTINCT ON (subject) substr(subject, %s), value FROM scale_decision
           WHERE scale_id = %s AND starts_with(subject, %s) ORDER BY subject, decision_id DESC""",
        (len(EQUATING_OF) + 1, scale_id, EQUATING_OF),
    )
    return {form: TypeAdapter(ChosenEquating).validate_json(value) for form, value in newest if value != "null"}
