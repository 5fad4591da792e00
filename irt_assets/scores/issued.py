"""Scores that were handed out: reading them, and the score of a learner that counts.

Rows are only ever added. The newest row of a sitting is its current score; `issuing` adds rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import psycopg

from irt_assets.responses.eligibility.rules import RetestRule
from resources.postgres.database import records

Status = Literal["issued", "held", "invalid"]
"""issued: handed out. held: not handed out until somebody decides. invalid: does not count."""


@dataclass(frozen=True, kw_only=True)
class IssuedScore:
    """A row of `issued_score`; its columns explain the fields. `issued_id` and `issued_at` are None until it is
    stored."""

    user_id: str
    scale_id: str
    form_id: str
    session_id: str
    sat_at: datetime
    raw: int | None
    theta: float
    theta_se: float
    scaled: float
    scaled_se: float
    percentile: float | None
    passes: bool | None
    pass_probability: float | None
    table_id: int | None
    set_hash: str
    status: Status
    decided_by: str
    reason: str
    replaces: int | None = None
    issued_id: int | None = None
    issued_at: datetime | None = None

    @property
    def sitting(self) -> tuple[str, str, str, str]:
        return self.user_id, self.scale_id, self.form_id, self.session_id


def issued_scores(
    connection: psycopg.Connection,
    *,
    scale_id: str | None = None,
    form_id: str | None = None,
    user_id: str | None = None,
) -> list[IssuedScore]:
    """All rows, in the order in which they were added. None: all scales, forms or learners."""
    return records(
        connection,
        IssuedScore,
        """SELECT user_id, scale_id, form_id, session_id, sat_at, raw, theta, theta_se, scaled, scaled_se, percentile,
                  passes, pass_probability, table_id, set_hash, status, replaces, decided_by, reason, issued_id,
                  issued_at
           FROM issued_score
           WHERE (%(scale)s::text IS NULL OR scale_id = %(scale)s) AND (%(form)s::text IS NULL OR form_id = %(form)s)
             AND (%(user)s::text IS NULL OR user_id = %(user)s) ORDER BY issued_id""",
        {"scale": scale_id, "form": form_id, "user": user_id},
    )


def current_scores(
    connection: psycopg.Connection,
    *,
    scale_id: str | None = None,
    form_id: str | None = None,
    user_id: str | None = None,
) -> list[IssuedScore]:
    """The newest row of each sitting, by time of the sitting."""
    newest = {
        row.sitting: row for row in issued_scores(connection, scale_id=scale_id, form_id=form_id, user_id=user_id)
    }
    return sorted(newest.values(), key=lambda row: row.sat_at)


def score_that_counts(scores: Iterable[IssuedScore], retest: RetestRule) -> IssuedScore | None:
    """The score of a learner on a scale that counts among the current scores of the sittings: the last, or the best.

    Returns None if no score is handed out.
    """
    issued = sorted((score for score in scores if score.status == "issued"), key=lambda score: score.sat_at)
    if retest == "best":
        return max(issued, key=lambda score: score.scaled, default=None)
    return issued[-1] if issued else None
