"""Simulate adaptive tests with the published set and the learners of a month, and judge the promises of their policies.

`assets` stores the simulations of each month. `changes` compares tests before and after a decision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import psycopg
from psycopg.types.json import Jsonb

from irt_assets.adaptive.banks import TestBank, read_test_bank
from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.versions import TestVersion, versions_in_force
from irt_assets.blocks import Figure, number, percent, table
from irt_assets.common.arrays import Floats, Mask, finite
from irt_assets.common.partitions import Month, month_of
from irt_assets.scales.scale import Scale
from irt_psychometrics import ItemParameters
from irt_psychometrics.adaptive import SimulatedTests, simulate_tests
from irt_psychometrics.plots import Chart
from resources.failures import PermanentFailure
from resources.postgres.database import records
from resources.version import code_version

SIMULEES = 5_000
MIN_LEARNERS = 30
"""Least number of measured learners from whose abilities simulees are drawn."""
MIN_PRECISE, MAX_EXCESS, SDS = 0.95, 0.05, 3.0
"""Least share of tests that reach the standard error, largest RMSE / SE − 1, and standard errors of the simulation
beyond which a promise is broken."""
MANY = 1e6
"""Factor of earlier tests, so that simulees at one θ do not change which items are eligible."""


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


def draw_simulees(connection: psycopg.Connection, scale: Scale, at: datetime, n: int) -> Simulees:
    """Draw n abilities from the posteriors of the learners of the last month measured by `at`, or the population.

    The estimates themselves vary less than abilities do.
    """
    rng = np.random.default_rng(0)
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


def simulate_test(
    connection: psycopg.Connection, version: TestVersion, at: datetime, *, n: int = SIMULEES
) -> TestSimulation:
    """Simulate a test with the bank and the learners at `at`, and true parameters drawn from the bank's posterior.

    Tests that are assembled by shadow tests take long, so a twentieth of the n tests is simulated. Stores nothing.
    """
    policy, month = version.policy, month_of(at - timedelta(microseconds=1))
    known = month, version.version, version.test_id, version.scale_id
    try:
        bank = read_test_bank(connection, policy, at)
        plan = bank.plan
    except PermanentFailure as failure:
        return TestSimulation(*known, "", {"why": str(failure)}, {})
    simulees = draw_simulees(connection, bank.scale, at, n if policy.content == "priority" else n // 20)
    tests = simulate_bank(bank, simulees)
    counts = zip(plan.items.item_ids, tests.times_eligible.T, tests.times_given.T, strict=True)
    items = {item: {"eligible": on.tolist(), "given": given.tolist()} for item, on, given in counts}
    return TestSimulation(*known, bank.published.set_hash, summarise(bank, simulees, tests), items)


def simulate_bank(
    bank: TestBank,
    simulees: Simulees,
    truth: Sequence[ItemParameters] | None = None,
    counts: tuple[Floats, Floats] | None = None,
) -> SimulatedTests:
    """Simulate a test with true parameters from several banks with its items. None: banks drawn from its posterior.

    `counts`: times that items were eligible and given in earlier tests. None: there were no tests.
    """
    plan = bank.plan
    return simulate_tests(
        plan.items,
        plan.test,
        simulees.theta,
        errors=bank.posterior,
        truth=truth and [each.select(plan.items.item_ids) for each in truth],
        mean=plan.mean,
        sd=plan.sd,
        known_se=simulees.known_se if bank.policy.start == "theta-now" else None,
        counts=counts,
    )


def error_rates(bank: TestBank, simulees: Simulees, tests: SimulatedTests) -> dict[str, float]:
    """Simulate the error rates of a sequential test at the ends of the indifference region.

    Half of the simulees are at each end. Exposure is limited as for the learners of `tests`. Returns {} if the test is
    not sequential.
    """
    test = tests.test
    if test.cut is None or test.cut_rule != "sprt":
        return {}
    counts = tests.times_eligible * MANY, tests.times_given * MANY
    fails, passes = (
        simulate_bank(bank, simulees._replace(theta=np.full(simulees.theta.size // 2, end)), counts=counts).passes
        for end in (test.cut + test.indifference, test.cut - test.indifference)
    )
    return {"false_pass": float(passes.mean()), "false_fail": float(1 - fails.mean())}


def summarise(bank: TestBank, simulees: Simulees, tests: SimulatedTests) -> dict[str, Any]:
    """Summarise the simulated tests of `simulees` as JSON values."""
    test, passes, exposure = tests.test, passed(bank, tests), tests.exposure
    edges = np.array([-np.inf, *np.quantile(tests.theta, np.arange(0.1, 1, 0.1)), np.inf])
    n_tests = np.maximum(tests.times_eligible.max(axis=1), 1.0)  # some item is eligible in all tests of an interval
    rates = tests.times_given / n_tests[:, None]
    interval, most = np.unravel_index(int(rates.argmax()), rates.shape)
    return {
        **{name: finite(getattr(tests, name)) for name in ("bias", "rmse", "mean_se", "capitalisation", "overlap")},
        "learners": simulees.source,
        "accuracy": tests.accuracy,
        "error_rates": error_rates(bank, simulees, tests),
        "n": tests.theta.size,
        "length": float(tests.length.mean()),
        "lengths": {str(n): int(count) for n, count in zip(*np.unique(tests.length, return_counts=True), strict=True)},
        "stops": dict(tests.stops),
        "precise": None if test.max_se is None else float((tests.se <= test.max_se + 1e-9).mean()),
        "max_exposure": float(exposure.max()),
        "max_item": tests.item_ids[int(exposure.argmax())],
        "max_rate": [float(rates.max()), tests.item_ids[most], float(n_tests[interval])],
        "limits": dict(zip((limit.name for limit in test.limits), tests.limits_met.tolist(), strict=True)),
        "pass_rate": None if passes is None else float(passes.mean()),
        "by_theta": {name: [*map(finite, own)] for name, own in tests.by_theta(edges).items()},
    }


def passed(bank: TestBank, tests: SimulatedTests) -> Mask | None:
    """Whether each simulee passes, by the test's decision or the scale's pass mark; not known without a mark."""
    if tests.test.cut is not None:
        return tests.passes
    return None if bank.scale.pass_theta is None else tests.estimate >= bank.scale.pass_theta


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
    for name, share in summary.get("error_rates", {}).items():  # not in earlier simulations
        declared = getattr(policy.classify, name)
        if share > declared + SDS * np.sqrt(declared * (1 - declared) / (n // 2)):
            end, wrongly = ("lower", "pass") if name == "false_pass" else ("upper", "fail")
            found.append(
                f"{percent(share)} of the learners at the {end} end of the indifference region {wrongly}, and {name} "
                f"is {percent(declared)}; raise length.max, classify.indifference or classify.{name}"
            )
    found += [
        f"{name} is met in {percent(share)} of the tests" for name, share in summary["limits"].items() if share < 1
    ]
    if lacking := summary["stops"].get("no-item"):
        found.append(f"{percent(lacking)} of the tests end because no item can be given; add items or relax the limits")
    return found


def make_month(connection: psycopg.Connection, month: str, run_id: str | None = None) -> list[TestSimulation]:
    """Simulate the tests in force at the month's end, and store the results instead of earlier ones of the month."""
    connection.execute("DELETE FROM adaptive_simulation WHERE month = %s", (month,))
    for own in versions_in_force(connection, Month(month).end).values():
        found = simulate_test(connection, own, Month(month).end)
        connection.execute(
            """INSERT INTO adaptive_simulation
                 (month, version, test_id, scale_id, set_hash, summary, items, code_version, run_id)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            (
                *(month, found.version, found.test_id, found.scale_id, found.set_hash),
                *(Jsonb(found.summary), Jsonb(found.items), code_version(), run_id),
            ),
        )
    return read_simulations(connection, month=month)


def read_simulations(
    connection: psycopg.Connection, *, month: str | None = None, version: int | None = None
) -> list[TestSimulation]:
    """The stored simulations by month and test, only of a month or version if it is given."""
    return records(
        connection,
        TestSimulation,
        """SELECT month, version, test_id, scale_id, set_hash, summary, items FROM adaptive_simulation
           WHERE month = coalesce(%s, month) AND version = coalesce(%s, version) ORDER BY month, test_id""",
        (month, version),
    )


def precision(summary: Mapping[str, Any]) -> Figure:
    """Draw the real and the reported error of θ, and the bias, by true θ."""
    found = summary["by_theta"]
    names = {"rmse": "real error (RMSE)", "mean_se": "reported standard error", "bias": "bias"}
    x, described = found["theta"], "Errors of θ by true ability, in tenths of the simulated learners."
    ends = Chart.ends_of(*(found[name] for name in names), [0.0])
    chart = Chart((x[0], x[-1]), ends, "true ability θ", "in units of θ", described).level(0)
    for colour, (name, label) in zip(Chart.SERIES, names.items(), strict=False):
        chart.points(x, found[name], colour, label, joined=True)
    formats = {"simulated tests": ",", "θ": ".2f", **dict.fromkeys(names.values(), ".3f"), "items": ".1f"}
    rows = zip(*(found[name] for name in ("n", "theta", *names, "length")), strict=True)
    numbers = table([*formats], rows, numbers=formats, caption="Tenths of the learners", small=True)
    return Figure(chart, described, numbers=numbers)
