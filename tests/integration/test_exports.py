"""`irt export`: what was in force on a day, in each kind of file."""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from irt_assets.abilities.batch import measure
from irt_assets.common.partitions import Month
from irt_assets.decisions import exports
from irt_assets.ledger.publications import in_force
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms

EXCEL_DAY = (datetime(2026, 9, 1) - datetime(1899, 12, 30)).days  # noqa: DTZ001 - Excel has no time zones
"""Days are counted from there in Excel."""
READERS = {"csv": pd.read_csv, "parquet": pd.read_parquet}


@pytest.mark.parametrize("month", rooms.MONTHS)
def test_parameters_are_those_in_force(calibrated: Settings, month: str) -> None:
    at = Month(month).end
    with Database(calibrated).connect() as connection:
        frame = exports.read_export(connection, "parameters", at)
        wanted = in_force(connection, rooms.SCALE, at).items
    assert {row.item_id: (row.a, row.b, row.c) for row in frame.itertuples()} == {
        item: values.abc for item, values in wanted.items()
    }


def test_parameters_in_the_form_of_a_program_are_the_same_items(calibrated: Settings) -> None:
    at = Month(rooms.MONTHS[-1]).end
    with Database(calibrated).connect() as connection:
        ours = exports.read_export(connection, "parameters", at)
        theirs = exports.read_export(connection, "parameters", at, "mirt", 1.7)
        steps = exports.read_export(connection, "parameters", at, "steps")
    assert theirs.item_id.tolist() == ours.item_id.tolist()
    assert theirs.columns.tolist() == ["item_id", "scale_id", "a1", "d", "a_se", "b_se", "D"]
    assert (theirs.a1 * 1.7).tolist() == pytest.approx(ours.a.tolist())
    assert (-theirs.d / theirs.a1).tolist() == pytest.approx(ours.b.tolist())
    assert (theirs.a_se * 1.7).tolist() == pytest.approx(ours.a_se.tolist())
    assert steps.b1.tolist() == pytest.approx(ours.b.tolist())


def test_abilities_are_the_newest_of_each_learner_at_the_time(months: Database) -> None:
    measured = {month: measure(months, month, f"run of {month}")[0] for month in rooms.MONTHS}
    first, last = (Month(month).end for month in rooms.MONTHS)
    with months.connect() as connection:
        early, late = (exports.read_export(connection, "abilities", at) for at in (first, last))
    assert sorted(early.theta) == sorted(measured[rooms.MONTHS[0]].theta)
    assert not late.duplicated("user_id").any()
    assert sorted(late.theta[late.window_end == last]) == sorted(measured[rooms.MONTHS[1]].theta)
    answered = dict(rooms.rows(months, "SELECT user_id, max(completed_at) FROM attempt GROUP BY 1"))
    assert (late.as_of <= late.user_id.map(answered)).all()
    assert (late.as_of < late.window_end).all()


def test_what_drifted_and_what_leaked_is_exported(faulty: tuple[Settings, object, object]) -> None:
    settings = faulty[0]
    with Database(settings).connect() as connection:
        frame = exports.read_export(connection, "flags", Month(rooms.MONTHS[1]).end)
        flagged = {
            item
            for (item,) in connection.execute(
                "SELECT item_id FROM item_drift WHERE month = %s AND severity <> 'none'", (rooms.MONTHS[1],)
            )
        }
        before = exports.read_export(connection, "flags", Month(rooms.MONTHS[0]).start)
    assert flagged
    assert set(frame.item_id[frame.source == "drift"]) == flagged
    assert before.empty


@pytest.mark.parametrize("kind", ["csv", "xlsx", "parquet"])
def test_each_kind_of_file_holds_the_same_rows(kind: exports.Kind, tmp_path: Path) -> None:
    """An id that a spreadsheet would run as a formula stays what it is, but for the apostrophe before it in CSV; times
    come back as they were, in UTC."""
    frame = pd.DataFrame(
        {
            "item_id": ["=1+1", "+1", "-1", "@x", "\t=1", "http://x.example/a", "03", ""],
            "a": [-1.25, 0.1 + 0.2, None, 1, 2, 3, 4, 5],
            "effective_from": [datetime(2026, 9, 1, tzinfo=UTC)] * 8,
        }
    )
    path = tmp_path / f"parameters.{kind}"
    exports.write_export(frame, kind, path)
    if kind == "xlsx":
        with zipfile.ZipFile(path) as book:
            texts, sheet = (book.read(f"xl/{part}.xml").decode() for part in ("sharedStrings", "worksheets/sheet1"))
        for text in ("effective_from (UTC)", *filter(None, frame.item_id)):
            assert f">{text}<" in texts
        assert "<f>" not in sheet
        assert "hyperlink" not in sheet
        assert f">{EXCEL_DAY}<" in sheet
    else:
        as_text = {"dtype": {"item_id": str}, "keep_default_na": False, "na_values": {"a": [""]}}
        back = READERS[kind](path, **(as_text if kind == "csv" else {}))
        formulas = ["'=1+1", "'+1", "'-1", "'@x", "'\t=1"] if kind == "csv" else list(frame.item_id[:5])
        assert list(back.item_id) == [*formulas, *frame.item_id[5:]]
        assert back.a.equals(frame.a)
        assert list(pd.to_datetime(back.effective_from)) == list(frame.effective_from)
    assert list(tmp_path.iterdir()) == [path]


def test_a_sheet_of_excel_that_is_too_small_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "MOST_EXCEL_ROWS", 2)
    with pytest.raises(PermanentFailure, match="3 rows do not fit"):
        exports.write_export(pd.DataFrame({"x": [1, 2, 3]}), "xlsx", tmp_path / "x.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure, match="nowhere"):
        exports.write_export(pd.DataFrame({"x": [1]}), "csv", tmp_path / "nowhere" / "x.csv")
