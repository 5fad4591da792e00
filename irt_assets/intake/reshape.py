"""Apply the rules of a mapping that concern whole columns and rows of a file, before its columns are interpreted."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.intake.cells import as_text, trim_cells
from irt_assets.intake.mapping import Mapping, matches
from irt_assets.intake.sources import Batch, Source, names_of
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
        self._source, self._rules = source, rules
        self.kind, self.encoding, self.address = source.kind, source.encoding, source.address
        self.rows = source.rows
        asked = {*rules.rename} | ({rules.frequency} if rules.frequency else set())
        if absent := sorted(asked - {*source.columns, *rules.rename.values()}):
            raise PermanentFailure(
                f"{self.name}: {rules.name} names columns that are not in the file: {names_of(absent)}. Its columns"
                f" are {names_of(source.columns)}."
            )
        self._names = [rules.rename.get(name, name) for name in source.columns]
        self.columns = [name for name in self._names if name != rules.frequency] + _virtual(rules)
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
            used = np.flatnonzero(batch.lines >= first)
            lines, columns = batch.lines[used], dict(zip(self._names, batch.rows.columns, strict=True))
            counts = np.ones(len(used), dtype=np.int64)
            if self._rules.frequency:
                counts = self._counts(columns.pop(self._rules.frequency).take(pa.array(used)), lines)
            indices = pa.array(np.repeat(used, counts))
            cells = [self._cells(name, column).take(indices) for name, column in columns.items()]
            if self._rules.frequency:
                before = np.cumsum(counts) - counts - np.arange(len(counts)) + surplus
                surplus += int(counts.sum()) - len(counts)
                lines = np.repeat(lines + before, counts) + _position(counts)
            stem = pa.scalar(Path(self.name).name.partition(".")[0])
            virtual = {FILE: pa.repeat(stem, len(lines)), ROW: pc.cast(pa.array(lines), pa.string())}
            cells += [virtual[name] for name in _virtual(self._rules)]
            bad = [replace(row, line=row.line + surplus) for row in batch.bad if row.line >= first]
            yield Batch(pa.RecordBatch.from_arrays(cells, names=self.columns), lines, bad)

    def _counts(self, cells: pa.Array, lines: np.ndarray) -> np.ndarray:
        """How often each row occurs. Raises PermanentFailure unless these are whole numbers from 0 on."""
        texts = pc.fill_null(trim_cells(as_text(cells, str(self._rules.frequency))), "0")
        sound = np.asarray(pc.match_substring_regex(texts, r"^\d{1,7}$"))
        counts = np.asarray(pc.cast(pc.if_else(pa.array(sound), texts, "0"), pa.int64()))
        wrong = np.flatnonzero(~sound | (counts > MAX_FREQUENCY))
        if len(wrong):
            raise PermanentFailure(
                f"{self.name}, row {lines[wrong[0]]}: the frequency {texts[int(wrong[0])].as_py()!r} is not a whole"
                f" number from 0 to {MAX_FREQUENCY:,}"
            )
        return counts

    def _cells(self, name: str, cells: pa.Array) -> pa.Array:
        for pattern, expression in self._rules.extract.items():
            if matches(name, pattern):
                cells = pc.replace_substring_regex(as_text(cells, name), f"(?s)^.*?{expression}.*$", r"\1")
        if self._rules.file.decimal == ",":
            cells = pc.replace_substring_regex(trim_cells(as_text(cells, name)), DECIMAL_COMMA, r"\1.\2")
        return cells


def _virtual(rules: Mapping) -> list[str]:
    """The virtual columns that the mapping names."""
    named = {name for names in rules.columns.values() for name in names}
    return [name for name in (FILE, ROW) if name in named]


def _position(counts: np.ndarray) -> np.ndarray:
    """0 … n − 1 for each count n."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
