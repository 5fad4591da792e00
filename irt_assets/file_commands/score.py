"""`irt score`: abilities from a file of answers and a table of item parameters."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from irt_assets.common.wording import some_of
from irt_assets.file_commands import Scoring
from irt_assets.file_commands.files import Answers, write_whole
from irt_assets.file_commands.tables import ParameterTable, parameter_csv
from irt_psychometrics.items import finite
from irt_psychometrics.scoring import Scores
from irt_psychometrics.scoring import score as score_by
from resources.failures import PermanentFailure

COLUMNS = ("person", "theta", "se")


@dataclass(frozen=True)
class ScoredPersons:
    """Persons in the order of their file.

    Attributes:
        ignored: items of the answers that have no parameters.
        unanswered: items with parameters that have no answers.
    """

    person_ids: tuple[str, ...]
    scores: Scores
    ignored: tuple[str, ...]
    unanswered: tuple[str, ...] = ()

    def as_dict(self) -> list[dict[str, Any]]:
        """A row per person. θ is None where it is not finite: ML of an all-right or all-wrong pattern."""
        columns = (self.person_ids, self.scores.theta, self.scores.se)
        return [
            {"person": person, "theta": finite(theta), "se": finite(se)}
            for person, theta, se in zip(*columns, strict=True)
        ]

    def write(self, folder: Path) -> None:
        """`scores.csv` and `scores.json` in `folder`; the first writes an infinite θ as inf or -inf."""
        columns = (self.person_ids, self.scores.theta.tolist(), self.scores.se.tolist())
        rows = [
            {"person": person, "theta": None if np.isnan(theta) else theta, "se": None if np.isnan(se) else se}
            for person, theta, se in zip(*columns, strict=True)
        ]
        content = json.dumps(self.as_dict(), ensure_ascii=False, indent=1) + "\n"
        write_whole(folder, {"scores.csv": parameter_csv(rows, COLUMNS), "scores.json": content})


def score(answers: Answers, params: ParameterTable, *, method: Scoring = "eap", partial: bool = False) -> ScoredPersons:
    """Abilities on the scale of `params`. EAP and MAP take θ ~ N(params.mean, params.sd²) as their prior.

    `partial`: also if less than half of the items of `params` have answers. Raises PermanentFailure if they have and it
    is not set, and if no item of the answers has parameters.
    """
    responses = answers.responses
    known = {*params.item_ids}
    answered = {responses.item_ids[j] for j in np.unique(responses.item)}
    ignored = tuple(item for item in responses.item_ids if item not in known)
    unanswered = tuple(item for item in params.item_ids if item not in answered)
    if len(ignored) == responses.n_items:
        raise PermanentFailure(
            f"{params.path}: none of its {len(known)} items with parameters is among the {responses.n_items} items of"
            f" the answers ({some_of(responses.item_ids, 5)}): are the ids written alike?"
        )
    if 2 * len(unanswered) > len(known) and not partial:
        raise PermanentFailure(
            f"{params.path}: {len(unanswered)} of its {len(known)} items have no answers ({some_of(unanswered, 5)}). Is"
            " it the table of the test that was taken? If the test has only some items of a bank: --partial"
        )
    items = params.among(responses.item_ids)
    own, of = (items.a, items.d, items.c), params
    scores = score_by(responses, *own, others=items.others, method=method, mean=of.mean, sd=of.sd)
    return ScoredPersons(answers.person_ids, scores, ignored, unanswered)
