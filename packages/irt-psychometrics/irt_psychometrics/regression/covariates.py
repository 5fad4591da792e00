"""Covariates as the columns of a design matrix: an intercept, numbers as they are, and levels by dummy coding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.frames import Column, Frame, label_of, read_frame
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.wording import some_of

INTERCEPT = "intercept"
_ALIKE = 1e-8
"""Share of a column's length below which the part that other columns do not explain is rounding error."""


def name_person(x: Responses, row: int) -> str:
    """Name a person in a message: the label, or the row counted from 0."""
    return f"person {row} (counted from 0)" if x.person_ids is None else f"person {x.person_ids[row]!r}"


def labels_of(values: Sequence[Any], x: Responses, use: str) -> tuple[tuple[str, ...], Ints]:
    """Read a label for each person: the distinct labels in sorted order, and each person's place, shape (N,).

    Raises PsychometricsError if a label is missing or their number is not the number of persons.
    """
    column = Column.from_cells(values if isinstance(values, np.ndarray) else list(values))
    return _levels(_require_complete(column, x, use))


def design_matrix(
    covariates: Any, x: Responses, reference: Mapping[str, Any] | None = None
) -> tuple[tuple[str, ...], Floats]:
    """Make the names of K columns and the matrix (N, K), whose first column is the intercept.

    Parameters
    ----------
    covariates
        A data frame of any kind or a mapping column → cells, with a row for each person; None: the intercept alone.
    x
        The responses of the N persons, in the same order.
    reference
        Column → level that has no column of its own; other columns of levels use the first level in sorted order.

    Raises
    ------
    PsychometricsError
        If a value is missing or infinite, a level does not exist, or a column depends on the columns before. The
        message names the column and the person.
    """
    columns: dict[str, Floats] = {INTERCEPT: np.ones(x.n_persons)}
    frame = Frame({}, None) if covariates is None else read_frame(covariates)
    if frame is None:
        raise PsychometricsError(
            f"covariates must be a data frame or a mapping column → cells, got {type(covariates).__name__}"
        )
    left = dict(reference or {})
    for name, column in frame.columns.items():
        _require_complete(column, x, f"covariate {name!r}")
        if column.places is None and name not in left:
            columns[name] = np.asarray(column.values, dtype=float)
            if (bad := np.flatnonzero(~np.isfinite(columns[name]))).size:
                raise PsychometricsError(f"covariate {name!r} is infinite for {name_person(x, int(bad[0]))}")
            continue
        levels, place = _levels(column)
        own = str(label_of(left.pop(name, levels[0])))
        if own not in levels:
            raise PsychometricsError(f"covariate {name!r} has no level {own!r}; its levels are {some_of(levels)}")
        columns |= {f"{name}: {level}": (place == k) * 1.0 for k, level in enumerate(levels) if level != own}
    if left:
        raise PsychometricsError(f"reference must name covariates, got {some_of(left)}")
    _require_independent(columns)
    return tuple(columns), np.stack([*columns.values()], axis=1)


def _require_complete(column: Column, x: Responses, use: str) -> Column:
    if len(column.missing) != x.n_persons:
        raise PsychometricsError(f"{use} must have {x.n_persons} values, one per person; got {len(column.missing)}")
    if (lost := np.flatnonzero(column.missing)).size:
        raise PsychometricsError(
            f"{use} is missing for {name_person(x, int(lost[0]))}"
            f"{f' and {lost.size - 1:,} more' if lost.size > 1 else ''}; give a value, such as a level 'unknown', or "
            "leave the persons out"
        )
    return column


def _levels(column: Column) -> tuple[tuple[str, ...], Ints]:
    """Return the levels as text, numbers in numeric order, and each row's place."""
    values, places = column.distinct()
    labels = [label_of(value) for value in values]
    order = sorted(range(len(labels)), key=lambda k: (isinstance(labels[k], str), labels[k]))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return tuple(str(labels[k]) for k in order), rank[places]


def _require_independent(columns: Mapping[str, Floats]) -> None:
    """Raise PsychometricsError, which names the first column that the columns before determine."""
    if len(next(iter(columns.values()))) < len(columns):
        raise PsychometricsError(f"{len(columns)} coefficients cannot be estimated from fewer persons")
    matrix = np.stack([*columns.values()], axis=1)
    length = np.linalg.norm(matrix, axis=0)
    rest = np.abs(np.diag(np.linalg.qr(matrix / np.where(length > 0, length, 1.0), mode="r")))
    if (alike := np.flatnonzero(rest < _ALIKE)).size:
        raise PsychometricsError(
            f"covariate {[*columns][alike[0]]!r} is determined by the columns before, so that its coefficient is not "
            "defined; leave it out"
        )
