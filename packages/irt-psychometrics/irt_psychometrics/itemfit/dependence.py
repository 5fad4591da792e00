"""Tests of whether one ability explains the correlations of answers: Q3 of item pairs, and parallel analysis.

Fit of single items is in `item_fit` and `sum_score_fit`; fit of whole forms, by low-order margins, is in `m2`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.special import stdtr

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.curves import probability_at
from irt_psychometrics.core.design import over_learners, row_starts
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.results import Result, format_value
from irt_psychometrics.itemfit import fit_kernels
from irt_psychometrics.itemfit.measure import Measure
from irt_psychometrics.itemfit.model_replicates import FittedData
from irt_psychometrics.itemfit.pair_sums import expected_answers, observed_answers, sum_over_pairs

FLAG_ABOVE_MEAN = 0.20
"""A pair is flagged if its Q3 minus the mean Q3 of all pairs is larger (Christensen, Makransky & Horton 2017)."""
MAX_PERSONS = 5_000
"""Number of learners in the random sample from a larger set. It is large enough to keep the noise of the eigenvalues
small."""
MIN_ROUNDS, MAX_ROUNDS = 11, 100
"""Fewest and most simulated data sets in a parallel analysis."""
ROUNDS_RESPONSES = 2_000_000
"""Number of responses in all simulated data sets together, within these limits."""
_ROUNDING = 1e-9
_HALVINGS = 5
_CELLS = 4_000_000
"""Size of a dense block of residuals, learners × items."""


@dataclass(frozen=True)
class LocalDependence:
    """Q3 of the pairs of a calibration's items.

    Attributes:
        q3: shape (J, J), symmetric, in [−1, 1]; NaN on the diagonal and if fewer than 2 learners saw both items.
        n: shape (J, J), number of learners who saw both items.
        mean: mean of q3 over the pairs with n ≥ `Measure.MIN_PERSONS_OF_PAIR`. If the model holds, it is about
            −1/(items a learner saw − 1).
        flagged: pairs (i, j), i < j, of indices into `item_ids`, with n ≥ `Measure.MIN_PERSONS_OF_PAIR` and q3 − mean
            above `FLAG_ABOVE_MEAN`; the largest q3 first.
    """

    q3: Floats
    n: Ints
    mean: float
    flagged: tuple[tuple[int, int], ...]

    def correlations(self, item_ids: tuple[str, ...], frame_kind: str | None) -> "ResidualCorrelations":
        """Return the result with these names of the items."""
        return ResidualCorrelations(item_ids, self.q3, self.n, self.mean, frame_kind)

    @property
    def clusters(self) -> list[list[int]]:
        """Sets of items that flagged pairs connect, the largest first."""
        if not self.flagged:
            return []
        pairs = np.array(self.flagged)
        graph = csr_array((np.ones(len(pairs)), pairs.T), shape=self.q3.shape)
        _, cluster = connected_components(graph, directed=False)
        clusters = (np.flatnonzero(cluster == c).tolist() for c in np.unique(cluster[pairs]))
        return sorted(clusters, key=lambda items: (-len(items), items))


@dataclass(frozen=True, eq=False, repr=False)
class ResidualCorrelations(Result):
    """Q3 of pairs of items (Yen 1984): correlations of residuals at the EAP. A row per pair, the largest Q3 first.

    Attributes
    ----------
    item_ids
        J names.
    q3
        Shape (J, J), symmetric, in [−1, 1]; NaN on the diagonal and if fewer than 2 persons answered both items.
    n
        Shape (J, J), number of persons who answered both items.
    mean
        Mean Q3 of the pairs that 200 or more persons answered. If the model holds, it is about −1/(items per person −
        1).

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> x = irt.datasets.two_forms()[0].responses
    >>> q3 = irt.fit(x, "2pl").fit_statistics(x).q3
    >>> q3.adjusted.shape, q3.flagged
    ((30, 30), ())
    """

    item_ids: tuple[str, ...]
    q3: Floats
    n: Ints
    mean: float
    frame_kind: str | None = None

    @property
    def adjusted(self) -> Floats:
        """Q3 minus the mean Q3 of all pairs, shape (J, J) (Christensen, Makransky & Horton 2017)."""
        return self.q3 - self.mean

    @property
    def flagged(self) -> tuple[tuple[str, str], ...]:
        """Pairs with an adjusted Q3 above .20 that 200 or more persons answered, the largest Q3 first."""
        first, second = self._pairs()
        flagged = self._flagged()[first, second]
        chosen = zip(first[flagged].tolist(), second[flagged].tolist(), strict=True)
        return tuple((self.item_ids[i], self.item_ids[j]) for i, j in chosen)

    def _pairs(self) -> tuple[Ints, Ints]:
        """Return the two items of each pair, shape (J(J − 1)/2,) each, the largest Q3 first."""
        first, second = np.triu_indices(len(self.item_ids), 1)
        order = np.argsort(-self.q3[first, second], kind="stable")  # NaN last
        return first[order], second[order]

    def _counted(self) -> Mask:
        return (self.n >= Measure.MIN_PERSONS_OF_PAIR) & np.isfinite(self.q3)

    def _flagged(self) -> Mask:
        return self._counted() & (self.adjusted > FLAG_ABOVE_MEAN)

    def _title(self) -> str:
        return f"Q3 of {len(self.item_ids):,} items"

    def _facts(self) -> dict[str, str]:
        pairs = int(np.triu(self._counted(), 1).sum())
        return {
            "mean Q3": format_value(self.mean),
            "locally dependent pairs": f"{len(self.flagged):,} of {pairs:,}",
        }

    def _columns(self) -> dict[str, Any]:
        first, second = self._pairs()
        ids = np.array(self.item_ids, dtype=object)
        return {
            "item": ids[first].tolist(),
            "other_item": ids[second].tolist(),
            "n": self.n[first, second],
            "q3": self.q3[first, second],
            "q3_adjusted": self.adjusted[first, second],
            "flagged": self._flagged()[first, second],
        }

    def _notes(self) -> list[str]:
        if self._counted().any():
            return []
        return [f"No pair is tested: fewer than {Measure.MIN_PERSONS_OF_PAIR} persons answered any two items."]


@dataclass(frozen=True)
class ParallelAnalysis:
    """The largest eigenvalue of the residual correlations, and its distribution if one ability explains the answers.

    Attributes:
        eigenvalue: the largest eigenvalue in the data.
        under_model: shape (replications,), the eigenvalue in answers that the fitted model gives to the same sets of
            items.
        tail: p-value from the mean and SD of `under_model`, by Student's t for one more such value. Unlike `p`, it is
            not bounded by the number of replications. NaN for fewer than 3 replications.
        se: standard error of `eigenvalue`, given the fit's parameters.
        ratio: the eigenvalue divided by its mean under the model; 1 if one ability explains the answers.
        ratio_se: standard error of `ratio`, including the error of the mean.
        loading_items: indices into `item_ids` of the items that contribute most to the eigenvalue, the largest
            contribution first.
        learners: number of learners in the analysis.
    """

    eigenvalue: float
    under_model: Floats
    se: float
    loading_items: tuple[int, ...]
    learners: int

    @property
    def p(self) -> float:
        """Monte Carlo p-value: (1 + number of `under_model` ≥ eigenvalue) / (1 + replications)."""
        return (1 + int((self.under_model >= self.eigenvalue).sum())) / (1 + self.under_model.size)

    @property
    def ratio(self) -> float:
        return float(self.eigenvalue / self.under_model.mean())

    @property
    def ratio_se(self) -> float:
        mean, spread = self.under_model.mean(), self.under_model.std(ddof=1)
        return float(np.hypot(self.se, self.ratio * spread / np.sqrt(self.under_model.size)) / mean)

    @property
    def tail(self) -> float:
        R = self.under_model.size
        spread = float(self.under_model.std(ddof=1)) if R > 2 else 0.0
        if spread == 0:
            return float("nan")
        return float(stdtr(R - 1, -(self.eigenvalue - self.under_model.mean()) / (spread * np.sqrt(1 + 1 / R))))


@dataclass(frozen=True)
class SplitHalves:
    """Difference of learners' EAPs from two halves of the items.

    Attributes:
        apart: root mean square difference.
        expected: the same if one ability explains the answers.
    """

    apart: float
    expected: float


@dataclass(frozen=True)
class NewDependence:
    """The largest eigenvalue of the difference of two windows' Q3 matrices (0 on the diagonal).

    Attributes:
        eigenvalue: the largest eigenvalue in the data.
        under_model: shape (replications, replications), the eigenvalue if both windows follow their models, for each
            replication of one window with each replication of the other.
        under_model_se: standard error of the mean of `under_model`, from the means of its rows and of its columns.
        se: standard error of `eigenvalue`, given the fits' parameters.
        loading_items: indices of the items that are more correlated than before, the largest contribution to the
            eigenvalue first.
    """

    eigenvalue: float
    under_model: Floats
    se: float
    loading_items: tuple[int, ...]

    @property
    def under_model_se(self) -> float:
        R = len(self.under_model)
        return float(np.sqrt(sum(self.under_model.mean(axis=axis).var(ddof=1) / R for axis in (0, 1))))


def local_dependence(
    responses: Responses,
    calibration: Calibration,
    *,
    groups: Sequence[str] | None = None,
    threads: int | None = None,
) -> LocalDependence:
    """Compute Q3 (Yen 1984), the correlation of two items' x − P(θ̂) over the persons who saw both.

    θ̂ is the EAP from all answers. The prior is the calibration's latent distribution or, if the fit has groups, the
    distribution of the person's group (`groups`: n_persons labels). The cost is persons × items² multiplications.
    """
    whole = FittedData.from_responses(responses, calibration, groups)
    q3, n = _residual_correlations(whole, eap(whole, threads))
    countable = np.triu(n >= Measure.MIN_PERSONS_OF_PAIR, 1) & np.isfinite(q3)
    mean = float(q3[countable].mean()) if countable.any() else float("nan")
    excess = np.where(countable, q3 - mean, -np.inf)
    i, j = np.nonzero(excess > FLAG_ABOVE_MEAN)
    order = np.argsort(-excess[i, j], kind="stable")
    flagged = tuple((int(whole.place[i[k]]), int(whole.place[j[k]])) for k in order)
    all_q3, all_n = np.full((whole.n_all, whole.n_all), np.nan), np.zeros((whole.n_all, whole.n_all), dtype=np.int64)
    all_q3[np.ix_(whole.place, whole.place)], all_n[np.ix_(whole.place, whole.place)] = q3, n
    return LocalDependence(all_q3, all_n, mean, flagged)


def parallel_analysis(
    responses: Responses,
    calibration: Calibration,
    *,
    groups: Sequence[str] | None = None,
    replications: int | None = None,
    random_state: int = 0,
    most_persons: int = MAX_PERSONS,
    threads: int | None = None,
) -> ParallelAnalysis:
    """Test for a second dimension by the largest eigenvalue of the Q3 matrix and its distribution under the model.

    The distribution comes from answers that the fitted model gives to the same sets of items (Drasgow & Lissak's 1983
    modified parallel analysis, on residuals). Pairs that fewer than `Measure.MIN_PERSONS_OF_PAIR` learners saw count
    as uncorrelated, in the data and in the replications, because their noise would determine the largest eigenvalue.

    Args:
        groups: the group of each person, n_persons labels, if the fit has groups.
        replications: number of simulated data sets; by default 11 to 100, more for smaller sets, whose eigenvalues vary
            more. p is never below 1/(1 + replications).
        random_state: seed for the drawn persons and the simulated answers.
        most_persons: number of persons in the random sample that replaces a larger set.
    """
    rng = np.random.default_rng(random_state)
    whole = FittedData.from_responses(responses, calibration, groups).subsample(most_persons, rng)
    found = _Dependence.from_fit(whole, threads)
    rounds = replications or _rounds(whole.responses.n_responses)
    under_model = np.array([_Dependence.from_fit(whole.new_answers(rng), threads).eigenvalue for _ in range(rounds)])
    vector = np.linalg.eigh(found.q3)[1][:, -1]
    loading_items = tuple(whole.place[_loading_items(found.q3, vector)].tolist())
    se = _error_of_eigenvalue(whole, found, vector, found.counted)
    return ParallelAnalysis(found.eigenvalue, under_model, se, loading_items, whole.responses.n_persons)


def _rounds(n_responses: int) -> int:
    return min(MAX_ROUNDS, max(MIN_ROUNDS, ROUNDS_RESPONSES // max(n_responses, 1)))


def split_half_difference(
    responses: Responses,
    calibration: Calibration,
    *,
    groups: Sequence[str] | None = None,
    random_state: int = 0,
    threads: int | None = None,
) -> SplitHalves | None:
    """Compare persons' EAPs from two halves of the items, split where they disagree most.

    The sign of an item in the first eigenvector of Q3 decides its half. In answers of the fitted model, the eigenvector
    and the halves are computed again. Returns None for fewer than 4 items.
    """
    rng = np.random.default_rng(random_state)
    whole = FittedData.from_responses(responses, calibration, groups).subsample(MAX_PERSONS, rng)
    if whole.calibration.n_items < 4:
        return None
    difference = _split_half_difference(whole, threads)
    expected = [_split_half_difference(whole.new_answers(rng), threads) for _ in range(_HALVINGS)]
    return SplitHalves(float(np.sqrt(difference)), float(np.sqrt(np.mean(expected))))


def _split_half_difference(whole: FittedData, threads: int | None) -> float:
    """Compute the mean square difference of the two EAPs.

    Items that nobody saw together with the items that disagree have a loading of 0, up to rounding. They all go to the
    same half.
    """
    vector = np.linalg.eigh(_Dependence.from_fit(whole, threads).q3)[1][:, -1]
    one_side = vector * np.sign(vector[np.abs(vector).argmax()]) > _ROUNDING
    one, other = (eap(whole.on(half), threads) for half in (one_side, ~one_side))
    return float(np.mean((one - other) ** 2))


def new_dependence(
    now: FittedData, before: FittedData, *, replications: int, random_state: int = 0, threads: int | None = None
) -> NewDependence | None:
    """Test whether items are correlated now that were not before, given θ.

    Correlations that are the same in both windows cancel, so an earlier second ability does not hide a third one. Both
    windows must have the same items in the same order. The same number of persons is drawn from each (at most
    `MAX_PERSONS`), because Q3 from fewer persons is noisier. A pair of items counts if
    `Measure.MIN_PERSONS_OF_PAIR` or more persons saw it in each window. Returns None if there is no such pair.
    """
    rng = np.random.default_rng(random_state)
    most = min(MAX_PERSONS, now.responses.n_persons, before.responses.n_persons)
    windows = [window.subsample(most, rng) for window in (now, before)]
    found, known = (_Dependence.from_fit(window, threads) for window in windows)
    counted = found.counted & known.counted
    if not counted.any():
        return None
    new, old = (
        [_Dependence.from_fit(window.new_answers(rng), threads).q3 for _ in range(replications)] for window in windows
    )
    under_model = [[float(np.linalg.eigvalsh(np.where(counted, one - other, 0.0))[-1]) for other in old] for one in new]
    growth = np.where(counted, found.q3 - known.q3, 0.0)
    values, vectors = np.linalg.eigh(growth)
    vector = vectors[:, -1]
    errors = [
        _error_of_eigenvalue(window, of, vector, counted) for window, of in zip(windows, (found, known), strict=True)
    ]
    loading_items = tuple(_loading_items(growth, vector).tolist())
    return NewDependence(float(values[-1]), np.array(under_model), float(np.linalg.norm(errors)), loading_items)


def _loading_items(matrix: Floats, vector: Floats) -> Ints:
    """Find the items that contribute most to the eigenvector `vector` of `matrix`, shape (J, J).

    The items of one sign share more than the items of the other sign. Of that sign, the function returns the items
    whose loading is above 1/√J, which would be the loading of every item if all were alike. The largest loading comes
    first.
    """
    sides = [np.where(sign * vector > 0, np.abs(vector), 0.0) for sign in (1, -1)]
    side = max(sides, key=lambda loadings: float(loadings @ matrix @ loadings))
    return np.array([j for j in np.argsort(-side, kind="stable") if side[j] > 1 / np.sqrt(len(side))], dtype=np.int64)


@dataclass(frozen=True)
class _Dependence:
    """EAPs and residual correlations of a window.

    Attributes:
        theta: θ̂ of each person, shape (n_persons,).
        q3: shape (J, J); 0 for pairs that do not count.
        n: shape (J, J), number of learners who saw both items.
        counted: shape (J, J), whether a pair counts.
    """

    theta: Floats
    q3: Floats
    n: Ints
    counted: Mask

    @classmethod
    def from_fit(cls, whole: FittedData, threads: int | None) -> Self:
        theta = eap(whole, threads)
        q3, n = _residual_correlations(whole, theta)
        counted = (n >= Measure.MIN_PERSONS_OF_PAIR) & np.isfinite(q3)
        return cls(theta, np.where(counted, q3, 0.0), n, counted)

    @property
    def eigenvalue(self) -> float:
        return float(np.linalg.eigvalsh(self.q3 + np.eye(len(self.q3)))[-1]) if self.q3.size else float("nan")


def _error_of_eigenvalue(whole: FittedData, found: _Dependence, vector: Floats, counted: Mask) -> float:
    """Compute the standard error of Σ v_j v_k q_jk over the pairs that count, from each person's contribution.

    With z the residuals in units of their SD, the influence of a learner on the correlation q of a pair that the
    learner saw is (z_j z_k − q (z_j² + z_k²)/2)/n (Devlin, Gnanadesikan & Kettenring 1975). To first order, v does not
    change.
    """
    weights = np.divide(np.multiply.outer(vector, vector), found.n, out=np.zeros_like(found.q3), where=counted)
    pieces = list(_residuals(whole, found.theta))
    seen = np.maximum(found.n.diagonal(), 1)
    mean = sum(residual.sum(axis=0) for residual, _ in pieces) / seen
    variance = sum((residual**2).sum(axis=0) for residual, _ in pieces) / seen - mean**2
    inverse = np.divide(1.0, np.sqrt(variance), out=np.zeros_like(variance), where=variance > 0)
    squares = 0.0
    for residual, saw in pieces:
        z = (residual - mean) * inverse * saw
        influence = np.sum((z @ weights) * z, axis=1) - np.sum(((z**2) @ (weights * found.q3)) * saw, axis=1)
        squares += float(influence @ influence)
    return float(np.sqrt(squares))


def _residual_correlations(whole: FittedData, theta: Floats) -> tuple[Floats, Ints]:
    """Compute Q3 (NaN on the diagonal and for n < 2) and the number n of persons who saw both items, (J, J) each."""
    J = whole.calibration.n_items
    n, first, second, product = sum_over_pairs(whole, observed_answers(whole) - expected_answers(whole, theta))
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = second - first**2 / n
        q3 = (product - first * first.T / n) / np.sqrt(variance * variance.T)
    q3[(n < 2) | np.eye(J, dtype=bool)] = np.nan
    return q3, np.rint(n).astype(np.int64)


def _residuals(whole: FittedData, theta: Floats) -> Iterator[tuple[Floats, Floats]]:
    """Yield, for one block of learners after another, x − P(θ̂) (0 if the item was not seen) and whether it was seen.

    Both arrays have shape (learners, J).
    """
    for x, p, saw in answers_and_probabilities(whole, theta):
        yield x - p, saw


def answers_and_probabilities(whole: FittedData, theta: Floats) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Yield, for one block of learners after another, x, P(θ̂), and whether an item was seen (1 or 0).

    Each array has shape (learners, J); x and P are 0 if the item was not seen. For an item scored 0 … m, x is the score
    divided by m, and P is its expectation.
    """
    r, fit = whole.responses, whole.calibration
    scored = fit.curves.select(whole.scored)
    start, J = row_starts(r), fit.n_items
    at_once = max(1, _CELLS // max(J, 1))
    for low in range(0, r.n_persons, at_once):
        rows = slice(start[low], start[min(low + at_once, r.n_persons)])
        person, item = r.person[rows], r.item[rows]
        saw = np.zeros((min(at_once, r.n_persons - low), J))
        x, p = np.zeros_like(saw), np.zeros_like(saw)
        saw[person - low, item] = 1.0
        x[person - low, item] = whole.credit[r.score[rows], item]
        p[person - low, item] = probability_at(fit.a[item] * theta[person] + fit.d[item], fit.c[item])
        p[:, whole.scored] = scored.probability(theta[low : low + at_once]) * saw[:, whole.scored]
        yield x, p, saw


def eap(whole: FittedData, threads: int | None) -> Floats:
    """Compute the EAP of each person, shape (n_persons,), with the person's group as the prior."""
    abilities, mean = whole.abilities, np.empty(whole.responses.n_persons)
    rows = whole.rows
    tables = fit_kernels.Tables(whole.log_probabilities, abilities.log_weights, abilities.group, whole.credit)

    def one(first: int, last: int) -> None:
        fit_kernels.posterior_means(first, last, rows, tables, abilities.nodes, mean)

    over_learners(one, whole.responses, rows.start, threads)
    return mean
