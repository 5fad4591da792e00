"""The effect of a decision on adaptive tests: the next month's tests are simulated before and after the change.

Both simulations have the same simulees, true parameters and seeds, so that the difference is not noise. The true
parameters are drawn from the posterior after a release of values: if an item has changed, the tests before are taken
with values that are out of date.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd
import psycopg

from irt_assets.adaptive.banks import TestBank, read_test_bank
from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.simulations import Simulees, broken_promises, draw_simulees, passed, simulate_bank, summarise
from irt_assets.adaptive.versions import versions_in_force
from irt_assets.blocks import number, percent, signed_number
from irt_assets.common.arrays import Floats
from irt_assets.common.intervals import Z95
from irt_assets.common.wording import did_you_mean
from irt_assets.decisions.proposals import Proposal, open_changes
from irt_psychometrics import ItemParameters, PsychometricsError
from irt_psychometrics.adaptive import SimulatedTests
from irt_psychometrics.items import ItemRow
from irt_psychometrics.scoring import ParameterErrors
from resources.failures import PermanentFailure
from resources.postgres.database import first_column
from resources.postgres.form_names import require_free_names

SIMULEES, TRUE_BANKS = 2_000, 5


def effects_of_release(connection: psycopg.Connection, found: Sequence[Proposal], since: datetime) -> list[str]:
    """The effect of accepting the open proposals from `since` on, a sentence for each test of their scales."""
    scales = {p.scale_id for p in found}
    changes = {scale_id: open_changes(p for p in found if p.scale_id == scale_id) for scale_id in scales}
    changed = [scale_id for scale_id in scales if changes[scale_id]]
    return compare_tests(connection, changed, since, lambda bank: with_values(changes[bank.scale.scale_id], bank))


def effects_of_withdrawal(connection: psycopg.Connection, items: Collection[str], since: datetime) -> list[str]:
    """The effect of taking items out of use from `since` on, a sentence for each test of their scales."""
    scales = first_column(connection, "SELECT DISTINCT scale_id FROM question WHERE item_id = ANY(%s)", ([*items],))
    return compare_tests(
        connection,
        scales,
        since,
        lambda bank: replace(bank, questions={x: own for x, own in bank.questions.items() if x not in items}),
    )


def preview_policy(connection: psycopg.Connection, policy: Policy, since: datetime) -> list[str]:
    """List the changes from the version in force at `since`, warnings, and simulated tests before and after.

    Raises PermanentFailure if the test cannot be given by the set in force then, if a form has the same name, or if
    it starts at θ of now on a scale that is not fitted by level.
    """
    test, former = policy.test, versions_in_force(connection, since).get(policy.test)
    require_free_names(connection, [test], "test")
    bank = read_test_bank(connection, policy, since)
    places = bank.plan.places  # raises if the limits cannot be met
    if policy.start == "theta-now" and bank.scale.rules.fit.assignment != "by_level":
        raise PermanentFailure(
            f"test {test} starts at θ of now: its items depend on ability from before the month, which makes slopes "
            f"too small on the linear scale {policy.scale}. Set `start: population`, or fit the scale by level: "
            f"`irt calibrate --month MONTH --scale {policy.scale} --set assignment=by_level`"
        )
    if former is None:
        lines, before = [f"test {test} is new, with {len(places):,} items"], bank
    else:
        lines, before = _changed_rules(former.policy, policy), replace(bank, policy=former.policy)
        lines = lines or [f"the policy of test {test} is the one in force, version {former.version}"]
    topics = {f"topic {question['topic']}" for question in bank.questions.values()}
    lines += [
        f"{limit.name}: no item in use, so this limit has no effect; {did_you_mean(limit.name, topics)}".rstrip("; ")
        for limit in bank.test.limits
        if places.keys().isdisjoint(limit.items)
    ]
    if policy.score_by == "theta-now":
        lines.append("the score depends on earlier answers: learners with the same answers can get different scores")
    if policy.unscored and not bank.unscored:
        lines.append("every item in use has published values, so there are no unscored items to give")
    simulees = _simulees(connection, bank, since)
    promises = broken_promises(policy, summarise(bank, simulees, simulate_bank(bank, simulees)))
    return [*lines, *(f"not kept: {promise}" for promise in promises), _compare(connection, before, bank, since)]


def _simulees(connection: psycopg.Connection, bank: TestBank, since: datetime, *others: TestBank) -> Simulees:
    """Draw simulees of tests with these banks: a twentieth if a test is assembled by shadow tests, which take long."""
    n = SIMULEES if {each.policy.content for each in (bank, *others)} == {"priority"} else SIMULEES // 20
    return draw_simulees(connection, bank.scale, since, n)


def _changed_rules(before: Policy, after: Policy) -> list[str]:
    """The rules that differ, by their names in YAML, such as length.max."""
    old, new = (pd.json_normalize(own.model_dump(mode="json", exclude_none=True)).iloc[0] for own in (before, after))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return [f"{name}: {old.get(name, 'none')} → {new.get(name, 'none')}" for name in names]


def compare_tests(
    connection: psycopg.Connection, scales: Collection[str], since: datetime, change: Callable[[TestBank], TestBank]
) -> list[str]:
    """Compare each test of these scales in force at `since` without and with a change of its bank, in a sentence."""
    tests = [own for own in versions_in_force(connection, since).values() if own.scale_id in scales]
    banks = [read_test_bank(connection, own.policy, since) for own in tests]
    return [_compare(connection, bank, change(bank), since) for bank in banks]


def with_values(changes: Mapping[str, ItemRow], bank: TestBank) -> TestBank:
    """The bank after values of items are published, without errors that items share: they change no comparison."""
    rows = {**bank.published.items, **changes}
    items = ItemParameters.from_rows(list(rows), rows.values())
    errors = ParameterErrors(items, np.full(len(rows), -1), (), np.zeros((2, 2)))
    return replace(bank, published=replace(bank.published, items=rows, errors=errors))


def _compare(connection: psycopg.Connection, before: TestBank, after: TestBank, since: datetime) -> str:
    """The difference in words, with 95 % intervals of the simulation's error."""
    test_id, banks = after.policy.test, (before, after)
    simulees = _simulees(connection, after, since, before)
    try:
        most = max(after, before, key=lambda bank: len(bank.plan.places))
        truth = most.posterior.draw(TRUE_BANKS, np.random.default_rng(0))
        tests = [simulate_bank(bank, simulees, truth) for bank in banks]
    except (PermanentFailure, PsychometricsError) as error:
        return f"test {test_id} cannot be given: {str(error).removeprefix(f'test {test_id}: ')}"
    learners = f"{simulees.theta.size:,} simulated tests of {simulees.source}"
    return f"test {test_id}, {learners}: {'; '.join(_differences(banks, tests))}"


def _differences(banks: Sequence[TestBank], tests: Sequence[SimulatedTests]) -> Iterator[str]:
    """The precision, the length, the pass rate and the largest exposure of the tests before and after, in words."""
    old, new = tests
    squares = (new.estimate - new.theta) ** 2 - (old.estimate - old.theta) ** 2
    yield f"RMSE of θ {_change(old.rmse, new.rmse, 3, squares / (old.rmse + new.rmse))}"
    yield f"mean length {_change(old.length.mean(), new.length.mean(), 1, new.length.astype(float) - old.length)} items"
    before, now = map(passed, banks, tests)
    if before is not None and now is not None:
        yield f"pass rate {_change(100 * before.mean(), 100 * now.mean(), 1, 100.0 * now - 100.0 * before)} %"
    tops = [(own.exposure.max(), own.item_ids[own.exposure.argmax()]) for own in tests]
    yield f"largest exposure {' → '.join(dict.fromkeys(f'{percent(share)} ({item})' for share, item in tops))}"


def _change(old: float, new: float, digits: int, differences: Floats) -> str:
    """Two values and their difference with the 95 % interval of its mean; one value if both are the same."""
    if old == new:
        return number(old, digits)
    half = float(Z95 * differences.std() / np.sqrt(differences.size))
    shift = f"{signed_number(new - old, digits + 1)} ± {number(half, digits + 1)}"
    return f"{number(old, digits)} → {number(new, digits)} ({shift})"
