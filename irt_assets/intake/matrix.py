"""The columns of a matrix that are items, and patterns in the answers that deserve a look."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.intake.cells import as_text, trim_cells
from irt_assets.intake.choices import spellings
from irt_assets.intake.mapping import Binding, ByPattern
from irt_assets.intake.scoring import MAX_POINTS, ByKey, FromPoints, Maxima, Scoring, points
from irt_assets.intake.sources import Batch
from irt_psychometrics.commands import Files

MAX_VALUES = 200
FIRST_ROWS = 1_000  # rows that show which columns are totals or numbers of rows


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
    first: dict[str, np.ndarray] = {}
    for batch in batches:
        mapped = {name for names in binding.columns.values() for name in names}
        for name, cells in zip(batch.rows.schema.names, batch.rows.columns, strict=True):
            if name not in mapped:
                null_values = binding.null_values_of(name)
                texts = trim_cells(as_text(cells, name))
                _count_values(values.setdefault(name, Counter()), texts, null_values)
                if name not in first:
                    first[name] = points(texts.slice(0, FIRST_ROWS))
    derived: dict[str, str] = {}
    if "*" in wide.items and not isinstance(scoring, ByKey) and first:
        derived = Files.derived_columns([*first], np.column_stack([*first.values()]))
        derived = {name: why for name, why in derived.items() if not scoring.maxima.names_item(name)}
    used = {name: counts for name, counts in values.items() if name not in derived}
    if isinstance(scoring, ByKey):
        items = [name for name in values if name in scoring.keys]
    elif "*" not in wide.items:
        named = {*wide.items} & values.keys()  # a column's own name is no pattern
        patterns = ByPattern(dict.fromkeys(name for name in wide.items if name not in named))
        items = [name for name in values if name in named or patterns.fitting(name)]
    elif isinstance(scoring, FromPoints):
        items = [name for name, counts in used.items() if _are_points(counts)]
    else:
        words = [key.lower() for key in binding.mapping.values.get("correct", {})]
        maxima, by = scoring.maxima, binding.mapping.denominator
        items = [
            name
            for name, counts in used.items()
            if _are_scores(counts, words)
            or (
                ((most := maxima.of_item(name)) > 1)
                and (maxima.names_item(name) or 2 * _in_range(counts, most, by) >= counts.total() > 0)
            )
        ]
    highest = {
        name: max(int(float(text)) for text in counts)
        for name, counts in used.items()
        if any(re.match(r"^0+(\.0*)?$", text) for text in counts)
        and scoring.maxima.of_item(name) == 1
        and _are_points(counts)
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
    counts.update(spellings(pc.utf8_lower(cells.filter(pc.invert(nothing)).drop_null())))


def _are_scores(counts: Counter[str], words: Sequence[str]) -> bool:
    number = {text: Files.points(text) for text in counts}  # not f and t: they are more often a gender or an option
    scores = {text for text, x in number.items() if x in (0, 1)} | {word for word in words if word in counts}
    right_or_wrong = sum(counts[text] for text in scores)
    some_wrong = any(x == 0 for x in number.values())
    return right_or_wrong == counts.total() or (right_or_wrong >= counts.total() / 2 and some_wrong)


def _are_points(counts: Counter[str]) -> bool:
    return _in_range(counts, MAX_POINTS) == counts.total()


def _in_range(counts: Counter[str], most: int, denominator: int = 1) -> int:
    """Number of cells that, times the denominator, are whole numbers from 0 to `most`."""
    numbers = {text: float(text) for text in counts if re.match(r"^\d+(\.\d*)?$", text)}
    return sum(counts[text] for text, n in numbers.items() if Files.whole_scores(n, denominator) <= most)


class Patterns:
    """Points by learner and by item, added up batch by batch, to find learners without a point, and maximum scores
    that nobody comes near."""

    def __init__(self) -> None:
        self._sums: dict[str, list[pa.Table]] = {"user_id": [], "item_id": []}

    def add(self, answers: pa.RecordBatch, maxima: Maxima) -> None:
        """Add answers as `Cleaner.clean` returns them."""
        points = pc.cast(answers["correct"], pa.int64())
        if "score" in answers.schema.names:
            points = pc.coalesce(pc.cast(answers["score"], pa.int64()), points)
        most = pa.array(maxima.by_answer(answers["item_id"])).cast(pa.int64())
        n = pa.repeat(1, len(answers))
        for name, sums in self._sums.items():
            rows = pa.table([answers[name], points, most, n, points, most], names=[*COLUMNS])
            sums.append(_add_up(rows))

    def notes(self) -> list[str]:
        """Return the sentences for the report, empty if a pattern does not occur."""
        if not self._sums["user_id"]:
            return []
        learners, items = (_add_up(pa.concat_tables(sums)) for sums in self._sums.values())
        totals = (learners[name].to_numpy() for name in ("possible", "points", "n"))
        rows = zip(*(items[name].to_pylist() for name in ("name", "n", "high", "most")), strict=True)
        return [Files.describe_zeros(*totals), Files.describe_unreached(rows)]


COLUMNS = {"name": "", "points": "sum", "possible": "sum", "n": "sum", "high": "max", "most": "max"}
"""Column of the sums → how it is added up."""


def _add_up(rows: pa.Table) -> pa.Table:
    sums = rows.group_by("name").aggregate([(name, how) for name, how in COLUMNS.items() if how])
    return sums.rename_columns([*COLUMNS])
