"""Files in the form that the library reads: answers and parameters of its commands, and keys of imports."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.common.arrays import Ints
from irt_assets.intake.cells import as_ids, as_text, trim_cells
from irt_assets.intake.readers import open_source
from irt_assets.intake.sources import Batch
from irt_psychometrics import PsychometricsError
from irt_psychometrics.commands import Files
from resources.failures import PermanentFailure


class RowBatch(NamedTuple):
    """Rows of a file in the form that the library's commands read.

    Attributes:
        lines: line number of each row.
        column: function that returns a column: its distinct texts, and the place of each row's text among them.
        bad: lines that are not rows, each with the reason.
    """

    lines: Ints
    column: Callable[[str, bool], tuple[list[str], Ints]]
    bad: list[tuple[int, str]]


def open_rows(
    path: Path, encoding: str | None = None, progress: Callable[[int, int | None], None] | None = None
) -> tuple[Sequence[str], Callable[[], Iterator[RowBatch]]]:
    """Return the columns of `path`, and a function that returns its rows.

    The first bytes determine the kind of the file. `progress` takes the number of rows read, and their total.
    """
    source = open_source(path, encoding)

    def batches() -> Iterator[RowBatch]:
        done = 0
        for batch in source.batches():
            yield _row_batch(batch)
            done += len(batch.lines)
            if progress is not None:
                progress(done, max(done, source.rows))

    return source.columns, batches


def _row_batch(batch: Batch) -> RowBatch:
    rows = batch.rows

    def column(name: str, ids: bool) -> tuple[list[str], Ints]:
        cells = rows.column(rows.schema.names.index(name))
        if pa.types.is_boolean(cells.type) and not ids:
            cells = pc.cast(cells, pa.int8())
        texts = pc.fill_null(trim_cells((as_ids if ids else as_text)(cells, name)), "").dictionary_encode()
        return texts.dictionary.to_pylist(), np.asarray(texts.indices).astype(np.int64)

    return RowBatch(batch.lines, column, [(bad.line, bad.value) for bad in batch.bad])


FILES = Files(open_rows)
"""Reader of all files of the commands."""


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the library's errors into PermanentFailure."""
    try:
        yield
    except PsychometricsError as error:
        raise PermanentFailure(str(error)) from error
