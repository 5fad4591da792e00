"""Groups by month: false alarms of changes if nothing moves, errors against the true spread, and the power.

    nice -n 19 python -m benchmarks.bench_group_abilities --replications 20

A bank of 200 items is published with errors of its own and of its scale. Each month a learner answers 15 items at
random. A share of the learners stays from month to month; others replace the rest. Three groups have 2,000, 600 and 100
learners. Prints two Markdown tables. First, 12 months in which nothing moves: share of changes with |z| > 1.96, mean
standard error over the SD of the changes, the same of the groups' means, and the months in which the check warns.
Second, the first group moves by .1 SD, at once or in three equal steps: how often the check names it within three
months, and how often it names another group. The check judges the three groups with seven others that do not move.
"""

from __future__ import annotations

import argparse

import numpy as np

from irt_assets.abilities.groups import SIGNIFICANT, GroupFit, MonthSample, fit_groups, group_rows, with_q_values
from irt_assets.scales.rules import WarningRules
from irt_psychometrics import ItemParameters, Responses
from irt_psychometrics.scoring import ParameterErrors

N_ITEMS, ANSWERS = 200, 15
GROUPS = {"2,000": (2000, 0.0, 1.0), "600": (600, 0.4, 0.9), "100": (100, -0.5, 1.1)}
"""Number of learners, mean and SD of each group."""
OTHERS = {f"other {k}": (200, 0.0, 1.0) for k in range(7)}
STAY = (0.0, 0.5, 0.8, 1.0)
LIMIT = WarningRules().max_group_shift


class World:
    """A bank with published values, and learners who come and go."""

    def __init__(self, seed: int, stay: float, groups: dict[str, tuple[int, float, float]]) -> None:
        self.rng, self.stay, self.groups, self.n_seen = np.random.default_rng(seed), stay, groups, 0
        rng = self.rng
        a, b = rng.lognormal(0.1, 0.3, N_ITEMS), rng.normal(0, 1, N_ITEMS)
        se, gamma = np.array([0.12, 0.10]), np.array([0.02, 0.03])
        own, (stretch, shift) = rng.normal(0, se, (N_ITEMS, 2)), rng.normal(0, gamma)
        self.a, self.b = a - own[:, 0] + a * stretch, b - own[:, 1] - b * stretch - shift
        by = np.zeros((N_ITEMS, 2, 2))
        by[:, 0, 0], by[:, 1, 0], by[:, 1, 1] = -a, b, 1.0
        cov = np.diag(se**2) + by @ np.diag(gamma**2) @ by.swapaxes(1, 2)
        items = ItemParameters(tuple(f"q{j}" for j in range(N_ITEMS)), a, b, np.zeros(N_ITEMS), cov)
        self.errors = ParameterErrors(items, np.zeros(N_ITEMS, dtype=np.int64), [np.diag(gamma**2)], np.zeros((2, 2)))
        self.learners = {name: self._new(name, n) for name, (n, _, _) in groups.items()}

    def _new(self, name: str, n: int) -> np.ndarray:
        """Keys and abilities of new learners, shape (n, 2)."""
        _, mean, sd = self.groups[name]
        self.n_seen += n
        return np.stack([np.arange(self.n_seen - n, self.n_seen), self.rng.normal(mean, sd, n)], axis=1)

    def next_month(self, moved: float = 0.0) -> dict[str, GroupFit]:
        """Replace learners and fit their answers. `moved` is added to the ability of the first group's learners."""
        for name, known in self.learners.items():
            gone = self.rng.random(len(known)) >= self.stay
            known[gone] = self._new(name, int(gone.sum()))
        rows = np.concatenate([*self.learners.values()])
        labels = [name for name, known in self.learners.items() for _ in known]
        theta = rows[:, 1] + moved * (np.array(labels) == next(iter(self.groups)))
        item = np.sort(self.rng.random((len(theta), N_ITEMS)).argpartition(ANSWERS, axis=1)[:, :ANSWERS], axis=1)
        p = 1 / (1 + np.exp(-self.a[item] * (theta[:, None] - self.b[item])))
        score, person = self.rng.random(p.shape) < p, np.repeat(np.arange(len(theta)), ANSWERS)
        responses = Responses(person, item.ravel(), score.ravel(), len(theta), self.errors.items.item_ids)
        return fit_groups(MonthSample(responses, rows[:, 0].astype(np.int64)), labels, self.errors)[0]


def warned(rows: list[dict]) -> set[str]:
    """The groups that the check names."""
    return {row["group_name"] for row in rows if row["change_q"] < SIGNIFICANT and abs(row["change"]) > LIMIT}


def still(seed: int, replications: int) -> None:
    """Print the table of months in which nothing moves."""
    print("| learners | stay | changes | z > 1.96 | SE : SD | means: z > 1.96 | months with a warning |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for stay in STAY:
        changes: dict[str, list[tuple[float, float]]] = {name: [] for name in GROUPS}
        means: dict[str, list[float]] = {name: [] for name in GROUPS}
        warnings = 0
        for k in range(replications):
            world = World(seed + k, stay, GROUPS)
            before = world.next_month()
            for month in range(11):
                now = world.next_month()
                rows = with_q_values(group_rows(now, before, world.errors, None))
                warnings += bool(warned(rows))
                for row in rows:
                    name = row["group_name"]
                    changes[name].append((row["change"], row["change_se"]))
                    if not month:  # the bank and some learners are the same in all months
                        means[name].append((row["mean"] - GROUPS[name][1]) / row["mean_se"])
                before = now
        for name, found in changes.items():
            value, se = np.array(found).T
            z, of_mean = np.abs(value / se) > 1.96, np.abs(means[name]) > 1.96
            share = f"{warnings / (11 * replications):.1%}" if name == next(iter(changes)) else ""
            print(
                f"| {name} | {stay:.0%} | {value.size} | {z.mean():.1%} | {np.sqrt(np.mean(se**2)) / value.std():.2f} "
                f"| {of_mean.mean():.0%} | {share} |",
                flush=True,
            )


def moving(seed: int, replications: int) -> None:
    """Print the table of a group that moves."""
    print("\n| move | stay | found within three months | another group named |\n|---|--:|--:|--:|")
    for how, steps in (("at once", (0.1, 0.1, 0.1)), ("in three steps", (1 / 30, 2 / 30, 0.1))):
        for stay in STAY:
            found = others = 0
            for k in range(replications):
                world = World(seed + 100_000 + k, stay, GROUPS | OTHERS)
                before, named = world.next_month(), set[str]()
                for moved in steps:
                    now = world.next_month(moved)
                    named |= warned(with_q_values(group_rows(now, before, world.errors, None)))
                    before = now
                found += next(iter(GROUPS)) in named
                others += bool(named - {next(iter(GROUPS))})
            print(f"| {how} | {stay:.0%} | {found / replications:.0%} | {others / replications:.0%} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=20)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    print(
        f"{options.replications} replications, three times as many of a group that moves, seeds from {options.seed}\n"
    )
    still(options.seed, options.replications)
    moving(options.seed, 3 * options.replications)


if __name__ == "__main__":
    main()
