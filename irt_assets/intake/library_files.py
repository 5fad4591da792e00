"""Files in the form that the library reads: answers and parameters of its commands, and keys of imports."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.common.arrays import Ints
from irt_assets.intake import sources
from irt_assets.intake.cells import as_ids, as_text, trim_cells
from irt_assets.intake.readers import open_source
from irt_psychometrics import PsychometricsError
from irt_psychometrics.commands import Files
from resources.failures import PermanentFailure


@dataclass(frozen=True)
class FileRows:
    """Rows of a file in the form that the library's commands read (see `irt_psychometrics.commands`)."""

    batch: sources.Batch

    @property
    def lines(self) -> Ints:
        return self.batch.lines

    @property
    def bad(self) -> list[tuple[int, str]]:
        return [(bad.line, bad.value) for bad in self.batch.bad]

    def column(self, name: str, ids: bool) -> tuple[list[str], Ints]:
        rows = self.batch.rows
        cells = rows.column(rows.schema.names.index(name))
        if pa.types.is_boolean(cells.type) and not ids:
            cells = pc.cast(cells, pa.int8())
        texts = pc.fill_null(trim_cells((as_ids if ids else as_text)(cells, name)), "").dictionary_encode()
        return texts.dictionary.to_pylist(), np.asarray(texts.indices).astype(np.int64)


def open_rows(path: Path, encoding: str | None = None) -> tuple[Sequence[str], Callable[[], Iterator[FileRows]]]:
    """The columns of `path`, and a function that returns its rows. The first bytes determine the kind of the file."""
    source = open_source(path, encoding)
    return source.columns, lambda: map(FileRows, source.batches())


FILES = Files(open_rows)
"""Reader of all files of the commands."""


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the library's errors into PermanentFailure."""
    try:
        yield
    except PsychometricsError as error:
        raise PermanentFailure(str(error)) from error
