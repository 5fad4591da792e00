"""Item fit from residuals by ability: infit, outfit and RMSD.

All statistics here are functions of one sum per item j and node q, over the persons who saw the item,

    r_jq = Σ_i (x_ij − P_j(θ_q)) · P(θ_q | pattern i),

the observed minus the expected number of right answers in the E-step. The posterior replaces a point estimate of θ.
Residuals at an EAP are too small, especially if a learner saw few items. Posterior expectations have exactly the
model's mean for any set of items seen, as long as the set depends on θ only through the answers given.

- infit  = Σ E[(x − P)² | pattern] / Σ E[P(1 − P) | pattern]   = 1 + Σ_q (1 − 2P) r / W,     1 under the model
- outfit = mean of E[(x − P)²/(P(1 − P)) | pattern]            = 1 + Σ_q (1 − 2P)/(P(1 − P)) r / n,    also 1
- RMSD   = √(Σ_q w_q (r_q/n_q)²), w_q = n_q/n: the distance of the observed curve from the model's

because (x − P)² − P(1 − P) = (x − P)(1 − 2P). For an item scored 0 … m, x is the score divided by m, P is its
expectation, and its variance replaces P(1 − P). Then (x − P)² minus the variance is not a multiple of x − P, so it is
summed separately, as are the scores of the item's parameters.

Both mean squares are score tests of one more parameter on the item's logit. Estimating the item parameters removes the
part of r in the direction of their own scores: with A their directions and V the covariance of r at the true
parameters, V* = V − VA(AᵀVA)⁻¹AᵀV is the covariance of r at the estimates. V is computed from answers that the fitted
model gives to the same sets of items. The tests use r − VA(AᵀVA)⁻¹Aᵀr, whose second term is 0 at a maximum of the
likelihood. So they hold at any consistent estimate (Neyman's C(α)), such as an estimate with a prior on c.

S-X² is in `sum_score_fit`, statistics without a model in `classical`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core import kernels
from irt_psychometrics.core.arrays import Ints
from irt_psychometrics.core.curves import complement_at, weight_at
from irt_psychometrics.core.item_models import items_where
from irt_psychometrics.core.models import Calibration, Floats
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.significance import normal_score
from irt_psychometrics.itemfit import fit_kernels
from irt_psychometrics.itemfit.item_sums import ItemSums
from irt_psychometrics.itemfit.model_replicates import FittedData

SIMULATED_RESPONSES = 500_000
"""Minimum number of simulated answers for the covariance of the residuals. There are more if items would have too few
answers."""
_SIMULATED_PER_ITEM, _MAX_SIMULATED = 2_500, 1_500_000
DRAWS = 20_000
"""Draws of the RMSD under the model. The estimated 99.9 % point is then between the 99.88 and the 99.92 % point."""
PUBLISHING_LEVEL = 0.999
"""Quantile of the cut-offs. A gate may hold back no more than one in a thousand items that follow the model."""
_MORE = 4
"""Factor on the number of simulated answers for the moments of infit and outfit. Outfit's moments depend on rare, large
residuals, and here an answer takes only a fifth of the time."""
_PRODUCT_BYTES = 512 * 2**20
_PERIOD, _FREQUENCIES, _FARTHEST = 50.0, 100, 10.0
"""Fourier series of a sum's distribution if some items have several scores: period, number of terms, and the largest
contribution of one answer. Lengths are in SDs of the sum. The omitted terms change a probability by less than .01, and
not at all if the sum varies smoothly."""
_EXPLAINED = 1e-12
"""Share of a sum's variance, about its rounding error, below which the item's parameters determine the sum: outfit of a
4PL is a combination of the scores of c and u, and no test."""
_STANDARD_NORMAL = NormalDist()
_MIN_PROBABILITY = 1e-6
"""Tail probabilities below this come from the normal distribution."""
_TERMS = 16
"""Number of terms that are drawn for the RMSD's distribution. The other terms, less than a thousandth of the sum, are
replaced by their means."""


@dataclass(frozen=True)
class ItemFit:
    """Fit of all items of a calibration, shape (J,) each; NaN for items without parameters or responses.

    Attributes:
        infit, outfit: mean squares, 1 under the model, ≥ 0.
        infit_z, outfit_z: standard normal under the model; below 0 if answers follow θ more closely than under the
            model. NaN if the item's parameters determine the mean square, as for outfit of a 4PL.
        rmsd: 0 … 1, distance of the observed curve from the model's, over the persons who saw the item.
        rmsd_cutoff: the RMSD that an item with these responses exceeds with probability .001 if it follows the model.
        rmsd_p: probability of an RMSD at least this large under the model.
    """

    infit: Floats
    outfit: Floats
    infit_z: Floats
    outfit_z: Floats
    rmsd: Floats
    rmsd_cutoff: Floats
    rmsd_p: Floats


def item_fit(
    responses: Responses,
    calibration: Calibration,
    *,
    groups: Sequence[str] | None = None,
    everybody: ItemSums | None = None,
    random_state: int = 0,
    threads: int | None = None,
) -> ItemFit:
    """Compute infit, outfit and RMSD of each item, with their distributions under the model.

    Parameters
    ----------
    responses
        The responses that the calibration was estimated from, with its items in the same order. Any may be missing.
    calibration
        The calibration.
    groups
        N labels, the group of each person, if the fit has groups.
    everybody
        The sums over all persons, if `responses` are from a random sample. The sample then determines only the
        distributions under the model.
    random_state
        The seed of the simulated answers. The same seed gives the same numbers for any number of threads.
    threads
        The number of threads; None: one per processor.

    Returns
    -------
    ItemFit
        The statistics of the items.

    Raises
    ------
    PsychometricsError
        If the responses have other items, or groups that the calibration does not have.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> x = irt.datasets.two_forms()[0].responses
    >>> found = irt.itemfit.item_fit(x, irt.fit(x).calibration)
    >>> bool(((found.infit > 0.9) & (found.infit < 1.1)).all())
    True

    Notes
    -----
    The cost is two passes over the responses and five over half a million simulated ones (with more than 200 items,
    2,500 per item, at most 1.5 million), and memory for items × nodes² numbers.
    """
    rng = np.random.default_rng(random_state)
    whole = FittedData.from_responses(responses, calibration, groups)
    with kernels.runner(threads) as run:
        tables = _Tables.from_fit(whole)
        shape = tables.p.shape
        if everybody is None:
            seen, residual = tables.sums(whole, run, fit_kernels.residual_counts, [shape, shape], tables.p)
        else:
            seen, residual = everybody.seen[whole.place], everybody.residual[whole.place]
        n = seen.sum(axis=1)
        wanted = max(SIMULATED_RESPONSES, min(_SIMULATED_PER_ITEM * len(whole.place), _MAX_SIMULATED))
        persons = max(1, round(whole.responses.n_persons * wanted / max(whole.responses.n_responses, 1)))
        copies = min(200, 1 + persons // max(whole.responses.n_persons, 1))
        sample = whole.subsample(persons, rng)
        directions = np.stack([1 - 2 * tables.p, (1 - 2 * tables.p) / tables.variance])
        law = _simulate_distribution(sample, tables, directions, n, copies, rng, run)
        of_scores = None if tables.scores is None else tables.products(whole, run)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = (directions * residual).sum(axis=2)
        free = residual - np.einsum("jqm,jmk,jk->jq", law.pull, tables.own, residual)
        effective = (directions * free).sum(axis=2)
        if of_scores is not None:
            at, own = whole.scored, of_scores[:, 2:]
            squares[:, at] = of_scores[:, :2].T
            effective[:, at] = (of_scores[:, :2] - np.einsum("sdk,sk->sd", law.pull_of_squares, own)).T
            free[at] = residual[at] - np.einsum("sqk,sk->sq", law.pull_of_scores, own)
        infit = 1 + squares[0] / (seen * tables.variance).sum(axis=1)
        outfit = 1 + squares[1] / n
        z = law.of_sums.standardise(effective, n)
        rmsd, free_rmsd = (np.sqrt((r**2 / np.where(seen > 0, seen, 1.0)).sum(axis=1) / n) for r in (residual, free))
    p_value, cutoff = _rmsd_law(free_rmsd, law.covariance, seen, n, rng)
    values = (infit, outfit, z[0], z[1], rmsd, cutoff, p_value)
    return ItemFit(*(whole.among_all(np.where(n > 0, v, np.nan)) for v in values))


@dataclass(frozen=True)
class _Tables:
    """The curves at the nodes.

    Attributes:
        p, variance: mean and variance of x, shape (J, Q).
        logs: log P of each score, shape (C, J, Q).
        own: shape (J, K, Q), (∂P/∂parameter)/(P(1 − P)) for each parameter of an item with two categories; 0 for
            anchors.
        scores: shape (D, C, S, Q), by score of the S items with more categories: (x − P)² minus the variance; the same
            divided by the variance; and ∂ log P/∂parameter for each parameter estimated for the item alone. None if
            there are no such items.
    """

    p: Floats
    variance: Floats
    logs: Floats
    own: Floats
    scores: Floats | None

    @classmethod
    def from_fit(cls, whole: FittedData) -> _Tables:
        fit, theta = whole.calibration, whole.abilities.nodes
        p = np.ascontiguousarray(fit.curves.probability(theta).T)
        eta = np.multiply.outer(fit.a, theta) + fit.d[:, None]
        c = fit.c[:, None]
        q = complement_at(eta, c)
        tiny = np.finfo(float).tiny
        p, q = np.maximum(p, tiny), np.maximum(q, tiny)
        variance = p * q
        intercept = weight_at(eta, 1.0 - c, c)
        slopes = items_where(fit.models, lambda model: model.own_slopes)
        guessed = fit.item_model.guessed(fit.n_items)
        columns = intercept, intercept * theta * slopes[:, None], guessed[:, None] / p
        own = np.stack([column for column in columns if column.any()], axis=1) * whole.estimated_here[:, None, None]
        scores = None
        if whole.scored.size:
            squares = (whole.credit[:, whole.scored, None] - p[whole.scored]) ** 2
            variance[whole.scored] = (np.exp(whole.log_probabilities[:, whole.scored]) * squares).sum(axis=0)
            own[whole.scored] = 0.0
            scores = np.concatenate(
                [[squares - variance[whole.scored], squares / variance[whole.scored] - 1], _own_scores(whole)]
            )
        return cls(p, variance, whole.log_probabilities, own, scores)

    def sums(self, whole: FittedData, run: kernels.Run, kernel, shapes, *given) -> list[Floats]:  # type: ignore[no-untyped-def]
        """Run a kernel over all persons and add up the results of its chunks, arrays of the given shapes."""
        responses, rows, abilities = whole.responses, whole.rows, whole.abilities
        tables = fit_kernels.Tables(self.logs, abilities.log_weights, abilities.group, whole.credit)
        size = sum(int(np.prod(shape)) for shape in shapes) * 8
        pieces = max(1, min(8, 1 + responses.n_responses // 100_000, _PRODUCT_BYTES // max(size, 1)))

        def one(first: int, last: int) -> list[Floats]:
            out = [np.zeros(shape) for shape in shapes]
            kernel(first, last, rows, tables, *given, *out)
            return out

        chunks = kernels.cut(np.diff(rows.start) + 1, pieces) if responses.n_persons else []
        total = [np.zeros(shape) for shape in shapes]
        for part in run(one, chunks):
            for sum_, value in zip(total, part, strict=True):
                sum_ += value
        return total

    def products(self, whole: FittedData, run: kernels.Run) -> list[Floats]:
        """The sums of `fit_kernels.score_products`."""
        assert self.scores is not None
        D, _, S, Q = self.scores.shape
        place = np.full(len(self.p), -1)
        place[whole.scored] = np.arange(S)
        shapes = [(S, D), (S, D, D), (S, D, Q)]
        return self.sums(whole, run, fit_kernels.score_products, shapes, self.p, place, self.scores)


def _own_scores(whole: FittedData) -> Floats:
    """∂ log P(score)/∂parameter of the S items with more scores than 0 and 1, shape (K, C, S, Q) with K ≥ 1.

    It is 0 for anchors, and for parameters that were not estimated for an item alone.
    """
    fit, own = whole.calibration.select(whole.scored), whole.own_parameters[:, whole.scored]
    found = fit.item_model.by_parameters(whole.abilities.nodes, fit.parameters, fit.n_categories)
    own = own[: len(found)]
    some = own.any(axis=1) | (np.arange(len(own)) == 0)
    return (found * own[:, :, None, None])[some].transpose(0, 3, 1, 2)


@dataclass(frozen=True)
class ResidualDistribution:
    """Distribution of the residuals of one response under the model.

    Attributes:
        pull: VA(AᵀVA)⁻¹, shape (J, Q, K), regression of the residuals on the parameters' scores. Scores are 0 at a
            maximum of the likelihood, but not under a prior; so tests subtract this part of the residuals.
        covariance: V*, shape (J, Q, Q).
        of_sums: distribution of the residuals' sums in each direction.
        pull_of_squares, pull_of_scores: shapes (S, 2, K) and (S, Q, K), for items with more scores than 0 and 1:
            regression of the sums of squares and of the residuals on the parameters' scores.
    """

    pull: Floats
    covariance: Floats
    of_sums: _ByMoments | _ByTransform
    pull_of_squares: Floats
    pull_of_scores: Floats


def _simulate_distribution(
    sample: FittedData,
    tables: _Tables,
    directions: Floats,
    n: Floats,
    copies: int,
    rng: np.random.Generator,
    run: kernels.Run,
) -> ResidualDistribution:
    """Estimate the distribution from simulated answers of `sample`. n: shape (J,), number of answers to each item."""
    J, Q = tables.p.shape
    seeds = rng.integers(2**63, size=copies)
    count, products, moments = np.zeros(J), np.zeros((J, Q, Q)), np.zeros((len(directions), J, 3))
    of_scores: list[Floats] = []
    for seed in seeds:
        answers = sample.new_answers(np.random.default_rng(seed))
        shapes = [count.shape, products.shape]
        more, more_products = tables.sums(answers, run, fit_kernels.residual_products, shapes, tables.p)
        count += more
        products += more_products
        if tables.scores is not None:
            found = tables.products(answers, run)[1:]
            of_scores = [a + b for a, b in zip(of_scores, found, strict=True)] if of_scores else found
    count = np.maximum(count, 1)[:, None, None]
    covariance = (np.triu(products) + np.triu(products, 1).transpose(0, 2, 1)) / count
    own = tables.own
    taken = own @ covariance
    pull = taken.transpose(0, 2, 1) @ np.linalg.pinv(taken @ own.transpose(0, 2, 1), hermitian=True)
    covariance -= pull @ taken
    effective = np.ascontiguousarray(directions - np.einsum("djq,jqm,jmk->djk", directions, pull, own))
    along = effective[:, None] * (sample.credit[:, :, None] - tables.p)
    if tables.scores is not None:
        at = sample.scored
        together, crossed = (sums / count[at] for sums in of_scores)
        inverse = np.linalg.pinv(together[:, 2:, 2:], hermitian=True)
        pull_of_squares, pull_of_scores = together[:, :2, 2:] @ inverse, crossed[:, 2:].transpose(0, 2, 1) @ inverse
        covariance[at] -= pull_of_scores @ crossed[:, 2:]
        along[:, :, at] = tables.scores[:2] - np.einsum("sdk,kcsq->dcsq", pull_of_squares, tables.scores[2:])
        variance = np.einsum("djq,jqr,djr->dj", directions, covariance, directions)
        of_squares = together[:, :2, :2] - pull_of_squares @ together[:, 2:, :2]
        left, whole = (np.einsum("sdd->ds", squares) for squares in (of_squares, together[:, :2, :2]))
        variance[:, at] = np.where(left > _EXPLAINED * whole, left, np.nan)
        of_sums = _ByTransform.from_fit(
            sample, tables, np.ascontiguousarray(along), np.sqrt(np.maximum(variance, 0) * n), copies, rng, run
        )
        return ResidualDistribution(pull, covariance, of_sums, pull_of_squares, pull_of_scores)
    along = np.ascontiguousarray(along)
    for seed in rng.integers(2**63, size=_MORE * copies):
        answers = sample.new_answers(np.random.default_rng(seed))
        moments += tables.sums(answers, run, fit_kernels.direction_moments, [moments.shape], along)[0]
    none = np.zeros(0)
    return ResidualDistribution(pull, covariance, _ByMoments(moments / (_MORE * count[:, :, 0])), none, none)


@dataclass(frozen=True)
class _ByMoments:
    """Distribution of a sum over n answers, from the means of the first three powers of one answer's part, (2, J, 3).

    Residuals of easy items are rare and large, so their sum is still skewed for a thousand responses.
    """

    moments: Floats

    def standardise(self, total: Floats, n: Floats) -> Floats:
        """Transform sums to standard normal scores, shape (2, J)."""
        sd = np.sqrt(self.moments[..., 1])
        return normal_score(total / (sd * np.sqrt(n)), self.moments[..., 2] / sd**3 / np.sqrt(n))


@dataclass(frozen=True)
class _ByTransform:
    """Distribution of a sum over n answers, from the characteristic function φ of one answer.

    φⁿ is inverted as a Fourier series (Abate & Whitt 1992). Some steep items have a score that hardly anybody gets,
    such as 0 on an easy item scored 0 and 2. A few answers that may or may not occur then make up most of the variance,
    and moments do not describe the sum.

    Attributes:
        sd: shape (2, J), SDs of the sums.
        transform: shape (2, J, L), φ − 1 at l·2π/(period·sd), l = 1 … L.
    """

    sd: Floats
    transform: npt.NDArray[np.complex128]

    @classmethod
    def from_fit(
        cls,
        sample: FittedData,
        tables: _Tables,
        along: Floats,
        sd: Floats,
        copies: int,
        rng: np.random.Generator,
        run: kernels.Run,
    ) -> _ByTransform:
        """Estimate φ from simulated answers. `along`: shape (2, C, J, Q), contribution of a score in each direction."""
        determined, sd = np.where(np.isnan(sd), np.nan, 1.0), np.where(sd > 0, sd, 1.0)
        total: npt.NDArray[np.complex128] = np.zeros((*sd.shape, _FREQUENCIES), dtype=np.complex128)
        count = np.zeros(sd.shape[1])
        for seed in rng.integers(2**63, size=-(-copies // 4)):
            answers = sample.new_answers(np.random.default_rng(seed))
            more, answered = cls.sum_transforms(answers, tables, along, sd, run)
            total += more
            count += answered
        total /= np.maximum(count, 1)[:, None]
        return cls(determined * sd, total)

    @staticmethod
    def sum_transforms(
        whole: FittedData, tables: _Tables, along: Floats, sd: Floats, run: kernels.Run
    ) -> tuple[npt.NDArray[np.complex128], Ints]:
        """φ − 1 summed over the answers to each item, shape (2, J, L), and the number of answers, shape (J,)."""
        p, step, most = np.exp(tables.logs), 2 * np.pi / (_PERIOD * sd), _FARTHEST * sd
        shape = *sd.shape, _FREQUENCIES, 2
        found = tables.sums(whole, run, fit_kernels.direction_transforms, [shape], p, along, step, most)[0]
        return found[..., 0] + 1j * found[..., 1], np.bincount(whole.responses.item, minlength=sd.shape[1])

    def standardise(self, total: Floats, n: Floats) -> Floats:
        """Same as `_ByMoments.standardise`: the normal quantile of P(sum < total) + P(sum = total)/2."""
        z, terms = total / self.sd, np.arange(1, _FREQUENCIES + 1)
        u = 2 * np.pi / _PERIOD * terms
        powers = np.exp(n[:, None] * np.log1p(self.transform))
        waves = (np.exp(-1j * u * z[..., None]) - (-1.0) ** terms) / (-1j * u)
        below = 0.5 + (z + 2 * (powers * waves).real.sum(axis=-1)) / _PERIOD
        by_law = _normal_quantiles(np.clip(below, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY))
        far = (np.abs(z) > _PERIOD / 4) | (np.abs(below - 0.5) > 0.5 - _MIN_PROBABILITY)
        return np.where(far, np.sign(z) * np.maximum(np.abs(z), -_STANDARD_NORMAL.inv_cdf(_MIN_PROBABILITY)), by_law)


def _normal_quantiles(p: Floats) -> Floats:
    return np.array([_STANDARD_NORMAL.inv_cdf(share) for share in p.ravel()]).reshape(p.shape)


def _rmsd_law(
    rmsd: Floats, covariance: Floats, seen: Floats, n: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """p-value and cut-off of each RMSD, shape (J,) each. RMSD² = Σ λ χ²₁, with λ the eigenvalues of V*/√(n_q n_k)."""
    scale = 1.0 / np.sqrt(np.where(seen > 1e-12, seen, np.inf))
    weights = np.linalg.eigvalsh(covariance * scale[:, :, None] * scale[:, None, :])[:, ::-1]
    top = np.maximum(weights[:, :_TERMS], 0.0)
    rest = np.maximum(weights[:, _TERMS:], 0.0).sum(axis=1)
    chi2 = rng.standard_normal((DRAWS, _TERMS)) ** 2
    p_value, cutoff = np.full(len(n), np.nan), np.full(len(n), np.nan)
    for j in np.flatnonzero(n > 0):
        draws = chi2 @ top[j] + rest[j]
        p_value[j] = (1 + np.count_nonzero(draws >= rmsd[j] ** 2)) / (1 + DRAWS)
        cutoff[j] = np.sqrt(np.quantile(draws, PUBLISHING_LEVEL))
    return p_value, cutoff
