"""Partitions of response_log for answers that a test writes directly."""

from __future__ import annotations

import numpy as np
import psycopg

from resources.postgres.database import one_value
from resources.postgres.log_months import fill_new_months


def ensure_month_partitions(connection: psycopg.Connection, first_month: str, last_month: str) -> list[str]:
    """Create the partitions from the first to the last month ("2026-09"), as an import does. Returns the new ones."""
    months = np.arange(np.datetime64(first_month, "M"), np.datetime64(last_month, "M") + 1).astype(str).tolist()
    new = [month for month in months if not _exists(connection, f"response_log_{month.replace('-', '_')}")]
    if not new:
        return []
    with fill_new_months(connection, new) as missing:
        return missing


def _exists(connection: psycopg.Connection, table: str) -> bool:
    return one_value(connection, "SELECT to_regclass(%s) IS NOT NULL", (table,))
