"""Power and false alarms of drift detection, compared with an oracle that knows the linking and the population.

    python -m benchmarks.bench_drift power --moved 1000        # 12 cells × 2 bank sizes
    python -m benchmarks.bench_drift sound --months 500        # no drift: months with a flag
    python -m benchmarks.bench_drift many --months 100         # 12 and 20 of 60 moved, one of 30 by 0.8
    python -m benchmarks.bench_drift trend --moved 300         # 0.1 a month, found by month 2, 3, …
    python -m benchmarks.bench_drift kinds --moved 300         # which kind is named, N = 1000
    python -m benchmarks.bench_drift varying --months 2000 [--fits]  # items that vary and move

a ~ LogNormal(0, 0.3), b ~ N(0, 1). The published values are a fit of N learners θ ~ N(0, 1), which defines the scale
and is the anchor set; with fewer anchors the other items are published from a second such fit, linked to these. The
window is a fit of other learners θ ~ N(0.5, 1.2²). The oracle puts the same fits on one scale by the true constants,
without error, and applies the same rule. A month that cannot be linked detects nothing. If the gate on anchors would
hold a month, its drift is still computed, and the last column counts the month.

Log times have SD 0.35 within and 0.25 between learners. Learners who know a leaked answer take half as long.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field, replace

import numpy as np

from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.drift.change_types import ChangeKind, TimedAnswers, classify_changes
from irt_psychometrics.drift.errors import Comparison, FitPopulation, Published
from irt_psychometrics.drift.item_trends import trends
from irt_psychometrics.drift.items import Drift
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.linking.linking import link_to_anchors
from irt_psychometrics.linking.placement import LinkingError
from psychometrics_testbed.linked_months import ids
from psychometrics_testbed.made_anchors import anchor_set_of, with_errors_of
from psychometrics_testbed.published_months import World, alone
from tests.testbed.agreement import disagree

MEAN, SD = 0.5, 1.2


def answers(rng: np.random.Generator, n: int, a: np.ndarray, b: np.ndarray, mean: float, sd: float) -> Responses:
    theta = rng.normal(mean, sd, (n, 1))
    right = rng.random((n, len(a))) < 1 / (1 + np.exp(-a * (theta - b)))
    return Responses.from_wide(right.astype(float), [f"i{j:03d}" for j in range(len(a))])


def anchors_of(origin: Calibration, keep: np.ndarray) -> AnchorSet:
    fit = origin.select(keep)
    k = fit.n_items
    return anchor_set_of(
        "bench", "1", fit.item_ids, fit.a, fit.b, fit.c, fit.a_se, fit.b_se, fit.cov_ab[:, 0, 1], (None,) * k,
        np.zeros(k, dtype=bool),
    )  # fmt: skip


@dataclass(frozen=True)
class Design:
    items: int
    anchors: float
    joint: bool


@dataclass(frozen=True)
class Month:
    """A month. `drift` is None if the month could not be linked; `held` is whether the gate on anchors would hold
    it."""

    drift: Drift | None
    oracle: Drift
    held: bool


def month(rng: np.random.Generator, n_old: int, n_new: int, design: Design, moved: np.ndarray) -> Month:
    """Simulate a published set and a window in which b moved by `moved`, shape (J,)."""
    a, b = np.exp(rng.normal(0, 0.3, design.items)), rng.normal(0, 1, design.items)
    first = old = fit_em(answers(rng, n_old, a, b, 0.0, 1.0), threads=1)
    is_anchor = np.arange(design.items) % 100 < 100 * design.anchors
    is_anchor = rng.permutation(is_anchor) if design.anchors < 1 else is_anchor
    frozen = anchors_of(old, is_anchor)
    anchors = with_errors_of(frozen, old) if design.joint else frozen
    published = Published.from_anchors(anchors)
    new = fit_em(answers(rng, n_new, a, b + moved, MEAN, SD), threads=1)
    try:
        if design.anchors < 1:
            first = fit_em(answers(rng, n_old, a, b, 0.0, 1.0), threads=1)
            others = Published.from_fit(first, link_to_anchors(first, frozen), anchors)
            published = others.then(published)
        linking = link_to_anchors(new, frozen)
    except LinkingError:
        return Month(None, Drift.from_comparison(known_scale(old, first, new, is_anchor)), True)
    drift = Drift.from_comparison(Comparison.from_linked_fit(new, linking, anchors, published))
    held = disagree(linking)
    return Month(drift, Drift.from_comparison(known_scale(old, first, new, is_anchor)), held)


def known_scale(old: Calibration, first: Calibration, new: Calibration, is_anchor: np.ndarray) -> Comparison:
    """The same estimates on their true scale.

    Published values of anchors are from `old`, of other items from `first`.
    """
    y = new.rescaled(SD, MEAN)
    a, d = np.where(is_anchor, old.a, first.a), np.where(is_anchor, old.d, first.d)
    cov_ab = np.where(is_anchor[:, None, None], old.cov_ab, first.cov_ab)
    k = np.flatnonzero(np.isfinite(y.cov_ab + cov_ab).all(axis=(1, 2)))
    ids = tuple(old.item_ids[j] for j in k)
    published = Published(ids, a[k], -d[k] / a[k], y.c[k], cov_ab[k], with_anchors=np.zeros((k.size, 2, 0)))
    now = replace(y, joint_cov=None).select(k).items
    return Comparison(
        now, published, np.zeros((k.size, 2, 0)), (FitPopulation("2pl"),) * k.size, **alone(now, published)
    )


@dataclass
class Tally:
    found: list[float] = field(default_factory=list)
    oracle: list[float] = field(default_factory=list)
    false: list[float] = field(default_factory=list)
    fdr: list[float] = field(default_factory=list)
    held: int = 0

    def add(self, result: Month, moved: np.ndarray) -> None:
        has_moved = moved != 0
        self.oracle += list(_hits(result.oracle, len(moved))[has_moved])
        self.held += result.held
        flags = _hits(result.drift, len(moved)) if result.drift is not None else np.zeros(len(moved))
        self.found += list(flags[has_moved])
        self.false += list(flags[~has_moved])
        self.fdr.append(flags[~has_moved].sum() / max(flags.sum(), 1))


def _hits(drift: Drift, items: int) -> np.ndarray:
    """1 for flagged items, else 0, shape (items,). Items that could not be compared are not flagged."""
    return np.isin([f"i{j:03d}" for j in range(items)], drift.flagged).astype(float)


def power(options: argparse.Namespace) -> None:
    print("| items | N | moved by | items moved | oracle | found | ratio | unmoved flagged | FDR | held months |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for items in options.items:
        for n in options.n:
            for size in options.sizes:
                tally, k = Tally(), 0
                while len(tally.oracle) < options.moved:
                    rng = np.random.default_rng([options.seed, items, n, round(100 * size), k])
                    moved = np.zeros(items)
                    moved[rng.choice(items, items // 10, replace=False)] = size * rng.choice([-1, 1], items // 10)
                    tally.add(month(rng, n, n, Design(items, options.anchors, options.joint), moved), moved)
                    k += 1
                oracle, power_found = np.mean(tally.oracle), np.mean(tally.found)
                print(
                    f"| {items} | {n} | {size} | {len(tally.oracle)} | {oracle:.3f} | {power_found:.3f} |"
                    f" {power_found / oracle:.2f} | {np.mean(tally.false):.2%} | {np.mean(tally.fdr):.2%} |"
                    f" {tally.held / k:.1%} |",
                    flush=True,
                )


def sound(options: argparse.Namespace) -> None:
    print("| items | N published | N window | months | with a flag | oracle | p < 0.05 | p < 0.01 | held months |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for items in options.items:
        for n_old, n_new in options.pairs:
            flagged, oracle, p, held = [], [], [], 0
            for k in range(options.months):
                rng = np.random.default_rng([options.seed, items, n_old, n_new, k])
                result = month(rng, n_old, n_new, Design(items, options.anchors, options.joint), np.zeros(items))
                held += result.held
                oracle.append(len(result.oracle.flagged) > 0)
                if result.drift is not None:
                    flagged.append(len(result.drift.flagged) > 0)
                    p.append(result.drift.p)
            rate = " | ".join(f"{np.mean(np.concatenate(p) < level):.2%}" for level in (0.05, 0.01))
            print(
                f"| {items} | {n_old} | {n_new} | {options.months} | {np.mean(flagged):.1%} | {np.mean(oracle):.1%} |"
                f" {rate} | {held / options.months:.1%} |",
                flush=True,
            )


def many(options: argparse.Namespace) -> None:
    print("| items | moved | N | months | held | moved found | unmoved flagged, a month | bias of the unmoved b |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for items, count, size, n in ((60, 12, 0.5, 2000), (60, 20, 0.5, 2000), (30, 1, 0.8, 1000), (30, 1, -0.8, 2000)):
        held, true_flags, false, bias = 0, [], [], []
        for k in range(options.months):
            rng = np.random.default_rng([options.seed, items, count, k])
            moved = np.zeros(items)
            moved[rng.choice(items, count, replace=False)] = size
            result = month(rng, n, n, Design(items, options.anchors, options.joint), moved)
            held += result.held
            if result.drift is not None and not result.held:
                flags = _hits(result.drift, len(moved))
                true_flags.append(flags[moved != 0].mean())
                false.append(flags[moved == 0].sum())
                bias.append(result.drift.delta_b[moved == 0].mean())
        cells = (
            f"{np.mean(true_flags):.3f} | {np.mean(false):.2f} | {np.mean(bias):+.3f} |"
            if true_flags
            else "– | – | – |"
        )
        print(
            f"| {items} | {count} by {size:+} | {n} | {options.months} | {held / options.months:.0%} | {cells}",
            flush=True,
        )


def trend(options: argparse.Namespace) -> None:
    print("| items | N a month | months | trends | found, pushed up | found, pushed down | sound items found |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for n, last in ((2000, 4), (1000, 6)):
        flags: dict[int, dict[int, list[float]]] = {m: {-1: [], 0: [], 1: []} for m in range(2, last + 1)}
        k = 0
        while len(flags[last][1]) + len(flags[last][-1]) < options.moved:
            rng = np.random.default_rng([options.seed, n, k])
            sign = np.zeros(30)
            sign[rng.choice(30, 3, replace=False)] = rng.choice([-1, 1], 3)
            a, b = np.exp(rng.normal(0, 0.3, 30)), rng.normal(0, 1, 30)
            frozen = anchors_of(fit_em(answers(rng, n, a, b, 0.0, 1.0), threads=1), np.ones(30, dtype=bool))
            anchors = frozen
            compared, elapsed = [], []
            for m in range(1, last + 1):
                new = fit_em(answers(rng, n, a, b + 0.1 * m * sign, MEAN, SD), threads=1)
                try:
                    linking = link_to_anchors(new, frozen)
                except LinkingError:
                    continue
                compared.append(Comparison.from_linked_fit(new, linking, anchors, Published.from_anchors(anchors)))
                elapsed.append(m)
                if m > 1:
                    hits = np.isin([f"i{j:03d}" for j in range(30)], trends(compared, elapsed, anchors).flagged)
                    for direction in (-1, 0, 1):
                        flags[m][direction] += list(hits[sign == direction])
            k += 1
        for m, hits_of in flags.items():
            up, sound_found, down = (np.mean(hits_of[direction]) for direction in (1, 0, -1))
            count = len(hits_of[1]) + len(hits_of[-1])
            print(f"| 30 | {n} | {m} | {count} | {up:.3f} | {down:.3f} | {sound_found:.2%} |", flush=True)


CHANGES = {
    "drift −0.5": (ChangeKind.DRIFT, -0.5),
    "drift −0.8": (ChangeKind.DRIFT, -0.8),
    "drift +0.5": (ChangeKind.DRIFT, 0.5),
    "leak to 20 %": (ChangeKind.LEAK, 0.20),
    "leak to 35 %": (ChangeKind.LEAK, 0.35),
    "leak to 35 % from day 15": (ChangeKind.LEAK, 0.35),
    "wrong key": (ChangeKind.WRONG_KEY, 0.5),
}
DISTRACTORS = (0.5, 0.3, 0.2)


def kinds(options: argparse.Namespace) -> None:
    print(
        "| changed | items | flagged | kind right | no times | no options | onset off by | sound items given a kind |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    n, items = 1000, 30
    for name, (kind, size) in CHANGES.items():
        results: dict[str, list[bool]] = {"all": [], "no times": [], "no options": []}
        onsets, flagged, count, sound_told, sound_count, k = [], 0, 0, 0, 0, 0
        while count < options.moved:
            rng = np.random.default_rng([options.seed, k])
            a, b = np.exp(rng.normal(0, 0.3, items)), rng.normal(0, 1, items)
            changed = np.isin(np.arange(items), rng.choice(items, 2, replace=False))
            old = fit_em(answers(rng, n, a, b, 0.0, 1.0), threads=1)
            window = Window.draw(rng, n, a, b, changed, kind, size, from_day=15 if "day" in name else 0)
            frozen = anchors_of(old, np.ones(items, dtype=bool))
            anchors = frozen
            new = fit_em(Responses.from_wide(window.right.astype(float), old.item_ids), threads=1)
            k += 1
            try:
                linking = link_to_anchors(new, frozen)
            except LinkingError:
                continue
            drift = Drift.from_comparison(
                Comparison.from_linked_fit(new, linking, anchors, Published.from_anchors(anchors))
            )
            count, flagged = count + 2, flagged + int(np.isin(np.array(old.item_ids)[changed], drift.flagged).sum())
            sound_count += items - 2
            for variant in results:
                window_answers = window.answers(
                    old.item_ids, times=variant != "no times", options=variant != "no options"
                )
                mean, sd = linking.slope * new.latent_mean + linking.intercept, linking.slope * new.latent_sd
                changes = classify_changes(window_answers, drift.flagged, old.items, mean=mean, sd=sd)
                for item, change in changes.items():
                    if changed[old.item_ids.index(item)]:
                        easier = kind is ChangeKind.LEAK or (kind is ChangeKind.DRIFT and size < 0)
                        results[variant].append(
                            change.kind is (ChangeKind.EASIER if variant == "no times" and easier else kind)
                        )
                        if variant == "all" and change.onset is not None:
                            onsets.append(abs(change.onset - (15 if "day" in name else 0)))
                    elif variant == "all":
                        sound_told += change.kind is not ChangeKind.UNCLEAR
        rates = " | ".join(f"{np.mean(right):.3f}" for right in results.values())
        onset = f"{np.mean(onsets):.1f} days" if onsets else "–"
        print(
            f"| {name} | {count} | {flagged / count:.2f} | {rates} | {onset} | {sound_told / sound_count:.2%} |",
            flush=True,
        )


@dataclass(frozen=True)
class Window:
    """Responses of n learners to J items and their times, shape (n, J), and days of the learners, shape (n,)."""

    right: np.ndarray
    chosen: np.ndarray
    key: np.ndarray
    log_time: np.ndarray
    day: np.ndarray
    usual_log_time: np.ndarray

    @classmethod
    def draw(
        cls, rng: np.random.Generator, n: int, a: np.ndarray, b: np.ndarray, changed: np.ndarray, kind: ChangeKind,
        size: float, from_day: int,
    ) -> Window:  # fmt: skip
        theta, day = rng.normal(MEAN, SD, (n, 1)), rng.integers(0, 30, n)
        shift = size * changed if kind is ChangeKind.DRIFT else 0.0
        knows = rng.random((n, len(a))) < 1 / (1 + np.exp(-a * (theta - b - shift)))
        insider = np.zeros_like(knows)
        if kind is ChangeKind.LEAK:
            insider = (rng.random((n, len(a))) < size) & changed & (day[:, None] >= from_day)
        option = np.where(knows | insider, 0, 1 + rng.choice(3, (n, len(a)), p=DISTRACTORS))
        key = np.where(changed & (kind is ChangeKind.WRONG_KEY), 1, 0)
        log_time = rng.normal(0, 0.35, knows.shape) + rng.normal(0, 0.25, (n, 1)) + np.log(0.5) * insider
        usual = rng.normal(0, 0.43 / np.sqrt(n / 2), len(a))  # known from this many correct answers of earlier learners
        return cls(option == key, option, key, log_time, day, usual)

    def answers(self, item_ids: tuple[str, ...], *, times: bool, options: bool) -> TimedAnswers:
        n, items = self.right.shape
        return TimedAnswers(
            person=np.repeat(np.arange(n), items),
            item=np.tile(np.arange(items), n),
            score=self.right.ravel().astype(np.int8),
            log_time=self.log_time.ravel() if times else np.full(n * items, np.nan),
            day=np.repeat(self.day, items),
            option=self.chosen.ravel() if options else np.full(n * items, -1),
            item_ids=item_ids,
            key=self.key,
            usual_log_time=self.usual_log_time,
            usual_log_time_se=np.full(items, 0.43 / np.sqrt(n / 2)),
        )


def varying(options: argparse.Namespace) -> None:
    """20 anchors and 20 other items, published by an earlier month. Items that were not estimated do not count."""
    some = lambda k, size: (  # noqa: E731
        lambda rng: rng.permutation(np.r_[size * rng.choice([-1, 1], k), np.zeros(40 - k)])
    )
    rows = (
        ("4 by ± .5", World(n=1000), some(4, 0.5)),
        ("4 by ± .5", World(n=2000), some(4, 0.5)),
        ("4 by ± .5", World(n=2000, variation=0.05), some(4, 0.5)),
        ("none", World(n=20_000, variation=0.1), lambda rng: np.zeros(40)),
        ("8 by .4, 8 by −.4", World(n=2000), lambda rng: rng.permutation(np.repeat([0.4, -0.4, 0.0], [8, 8, 24]))),
        ("all, SD .3", World(n=2000), lambda rng: rng.normal(0, 0.3, 40)),
        ("4 by ± .5, 3PL", World(n=2000, model="3pl"), some(4, 0.5)),
    )
    print("| moved | N | τ | months | moved by .4 and more: flagged | sound: flagged | mean τ found |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for row, (name, world, draw) in enumerate(rows):
        if row not in options.rows or (world.model != "2pl" and not options.fits):
            continue
        true_flags, false, tau = [], [], []
        for k in range(options.months):
            rng = np.random.default_rng([options.seed, row, k])
            moved = draw(rng)
            drift = Drift.from_comparison(world.fitted(rng, moved)[0] if options.fits else world.compared(rng, moved))
            moved = moved[np.isin(ids(40), drift.item_ids)]
            flags = np.isin(drift.item_ids, drift.flagged)
            true_flags += list(flags[np.abs(moved) >= 0.4])
            false += list(flags[moved == 0])
            tau.append(drift.tau)
        shares = (
            f"{100 * np.mean(x):.2f} % ± {100 * np.std(x) / np.sqrt(len(x)):.2f}" if x else "–"
            for x in (true_flags, false)
        )
        of = f"| {name} | {world.n} | {world.variation:g} | {options.months} |"
        print(of, " | ".join(shares), f"| {np.mean(tau):.3f} |", flush=True)


COMMANDS = {each.__name__: each for each in (power, sound, many, trend, kinds, varying)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*COMMANDS])
    parser.add_argument("--items", type=int, nargs="*", default=[30, 120])
    parser.add_argument("--n", type=int, nargs="*", default=[500, 1000, 2000, 5000])
    parser.add_argument("--sizes", type=float, nargs="*", default=[0.3, 0.4, 0.5])
    parser.add_argument("--moved", type=int, default=1000, help="moved items in each cell, at least")
    parser.add_argument("--months", type=int, default=200)
    parser.add_argument("--joint", action="store_true", help="the anchors' joint covariance is known, not only errors")
    parser.add_argument("--anchors", type=float, default=1.0, help="share of the items that are anchors")
    parser.add_argument("--fits", action="store_true", help="of `varying`: estimates are fitted to answers")
    parser.add_argument("--rows", type=int, nargs="*", default=range(9), help="of `varying`")
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    options.pairs = [(500, 500), (500, 5000), (1000, 1000), (1000, 2000), (2000, 2000)]
    started = time.perf_counter()
    COMMANDS[options.what](options)
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
