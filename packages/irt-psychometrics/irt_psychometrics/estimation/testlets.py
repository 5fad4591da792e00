"""Estimate how far answers to items of a testlet, which share a stimulus, depend on each other beyond θ.

Answers follow logit P(x_j = 1 | θ, γ) = a_j(θ + γ_t − b_j) with an effect γ_t ~ N(0, σ²) of each learner in each
testlet (Bradlow, Wainer & Wang 1999; Wang, Bradlow & Wainer 2002, with one σ for all testlets). Item parameters remain
those of the curve given θ alone, averaged over γ. This module estimates σ. Testlets are numbered in `core.testlets`,
robust errors of the items are in `standard_errors`, the standard error of θ is in `scoring`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import nan
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from irt_psychometrics.core import kernels
from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.curves import complement_at, information
from irt_psychometrics.core.models import Calibration, Flag
from irt_psychometrics.core.quadrature import WIDEST_STEP
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.testlets import number_testlets
from irt_psychometrics.estimation.latent_distribution import normalise
from irt_psychometrics.scoring import testlet_kernels

MIN_TESTLETS = 3
"""Minimum number of testlets. All testlets of a scale have one σ, and fewer testlets do not represent the scale."""
MIN_LEARNERS = 300
"""Minimum number of learners. With fewer, the estimate of σ can be 0 or twice as large by chance alone."""
MAX_LEARNERS = 10_000
"""Maximum number of learners, drawn at random from a larger window. A σ of .5 then has a standard error below .01."""
MAX_SD = 2.0
"""Upper bound of σ, in SDs of θ. At this bound, four fifths of the variance that a testlet measures is not θ."""
MAX_SD_ERROR = 0.2
"""Largest standard error, in SDs of θ, at which σ counts as estimated."""
FLATTENED = (16 * np.sqrt(3) / (15 * np.pi)) ** 2
"""k² in the approximation that a logistic curve of slope a averaged over N(0, σ²) is a logistic curve of slope
a/√(1 + k²a²σ²) (Johnson & Kotz 1970, chapter 22; used by Zeger, Liang & Albert 1988)."""
BENT = 0.6
"""Value of k²a²σ² above which an item would be more than one and a half times as steep given γ."""
_REACH = 4.5
"""Range of abilities: SDs of each population on both sides of its mean."""
_EFFECT_NODES = 9


@dataclass(frozen=True)
class EffectSd:
    """The SD σ of testlet effects, in units of the calibration's θ.

    Attributes
    ----------
    sd, se
        σ and its standard error; NaN if they could not be estimated.
    n_testlets
        Number of testlets with at least 2 items of the fit.
    n_items
        Number of items in these testlets.
    learners
        Number of learners whose answers were used.
    why
        The reason why σ could not be estimated; "" if it was.
    """

    sd: float
    se: float
    n_testlets: int
    n_items: int
    learners: int
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The fields by name, with None instead of NaN."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def estimate_effect_sd(
    responses: Responses,
    calibration: Calibration,
    testlets: Mapping[str, str],
    *,
    groups: Sequence[str] | None = None,
    threads: int | None = None,
) -> EffectSd:
    """Estimate one σ for all testlets by maximum likelihood, given a calibration of these responses.

    Parameters
    ----------
    responses
        The responses that were calibrated.
    calibration
        The calibration, with logistic items. Its curves are the marginal curves, averaged over γ.
    testlets
        item → testlet. Items without a testlet, or alone in their testlet, depend only on θ.
    groups
        A label per learner, if the calibration has several populations.
    threads
        Number of threads. None: all processors.

    Returns
    -------
    EffectSd
        σ and its standard error, or the reason why σ could not be estimated.

    Raises
    ------
    PsychometricsError
        If an item is not logistic.

    Notes
    -----
    Dependent answers make estimated slopes too steep. So the model flattens the calibration's curves by a factor κ.
    Given γ, an item has the slope at which its curve, averaged over γ, is this flattened curve. There is one κ for the
    items of testlets and one for the other items; both are estimated together with σ. Proportions correct stay as in
    the calibration. θ and, within a testlet, γ are integrated out, so the cost grows linearly with the number of
    testlets and not exponentially (Gibbons & Hedeker 1992).

    The standard error comes from the curvature, with item parameters treated as known. If σ² is smaller than its own
    standard error, the standard error of σ is half the square root of that error, which is the SD of the estimate if σ
    is 0.

    References
    ----------
    Bradlow, E. T., Wainer, H. & Wang, X. (1999). A Bayesian random effects model for testlets. Psychometrika, 64,
    153-168.
    Gibbons, R. D. & Hedeker, D. R. (1992). Full-information item bi-factor analysis. Psychometrika, 57, 423-436.

    Examples
    --------
    Without items that share a testlet there is nothing to estimate:

    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
    >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> from irt_psychometrics.estimation import estimate_effect_sd
    >>> bool(estimate_effect_sd(x, irt.fit(x, "rasch").calibration, {"q1": "text"}).why)
    True
    """
    calibration.item_model.require_logistic("a testlet effect")
    known = calibration.estimated & (calibration.a > 0) & (calibration.n > 0)
    known &= np.array([Flag.AT_BOUND not in flags for flags in calibration.flags])
    places = number_testlets([i if ok else "" for i, ok in zip(calibration.item_ids, known, strict=True)], testlets)
    n_testlets, n_items = int(places.max(initial=-1)) + 1, int((places >= 0).sum())

    def unknown(why: str) -> EffectSd:
        return EffectSd(nan, nan, n_testlets, n_items, 0, why)

    if n_testlets < MIN_TESTLETS:
        return unknown(
            f"{n_testlets} testlets with at least 2 fitted items are too few to estimate how testlets differ: "
            f"{MIN_TESTLETS} are needed"
        )
    place = {item: j for j, item in enumerate(calibration.item_ids)}
    of = np.array([place.get(item, -1) for item in responses.item_ids])
    fitted = (of >= 0) & known[of]
    at = of[fitted]
    some, abilities = _draw_learners(responses.of_items(fitted), calibration, at, groups)
    if some.n_persons < MIN_LEARNERS:
        return unknown(f"{some.n_persons} learners are too few: {MIN_LEARNERS} are needed")
    likelihood = _Likelihood.from_responses(some, calibration, at, places[at], abilities)
    with kernels.runner(threads) as run:
        return _maximum(likelihood, run, EffectSd(nan, nan, n_testlets, n_items, some.n_persons))


def _maximum(likelihood: _Likelihood, run: kernels.Run, unknown: EffectSd) -> EffectSd:
    """`unknown` with σ and its error, or with the reason why there is no estimate.

    The parameters of the search are σ² in units of θ's variance, κ of items in testlets, and κ of the other items.
    """
    unit = likelihood.sd
    alone = bool((likelihood.testlet < 0).any())
    size = 3 if alone else 2

    def cost(x: Floats) -> float:
        return -likelihood.value(
            run, unit * float(np.sqrt(max(x[0], 0.0))), float(x[1]), float(x[-1] if alone else 1.0)
        )

    n = len(likelihood.start) - 1
    bounds = [(0.0, MAX_SD**2)] + [(0.3, 1.5)] * (size - 1)
    start = np.array([0.2] + [0.97] * (size - 1))
    x = minimize(lambda x: cost(x) / n, start, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-10}).x
    if x[0] >= 0.99 * MAX_SD**2:
        return replace(
            unknown, why=f"σ stopped at its bound of {MAX_SD:g} SDs of θ: answers in a testlet follow from each other"
        )
    steps = np.diag([max(0.1 * x[0], 0.02)] + [0.02] * (size - 1))
    centre = np.maximum(x, [steps[0, 0]] + [0.0] * (size - 1))
    hessian = _second_differences(cost, centre, steps)
    if np.linalg.eigvalsh(hessian).min() <= 0:
        return replace(unknown, why="answers do not determine σ: too few learners answered several items of a testlet")
    sd, error = float(np.sqrt(x[0])), float(np.sqrt(np.linalg.inv(hessian)[0, 0]))
    se = error / (2 * max(sd, float(np.sqrt(error))))
    if se > MAX_SD_ERROR:
        return replace(
            unknown,
            why=f"σ is estimated as {sd:.2f} ± {se:.2f} SDs of θ: too few learners answered several items of a testlet",
        )
    return replace(unknown, sd=unit * sd, se=unit * se)


def _steeper(x: Floats) -> Floats:
    """1/√(1 − x), continued above x = `BENT` by its tangent.

    Estimated slopes can by chance be steeper than any γ allows. The tangent keeps slopes given γ finite and continuous.
    """
    low = np.minimum(x, BENT)
    return (1 - low) ** -0.5 * (1 + 0.5 * (x - low) / (1 - low))


def _second_differences(f: Callable[[Floats], float], x: Floats, steps: Floats) -> Floats:
    """Second derivatives at x (P,), from finite differences with the diagonal `steps` (P, P); two values of f per
    pair."""
    P = len(x)
    bent = np.empty((P, P))
    middle = 2 * f(x)
    for k in range(P):
        bent[k, k] = f(x + steps[k]) + f(x - steps[k]) - middle
    for k in range(P):
        for m in range(k):
            both = f(x + steps[k] + steps[m]) + f(x - steps[k] - steps[m]) - middle
            bent[k, m] = bent[m, k] = (both - bent[k, k] - bent[m, m]) / 2
    unit = np.diag(steps)
    return bent / np.outer(unit, unit)


@dataclass(frozen=True)
class _Likelihood:
    """Answers of N learners as patterns: a learner's answers in one testlet, or to one item without a testlet.

    Attributes
    ----------
    a, b, c, testlet
        Shape (J,), parameters and testlet of the fitted items.
    pattern_start, item, score
        The answers of the U distinct patterns.
    start, pattern
        The patterns of each learner.
    mean, sd
        Mean and SD of θ in the calibration.
    abilities
        Distribution of θ.
    """

    a: Floats
    b: Floats
    c: Floats
    testlet: Ints
    pattern_start: Ints
    item: npt.NDArray[np.int32]
    score: npt.NDArray[np.int8]
    start: Ints
    pattern: Ints
    mean: float
    sd: float
    abilities: _Abilities

    @classmethod
    def from_responses(
        cls, responses: Responses, calibration: Calibration, at: Ints, testlet: Ints, abilities: _Abilities
    ) -> _Likelihood:
        """Build the patterns. `at` are the items' positions in the calibration; `testlet` (J,) is from
        `number_testlets`."""
        alone = testlet.max(initial=-1) + 1 + np.arange(len(testlet))
        shared = np.where(testlet >= 0, testlet, alone)[responses.item]
        order = np.lexsort((responses.item, shared, responses.person))
        person, item, score = responses.person[order], responses.item[order], responses.score[order]
        of_person = np.flatnonzero(np.diff(person, prepend=-1) != 0)
        begins = np.flatnonzero((np.diff(person, prepend=-1) != 0) | (np.diff(shared[order], prepend=-1) != 0))
        # A pattern is identified by a sum of random numbers of its answers: any two of 10⁶ patterns collide with
        # probability 10⁻⁷.
        marks = np.random.default_rng(0).integers(0, 2**63, (len(testlet), 2), dtype=np.uint64)
        known = np.add.reduceat(marks[item, score], begins)
        _, first, pattern = np.unique(known, return_index=True, return_inverse=True)
        length = np.diff(np.append(begins, len(item)))[first]
        pattern_start = np.concatenate(([0], np.cumsum(length)))
        rows = np.repeat(begins[first] - pattern_start[:-1], length) + np.arange(pattern_start[-1])
        a, b, c = calibration.a[at], calibration.b[at], calibration.c[at]
        start = np.searchsorted(begins, np.append(of_person, len(item)))
        unit = calibration.latent_mean, calibration.latent_sd
        return cls(a, b, c, testlet, pattern_start, item[rows], score[rows], start, pattern, *unit, abilities)

    def value(self, run: kernels.Run, sd: float, slopes: float, slopes_alone: float) -> float:
        """Log-likelihood with σ = `sd`, and κ = `slopes` for items in testlets and `slopes_alone` for other items."""
        within = self.testlet >= 0
        flatter = np.where(within, slopes, slopes_alone) * self.a
        effect = np.where(within, sd, 0.0)
        a = flatter * _steeper(FLATTENED * (effect * flatter) ** 2)
        now, before = 1 + FLATTENED * a**2 * (self.sd**2 + effect**2), 1 + FLATTENED * (self.a * self.sd) ** 2
        b = self.mean + (self.b - self.mean) * self.a / a * np.sqrt(now / before)
        z, weights = np.polynomial.hermite_e.hermegauss(_EFFECT_NODES)
        nodes = self.abilities.nodes
        shown = np.where(within[:, None, None], nodes + sd * z[:, None], nodes)
        eta = a[:, None, None] * (shown - b[:, None, None])
        missed = complement_at(eta, self.c[:, None, None])
        right, wrong = (np.maximum(x, testlet_kernels.MIN_PROBABILITY) for x in (1 - missed, missed))
        effects = np.where(within, _EFFECT_NODES, 1)
        table = np.empty((len(self.pattern_start) - 1, len(nodes)))
        gamma = weights / weights.sum()

        def add_patterns(first: int, last: int) -> None:
            testlet_kernels.add_up_patterns(
                first, last, self.pattern_start, self.item, self.score, effects, right, wrong, gamma, table
            )

        def add_persons(first: int, last: int) -> float:
            return testlet_kernels.add_up_persons(
                first, last, self.start, self.pattern, table, self.abilities.group, self.abilities.log_weights
            )

        run(add_patterns, kernels.cut(np.diff(self.pattern_start), 16))
        return float(sum(run(add_persons, kernels.cut(np.diff(self.start) + 1, 16))))


@dataclass(frozen=True)
class _Abilities:
    """Distribution of θ in each group on common nodes: `group` (N,), `nodes` (Q,), `log_weights` (G, Q)."""

    group: Ints
    nodes: Floats
    log_weights: Floats


def _draw_learners(
    responses: Responses, calibration: Calibration, at: Ints, groups: Sequence[str] | None
) -> tuple[Responses, _Abilities]:
    """Draw at most MAX_LEARNERS learners with an answer. Returns their responses and the distribution of θ.

    `at` are the positions of the items of `responses` in the calibration.
    """
    answered = np.unique(responses.person)
    if len(answered) > MAX_LEARNERS:
        answered = np.sort(np.random.default_rng(0).choice(answered, MAX_LEARNERS, replace=False))
    some = responses.of_persons(answered)
    populations = calibration.latent
    middles, sds = np.array([(p.mean, p.sd) for p in populations]).T
    low, high = (middles - _REACH * sds).min(), (middles + _REACH * sds).max()
    item_information = information(middles, calibration.a[at], calibration.d[at], calibration.c[at])
    seen = np.bincount(some.item, minlength=some.n_items) / some.n_persons
    errors = 1 / np.sqrt(1 / sds**2 + item_information @ seen)
    nodes = np.linspace(low, high, int(np.ceil((high - low) / (WIDEST_STEP * errors.min()))) + 1)
    log_weights = normalise(np.array([population.log_density(nodes) for population in populations]))
    group = np.zeros(len(answered), dtype=np.int64)
    if groups is not None and len(populations) > 1:
        number = {p.name: g for g, p in enumerate(populations)}
        group = np.array([number[groups[i]] for i in answered], dtype=np.int64)
    return some, _Abilities(group, nodes, log_weights)
