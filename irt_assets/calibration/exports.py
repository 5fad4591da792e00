"""What a scale has for those who work elsewhere: its parameters, abilities and flagged items as they stood on a day.

Belongs here: the three queries and the three kinds of file. What does not: the command (cli/export.py).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import psycopg

from irt_assets.partitions import month_bounds
from resources.failures import PermanentFailure
from resources.warehouse import read_frame

What = Literal["parameters", "abilities", "flags"]
Kind = Literal["csv", "xlsx", "parquet"]
MOST_EXCEL_ROWS = 2**20 - 1
"""A sheet of Excel has 2²⁰ rows; the first is the header."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of texts that spreadsheets run as formulas."""

_PARAMETERS = """
SELECT scale_id, in_force.item_id, a, b, c, a_se, b_se, c_se, effective_from, rule, month, in_force.decided_by,
       in_force.reason, fit_id, CASE WHEN w.since IS NULL THEN 'in use' ELSE 'withdrawn' END AS status,
       w.since AS withdrawn_from, w.reason AS withdrawn_because
FROM (SELECT DISTINCT ON (scale_id, item_id) * FROM item_parameter_publication WHERE effective_from <= %(at)s
      ORDER BY scale_id, item_id, effective_from DESC, publication_id DESC) in_force
LEFT JOIN item_withdrawal w
  ON w.item_id = in_force.item_id AND w.since <= %(at)s AND (w.until IS NULL OR w.until > %(at)s)
ORDER BY scale_id, item_id
"""
_ABILITIES = """
SELECT DISTINCT ON (scale_id, user_id) scale_id, user_id, theta, se, method, n_items, kind, window_end, set_hash
FROM mirt_ability WHERE window_end <= %(at)s
ORDER BY scale_id, user_id, window_end DESC, fitted_at DESC
"""
# By the scale's own engine: its fit of the newest month that is over, or of one month of one scale.
_NEWEST = """
    SELECT DISTINCT ON (m.scale_id) m.scale_id, fit_id, m.engine,
           to_char(window_start AT TIME ZONE 'UTC', 'YYYY-MM') AS month
    FROM mirt_fit_meta m JOIN calibration_scale k USING (scale_id, engine)
    WHERE kind = 'monthly' AND superseded_at IS NULL AND window_end <= %(at)s
    ORDER BY m.scale_id, window_start DESC"""
_OF_MONTH = """
    SELECT m.scale_id, fit_id, m.engine, to_char(window_start AT TIME ZONE 'UTC', 'YYYY-MM') AS month
    FROM mirt_fit_meta m JOIN calibration_scale k USING (scale_id, engine)
    WHERE kind = 'monthly' AND superseded_at IS NULL AND m.scale_id = %(scale)s AND window_start = %(start)s"""
# Everything that the fit's month found wrong with an item.
_SAID = """,
said AS (
    SELECT scale_id, item_id, month, 'estimate' AS source, flag AS said
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
SELECT scale_id, item_id, month, source, said FROM said ORDER BY scale_id, item_id, source, said
"""
_FLAGS = f"WITH fits AS ({_NEWEST}){_SAID}"
_FLAGS_OF_MONTH = f"WITH fits AS ({_OF_MONTH}){_SAID}"
_QUERIES: dict[What, Any] = {"parameters": _PARAMETERS, "abilities": _ABILITIES, "flags": _FLAGS}


def read_export(connection: psycopg.Connection, what: What, at: datetime) -> pd.DataFrame:
    """`parameters`: those in force at `at`, a row an item. `abilities`: each learner's newest from answers before
    `at`. `flags`: what the newest month that was over found wrong with items, a row a finding."""
    return read_frame(connection, _QUERIES[what], {"at": at})


def flags_of(connection: psycopg.Connection, scale_id: str, month: str) -> list[tuple[str, str, str]]:
    """What a month found wrong with items of a scale, by item: the item, the source, and the finding."""
    values = {"scale": scale_id, "start": month_bounds(month)[0]}
    rows = connection.execute(_FLAGS_OF_MONTH.encode(), values).fetchall()
    return [(item, source, finding) for _, item, _, source, finding in rows]


def write_export(frame: pd.DataFrame, kind: Kind, path: Path) -> None:
    """Write `frame` under `path`: the old file stays until the new one is whole.

    Times are UTC; in Excel, which has no time zones, the column says so. In CSV a text that a spreadsheet would run as
    a formula begins with an apostrophe; the other kinds have every text as it is.

    Raises PermanentFailure where a sheet of Excel is too small, or the file cannot be written.
    """
    if kind == "xlsx" and len(frame) > MOST_EXCEL_ROWS:
        raise PermanentFailure(f"{len(frame):,} rows do not fit on a sheet of Excel: write csv or parquet instead")
    try:
        handle, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=f".part.{kind}", dir=path.parent)
        os.close(handle)
        try:
            _WRITERS[kind](frame, part)
            Path(part).replace(path)
        finally:
            Path(part).unlink(missing_ok=True)
    except OSError as error:
        raise PermanentFailure(f"{path} cannot be written: {error.strerror or error}") from error


def _write_csv(frame: pd.DataFrame, path: str) -> None:
    guarded = {str(name): _no_formulas(column) for name, column in frame.items() if _is_text(column)}
    frame.assign(**guarded).to_csv(path, index=False)


def _is_text(column: pd.Series[Any]) -> bool:
    return bool(pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column))


def _no_formulas(column: pd.Series[Any]) -> pd.Series[Any]:
    """The column with an apostrophe before each text that a spreadsheet would run."""
    return column.map(lambda text: f"'{text}" if isinstance(text, str) and text.startswith(FORMULA) else text)


def _write_parquet(frame: pd.DataFrame, path: str) -> None:
    frame.to_parquet(path, index=False)


def _write_excel(frame: pd.DataFrame, path: str) -> None:
    times = frame.select_dtypes("datetimetz").columns
    naive = frame.assign(**{name: frame[name].dt.tz_localize(None) for name in times})
    # An id may begin with "=" or look like an address: it stays text.
    as_text = {"options": {"strings_to_formulas": False, "strings_to_urls": False}}
    with pd.ExcelWriter(path, engine="xlsxwriter", engine_kwargs=as_text) as writer:
        naive.rename(columns={name: f"{name} (UTC)" for name in times}).to_excel(writer, index=False)


_WRITERS: dict[Kind, Callable[[pd.DataFrame, str], None]] = {
    "csv": _write_csv,
    "xlsx": _write_excel,
    "parquet": _write_parquet,
}
