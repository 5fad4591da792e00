"""`score`: abilities from a file of answers and a table of item parameters."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from irt_psychometrics.commands.answers import Answers
from irt_psychometrics.commands.output import Report, ReportTable, csv_of, rows_of, write_whole
from irt_psychometrics.commands.parameters import ParameterTable
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.scoring import Scores, estimate_abilities

Scoring = Literal["eap", "map", "wle", "ml"]
COLUMNS = ("person", "theta", "se")
MAX_SHOWN = 20
"""Number of persons in the table of a report; files and JSON contain all persons."""


@dataclass(frozen=True)
class ScoredPersons:
    """Persons in the order of their file.

    Attributes:
        params: file of the item parameters.
        n_known: number of items in this file that have parameters.
        person_ids: the persons' ids.
        scores: their abilities.
        ignored: items of the answers that have no parameters.
        unanswered: items with parameters that have no answers.
    """

    params: Path
    n_known: int
    person_ids: tuple[str, ...]
    scores: Scores
    ignored: tuple[str, ...]
    unanswered: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """Sentences about items with answers but no parameters, and about items with parameters but no answers."""
        found = []
        if self.ignored:
            found.append(
                f"{self.params} has no parameters for {len(self.ignored)} items, whose answers do not count:"
                f" {some_of(self.ignored)}"
            )
        if self.unanswered:
            found.append(
                f"{len(self.unanswered)} of the {self.n_known} items of {self.params} have no answers:"
                f" {some_of(self.unanswered)}"
            )
        return found

    def report(self) -> Report:
        """Report on the first persons."""
        rows = [tuple(row.values()) for row in self.as_dict()]
        table = ReportTable(COLUMNS, rows[:MAX_SHOWN], {"theta": ".3f", "se": ".3f"})
        if len(rows) <= MAX_SHOWN:
            return [table]
        return [table, f"… and {len(rows) - MAX_SHOWN:,} more: --json prints all, --out FOLDER writes them"]

    def as_dict(self) -> list[dict[str, Any]]:
        """A row for each person. θ is None if it is not finite, such as the ML estimate of an all-right pattern."""
        return rows_of({"person": self.person_ids, "theta": self.scores.theta, "se": self.scores.se})

    def write(self, folder: Path) -> None:
        """Write `scores.csv` and `scores.json` into `folder`.

        An infinite θ is inf or -inf in the CSV and null in the JSON.
        """
        columns = (self.person_ids, self.scores.theta.tolist(), self.scores.se.tolist())
        rows = [
            {"person": person, "theta": None if np.isnan(theta) else theta, "se": None if np.isnan(se) else se}
            for person, theta, se in zip(*columns, strict=True)
        ]
        content = json.dumps(self.as_dict(), ensure_ascii=False, indent=1) + "\n"
        write_whole(folder, {"scores.csv": csv_of(rows, COLUMNS), "scores.json": content})


def score(answers: Answers, params: ParameterTable, *, method: Scoring = "eap", partial: bool = False) -> ScoredPersons:
    """Score persons on the scale of `params`.

    Parameters
    ----------
    answers
        The answers.
    params
        The item parameters. The prior of EAP and MAP is θ ~ N(params.mean, params.sd²).
    method
        "eap", "map", "wle" or "ml".
    partial
        Whether fewer than half of the items of `params` may have answers.

    Returns
    -------
    ScoredPersons
        The persons in the order of their file, with their abilities.

    Raises
    ------
    PsychometricsError
        If no item of the answers has parameters, or, unless `partial`, if fewer than half of the items of `params` have
        answers.
    """
    responses = answers.responses
    known = {*params.item_ids}
    answered = {responses.item_ids[j] for j in np.unique(responses.item)}
    ignored = tuple(item for item in responses.item_ids if item not in known)
    unanswered = tuple(item for item in params.item_ids if item not in answered)
    if len(ignored) == responses.n_items:
        raise PsychometricsError(
            f"{params.path}: its {len(known)} items with parameters do not include any of the {responses.n_items} items"
            f" of the answers ({some_of(responses.item_ids)}). Are the ids written alike?"
        )
    if 2 * len(unanswered) > len(known) and not partial:
        raise PsychometricsError(
            f"{params.path}: {len(unanswered)} of its {len(known)} items have no answers ({some_of(unanswered)}). Is"
            " it the table of the test that was taken? If the test has only some items of a bank: --partial"
        )
    items = params.among(responses.item_ids)
    scores = estimate_abilities(
        responses, items.a, items.d, items.c, others=items.others, method=method, mean=params.mean, sd=params.sd
    )
    return ScoredPersons(params.path, len(params.item_ids), answers.person_ids, scores, ignored, unanswered)
