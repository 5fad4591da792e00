"""The platform's verdict on the agreement of a month's anchors."""

from __future__ import annotations

from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.scales.rules import Rules
from irt_psychometrics.linking import Linking


def disagree(linking: Linking) -> bool:
    """Whether the gate on agreement holds the month, regardless of the ends of its bank."""
    return bool(LinkingConstants.from_linking(linking).disagreement(Rules().publication))
