"""Apply the rules of a mapping that concern whole columns and rows of a file, before its columns are interpreted."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.intake.cells import as_text, trim_cells
from irt_assets.intake.mapping import Mapping
from irt_assets.intake.sources import Batch, Source, names_of
from irt_psychometrics.cells import ByPattern
from resources.failures import PermanentFailure

FILE, ROW = "#file", "#row"
"""Columns that every file has if a mapping names them: its name without the extension, and the number of the row."""
MAX_FREQUENCY = 1_000_000
DECIMAL_COMMA = r"^([+-]?\d+),(\d+)$"


def reshape(source: Source, rules: Mapping | None) -> Source:
    """The source as `file`, `rename`, `extract` and `frequency` of the mapping change it, with `#file` and `#row`.

    Raises PermanentFailure if the mapping renames or counts a column that the file lacks.
    """
    if rules is None:
        return source
    changed = _virtual(rules) or rules.rename or rules.extract or rules.frequency
    return _Reshaped(source, rules) if changed or rules.file.first_row or rules.file.decimal == "," else source


class _Reshaped(Source):
    """A source with other columns and rows. With frequencies, rows are numbered as if each was written out."""

    def __init__(self, source: Source, rules: Mapping) -> None:
        super().__init__(source.path)
        self._source, self._rules, self._expressions = source, rules, ByPattern(rules.extract)
        self.kind, self.encoding, self.address, self.rows = source.kind, source.encoding, source.address, source.rows
        self._names = [rules.rename.get(name, name) for name in source.columns]
        self.columns = [name for name in self._names if name != rules.frequency] + _virtual(rules)
        asked = {*rules.rename} | ({rules.frequency} if rules.frequency else set())
        if absent := sorted(asked - {*source.columns, *self._names}):
            raise PermanentFailure(
                f"{self.name}: {rules.name} names columns that are not in the file: {names_of(absent)}. Its columns"
                f" are {names_of(source.columns)}."
            )
        if len({*self.columns}) < len(self.columns):
            raise PermanentFailure(f"{self.name}: {rules.name} renames columns to a name that the file has twice")

    @property
    def sha256(self) -> str:
        return self._source.sha256

    def raw(self, row: dict[str, Any]) -> str:
        return self._source.raw({name: value for name, value in row.items() if name not in (FILE, ROW)})

    def batches(self) -> Iterator[Batch]:
        first, surplus = self._rules.file.first_row or 0, 0
        for batch in self._source.batches():
            used = batch.lines >= first
            rows, lines = batch.rows.rename_columns(self._names).filter(pa.array(used)), batch.lines[used]
            if self._rules.frequency:
                counts = self._counts(rows.column(self._rules.frequency), lines)
                rows = rows.take(pa.array(np.repeat(np.arange(len(counts)), counts)))
                lines = np.repeat(lines - np.arange(len(counts)), counts) + np.arange(rows.num_rows) + surplus
                surplus += rows.num_rows - len(counts)
            cells = {name: self._cells(name, column) for name, column in zip(self._names, rows.columns, strict=True)}
            cells[FILE] = pa.repeat(pa.scalar(Path(self.name).name.partition(".")[0]), len(lines))
            cells[ROW] = pc.cast(pa.array(lines), pa.string())
            bad = [replace(row, line=row.line + surplus) for row in batch.bad if row.line >= first]
            yield Batch(pa.record_batch([cells[name] for name in self.columns], names=self.columns), lines, bad)

    def _counts(self, cells: pa.Array, lines: np.ndarray) -> np.ndarray:
        """How often each row occurs. Raises PermanentFailure unless these are whole numbers from 0 on."""
        texts = pc.fill_null(trim_cells(as_text(cells, str(self._rules.frequency))), "0").to_pylist()
        counts = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce").to_numpy()
        wrong = np.flatnonzero(~((counts >= 0) & (counts <= MAX_FREQUENCY) & (counts % 1 == 0)))
        if len(wrong):
            raise PermanentFailure(
                f"{self.name}, row {lines[wrong[0]]}: the frequency {texts[wrong[0]]!r} is not a whole number from 0 to"
                f" {MAX_FREQUENCY:,}"
            )
        return counts.astype(np.int64)

    def _cells(self, name: str, cells: pa.Array) -> pa.Array:
        for expression in self._expressions.fitting(name):
            cells = pc.replace_substring_regex(as_text(cells, name), f"(?s)^.*?{expression}.*$", r"\1")
        if self._rules.file.decimal == ",":
            cells = pc.replace_substring_regex(trim_cells(as_text(cells, name)), DECIMAL_COMMA, r"\1.\2")
        return cells


def _virtual(rules: Mapping) -> list[str]:
    """The virtual columns that the mapping names."""
    named = {name for names in rules.columns.values() for name in names}
    return [name for name in (FILE, ROW) if name in named]
