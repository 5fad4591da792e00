"""Workbooks, files of SPSS and Stata, UTF-16, and the rules of a mapping for columns and rows."""

from __future__ import annotations

import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from irt_assets.intake.mapping import Mapping, load_mapping
from irt_assets.intake.readers import open_source
from resources.failures import PermanentFailure
from tests.helpers.workbooks import write_cells

FRAME = pd.DataFrame(
    {
        "id": [101, 102, 103],
        "q1": [1.0, 0.0, None],
        "q2": [0.5, 1.0, 0.0],
        "at": pd.to_datetime(["2026-10-01 08:00", "2026-10-01 09:30", "2026-10-02 10:00"]),
    }
)
ROWS = [
    {"id": "101", "q1": "1", "q2": "0.5", "at": "2026-10-01 08:00:00"},
    {"id": "102", "q1": "0", "q2": "1", "at": "2026-10-01 09:30:00"},
    {"id": "103", "q1": "", "q2": "0", "at": "2026-10-02 10:00:00"},
]
ODS = """<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"
 xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:body><office:spreadsheet>
<table:table table:name="S"><table:table-row>
<table:table-cell office:value-type="string"><text:p>id</text:p></table:table-cell>
<table:table-cell office:value-type="string"><text:p>q1</text:p></table:table-cell></table:table-row>
<table:table-row><table:table-cell office:value-type="string"><text:p>007</text:p></table:table-cell>
<table:table-cell office:value-type="float" office:value="1"><text:p>1,00</text:p></table:table-cell>
</table:table-row></table:table></office:spreadsheet></office:body></office:document-content>"""


@pytest.fixture
def readers(require: Any) -> None:
    require(find_spec("pyreadstat") is not None, "pyreadstat (make venv EXTRAS=files)")


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def rows(path: Path, mapping: Mapping | None = None) -> tuple[list[int], list[dict[str, str]]]:
    batches = list(open_source(path, None, mapping).batches())
    lines = [line for batch in batches for line in batch.lines.tolist()]
    return lines, [row for batch in batches for row in batch.rows.to_pylist()]


def test_excel_sheet_gives_the_rows_of_its_csv(tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "x.xlsx", engine="xlsxwriter") as book:
        pd.DataFrame().to_excel(book, sheet_name="Empty")
        FRAME.to_excel(book, sheet_name="Answers", index=False, startrow=2)
        pd.DataFrame({"item": ["q1"], "key": [True]}).to_excel(book, sheet_name="Key", index=False)
    assert rows(tmp_path / "x.xlsx") == ([4, 5, 6], ROWS)
    assert open_source(tmp_path / "x.xlsx").kind == "Excel workbook (xlsx), sheet Answers"
    key = Mapping(name="m", file={"sheet": "Key"})
    assert rows(tmp_path / "x.xlsx", key) == ([2], [{"item": "q1", "key": "true"}])
    with pytest.raises(PermanentFailure, match="no sheet 'Keys' with cells; its sheets with cells: Answers, Key"):
        open_source(tmp_path / "x.xlsx", None, Mapping(name="m", file={"sheet": "Keys"}))


def write_ods(path: Path, more_rows: str = "") -> Path:
    """Write an OpenDocument workbook with the rows of `ODS` and more rows after them."""
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        book.writestr(
            "META-INF/manifest.xml",
            '<m:manifest xmlns:m="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"></m:manifest>',
        )
        book.writestr("content.xml", ODS.replace("\n", "").replace("</table:table><", f"{more_rows}</table:table><"))
    return path


def test_opendocument_sheet_keeps_text_and_numbers(tmp_path: Path) -> None:
    assert rows(write_ods(tmp_path / "x.ods")) == ([2], [{"id": "007", "q1": "1"}])


@pytest.mark.usefixtures("readers")
@pytest.mark.parametrize("kind", ["sav", "dta"])
def test_statistics_file_gives_codes_and_empty_cells(tmp_path: Path, kind: str) -> None:
    import pyreadstat

    path = tmp_path / f"x.{kind}"
    labels = {"q2": {0: "wrong", 1: "right"}}
    if kind == "sav":  # 9 is a missing value by declaration
        declared = FRAME.assign(q1=[1.0, 0.0, 9.0])
        pyreadstat.write_sav(declared, path, variable_value_labels=labels, missing_ranges={"q1": [9]})
    else:
        pyreadstat.write_dta(FRAME, path, variable_value_labels=labels)
    assert rows(path) == ([2, 3, 4], [{**row, "at": row["at"] + ".000000"} for row in ROWS])


def test_absent_reader_is_named_with_the_way_to_a_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyreadstat", None)
    (tmp_path / "x").write_bytes(b"$FL2@(#) SPSS DATA FILE")
    with pytest.raises(PermanentFailure, match=r"pip install 'irt-assets\[files\]'\), or .*haven::read_sav"):
        open_source(tmp_path / "x")


def test_reader_of_workbooks_needs_no_extra() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert any(need.startswith("python-calamine==") for need in project["dependencies"])


def test_converted_file_is_deleted_with_its_source(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    FRAME.to_excel(tmp_path / "x.xlsx", index=False)
    source = open_source(tmp_path / "x.xlsx")
    assert len([*tmp_path.iterdir()]) == 2
    del source
    assert [path.name for path in tmp_path.iterdir()] == ["x.xlsx"]


@pytest.mark.parametrize("cell", ["XFD1048576", "LL1048576", "XFD100000"])
def test_workbook_with_a_cell_far_from_its_table_is_refused(tmp_path: Path, cell: str) -> None:
    """Reading such a workbook of 2 kB took 10 to 550 GB and ended the process."""
    path = write_cells(tmp_path / "far.xlsx", {"A1": 1, cell: 2})
    with pytest.raises(PermanentFailure, match=r"far\.xlsx is an Excel workbook .*delete the rows and columns beyond"):
        open_source(path)


def test_opendocument_sheet_with_a_cell_far_from_its_table_is_refused(tmp_path: Path) -> None:
    far = (
        '<table:table-row table:number-rows-repeated="1048573"><table:table-cell/></table:table-row><table:table-row>'
        '<table:table-cell table:number-columns-repeated="16383"/>'
        '<table:table-cell office:value-type="float" office:value="1"><text:p>1</text:p></table:table-cell>'
        "</table:table-row>"
    )
    with pytest.raises(
        PermanentFailure, match=r"far\.ods is an OpenDocument spreadsheet \(ods\), and it cannot be read"
    ):
        open_source(write_ods(tmp_path / "far.ods", far))


def test_sheet_that_begins_below_and_right_of_its_corner_keeps_its_places(tmp_path: Path) -> None:
    path = write_cells(tmp_path / "x.xlsx", {"C3": 7, "D3": 8, "D5": 9})
    source = open_source(path)
    assert source.columns == ["", " (2)", "7", "8"]
    assert rows(path) == ([4, 5], [dict.fromkeys(source.columns, ""), dict.fromkeys(source.columns, "") | {"8": "9"}])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_with_a_mark_is_read(tmp_path: Path, encoding: str) -> None:
    mark = "" if encoding == "utf-16" else "\ufeff"
    path = write(tmp_path / "x.csv", mark + 'id\t"q\n1"\r\n김\t1\r\nĀċĊ\t0\r\n', encoding)
    assert rows(path)[1] == [{"id": "김", "q\n1": "1"}, {"id": "ĀċĊ", "q\n1": "0"}]


def test_header_and_first_row_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "A report, of today\n\nid|q1\ntext|What is it?\nann|1\n")
    mapping = Mapping(name="m", file={"delimiter": "|", "header": 3, "first_row": 5})
    assert rows(path, mapping) == ([5], [{"id": "ann", "q1": "1"}])


def test_columns_are_renamed_and_values_extracted(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", 'id;"q [1]";q1\nann;"1,5 / 2";x\n')
    rules = {"rename": {"q [1]": "one"}, "extract": {"one": r"^(\S+) /"}, "file": {"decimal": ","}}
    assert rows(path, Mapping(name="m", **rules))[1] == [{"id": "ann", "one": "1.5", "q1": "x"}]
    with pytest.raises(PermanentFailure, match=r"not in the file: q9\. Its columns are id, q \[1\], q1"):
        rows(path, Mapping(name="m", rename={"q9": "q"}))
    bad = write(tmp_path / "m.yaml", "extract: {q: '^x'}")
    with pytest.raises(PermanentFailure, match="a group in parentheses"):
        load_mapping(bad)


def test_frequency_repeats_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "lsat.csv", "q1,q2,n\n0,1,2\n1,1,0\n1,0,1\n")
    rules = Mapping(name="m", columns={"user_id": ("#file", "#row")}, frequency="n")
    assert rows(path, rules) == (
        [2, 3, 4],
        [
            {"q1": q1, "q2": q2, "#file": "lsat", "#row": row}
            for q1, q2, row in [("0", "1", "2"), ("0", "1", "3"), ("1", "0", "4")]
        ],
    )
    write(path, "q1,q2,n\n0,1,2\n1,1,-1\n")
    with pytest.raises(PermanentFailure, match="row 3: the frequency '-1' is not a whole number"):
        rows(path, rules)
