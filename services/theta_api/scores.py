"""The score in a response: the issued score that counts, or the score of θ."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg

from irt_assets.abilities.online import Measures, Theta
from irt_assets.scales.scale import Scale
from irt_assets.scores.issued import counting_scores, issued_scores
from irt_assets.scores.reported import report_thetas
from resources.failures import PermanentFailure
from services.theta_api.schemas import ReportedScore

Scores = dict[str, dict[str, Any] | None]
"""The fields of a learner's score by scale."""


def read_scores(
    connection: psycopg.Connection, measures: Measures, user_id: str, thetas: Mapping[str, Theta]
) -> Scores:
    """The learner's scores by scale. The database is not queried if no scale of `thetas` reports scores.

    A learner whose sittings on a scale are all held or invalid has no score on it, not even the score of θ.
    """
    scales = {
        name: measure.scale
        for name, measure in measures.scales.items()
        if name in thetas and measure.scale.rules.scores.score_slope
    }
    rows = issued_scores(connection, user_id=user_id) if scales else []
    issued = {row.scale_id for row in rows}
    found = {
        name: theta_body(scale, thetas[name])
        for name, scale in scales.items()
        if scale.rules.scores.score_by == "theta" and name not in issued
    }
    return found | {name: score_body(vars(score)) for (_, name), score in counting_scores(rows, scales).items()}


def score_body(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a score in a response; fields that `values` lacks are null."""
    body = {name: values.get(name) for name in ReportedScore.model_fields}
    return body | {name: utc_text(body[name]) for name in ("sat_at", "issued_at")}


def theta_body(scale: Scale, theta: Theta) -> dict[str, Any] | None:
    """The score of θ, by its total standard error if that is known. Returns None if the pass mark cannot be used."""
    se = theta.se if theta.se_total is None else theta.se_total
    try:
        reported = report_thetas(scale, np.array([theta.theta]), np.array([se]))
    except PermanentFailure:  # `irt scores` and the assets name the fault; θ is right without the score
        return None
    given = {name: column[0].item() for name, column in reported._asdict().items() if column is not None}
    return score_body(given | {"sat_at": theta.as_of})


def utc_text(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
