"""Misfit of a window's answers to the model, and its increase since a reference window.

Real tests never follow the model exactly, and the size of the misfit alone is not a reason to reject a month: a stable
second ability was already present when the scale was created. Only new misfit endangers parameters and abilities. This
module contains measures of misfit with their limits, and their increase on the items that two windows have in common.
The statistics themselves are in `dependence`, `m2` and `person_fit`. The caller chooses the windows and acts on the
result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.sparse import csr_array
from scipy.special import betainc, betaln, logsumexp, ndtri

from irt_psychometrics.core.arrays import Floats, Mask
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.itemfit.dependence import MAX_PERSONS, ParallelAnalysis, new_dependence, parallel_analysis
from irt_psychometrics.itemfit.fit_summary import FORM_ITEMS, FORMS, RARE_LEVEL
from irt_psychometrics.itemfit.m2 import forms_if_tested
from irt_psychometrics.itemfit.measure import CONFIDENCE, Measure
from irt_psychometrics.itemfit.model_replicates import FittedData
from irt_psychometrics.itemfit.person_patterns import person_fit

ROUNDS = 7
"""Replications of each window for the distribution of a difference of eigenvalues by chance. Each replication of one
window is compared with each replication of the other."""
MAX_LEARNER_RATIO = 1.25
"""Largest ratio of two windows' numbers of persons at which their eigenvalues are compared, because the ratio of an
eigenvalue to its expectation increases with the number of persons."""
PERSONS = 20_000
"""Largest number of persons from whom misfit is estimated; from a larger window, a random sample is drawn."""
MAX_AT_RANDOM = 0.5
"""Upper bound on the probability of a correct answer by persons who answer at random. All smaller values are equally
likely."""
GRID = np.linspace(-8.0, 8.0, 81)
"""Nodes of the ability distribution of a window's persons, in SDs of the reference's θ around its mean."""


@dataclass(frozen=True)
class Misfit:
    """Misfit of a window. A measure is None if it could not be computed.

    Attributes
    ----------
    ratio
        Largest eigenvalue of the residual correlations, divided by the expectation under the model.
    rmsea
        RMSEA₂ over the forms.
    unlikely
        Share of persons with p < `RARE_LEVEL` by lz*. Under the model, it is `RARE_LEVEL`.
    random
        Share of persons who answer every item at random, from the items scored 0 and 1.
    """

    ratio: Measure | None
    rmsea: Measure | None
    unlikely: Measure | None
    random: Measure | None


@dataclass(frozen=True)
class Change:
    """The misfit of a window compared with the misfit of its reference window.

    Attributes
    ----------
    items
        Number of common items.
    dependence
        Largest eigenvalue of the change in residual correlations, minus the expectation by chance; 0 if the
        correlations have not changed.
    now, before
        Misfit of the window and of its reference.
    chance
        If persons guess, the increase of the share that answers at random, computed with the reference's parameters
        and the shape of its distribution of θ. None if persons do not guess.
    loading_items
        By measure (dependence, ratio), the items that contribute most, the largest contribution first. For dependence:
        items that are more correlated than before. For ratio: items of the window that share the most beyond the
        ability.
    """

    items: int
    dependence: Measure | None
    now: Misfit
    before: Misfit
    chance: Measure | None
    loading_items: dict[str, tuple[str, ...]]

    @property
    def growth(self) -> dict[str, Measure | None]:
        """Increase of each measure: dependence, ratio, rmsea, unlikely, random, and chance if it was computed."""
        now, before = vars(self.now), vars(self.before)
        of_each = {name: _growth(now[name], before[name]) for name in now}
        return {"dependence": self.dependence} | of_each | ({"chance": self.chance} if self.chance else {})


def _growth(now: Measure | None, before: Measure | None) -> Measure | None:
    return None if now is None or before is None else now.minus(before)


@dataclass(frozen=True)
class Window:
    """Responses of one population and the fit to them, with the same items in the same order.

    Attributes
    ----------
    responses
        Responses of N persons to J items.
    calibration
        The fit.
    dimensions
        Parallel analysis that was stored with the fit; None: it is computed when needed.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.itemfit import Window
    >>> x = irt.datasets.two_forms()[0].responses
    >>> Window(x, irt.fit(x).calibration).n_persons
    1000
    """

    responses: Responses
    calibration: Calibration
    dimensions: ParallelAnalysis | None = None

    @classmethod
    def with_summary(cls, responses: Responses, calibration: Calibration, parallel: Mapping[str, Any] | None) -> Window:
        """Create a window with the parallel analysis of a `FitSummary`.

        Parameters
        ----------
        responses
            Responses of N persons to J items.
        calibration
            The fit.
        parallel
            `whole["parallel"]` of the fit's summary. It is ignored if it is None, if the standard error is None, or if
            an item is missing in `responses`.

        Returns
        -------
        Window
            The window.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> from irt_psychometrics.itemfit import FitSummary, Window
        >>> x = irt.datasets.rating_scale().responses
        >>> fit = irt.fit(x, "gpcm").calibration
        >>> stored = FitSummary.from_fit(x, fit).whole["parallel"]
        >>> Window.with_summary(x, fit, stored).dimensions.eigenvalue == stored["eigenvalue"]
        True
        """
        places = {item: j for j, item in enumerate(responses.item_ids)}
        if parallel is None or parallel["se"] is None or not places.keys() >= set(parallel["together"]):
            return cls(responses, calibration)
        dimensions = ParallelAnalysis(
            parallel["eigenvalue"],
            np.array(parallel["under_model"]),
            parallel["se"],
            tuple(places[item] for item in parallel["together"]),
            parallel["learners"],
        )
        return cls(responses, calibration, dimensions)

    @property
    def n_persons(self) -> int:
        """Number of persons in the window's parallel analysis."""
        return self.dimensions.learners if self.dimensions else min(MAX_PERSONS, self.responses.n_persons)

    def on(self, items: Sequence[str]) -> Window:
        """Restrict the window to these items, in this order, and to the persons who saw one of them.

        Parameters
        ----------
        items
            Names of items of the window.

        Returns
        -------
        Window
            The restricted window, without a stored parallel analysis.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> from irt_psychometrics.itemfit import Window
        >>> x = irt.datasets.two_forms()[0].responses
        >>> Window(x, irt.fit(x).calibration).on(["c02", "c01"]).responses.item_ids
        ('c02', 'c01')
        """
        at = {item: j for j, item in enumerate(self.responses.item_ids)}
        places = np.array([at[item] for item in items], dtype=np.int64)
        some = self.responses.of_items(places)
        return Window(some.of_persons(np.unique(some.person)), self.calibration.select(places))

    def sample_data(self) -> FittedData:
        """Draw at most `PERSONS` persons at random, with the items that have parameters.

        Returns
        -------
        FittedData
            The data. The same window gives the same sample.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> from irt_psychometrics.itemfit import Window
        >>> x = irt.datasets.two_forms()[0].responses
        >>> Window(x, irt.fit(x).calibration).sample_data().responses.n_persons
        1000
        """
        return FittedData.from_responses(self.responses, self.calibration).subsample(PERSONS, np.random.default_rng(0))

    def compare_with(self, before: Window, *, guessing: bool = False, threads: int | None = None) -> Change:
        """Compare the window's misfit with the misfit of `before`, its reference.

        The ratios of eigenvalues, and the shares of persons who answer at random, use all items of each window. The
        other measures use the common items, and are None if there are fewer than `Measure.MIN_ITEMS`. Each window has
        a fit of its own, so an item that changed does not count as misfit.

        Parameters
        ----------
        before
            The reference.
        guessing
            Whether persons of the window guess. Its fit then gives persons who answer at random a low ability, so
            `chance` is computed with the reference's fit.
        threads
            Number of threads; None: all processors.

        Returns
        -------
        Change
            Misfit of both windows, and the growth of each measure with limits.

        Raises
        ------
        PsychometricsError
            If responses and fit of a window do not have the same items in the same order.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> from irt_psychometrics.itemfit import Window
        >>> old, new = (data.responses for data in irt.datasets.two_forms())
        >>> change = Window(new, irt.fit(new).calibration).compare_with(Window(old, irt.fit(old).calibration))
        >>> change.items, change.growth["dependence"].low < 0
        (10, True)
        """
        items = common_items(self, before)
        most = min(self.n_persons, before.n_persons)
        enough = len(items) >= Measure.MIN_ITEMS
        here, there = (window.on(items).sample_data() if enough else None for window in (self, before))

        def misfit_of(window: Window, some: FittedData | None, ratio: Measure | None) -> Misfit:
            return Misfit(
                ratio,
                None if some is None else _rmsea(some),
                None if some is None else _unlikely(some, threads),
                _random(window.sample_data()),
            )

        loading_items: dict[str, tuple[str, ...]] = {}
        dependence = None
        if here is not None and there is not None:
            dependence, loading_items["dependence"] = _new_dependence(here, there, threads)
        ratio, loading_items["ratio"] = _ratio(self, most, threads)
        reference_ratio, _ = _ratio(before, most, threads)
        chance = _growth(*(_at_chance(some, there) for some in (here, there))) if guessing and here and there else None
        return Change(
            len(items),
            dependence,
            misfit_of(self, here, ratio),
            misfit_of(before, there, reference_ratio),
            chance,
            loading_items,
        )


def common_items(one: Window, other: Window) -> list[str]:
    """List the items with parameters in both fits, sorted."""
    of_one, of_other = (
        {item for item, known in zip(w.calibration.item_ids, w.calibration.estimated, strict=True) if known}
        for w in (one, other)
    )
    return sorted(of_one & of_other)


def _ratio(window: Window, most_persons: int, threads: int | None) -> tuple[Measure | None, tuple[str, ...]]:
    """Compute the eigenvalue's ratio to its expectation, and the items that contribute most.

    At most about `most_persons` persons are used, because a large eigenvalue exceeds its expectation more if there are
    more persons.
    """
    found = window.dimensions
    if found is None or found.learners > MAX_LEARNER_RATIO * most_persons:
        found = parallel_analysis(
            window.responses,
            window.calibration,
            most_persons=most_persons,
            threads=threads,
        )
    if found.se == 0:
        return None, ()
    return _with_limits(found.ratio, found.ratio_se), tuple(window.responses.item_ids[j] for j in found.loading_items)


def _with_limits(value: float, se: float) -> Measure:
    half = float(ndtri(CONFIDENCE)) * se
    return Measure(value, value - half, value + half)


def _new_dependence(now: FittedData, before: FittedData, threads: int | None) -> tuple[Measure | None, tuple[str, ...]]:
    found = new_dependence(now, before, replications=ROUNDS, threads=threads)
    if found is None:
        return None, ()
    se = float(np.hypot(found.se, found.under_model_se))
    growth = _with_limits(found.eigenvalue - float(found.under_model.mean()), se)
    return growth, tuple(now.responses.item_ids[j] for j in found.loading_items)


def _rmsea(whole: FittedData) -> Measure | None:
    forms = forms_if_tested(whole.responses, whole.calibration, most_items=FORM_ITEMS, most_forms=FORMS)
    if not forms:
        return None
    return Measure.rmsea([form.m2 for form in forms], [form.df for form in forms], [form.n for form in forms])


def _unlikely(whole: FittedData, threads: int | None) -> Measure | None:
    p = person_fit(whole.responses, whole.calibration, threads=threads).p
    tested = p[np.isfinite(p)]
    return None if not tested.size else share(int((tested < RARE_LEVEL).sum()), tested.size)


def share(count: int, n: int) -> Measure:
    """Compute a proportion with Wilson's (1927) limits."""
    z, p = float(ndtri(CONFIDENCE)), count / n
    centre, half = p + z**2 / (2 * n), z * float(np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)))
    return Measure(p, (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n))


def _random(whole: FittedData) -> Measure | None:
    """Estimate the share of persons whose answers to all items are correct with the same probability.

    This is Yamamoto's (1989) HYBRID model, with the items' parameters given and that probability uniform between 0 and
    `MAX_AT_RANDOM`.
    """
    whole = whole.scored_0_and_1
    at_random, tested = _loglik_at_random(whole.responses)
    abilities = whole.abilities
    otherwise = logsumexp(_loglik_at(whole, abilities.nodes) + abilities.log_weights[abilities.group], axis=1)
    return share_of_class((at_random - otherwise)[tested]) if tested.any() else None


def share_of_class(log_ratio: Floats) -> Measure:
    """Estimate the share of persons in a class, from each person's log(likelihood in the class / otherwise), (n,).

    The log-likelihood of the share is concave. The estimate is its maximum, and the limits are likelihood limits.
    """
    excess = np.expm1(np.clip(log_ratio, -700.0, 700.0))

    def slope(p: float) -> float:
        return float(np.sum(excess / (1.0 + p * excess)))

    top = 1.0 - 1e-9
    best = 0.0 if slope(0.0) <= 0 else top if slope(top) >= 0 else float(brentq(slope, 0.0, top))
    return _with_limits_of_likelihood(best, top, lambda p: float(np.log1p(p * excess).sum()))


def _with_limits_of_likelihood(best: float, top: float, loglik: Callable[[float], float]) -> Measure:
    """Find limits of a share between 0 and `top` from its (profile) log-likelihood, which is largest at `best`."""
    least = loglik(best) - ndtri(CONFIDENCE) ** 2 / 2

    def limit(end: float) -> float:
        return end if loglik(end) >= least else float(brentq(lambda p: loglik(p) - least, *sorted((best, end))))

    return Measure(best, limit(0.0), limit(top))


def _at_chance(some: FittedData, reference: FittedData) -> Measure | None:
    """Estimate the share of persons in a window who answer at random, with the parameters of its reference.

    The θ of the other persons has the shape of the reference's distribution, with the mean and SD that fit best. A
    shape estimated from the window would absorb the class of these persons: if persons guess, answers at a very low
    ability are no better than chance.
    """
    some = replace(some, calibration=reference.calibration).subsample(MAX_PERSONS, np.random.default_rng(0))
    some = some.scored_0_and_1
    at_random, tested = _loglik_at_random(some.responses)
    if not tested.any():
        return None
    nodes, weights = reference.abilities.nodes, reference.abilities.weights[0]
    mean = weights @ nodes
    sd = np.sqrt(weights @ (nodes - mean) ** 2)
    by_ability = _loglik_at(some, mean + sd * GRID)[tested]
    most = np.maximum(by_ability.max(axis=1), at_random[tested])
    in_class, at_theta = np.exp(at_random[tested] - most), np.exp(by_ability - most[:, None])
    standard = (nodes - mean) / sd

    def loss(shift: float, log_stretch: float, p: float) -> float:
        share = np.interp((GRID - shift) / np.exp(log_stretch), standard, weights, left=0.0, right=0.0) + 1e-12
        return -float(np.log((1 - p) * (at_theta @ (share / share.sum())) + p * in_class).sum())

    top = 0.9
    found = minimize(
        lambda x: loss(x[0], x[1], x[2]),
        (0.0, 0.0, 0.03),
        method="L-BFGS-B",
        bounds=((-4.0, 4.0), (-1.5, 1.5), (0.0, top)),
    )

    def profile(p: float) -> float:
        return -float(minimize(lambda x: loss(x[0], x[1], p), found.x[:2], method="BFGS", options={"gtol": 1e-2}).fun)

    return _with_limits_of_likelihood(float(found.x[2]), top, profile)


def _loglik_at_random(r: Responses) -> tuple[Floats, Mask]:
    """Compute the log-likelihood of answers that are all right with one probability, and who has enough answers.

    Both have shape (n_persons,).
    """
    n = np.bincount(r.person, minlength=r.n_persons)
    correct = np.bincount(r.person, weights=r.score, minlength=r.n_persons)
    right, wrong = correct + 1, n - correct + 1
    with np.errstate(divide="ignore"):  # log 0: a thousand right answers cannot be random
        at_random = betaln(right, wrong) + np.log(betainc(right, wrong, MAX_AT_RANDOM) / MAX_AT_RANDOM)
    return at_random, n >= Measure.MIN_ITEMS


def _loglik_at(whole: FittedData, nodes: Floats) -> Floats:
    """Compute the log-likelihood of each person's answers at each θ, shape (n_persons, len(nodes))."""
    r, fit = whole.responses, whole.calibration
    log_right, log_wrong = fit.curves.log_tables(nodes)
    right, wrong = (
        csr_array((kind.astype(float), (r.person, r.item)), shape=(r.n_persons, fit.n_items))
        for kind in (r.score == 1, r.score == 0)
    )
    return right @ log_right + wrong @ log_wrong
