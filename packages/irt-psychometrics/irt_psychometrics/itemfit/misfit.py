"""How far the answers of a window are from the model, and how much farther than those of another window.

Real tests never follow the model to the letter, and how far they are from it says little of a month: a stable second
ability was there when the scale was made. What is new in a month is what parameters and abilities must be kept from.
Belongs here: measures of misfit with their limits, and the growth from one window to another on the items that
both have. Does not belong here: the statistics themselves (see `dependence`, `m2`, `person_fit`), which window is
compared with which, and what is held back for it (see the gates).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError
from scipy.optimize import brentq, minimize
from scipy.sparse import csr_array
from scipy.special import betainc, betaln, logsumexp, ndtri

from irt_psychometrics.core.arrays import Floats, Mask
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.itemfit.dependence import MOST_PERSONS, ParallelAnalysis, new_dependence, parallel_analysis
from irt_psychometrics.itemfit.fit_summary import FORM_ITEMS, FORMS, PARALLEL_ROUNDS, RARE_LEVEL
from irt_psychometrics.itemfit.m2 import form_fit
from irt_psychometrics.itemfit.measure import CONFIDENCE, Measure
from irt_psychometrics.itemfit.model_replicates import Fitted
from irt_psychometrics.itemfit.person_fit import person_fit

ROUNDS = 7
"""Replications of each window for the distribution of a difference of eigenvalues by chance; each of one window is
compared with each of the other."""
MOST_UNLIKE = 1.25
"""An eigenvalue's ratio rises with the learners: windows are compared if one has at most this many times the learners
of the other."""
LEARNERS = 20_000
"""Learners drawn from a larger window to count those who answer at random."""
MOST_AT_RANDOM = 0.5
"""Upper bound on the probability of a correct answer of learners who answer at random; all values below are equally
likely."""
GRID = np.linspace(-8.0, 8.0, 81)
"""Nodes, in SDs of the reference's θ around its mean, of the distribution that a month's learners may have."""


@dataclass(frozen=True)
class Misfit:
    """What of a window does not follow the model; None for what could not be measured.

    Attributes:
        ratio: the largest eigenvalue of the residual correlations to the one that the model gives.
        rmsea: RMSEA₂ over the forms.
        unlikely: share of learners with p < `RARE_LEVEL` by lz*; `RARE_LEVEL` under the model.
        random: share of learners who answer at random, whatever the item; by the items scored 0 and 1.
    """

    ratio: Measure | None
    rmsea: Measure | None
    unlikely: Measure | None
    random: Measure | None


@dataclass(frozen=True)
class Change:
    """The misfit of a window compared with that of another one, its reference.

    Attributes:
        items: how many of both were compared.
        dependence: how far the largest eigenvalue of what changed in the residual correlations is above the one that
            chance gives; 0 where items go together as they did.
        now, before: of the window and its reference.
        chance: where learners guess, how many more than in the reference answer at random, by the reference's
            parameters and the shape of its distribution of θ; None where they do not.
        loading_items: by measure (dependence, ratio) the items that contribute most to it, the largest part first:
            those that go together more than they did, and those of the window that share most beyond the ability.
    """

    items: int
    dependence: Measure | None
    now: Misfit
    before: Misfit
    chance: Measure | None
    loading_items: dict[str, tuple[str, ...]]

    @property
    def growth(self) -> dict[str, Measure | None]:
        """Values by measure: dependence, ratio, rmsea, unlikely, random, and chance where it was asked for."""
        now, before = vars(self.now), vars(self.before)
        of_each = {name: _growth(now[name], before[name]) for name in now}
        return {"dependence": self.dependence} | of_each | ({"chance": self.chance} if self.chance else {})


def _growth(now: Measure | None, before: Measure | None) -> Measure | None:
    return None if now is None or before is None else now.minus(before)


@dataclass(frozen=True)
class Window:
    """Answers of one population and the fit that was made of them, of the same items in the same order.

    `dimensions`: the parallel analysis that was kept with the fit; None if none was.
    """

    responses: Responses
    calibration: Calibration
    dimensions: ParallelAnalysis | None = None

    @classmethod
    def with_summary(cls, responses: Responses, calibration: Calibration, parallel: Mapping[str, Any] | None) -> Window:
        """A window whose parallel analysis is known from a `FitSummary` of its fit, in which it is
        `whole["parallel"]`. It is not used if its error is not known, or if one of its items is not among those of
        the responses."""
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
    def learners(self) -> int:
        """Behind its eigenvalues."""
        return self.dimensions.learners if self.dimensions else min(MOST_PERSONS, self.responses.n_persons)

    def on(self, items: Sequence[str]) -> Window:
        """The same for these items, in this order, without the learners who saw none of them."""
        at = {item: j for j, item in enumerate(self.responses.item_ids)}
        places = np.array([at[item] for item in items], dtype=np.int64)
        some = self.responses.of_items(places)
        return Window(some.of_persons(np.unique(some.person)), self.calibration.select(places))

    def fitted(self) -> Fitted:
        """The items that have parameters, and at most `LEARNERS` learners, drawn at random."""
        return Fitted.of(self.responses, self.calibration).subsample(LEARNERS, np.random.default_rng(0))

    def compared_with(self, before: Window, *, guessing: bool = False, threads: int | None = None) -> Change:
        """How the window departs from the model, compared with `before`, its reference.

        On the items that both have, at least `Measure.MIN_ITEMS` of them; but the eigenvalues' ratios, and who answers
        at random, are of all items of each. Each window is judged by its own fit, so that an item that changed is not
        misfit.
        `guessing`: learners of the month guess. Then its own fit takes those who answer at random for learners of low
        ability, and it is judged by its reference's fit too.
        """
        items = common_items(self, before)
        most = min(self.learners, before.learners)
        enough = len(items) >= Measure.MIN_ITEMS
        here, there = (window.on(items).fitted() if enough else None for window in (self, before))

        def of(window: Window, some: Fitted | None, ratio: Measure | None) -> Misfit:
            return Misfit(
                ratio,
                None if some is None else _rmsea(some),
                None if some is None else _unlikely(some, threads),
                _random(window.fitted()),
            )

        loading_items: dict[str, tuple[str, ...]] = {}
        dependence = None
        if here is not None and there is not None:
            dependence, loading_items["dependence"] = _new_dependence(here, there, threads)
        ratio, loading_items["ratio"] = _ratio(self, most, threads)
        reference_ratio, _ = _ratio(before, most, threads)
        chance = _growth(*(_at_chance(some, there) for some in (here, there))) if guessing and here and there else None
        return Change(
            len(items), dependence, of(self, here, ratio), of(before, there, reference_ratio), chance, loading_items
        )


def common_items(one: Window, other: Window) -> list[str]:
    """Items that both fits have parameters of."""
    of_one, of_other = (
        {item for item, known in zip(w.calibration.item_ids, w.calibration.estimated, strict=True) if known}
        for w in (one, other)
    )
    return sorted(of_one & of_other)


def _ratio(window: Window, most_persons: int, threads: int | None) -> tuple[Measure | None, tuple[str, ...]]:
    """The eigenvalue of about `most_persons`, because an eigenvalue that stands out does so more with more learners;
    and its items."""
    found = window.dimensions
    if found is None or found.learners > MOST_UNLIKE * most_persons:
        found = parallel_analysis(
            window.responses,
            window.calibration,
            replications=PARALLEL_ROUNDS,
            most_persons=most_persons,
            threads=threads,
        )
    if found.se == 0:
        return None, ()
    return _with_limits(found.ratio, found.ratio_se), tuple(window.responses.item_ids[j] for j in found.loading_items)


def _with_limits(value: float, se: float) -> Measure:
    half = float(ndtri(CONFIDENCE)) * se
    return Measure(value, value - half, value + half)


def _new_dependence(now: Fitted, before: Fitted, threads: int | None) -> tuple[Measure | None, tuple[str, ...]]:
    found = new_dependence(now, before, replications=ROUNDS, threads=threads)
    if found is None:
        return None, ()
    se = float(np.hypot(found.se, found.under_model_se))
    growth = _with_limits(found.eigenvalue - float(found.under_model.mean()), se)
    return growth, tuple(now.responses.item_ids[j] for j in found.loading_items)


def _rmsea(whole: Fitted) -> Measure | None:
    try:
        forms = form_fit(whole.responses, whole.calibration, most_items=FORM_ITEMS, most_forms=FORMS)
    except LinAlgError:
        return None
    if not forms:
        return None
    return Measure.rmsea([form.m2 for form in forms], [form.df for form in forms], [form.n for form in forms])


def _unlikely(whole: Fitted, threads: int | None) -> Measure | None:
    p = person_fit(whole.responses, whole.calibration, threads=threads).p
    tested = p[np.isfinite(p)]
    return None if not tested.size else share(int((tested < RARE_LEVEL).sum()), tested.size)


def share(count: int, n: int) -> Measure:
    """A proportion with limits by Wilson (1927)."""
    z, p = float(ndtri(CONFIDENCE)), count / n
    centre, half = p + z**2 / (2 * n), z * float(np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)))
    return Measure(p, (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n))


def _random(whole: Fitted) -> Measure | None:
    """The share of a class of learners whose answers are correct with one probability, whatever the item: Yamamoto's
    (1989) HYBRID model, with the items' parameters given and that probability anything up to `MOST_AT_RANDOM`."""
    whole = whole.scored_0_and_1
    at_random, tested = _loglik_at_random(whole.responses)
    abilities = whole.abilities
    otherwise = logsumexp(_loglik_at(whole, abilities.nodes) + abilities.log_weights[abilities.group], axis=1)
    return share_of_class((at_random - otherwise)[tested]) if tested.any() else None


def share_of_class(log_ratio: Floats) -> Measure:
    """How many belong to a class, from log(likelihood in the class / otherwise) of each, shape (n,): the maximum and
    limits of the likelihood of their share, which is concave."""
    excess = np.expm1(np.clip(log_ratio, -700.0, 700.0))

    def slope(p: float) -> float:
        return float(np.sum(excess / (1.0 + p * excess)))

    top = 1.0 - 1e-9
    best = 0.0 if slope(0.0) <= 0 else top if slope(top) >= 0 else float(brentq(slope, 0.0, top))
    return _with_limits_of_likelihood(best, top, lambda p: float(np.log1p(p * excess).sum()))


def _with_limits_of_likelihood(best: float, top: float, loglik: Callable[[float], float]) -> Measure:
    """A share between 0 and `top`, the best one by its (profile) likelihood."""
    least = loglik(best) - ndtri(CONFIDENCE) ** 2 / 2

    def limit(end: float) -> float:
        return end if loglik(end) >= least else float(brentq(lambda p: loglik(p) - least, *sorted((best, end))))

    return Measure(best, limit(0.0), limit(top))


def _at_chance(some: Fitted, reference: Fitted) -> Measure | None:
    """The share of that class in a window, by the parameters of its reference on the same items. The others' θ has
    the shape that the reference's has, with whatever mean and SD fit best: a shape of the window's own would have a
    place for the class, as answers of a very low ability are no better than chance where learners guess."""
    some = replace(some, calibration=reference.calibration).subsample(MOST_PERSONS, np.random.default_rng(0))
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
    """Shape (n_persons,): log-likelihood of answers that are right with one probability, and which learners have enough
    of them."""
    n = np.bincount(r.person, minlength=r.n_persons)
    correct = np.bincount(r.person, weights=r.score, minlength=r.n_persons)
    right, wrong = correct + 1, n - correct + 1
    with np.errstate(divide="ignore"):  # log 0: a thousand right answers are not at random
        at_random = betaln(right, wrong) + np.log(betainc(right, wrong, MOST_AT_RANDOM) / MOST_AT_RANDOM)
    return at_random, n >= Measure.MIN_ITEMS


def _loglik_at(whole: Fitted, nodes: Floats) -> Floats:
    """Shape (n_persons, len(nodes)): log-likelihood of each learner's answers at each θ."""
    r, fit = whole.responses, whole.calibration
    log_right, log_wrong = fit.curves.log_tables(nodes)
    right, wrong = (
        csr_array((kind.astype(float), (r.person, r.item)), shape=(r.n_persons, fit.n_items))
        for kind in (r.score == 1, r.score == 0)
    )
    return right @ log_right + wrong @ log_wrong
