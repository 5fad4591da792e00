"""Read the fits that determine the state of a month, and the window with which its misfit is compared."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.ledger.fit_spec import FitSettings, SetStatistics
from irt_assets.ledger.relations import FIT_SETTINGS, LATEST_FIRST, LATEST_STAGED, MONTHS_IN_USE
from irt_assets.scales.scale import Scale
from irt_assets.scales.scale_decisions import REFERENCE, decision_in_force, read_decisions
from resources.postgres.database import named_rows, record


@dataclass(frozen=True)
class LatestAttempt:
    """A month's latest attempt at a fit by an engine.

    Attributes:
        rules, made_with: the scale's settings for it.
        is_reference: whether the month is itself the reference for misfit.
        error: why the month could not be fitted or linked, or None if it could.
    """

    fit_id: str
    snapshot_hash: str
    rules: dict[str, Any]
    made_with: FitSettings
    is_reference: bool
    error: str | None


@dataclass(frozen=True)
class FitInUse:
    """A month's linked fit in use, with the scale's settings at its linking."""

    fit_id: str
    rules: dict[str, Any]


class MonthAndEngine(NamedTuple):
    """A month of a scale and an engine, as a key."""

    month: str
    scale_id: str
    engine: str


def latest_attempts(connection: psycopg.Connection, months: Collection[str]) -> dict[MonthAndEngine, LatestAttempt]:
    """Read the latest attempt to fit each of the months, by month, scale and engine."""
    # Each reference to a spec decompresses the whole spec, mostly statistics: 0.9 s for 108 fits of 1000 items.
    rows = connection.execute(
        f"""WITH latest AS MATERIALIZED (
              SELECT month, scale_id, engine, fit_id, snapshot_hash, spec - 'fit_statistics' AS spec, error
              FROM {LATEST_STAGED} s WHERE month = ANY(%s))
            SELECT month, scale_id, engine, fit_id, snapshot_hash, coalesce(spec->'eligibility', '{{}}'),
                   {FIT_SETTINGS}, coalesce(spec->'misfit'->'reference' = 'null', false), error FROM latest""",
        ([*months],),
    )
    return {
        MonthAndEngine(month, scale_id, engine): LatestAttempt(
            fit_id, snapshot_hash, rules, FitSettings.from_json(made_with, fit_id), is_reference, error
        )
        for month, scale_id, engine, fit_id, snapshot_hash, rules, made_with, is_reference, error in rows
    }


def latest_attempt(connection: psycopg.Connection, month: str, scale_id: str, engine: str) -> LatestAttempt | None:
    """The latest attempt of an engine to fit a month of a scale, or None."""
    return latest_attempts(connection, [month]).get(MonthAndEngine(month, scale_id, engine))


def fits_in_use(connection: psycopg.Connection, months: Collection[str]) -> dict[MonthAndEngine, FitInUse]:
    """The linked fit in use of each of the months, by month, scale and engine."""
    rows = connection.execute(
        f"""SELECT month, scale_id, engine, fit_id, coalesce(model_spec->'eligibility', '{{}}')
            FROM {MONTHS_IN_USE} m WHERE month = ANY(%s)""",
        ([*months],),
    )
    return {
        MonthAndEngine(month, scale_id, engine): FitInUse(fit_id, rules)
        for month, scale_id, engine, fit_id, rules in rows
    }


def months_made_with(
    connection: psycopg.Connection, scale: Scale, first_month: str
) -> dict[str, tuple[FitSettings, str | None]]:
    """Settings of the latest attempt (see `fits.settings_difference`) and the hash of the anchors to which the month is
    linked (None if it is not), for each month from `first_month` on that the scale's engine tried to fit, in order."""
    rows = connection.execute(
        f"""SELECT s.month, {FIT_SETTINGS}, m.anchor_hash
            FROM {LATEST_STAGED} s LEFT JOIN {MONTHS_IN_USE} m USING (month, scale_id, engine)
            WHERE (scale_id, engine) = (%s, %s) AND month >= %s AND month NOT LIKE '%%:%%' ORDER BY month""",
        (scale.scale_id, scale.engine, first_month),
    )
    scale_and_engine = f"({scale.scale_id}, {scale.engine})"
    return {
        month: (FitSettings.from_json(made_with, f"of {month} {scale_and_engine}"), linked_to)
        for month, made_with, linked_to in rows
    }


@dataclass(frozen=True)
class ReferenceWindow:
    """A window with which later months are compared. `month` is None for an origin window. `name` is for people."""

    fit_id: str
    month: str | None
    name: str


@dataclass(frozen=True)
class Reference(ReferenceWindow):
    """The fit of a reference window, with its statistics of the set and the address of its answers."""

    calibration: bytes
    statistics: SetStatistics | None
    snapshot_hash: str
    uri: str


def _origin_to_compare(connection: psycopg.Connection, scale: Scale) -> ReferenceWindow | None:
    """Find the newest origin fit by the scale's engine and model."""
    return record(
        connection,
        ReferenceWindow,
        """SELECT fit_id, NULL AS month,
                  format('the origin window %%s to %%s', window_start::date, window_end::date) AS name
           FROM mirt_fit_meta
           WHERE kind = 'origin' AND calibration IS NOT NULL
             AND (scale_id, engine, coalesce(model_spec->>'model', model)) = (%s, %s, %s)
           ORDER BY fitted_at DESC LIMIT 1""",
        (scale.scale_id, scale.engine, scale.model),
    )


def _month_to_compare(connection: psycopg.Connection, scale: Scale, month: str, since: str) -> ReferenceWindow | None:
    """Find the first month from `since` to before `month` that the scale's engine fitted with its model. Held months
    are skipped, except `since` itself."""
    values = {"scale": scale.scale_id, "engine": scale.engine, "model": scale.model, "month": month, "since": since}
    return record(
        connection,
        ReferenceWindow,
        f"""SELECT fit_id, month, month AS name FROM (
             SELECT DISTINCT ON (month) * FROM (
               SELECT f.fit_id, f.month, f.fitted_at, f.calibration IS NOT NULL
                        AND jsonb_typeof(f.spec->'fit_statistics'->'set') = 'object' AS is_complete
               FROM fit_staging f JOIN scored_snapshot s USING (month, snapshot_hash)
               LEFT JOIN month_verdict p USING (month, scale_id)
               WHERE (scale_id, f.engine, f.spec->>'model') = (%(scale)s, %(engine)s, %(model)s)
                 AND month < %(month)s AND month >= %(since)s
                 AND (p.state IS DISTINCT FROM 'held' OR month = %(since)s)) attempts
             ORDER BY month, {LATEST_FIRST}) latest
           WHERE is_complete ORDER BY month LIMIT 1""",
        values,
    )


def find_reference_window(connection: psycopg.Connection, scale: Scale, month: str) -> ReferenceWindow | None:
    """Find the window with which a month's misfit is compared. Returns None for a month that is itself the reference.

    The reference is the origin window or, if the anchors are the bank's, the scale's first month that is not held. Once
    somebody accepts a month's misfit, that month is the reference from then on. `scale` has the settings that apply to
    the month's window.
    """
    accepted = decision_in_force(read_decisions(connection, scale.scale_id), "misfit", Month(month).start)
    since = accepted.effective_from if accepted and accepted.value == REFERENCE else None
    found = None if since else _origin_to_compare(connection, scale)
    return found or _month_to_compare(connection, scale, month, f"{since:%Y-%m}" if since else "")


_FIT_OF_ORIGIN = """SELECT calibration, model_spec->'fit_statistics' AS statistics, snapshot_hash,
                           model_spec->>'snapshot' AS uri
                    FROM mirt_fit_meta WHERE fit_id = %s"""
_FIT_OF_MONTH = """SELECT calibration, spec->'fit_statistics'->'set' AS statistics, snapshot_hash, uri
                   FROM fit_staging JOIN scored_snapshot USING (month, snapshot_hash) WHERE fit_id = %s"""


def find_reference(connection: psycopg.Connection, scale: Scale, month: str) -> Reference | None:
    """Read the fit of the `find_reference_window`, or return None without a window."""
    window = find_reference_window(connection, scale, month)
    if window is None:
        return None
    (row,) = named_rows(connection, _FIT_OF_MONTH if window.month else _FIT_OF_ORIGIN, (window.fit_id,))
    if row["statistics"]:
        row["statistics"] = SetStatistics.from_json(row["statistics"], window.fit_id)
    return Reference(**vars(window), **row)
