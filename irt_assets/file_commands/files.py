"""Files of answers and parameters, read as imports are: with our encodings, hints and formats."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.intake import sources
from irt_assets.intake.cells import as_ids, as_text, trimmed
from irt_assets.intake.readers import open_source
from irt_psychometrics.commands import Batch, Files, Table


def open_table(path: Path) -> Table:
    """Open `path` as the kind of file that its first bytes show."""
    source = open_source(path)

    def batches() -> Iterator[Batch]:
        for batch in source.batches():
            yield _as_batch(batch)

    return Table(path, source.columns, batches)


def _as_batch(batch: sources.Batch) -> Batch:
    names = batch.rows.schema.names

    def column(name: str, ids: bool) -> tuple[list[str], np.ndarray]:
        cells = batch.rows.column(names.index(name))
        if pa.types.is_boolean(cells.type) and not ids:
            cells = pc.cast(cells, pa.int8())
        texts = pc.fill_null(trimmed((as_ids if ids else as_text)(cells, name)), "").dictionary_encode()
        return texts.dictionary.to_pylist(), np.asarray(texts.indices).astype(np.int64)

    return Batch(batch.lines, column, [(bad.line, bad.value) for bad in batch.bad])


FILES = Files(open_table)
"""Reader of all files of the commands."""
