"""The effect of a decision on adaptive tests: the next month's tests are simulated before and after the change.

Both simulations have the same simulees, true parameters and seeds, so that the difference is not noise. The true
parameters are drawn from the posterior after a release of values: if an item has changed, the tests before are taken
with values that are out of date.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import NamedTuple

import numpy as np
import psycopg

from irt_assets.adaptive.banks import TestBank, read_test_bank
from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.simulations import Simulees, draw_simulees, passed
from irt_assets.adaptive.versions import versions_in_force
from irt_assets.blocks import number, percent, signed_number
from irt_assets.common.arrays import Floats
from irt_assets.common.intervals import Z95
from irt_assets.decisions.proposals import Proposal, open_changes
from irt_psychometrics import ItemParameters, PsychometricsError
from irt_psychometrics.adaptive import simulate
from irt_psychometrics.items import ItemRow
from irt_psychometrics.scoring import ParameterErrors
from resources.failures import PermanentFailure
from resources.postgres.database import first_column

SIMULEES, TRUE_BANKS = 2_000, 5


class _Results(NamedTuple):
    """Errors of θ, lengths and passes of simulated tests, shape (N,) each, and the exposure of each item."""

    error: Floats
    length: Floats
    passes: Floats | None
    exposure: dict[str, float]


def effects_of_release(connection: psycopg.Connection, found: Sequence[Proposal], since: datetime) -> list[str]:
    """The effect of accepting the open proposals from `since` on, a sentence for each test of their scales."""
    lines = []
    for scale_id in sorted({p.scale_id for p in found}):
        if changes := open_changes(p for p in found if p.scale_id == scale_id):
            lines += compare_tests(connection, scale_id, since, partial(with_values, changes))
    return lines


def effects_of_withdrawal(connection: psycopg.Connection, items: Collection[str], since: datetime) -> list[str]:
    """The effect of taking items out of use from `since` on, a sentence for each test of their scales."""
    scales = first_column(
        connection, "SELECT DISTINCT scale_id FROM question WHERE item_id = ANY(%s) ORDER BY 1", ([*items],)
    )
    change = partial(_without, items)
    return [line for scale_id in scales for line in compare_tests(connection, scale_id, since, change)]


def effects_of_policy(connection: psycopg.Connection, policy: Policy, since: datetime) -> list[str]:
    """The effect of a new version of a test from `since` on, or the properties of a test that is not offered yet."""
    former, after = versions_in_force(connection, since).get(policy.test), read_test_bank(connection, policy, since)
    before = after if former is None else replace(after, policy=former.policy)
    return [_compare(connection, policy.test, before, after, since)]


def compare_tests(
    connection: psycopg.Connection, scale_id: str, since: datetime, change: Callable[[TestBank], TestBank]
) -> list[str]:
    """Compare each test of a scale in force at `since` without and with a change of its bank, a sentence for each."""
    found = []
    for test_id, own in versions_in_force(connection, since).items():
        if own.scale_id == scale_id:
            bank = read_test_bank(connection, own.policy, since)
            found.append(_compare(connection, test_id, bank, change(bank), since))
    return found


def with_values(changes: Mapping[str, ItemRow], bank: TestBank) -> TestBank:
    """The bank after values of items are published, without errors that items share: they change no comparison."""
    rows = {**bank.published.items, **changes}
    items = ItemParameters.from_rows(list(rows), rows.values())
    errors = ParameterErrors(items, np.full(len(rows), -1), (), np.zeros((2, 2)))
    return replace(bank, published=replace(bank.published, items=rows, errors=errors))


def _without(items: Collection[str], bank: TestBank) -> TestBank:
    return replace(bank, questions={item: own for item, own in bank.questions.items() if item not in items})


def _compare(connection: psycopg.Connection, test_id: str, before: TestBank, after: TestBank, since: datetime) -> str:
    """The difference in words, with 95 % intervals of the simulation's error."""
    n = SIMULEES if {before.policy.content, after.policy.content} == {"priority"} else SIMULEES // 20
    simulees = draw_simulees(connection, after.scale, since, n)
    try:
        _ = after.plan, before.plan
        truth = max(after, before, key=lambda bank: len(bank.items.item_ids)).posterior
        banks = truth.draw(TRUE_BANKS, np.random.default_rng(0))
        new = _simulate(after, banks, simulees)
        old = new if before is after else _simulate(before, banks, simulees)
    except (PermanentFailure, PsychometricsError) as error:
        return f"test {test_id} cannot be given: {str(error).removeprefix(f'test {test_id}: ')}"
    learners = f"{simulees.theta.size:,} simulated tests of {simulees.source}"
    return f"test {test_id}, {learners}: {'; '.join(_differences(old, new))}"


def _simulate(bank: TestBank, banks: Sequence[ItemParameters], simulees: Simulees) -> _Results:
    """Simulate an equal part of the tests with each true bank. Exposure is counted over all parts."""
    plan, shape = bank.plan, (len(bank.test.exposure_cuts) + 1, len(bank.items.item_ids))
    parts, counts = [], (np.zeros(shape), np.zeros(shape))
    for seed, (truth, theta) in enumerate(zip(banks, np.array_split(simulees.theta, len(banks)), strict=True)):
        part = simulate(
            plan.items,
            plan.test,
            theta,
            errors=plan.posterior,
            truth=truth.select(plan.items.item_ids),
            mean=plan.mean,
            sd=plan.sd,
            known_se=simulees.known_se if bank.policy.start == "theta-now" else None,
            counts=counts,
            seed=seed,
        )
        counts = counts[0] + part.times_eligible, counts[1] + part.times_given
        parts.append((part.estimate - part.theta, part.length, passed(bank, part)))
    error, length, passes = ([own for own in column if own is not None] for column in zip(*parts, strict=True))
    return _Results(
        np.concatenate(error),
        np.concatenate(length).astype(float),
        np.concatenate(passes).astype(float) if passes else None,
        dict(zip(plan.items.item_ids, counts[1].sum(axis=0) / simulees.theta.size, strict=True)),
    )


def _differences(old: _Results, new: _Results) -> Iterator[str]:
    """The precision, the length, the pass rate and the largest exposure of the tests, in words."""
    before, now = (float(np.sqrt(np.mean(own.error**2))) for own in (old, new))
    yield f"RMSE of θ {_change(before, now, 3, _half(new.error**2 - old.error**2) / (before + now))}"
    means = float(old.length.mean()), float(new.length.mean())
    yield f"mean length {_change(*means, 1, _half(new.length - old.length))} items"
    if old.passes is not None and new.passes is not None:
        shares = 100 * float(old.passes.mean()), 100 * float(new.passes.mean())
        yield f"pass rate {_change(*shares, 1, _half(100 * (new.passes - old.passes)))} %"
    tops = [max(own.exposure, key=own.exposure.__getitem__) for own in (old, new)]
    most = [f"{percent(own.exposure[item])} ({item})" for own, item in zip((old, new), tops, strict=True)]
    yield f"largest exposure {' → '.join(dict.fromkeys(most))}"


def _change(old: float, new: float, digits: int, half: float) -> str:
    """Two values and their difference with its interval; one value if both are the same."""
    if old == new:
        return number(old, digits)
    shift = f"{signed_number(new - old, digits + 1)} ± {number(half, digits + 1)}"
    return f"{number(old, digits)} → {number(new, digits)} ({shift})"


def _half(differences: Floats) -> float:
    """Half the 95 % interval of a mean."""
    return float(Z95 * differences.std() / np.sqrt(differences.size))
