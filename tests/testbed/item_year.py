"""A simulated year of a bank: new items are drawn for learners, estimated every night, forecast and published.

Draws, estimates, forecasts and the rules for a publication are the platform's, without its database.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from irt_assets.new_items.decided import SeedLimits
from irt_assets.new_items.persons import Abilities
from irt_assets.new_items.pipeline import Answers, forecast_days, gate_probabilities, item_rows
from irt_assets.new_items.pool import SeedPool
from irt_assets.new_items.progress import MIN_PROBABILITY
from irt_assets.scales.item_status import DAY, instant_of
from irt_assets.scales.rules import Rules, SeedRules
from irt_assets.scales.scale import Scale
from irt_psychometrics import ItemParameters, Responses
from irt_psychometrics.new_items import (
    BankPrior,
    NewItemEstimates,
    PersonPosteriors,
    choose_item,
    estimate_new_items,
    theta_effects,
)

PUBLISHED, PER_LEARNER, PLACES = 150, 20, 5
"""Number of published items, and of published and of new items in a session."""
WEEK = np.array([1.2, 1.2, 1.2, 1.2, 1.1, 0.6, 0.5])
BREAKS, PUBLIC_HOLIDAYS = ((0, 7), (94, 108), (200, 242), (354, 365)), (120, 121, 128, 145, 151, 275, 304)
"""Days of the year: school breaks with half of the sessions, and public holidays with a fifth."""
FORECAST_EVERY = 7
NO_LIMIT = SeedLimits(max_answers=1_000_000)


@dataclass(frozen=True)
class World:
    """A bank, new items, and learners who would answer each of these.

    Attributes:
        bank: estimates of the published items, with errors of 500 answers.
        ln_a, b: true values of the new items, shape (J,).
        theta, se: posterior of each learner by 20 published answers, shape (P,), in order of the sessions.
        effects: effects of the errors of the published items on `theta`.
        right: whether the learner would solve the new item, shape (P, J).
        sessions: number of sessions of each day, shape (D,); each has another learner.
    """

    bank: ItemParameters
    ln_a: np.ndarray
    b: np.ndarray
    theta: np.ndarray
    se: np.ndarray
    effects: Any
    right: np.ndarray
    sessions: np.ndarray


@dataclass
class Year:
    """The course of J new items in a year.

    Attributes:
        ready: day on which each item is publishable, from 1; infinite if never.
        values, errors: (ln a, b) of the items and their SEs when they became publishable, shape (J, 2).
        n: number of answers by then, shape (J,).
        item, person, day: of each draw.
        forecasts: of each week, rows of item, day, days since the first answer, days to the expected date, and to the
            ends of its interval.
    """

    ready: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    n: np.ndarray
    item: list[int] = field(default_factory=list)
    person: list[int] = field(default_factory=list)
    day: list[int] = field(default_factory=list)
    forecasts: list[np.ndarray] = field(default_factory=list)


def estimated_bank(rng: np.random.Generator, ln_a: np.ndarray, b: np.ndarray) -> ItemParameters:
    """Add errors of 500 answers to true values."""
    frame = {"item": [f"q{k}" for k in range(len(b))], "a": np.exp(ln_a), "b": b}
    true = ItemParameters.from_frame(frame)
    root = np.linalg.cholesky(true.with_assumed_errors().cov)
    off = (root @ rng.standard_normal((len(b), 2, 1)))[:, :, 0]
    return replace(true, a=np.maximum(true.a + off[:, 0], 0.2), b=true.b + off[:, 1]).with_assumed_errors()


def draw_sessions(rng: np.random.Generator, a_day: float, days: int) -> np.ndarray:
    """Draw the number of sessions of each day: weekends and holidays have fewer, and days of a kind differ."""
    of_year = np.ones(365)
    for first, last in BREAKS:
        of_year[first:last] = 0.5
    of_year[[*PUBLIC_HOLIDAYS]] = 0.2
    rate = a_day * np.resize(of_year, days) * np.resize(WEEK, days) * rng.gamma(10, 0.1, days)
    return rng.poisson(rate)


def make_world(rng: np.random.Generator, n_items: int, a_day: float, days: int) -> World:
    """Simulate bank, items and learners: ln a ~ N(.2, .3²), b and θ ~ N(0, 1)."""
    ln_a, b = rng.normal(0.2, 0.3, PUBLISHED + n_items), rng.normal(0, 1, PUBLISHED + n_items)
    bank = estimated_bank(rng, ln_a[:PUBLISHED], b[:PUBLISHED])
    sessions = draw_sessions(rng, a_day, days)
    theta = rng.normal(0, 1, sessions.sum())
    p = 1 / (1 + np.exp(-np.exp(ln_a) * (theta[:, None] - b)))
    right = rng.random(p.shape) < p
    seen = rng.random((len(theta), PUBLISHED)).argsort(axis=1) < PER_LEARNER
    x = Responses.from_wide(np.where(seen, right[:, :PUBLISHED], np.nan), list(bank.item_ids))
    exact = PersonPosteriors.from_responses(x, bank)
    se = np.sqrt((exact.weights * (exact.nodes - exact.theta[:, None]) ** 2).sum(axis=1))
    effects = theta_effects(x, bank)
    return World(bank, ln_a[PUBLISHED:], b[PUBLISHED:], exact.theta, se, effects, right[:, PUBLISHED:], sessions)


def simulate_year(world: World, rules: SeedRules, rng: np.random.Generator) -> Year:
    """Seed all items from the first day on, until each is publishable or the days end."""
    J, scale = len(world.b), Scale("year", rules=Rules(seeding=rules))
    names, prior = [f"n{j}" for j in range(J)], BankPrior.from_items(world.bank)
    persons = PersonPosteriors.normal(world.theta, world.se)
    rows = item_rows(estimate_new_items(names, [], [], [], persons, prior).items)
    year = Year(np.full(J, np.inf), np.full((J, 2), np.nan), np.full((J, 2), np.nan), np.zeros(J, dtype=np.int64))
    first_day, person = np.full(J, -1), 0
    for day, sessions in enumerate(world.sessions.tolist()):
        waiting = np.flatnonzero(np.isinf(year.ready))
        if not waiting.size:
            break
        waiting = waiting[np.argsort(-year.n[waiting], kind="stable")]
        values = ItemParameters.from_rows([names[j] for j in waiting], [rows[j] for j in waiting])
        counts = np.column_stack([year.n[waiting], 0 * waiting, 0 * waiting])
        pool = SeedPool(scale, values, [None] * waiting.size, [NO_LIMIT] * waiting.size, {}, counts, None)
        for learner in range(person, person + sessions):
            for place in _draw_session(pool, world.theta[learner], world.se[learner], rng):
                year.item.append(int(waiting[place]))
                year.person.append(learner)
                year.day.append(day)
        person += sessions
        _make_night(world, scale, year, prior, persons, rows, first_day, day, person)
    return year


def _draw_session(pool: SeedPool, theta: float, se: float, rng: np.random.Generator) -> list[int]:
    """Draw the new items of a session, as `new_items.draws` does. Returns places in the pool."""
    rules, eligible, drawn = pool.scale.rules.seeding, pool.may_draw((), None), list[int]()
    while eligible.any() and len(drawn) < PLACES:
        open_items = eligible & (np.cumsum(eligible) <= rules.seed_open_items)
        gain = np.zeros(len(eligible))
        if rules.seed_random_share < 1:
            gain = pool.gain(np.flatnonzero(open_items), theta, se)
        choice = choose_item(gain, open_items, rng, rules.seed_random_share)
        eligible[choice.place] = False
        pool.counts[choice.place] += 1
        drawn.append(choice.place)
    return drawn


def _make_night(
    world: World,
    scale: Scale,
    year: Year,
    prior: BankPrior,
    persons: PersonPosteriors,
    rows: list[Any],
    first_day: np.ndarray,
    day: int,
    n_persons: int,
) -> None:
    """Estimate the waiting items with answers, forecast them once a week, and note which are publishable."""
    item, person, at = np.array(year.item, int), np.array(year.person, int), np.array(year.day, int)
    use = np.flatnonzero(np.isinf(year.ready)[item])
    use = use[np.argsort(item[use], kind="stable")]
    seen, place = np.unique(item[use], return_inverse=True)
    first_day[seen] = np.where(first_day[seen] < 0, day, first_day[seen])
    answers = Answers(
        [f"n{j}" for j in seen],
        place,
        at[use] * DAY,
        world.right[person[use], item[use]].astype(np.int64),
        (),
        np.array([]),
        np.ones(use.size, dtype=bool),
    )
    abilities = Abilities(world.theta[:n_persons], world.se[:n_persons], world.effects, person[use])
    estimates = estimate_new_items(
        answers.item_ids, place, person[use], answers.score, persons, prior, theta_effects=world.effects
    )
    year.n[seen] = estimates.n
    for j, row in zip(seen, item_rows(estimates.items), strict=True):
        rows[j] = row or rows[j]
    ready = is_publishable(answers, estimates, abilities, scale.rules)
    if day % FORECAST_EVERY == FORECAST_EVERY - 1:
        days = forecast_days(answers, estimates, abilities, scale.rules.seeding, instant_of((day + 1) * DAY))
        night = np.full(len(seen), day + 1)
        year.forecasts.append(np.column_stack([seen, night, night - first_day[seen], days])[~ready])
    done = seen[ready]
    year.ready[done] = day + 1
    year.values[done] = np.column_stack([np.log(estimates.items.a), estimates.items.b])[ready]
    year.errors[done] = np.column_stack([estimates.ln_a_se, estimates.items.b_se])[ready]


def is_publishable(answers: Answers, estimates: NewItemEstimates, abilities: Abilities, rules: Rules) -> np.ndarray:
    """Check which items meet the scale's rules, as `PipelineItem.meets` does, shape (J,)."""
    seeding, passed = rules.seeding, gate_probabilities(answers, estimates, abilities, rules.publication)
    ready = (estimates.n >= seeding.seed_min_responses) & ~estimates.one_score
    ready &= (estimates.items.b_se <= seeding.seed_max_b_se) & (estimates.ln_a_se <= seeding.seed_max_ln_a_se)
    return np.asarray(ready & np.all([p >= MIN_PROBABILITY for p in passed.values()], axis=0))
