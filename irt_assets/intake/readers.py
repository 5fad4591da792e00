"""Files as streams of record batches: CSV, TSV, JSON lines (each also gzipped), Parquet, workbooks, SPSS and Stata.

This module recognises the kind of a file by its content, never by its name. The kinds are read in `delimited`,
`jsonlines`, `parquet` and `converted`, which share `sources`. Columns are interpreted in `mapping`, values in `clean`.
"""

import codecs
import re
from pathlib import Path

from irt_assets.intake import sources
from irt_assets.intake.converted import open_statistics, open_workbook
from irt_assets.intake.delimited import CsvSource
from irt_assets.intake.jsonlines import JsonLinesSource
from irt_assets.intake.mapping import FileRules, Mapping
from irt_assets.intake.parquet import ParquetSource
from irt_assets.intake.reshape import reshape
from resources.failures import PermanentFailure

IN_R = 'in R: write.csv({}("FILE"), "FILE.csv", row.names = FALSE, na = "")'
FIXED_COLUMNS = "write its answers as CSV with a header (id,q1,q2,…) and a row for each person"
XLS, XLSX, ODS = "an old Excel workbook (xls)", "an Excel workbook (xlsx)", "an OpenDocument spreadsheet (ods)"
SPSS, STATA = "an SPSS file", "a Stata file"
CONVERTED = {XLS: open_workbook, XLSX: open_workbook, ODS: open_workbook, SPSS: open_statistics, STATA: open_statistics}
"""Kinds that are converted, with their readers; the reader of SPSS and Stata is in the extra `files`."""
OTHER_KINDS = {
    rb"PK\x03\x04.{,172}opendocument\.spreadsheet": (ODS, ""),
    rb"PK\x03\x04.*xl/": (XLSX, ""),
    rb"PK\x03\x04": ("a ZIP archive", "unpack it"),
    rb"\xd0\xcf\x11\xe0": (XLS, ""),
    rb"\$FL2@\(#\)": (SPSS, IN_R.format("haven::read_sav")),
    rb"<stata_dta>|[lnopqrs][\x01\x02]\x01": (STATA, IN_R.format("haven::read_dta")),
    rb".{12}\xc2\xea\x81\x60": ("a SAS file", IN_R.format("haven::read_sas")),
    rb"SQLite format 3\0": ("an SQLite database", 'sqlite3 -csv -header FILE "SELECT …" > FILE.csv'),
    rb"X\n\0\0\0": ("an R object (RDS)", IN_R.format("readRDS")),
    rb"RDX3\n": ("an R workspace (RData)", 'load("FILE") in R, then write.csv of the table, row.names = FALSE'),
    rb"%PDF": ("a PDF", "export the table as CSV UTF-8 from the program that made it"),
    rb"\s*&INST": ("a control file of Winsteps", f"{FIXED_COLUMNS}. The key in KEY1 is for --key"),
    rb"\s*; I T E M\b": ("an item file of Winsteps (IFILE) in fixed columns", "write it with CSV=Y in Winsteps"),
    rb"\s*\d+ +\S +\S +\d+ *\r?\n": ("a data file of Iteman", f"{FIXED_COLUMNS}. The key in its line 2 is for --key"),
}
"""Pattern of the first bytes → a kind of file that is not a table of text, and the remedy. The first that fits
counts."""


def other_kind(head: bytes) -> tuple[str, str] | None:
    """The kind of a file that is not a table, and the way to make a table of it. Returns None if it may be one."""
    fitting = (kind for pattern, kind in OTHER_KINDS.items() if re.match(pattern, head, re.DOTALL))
    if known := next(fitting, None):
        return known
    for name, letters in (("UTF-16LE", head[1:2000:2]), ("UTF-16BE", head[0:2000:2])):
        if len(letters) > 1 and 2 * letters.count(0) > len(letters):
            return f"{name} without a byte order mark", f"save it as UTF-8 (iconv -f {name} -t UTF-8 FILE > NEW)"
    return None


def open_source(path: Path, encoding: str | None = None, mapping: Mapping | None = None) -> sources.Source:
    """Open `path` as the kind of file that its first bytes show, with columns and rows as `mapping` reshapes them.

    `encoding`: encoding of text that is not UTF-8. Raises PermanentFailure if the file cannot be read or is not a
    table, or the mapping does not fit it.
    """
    return reshape(_open(path, encoding, mapping.file if mapping else FileRules()), mapping)


def _open(path: Path, encoding: str | None, rules: FileRules) -> sources.Source:
    try:
        head = sources.head(path)
    except OSError as error:
        raise PermanentFailure(f"{path} cannot be read: {error}") from error
    if head.startswith(b"PAR1"):
        return ParquetSource(path)
    if other := other_kind(head):
        kind, remedy = other
        if kind not in CONVERTED:
            raise PermanentFailure(f"{path} is {kind}: {remedy}")
        try:
            return CONVERTED[kind](path, kind, rules)
        except ImportError as error:
            package = str(error.name).replace("_", "-")
            raise PermanentFailure(
                f"{path} is {kind}: install its reader, {package} (pip install 'irt-assets[files]'), or {remedy}"
            ) from error
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if not start:
        raise PermanentFailure(f"{path} is empty: not even a header")
    if start.startswith(b"["):
        raise PermanentFailure(f"{path} is a JSON array: write one object per line (jq -c '.[]')")
    if start.startswith(b"{"):
        return JsonLinesSource(path, encoding)
    return CsvSource(path, encoding, delimiter=rules.delimiter, header=rules.header)
