"""A month's findings on items in one list: flags of the estimate, reasons to hold it back, drift and DIF."""

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

# Fits by the scale's own engine: of the newest month that is over, or of one month of one scale.
_NEWEST_FITS = f"""
    SELECT DISTINCT ON (scale_id) scale_id, fit_id, engine, month
    FROM {MONTHS_IN_USE} m JOIN calibration_scale k USING (scale_id, engine)
    WHERE window_end <= %(at)s ORDER BY scale_id, month DESC"""
_FITS_OF_MONTH = f"""
    SELECT scale_id, fit_id, engine, month FROM {MONTHS_IN_USE} m JOIN calibration_scale k USING (scale_id, engine)
    WHERE (scale_id, month) = (%(scale)s, %(month)s)"""
# All findings on an item in the fit's month. The column is called `said` because exported files have that name.
_FINDINGS = """,
findings AS (
    SELECT scale_id, item_id, month, 'estimate' AS source, flag AS finding
    FROM fits JOIN mirt_item_params USING (fit_id), jsonb_array_elements_text(flags) flag
    UNION ALL
    SELECT scale_id, item, month, 'held back', reason
    FROM fits JOIN month_verdict USING (scale_id, month), jsonb_each(held) AS h (item, reasons),
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
    """Findings of each scale's newest month that was over at `at`, one row per finding."""
    return read_frame(connection, f"WITH fits AS ({_NEWEST_FITS}){_FINDINGS}", {"at": at})


def findings_of(connection: psycopg.Connection, scale_id: str, month: str) -> dict[str, list[str]]:
    """A month's findings on the items of a scale, by item, each as "source: finding"."""
    found = defaultdict(list)
    for row in named_rows(
        connection, f"WITH fits AS ({_FITS_OF_MONTH}){_FINDINGS}", {"scale": scale_id, "month": month}
    ):
        found[row["item_id"]].append(f"{row['source']}: {row['said']}")
    return found
