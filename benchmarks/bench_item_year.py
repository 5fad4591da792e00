"""A year with 300 new items: answers and days until they are publishable, forecasts, and errors of the values.

    python -m benchmarks.bench_item_year --runs 20 --picture docs/images/new-items-year.svg

`tests.testbed.item_year` describes bank, learners and traffic. Each run compares three draws in one world: by gain
among the open items (by the default rules or `--open`), at random among the same open items, and at
random among all items. Items are estimated every night. An item that is publishable by the default rules is not drawn
any more. Forecasts are made once a week. ± is the standard error over runs.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np

from irt_assets.scales.rules import SeedRules
from irt_psychometrics.new_items import BankPrior, PersonPosteriors, estimate_new_items
from irt_psychometrics.plots import Chart, Picture
from tests.testbed.item_year import PUBLISHED, World, Year, make_world, simulate_year

DAYS = 900
DRAWS = ("by gain, open items", "at random, open items", "at random, all items")
AGES = (1, 7, 14, 28, 56, 1_000_000)


def errors_of(world: World, year: Year) -> np.ndarray:
    """Return errors of the (ln a, b) with which items were publishable, shape (J, 2)."""
    return np.asarray(year.values - np.column_stack([world.ln_a, world.b]))


def inside(year: Year) -> np.ndarray:
    """Return age, and whether the date is before, in or after the 80 % interval (−1, 0, 1), for each forecast."""
    item, day, age, _, low, high = np.concatenate(year.forecasts).T
    days = year.ready[item.astype(int)] - day
    return np.column_stack([age, (days > np.ceil(high)) * 1 - (days < np.ceil(low)) * 1])


def errors_as_if_at_random(world: World, year: Year) -> tuple[float, ...]:
    """Return errors if abilities are N(0, 1), because a fit does not see why an item was drawn.

    These are the mean error and the RMSE of ln a, the RMSE of b, and the growth of the error of b with b.
    """
    prior, population = BankPrior.from_items(world.bank), PersonPosteriors.normal(np.zeros(len(world.theta)), 1.0, 21)
    names, right = [f"n{j}" for j in range(len(world.b))], world.right[year.person, year.item]
    found = estimate_new_items(names, year.item, year.person, right, population, prior).items
    ln_a, b = np.log(found.a) - world.ln_a, found.b - world.b
    return float(ln_a.mean()), rms(ln_a), rms(b), float(np.polyfit(world.b, b, 1)[0])


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def mean_and_error(values: list[float], digits: int = 3, unit: str = "") -> str:
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{np.mean(values):.{digits}f}{unit} ± {error:.{digits}f}"


def report(name: str, worlds: list[World], years: list[Year]) -> None:
    """Print the numbers of one way to draw."""
    answers, day = [len(year.item) for year in years], [year.ready.mean() for year in years]
    off = np.stack([errors_of(world, year) for world, year in zip(worlds, years, strict=True)])
    covered = np.abs(off / np.stack([year.errors for year in years])) < 1.96
    print(f"\n{name}: {mean_and_error(answers, 0)} answers, mean day {mean_and_error(day, 1)}, ", end="")
    print(f"last day {mean_and_error([year.ready.max() for year in years], 0)}")
    for share in (0.25, 0.5, 0.75, 0.95):
        days = [float(np.quantile(year.ready, share)) for year in years]
        print(f"  {share:.0%} of the items are publishable on day {mean_and_error(days, 0)}")
    n = np.concatenate([year.n for year in years])
    print(
        f"  answers of an item: median {np.median(n):.0f}, 90 % {np.quantile(n, 0.9):.0f}, {(n > 400).mean():.1%} > 400"
    )
    for k, parameter in enumerate(("ln a", "b")):
        print(
            f"  {parameter}: mean error {mean_and_error([*np.nanmean(off[:, :, k], axis=1)])}, "
            f"RMSE {np.sqrt(np.nanmean(off[:, :, k] ** 2)):.3f}, "
            f"coverage {mean_and_error([*100 * covered[:, :, k].mean(axis=1)], 1, ' %')}"
        )
    by_run = [inside(year) for year in years]
    found = np.concatenate(by_run)
    coverage = [100 * (run[:, 1] == 0).mean() for run in by_run]
    print(f"  forecasts: {mean_and_error(coverage, 1, ' %')} of {len(found):,} dates inside; by age in days:", end="")
    for first, last in itertools.pairwise(AGES):
        of_age = found[(found[:, 0] >= first) & (found[:, 0] < last), 1]
        print(f" {first}: {(of_age == 0).mean():.0%} ({(of_age < 0).mean():.0%} earlier)", end="")
    print(flush=True)


def draw_picture(years: dict[str, Year]) -> Picture:
    """Draw the size of the bank by day and by answers, and the dates against forecasts, of one run."""
    last = max(year.ready.max() for year in years.values())
    most = max(len(year.item) for year in years.values())
    top, styles = (
        PUBLISHED + len(years[next(iter(years))].ready),
        dict(zip(years, ("solid", "dash", "dot"), strict=True)),
    )
    by_day = Chart((0, last), (PUBLISHED, top), "day", "published items", "size of the bank by day", width=460)
    by_answers = Chart((0, most), (PUBLISHED, top), "answers to new items", "published items", "by answers", width=460)
    for (name, year), colour in zip(years.items(), Chart.SERIES, strict=False):
        days, per_day = np.arange(int(last) + 1), np.bincount(year.day, minlength=int(last) + 1)
        size = PUBLISHED + (year.ready[:, None] <= days).sum(axis=0)
        spent = np.minimum(np.concatenate([[0], np.cumsum(per_day)])[: len(days)], len(year.item))
        by_day.line(days, size, colour, name, dash=styles[name])
        by_answers.line(spent, size, colour, dash=styles[name])
    year = next(iter(years.values()))
    item, day, age, median, low, high = np.concatenate(year.forecasts).T
    some = np.flatnonzero((age >= 7) & (age < 14))[::3]
    ends = np.minimum(day + np.ceil([median, low, high]), 1.2 * last)[:, some]
    described = "forecasts of items in their second week, with 80 % intervals, by the true day"
    dates = Chart((0, last), (0, 1.2 * last), "publishable on day", "day by the forecast", described, width=460)
    dates.line((0, last), (0, last), "grey", width=0.8).points(
        year.ready[item[some].astype(int)], *ends[:1], low=ends[1], high=ends[2]
    )
    return Picture("300 new items, published when publishable", [by_day, by_answers, dates], columns=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--sessions", type=float, default=40, help="mean number of sessions on a day of school")
    parser.add_argument("--open", type=int, default=SeedRules().seed_open_items, help="number of open items")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--picture", type=Path, help="file for the picture of the first run")
    options = parser.parse_args()
    rules = SeedRules(seed_open_items=options.open)
    at_random = rules.model_copy(update={"seed_random_share": 1.0})
    draws = (rules, at_random, at_random.model_copy(update={"seed_open_items": options.items}))
    worlds, years, wrong = list[World](), {name: list[Year]() for name in DRAWS}, list[tuple[float, ...]]()
    for run in range(options.runs):
        worlds.append(make_world(np.random.default_rng([options.seed, run]), options.items, options.sessions, DAYS))
        for name, own in zip(DRAWS, draws, strict=True):
            years[name].append(simulate_year(worlds[-1], own, np.random.default_rng([options.seed, run, 1])))
        gain, same, every = (years[name][-1] for name in DRAWS)
        wrong.append(errors_as_if_at_random(worlds[-1], gain))
        answers = " ".join(f"{len(year.item)}/{year.ready.mean():.0f}" for year in (gain, same, every))
        print(f"run {run}: answers/mean day {answers}", flush=True)
        if run == 0 and options.picture:
            options.picture.write_text(draw_picture({name: years[name][0] for name in DRAWS}).to_svg(), "utf-8")
    for name in DRAWS:
        report(name, worlds, years[name])
    gain, same, every = years.values()
    saved = [100 * (1 - len(x.item) / len(y.item)) for x, y in zip(gain, same, strict=True)]
    day = [float(x.ready.mean() / y.ready.mean()) for x, y in zip(gain, every, strict=True)]
    print(f"\nby gain: {mean_and_error(saved, 1, ' %')} fewer answers than at random among the same open items")
    print(f"mean day: {mean_and_error(day)} of the one at random among all items")
    parts = ("mean error of ln a", "RMSE of ln a", "RMSE of b", "growth of the error of b with b")
    shown = "; ".join(
        f"{part} {mean_and_error([*own])}" for part, own in zip(parts, zip(*wrong, strict=True), strict=True)
    )
    print(f"seeded answers as if placed at random: {shown}")


if __name__ == "__main__":
    main()
