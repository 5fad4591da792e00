"""Files of answers and parameters, read as imports are: with our encodings, hints and formats."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.common.arrays import Ints
from irt_assets.intake import sources
from irt_assets.intake.cells import as_ids, as_text, trimmed
from irt_assets.intake.readers import open_source
from irt_psychometrics.commands import Files

Column = tuple[list[str], Ints]
"""Distinct texts, and the place of each row's text among them."""
Rows = Iterator[tuple[Ints, partial[Column], list[tuple[int, str]]]]
"""Batches of rows: their lines, a column by its name, and the lines that are not rows, with the reasons."""


def read(path: Path) -> tuple[Sequence[str], Callable[[], Rows]]:
    """The columns and rows of `path`, read as the kind of file that its first bytes show."""
    source = open_source(path)

    def batches() -> Rows:
        for batch in source.batches():
            yield batch.lines, partial(_column, batch), [(bad.line, bad.value) for bad in batch.bad]

    return source.columns, batches


def _column(batch: sources.Batch, name: str, ids: bool) -> Column:
    cells = batch.rows.column(batch.rows.schema.names.index(name))
    if pa.types.is_boolean(cells.type) and not ids:
        cells = pc.cast(cells, pa.int8())
    texts = pc.fill_null(trimmed((as_ids if ids else as_text)(cells, name)), "").dictionary_encode()
    return texts.dictionary.to_pylist(), np.asarray(texts.indices).astype(np.int64)


FILES = Files(read)
"""Reader of all files of the commands."""
