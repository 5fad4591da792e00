"""Simulated adaptive tests: their precision, length, exposure and content before any person takes one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.adaptive.declaration import AdaptiveTest
from irt_psychometrics.adaptive.item_posterior import ItemPosterior
from irt_psychometrics.adaptive.plan import STOPS, Run, SelectionPlan, run
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_sources import ItemSource
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.results import Result, format_value

TRUE_BANKS = 25
"""Number of banks that are drawn from the posterior of the items; each is used for an equal part of the tests."""
_GROWTH, _MOST = 20, 500
"""Tests after which eligibility is computed again: one in this many of the tests so far, at most this many."""


@dataclass(frozen=True, eq=False, repr=False)
class SimulatedTests(Result):
    """N simulated tests.

    Attributes
    ----------
    test
        The rules of the test.
    item_ids
        J names, the items of the bank.
    theta
        Shape (N,), true abilities.
    seed
        Shape (N,), the seed of each test for `SelectionPlan.next`.
    estimate, se
        Shape (N,), estimates and their standard errors, as the test reports them.
    length
        Shape (N,), numbers of scored items.
    item
        Shape (N, L), places of the items that were given, −1 after the last one.
    score
        Shape (N, L), the scores.
    stopped
        Shape (N,), indices into `STOPS`.
    passes
        Shape (N,), decisions of a test that classifies.
    times_eligible, times_given
        Shape (S, J), tests in which an item was eligible and given, by interval of θ.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.adaptive import AdaptiveTest, simulate_tests
    >>> bank = irt.ItemParameters.from_frame({"item": list("abc"), "a": [1, 2, 1], "b": [-1, 0, 1]})
    >>> tests = simulate_tests(bank, AdaptiveTest(max_items=2), [0.0, 1.0], mean=0, sd=1)
    >>> tests.to_frame("pandas")["stopped"].tolist(), tests.stops
    (['max-items', 'max-items'], {'max-items': 1.0})
    """

    STOPS = STOPS
    test: AdaptiveTest
    item_ids: tuple[str, ...]
    theta: Floats
    seed: npt.NDArray[np.uint64]
    estimate: Floats
    se: Floats
    length: Ints
    item: Ints
    score: npt.NDArray[np.int8]
    stopped: npt.NDArray[np.int8]
    passes: Mask
    times_eligible: Floats
    times_given: Floats
    frame_kind: str | None = None

    @property
    def bias(self) -> float:
        """Mean of estimate − θ."""
        return float(np.mean(self.estimate - self.theta))

    @property
    def rmse(self) -> float:
        """Root mean square of estimate − θ."""
        return float(np.sqrt(np.mean((self.estimate - self.theta) ** 2)))

    @property
    def mean_se(self) -> float:
        """Root mean square of the standard errors: the precision that the test promises."""
        return float(np.sqrt(np.mean(self.se**2)))

    @property
    def capitalisation(self) -> float:
        """Promised precision divided by the real one. Below 1, errors of the items make tests look better than they
        are (van der Linden & Glas 2000)."""
        return self.mean_se / self.rmse

    @property
    def exposure(self) -> Floats:
        """The share of tests in which each item was given, shape (J,)."""
        return self.times_given.sum(axis=0) / len(self.theta)

    @property
    def overlap(self) -> float:
        """The expected share of items that two tests have in common (Chen, Ankenmann & Spray 2003, eq. 4)."""
        times, n = self.times_given.sum(axis=0), len(self.theta)
        return float((times * (times - 1)).sum() / (n * (n - 1) * self.length.mean())) if n > 1 else float("nan")

    @property
    def stops(self) -> Mapping[str, float]:
        """The share of tests that ended for each reason."""
        shares = np.bincount(self.stopped, minlength=len(STOPS)) / len(self.theta)
        return {str(name): float(share) for name, share in zip(STOPS, shares, strict=True) if share > 0}

    @cached_property
    def limits_met(self) -> Floats:
        """The share of tests that meet each limit on the content, shape (K,)."""
        places = {item: j for j, item in enumerate(self.item_ids)}
        members = np.zeros((len(self.test.limits), len(places) + 1), dtype=np.int64)
        for row, limit in zip(members, self.test.limits, strict=True):
            row[[places[item] for item in limit.items if item in places]] = 1
        counts = members[:, self.item].sum(axis=2)
        met = [
            ((own >= limit.least) & (own <= (np.inf if limit.most is None else limit.most))).mean()
            for own, limit in zip(counts, self.test.limits, strict=True)
        ]
        return np.array(met, dtype=float)

    @property
    def accuracy(self) -> float | None:
        """The share of persons whose pass or fail is right. If the test does not classify, it is None."""
        cut = self.test.cut
        return None if cut is None else float(np.mean(self.passes == (self.theta >= cut)))

    def by_theta(self, edges: npt.ArrayLike) -> dict[str, Floats]:
        """Results by intervals of true θ.

        Parameters
        ----------
        edges
            Shape (E,), increasing edges of E − 1 intervals.

        Returns
        -------
        dict
            Columns n, theta (mean), bias, rmse, mean_se and length, shape (E − 1,) each; NaN for empty intervals.
        """
        edges = np.asarray(edges, dtype=float)
        place, size = np.digitize(self.theta, edges), len(edges) - 1
        n = np.bincount(place, minlength=size + 2)[1 : size + 1]

        def mean_of(values: Floats | Ints) -> Floats:
            total = np.bincount(place, values, minlength=size + 2)[1 : size + 1]
            return np.divide(total, n, out=np.full(size, np.nan), where=n > 0)

        error = self.estimate - self.theta
        return {
            "n": n.astype(float),
            "theta": mean_of(self.theta),
            "bias": mean_of(error),
            "rmse": np.sqrt(mean_of(error**2)),
            "mean_se": np.sqrt(mean_of(self.se**2)),
            "length": mean_of(self.length),
        }

    def _title(self) -> str:
        return f"{len(self.theta):,} tests from a bank of {len(self.item_ids):,} items"

    def _facts(self) -> dict[str, str]:
        numbers = {"mean length": float(self.length.mean()), "bias": self.bias, "RMSE": self.rmse}
        numbers |= {"mean SE": self.mean_se, "largest exposure": float(self.exposure.max(initial=0.0))}
        if self.accuracy is not None:
            numbers["accuracy"] = self.accuracy
        return {name: format_value(value) for name, value in numbers.items()}

    def _columns(self) -> dict[str, Any]:
        columns: dict[str, Any] = {"theta": self.theta, "estimate": self.estimate, "se": self.se, "length": self.length}
        columns["stopped"] = [STOPS[reason] for reason in self.stopped]
        return columns if self.test.cut is None else columns | {"passes": self.passes}


def simulate_tests(
    items: ItemSource,
    test: AdaptiveTest,
    theta: npt.ArrayLike | int = 1000,
    *,
    errors: ItemPosterior | None = None,
    truth: ItemParameters | Sequence[ItemParameters] | None = None,
    mean: float | None = None,
    sd: float | None = None,
    group: str | None = None,
    known_se: float | None = None,
    counts: tuple[Floats, Floats] | None = None,
    random_state: int = 0,
    threads: int | None = None,
) -> SimulatedTests:
    """Simulate an adaptive test.

    Items are chosen and θ is estimated by `items`, as in the real test. Answers are drawn by the true parameters.

    Parameters
    ----------
    items
        The J items of the bank, as they are known: a `Fit`, a `ScaleLink` (the new fit on the old scale), or
        `ItemParameters`.
    test
        The rules of the test.
    theta
        Shape (N,), true abilities, or the number of persons to draw from the population.
    errors
        The posterior of the items, from which true parameters are drawn. Draws from the normal distribution around the
        estimates would hide that the chosen items are those with favourable errors.
    truth
        True parameters of the same J items, or several such banks, each for an equal part of the tests; None: drawn
        from `errors`, or without these the parameters of `items`.
    mean, sd
        Mean and SD of the population, sd > 0. None: mean and SD of the fit, also if its distribution is a histogram;
        parameters of items contain no population.
    group
        The group whose population is meant, for a fit with groups.
    known_se
        Standard error of an estimate of θ from before the test, by which the first items are chosen; None: not used.
    counts
        Times that items were eligible and given in earlier tests, shape (S, J) each; None: there were no tests.
    random_state
        Seed of the random numbers.
    threads
        Number of threads; None: all processors. The result does not depend on it.

    Returns
    -------
    SimulatedTests
        The tests in the order of `theta`.

    Raises
    ------
    PsychometricsError
        As `SelectionPlan`; also for abilities that are not finite numbers.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.adaptive import AdaptiveTest, simulate_tests
    >>> items = irt.ItemParameters.from_frame({"item": list("abc"), "a": [1, 2, 1], "b": [-1, 0, 1]})
    >>> tests = simulate_tests(items, AdaptiveTest(max_items=2), [0.0, 1.0], mean=0, sd=1)
    >>> tests.exposure.tolist()[1], tests.length.tolist()
    (1.0, [2, 2])
    """
    plan = SelectionPlan(test, items, mean, sd, group=group, posterior=errors)
    mean, sd, rng = plan.mean, plan.sd, np.random.default_rng(random_state)
    at = mean + sd * rng.standard_normal(theta) if isinstance(theta, int) else np.asarray(theta, dtype=float)
    if at.ndim != 1 or not at.size or not np.isfinite(at).all():
        raise PsychometricsError("theta must be finite numbers, one for each person, or a number of persons")
    prior = np.zeros((at.size, 2))
    if known_se is not None:
        weight = sd**2 / (sd**2 + known_se**2)
        prior[:, 0] = mean + weight * (at + known_se * rng.standard_normal(at.size) - mean)
        prior[:, 1] = known_se * np.sqrt(weight)
    if truth is None:
        truth = plan.items if errors is None else errors.draw(min(TRUE_BANKS, at.size), rng)
    banks = [truth] if isinstance(truth, ItemParameters) else truth
    seeds = rng.integers(0, 2**63, at.size, dtype=np.uint64)
    shape = len(test.exposure_cuts) + 1, len(plan.items.item_ids)
    eligible, given = (np.zeros(shape), np.zeros(shape)) if counts is None else counts
    found: list[Run] = []
    for bank, rows in zip(banks, np.array_split(np.arange(at.size), len(banks)), strict=True):
        probabilities = bank.curves.score_probabilities(plan.fine_nodes)
        first, end = int(rows[0]), int(rows[-1]) + 1
        while first < end:
            size = end - first if test.max_exposure is None else max(1, min(first // _GROWTH, _MOST, end - first))
            part = slice(first, first + size)
            done = run(
                plan,
                at[part],
                seeds[part],
                plan.eligibility(eligible, given),
                prior=prior[part],
                truth=probabilities,
                threads=threads,
            )
            eligible, given = eligible + done.eligible, given + done.given
            found.append(done)
            first += size
    columns = ("theta", "se", "length", "item", "score", "stop", "passes")
    joined: list[Any] = [np.concatenate([getattr(part, name) for part in found]) for name in columns]
    own: list[Any] = [np.sum([getattr(part, name) for part in found], axis=0) for name in ("eligible", "given")]
    return SimulatedTests(test, tuple(plan.items.item_ids), at, seeds, *joined, *own)
