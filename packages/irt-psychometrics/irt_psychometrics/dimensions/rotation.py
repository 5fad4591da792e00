"""Rotation of exploratory loadings to simple structure: varimax and direct oblimin by gradient projection.

The fit determines exploratory loadings only up to a rotation; this module chooses one that people can interpret.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import ortho_group

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.errors import PsychometricsError

Rotations = Literal["oblimin", "varimax"]
_STARTS, _MOST_STEPS, _MOST_HALVINGS, _FLAT = 10, 1000, 30, 1e-8
"""Starts, steps of a start, halvings of a step, and the projected gradient below which a rotation is a minimum."""

_Criterion = Callable[[Floats], tuple[float, Floats]]


class Rotation(NamedTuple):
    """Rotated loadings (J, D), and the correlations (D, D) of the rotated dimensions."""

    loadings: Floats
    correlations: Floats


def rotate(loadings: Floats, method: Rotations) -> Rotation:
    """Rotate the loadings (J, D) of uncorrelated dimensions.

    Rows are not normalised, as in R GPArotation and mirt. The best of ten starts counts. The dimension with the largest
    sum of squared loadings comes first, and each dimension's loadings have a positive sum.

    Raises PsychometricsError for another method. Source: Jennrich (2001, 2002); Bernaards & Jennrich (2005).
    """
    if method not in ("oblimin", "varimax"):
        raise PsychometricsError(f'rotation must be "oblimin" or "varimax", got {method!r}')
    D = loadings.shape[1]
    if D == 1:
        return _canonical(loadings, np.eye(1))
    turns = [np.eye(D), *ortho_group.rvs(D, size=_STARTS - 1, random_state=0).reshape(-1, D, D)]
    search = _oblique if method == "oblimin" else _orthogonal
    _, turn = min((search(loadings, start) for start in turns), key=lambda found: found[0])
    if method == "varimax":
        return _canonical(loadings @ turn, np.eye(D))
    return _canonical(loadings @ np.linalg.inv(turn).T, turn.T @ turn)


def _canonical(loadings: Floats, correlations: Floats) -> Rotation:
    order = np.argsort(-(loadings**2).sum(axis=0), kind="stable")
    sign = np.where(loadings.sum(axis=0) < 0, -1.0, 1.0)[order]
    return Rotation(loadings[:, order] * sign, correlations[np.ix_(order, order)] * np.multiply.outer(sign, sign))


def _varimax(loadings: Floats) -> tuple[float, Floats]:
    squares = loadings**2 - (loadings**2).mean(axis=0)
    return -float((squares**2).sum()) / 4, -loadings * squares


def _quartimin(loadings: Floats) -> tuple[float, Floats]:
    """Compute direct oblimin with γ = 0, its default in R GPArotation and mirt."""
    others = (loadings**2) @ (1 - np.eye(loadings.shape[1]))
    return float((loadings**2 * others).sum()) / 4, loadings * others


def _orthogonal(loadings: Floats, turn: Floats) -> tuple[float, Floats]:
    """Minimise the varimax criterion from the rotation `turn`. Returns the minimum and its rotation."""

    def criterion(turn: Floats) -> tuple[float, Floats]:
        value, by = _varimax(loadings @ turn)
        return value, loadings.T @ by

    def project(turn: Floats, by: Floats) -> Floats:
        both = turn.T @ by
        return by - turn @ (both + both.T) / 2

    def restore(turn: Floats) -> Floats:
        left, _, right = np.linalg.svd(turn)
        found: Floats = left @ right
        return found

    return _descend(turn, criterion, project, restore)


def _oblique(loadings: Floats, turn: Floats) -> tuple[float, Floats]:
    """Minimise the oblimin criterion from `turn`, a matrix of columns with length 1."""

    def criterion(turn: Floats) -> tuple[float, Floats]:
        inverse = np.linalg.inv(turn)
        rotated = loadings @ inverse.T
        value, by = _quartimin(rotated)
        return value, -(rotated.T @ by @ inverse).T

    def project(turn: Floats, by: Floats) -> Floats:
        return by - turn * (turn * by).sum(axis=0)

    def restore(turn: Floats) -> Floats:
        return turn / np.sqrt((turn**2).sum(axis=0))

    return _descend(turn, criterion, project, restore)


def _descend(
    turn: Floats,
    criterion: _Criterion,
    project: Callable[[Floats, Floats], Floats],
    restore: Callable[[Floats], Floats],
) -> tuple[float, Floats]:
    """Follow the projected gradient with steps that are halved until the criterion decreases enough."""
    step, (value, by) = 1.0, criterion(turn)
    for _ in range(_MOST_STEPS):
        along = project(turn, by)
        size = float((along**2).sum())
        if size < _FLAT**2:
            break
        step *= 2
        for _ in range(_MOST_HALVINGS):
            there = restore(turn - step * along)
            new, new_by = criterion(there)
            if new < value - 0.5 * size * step:
                break
            step /= 2
        else:
            break  # rounding errors exceed what is left to gain
        turn, value, by = there, new, new_by
    return value, turn
