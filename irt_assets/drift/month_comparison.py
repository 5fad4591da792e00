"""Compare a month's items with the set in force when it began, for all assets of drift.

ledger/values_with_errors.py reads the values; month.py and information.py use the verdict.
"""

from dataclasses import dataclass

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.drift.uncompared_months import not_judged_reason
from irt_assets.ledger.anchors import read_every_anchor
from irt_assets.ledger.values_with_errors import (
    LinkedWindow,
    SetInForce,
    compare_with_published,
    linked_window,
    set_in_force_with_errors,
)
from irt_assets.scales.scale import Scale, accepted_subjects
from irt_psychometrics import PsychometricsError
from irt_psychometrics.drift import Drift
from irt_psychometrics.linking import AnchorSet


@dataclass(frozen=True)
class ComparedMonth:
    """A month's linked fit, the set in force when the month began, and the verdict on their common items."""

    window: LinkedWindow
    anchors: AnchorSet
    at: SetInForce
    drift: Drift


def compare_month(connection: psycopg.Connection, scale: Scale, month: str) -> ComparedMonth:
    """Compare a month with the set in force when it began. Raises PsychometricsError if the month is not judged."""
    if red := not_judged_reason(connection, scale, month):
        raise PsychometricsError(f"not judged: {red}")
    start = Month(month).start
    window = linked_window(connection, scale, month)
    anchors = read_every_anchor(connection, scale.scale_id, scale.anchor_version)
    if window is None or anchors is None:
        raise PsychometricsError(f"{month} has no converged fit that was linked to the anchors")
    at = set_in_force_with_errors(connection, scale, start, anchors)
    if not at.published.item_ids:
        raise PsychometricsError(f"no item had published parameters on {start:%Y-%m-%d}")
    comparison = compare_with_published(window, anchors, at, start)
    accepted = "misfit" in accepted_subjects(connection, scale.scale_id, start)
    drift = Drift.from_comparison(
        comparison,
        mean=scale.mu,
        sd=scale.sigma,
        item_variation=scale.rules.linking.item_variation,
        max_item_variation=scale.rules.warnings.item_variation_max,
        misfit_accepted=accepted,
    )
    return ComparedMonth(window, anchors, at, drift)
