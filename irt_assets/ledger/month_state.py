"""Read the fits that determine the state of a month, and the window with which its misfit is compared."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, LiteralString, NamedTuple

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.ledger.fit_spec import FitSettings, SetStatistics
from irt_assets.ledger.relations import FIT_SETTINGS, LATEST_FIRST, LATEST_STAGED, MONTHS_IN_USE
from irt_assets.scales.scale import Scale
from irt_assets.scales.scale_decisions import REFERENCE, decision_in_force, read_decisions
from resources.postgres.database import named_rows


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
    """The latest attempt to fit each of the months, by month, scale and engine."""
    rows = connection.execute(
        f"""SELECT month, scale_id, engine, fit_id, snapshot_hash, coalesce(spec->'eligibility', '{{}}'),
                   {FIT_SETTINGS}, coalesce(spec->'misfit'->'reference' = 'null', false), error
            FROM {LATEST_STAGED} s WHERE month = ANY(%s)""",
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
class Reference:
    """A fit with which later months are compared, its statistics of the set, and the address of its answers.

    `month` is None for an origin window. `name` is for people.
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
    """The first month from `since` to before `month` that the scale's engine fitted with its model. Held months are
    skipped, except `since` itself."""
    return _reference(
        connection,
        f"""SELECT fit_id, month, calibration, statistics, snapshot_hash, uri, month AS name FROM (
             SELECT DISTINCT ON (month) * FROM (
               SELECT f.fit_id, f.month, f.calibration, f.spec->'fit_statistics'->'set' AS statistics,
                      f.snapshot_hash, s.uri, f.fitted_at
               FROM fit_staging f JOIN scored_snapshot s USING (month, snapshot_hash)
               LEFT JOIN month_verdict p USING (month, scale_id)
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
        statistics = row["statistics"]
        return Reference(
            **row | {"statistics": SetStatistics.from_json(statistics, row["fit_id"]) if statistics else None}
        )
    return None


def find_reference(connection: psycopg.Connection, scale: Scale, month: str) -> Reference | None:
    """The window with which a month's misfit is compared. Returns None for a month that is itself the reference.

    The reference is the origin window or, if the anchors are the bank's, the scale's first month that is not held. Once
    somebody accepts a month's misfit, that month is the reference from then on. `scale` has the settings that apply to
    the month's window.
    """
    accepted = decision_in_force(read_decisions(connection, scale.scale_id), "misfit", Month(month).start)
    since = accepted.effective_from if accepted and accepted.value == REFERENCE else None
    found = None if since else _origin_to_compare(connection, scale)
    return found or _month_to_compare(connection, scale, month, f"{since:%Y-%m}" if since else "")
