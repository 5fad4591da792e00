"""Progress of all scales: their months, linkings and nights. Importing this module loads no numerical code.

Queries that return a calibration or a spec are in `fits` and `linked_windows`.
"""

from collections.abc import Sequence
from datetime import datetime

import psycopg

from irt_assets.ledger.relations import MONTHS_IN_USE
from irt_assets.scales.scale_decisions import KEY_OF
from resources.postgres.database import one_value


def decisions_since(connection: psycopg.Connection, months: Sequence[str]) -> dict[tuple[str, str], str]:
    """Months that a person's later decision affects, with the decision in words, by month and scale.

    A month is affected if its anchor set has changed since it was linked or, for a held month, if somebody has since
    decided on its scale, for example on the model or on the key of an item with answers in the month. Decisions on the
    movement of abilities do not count, and neither do decisions on rules, which have causes of their own.
    """
    rows = connection.execute(
        f"""SELECT month, scale_id, linked.anchor_hash <> frozen.anchor_hash, d.subject
            FROM calibration_scale c CROSS JOIN unnest(%s::text[]) AS m (month)
            CROSS JOIN LATERAL (SELECT (month || '-01')::timestamp AT TIME ZONE 'UTC' AS start) s
            LEFT JOIN {MONTHS_IN_USE} linked USING (month, scale_id, engine)
            LEFT JOIN month_verdict p USING (month, scale_id)
            LEFT JOIN LATERAL (
              SELECT anchor_hash FROM anchor_set a
              WHERE a.scale_id = c.scale_id AND coalesce(a.effective_from <= start, true)
              ORDER BY version DESC LIMIT 1) frozen ON true
            LEFT JOIN LATERAL (
              SELECT subject FROM scale_decision d
              WHERE d.scale_id = c.scale_id AND p.state = 'held' AND d.decided_at > p.stepped_at
                AND (d.effective_from <= start
                     AND d.subject IN ('model', 'prior_a', 'prior_b', 'prior_c', 'occasions', 'guessing', 'misfit')
                  OR starts_with(d.subject, %s) AND EXISTS (
                     SELECT FROM attempt_correction k WHERE k.corrected_at = d.decided_at
                       AND to_char(k.completed_at AT TIME ZONE 'UTC', 'YYYY-MM') = month))
              ORDER BY decision_id DESC LIMIT 1) d ON true
            WHERE linked.anchor_hash <> frozen.anchor_hash OR d.subject IS NOT NULL""",
        ([*months], KEY_OF),
    ).fetchall()
    return {
        (month, scale_id): "the anchor set has changed since"
        if anchors
        else f"{subject.replace(KEY_OF, 'the key of ', 1)} was decided on since"
        for month, scale_id, anchors, subject in rows
    }


def last_linkings(connection: psycopg.Connection) -> dict[str, tuple[float | None, float | None]]:
    """Slope and intercept of the last month that each scale's engine linked."""
    rows = connection.execute(
        f"""SELECT DISTINCT ON (scale_id) scale_id, (c->>'slope')::float8, (c->>'intercept')::float8
           FROM calibration_scale JOIN {MONTHS_IN_USE} m USING (scale_id, engine)
           CROSS JOIN LATERAL (SELECT m.model_spec->'linking_constants') AS l (c)
           ORDER BY scale_id, month DESC"""
    )
    return {scale_id: (slope, intercept) for scale_id, slope, intercept in rows}


def last_night(connection: psycopg.Connection) -> datetime | None:
    """Time of the last result of a nightly calibration, or None.

    A night with too few answers for a fit still measures all learners.
    """
    return one_value(
        connection,
        """SELECT greatest((SELECT max(fitted_at) FROM mirt_fit_meta WHERE kind = 'nightly'),
                           (SELECT fitted_at FROM mirt_ability WHERE kind = 'nightly'
                            ORDER BY window_end DESC LIMIT 1))""",
    )
