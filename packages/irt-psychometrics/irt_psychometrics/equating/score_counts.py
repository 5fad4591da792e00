"""How many persons have each raw score, of one form or of two together, as observed or presmoothed.

The methods of equating are in `score_equating`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.results import Result, format_value
from irt_psychometrics.core.wording import some_of

_MAX_STEPS = 100
_TOLERANCE = 1e-12


@dataclass(frozen=True)
class LogLinear:
    """A log-linear model of a distribution of scores: the powers of the score that it keeps.

    Attributes:
        degree: the highest power of the form's score; the model has the first `degree` moments of the data.
        anchor_degree: the highest power of the second score; 0 if there is only one.
        cross: the highest i = j of the products scoreⁱ·anchorʲ.
    """

    degree: int
    anchor_degree: int = 0
    cross: int = 0

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.degree + self.anchor_degree + self.cross**2

    @lru_cache(maxsize=2)  # noqa: B019 - a model is small, and bootstrap samples of two forms share both bases
    def basis(self, shape: tuple[int, ...]) -> Floats:
        """The powers at each cell, shape (cells, number of powers), with orthonormal columns and no constant."""
        axes = np.meshgrid(*(np.linspace(-1, 1, k) for k in shape), indexing="ij")
        x = axes[0].ravel()
        columns = [x**i for i in range(1, self.degree + 1)]
        if len(axes) > 1:
            v = axes[1].ravel()
            columns += [v**j for j in range(1, self.anchor_degree + 1)]
            columns += [x**i * v**j for i in range(1, self.cross + 1) for j in range(1, self.cross + 1)]
        found = np.column_stack([np.ones(x.size), *columns])
        return np.linalg.qr(found)[0][:, 1:]


@dataclass(frozen=True, eq=False, repr=False)
class ScoreCounts(Result):
    """The number of persons with each raw score of a form.

    Attributes
    ----------
    counts
        Shape (K + 1,), for the scores 0 … K. Or shape (K + 1, A + 1), by the score of the form and a second score: of
        the anchor items (common items), or of the other form (single group).
    model
        The log-linear model that presmooths the counts, or None for counts as observed.
    possible
        Mask of the scores that can occur, in the shape of `counts`. The model gives other scores a share of 0. None:
        all scores can occur.

    Raises
    ------
    PsychometricsError
        If counts are not numbers ≥ 0 for at least two scores, count fewer than two persons, or contain a score that
        `possible` excludes.

    Examples
    --------
    >>> from irt_psychometrics.equating import ScoreCounts
    >>> counts = ScoreCounts.from_scores([0, 1, 1, 2, 3, 3, 4], max_score=4)
    >>> counts.to_frame("pandas")["n"].tolist()
    [1.0, 2.0, 1.0, 2.0, 1.0]
    >>> counts.presmoothed(degree=2)
    <ScoreCounts: 7 persons by 5 scores, presmoothed: mean 2.000, SD 1.309, AIC 4.63>
    """

    counts: Floats
    model: LogLinear | None = None
    possible: Mask | None = None
    frame_kind: str | None = None

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts, dtype=float)
        if counts.ndim not in (1, 2) or min(counts.shape) < 2 or not np.isfinite(counts).all() or (counts < 0).any():
            raise PsychometricsError(
                "counts of scores are numbers ≥ 0 for at least two scores of one form, or for its scores and a second"
                f" score's; these have the shape {counts.shape}"
            )
        if counts.sum() < 2:
            raise PsychometricsError(f"counts of {counts.sum():g} persons cannot be equated; two or more are needed")
        if self.possible is not None and (self.possible.shape != counts.shape or counts[~self.possible].any()):
            raise PsychometricsError(
                f"possible must be a mask of the shape {counts.shape} that is true for all scores of persons, got the"
                f" shape {self.possible.shape}"
            )
        object.__setattr__(self, "counts", counts)

    @classmethod
    def from_scores(
        cls,
        scores: npt.ArrayLike,
        second: npt.ArrayLike | None = None,
        *,
        max_score: int | None = None,
        max_second: int | None = None,
    ) -> ScoreCounts:
        """Count persons by their scores.

        Parameters
        ----------
        scores
            Shape (n,), each person's raw score, a whole number ≥ 0.
        second
            Shape (n,), the same persons' scores on the anchor items or on the other form.
        max_score, max_second
            The highest possible scores; None: the highest that occur.

        Returns
        -------
        ScoreCounts
            The observed counts.

        Raises
        ------
        PsychometricsError
            For a score that is not a whole number from 0 to its maximum, naming its place; and if both have different
            lengths.

        Examples
        --------
        >>> from irt_psychometrics.equating import ScoreCounts
        >>> ScoreCounts.from_scores([2, 0, 2], second=[1, 0, 0]).counts.tolist()
        [[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]
        """
        places = [_whole_scores(scores, max_score, "score")]
        highest = [max_score]
        if second is not None:
            places.append(_whole_scores(second, max_second, "second score"))
            highest.append(max_second)
            if places[0].size != places[1].size:
                raise PsychometricsError(
                    f"{places[0].size} scores and {places[1].size} second scores; each person must have one of each"
                )
        counts = np.zeros([1 + (at.max() if top is None else top) for at, top in zip(places, highest, strict=True)])
        np.add.at(counts, tuple(places), 1.0)
        return cls(counts)

    @classmethod
    def from_forms(cls, new: Responses, old: Responses) -> tuple[ScoreCounts, ScoreCounts]:
        """Count persons of two forms by their raw score, and by their score on the items that both forms have.

        Parameters
        ----------
        new, old
            Responses to the two forms. Items of the same name are the anchor.

        Returns
        -------
        tuple of two ScoreCounts
            The counts of the new and of the old form; of one score each if no item is in both forms.

        Raises
        ------
        PsychometricsError
            If a person has not answered all items of the form, or an item has another maximum score in the other form.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> from irt_psychometrics.equating import ScoreCounts
        >>> new = irt.Responses.from_wide({"q1": [0, 1, 1], "q2": [0, 0, 1]})
        >>> old = irt.Responses.from_wide({"q2": [0, 1, 1], "q3": [0, 0, 1]})
        >>> [counts.counts.shape for counts in ScoreCounts.from_forms(new, old)]
        [(3, 2), (3, 2)]
        """
        points = [dict(zip(x.item_ids, x.n_categories - 1, strict=True)) for x in (new, old)]
        common = [item for item in points[0] if item in points[1]]
        if differing := [item for item in common if points[0][item] != points[1][item]]:
            raise PsychometricsError(
                f"{some_of(differing)} must have the same maximum score in both forms; give max_score= to"
                " Responses.from_wide"
            )
        both = []
        for x, of_form, name in zip((new, old), points, ("new", "old"), strict=True):
            lacking = np.bincount(x.person, minlength=x.n_persons) != x.n_items
            if lacking.any():
                raise PsychometricsError(
                    f"{lacking.sum():,} of {x.n_persons:,} persons have not answered all {x.n_items} items of the"
                    f" {name} form, so that sums of scores cannot be compared: leave these persons out, or use"
                    " equate_by_items"
                )
            in_anchor = np.isin(x.item_ids, common)[x.item]
            raw = np.bincount(x.person, x.score, x.n_persons)
            anchor = np.bincount(x.person, x.score * in_anchor, x.n_persons) if common else None
            most = int(sum(of_form.values())), int(sum(of_form[item] for item in common))
            both.append(cls.from_scores(raw, anchor, max_score=most[0], max_second=most[1]))
        return both[0], both[1]

    def presmoothed(
        self, degree: int, anchor_degree: int = 0, cross: int = 0, *, possible: Mask | None = None
    ) -> ScoreCounts:
        """Presmooth the counts by a log-linear model, which keeps their first moments (Holland & Thayer 2000).

        Parameters
        ----------
        degree, anchor_degree
            Number of moments kept of the first and of the second score.
        cross
            Moments E(scoreⁱ·anchorʲ) are kept for i, j ≤ `cross`.
        possible
            Mask of the scores that can occur, in the shape of `counts`. For example, no score on a form is below the
            same person's score on anchor items that count in it. None: all scores can occur.

        Returns
        -------
        ScoreCounts
            The same counts with the model.

        Raises
        ------
        PsychometricsError
            For degrees that the scores cannot determine, if the model has no maximum of the likelihood, and if a person
            has an impossible score.
        """
        two = self.counts.ndim == 2
        limits = (self.counts.shape[0], self.counts.shape[1] if two else 1)
        if not (1 <= degree < limits[0] and (1 if two else 0) <= anchor_degree < limits[1] and 0 <= cross <= degree):
            raise PsychometricsError(
                f"degrees {degree}, {anchor_degree} and cross {cross} do not fit counts of shape {self.counts.shape}:"
                " a degree is at least 1 and below the number of its scores; a second degree and `cross` need a second"
                " score"
            )
        found = replace(self, model=LogLinear(degree, anchor_degree, cross), possible=possible)
        _ = found.probability
        return found

    def _title(self) -> str:
        kind = "" if self.model is None else ", presmoothed"
        return f"{self.n:,.0f} persons by {' and '.join(f'{k} scores' for k in self.counts.shape)}{kind}"

    def _facts(self) -> dict[str, str]:
        share, scores = self.probability, np.arange(len(self.counts))
        of_score = share if share.ndim == 1 else share.sum(axis=1)
        mean = float(of_score @ scores)
        sd = float(np.sqrt(of_score @ (scores - mean) ** 2))
        facts = {"mean": format_value(mean), "SD": format_value(sd)}
        return facts if self.model is None else facts | {"AIC": format_value(self.aic, 2)}

    def _columns(self) -> dict[str, Any]:
        names = ("score", "second_score")[: self.counts.ndim]
        scores = zip(names, (at.ravel() for at in np.indices(self.counts.shape)), strict=True)
        return {**dict(scores), "n": self.counts.ravel(), "probability": self.probability.ravel()}

    @property
    def n(self) -> float:
        """The number of persons."""
        return float(self.counts.sum())

    @cached_property
    def probability(self) -> Floats:
        """The share of each cell, observed or presmoothed, in the shape of `counts`."""
        share = self.counts / self.n
        if self.model is None:
            return share
        can = slice(None) if self.possible is None else self.possible.ravel()
        fitted = np.zeros(share.size)
        fitted[can] = _fitted(share.ravel()[can], self.model.basis(share.shape)[can])
        return fitted.reshape(share.shape)

    @cached_property
    def _to_independent(self) -> Floats:
        """Matrix that turns the centred basis into columns of the errors' root, shape (parameters, parameters)."""
        assert self.model is not None
        p, basis = self.probability.ravel(), self.model.basis(self.counts.shape)
        found: Floats = np.linalg.pinv(np.linalg.qr(np.sqrt(p)[:, None] * (basis - p @ basis), mode="r"))
        return found

    def _error_column(self, column: int) -> Floats:
        """Compute a column of C with C·Cᵀ the covariance of `probability` (Holland & Thayer 1987), shape (cells,).

        C itself, with a column for each observed pair of scores, would take gigabytes for long forms.
        """
        p = self.probability.ravel()
        if self.model is None:
            cell = np.flatnonzero(p)[column]
            found = -p * np.sqrt(p[cell])
            found[cell] += np.sqrt(p[cell])
        else:
            basis, along = self.model.basis(self.counts.shape), self._to_independent[:, column]
            found = p * (basis @ along - p @ basis @ along)
        return found / np.sqrt(self.n)

    @property
    def value(self) -> Floats:
        """The estimate of the delta method: `probability`."""
        return self.probability

    @property
    def columns(self) -> int:
        """The number of observed scores; for presmoothed counts the number of the model's parameters."""
        return int(np.count_nonzero(self.counts)) if self.model is None else self.model.size

    def varied(self, column: int, steps: float) -> Floats:
        """Move `probability` by `steps` times a column of the errors' root; presmoothed shares stay above 0.

        Parameters
        ----------
        column
            Index of the column, below `columns`.
        steps
            Multiple of the column.

        Returns
        -------
        array
            The moved shares, in the shape of `counts`.
        """
        step = steps * self._error_column(column).reshape(self.counts.shape)
        if self.model is None:
            return self.probability + step
        p = self.probability
        by = np.divide(step, p, out=np.zeros(p.shape), where=p > 0)
        moved = p * np.exp(np.minimum(by, 1.0)) * np.maximum(by, 1.0)  # far cells would overflow, and get all persons
        return moved / moved.sum()

    @property
    def deviance(self) -> float:
        """The likelihood-ratio statistic G² of the model against the observed counts; 0 without a model."""
        seen = self.counts > 0
        return float(2 * (self.counts[seen] * np.log(self.counts[seen] / (self.n * self.probability[seen]))).sum())

    @property
    def aic(self) -> float:
        """G² + 2·(number of parameters), to compare models of the same counts (Moses & Holland 2010)."""
        return self.deviance + 2 * self.columns

    def resampled(self, random_state: np.random.Generator) -> ScoreCounts:
        """Draw the counts of n persons from the distribution.

        Parameters
        ----------
        random_state
            The random numbers.

        Returns
        -------
        ScoreCounts
            Drawn counts, with the same model.
        """
        drawn = random_state.multinomial(round(self.n), self.probability.ravel() / self.probability.sum())
        return replace(self, counts=drawn.reshape(self.counts.shape).astype(float))


def _whole_scores(scores: npt.ArrayLike, highest: int | None, called: str) -> npt.NDArray[np.int64]:
    values = np.asarray(scores, dtype=float)
    if values.ndim != 1 or not values.size:
        raise PsychometricsError(f"the {called}s are one number a person, shape (n,); these have shape {values.shape}")
    top = np.inf if highest is None else highest
    wrong = np.flatnonzero(~((values >= 0) & (values <= top) & (values == np.floor(values))))
    if wrong.size:
        raise PsychometricsError(
            f"{called} {values[wrong[0]]:g} of person {wrong[0]} is not a whole number from 0 to"
            f" {'its maximum' if highest is None else highest}; raw scores are sums of points"
        )
    return values.astype(np.int64)


def _fitted(share: Floats, basis: Floats) -> Floats:
    """The distribution of exponential form with the moments of `share` in `basis`, by Newton's method."""
    target = share @ basis
    coefficients = np.zeros(basis.shape[1])

    def distribution(at: Floats) -> tuple[Floats, float]:
        logits = basis @ at
        top = logits.max()
        weights = np.exp(logits - top)
        total = weights.sum()
        return weights / total, float(top + np.log(total) - target @ at)

    p, loss = distribution(coefficients)
    for _ in range(_MAX_STEPS):
        gap = target - p @ basis
        if np.abs(gap).max() < _TOLERANCE:
            return p
        centred = basis - p @ basis
        step = np.linalg.lstsq(centred.T @ (p[:, None] * centred), gap, rcond=None)[0]
        size = 1.0
        while size > 1e-8:
            p_new, loss_new = distribution(coefficients + size * step)
            if loss_new <= loss + 1e-14 * abs(loss):
                break
            size /= 2
        coefficients, p, loss = coefficients + size * step, p_new, loss_new
    raise PsychometricsError(
        "the log-linear model has no maximum of the likelihood: use lower degrees, or more persons than scores"
    )
