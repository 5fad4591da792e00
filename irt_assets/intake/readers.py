"""Files as streams of record batches: CSV, TSV, JSON lines (each also gzipped) and Parquet.

This module recognises the kind of a file by its content, never by its name. The kinds are read in `delimited`,
`jsonlines` and `parquet`, which share `sources`. Columns are interpreted in `mapping`, values in `clean`.
"""

import codecs
from pathlib import Path

from irt_assets.intake import sources
from irt_assets.intake.delimited import CsvSource
from irt_assets.intake.jsonlines import JsonLinesSource
from irt_assets.intake.parquet import ParquetSource
from resources.failures import PermanentFailure

SAVE_AS = "save the sheet that holds the table as CSV UTF-8 and give that file"
IN_R = 'in R: write.csv({}("FILE"), "FILE.csv", row.names = FALSE, na = "")'
OTHER_KINDS = {
    b"\xd0\xcf\x11\xe0": f"an old Excel workbook (xls): {SAVE_AS}",
    b"$FL2@(#)": f"an SPSS file: {IN_R.format('haven::read_sav')}",
    b"<stata_dta>": f"a Stata file: {IN_R.format('haven::read_dta')}",
    b"SQLite format 3\0": 'an SQLite database: sqlite3 -csv -header FILE "SELECT …" > FILE.csv',
    b"X\n\0\0\0": f"an R object (RDS): {IN_R.format('readRDS')}",
    b"RDX3\n": 'an R workspace (RData): load("FILE") in R, then write.csv of the table, row.names = FALSE',
    b"%PDF": "a PDF: export the table as CSV UTF-8 from the program that made it",
    codecs.BOM_UTF16_LE: "UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8 FILE > NEW)",
    codecs.BOM_UTF16_BE: "UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8 FILE > NEW)",
}
"""Kinds of files that are not tables of text, by their first bytes, and the remedy."""


def other_kind(head: bytes) -> str:
    """Name the kind of a file that is not a table, and the way to make a table of it. Returns "" if it may be one."""
    if head.startswith(b"PK\x03\x04"):
        if b"opendocument.spreadsheet" in head[:200]:
            return f"an OpenDocument spreadsheet (ods): {SAVE_AS}"
        return f"an Excel workbook (xlsx): {SAVE_AS}" if b"xl/" in head else "a ZIP archive: unpack it"
    if head[12:16] == b"\xc2\xea\x81\x60":
        return f"a SAS file: {IN_R.format('haven::read_sas')}"
    if head[:1] in b"lnopqrs" and head[1:3] in (b"\1\1", b"\2\1"):
        return str(OTHER_KINDS[b"<stata_dta>"])
    if known := next((kind for first, kind in OTHER_KINDS.items() if head.startswith(first)), ""):
        return known
    for name, letters in (("UTF-16LE", head[1:2000:2]), ("UTF-16BE", head[0:2000:2])):
        if len(letters) > 1 and 2 * letters.count(0) > len(letters):
            return f"{name} without a byte order mark: save it as UTF-8 (iconv -f {name} -t UTF-8 FILE > NEW)"
    return ""


def open_source(path: Path, encoding: str | None = None) -> sources.Source:
    """Open `path` as the kind of file that its first bytes show. `encoding`: encoding of text that is not UTF-8."""
    try:
        head = sources.head(path)
    except OSError as error:
        raise PermanentFailure(f"{path} cannot be read: {error}") from error
    if head.startswith(b"PAR1"):
        return ParquetSource(path)
    if kind := other_kind(head):
        raise PermanentFailure(f"{path} is {kind}")
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if not start:
        raise PermanentFailure(f"{path} is empty: not even a header")
    if start.startswith(b"["):
        raise PermanentFailure(f"{path} is a JSON array: write one object per line (jq -c '.[]')")
    return JsonLinesSource(path, encoding) if start.startswith(b"{") else CsvSource(path, encoding)
