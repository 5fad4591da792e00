"""Read estimated items: all items of a fit, one item over the months, and the bank's items as they are now."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString, Self

import psycopg

from irt_assets.ledger.encoding import item_columns
from irt_assets.ledger.publications import in_force_query
from irt_assets.ledger.relations import MONTHS_IN_USE, NEWEST_WINDOW, ORIGINS_IN_USE
from irt_assets.scales.scale import Scale
from irt_psychometrics.items import ItemRow
from resources.postgres.database import named_rows, one_value

STATISTICS = ("p_value", "point_biserial", "infit", "outfit", "rmsd")
"""Statistics of an item with a column of their own."""


@dataclass(frozen=True)
class FittedItem:
    """An item of a linked fit.

    Attributes:
        values: parameters, or None if the item has no a or no b.
        n: number of answers.
        statistics: statistics by name. An unknown one is None.
    """

    values: ItemRow | None
    n: int
    flags: tuple[str, ...]
    statistics: Mapping[str, float | None]

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Build the item from columns of `mirt_item_params`; columns of statistics may be missing."""
        statistics = {name: row[name] for name in STATISTICS if name in row} | row["params"].get("fit", {})
        return cls(ItemRow.if_known(row["params"]), row["n_responses"], tuple(row["flags"]), statistics)


NOT_FITTED = FittedItem(None, 0, (), dict.fromkeys(STATISTICS))


def items_of_fit(connection: psycopg.Connection, fit_id: str) -> dict[str, FittedItem]:
    """The items of a linked fit, by id."""
    rows = named_rows(
        connection,
        """SELECT item_id, params, n_responses, p_value, point_biserial, infit, outfit, rmsd, flags
               FROM mirt_item_params WHERE fit_id = %s ORDER BY item_id""",
        (fit_id,),
    )
    return {row["item_id"]: FittedItem.from_row(row) for row in rows}


def items_of_origin(connection: psycopg.Connection, scale_id: str) -> dict[str, FittedItem]:
    """The items of the fit of a scale's origin window, by id. Returns an empty dict if the bank is the origin."""
    fit_id = one_value(connection, f"SELECT fit_id FROM {ORIGINS_IN_USE} o WHERE scale_id = %s", (scale_id,))
    return items_of_fit(connection, fit_id) if fit_id else {}


def items_of_month(connection: psycopg.Connection, scale: Scale, month: str) -> dict[str, FittedItem]:
    """The items of the month's linked fit in use, by id, ordered by number of flags, then by RMSD, largest first."""
    rows = named_rows(
        connection,
        f"""SELECT i.item_id, i.params, i.n_responses, i.p_value, i.infit, i.outfit, i.rmsd, i.flags
           FROM mirt_item_params i JOIN {MONTHS_IN_USE} m USING (fit_id)
           WHERE (m.scale_id, m.engine, m.month) = (%s, %s, %s)
           ORDER BY jsonb_array_length(i.flags) DESC, i.rmsd DESC NULLS LAST, i.item_id""",
        (scale.scale_id, scale.engine, month),
    )
    return {row["item_id"]: FittedItem.from_row(row) for row in rows}


def months_of_item(connection: psycopg.Connection, scale: Scale, item_id: str) -> list[dict[str, Any]]:
    """The item's estimates in all months linked by the scale's engine, oldest first, or in the origin window if there
    are no such months. `red` is the reason why the month is held, or "" if it is not."""
    in_months = _item_rows(MONTHS_IN_USE, connection, scale, item_id)
    return in_months or _item_rows(ORIGINS_IN_USE, connection, scale, item_id)


def _item_rows(
    windows: LiteralString, connection: psycopg.Connection, scale: Scale, item_id: str
) -> list[dict[str, Any]]:
    return named_rows(
        connection,
        f"""SELECT m.month, m.window_start AS start, m.window_end AS "end",
                       m.fit_id, m.snapshot_hash, m.model_spec->'latent' AS latent,
                       m.model_spec #> '{{fit_statistics,q3,largest}}' AS q3,
                       i.params, i.n_responses, i.p_value, i.point_biserial, i.infit, i.outfit, i.rmsd, i.flags,
                       CASE WHEN s.state = 'held' THEN s.why ELSE '' END AS red
                FROM {windows} m JOIN mirt_item_params i ON (i.fit_id, i.item_id) = (m.fit_id, %s)
                LEFT JOIN month_verdict s USING (scale_id, month)
                WHERE (scale_id, m.engine) = (%s, %s) ORDER BY m.window_start""",
        (item_id, scale.scale_id, scale.engine),
    )


def bank_rows(connection: psycopg.Connection, scale: Scale, at: datetime) -> list[dict[str, Any]]:
    """All items of the scale, ordered by id: the values in force at `at`, the next values if they differ, the newest
    window's estimate, the open drift alert, and the attributes with large DIF."""
    return named_rows(
        connection, _BANK, {"scale": scale.scale_id, "engine": scale.engine, "version": scale.anchor_version, "at": at}
    )


def topics_without_items(connection: psycopg.Connection) -> dict[tuple[str, str], int]:
    """Number of items in each topic that has no published item, by scale and topic."""
    rows = connection.execute(
        """SELECT q.scale_id, coalesce(q.topic_id, 'unknown'), count(*)
           FROM question q LEFT JOIN item_parameter_current p ON p.scale_id = q.scale_id AND p.item_id = q.item_id
           GROUP BY 1, 2 HAVING count(p.item_id) = 0 ORDER BY 1, 2"""
    )
    return {(scale_id, topic): n for scale_id, topic, n in rows}


_BANK = f"""
WITH in_force AS (
    SELECT * FROM ({in_force_query(f"{item_columns('p')}, effective_from")}) i WHERE scale_id = %(scale)s),
to_come AS (
    SELECT DISTINCT ON (item_id) item_id, a, b, c, effective_from FROM item_parameter_publication
    WHERE scale_id = %(scale)s AND effective_from > %(at)s ORDER BY item_id, effective_from, publication_id DESC),
fitted AS (
    SELECT i.* FROM mirt_item_params i JOIN {NEWEST_WINDOW} w USING (fit_id)),
anchors AS (SELECT item_id FROM anchor_set WHERE scale_id = %(scale)s AND version = %(version)s),
alerts AS (
    SELECT DISTINCT ON (item_id) item_id, severity, kind, opened_month FROM drift_alerts
    WHERE scale_id = %(scale)s AND closed_month IS NULL ORDER BY item_id, opened_month DESC),
dif AS (
    SELECT item_id, array_agg(DISTINCT attribute ORDER BY attribute) AS attributes FROM dif_analysis
    WHERE scale_id = %(scale)s AND item_id <> '' AND (details->>'large')::boolean
      AND month = (SELECT max(month) FROM dif_analysis WHERE scale_id = %(scale)s)
    GROUP BY item_id)
SELECT p.*, q.item_id, q.topic_id, coalesce(q.max_score, 1) AS max_score, n.item_id IS NOT NULL AS anchor,
       t.a AS next_a, t.b AS next_b, t.effective_from AS next_from,
       f.item_id IS NOT NULL AS fitted, f.params, f.n_responses, f.rmsd, f.flags,
       l.severity, l.kind, l.opened_month, d.attributes
FROM question q
LEFT JOIN in_force p USING (scale_id, item_id)
LEFT JOIN to_come t ON t.item_id = q.item_id AND (t.a, t.b, t.c) IS DISTINCT FROM (p.a, p.b, p.c)
LEFT JOIN fitted f ON f.item_id = q.item_id
LEFT JOIN anchors n ON n.item_id = q.item_id
LEFT JOIN alerts l ON l.item_id = q.item_id
LEFT JOIN dif d ON d.item_id = q.item_id
WHERE q.scale_id = %(scale)s ORDER BY q.item_id
"""
