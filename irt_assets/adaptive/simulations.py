"""Simulate adaptive tests with the published set and the learners of a month, and judge the promises of their policies.

`assets` stores the simulations of each month. `changes` compares tests before and after a decision.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from irt_assets.adaptive.banks import TestBank, read_test_bank
from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.versions import versions_in_force
from irt_assets.blocks import number, percent
from irt_assets.common.arrays import Floats, Mask
from irt_assets.common.partitions import Month
from irt_assets.responses.scales import Scale
from irt_psychometrics import PsychometricsError
from irt_psychometrics.adaptive import SimulatedTests, simulate
from resources.failures import PermanentFailure
from resources.postgres.database import records
from resources.version import code_version

SIMULEES, SIMULEES_WITH_SHADOW_TESTS = 5_000, 250
MIN_LEARNERS = 30
"""Least number of measured learners from whose abilities simulees are drawn."""
MIN_PRECISE, MAX_EXCESS, SDS = 0.95, 0.05, 3.0
"""Least share of tests that reach the standard error, largest RMSE / SE − 1, and standard errors of the simulation
beyond which a promise is broken."""


class Simulees(NamedTuple):
    """Abilities of simulated learners, their source in words, and the error of θ from before the test, if known."""

    theta: Floats
    source: str
    known_se: float | None


@dataclass(frozen=True)
class TestSimulation:
    """A row of `adaptive_simulation`.

    Attributes:
        summary: results of `summarise`; only `why`, the reason, if the test cannot be given.
        items: for each item, `eligible` and `given`: numbers of tests, by interval of θ.
    """

    __test__ = False

    month: str
    version: int
    test_id: str
    scale_id: str
    set_hash: str
    summary: Mapping[str, Any]
    items: Mapping[str, Mapping[str, list[float]]]

    @property
    def exposure(self) -> dict[str, float]:
        """The share of tests in which each item was given, the most exposed items first."""
        shares = {item: sum(own["given"]) / self.summary["n"] for item, own in self.items.items()}
        return dict(sorted(shares.items(), key=lambda pair: (-pair[1], pair[0])))


def draw_simulees(connection: psycopg.Connection, scale: Scale, at: datetime, n: int, seed: int = 0) -> Simulees:
    """Draw n abilities from the posteriors of the learners of the last month measured by `at`, or the population.

    The estimates themselves vary less than abilities do.
    """
    rng = np.random.default_rng(seed)
    rows = connection.execute(
        """SELECT theta, se, to_char(window_end - interval '1 us', 'YYYY-MM') FROM mirt_ability
           WHERE (kind, scale_id) = ('monthly', %(scale)s) AND window_end =
                 (SELECT max(window_end) FROM mirt_ability
                  WHERE (kind, scale_id) = ('monthly', %(scale)s) AND window_end <= %(at)s)
           ORDER BY md5(user_id) LIMIT %(n)s""",
        {"scale": scale.scale_id, "at": at, "n": n},
    ).fetchall()
    if len(rows) < MIN_LEARNERS:
        return Simulees(rng.normal(scale.mu, scale.sigma, n), "the population", None)
    theta, se = np.array([row[:2] for row in rows], dtype=float)[rng.permutation(n) % len(rows)].T
    variance = min(float(np.mean(se**2)), 0.99 * scale.sigma**2)
    known_se = (1 / variance - 1 / scale.sigma**2) ** -0.5  # the posterior has the population as its prior
    return Simulees(theta + se * rng.standard_normal(n), f"the learners of {rows[0][2]}", known_se)


def number_of_simulees(policy: Policy, n: int = SIMULEES) -> int:
    """n, or the same share of `SIMULEES_WITH_SHADOW_TESTS`, which take long."""
    return n if policy.content == "priority" else n * SIMULEES_WITH_SHADOW_TESTS // SIMULEES


def simulate_test(
    connection: psycopg.Connection, policy: Policy, at: datetime, *, n: int | None = None, seed: int = 0
) -> tuple[TestBank, dict[str, Any], dict[str, dict[str, list[float]]]]:
    """Simulate a test with the bank and the learners at `at`, and true parameters drawn from the bank's posterior.

    Returns the bank, and `summary` and `items` of `TestSimulation`. Raises PermanentFailure if no test can be given.
    """
    bank = read_test_bank(connection, policy, at)
    plan = bank.plan  # raises if the limits cannot be met
    simulees = draw_simulees(connection, bank.scale, at, n or number_of_simulees(policy), seed)
    tests = simulate(
        plan.items,
        plan.test,
        simulees.theta,
        errors=bank.posterior,
        mean=plan.mean,
        sd=plan.sd,
        known_se=simulees.known_se if policy.start == "theta-now" else None,
        seed=seed,
    )
    counts = zip(plan.items.item_ids, tests.times_eligible.T, tests.times_given.T, strict=True)
    items = {item: {"eligible": on.tolist(), "given": given.tolist()} for item, on, given in counts}
    return bank, summarise(bank, tests) | {"learners": simulees.source}, items


def summarise(bank: TestBank, tests: SimulatedTests) -> dict[str, Any]:
    """The results of simulated tests as JSON values."""
    test, theta, exposure = tests.plan.test, tests.theta, tests.exposure
    names = ("bias", "rmse", "mean_se", "capitalisation", "overlap", "accuracy")
    edges = np.array([-np.inf, *np.quantile(theta, np.arange(0.1, 1, 0.1)), np.inf])
    passes = passed(bank, tests)
    n_tests = np.maximum(tests.times_eligible.max(axis=1), 1.0)  # some item is eligible in all tests of an interval
    rates = tests.times_given / n_tests[:, None]
    interval, most = np.unravel_index(int(rates.argmax()), rates.shape)
    cut = np.inf if test.cut is None else test.cut
    low, high = (theta <= cut - test.indifference), (theta >= cut + test.indifference)
    return {name: _known(getattr(tests, name)) for name in names} | {
        "n": theta.size,
        "length": float(tests.length.mean()),
        "lengths": {str(n): int(count) for n, count in zip(*np.unique(tests.length, return_counts=True), strict=True)},
        "stops": dict(tests.stops),
        "precise": None if test.max_se is None else float((tests.se <= test.max_se + 1e-9).mean()),
        "max_exposure": float(exposure.max()),
        "max_item": tests.plan.items.item_ids[int(exposure.argmax())],
        "max_rate": [float(rates.max()), tests.plan.items.item_ids[most], float(n_tests[interval])],
        "limits": dict(zip((limit.name for limit in test.limits), tests.limits_met.tolist(), strict=True)),
        "pass_rate": None if passes is None else float(passes.mean()),
        "false_pass": _share(tests.passes[low]) if test.cut is not None else None,
        "false_fail": _share(~tests.passes[high]) if test.cut is not None else None,
        "by_theta": {name: [_known(x) for x in own.tolist()] for name, own in tests.by_theta(edges).items()},
    }


def passed(bank: TestBank, tests: SimulatedTests) -> Mask | None:
    """Whether each simulee passes, by the test's decision or the scale's pass mark. Returns None without a mark."""
    if tests.plan.test.cut is not None:
        return tests.passes
    return None if bank.scale.pass_theta is None else tests.estimate >= bank.scale.pass_theta


def _known(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _share(found: Any) -> list[float] | None:
    """A share, and the number of tests."""
    return [float(found.mean()), int(found.size)] if found.size else None


def broken_promises(policy: Policy, summary: Mapping[str, Any]) -> list[str]:
    """The promises of a policy that its simulation does not keep, in words."""
    if why := summary.get("why"):
        return [f"it cannot be given: {why}"]
    n, found = summary["n"], []
    if summary["precise"] is not None and summary["precise"] < MIN_PRECISE:
        found.append(
            f"{percent(summary['precise'])} of the tests reach the standard error {policy.length.se:g}; "
            "raise length.max"
        )
    excess = summary["rmse"] / summary["mean_se"] - 1
    if excess > MAX_EXCESS + SDS / np.sqrt(2 * n):
        found.append(
            f"the real error {number(summary['rmse'], 3)} is larger than the reported {number(summary['mean_se'], 3)}; "
            "items with more answers, or the method expected-information, bring them closer"
        )
    if (most := policy.exposure.max) is not None:
        largest, item, tests = summary["max_rate"]
        if largest > most + SDS * np.sqrt(most * (1 - most) / tests):
            found.append(
                f"item {item} is given to {percent(largest)} of the learners, and exposure.max is {percent(most)}; "
                "add items or raise it"
            )
    found += [
        f"{name} is met in {percent(share)} of the tests" for name, share in summary["limits"].items() if share < 1
    ]
    if none := summary["stops"].get("no-item"):
        found.append(f"{percent(none)} of the tests end because no item can be given; add items or relax the limits")
    errors = {"false_pass": "passes", "false_fail": "fails"}
    for name, word in errors.items() if policy.classify and policy.classify.rule == "sprt" else ():
        promised, real = getattr(policy.classify, name), summary[name]
        if real and real[0] > promised + SDS * np.sqrt(promised * (1 - promised) / real[1]):
            found.append(f"{percent(real[0])} of {word} are false, and at most {percent(promised)} are promised")
    return found


def make_month(connection: psycopg.Connection, month: str, run_id: str | None = None) -> list[TestSimulation]:
    """Simulate the tests in force at the month's end, and store the results instead of earlier ones of the month."""
    connection.execute("DELETE FROM adaptive_simulation WHERE month = %s", (month,))
    for test_id, own in versions_in_force(connection, Month(month).end).items():
        try:
            bank, summary, items = simulate_test(connection, own.policy, Month(month).end)
            set_hash = bank.published.set_hash
        except (PermanentFailure, PsychometricsError) as error:  # other tests have their simulation
            set_hash, summary, items = "", {"why": str(error)}, {}
        connection.execute(
            """INSERT INTO adaptive_simulation
                 (month, version, test_id, scale_id, set_hash, summary, items, code_version, run_id)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            (
                *(month, own.version, test_id, own.scale_id, set_hash, Jsonb(summary), Jsonb(items)),
                *(code_version(), run_id),
            ),
        )
    return read_simulations(connection, month=month)


def read_simulations(
    connection: psycopg.Connection, *, month: str | None = None, version: int | None = None
) -> list[TestSimulation]:
    """The stored simulations of a month or a version (None: of all), by month and test."""
    return records(
        connection,
        TestSimulation,
        """SELECT month, version, test_id, scale_id, set_hash, summary, items FROM adaptive_simulation
           WHERE month = coalesce(%s, month) AND version = coalesce(%s, version) ORDER BY month, test_id""",
        (month, version),
    )
