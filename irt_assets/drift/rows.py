"""Read a month's rows of drift, DIF, information and alerts.

month.py, dif_month.py and information.py write the rows; blocks.py shows them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from typing import Any, LiteralString, Self, TypeVar

import psycopg

from irt_assets.scales.scale import Scale
from resources.postgres.database import records

MONTHS_SHOWN = 12
Row = TypeVar("Row")


def _named_categories(details: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """List the categories that changed, the largest change first."""
    named = [category for category in details.get("categories", ()) if category["named"]]
    return sorted(named, key=lambda category: -category["wabc"])


@dataclass(frozen=True)
class DriftRow:
    """A row of `item_drift`."""

    item_id: str
    month: str
    severity: str
    delta_a: float | None
    delta_b: float | None
    q_value: float | None
    wabc: float | None
    details: dict[str, Any]
    computed_at: datetime

    @property
    def categories(self) -> list[Mapping[str, Any]]:
        """The scored item's categories that changed, the largest change first."""
        return _named_categories(self.details)

    @property
    def kind(self) -> str | None:
        return self.details.get("change", {}).get("kind")


@dataclass(frozen=True)
class DifRow:
    """A row of `dif_analysis`. Its item_id is '' if it describes an attribute as a whole."""

    item_id: str
    attribute: str
    reference_group: str
    focal_group: str
    q_value: float | None
    ets_class: str | None
    details: dict[str, Any]

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Build the row from a mapping that contains its columns; other keys are ignored."""
        return cls(**{column.name: row[column.name] for column in fields(cls)})

    @property
    def large(self) -> bool:
        return bool(self.details.get("large"))

    @property
    def wald(self) -> Mapping[str, Any]:
        """Result of the Wald test, or an empty mapping."""
        return self.details.get("wald") or {}

    @property
    def within_forms(self) -> Mapping[str, Any]:
        """Results of the tests within forms, or an empty mapping."""
        return self.details.get("within_forms") or {}

    @property
    def categories(self) -> list[Mapping[str, Any]]:
        """The scored item's categories that differ between the groups, the largest difference first."""
        return _named_categories(self.details)

    @property
    def differs(self) -> bool:
        """Whether the item differs, by any amount."""
        return self.large or self.wald.get("severity", "none") != "none"


@dataclass(frozen=True)
class InformationRow:
    """A row of `test_information`. Its item_id is '' if it describes the whole test."""

    item_id: str
    curve: dict[str, Any]
    flagged: bool
    details: dict[str, Any]


@dataclass(frozen=True)
class AlertRow:
    """A row of `drift_alerts`."""

    item_id: str
    kind: str
    severity: str
    opened_month: str
    closed_month: str | None


DIF_COLUMNS = "item_id, attribute, reference_group, focal_group, q_value, ets_class, details"
DRIFT_COLUMNS = "item_id, month, severity, delta_a, delta_b, q_value, wabc, details, computed_at"
"""The columns of `dif_analysis` and `item_drift` that `DifRow` and `DriftRow` have."""
_INFORMATION_QUERY = """SELECT item_id, curve, flagged, details FROM test_information
                  WHERE scale_id = %(scale)s AND month = %(month)s ORDER BY item_id"""
_DIF_QUERY = f"""SELECT {DIF_COLUMNS}
          FROM dif_analysis WHERE scale_id = %(scale)s AND month = %(month)s
          ORDER BY attribute, focal_group, q_value NULLS LAST, item_id"""
_LOST_QUERY = """SELECT item_id, curve, flagged, details FROM test_information
           WHERE scale_id = %(scale)s AND month = %(month)s AND (item_id = '' OR flagged) ORDER BY item_id"""
_LARGE_DIF_QUERY = f"""SELECT {DIF_COLUMNS}
                FROM dif_analysis WHERE scale_id = %(scale)s AND month = %(month)s AND item_id <> ''
                  AND (details->>'large')::boolean ORDER BY item_id, attribute, focal_group"""
_DRIFTED_QUERY = f"""SELECT {DRIFT_COLUMNS}
              FROM item_drift WHERE scale_id = %(scale)s AND month = %(month)s AND engine = %(engine)s
                AND severity <> 'none' ORDER BY severity, wabc DESC NULLS LAST, item_id"""
_COMPARED_QUERY = f"""SELECT {DRIFT_COLUMNS}
               FROM item_drift WHERE scale_id = %(scale)s AND month = %(month)s AND engine = %(engine)s
               ORDER BY array_position(ARRAY['high', 'medium'], severity), wabc DESC NULLS LAST, item_id"""
_ALERTS_QUERY = """SELECT item_id, kind, severity, opened_month, closed_month FROM drift_alerts
             WHERE scale_id = %(scale)s AND opened_month <= %(month)s
               AND (closed_month IS NULL OR closed_month >= %(month)s) ORDER BY opened_month DESC, item_id"""


def _rows(row: type[Row], query: LiteralString, connection: psycopg.Connection, scale: Scale, month: str) -> list[Row]:
    return records(connection, row, query, {"scale": scale.scale_id, "engine": scale.engine, "month": month})


read_information = partial(_rows, InformationRow, _INFORMATION_QUERY)
read_lost_information = partial(_rows, InformationRow, _LOST_QUERY)
"""Information of the whole test, and of the items that lost information."""
read_drifted_items = partial(_rows, DriftRow, _DRIFTED_QUERY)
"""The items that drifted, the largest change first."""
read_compared_items = partial(_rows, DriftRow, _COMPARED_QUERY)
"""All items that were compared or tested, flagged ones first, the largest change first."""
read_dif = partial(_rows, DifRow, _DIF_QUERY)
read_large_dif = partial(_rows, DifRow, _LARGE_DIF_QUERY)
"""The items with large DIF."""
read_alerts = partial(_rows, AlertRow, _ALERTS_QUERY)
"""The alerts that were open in the month, or closed by it."""


def read_histories(
    connection: psycopg.Connection, scale: Scale, month: str, items: Collection[str] | None = None
) -> dict[str, list[DriftRow]]:
    """Drift of the items (None: all) over the last months up to `month`, in order."""
    rows = records(
        connection,
        DriftRow,
        f"""SELECT {DRIFT_COLUMNS}
               FROM item_drift
               WHERE scale_id = %(scale)s AND engine = %(engine)s AND month <= %(month)s AND month IN (
                 SELECT DISTINCT month FROM item_drift WHERE scale_id = %(scale)s AND month <= %(month)s
                 ORDER BY month DESC LIMIT %(most)s)
                 AND (%(items)s::text[] IS NULL OR item_id = ANY(%(items)s))
               ORDER BY item_id, month""",
        {"scale": scale.scale_id, "engine": scale.engine, "month": month, "most": MONTHS_SHOWN}
        | {"items": None if items is None else list(items)},
    )
    found: dict[str, list[DriftRow]] = {}
    for row in rows:
        found.setdefault(row.item_id, []).append(row)
    return found
