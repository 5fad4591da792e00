"""Export parameters, abilities and flagged items, as of a day, to CSV, Parquet or Excel files.

The command is in cli/export.py.
"""

import json
import os
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import psycopg
from psycopg import sql

from irt_assets.blocks import Column
from irt_assets.blocks.excel import write_workbook
from irt_assets.common.spreadsheets import no_formula
from irt_assets.ledger.findings import findings_of_every_scale
from irt_assets.ledger.publications import parameters_of_every_scale
from irt_psychometrics import PsychometricsError
from irt_psychometrics.items import ItemRow, ProgramForm
from resources.failures import PermanentFailure
from resources.postgres.warehouse import read_frame
from resources.tables import METADATA, meaning
from resources.version import code_version

Subject = Literal["parameters", "abilities", "flags"]
Kind = Literal["csv", "xlsx", "parquet"]
MAX_EXCEL_ROWS = 2**20 - 1
"""A sheet of Excel has 2²⁰ rows; the first is the header."""

_UPDATE = sql.SQL("""UPDATE {table} AS q SET meta = coalesce(q.meta, '{{}}') || jsonb_build_object('irt', (
  SELECT coalesce(jsonb_object_agg(key, value), '{{}}') FROM jsonb_each(q.meta->'irt')
  WHERE key IN ('model', 'max_score', 'block')) || p.irt)
FROM (VALUES
{rows}
) AS p (item_id, irt)
WHERE q.item_id::text = p.item_id;""")
_ABILITIES = """
SELECT DISTINCT ON (scale_id, user_id)
  scale_id, user_id, theta, se, se_total, method, n_items, kind, as_of, window_end, set_hash
FROM mirt_ability WHERE window_end <= %(at)s
ORDER BY scale_id, user_id, window_end DESC, fitted_at DESC
"""


def read_export(
    connection: psycopg.Connection,
    subject: Subject,
    at: datetime,
    form: ProgramForm | None = None,
    metric_d: float = 1.0,
    since: datetime | None = None,
) -> pd.DataFrame:
    """Read the rows to export.

    `parameters`: parameters in force at `at`, one row per item; with `since`, only values that have been published or
    have come into force after this time; with `form`, in the columns of another program, whose scaling constant D is
    `metric_d`. `abilities`: each learner's newest ability from answers before `at`. `flags`: findings of the newest
    month that was over at `at`, one row per finding.
    """
    if subject == "parameters":
        frame = parameters_of_every_scale(connection, at, since)
        return _add_steps(frame) if form is None else _convert(frame, form, metric_d)
    if subject == "flags":
        return findings_of_every_scale(connection, at)
    return read_frame(connection, _ABILITIES, {"at": at})


def _add_steps(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the steps of scored items (b1, b2, …) to `further`, next to their errors."""
    if "further" not in frame:
        return frame
    further = [
        json.dumps(own | {f"b{k}": step for k, (step, _) in ItemRow(a, b, further=own).steps.items()}) if own else None
        for a, b, own in zip(frame["a"], frame["b"], map(_parse_further, frame["further"]), strict=True)
    ]
    return frame.assign(further=pd.Series(further, index=frame.index, dtype=object))


def _parse_further(further: object) -> dict[str, float]:
    return json.loads(further) if isinstance(further, str) else {}


def _convert(frame: pd.DataFrame, form: ProgramForm, metric_d: float) -> pd.DataFrame:
    """Convert to the columns of `form`. Raises PermanentFailure if the form cannot represent an item."""
    rows = []
    for row in frame.to_dict("records"):
        known = {name: row[name] for name in ("a", "b", "c", "a_se", "b_se") if not pd.isna(row[name])}
        try:
            found = ItemRow.from_row(known | {"further": _parse_further(row.get("further"))}).columns(form, metric_d)
        except PsychometricsError as error:
            raise PermanentFailure(f"item {row['item_id']}: {error}") from None
        rows.append({"item_id": row["item_id"], "scale_id": row["scale_id"]} | found)
    return pd.DataFrame(rows).assign(D=metric_d)


def update_statement(connection: psycopg.Connection, table: str, at: datetime, since: datetime | None = None) -> str:
    """SQL that writes the parameters in force at `at` into a company's own table of the form of `question`.

    As in an import, new parameters replace all former ones, but the item's model, maximum score and block stay.
    """
    rows = []
    for row in parameters_of_every_scale(connection, at, since).to_dict("records"):
        known = {name: row[name] for name in ("a", "b", "c", "a_se", "b_se", "c_se") if not pd.isna(row[name])}
        values = sql.Literal(json.dumps(known | _parse_further(row.get("further"))))
        rows.append(sql.SQL("  ({}, {}::jsonb)").format(sql.Literal(row["item_id"]), values))
    if not rows:
        return f"-- no parameters have changed since {since:%Y-%m-%d %H:%M} UTC" if since else "-- nothing is published"
    return _UPDATE.format(table=sql.Identifier(*table.split(".")), rows=sql.SQL(",\n").join(rows)).as_string()


def write_export(frame: pd.DataFrame, kind: Kind, path: Path, title: str) -> None:
    """Write `frame` to `path`. An existing file is replaced only when the new one is complete.

    Times are UTC; in Excel, which has no time zones, the column's name says so. In CSV, text that a spreadsheet would
    run as a formula is prefixed with an apostrophe; the other formats keep all text unchanged. `title` is the title of
    an Excel file, whose sheet *About* describes the columns.

    Raises PermanentFailure if an Excel sheet is too small or the file cannot be written.
    """
    if kind == "xlsx" and len(frame) > MAX_EXCEL_ROWS:
        raise PermanentFailure(f"{len(frame):,} rows do not fit on a sheet of Excel: write csv or parquet instead")
    try:
        handle, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=f".part.{kind}", dir=path.parent)
        os.close(handle)
        try:
            _WRITERS[kind](frame, part, title)
            Path(part).replace(path)
        finally:
            Path(part).unlink(missing_ok=True)
    except OSError as error:
        raise PermanentFailure(f"{path} cannot be written: {error.strerror or error}") from error


def _write_csv(frame: pd.DataFrame, path: str, _title: str) -> None:
    guarded = {
        str(name): column.map(no_formula)
        for name, column in frame.items()
        if pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)
    }
    frame.assign(**guarded).to_csv(path, index=False)


def _write_excel(frame: pd.DataFrame, path: str, title: str) -> None:
    times = frame.select_dtypes("datetimetz").columns
    naive = frame.assign(**{name: frame[name].dt.tz_localize(None) for name in times})
    columns = [
        Column(
            f"{name} (UTC)" if name in times else str(name),
            format=".3f" if pd.api.types.is_float_dtype(column) else "",
        )
        for name, column in frame.items()
    ]
    rows = ([*map(_excel_value, row)] for row in naive.itertuples(index=False, name=None))
    about = [("rows", f"{len(frame):,}"), ("written by", f"irt-assets {code_version()}")]
    about += [(str(name), _MEANINGS[name]) for name in frame.columns if name in _MEANINGS]
    write_workbook(path, title, about, [(title.partition(",")[0], columns, rows)])


def _excel_value(value: Any) -> Any:
    if pd.isna(value):
        return None
    return value if isinstance(value, str | int | float | datetime) else str(value)


_MEANINGS = {
    column.name: meaning(column)
    for name in ("question", "mirt_ability", "item_drift", "item_parameter_publication", "score_table", "issued_score")
    for column in METADATA.tables[name].columns
}
"""Descriptions of the columns of exports, by name."""
_WRITERS: dict[Kind, Callable[[pd.DataFrame, str, str], None]] = {
    "csv": _write_csv,
    "xlsx": _write_excel,
    "parquet": lambda frame, path, _title: frame.to_parquet(path, index=False),
}
