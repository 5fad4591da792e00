"""Read and store proposals for the growth and variance of a scale's abilities, which `decisions.movement_proposal`
estimates."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from irt_psychometrics.scoring import Movement
from resources.postgres.database import record


@dataclass(frozen=True)
class MovementProposal:
    """A row of `movement_proposal`, stored or about to be.

    Attributes:
        why_not: reason why nothing is proposed; empty if something is.
        variance, growth, occasion_variance: None if they were not estimated.
    """

    scale_id: str
    month: str
    why_not: str = ""
    variance: float | None = None
    growth: float | None = None
    occasion_variance: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    proposed_at: datetime | None = None

    @property
    def movement(self) -> Movement | None:
        """The proposed values. Returns None if nothing is proposed."""
        if self.why_not or self.variance is None or self.growth is None or self.occasion_variance is None:
            return None
        return Movement(self.variance, self.growth, self.occasion_variance)


def store_proposal(connection: psycopg.Connection, proposal: MovementProposal) -> None:
    """Store a proposal, in the caller's transaction."""
    connection.execute(
        """INSERT INTO movement_proposal (scale_id, month, why_not, variance, growth, occasion_variance, details)
           VALUES (%s, %s, %s, %s, %s, %s, %s)""",
        (
            *(proposal.scale_id, proposal.month, proposal.why_not),
            *(proposal.variance, proposal.growth, proposal.occasion_variance),
            json.dumps(proposal.details, allow_nan=False),
        ),
    )


def newest_proposal(connection: psycopg.Connection, scale_id: str) -> MovementProposal | None:
    """The newest proposal of a scale, or None."""
    return record(
        connection,
        MovementProposal,
        """SELECT scale_id, month, why_not, variance, growth, occasion_variance, details, proposed_at
           FROM movement_proposal WHERE scale_id = %s ORDER BY proposal_id DESC LIMIT 1""",
        (scale_id,),
    )
