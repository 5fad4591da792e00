"""Rotation of exploratory loadings to simple structure: varimax and direct oblimin by gradient projection.

The fit determines exploratory loadings only up to a rotation; this module chooses one that people can interpret.
"""

from typing import Literal, NamedTuple

import numpy as np
from scipy.linalg import polar
from scipy.stats import ortho_group

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.errors import PsychometricsError

Rotations = Literal["oblimin", "varimax"]
_STARTS, _MOST_STEPS, _MOST_HALVINGS, _FLAT = 6, 1000, 30, 1e-7
"""Starts, steps of a start, halvings of a step, and the projected gradient below which a rotation is a minimum."""


class Rotation(NamedTuple):
    """Rotated loadings (J, D), and the correlations (D, D) of the rotated dimensions."""

    loadings: Floats
    correlations: Floats


def rotate(loadings: Floats, method: Rotations) -> Rotation:
    """Rotate the loadings (J, D) of uncorrelated dimensions.

    Rows are not normalised, as in R GPArotation and mirt. The best of six starts counts. The dimension with the largest
    sum of squared loadings comes first, and each dimension's loadings have a positive sum.

    Raises PsychometricsError for another method. Source: Jennrich (2001, 2002); Bernaards & Jennrich (2005).
    """
    if method not in ("oblimin", "varimax"):
        raise PsychometricsError(f'rotation must be "oblimin" or "varimax", got {method!r}')
    D = loadings.shape[1]
    if D == 1:
        return _canonical(loadings, np.eye(1))
    turns = [np.eye(D), *ortho_group.rvs(D, size=_STARTS - 1, random_state=0).reshape(-1, D, D)]
    _, turn = min((_descend(loadings, start, method) for start in turns), key=lambda found: found[0])
    return _canonical(loadings @ np.linalg.inv(turn).T, turn.T @ turn)


def _canonical(loadings: Floats, correlations: Floats) -> Rotation:
    order = np.argsort(-(loadings**2).sum(axis=0), kind="stable")
    sign = np.where(loadings.sum(axis=0) < 0, -1.0, 1.0)[order]
    return Rotation(loadings[:, order] * sign, correlations[np.ix_(order, order)] * np.multiply.outer(sign, sign))


def _descend(loadings: Floats, turn: Floats, method: Rotations) -> tuple[float, Floats]:
    """Follow the projected gradient from `turn`, with steps that are halved until the criterion decreases enough.

    Returns the minimum and its matrix: orthogonal for varimax, with columns of length 1 for oblimin.
    """
    step, (value, by) = 1.0, _criterion(loadings, turn, method)
    for _ in range(_MOST_STEPS):
        if method == "oblimin":
            along = by - turn * (turn * by).sum(axis=0)
        else:
            along = by - turn @ (turn.T @ by + by.T @ turn) / 2
        size = float((along**2).sum())
        if size < _FLAT**2:
            break
        step *= 2
        for _ in range(_MOST_HALVINGS):
            there = turn - step * along
            there = there / np.sqrt((there**2).sum(axis=0)) if method == "oblimin" else polar(there)[0]
            new, new_by = _criterion(loadings, there, method)
            if new < value - 0.5 * size * step:
                break
            step /= 2
        else:
            break  # rounding errors exceed the rest of the gain
        turn, value, by = there, new, new_by
    return value, turn


def _criterion(loadings: Floats, turn: Floats, method: Rotations) -> tuple[float, Floats]:
    """Compute the criterion of the loadings Λ(T⁻¹)ᵀ and its derivatives with respect to T.

    Oblimin is direct oblimin with γ = 0, the default of R GPArotation and mirt.
    """
    inverse = np.linalg.inv(turn)
    rotated = loadings @ inverse.T
    squares = rotated**2
    if method == "oblimin":
        parts, sign = squares @ (1 - np.eye(len(turn))), 1
    else:
        parts, sign = squares - squares.mean(axis=0), -1
    return sign * float((squares * parts).sum()) / 4, -sign * (rotated.T @ (rotated * parts) @ inverse).T
