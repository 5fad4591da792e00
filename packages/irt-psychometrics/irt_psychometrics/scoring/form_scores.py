"""Raw scores of a form with known items: expected scores, their inverse, and the errors of the items.

Distributions of raw scores are in `sum_scores`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from irt_psychometrics.core import covariances
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.moved_items import add_to_further
from irt_psychometrics.core.wording import some_of

_HALVINGS = 60
_WIDEST = 700.0
"""The largest |a·θ| at which a curve is evaluated."""


def require_curves(items: ItemParameters, form: str) -> None:
    """Raise PsychometricsError if the form has no items, or one without parameters or with a slope of 0 or less."""
    known = (items.a > 0) & np.isfinite(items.d + items.c)
    if not known.all() or not known.size:
        wrong = [item for item, has in zip(items.item_ids, known, strict=True) if not has]
        raise PsychometricsError(
            f"{form} has {'no parameters of ' + some_of(wrong) if wrong else 'no items'}: every item needs parameters"
            " with a slope above 0"
        )


def max_scores(items: ItemParameters) -> Floats:
    """Shape (J,)."""
    return (items.curves.categories - 1).astype(float)


def lowest_score(items: ItemParameters) -> float:
    """The score expected of θ = −∞."""
    return float(items.c @ max_scores(items))


def expected_scores(items: ItemParameters, theta: Floats) -> Floats:
    """The test curve, shape (T,)."""
    return items.curve(theta) @ max_scores(items)


def widest_theta(items: ItemParameters) -> float:
    """Return the largest |θ| at which the curves are evaluated."""
    return float(_WIDEST / items.a.max())


def thetas_of_scores(items: ItemParameters, scores: Floats) -> Floats:
    """θ at which the test curve has each score, which must be above the lowest and below the highest score."""
    reach, points = widest_theta(items), max_scores(items)
    low, high = np.full(scores.shape, -reach), np.full(scores.shape, reach)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = items.curve(middle) @ points < scores
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def row_width(forms: Sequence[ItemParameters]) -> int:
    """Return 2 + M, the number of rows that each item of these forms has in `FormsWithErrors`."""
    return 2 + max(form.n_further for form in forms)


def covariance_of_forms(forms: Sequence[ItemParameters]) -> Floats:
    """Build the covariance of all items' rows in `FormsWithErrors` from the covariances within each form.

    Errors of different forms count as independent.
    """
    width, start = row_width(forms), 0
    found = np.zeros(2 * [width * sum(len(form.a) for form in forms)])
    for form in forms:
        own = covariances.padded(form.further_cov, len(form.a), width - 2)
        block = covariances.block_diagonal(covariances.with_further(form.cov_of_each, own))
        end = start + len(block)
        found[start:end, start:end] = block
        ab = (start + width * np.arange(len(form.a))[:, None] + np.arange(2)).ravel()
        found[np.ix_(ab, ab)] = form.joint_cov
        start = end
    return found


def expected_by_parameters(items: ItemParameters, theta: Floats, width: int) -> Floats:
    """Compute derivatives of the test curve with respect to the items' rows in `FormsWithErrors`, shape (T, J · width).

    An item has `width` rows.
    """
    found = np.zeros((len(items.a), width, theta.size))
    found[:, :2] = items.curve_by_ab(theta).swapaxes(1, 2)
    found[:, 2 : 2 + items.n_further] = items.by_further(theta)
    return (max_scores(items)[:, None, None] * found).reshape(-1, theta.size).T


@dataclass(frozen=True)
class FormsWithErrors:
    """Items of one form or more and further numbers, with a root of their joint covariance: an `Estimate`.

    Attributes
    ----------
    forms
        The items of each form.
    numbers
        Shape (N,), estimates that belong to none of the items.
    root
        Shape (size, columns). The rows are a, b and the further parameters (on the scale of estimation; M for
        every item) of all items in turn, then the numbers.
    """

    forms: tuple[ItemParameters, ...]
    numbers: Floats
    root: Floats

    @classmethod
    def from_forms(
        cls, forms: Sequence[ItemParameters], numbers: Sequence[float] = (), joint_cov: Floats | None = None
    ) -> FormsWithErrors:
        """Make the estimate from the covariance of all rows.

        If `joint_cov` is None, the numbers have no errors, and errors of different forms are independent. Raises
        PsychometricsError if `joint_cov` has another shape.
        """
        width = row_width(forms)
        size = width * sum(len(form.a) for form in forms) + len(numbers)
        if joint_cov is None:
            joint_cov = np.pad(covariance_of_forms(forms), (0, len(numbers)))
        if joint_cov.shape != (size, size):
            raise PsychometricsError(
                f"joint_cov must have the shape ({size}, {size}) for these items, with {width - 2} further parameters"
                f" each, and {len(numbers)} other numbers; got {joint_cov.shape}"
            )
        if not np.isfinite(joint_cov).all():
            return cls(tuple(forms), np.array(numbers), np.full((size, 1), np.nan))
        values, vectors = np.linalg.eigh(joint_cov)
        kept = values > 1e-14 * values.max(initial=0.0)
        return cls(tuple(forms), np.array(numbers), vectors[:, kept] * np.sqrt(values[kept]))

    @property
    def value(self) -> tuple[tuple[ItemParameters, ...], Floats]:
        return self.forms, self.numbers

    @property
    def columns(self) -> int:
        return self.root.shape[1]

    def varied(self, column: int, steps: float) -> tuple[tuple[ItemParameters, ...], Floats]:
        by = steps * self.root[:, column]
        n_items = sum(len(form.a) for form in self.forms)
        end = by.size - self.numbers.size
        per_item = by[:end].reshape(n_items, -1)
        starts = np.cumsum([0, *(len(form.a) for form in self.forms)])
        forms = [_moved(form, per_item[s : s + len(form.a)]) for form, s in zip(self.forms, starts, strict=False)]
        return tuple(forms), self.numbers + by[end:]


def _moved(items: ItemParameters, by: Floats) -> ItemParameters:
    """The items with a, b and the further parameters changed by `by`, shape (J, 2 + M)."""
    c, others = add_to_further(items, by)
    return replace(items, a=items.a + by[:, 0], b=items.b + by[:, 1], c=c, others=others)
