"""What a month found wrong with items: flags of the estimate, reasons to hold it back, drift and DIF, as one list."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING

import psycopg

from irt_assets.ledger.relations import MONTHS_IN_USE
from resources.postgres.database import named_rows
from resources.postgres.warehouse import read_frame

if TYPE_CHECKING:
    import pandas as pd

# By the scale's own engine: its fit of the newest month that is over, or of one month of one scale.
_NEWEST = f"""
    SELECT DISTINCT ON (scale_id) scale_id, fit_id, engine, month
    FROM {MONTHS_IN_USE} m JOIN calibration_scale k USING (scale_id, engine)
    WHERE window_end <= %(at)s ORDER BY scale_id, month DESC"""
_OF_MONTH = f"""
    SELECT scale_id, fit_id, engine, month FROM {MONTHS_IN_USE} m JOIN calibration_scale k USING (scale_id, engine)
    WHERE (scale_id, month) = (%(scale)s, %(month)s)"""
# Everything that the fit's month found wrong with an item. The column `said` of exported files keeps its name.
_FINDINGS = """,
findings AS (
    SELECT scale_id, item_id, month, 'estimate' AS source, flag AS finding
    FROM fits JOIN mirt_item_params USING (fit_id), jsonb_array_elements_text(flags) flag
    UNION ALL
    SELECT scale_id, item, month, 'held back', reason
    FROM fits JOIN publication_step USING (scale_id, month), jsonb_each(held) AS h (item, reasons),
         jsonb_array_elements_text(reasons) reason
    UNION ALL
    SELECT scale_id, item_id, month, 'drift', concat_ws(' ', severity, details->'change'->>'kind')
    FROM fits JOIN item_drift USING (scale_id, month, engine) WHERE severity <> 'none'
    UNION ALL
    SELECT scale_id, item_id, month, 'DIF', concat(attribute, ' ', focal_group, ' against ', reference_group)
    FROM fits JOIN dif_analysis USING (scale_id, month) WHERE item_id <> '' AND (details->>'large')::boolean)
SELECT scale_id, item_id, month, source, finding AS said FROM findings ORDER BY scale_id, item_id, source, finding
"""


def findings_of_every_scale(connection: psycopg.Connection, at: datetime) -> pd.DataFrame:
    """What the newest month that was over at `at` found wrong with items of each scale, a row a finding."""
    return read_frame(connection, f"WITH fits AS ({_NEWEST}){_FINDINGS}", {"at": at})


def findings_of(connection: psycopg.Connection, scale_id: str, month: str) -> dict[str, list[str]]:
    """What a month found wrong with items of a scale, by item, each with its source."""
    found = defaultdict(list)
    for row in named_rows(connection, f"WITH fits AS ({_OF_MONTH}){_FINDINGS}", {"scale": scale_id, "month": month}):
        found[row["item_id"]].append(f"{row['source']}: {row['said']}")
    return found
