"""The columns of a matrix that are items, and patterns in the answers that deserve a look."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.intake.cells import as_text, encode, trim_cells
from irt_assets.intake.mapping import Binding
from irt_assets.intake.scoring import MAX_POINTS, ByKey, FromPoints, Scoring
from irt_assets.intake.sources import Batch
from irt_psychometrics.cells import ByPattern, Cells, FirstRows, MaxScores

MAX_VALUES = 200


class MatrixColumns(NamedTuple):
    """The columns of a matrix.

    Attributes:
        items: columns that are items.
        aside: the other columns, each with a description if it is a total or a number of rows, else "".
        points: columns of either kind that contain points from 0 on without a known maximum, with the highest points
            that occur.
        constant: items with the same value in all of several cells.
    """

    items: list[str]
    aside: dict[str, str]
    points: dict[str, int]
    constant: tuple[str, ...]


def item_columns(binding: Binding, batches: Iterable[Batch], scoring: Scoring) -> MatrixColumns:
    """Find the columns of a matrix that are items, from the whole file.

    A key's items, or the columns that match a pattern of the mapping other than `*`, are items. With `*`, totals and
    numbers of rows are not, unless the bank or the import names their maximum scores. Of the other columns, if points
    are dichotomised, a column is an item if all its values are whole numbers up to `MAX_POINTS`. Else it is an item if

    - at least half of its values are scores and, if some are not, one of them is a zero: the choices 1–5 of an unscored
      test are not scores, although some are 1; or
    - its maximum score is above 1, and the bank or the import names it or at least half of its values are such scores.
    """
    wide = binding.mapping.wide
    assert wide is not None
    values: dict[str, Counter[str]] = {}
    first = FirstRows()
    for batch in batches:
        mapped = {name for names in binding.columns.values() for name in names} | {*wide.responses.values()}
        for name, cells in zip(batch.rows.schema.names, batch.rows.columns, strict=True):
            if name not in mapped:
                null_values = binding.null_values_of(name)
                texts = trim_cells(as_text(cells, name))
                if name not in values:
                    first.add(name, encode(texts.slice(0, first.SIZE)))
                _count_values(values.setdefault(name, Counter()), texts, null_values)
    guessed = "*" in wide.items and not isinstance(scoring, ByKey)
    maxima, by = scoring.maxima, binding.mapping.denominator
    derived = first.derived({name for name in values if binding.item(name) in maxima}) if guessed else {}
    used = {name: counts for name, counts in values.items() if name not in derived}
    if isinstance(scoring, ByKey):
        items = [name for name in values if binding.item(name) in scoring.keys]
    elif "*" not in wide.items:
        named = {*wide.items} & values.keys()  # a column's own name is no pattern
        patterns = ByPattern(dict.fromkeys(name for name in wide.items if name not in named))
        items = [name for name in values if name in named or patterns.fitting(name)]
    elif isinstance(scoring, FromPoints):
        items = [name for name, counts in used.items() if _are_points(counts)]
    else:
        words = [key.lower() for key in binding.mapping.values.get("correct", {})]
        items = [
            name
            for name, counts in used.items()
            if _are_scores(counts, words)
            or (
                ((most := maxima[binding.item(name)]) > 1)
                and (binding.item(name) in maxima or 2 * _in_range(counts, most, by) >= counts.total() > 0)
            )
        ]
    highest = {
        name: int(max(points))
        for name, counts in used.items()
        if maxima[binding.item(name)] == 1 and _are_points(counts) and 0 in (points := _points(counts))
    }
    are_items = {*items}
    return MatrixColumns(
        items,
        {name: derived.get(name, "") for name in values if name not in are_items},
        {name: most for name, most in highest.items() if most > 1},
        tuple(name for name in items if len(values[name]) == 1 and values[name].total() > 1),
    )


def _count_values(counts: Counter[str], cells: pa.StringArray, null_values: Sequence[str]) -> None:
    """Count the values of a column, until there are so many that they can be neither scores nor points."""
    if len(counts) > MAX_VALUES:
        return
    nothing = pc.is_in(cells, pa.array(["", *null_values], pa.string()))
    counts.update(encode(pc.utf8_lower(cells.filter(pc.invert(nothing)).drop_null())).counts())


def _are_scores(counts: Counter[str], words: Sequence[str]) -> bool:
    points = _points(counts)  # not f and t: they are more often a gender or an option
    scores = [n for (text, n), x in zip(counts.items(), points, strict=True) if x in (0, 1) or text in words]
    return sum(scores) == counts.total() or (sum(scores) >= counts.total() / 2 and 0 in points)


def _are_points(counts: Counter[str]) -> bool:
    return _in_range(counts, MAX_POINTS) == counts.total()


def _in_range(counts: Counter[str], most: int, denominator: int = 1) -> int:
    """Count the cells that, times the denominator, are whole numbers from 0 to `most`."""
    scores = Cells([*counts], np.arange(len(counts))).scores(most, denominator, words={})
    return sum(n for n, x in zip(counts.values(), scores, strict=True) if 0 <= x <= most)


def _points(counts: Counter[str]) -> list[float]:
    return Cells([*counts], np.arange(len(counts))).points().tolist()


class Patterns:
    """Points by learner and by item, added up batch by batch, to find learners without a point, and maximum scores
    that nobody comes near."""

    def __init__(self) -> None:
        self._sums: dict[str, list[pa.Table]] = {"user_id": [], "item_id": []}

    def add(self, answers: pa.RecordBatch, maxima: MaxScores) -> None:
        """Add answers as `Cleaner.clean` returns them."""
        points = pc.cast(answers["correct"], pa.int64())
        if "score" in answers.schema.names:
            points = pc.coalesce(pc.cast(answers["score"], pa.int64()), points)
        most = pa.array(maxima.of_rows(encode(answers["item_id"]))).cast(pa.int64())
        n = pa.repeat(1, len(answers))
        for name, sums in self._sums.items():
            rows = pa.table([answers[name], points, most, n, points, most], names=[*COLUMNS])
            sums.append(_add_up(rows))

    def sums(self) -> tuple[Any, ...]:
        """Return the arguments of `describe_cells` from `possible` on."""
        if not self._sums["user_id"]:
            return (*[np.empty(0, dtype=np.int64)] * 3, [])
        learners, items = (_add_up(pa.concat_tables(sums)) for sums in self._sums.values())
        possible, totals, n = (learners[name].to_numpy() for name in ("possible", "points", "n"))
        rows = zip(*(items[name].to_pylist() for name in ("name", "n", "high", "most")), strict=True)
        return possible, totals, n, rows


COLUMNS = {"name": "", "points": "sum", "possible": "sum", "n": "sum", "high": "max", "most": "max"}
"""Column of the sums → how it is added up."""


def _add_up(rows: pa.Table) -> pa.Table:
    sums = rows.group_by("name").aggregate([(name, how) for name, how in COLUMNS.items() if how])
    return sums.rename_columns([*COLUMNS])
