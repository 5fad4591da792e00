"""A small bank's year with new items: they are published with the errors that are stated, on the dates forecast."""

from __future__ import annotations

import numpy as np
import pytest

from irt_assets.scales.rules import SeedRules
from tests.testbed.item_year import World, Year, make_world, simulate_year

pytestmark = pytest.mark.on_change("packages/irt-psychometrics/irt_psychometrics/new_items/**", imports=True)
ITEMS = 60


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(np.random.default_rng([5, 1]), ITEMS, 20, 900)


@pytest.fixture(scope="module")
def year(world: World) -> Year:
    return simulate_year(world, SeedRules(seed_open_items=10), np.random.default_rng(6))


def test_items_are_published_by_the_rules_with_the_errors_that_are_stated(world: World, year: Year) -> None:
    """A mean of 60 standardised errors has an SE of .13, and a coverage of 95 % one of .03."""
    assert np.isfinite(year.ready).all()
    assert (year.n >= 100).all()
    assert (year.errors <= 0.25).all()
    z = (year.values - np.column_stack([world.ln_a, world.b])) / year.errors
    assert np.abs(z.mean(axis=0)).max() < 0.6
    assert ((np.abs(z) < 1.96).mean(axis=0) >= 0.85).all()
    assert ((np.abs(z) < 0.674).mean(axis=0) <= 0.75).all()  # half of normal errors


def test_first_items_are_published_sooner_than_by_draws_from_the_whole_queue(world: World, year: Year) -> None:
    """Six groups follow each other, so the mean item is published after 7/12 of the time of all."""
    everything = SeedRules(seed_open_items=ITEMS, seed_random_share=1)
    at_random = simulate_year(world, everything, np.random.default_rng(6))
    assert year.ready.mean() < 0.8 * at_random.ready.mean()


def test_dates_fall_into_most_80_percent_intervals(year: Year) -> None:
    item, day, _, median, low, high = np.concatenate(year.forecasts).T
    days = year.ready[item.astype(int)] - day
    assert ((low <= median) & (median <= high)).all()
    assert 0.6 < ((days >= np.ceil(low)) & (days <= np.ceil(high))).mean() < 0.97
