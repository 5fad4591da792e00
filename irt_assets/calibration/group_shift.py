"""Measure and store the shift of a month's anchors, as a group, against the other published items.

The month's linked fit is compared with all values in force. The comparison does not change the linking constants. It
runs after linking, in `linked_item_parameters`, and again at publication if the values in force have changed since.
The gate `anchors_move_with_the_others` reads the stored shift.
"""

import hashlib
import json
from datetime import datetime, timedelta

import numpy as np
import psycopg

from irt_assets.common.partitions import Month
from irt_assets.ledger.anchors import read_every_anchor
from irt_assets.ledger.fits import LinkedFit, linked_fit, read_group_shift, write_group_shift
from irt_assets.ledger.group_shift import GroupShift
from irt_assets.ledger.publications import publications_in_force
from irt_assets.ledger.values_with_errors import (
    compare_with_published,
    linked_window,
    set_in_force_with_errors,
)
from irt_assets.scales.item_status import read_withdrawals
from irt_assets.scales.scale import Scale, read_scales
from resources.postgres.database import Database, advisory_lock


def measure_month(database: Database, month: str) -> None:
    """Measure and store the shift for every scale whose linked fit of the month has no shift yet."""
    start = Month(month).start
    with database.connect() as connection:
        advisory_lock(connection, "linked_item_parameters", month)
        for scale in read_scales(connection, start).values():
            measure_scale(connection, scale, month)


def measure_scale(connection: psycopg.Connection, scale: Scale, month: str) -> None:
    """Measure and store the shift of a scale's linked fit of the month if it has no shift yet."""
    fit = linked_fit(connection, scale.scale_id, "monthly", Month(month).start, scale.engine)
    if fit and read_group_shift(connection, fit.fit_id) is None:
        current_shift(connection, scale, month, fit)


def current_shift(connection: psycopg.Connection, scale: Scale, month: str, fit: LinkedFit) -> GroupShift:
    """Return the anchor shift of a month's linked fit.

    It is measured and stored if it is missing, or if the values in force have changed since: months that run together
    are linked before earlier months are published. The comparison uses the values in force at the month's last
    instant, so a month that runs again is not compared with its own publications.
    """
    last_instant = Month(month).end - timedelta(microseconds=1)
    published = publications_in_force(connection, scale.scale_id, last_instant)
    content = json.dumps([[publication.item_id, *publication.values.scored_with] for publication in published])
    digest = hashlib.sha256(f"{scale.anchor_version} {content}".encode()).hexdigest()
    shift = read_group_shift(connection, fit.fit_id, compared_with=digest)
    if shift is None:
        shift = _measure_shift(connection, scale, month, last_instant)
        write_group_shift(connection, fit.fit_id, shift, digest)
    return shift


def _measure_shift(connection: psycopg.Connection, scale: Scale, month: str, at: datetime) -> GroupShift:
    window = linked_window(connection, scale, month)
    anchors = read_every_anchor(connection, scale.scale_id, scale.anchor_version)
    if window is None or anchors is None:
        return GroupShift("the anchors cannot be compared with other items: no converged fit was linked through them")
    in_force = set_in_force_with_errors(connection, scale, at, anchors)
    comparison = compare_with_published(window, anchors, in_force, at)
    raw, limits, withdrawn = window.raw, scale.rules.anchor_limits, read_withdrawals(connection)
    usable = [
        item for j, item in enumerate(raw.item_ids) if not (limits.why_unusable(raw, j) or withdrawn.covers(item, at))
    ]
    comparison = comparison.select(np.isin(comparison.item_ids, usable))
    variation = scale.rules.linking.item_variation
    return GroupShift.from_comparison(comparison, mean=scale.mu, sd=scale.sigma, expected_variation=variation)
