"""Files in the form that the library reads: answers and parameters of its commands, and keys of imports."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.intake.cells import as_ids, as_text, encode, trim_cells
from irt_assets.intake.readers import open_source
from irt_assets.intake.sources import Batch
from irt_psychometrics import PsychometricsError
from irt_psychometrics.cells import Cells
from irt_psychometrics.commands import Batch as LibraryBatch, Files
from resources.failures import PermanentFailure


def open_rows(
    path: Path, encoding: str | None = None, progress: Callable[[int, int | None], None] | None = None
) -> tuple[Sequence[str], Callable[[], Iterator[LibraryBatch]]]:
    """Return the columns of `path`, and a function that returns its rows.

    The first bytes determine the kind of the file. `progress` takes the number of rows read, and their total.
    """
    source = open_source(path, encoding)

    def batches() -> Iterator[LibraryBatch]:
        done = 0
        for batch in source.batches():
            yield _row_batch(batch)
            done += len(batch.lines)
            if progress is not None:
                progress(done, max(done, source.rows))

    return source.columns, batches


def _row_batch(batch: Batch) -> LibraryBatch:
    """Return the lines, a function that returns a column, as text or as ids, and the lines that are not rows."""
    rows = batch.rows

    def column(name: str, ids: bool) -> Cells:
        cells = rows.column(rows.schema.names.index(name))
        if pa.types.is_boolean(cells.type) and not ids:
            cells = pc.cast(cells, pa.int8())
        return encode(trim_cells((as_ids if ids else as_text)(cells, name)))

    return LibraryBatch(batch.lines, column, [(bad.line, bad.value) for bad in batch.bad])


FILES = Files(open_rows)
"""Reader of all files of the commands."""


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the library's errors into PermanentFailure."""
    try:
        yield
    except PsychometricsError as error:
        raise PermanentFailure(str(error)) from error
