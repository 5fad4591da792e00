"""Learners' abilities at a time, from eligible answers: the change within a month, and the present θ.

Abilities use the answers from `facts.ability_start` on, the set in force at the end and the scale's population: the
same answers give the same θ as `abilities.batch`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from irt_assets.abilities.batch import estimate_with_errors
from irt_assets.common.arrays import Floats
from irt_assets.kpis.behaviour import microseconds
from irt_assets.kpis.kpi_definitions import MIN_ANSWERS
from irt_assets.kpis.progress import improvement, variance_since
from irt_assets.ledger.publications import PublishedSet
from irt_assets.responses.facts import ability_start
from irt_assets.responses.scored_answers import answers_to, responses_of
from irt_assets.scales import item_status
from irt_assets.scales.scale import Scale
from irt_psychometrics import ItemParameters, Responses
from irt_psychometrics.scoring import Curves

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
    parts: Iterable[pa.Table], end: datetime, scales: Mapping[str, Scale], published: Mapping[str, PublishedSet]
) -> pd.DataFrame:
    """A row per learner and scale with an answer to a published item that counts for abilities at `end`.

    Args:
        parts: `scored_answers` before `end`; all answers of a learner are in one part.

    The columns are

    - n_recent, n_previous: answers of the last 14 days, and of the 14 days before them;
    - improvement: see `progress.improvement`; NaN unless both counts are at least 5;
    - theta, se, se_total: EAP with its errors;
    - weeks: weeks since the last answer;
    - since: increase of the variance of θ in these weeks.
    """
    found = []
    for part in parts:
        for scale_id, scale in scales.items():
            answers = answers_to(part, published[scale_id].items, ability_start(end, scale))
            responses, users = responses_of(answers, published[scale_id].withdrawn)
            if responses.n_responses:
                found.append(_abilities(responses, users, end, scale, published[scale_id]))
    return pd.concat(found) if found else pd.DataFrame({name: np.array([], kind) for name, kind in COLUMNS.items()})


def _abilities(
    responses: Responses, users: npt.NDArray[np.object_], end: datetime, scale: Scale, published: PublishedSet
) -> pd.DataFrame:
    assert responses.at is not None
    age = item_status.microseconds(end) - responses.at
    first = np.searchsorted(responses.person, np.arange(users.size))
    items = ItemParameters.from_rows(responses.item_ids, map(published.items.get, responses.item_ids))
    recent = age <= microseconds(FORTNIGHT)
    previous = ~recent & (age <= microseconds(2 * FORTNIGHT))
    counts = [np.bincount(responses.person[rows], minlength=users.size) for rows in (recent, previous)]
    scores = estimate_with_errors(responses, published, scale)
    weeks = np.minimum.reduceat(age, first) / microseconds(timedelta(weeks=1))
    enough = np.minimum(*counts) >= MIN_ANSWERS
    return pd.DataFrame(
        {
            "user_id": users,
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


def _improvement(
    responses: Responses, recent: np.ndarray, used: np.ndarray, items: ItemParameters, scale: Scale
) -> Floats:
    """`progress.improvement` by learner, shape (n_persons,); NaN for learners without responses in `used`."""
    changed = np.full(responses.n_persons, np.nan)
    persons, person = np.unique(responses.person[used], return_inverse=True)
    part = replace(responses.of_rows(used), person=person.astype(np.int32), n_persons=len(persons), key=None)
    curves = Curves.from_items(items.curves, mean=scale.mu, sd=scale.sigma)
    changed[persons] = improvement(part, recent[used], curves)
    return changed
