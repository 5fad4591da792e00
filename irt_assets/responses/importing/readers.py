"""Files as streams of record batches: CSV, TSV, JSON lines (each also gzipped) and Parquet.

What belongs here: what a file is, recognised by its content, never by its name. How each kind is read is in
`delimited`, `jsonlines` and `parquet`, what they share in `sources`; what columns mean is in `mapping`, what
values mean in `clean`.
"""

import codecs
from pathlib import Path

from irt_assets.responses.importing import sources
from irt_assets.responses.importing.delimited import CsvSource
from irt_assets.responses.importing.jsonlines import JsonLinesSource
from irt_assets.responses.importing.parquet import ParquetSource
from resources.failures import PermanentFailure


def open_source(path: Path, encoding: str | None = None) -> sources.Source:
    """What `path` holds, recognised by its first bytes. `encoding`: of text that is not UTF-8."""
    try:
        head = sources.head(path)
    except OSError as error:
        raise PermanentFailure(f"{path} cannot be read: {error}") from error
    if head.startswith(b"PAR1"):
        return ParquetSource(path)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise PermanentFailure(f"{path} is UTF-16: save it as UTF-8 (iconv -f UTF-16 -t UTF-8).")
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if not start:
        raise PermanentFailure(f"{path} is empty: not even a header.")
    if start.startswith(b"["):
        raise PermanentFailure(f"{path} is a JSON array: write one object per line (jq -c '.[]').")
    return JsonLinesSource(path, encoding) if start.startswith(b"{") else CsvSource(path, encoding)
