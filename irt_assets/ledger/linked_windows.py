"""Read how the windows of a scale were linked: its months in order, and its origin.

`fits` reads the fit of one window with its items.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.ledger.fit_spec import LinkedSpec, LinkingConstants
from irt_assets.ledger.relations import LATEST_STAGED, MONTHS_IN_USE, NEWEST_WINDOW, ORIGINS_IN_USE
from irt_assets.scales.scale import Scale
from irt_psychometrics.linking import MonthConstants
from resources.postgres.database import first_column, named_rows, one_value, records

MONTHS_COMPARED = 24
"""Number of earlier months with which a month's linking is compared."""


@dataclass(frozen=True)
class FittedMonth:
    """A month's latest attempt at a fit: the error, or the linked fit in use that came from it."""

    month: str
    error: str | None
    fit_id: str | None
    constants: LinkingConstants | None


@dataclass(frozen=True)
class LinkedFitRecord:
    """The linked fit of a month or of the origin window, with its linking and provenance. `spec` is its
    `model_spec`."""

    month: str
    fit_id: str
    engine: str
    engine_version: str
    model: str
    n_persons: int
    n_items: int
    n_responses: int
    converged: bool
    iterations: int
    loglik: float
    spec: LinkedSpec
    data_hash: str
    snapshot_hash: str
    anchor_hash: str
    code_version: str
    run_id: str | None
    fitted_at: datetime

    @property
    def constants(self) -> LinkingConstants:
        return self.spec.linking_constants


@dataclass(frozen=True)
class PlacedMonth:
    """Mean and SD of a month's learners on the scale in the linked fit in use, with method and intercept of the
    linking. They are None if the fit does not record them."""

    scale_id: str
    month: str
    mean: float | None
    sd: float | None
    method: str | None
    intercept: float | None


def latest_constants(connection: psycopg.Connection, month: str, scale_id: str, engine: str) -> LinkingConstants | None:
    """Linking constants of the month's latest fit, linked or not, or None if they were not computed."""
    row = connection.execute(
        f"""SELECT coalesce(m.model_spec->'linking_constants', s.spec->'linking_constants')
           FROM {LATEST_STAGED} s LEFT JOIN mirt_fit_meta m USING (fit_id)
           WHERE (s.month, s.scale_id, s.engine) = (%s, %s, %s)""",
        (month, scale_id, engine),
    ).fetchone()
    return LinkingConstants.from_json(row[0], f"of {month} ({scale_id}, {engine})") if row and row[0] else None


def month_number(month: str) -> int:
    """Months since the year 0."""
    year, number = map(int, month.split("-"))
    return year * 12 + number


def released_constants(
    connection: psycopg.Connection, month: str, scale_id: str, engine: str
) -> tuple[MonthConstants, ...]:
    """Linking constants of the last 24 months before `month` whose publication step is done, newest first.

    Months of engines that fix the anchors themselves (method `fixed`) are left out.
    """
    rows = connection.execute(
        f"""SELECT s.month, (c->>'slope')::float8, (c->>'slope_se')::float8, (c->>'intercept')::float8,
                   (c->>'intercept_se')::float8
           FROM month_verdict s JOIN {MONTHS_IN_USE} m USING (fit_id)
           CROSS JOIN LATERAL (SELECT m.model_spec->'linking_constants') AS l (c)
           WHERE s.scale_id = %s AND s.state = 'done' AND s.month < %s AND m.engine = %s AND c->>'method' <> 'fixed'
           ORDER BY s.month DESC LIMIT %s""",
        (scale_id, month, engine, MONTHS_COMPARED),
    ).fetchall()
    return tuple(MonthConstants(month_number(at), *values) for at, *values in rows)


def fitted_months(connection: psycopg.Connection, scale: Scale, last: str, most: int) -> list[FittedMonth]:
    """The last `most` months up to `last` that the scale's engine tried to fit, oldest first."""
    found = connection.execute(
        f"""SELECT s.month, s.error, m.fit_id, m.model_spec->'linking_constants'
            FROM {LATEST_STAGED} s LEFT JOIN {MONTHS_IN_USE} m USING (fit_id)
            WHERE (s.scale_id, s.engine) = (%s, %s) AND s.month <= %s AND s.month NOT LIKE '%%:%%'
            ORDER BY s.month DESC LIMIT %s""",
        (scale.scale_id, scale.engine, last, most),
    ).fetchall()
    return [
        FittedMonth(month, error, fit_id, LinkingConstants.from_json(constants, fit_id) if fit_id else None)
        for month, error, fit_id, constants in reversed(found)
    ]


def answered_items(
    connection: psycopg.Connection, fit_ids: Collection[str], items: Collection[str], fewest: int
) -> dict[str, set[str]]:
    """Find the `items` with at least `fewest` answers, by linked fit."""
    answered: dict[str, set[str]] = {}
    for fit_id, item in connection.execute(
        """SELECT fit_id, item_id FROM mirt_item_params
           WHERE fit_id = ANY(%s) AND item_id = ANY(%s) AND n_responses >= %s""",
        ([*fit_ids], [*items], fewest),
    ):
        answered.setdefault(fit_id, set()).add(item)
    return answered


def linkings_of(connection: psycopg.Connection, scale: Scale, last: str, most: int = 12) -> tuple[LinkedFitRecord, ...]:
    """The last `most` months up to `last` that the scale's engine linked, oldest first."""
    return _read_linked_fits(
        connection,
        f"""SELECT {_LINKED_COLUMNS} FROM {MONTHS_IN_USE} m WHERE (scale_id, engine) = (%s, %s) AND month <= %s
            ORDER BY month DESC LIMIT %s""",
        (scale.scale_id, scale.engine, last, most),
    )[::-1]


def linked_origin(connection: psycopg.Connection, scale: Scale) -> LinkedFitRecord | None:
    """The fit of the scale's origin window. Returns None if the origin is the bank."""
    found = _read_linked_fits(
        connection, f"SELECT {_LINKED_COLUMNS} FROM {ORIGINS_IN_USE} o WHERE scale_id = %s", (scale.scale_id,)
    )
    return found[0] if found else None


_LINKED_COLUMNS: LiteralString = """month, fit_id, engine, engine_version, model, n_persons, n_items, n_responses,
    converged, iterations, loglik, model_spec AS spec, data_hash, snapshot_hash, anchor_hash, code_version, run_id,
    fitted_at"""


def _read_linked_fits(
    connection: psycopg.Connection, query: LiteralString, values: Sequence[Any]
) -> tuple[LinkedFitRecord, ...]:
    return tuple(
        LinkedFitRecord(**row | {"spec": LinkedSpec.from_json(row["spec"], row["fit_id"])})
        for row in named_rows(connection, query, values)
    )


def months_before(connection: psycopg.Connection, scale: Scale, month: str, most: int) -> list[str]:
    """The last `most` months before `month` that are linked by the scale's engine, oldest first."""
    return first_column(
        connection,
        f"""SELECT month FROM {MONTHS_IN_USE} m WHERE (scale_id, engine) = (%s, %s) AND month < %s
           ORDER BY month DESC LIMIT %s""",
        (scale.scale_id, scale.engine, month, most),
    )[::-1]


def months_with_other_anchors(
    connection: psycopg.Connection, scale: Scale, start: datetime, anchor_hash: str
) -> tuple[str, ...]:
    """Months from `start` on that the scale's engine linked to an anchor set with a different hash, oldest first."""
    return tuple(
        first_column(
            connection,
            f"""SELECT month FROM {MONTHS_IN_USE} m WHERE (scale_id, engine) = (%s, %s) AND window_start >= %s
             AND anchor_hash <> %s ORDER BY month""",
            (scale.scale_id, scale.engine, start, anchor_hash),
        )
    )


def last_linked_at(connection: psycopg.Connection, scale: Scale, month: str) -> datetime | None:
    """Time when a linked fit of the month by the scale's engine was last made or superseded, or None."""
    return one_value(
        connection,
        """SELECT max(greatest(fitted_at, superseded_at)) FROM mirt_fit_meta
           WHERE kind = 'monthly' AND scale_id = %s AND engine = %s AND window_start = %s""",
        (scale.scale_id, scale.engine, Month(month).start),
    )


def last_fitted_month(connection: psycopg.Connection, scale: Scale) -> str | None:
    """The last month that the scale's engine fitted, linked or not."""
    return one_value(
        connection,
        """SELECT max(month) FROM fit_staging
           WHERE scale_id = %s AND engine = %s AND calibration IS NOT NULL AND month NOT LIKE '%%:%%'""",
        (scale.scale_id, scale.engine),
    )


def newest_window(connection: psycopg.Connection, scale: Scale) -> str | None:
    """Name of the last month linked by the scale's engine, or of the origin window if no month is linked."""
    values = {"scale": scale.scale_id, "engine": scale.engine}
    return one_value(connection, f"SELECT month FROM {NEWEST_WINDOW} w", values)


def last_sound_month(connection: psycopg.Connection, scale: Scale, end: datetime) -> str | None:
    """The last month that ended by `end` and has a converged, linked fit by the scale's engine."""
    return one_value(
        connection,
        f"""SELECT max(month) FROM {MONTHS_IN_USE} m
           WHERE (scale_id, engine) = (%s, %s) AND window_end <= %s AND converged""",
        (scale.scale_id, scale.engine, end),
    )


def placed_months(connection: psycopg.Connection) -> list[PlacedMonth]:
    """All months of all scales with a linked fit in use by the scale's own engine."""
    return records(
        connection,
        PlacedMonth,
        f"""SELECT scale_id, month, (model_spec->'latent'->>'mean')::float8 AS mean,
                       (model_spec->'latent'->>'sd')::float8 AS sd,
                       model_spec->'linking_constants'->>'method' AS method,
                       (model_spec->'linking_constants'->>'intercept')::float8 AS intercept
                FROM {MONTHS_IN_USE} m JOIN calibration_scale USING (scale_id, engine)""",
    )
