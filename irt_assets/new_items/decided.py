"""Decide on new items: show them to learners within limits, stop, reject or retire them, and bring them back."""

from datetime import UTC, date, datetime
from typing import Annotated, Self

import psycopg
from pydantic import BaseModel, Field, model_validator

from irt_psychometrics import PsychometricsError

Answers = Annotated[int, Field(ge=1, le=1_000_000)]


class SeedLimits(BaseModel):
    """Value of a decision to seed an item: limits of the draws.

    Attributes:
        max_answers: most answers in all, with draws that are not answered yet.
        max_per_day: most of them a day (UTC); None: no limit.
        first_day, last_day: days (UTC) between which the item is drawn, both included; None: no limit.
    """

    max_answers: Answers = 400
    max_per_day: Answers | None = None
    first_day: date | None = None
    last_day: date | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.first_day and self.last_day and self.last_day < self.first_day:
            raise PsychometricsError(f"the last day must not be before {self.first_day}, got {self.last_day}")
        return self


def read_seeding(connection: psycopg.Connection, scale_id: str, at: datetime) -> dict[str, SeedLimits]:
    """Read the items of a scale that may be drawn at `at`, with their limits: item → limits.

    These are unpublished items whose last decision seeds them, and which are not rejected, retired or withdrawn.
    """
    rows = connection.execute(
        """SELECT s.subject, s.value
           FROM (SELECT DISTINCT ON (subject) subject, kind, value FROM decision
                 WHERE kind IN ('seed items', 'stop seeding') AND decided_at <= %(at)s
                 ORDER BY subject, decision_id DESC) s
             JOIN item_stage i ON i.item_id = s.subject
           WHERE s.kind = 'seed items' AND i.scale_id = %(scale)s
             AND i.stage NOT IN ('published', 'rejected', 'retired')
             AND NOT EXISTS (SELECT FROM item_withdrawal w WHERE w.item_id = s.subject AND since <= %(at)s
                             AND coalesce(until > %(at)s, true))
           ORDER BY 1""",
        {"scale": scale_id, "at": at},
    )
    limits = {item: SeedLimits.model_validate(value) for item, value in rows}
    day = at.astimezone(UTC).date()
    return {item: each for item, each in limits.items() if (each.first_day or day) <= day <= (each.last_day or day)}
