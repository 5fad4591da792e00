"""Learners' abilities from eligible answers at a time: how they changed within a month, and where they are now.

Abilities are of the answers from `facts.ability_start` on, with the set in force at the end and against the scale's
population: the same answers give the same θ as `abilities.batch`. What does not belong here: KPIs and reasons (see
`record`).
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from irt_assets.abilities.batch import estimate_with_errors
from irt_assets.kpis.behaviour import microseconds
from irt_assets.kpis.meaning import LEAST_ANSWERS
from irt_assets.ledger.publications import PublishedSet
from irt_assets.psychometrics.core.items import ItemParameters
from irt_assets.psychometrics.core.models import Floats, Responses
from irt_assets.psychometrics.scoring.progress import improvement, variance_since
from irt_assets.responses.eligible import Eligible, EligibleAnswers
from irt_assets.responses.item_times import NOT_DATED, DatedTimes
from irt_assets.responses.scales import Scale
from irt_assets.responses.window import categories_of
from resources.cluster.relational import Run

FORTNIGHT = timedelta(days=14)
COLUMNS = {
    "user_id": object,
    "scale_id": object,
    "n_recent": np.int64,
    "n_previous": np.int64,
    "improvement": np.float64,
    "theta": np.float64,
    "se": np.float64,
    "se_total": np.float64,
    "weeks": np.float64,
    "since": np.float64,
}


def abilities(
    run: Run,
    end: datetime,
    scales: Mapping[str, Scale],
    published: Mapping[str, PublishedSet],
    everybody: Run | None = None,
    dated: Mapping[str, DatedTimes] = NOT_DATED,
) -> pd.DataFrame:
    """A row per learner and scale with an eligible answer to a published item that counts for abilities at `end`.

    n_recent, n_previous: eligible answers of the last 14 days and of the 14 before; improvement: see
    `progress.improvement`, NaN unless both are at least 5; theta, se, se_total: EAP; weeks: since the last eligible
    answer; since: by how much the variance of θ has grown in them. `everybody`, `dated`: see `EligibleAnswers`.
    """
    parts = []
    for eligible in EligibleAnswers.in_parts(run, end, scales, everybody, dated):
        for scale_id, scale in scales.items():
            answers = eligible.of(scale, published[scale_id].items, published[scale_id].withdrawn)
            if answers.score.size:
                parts.append(_abilities(eligible, answers, scale, published[scale_id]))
    return pd.concat(parts) if parts else pd.DataFrame({name: np.array([], kind) for name, kind in COLUMNS.items()})


def _abilities(eligible: EligibleAnswers, answers: Eligible, scale: Scale, published: PublishedSet) -> pd.DataFrame:
    item_ids, column = _present(eligible.item_ids, answers.item)
    n_scores = 2 if answers.max_score is None else int(answers.max_score.max()) + 1
    order = np.argsort((answers.user.astype(np.int64) * len(item_ids) + column) * n_scores + answers.score)
    user_ids, person = _present(eligible.user_ids, answers.user[order])
    first = np.searchsorted(person, np.arange(user_ids.size))
    ids: tuple[str, ...] = tuple(item_ids.tolist())
    categories = None if answers.max_score is None else categories_of(column, answers.max_score, ids)
    age = answers.age[order]
    responses = Responses(
        person, column[order], answers.score[order], user_ids.size, ids, categories, at=eligible.until - age
    )
    items = ItemParameters.of_rows(responses.item_ids, map(published.items.get, responses.item_ids))
    recent = age <= microseconds(FORTNIGHT)
    previous = ~recent & (age <= microseconds(2 * FORTNIGHT))
    counts = [np.bincount(responses.person[rows], minlength=user_ids.size) for rows in (recent, previous)]
    scores = estimate_with_errors(responses, published, scale)
    weeks = np.minimum.reduceat(age, first) / microseconds(timedelta(weeks=1))
    enough = np.minimum(*counts) >= LEAST_ANSWERS
    return pd.DataFrame(
        {
            "user_id": user_ids,
            "scale_id": scale.scale_id,
            "n_recent": counts[0],
            "n_previous": counts[1],
            "improvement": _improvement(
                responses, recent, (recent | previous) & enough[responses.person], items, scale
            ),
            "theta": scores.theta,
            "se": scores.se,
            "se_total": scores.se_total,
            "weeks": weeks,
            "since": variance_since(scale.movement, weeks),
        }
    )


def _present(
    labels: npt.NDArray[np.object_], codes: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.int32]]:
    """The labels that occur, and the codes among these."""
    occurs = np.zeros(labels.size, dtype=bool)
    occurs[codes] = True
    return labels[occurs], (np.cumsum(occurs, dtype=np.int32) - 1)[codes]


def _improvement(
    responses: Responses, recent: np.ndarray, used: np.ndarray, items: ItemParameters, scale: Scale
) -> Floats:
    """Shape (n_persons,): for the learners of the responses `used`, NaN for the others."""
    changed = np.full(responses.n_persons, np.nan)
    persons, person = np.unique(responses.person[used], return_inverse=True)
    part = replace(responses.of_rows(used), person=person.astype(np.int32), n_persons=len(persons))
    changed[persons] = improvement(part, recent[used], items.curves, mean=scale.mu, sd=scale.sigma)
    return changed
