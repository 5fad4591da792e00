"""Ability of groups in a month: truth within the errors, changes between months, and groups that are not described."""

from __future__ import annotations

import numpy as np
import pytest

from irt_assets.abilities.group_month import whole_row
from irt_assets.abilities.group_page import group_blocks
from irt_assets.abilities.groups import (
    MIN_LEARNERS,
    GroupFit,
    MonthSample,
    combine,
    fit_groups,
    group_rows,
    subtract,
    with_q_values,
)
from irt_assets.blocks import value_with_error
from irt_assets.blocks.markdown import markdown
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale
from irt_psychometrics import ItemParameters, Responses, simulate_responses
from irt_psychometrics.scoring import ParameterErrors

N_ITEMS = 20
TRUTH = {"north": (0.4, 0.9), "south": (-0.3, 1.2)}
SIZES = {"north": 900, "south": 600}


def items_with_errors(error: float = 0.05) -> ParameterErrors:
    """Items from one fit, with independent errors of a and b, and an error of the scale in common."""
    b = np.linspace(-2, 2, N_ITEMS)
    cov = np.broadcast_to(np.diag([error**2, error**2]), (N_ITEMS, 2, 2)).copy()
    names = tuple(f"q{j}" for j in range(N_ITEMS))
    items = ItemParameters(names, np.full(N_ITEMS, 1.3), b, np.zeros(N_ITEMS), cov)
    return ParameterErrors(items, np.zeros(N_ITEMS, dtype=np.int64), [np.diag([0.02, 0.03]) ** 2], np.zeros((2, 2)))


ERRORS = items_with_errors()


def answers(theta: np.ndarray, learners: np.ndarray, seed: int) -> MonthSample:
    return MonthSample(simulate_responses(ERRORS.items, theta, random_state=seed), learners)


@pytest.fixture(scope="module")
def world() -> tuple[list[str], np.ndarray]:
    """The group and ability of each learner."""
    rng = np.random.default_rng(5)
    theta = [rng.normal(*TRUTH[name], n) for name, n in SIZES.items()]
    return [name for name, n in SIZES.items() for _ in range(n)], np.concatenate(theta)


@pytest.fixture(scope="module")
def months(world: tuple[list[str], np.ndarray]) -> list[dict[str, GroupFit]]:
    """Two months of the same learners with the same abilities."""
    groups, theta = world
    return [fit_groups(answers(theta, np.arange(theta.size), seed), groups, ERRORS)[0] for seed in (1, 2)]


def test_groups_have_the_true_numbers_within_their_errors(months: list[dict[str, GroupFit]]) -> None:
    """3.3 standard errors: with 15 numbers, one sample in 70 would be beyond."""
    rows = {row["group_name"]: row for row in group_rows(months[1], months[0], ERRORS, 0.25)}
    assert [(name, row["n"], row["reference_group"]) for name, row in rows.items()] == [
        ("north", 900, "north"),
        ("south", 600, "north"),
    ]
    for name, (mean, sd) in TRUTH.items():
        row, details = rows[name], rows[name]["details"]
        assert row["mean"] == pytest.approx(mean, abs=3.3 * row["mean_se"])
        assert row["sd"] == pytest.approx(sd, abs=3.3 * row["sd_se"])
        assert row["change"] == pytest.approx(0, abs=3.3 * row["change_se"])
        assert [x["percentile"] for x in details["percentiles"]] == [10, 25, 50, 75, 90]
        for found, z in zip(details["percentiles"], (-1.2816, -0.6745, 0, 0.6745, 1.2816), strict=True):
            assert found["theta"] == pytest.approx(mean + z * sd, abs=3.3 * found["se"])
        share = {"north": 0.56618, "south": 0.32341}[name]  # 1 − Φ((0.25 − mean)/sd)
        assert details["passing"]["share"] == pytest.approx(share, abs=3.3 * details["passing"]["se"])
    assert rows["south"]["difference"] == pytest.approx(-0.7, abs=3.3 * rows["south"]["difference_se"])
    assert (rows["north"]["difference"], rows["north"]["difference_se"]) == (None, None)


def test_error_of_a_mean_contains_the_learners_the_answers_and_the_items(months: list[dict[str, GroupFit]]) -> None:
    fit = months[0]["north"]
    mean = combine(ERRORS, fit.mean, ((1, 0), fit))
    least = 0.9 / np.sqrt(900)  # if θ was known
    assert mean.item_se is not None
    assert least < np.sqrt(mean.se**2 - mean.item_se**2) < 1.3 * least
    # a shift of all items moves the mean by as much; the items' own errors average out
    assert mean.item_se == pytest.approx(0.03, rel=0.2)


def test_change_of_the_same_learners_has_the_error_of_their_answers_alone(months: list[dict[str, GroupFit]]) -> None:
    before, now = (month["north"] for month in months)
    same = subtract(ERRORS, now, before)
    others = subtract(ERRORS, now, GroupFit(**vars(before) | {"learners": before.learners + 10_000}))
    by_hand = ((now.influence[:, 0] - before.influence[:, 0]) ** 2).sum()
    assert same.se**2 - (same.item_se or 0) ** 2 == pytest.approx(by_hand, rel=1e-9)
    independent = (now.influence[:, 0] ** 2).sum() + (before.influence[:, 0] ** 2).sum()
    assert others.se**2 - (others.item_se or 0) ** 2 == pytest.approx(independent, rel=1e-9)
    assert same.se < 0.65 * others.se
    # the items were the same in both months
    assert (same.item_se or 0) < 0.1 * (combine(ERRORS, 0, ((1, 0), now)).item_se or 0)


def test_changed_group_has_a_small_q_value(
    world: tuple[list[str], np.ndarray], months: list[dict[str, GroupFit]]
) -> None:
    groups, theta = world
    changed = theta + 0.15 * (np.array(groups) == "north")
    now, _ = fit_groups(answers(changed, np.arange(theta.size), 3), groups, ERRORS)
    rows = with_q_values(group_rows(now, months[0], ERRORS, None))
    north, south = rows
    assert north["change"] == pytest.approx(0.15, abs=3.3 * north["change_se"])
    assert north["change_q"] < 0.001 < 0.05 < south["change_q"]
    assert north["details"]["passing"] is None


def test_months_with_equal_answers_have_no_change(months: list[dict[str, GroupFit]]) -> None:
    rows = with_q_values(group_rows(months[0], months[0], ERRORS, None))
    assert [(row["change"], row["change_se"], row["change_q"]) for row in rows] == [(0.0, 0.0, 1.0)] * 2


def test_small_groups_and_learners_without_a_group_are_left_out(world: tuple[list[str], np.ndarray]) -> None:
    groups, theta = world
    labels: list[str | None] = ["few"] * (MIN_LEARNERS - 1) + [None] * 10 + ["just enough"] * MIN_LEARNERS
    labels += groups[len(labels) :]
    fits, small = fit_groups(answers(theta, np.arange(theta.size), 4), labels, ERRORS)
    assert [*fits] == ["north", "south", "just enough"]
    assert small == {"few": MIN_LEARNERS - 1}


def test_group_without_a_maximum_has_the_reason_and_is_no_reference() -> None:
    """Answers that vary less than chance have an SD of 0."""
    same = np.tile(np.arange(N_ITEMS) < N_ITEMS // 2, (40, 1)).astype(float)
    alike = MonthSample(Responses.from_wide(same, ERRORS.items.item_ids), np.arange(40))
    fits, _ = fit_groups(alike, ["alike"] * 40, ERRORS)
    (row,) = group_rows(fits, {}, ERRORS, None)
    assert (row["mean"], row["reference_group"]) == (None, "")
    assert "SD" in row["details"]["why_not"]


def test_errors_of_items_that_are_not_known_are_left_out(months: list[dict[str, GroupFit]]) -> None:
    unknown = items_with_errors(np.nan)
    fit = months[0]["north"]
    found, full = (combine(errors, fit.mean, ((1, 0), fit)) for errors in (unknown, ERRORS))
    assert (found.item_se, found.se < full.se) == (None, True)


def test_page_shows_intervals_who_changed_and_who_is_not_described(
    world: tuple[list[str], np.ndarray], months: list[dict[str, GroupFit]]
) -> None:
    groups, theta = world
    changed = theta + 0.15 * (np.array(groups) == "north")
    now, _ = fit_groups(answers(changed, np.arange(theta.size), 3), groups, ERRORS)
    whole = whole_row("country", 1520, {"few": 20}, {"why_not": "", "n_unknown": 0}, "north")
    rows = [{"attribute": "country"} | row for row in [whole, *group_rows(now, months[0], ERRORS, 0.5)]]
    shown = markdown(*group_blocks(with_q_values(rows), Scale("default")))
    north = rows[1]
    assert f"country north changed by {north['change']:+.2f} (SE {north['change_se']:.2f})" in shown
    assert value_with_error(north["mean"], 1.96 * north["mean_se"], sign=True) in shown
    assert "country: one group with fewer than 30 learners each (20 learners)" in shown
    calm = Scale("default", rules=Rules.from_settings({"max_group_shift": 1.0}))
    assert "No group changed" in markdown(*group_blocks(with_q_values(rows), calm))
    assert [*group_blocks([], calm)] == []
