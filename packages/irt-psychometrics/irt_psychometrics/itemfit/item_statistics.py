"""Item fit from what the responses say about each item at each ability: infit, outfit, RMSD.

Everything here comes from one sum per item j and node q, over the persons who saw the item,

    r_jq = Σ_i (x_ij − P_j(θ_q)) · P(θ_q | pattern i),

observed minus expected right answers of the E-step. The posterior takes the place of a point estimate of θ: residuals
at an EAP are too small, the more so the fewer items a learner saw, while the posterior expectations have exactly the
model's mean, whatever was seen (as long as what was seen did not depend on θ beyond the answers given).

- infit  = Σ E[(x − P)² | pattern] / Σ E[P(1 − P) | pattern]   = 1 + Σ_q (1 − 2P) r / W,     1 under the model
- outfit = mean of E[(x − P)²/(P(1 − P)) | pattern]            = 1 + Σ_q (1 − 2P)/(P(1 − P)) r / n,    1 under it
- RMSD   = √(Σ_q w_q (r_q/n_q)²), w_q = n_q/n: the observed against the model curve

because (x − P)² − P(1 − P) = (x − P)(1 − 2P). Of an item scored 0 … m, x is the share of m, P its expectation, and
P(1 − P) its variance; (x − P)² less the variance is then not a multiple of x − P, and is summed by itself, as are the
scores of its parameters. Both mean squares are therefore score tests of one more parameter on
the item's logit, and the estimated item parameters take away what lies in the direction of their own scores: with A
their directions and V the covariance of r for true parameters, V* = V − VA(AᵀVA)⁻¹AᵀV is the covariance of r at
the estimates. V is computed on answers that the fitted model gives to the same sets of items. Tests use the residuals
less VA(AᵀVA)⁻¹Aᵀr, which is 0 at a maximum of the likelihood, so that they hold at any consistent estimate (Neyman's
C(α)), such as one under a prior on c.

S-X² is in `sum_score_fit`; statistics without a model are in `classical`.
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
from irt_psychometrics.core.item_models import which
from irt_psychometrics.core.models import Calibration, Floats
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.significance import normal_score
from irt_psychometrics.itemfit import fit_kernels
from irt_psychometrics.itemfit.item_sums import ItemSums
from irt_psychometrics.itemfit.model_replicates import Fitted

SIMULATED_RESPONSES = 500_000
"""Fewest model answers from which the covariance of the residuals is computed; more where that would leave too few for
an item."""
_SIMULATED_PER_ITEM, _MOST_SIMULATED = 2_500, 1_500_000
DRAWS = 20_000
"""Draws of the RMSD under the model: the estimated 99.9 % point then lies between the 99.88 and the 99.92 % point."""
PUBLISHING_LEVEL = 0.999
"""An item that follows the model must not be held back for its fit more than once in a thousand items."""
_MORE = 4
"""times as many for the moments of infit and outfit: outfit's rest on rare large residuals, and cost a fifth."""
_PRODUCT_BYTES = 512 * 2**20
_PERIOD, _FREQUENCIES, _FARTHEST = 50.0, 100, 10.0
"""Period of the law of a sum beside scored items, terms of its Fourier series, and the farthest that one answer moves
it; lengths in SDs of the sum. What is left out changes a probability by less than .01, and by nothing where the sum
varies smoothly."""
_STANDARD_NORMAL = NormalDist()
_LEAST = 1e-6
"""Tails smaller than this are those of a normal distribution."""
_TERMS = 16
"""Terms of the RMSD's distribution that are drawn; the others, under a thousandth of it, enter by their mean."""


@dataclass(frozen=True)
class ItemFit:
    """Shape (J,) each, for all items of the calibration; NaN where an item has no parameters or no responses.

    Attributes:
        infit, outfit: mean squares, 1 under the model, ≥ 0.
        infit_z, outfit_z: standard normal under the model; below 0 where answers follow θ more closely than the
            model says.
        rmsd: 0 … 1, distance of the observed from the model curve over the persons who saw the item.
        rmsd_cutoff: the RMSD that a sound item with these responses exceeds once in a thousand times.
        rmsd_p: share of sound items with an RMSD at least this large.
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
    seed: int = 0,
    threads: int | None = None,
) -> ItemFit:
    """Infit, outfit and RMSD of every item, with what to judge them by.

    Args:
        responses: those the calibration was estimated from, in the same order of items; any pattern of missing ones.
        everybody: the sums over all learners, where `responses` are those of a random sample. The sample then only
            says what to judge them by.
        groups: the group of each person, n_persons labels, where the fit has groups.
        seed: of the simulated answers. The same seed gives the same numbers on any number of threads.

    Costs two passes over the responses and five over half a million simulated ones (2,500 an item above 200 items, at
    most 1.5 million); memory items × nodes².
    """
    rng = np.random.default_rng(seed)
    whole = Fitted.of(responses, calibration, groups)
    with kernels.runner(threads) as run:
        tables = _Tables.of(whole)
        shape = tables.p.shape
        if everybody is None:
            seen, residual = tables.sums(whole, run, fit_kernels.residual_counts, [shape, shape], tables.p)
        else:
            seen, residual = everybody.seen[whole.place], everybody.residual[whole.place]
        n = seen.sum(axis=1)
        wanted = max(SIMULATED_RESPONSES, min(_SIMULATED_PER_ITEM * len(whole.place), _MOST_SIMULATED))
        persons = max(1, round(whole.responses.n_persons * wanted / max(whole.responses.n_responses, 1)))
        copies = min(200, 1 + persons // max(whole.responses.n_persons, 1))
        sample = whole.subsample(persons, rng)
        directions = np.stack([1 - 2 * tables.p, (1 - 2 * tables.p) / tables.variance])
        law = _under_the_model(sample, tables, directions, n, copies, rng, run)
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
        z = law.of_sums.standardised(effective, n)
        rmsd, free_rmsd = (np.sqrt((r**2 / np.where(seen > 0, seen, 1.0)).sum(axis=1) / n) for r in (residual, free))
    p_value, cutoff = _rmsd_law(free_rmsd, law.covariance, seen, n, rng)
    values = (infit, outfit, z[0], z[1], rmsd, cutoff, p_value)
    return ItemFit(*(whole.among_all(np.where(n > 0, v, np.nan)) for v in values))


@dataclass(frozen=True)
class _Tables:
    """The curves at the nodes: P and the variance of x, (J, Q), and log P of each score, (C, J, Q)."""

    p: Floats
    variance: Floats
    logs: Floats
    own: Floats
    """Shape (J, K, Q): (∂P/∂parameter)/(P(1 − P)) for each parameter of an item of two categories; 0 for an anchor."""
    scores: Floats | None
    """Shape (D, C, S, Q), by score of the S items with more: (x − P)² less the variance, the same by the variance, and
    ∂ log P/∂parameter for each that was estimated for the item alone. None where there are no such items."""

    @classmethod
    def of(cls, whole: Fitted) -> _Tables:
        fit, theta = whole.calibration, whole.abilities.nodes
        p = np.ascontiguousarray(fit.curves.probability(theta).T)
        eta = np.multiply.outer(fit.a, theta) + fit.d[:, None]
        c = fit.c[:, None]
        q = complement_at(eta, c)
        tiny = np.finfo(float).tiny
        p, q = np.maximum(p, tiny), np.maximum(q, tiny)
        variance = p * q
        intercept = weight_at(eta, 1.0 - c, c)
        slopes = which(fit.models, lambda model: model.own_slopes)
        guessed = which(fit.models, lambda model: model.guesses)
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

    def sums(self, whole: Fitted, run: kernels.Run, kernel, shapes, *given) -> list[Floats]:  # type: ignore[no-untyped-def]
        """Runs a kernel over all persons and adds up what its chunks found, arrays of the given shapes."""
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

    def products(self, whole: Fitted, run: kernels.Run) -> list[Floats]:
        """The sums of `fit_kernels.score_products`."""
        assert self.scores is not None
        D, _, S, Q = self.scores.shape
        place = np.full(len(self.p), -1)
        place[whole.scored] = np.arange(S)
        shapes = [(S, D), (S, D, D), (S, D, Q)]
        return self.sums(whole, run, fit_kernels.score_products, shapes, self.p, place, self.scores)


def _own_scores(whole: Fitted) -> Floats:
    """Shape (K, C, S, Q), K at least 1: ∂ log P(score)/∂parameter of the S items with more scores than 0 and 1, for the
    parameters that were estimated for the item alone; 0 for others, and for anchors."""
    fit, own = whole.calibration.select(whole.scored), whole.own_parameters[:, whole.scored]
    found = fit.item_model.by_parameters(whole.abilities.nodes, fit.parameters, fit.n_categories)
    own = own[: len(found)]
    some = own.any(axis=1) | (np.arange(len(own)) == 0)
    return (found * own[:, :, None, None])[some].transpose(0, 3, 1, 2)


@dataclass(frozen=True)
class _Law:
    """Residuals under the model, of one response.

    Attributes:
        pull: VA(AᵀVA)⁻¹, (J, Q, K): what the residuals owe to each parameter's score. Scores are 0 at a maximum of the
            likelihood; under a prior they are not, and what they carry is taken out of the residuals before a test.
        covariance: V*, (J, Q, Q).
        of_sums: of the parts of the residuals' sums in each direction.
        pull_of_squares, pull_of_scores: of items with more scores than 0 and 1, (S, 2, K) and (S, Q, K): what the sums
            of their squares and their residuals owe to each parameter's score.
    """

    pull: Floats
    covariance: Floats
    of_sums: _ByMoments | _ByTransform
    pull_of_squares: Floats
    pull_of_scores: Floats


def _under_the_model(
    sample: Fitted,
    tables: _Tables,
    directions: Floats,
    n: Floats,
    copies: int,
    rng: np.random.Generator,
    run: kernels.Run,
) -> _Law:
    """n: shape (J,), the answers to each item."""
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
        variance[:, at] = np.einsum("sdd->ds", of_squares)
        of_sums = _ByTransform.of(
            sample, tables, np.ascontiguousarray(along), np.sqrt(np.maximum(variance, 0) * n), copies, rng, run
        )
        return _Law(pull, covariance, of_sums, pull_of_squares, pull_of_scores)
    along = np.ascontiguousarray(along)
    for seed in rng.integers(2**63, size=_MORE * copies):
        answers = sample.new_answers(np.random.default_rng(seed))
        moments += tables.sums(answers, run, fit_kernels.direction_moments, [moments.shape], along)[0]
    none = np.zeros(0)
    return _Law(pull, covariance, _ByMoments(moments / (_MORE * count[:, :, 0])), none, none)


@dataclass(frozen=True)
class _ByMoments:
    """The law of a sum over n answers, by the mean of the first three powers of one, (2, J, 3).

    Residuals at the easy end are rare and large: their sum is still skewed for a thousand responses.
    """

    moments: Floats

    def standardised(self, total: Floats, n: Floats) -> Floats:
        """A sum as a standard normal; all (2, J)."""
        sd = np.sqrt(self.moments[..., 1])
        return normal_score(total / (sd * np.sqrt(n)), self.moments[..., 2] / sd**3 / np.sqrt(n))


@dataclass(frozen=True)
class _ByTransform:
    """The law of a sum over n answers by the characteristic function φ of one: φⁿ, inverted as a Fourier series
    (Abate & Whitt 1992). Of a steep item with a score that hardly anybody gets, such as 0 of an easy one scored 0 and
    2, a few answers that may or may not occur make up most of the variance, and no moments describe the sum.

    sd: shape (2, J), of the sums; transform: shape (2, J, L), φ − 1 at l·2π/(period·sd), l from 1 to L.
    """

    sd: Floats
    transform: npt.NDArray[np.complex128]

    @classmethod
    def of(
        cls,
        sample: Fitted,
        tables: _Tables,
        along: Floats,
        sd: Floats,
        copies: int,
        rng: np.random.Generator,
        run: kernels.Run,
    ) -> _ByTransform:
        """`along`: shape (2, C, J, Q), what a score says in each direction; of answers that the model gives anew."""
        sd = np.where(sd > 0, sd, 1.0)
        total: npt.NDArray[np.complex128] = np.zeros((*sd.shape, _FREQUENCIES), dtype=np.complex128)
        count = np.zeros(sd.shape[1])
        for seed in rng.integers(2**63, size=-(-copies // 4)):
            answers = sample.new_answers(np.random.default_rng(seed))
            more, answered = cls.summed(answers, tables, along, sd, run)
            total += more
            count += answered
        total /= np.maximum(count, 1)[:, None]
        return cls(sd, total)

    @staticmethod
    def summed(
        whole: Fitted, tables: _Tables, along: Floats, sd: Floats, run: kernels.Run
    ) -> tuple[npt.NDArray[np.complex128], Ints]:
        """φ − 1 summed over the answers to each item, shape (2, J, L), and how many there are, shape (J,)."""
        p, step, most = np.exp(tables.logs), 2 * np.pi / (_PERIOD * sd), _FARTHEST * sd
        shape = *sd.shape, _FREQUENCIES, 2
        found = tables.sums(whole, run, fit_kernels.direction_transforms, [shape], p, along, step, most)[0]
        return found[..., 0] + 1j * found[..., 1], np.bincount(whole.responses.item, minlength=sd.shape[1])

    def standardised(self, total: Floats, n: Floats) -> Floats:
        """As of `_ByMoments`: the normal quantile of P(sum < total), half of P(sum = total) with it."""
        z, terms = total / self.sd, np.arange(1, _FREQUENCIES + 1)
        u = 2 * np.pi / _PERIOD * terms
        powers = np.exp(n[:, None] * np.log1p(self.transform))
        waves = (np.exp(-1j * u * z[..., None]) - (-1.0) ** terms) / (-1j * u)
        below = 0.5 + (z + 2 * (powers * waves).real.sum(axis=-1)) / _PERIOD
        by_law = _normal_quantiles(np.clip(below, _LEAST, 1 - _LEAST))
        far = (np.abs(z) > _PERIOD / 4) | (np.abs(below - 0.5) > 0.5 - _LEAST)
        return np.where(far, np.sign(z) * np.maximum(np.abs(z), -_STANDARD_NORMAL.inv_cdf(_LEAST)), by_law)


def _normal_quantiles(p: Floats) -> Floats:
    return np.array([_STANDARD_NORMAL.inv_cdf(share) for share in p.ravel()]).reshape(p.shape)


def _rmsd_law(
    rmsd: Floats, covariance: Floats, seen: Floats, n: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """p-value and cut-off of each RMSD, (J,) both: its square is Σ λ χ²₁ with λ the eigenvalues of V*/√(n_q n_k)."""
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
