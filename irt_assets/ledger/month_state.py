"""What the tables know of the state of a month: its fits and its publication step.

What does not belong here: what state follows from it (see `gates.month_status`).
"""

from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.ledger.fit_spec import MadeWith, SetStatistics
from irt_assets.ledger.relations import LATEST_FIRST, LATEST_STAGED, MADE_WITH, MONTHS_IN_USE
from irt_assets.responses.scale_decisions import REFERENCE, decision_in_force, read_decisions
from irt_assets.responses.scales import Scale
from irt_assets.responses.snapshot import Snapshot
from resources.postgres.database import named_rows, one_value, record


@dataclass(frozen=True)
class Attempted:
    """A month's latest attempt at a fit by an engine: what it saw, the scale's settings, what it was made with, and
    whether its misfit was compared with no other window's."""

    fit_id: str
    snapshot_hash: str
    rules: dict[str, Any]
    made_with: MadeWith
    is_reference: bool


@dataclass(frozen=True)
class InUse:
    """A month's linked fit in use, with the scale's settings that it was linked by."""

    fit_id: str
    rules: dict[str, Any]


def latest_attempt(connection: psycopg.Connection, month: str, scale_id: str, engine: str) -> Attempted | None:
    row = connection.execute(
        f"""SELECT fit_id, snapshot_hash, spec->'eligibility', {MADE_WITH},
                   coalesce(spec->'misfit'->'reference' = 'null', false)
            FROM {LATEST_STAGED} s WHERE (month, scale_id, engine) = (%s, %s, %s)""",
        (month, scale_id, engine),
    ).fetchone()
    if row is None:
        return None
    fit_id, snapshot_hash, rules, made_with, is_reference = row
    return Attempted(fit_id, snapshot_hash, rules, MadeWith.from_json(made_with, fit_id), is_reference)


def fit_in_use(connection: psycopg.Connection, month: str, scale_id: str, engine: str) -> InUse | None:
    return record(
        connection,
        InUse,
        f"""SELECT fit_id, model_spec->'eligibility' AS rules
            FROM {MONTHS_IN_USE} m WHERE (month, scale_id, engine) = (%s, %s, %s)""",
        (month, scale_id, engine),
    )


def latest_failure(connection: psycopg.Connection, snapshot: Snapshot, scale: Scale) -> str | None:
    """Why the latest attempt of the scale's engine at this very snapshot gave no linked fit, if it did not."""
    return one_value(
        connection,
        f"""SELECT error FROM fit_staging WHERE (month, scale_id, engine, snapshot_hash) = (%s, %s, %s, %s)
           ORDER BY {LATEST_FIRST} LIMIT 1""",
        (snapshot.month, scale.scale_id, scale.engine, snapshot.snapshot_hash),
    )


def months_made_with(
    connection: psycopg.Connection, scale: Scale, first_month: str
) -> dict[str, tuple[MadeWith, str | None]]:
    """Months from `first_month` on that the scale's engine tried to fit, in order: what the latest attempt was made
    with (see `fits.made_otherwise`), and the hash of the anchors that the month is linked to, None where it is not."""
    rows = connection.execute(
        f"""SELECT s.month, {MADE_WITH}, m.anchor_hash
            FROM {LATEST_STAGED} s LEFT JOIN {MONTHS_IN_USE} m USING (month, scale_id, engine)
            WHERE (scale_id, engine) = (%s, %s) AND month >= %s AND month NOT LIKE '%%:%%' ORDER BY month""",
        (scale.scale_id, scale.engine, first_month),
    )
    of = f"({scale.scale_id}, {scale.engine})"
    return {
        month: (MadeWith.from_json(made_with, f"of {month} {of}"), linked_to) for month, made_with, linked_to in rows
    }


@dataclass(frozen=True)
class Reference:
    """A fit that later months are compared with, what it stores of the whole set, and where its answers are.

    `month`: None of an origin window; `name` is for people.
    """

    fit_id: str
    month: str | None
    name: str
    calibration: bytes
    statistics: SetStatistics | None
    snapshot_hash: str
    uri: str


def _origin_to_compare(connection: psycopg.Connection, scale: Scale) -> Reference | None:
    """The newest origin fit by the scale's engine and model."""
    return _reference(
        connection,
        """SELECT fit_id, NULL AS month, calibration, model_spec->'fit_statistics' AS statistics, snapshot_hash,
                  model_spec->>'snapshot' AS uri,
                  format('the origin window %%s to %%s', window_start::date, window_end::date) AS name
           FROM mirt_fit_meta
           WHERE kind = 'origin' AND calibration IS NOT NULL
             AND (scale_id, engine, coalesce(model_spec->>'model', model)) = (%(scale)s, %(engine)s, %(model)s)
           ORDER BY fitted_at DESC LIMIT 1""",
        scale,
    )


def _month_to_compare(connection: psycopg.Connection, scale: Scale, month: str, since: str) -> Reference | None:
    """Like `_origin_to_compare`, of the first month from `since` to before `month` that the scale's engine and model
    fitted; a month that is held is passed over, unless it is `since`."""
    return _reference(
        connection,
        f"""SELECT fit_id, month, calibration, statistics, snapshot_hash, uri, month AS name FROM (
             SELECT DISTINCT ON (month) * FROM (
               SELECT f.fit_id, f.month, f.calibration, f.spec->'fit_statistics'->'set' AS statistics,
                      f.snapshot_hash, s.uri, f.fitted_at
               FROM fit_staging f JOIN scored_snapshot s USING (month, snapshot_hash)
               LEFT JOIN publication_step p USING (month, scale_id)
               WHERE (scale_id, f.engine, f.spec->>'model') = (%(scale)s, %(engine)s, %(model)s)
                 AND month < %(month)s AND month >= %(since)s
                 AND (p.state IS DISTINCT FROM 'held' OR month = %(since)s)) attempts
             ORDER BY month, {LATEST_FIRST}) latest
           WHERE calibration IS NOT NULL AND jsonb_typeof(statistics) = 'object' ORDER BY month LIMIT 1""",
        scale,
        month=month,
        since=since,
    )


def _reference(connection: psycopg.Connection, query: LiteralString, scale: Scale, **values: str) -> Reference | None:
    values |= {"scale": scale.scale_id, "engine": scale.engine, "model": scale.model}
    for row in named_rows(connection, query, values):
        kept = row["statistics"]
        return Reference(**row | {"statistics": SetStatistics.from_json(kept, row["fit_id"]) if kept else None})
    return None


def find_reference(connection: psycopg.Connection, scale: Scale, month: str) -> Reference | None:
    """The window that a month's misfit is compared with, `scale` being as the month's window follows it; None for the
    month that is one itself.

    It is the window that was looked at once: the origin window; where the anchors are the bank's, the scale's first
    month; and from a month on that somebody accepted as it is, that month. No other month that is held is one.
    """
    accepted = decision_in_force(read_decisions(connection, scale.scale_id), "misfit", Month(month).start)
    since = accepted.effective_from if accepted and accepted.value == REFERENCE else None
    found = None if since else _origin_to_compare(connection, scale)
    return found or _month_to_compare(connection, scale, month, f"{since:%Y-%m}" if since else "")
