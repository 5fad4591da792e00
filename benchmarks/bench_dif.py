"""False alarms and power of the DIF tests, compared with an oracle that knows the items without DIF.

    python -m benchmarks.bench_dif sound --tests 6000     # share of p below 0.05, 0.01; months with a flag
    python -m benchmarks.bench_dif power --items 400      # by size, direction and share of items with DIF
    python -m benchmarks.bench_dif errors --tests 2000    # how often 95 % intervals cover the difference
    python -m benchmarks.bench_dif sparse --tests 6000    # by answers to an item; each learner sees half of them
    python -m benchmarks.bench_dif models --tests 7200    # sound items of other models, and of skewed groups
    python -m benchmarks.bench_dif cost                   # processor time of months of three attributes

30 items, a ~ LogNormal(0, 0.3), b ~ N(0, 1), all on one form; the reference group is N(0, 1). The oracle is the same
test with the items that truly have no DIF as anchors. Monte Carlo errors of a share are √(share(1 − share)/tests).
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from irt_psychometrics.core.arrays import Mask
from irt_psychometrics.core.options import Latent, Model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.dif.analysis import Dif
from irt_psychometrics.dif.split_items import Copies, Groups
from irt_psychometrics.dif.wald import Wald, compare_groups

ITEMS = 30
IDS = tuple(f"i{j:02d}" for j in range(ITEMS))


def bank(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return np.exp(rng.normal(0, 0.3, ITEMS)), rng.normal(0, 1, ITEMS)


def answers(rng: np.random.Generator, n: int, a: np.ndarray, b: np.ndarray, mean: float, sd: float) -> np.ndarray:
    theta = rng.normal(mean, sd, (n, 1))
    return (rng.random((n, ITEMS)) < 1 / (1 + np.exp(-a * (theta - b)))).astype(float)


def analyse(groups: list[np.ndarray]) -> Dif:
    responses = Responses.from_wide(np.vstack(groups), IDS)
    values = [f"g{g}" for g, x in enumerate(groups) for _ in x]
    return Dif.from_responses("group", responses, values, forms=["form"] * responses.n_responses, threads=1)


def sound(rng: np.random.Generator, tests: int) -> None:
    """Groups without DIF. Mantel-Haenszel and logistic regression use the first focal group."""
    print("| learners a group | focal groups | months | p < 0.05 | p < 0.01 | with a flag | MH p < 0.05 | MH B or C "
          "| logistic p < 0.05 | logistic B or C |\n|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|")  # fmt: skip
    several = [(-0.5, 1.0), (0.5, 1.2), (1.0, 0.8)]
    differences: list[tuple[int, list[tuple[float, float]]]] = [
        *((n, [(mean, 1.0)]) for n in (250, 500, 1000, 3000) for mean in (-1.0, 1.0)),
        (1000, [(0.0, 1.0)]),
        (500, several),
        (2000, several),
    ]
    for n, focal in differences:
        months = -(-tests // ITEMS)
        p, flags, mh, logistic = [], [], [], []
        for _ in range(months):
            a, b = bank(rng)
            analysis = analyse([answers(rng, n + (g == 0), a, b, *at) for g, at in enumerate([(0.0, 1.0), *focal])])
            assert analysis.wald is not None
            assert analysis.within_forms is not None
            p.append(analysis.wald.p)
            flags.append(bool(analysis.wald.flagged))
            mh += [(m.p < 0.05, m.ets_class != "A") for m in analysis.within_forms.mantel_haenszel[0] if m]
            logistic += [(x.p < 0.05, x.size != "A") for x in analysis.within_forms.logistic[0] if x]
        q = np.array(p)
        groups = ", ".join(f"N({mean:g}, {sd:g}²)" for mean, sd in focal)
        shares = " | ".join(f"{100 * share:.1f}%" for x in (mh, logistic) for share in np.mean(x, axis=0))
        print(f"| {n} | {groups} | {months} | {100 * np.nanmean(q < 0.05):.2f}% | {100 * np.nanmean(q < 0.01):.2f}% "
              f"| {100 * np.mean(flags):.1f}% | {shares} |", flush=True)  # fmt: skip


class Oracle(Groups):
    """Groups whose items without DIF are known: all items after the first `moved`."""

    moved = 0

    def fit_separately(self) -> tuple[Mask, Copies]:
        _, near = super().fit_separately()
        return np.arange(self.responses.n_items) >= self.moved, near


def wald_tests(groups: list[np.ndarray], moved: int | None = None) -> Wald:
    """Wald tests without a minimum number of answers. If `moved` is given, the items without DIF are the anchors."""
    responses = Responses.from_wide(np.vstack(groups))
    member = np.repeat(np.arange(len(groups)), [len(x) for x in groups])
    names, answered = [f"g{g}" for g in range(len(groups))], np.ones((len(groups), responses.n_items), dtype=bool)
    Oracle.moved = moved or 0
    model_class = Groups if moved is None else Oracle
    return compare_groups(
        model_class.from_responses(responses, names, member, answered, models=("2pl",), latent="normal", threads=1)
    )


def models(rng: np.random.Generator, tests: int) -> None:
    """A reference group with mean 0 and a focal group with mean −1.

    In skewed groups, θ is a gamma variable of shape 4.
    """
    print("| model | c | θ | learners | tests | p < 0.05 | p < 0.01 | with a flag |\n|---|---|---|---|--:|--:|--:|--:|")
    designs: list[tuple[Model, float, Latent, tuple[int, int]]] = [
        ("rasch", 0.0, "normal", (1000, 1000)),
        ("1pl", 0.0, "normal", (1000, 1000)),
        ("3pl", 0.2, "normal", (1000, 1000)),
        ("2pl", 0.0, "histogram", (2000, 2000)),
        ("2pl", 0.0, "histogram", (2000, 400)),
    ]
    for model, c, latent, sizes in designs:
        p, flags = [], []
        for _ in range(-(-tests // ITEMS)):
            a, b = bank(rng)
            a = a if model in ("2pl", "3pl") else np.ones(ITEMS)
            x = []
            for g, n in enumerate(sizes):
                theta = rng.normal(size=(n, 1)) if latent == "normal" else (rng.gamma(4, 1, (n, 1)) - 4) / 2
                x.append(rng.random((n, ITEMS)) < c + (1 - c) / (1 + np.exp(-a * (theta - g - b))))
            responses = Responses.from_wide(np.vstack(x).astype(float), IDS)
            values = np.repeat(["g0", "g1"], sizes).tolist()
            wald = Dif.from_responses("group", responses, values, model=model, latent=latent, threads=1).wald
            assert wald is not None
            p.append(wald.p)
            flags.append(bool(wald.flagged))
        q = np.concatenate(p)
        q = q[np.isfinite(q)]
        print(f"| {model} | {c} | {'normal' if latent == 'normal' else 'skewed'} | {sizes[0]}, {sizes[1]} | {q.size} "
              f"| {100 * np.mean(q < 0.05):.2f}% | {100 * np.mean(q < 0.01):.2f}% | {100 * np.mean(flags):.1f}% |",
              flush=True)  # fmt: skip


def cost(rng: np.random.Generator) -> None:
    """5000 learners and 100 items, complete or on five forms of 40 items; attributes with 2, 3 and 2 groups."""
    print("| design | θ | seconds of processor time | without what forms say |\n|---|---|--:|--:|")
    n, n_items = 5000, 100
    attributes = [rng.choice(list("ab"), n, p=[0.6, 0.4]), rng.choice(list("abc"), n, p=[0.5, 0.3, 0.2]),
                  rng.choice(list("ab"), n, p=[0.7, 0.3])]  # fmt: skip
    theta = rng.normal(size=n) - (attributes[0] == "b")
    a, b = np.exp(rng.normal(0, 0.3, n_items)), rng.normal(0, 1, n_items)
    whole = (rng.random((n, n_items)) < 1 / (1 + np.exp(-a * (theta[:, None] - b)))).astype(float)
    form = rng.integers(0, 5, n)
    designs: list[tuple[str, Latent]] = [("100 of 100", "normal"), ("40 of 100", "normal"), ("40 of 100", "histogram")]
    for design, latent in designs:
        seen = (np.arange(n_items) - 20 * form[:, None]) % n_items < (40 if design.startswith("40") else n_items)
        responses = Responses.from_wide(np.where(seen, whole, np.nan))
        taken = [f"f{form[i]}" for i in responses.person]
        seconds = []
        for forms in (taken, None):
            began = time.process_time()
            for values in attributes:
                Dif.from_responses("group", responses, values.tolist(), forms=forms, latent=latent, threads=1)
            seconds.append(time.process_time() - began)
        print(f"| {design} | {latent} | {seconds[0]:.2f} | {seconds[1]:.2f} |", flush=True)


def power(rng: np.random.Generator, items: int) -> None:
    """Items that are harder for the focal group N(−1, 1), flagged if q < 0.05 as in the platform."""
    print("| learners a group | harder by | items with DIF | of | oracle | found | ratio | sound flagged |"
          "\n|--:|--:|--:|--:|--:|--:|--:|--:|")  # fmt: skip
    for moved, one_way in ((3, False), (6, True)):
        for n in (500, 1000, 2000, 3000):
            for size in (0.3, 0.5):
                hits, oracle, false, total = 0, 0, 0, 0
                months = -(-items // moved)
                for _ in range(months):
                    a, b = bank(rng)
                    sign = np.ones(ITEMS) if one_way else rng.choice([-1, 1], ITEMS)
                    dif = np.where(np.arange(ITEMS) < moved, size * sign, 0.0)
                    groups = [answers(rng, n, a, b, 0.0, 1.0), answers(rng, n, a, b + dif, -1.0, 1.0)]
                    flagged, flagged_by_oracle = wald_tests(groups).q < 0.05, wald_tests(groups, moved).q < 0.05
                    hits, oracle = hits + int(flagged[:moved].sum()), oracle + int(flagged_by_oracle[:moved].sum())
                    false += int(flagged[moved:].sum())
                    total += moved
                sound_items = months * (ITEMS - moved)
                print(f"| {n} | {size} | {moved} of {ITEMS}, {'one way' if one_way else 'both ways'} | {total} "
                      f"| {oracle / total:.3f} | {hits / total:.3f} | {hits / max(oracle, 1):.2f} "
                      f"| {100 * false / sound_items:.2f}% |", flush=True)  # fmt: skip


def sparse(rng: np.random.Generator, tests: int) -> None:
    """60 sound items, of which every learner answers a random half; groups are 1 SD apart.

    Fitted without the platform's minimum number of answers, which this table justifies.
    """
    print("| answers a group and item | months | p < 0.05 | p < 0.01 | with a flag |\n|--:|--:|--:|--:|--:|")
    n_items = 2 * ITEMS
    for n in (100, 150, 200, 400):
        months, p, flags = -(-tests // n_items), [], []
        for _ in range(months):
            a, b = np.exp(rng.normal(0, 0.3, n_items)), rng.normal(0, 1, n_items)
            groups = []
            for mean in (0.0, -1.0):
                theta = rng.normal(mean, 1.0, (2 * n, 1))
                x = (rng.random((2 * n, n_items)) < 1 / (1 + np.exp(-a * (theta - b)))).astype(float)
                unseen = np.argsort(rng.random(x.shape), axis=1) < ITEMS
                x[unseen] = np.nan
                groups.append(x)
            wald = wald_tests(groups)
            p.append(wald.p)
            flags.append(bool(wald.flagged))
        q = np.array(p)
        print(f"| {n} | {months} | {100 * np.nanmean(q < 0.05):.2f}% | {100 * np.nanmean(q < 0.01):.2f}% "
              f"| {100 * np.mean(flags):.1f}% |", flush=True)  # fmt: skip


def errors(rng: np.random.Generator, tests: int) -> None:
    """Items with DIF differ by ±0.6 in b and by a factor LogNormal(0, 0.2) in a."""
    print("| learners | focal groups | ln a, b | with DIF | items | Δb stated | of all | of those with DIF | a | score "
          "| Δb beyond its test |\n|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")  # fmt: skip
    alike, narrow = [(0.0, 1.0)], (0.3, 1.0)
    designs: list[tuple[tuple[int, ...], list[tuple[float, float]], tuple[float, float], int]] = [
        ((1000, 1000), alike, narrow, 0),
        ((1000, 1000), [(-1.0, 1.0)], narrow, 0),
        ((2000, 300), [(-1.0, 1.0)], narrow, 0),
        ((250, 250), [(1.0, 1.0)], narrow, 0),
        ((1000, 1000), [(-1.0, 1.0)], narrow, 6),
        ((2000, 300), [(-1.0, 1.0)], narrow, 6),
        ((1000, 500, 500), [(-0.5, 1.0), (0.5, 1.2)], narrow, 4),
        ((1000, 400), [(-1.0, 1.0)], (0.5, 1.5), 4),
    ]
    for sizes, focal, (sd_a, sd_b), moved in designs:
        rows = []
        while len(rows) * ITEMS * len(focal) < tests:
            a, b = np.exp(rng.normal(0, sd_a, ITEMS)), rng.normal(0, sd_b, ITEMS)
            true = [(a, b)]
            for _ in focal:
                has = np.arange(ITEMS) < moved
                steeper, harder = np.exp(rng.normal(0, 0.2, ITEMS)), 0.6 * rng.choice([-1, 1], ITEMS)
                true.append((np.where(has, a * steeper, a), np.where(has, b + harder, b)))
            learners = zip(sizes, true, [(0.0, 1.0), *focal], strict=True)
            rows.append(
                coverage(wald_tests([answers(rng, n, *items, *at) for n, items, at in learners]), true, focal, sizes)
            )
        stated, dif, in_b, in_a, in_score, beyond = np.concatenate(rows, axis=1).astype(bool)
        shares = [stated.mean(), in_b[stated].mean(), in_b[stated & dif].mean() if moved else np.nan, in_a.mean(),
                  in_score.mean(), beyond.mean()]  # fmt: skip
        groups = ", ".join(f"N({mean:g}, {sd:g}²)" for mean, sd in focal)
        cells = " | ".join(f"{100 * share:.1f}%" for share in shares).replace("nan%", "–")
        print(f"| {', '.join(map(str, sizes))} | {groups} | {sd_a:g}, {sd_b:g} | {moved} of {ITEMS} | {len(stated)} "
              f"| {cells} |", flush=True)  # fmt: skip


def coverage(
    wald: Wald, true: list[tuple[np.ndarray, np.ndarray]], focal: list[tuple[float, float]], sizes: tuple[int, ...]
) -> np.ndarray:
    """Table with a column for each item estimated in both groups.

    Rows: whether Δb is stated; whether the item has DIF; whether the intervals of Δb, Δa and the score contain the
    truth; whether |z| of Δb exceeds 1.96 although the test gives p > 0.2.
    """
    nodes = np.linspace(-6, 6, 241)
    weights = np.exp(-(nodes**2) / 2) / np.exp(-(nodes**2) / 2).sum()
    out, (a, b) = [], true[0]
    for f, (mean, sd) in enumerate(focal):
        share, (a_focal, b_focal) = sizes[1 + f] / (sizes[0] + sizes[1 + f]), true[1 + f]
        wide = np.sqrt(1 - share + share * sd**2 + share * (1 - share) * mean**2)
        theta = (share * mean + wide * nodes)[:, None]
        score = weights @ (1 / (1 + np.exp(-a_focal * (theta - b_focal))) - 1 / (1 + np.exp(-a * (theta - b))))
        off = np.abs(wald.delta[f] - np.stack([a_focal - a, b_focal - b], axis=1)) < 1.96 * wald.se[f]
        stated = np.isfinite(wald.se[f, :, 1])
        certain = np.abs(wald.delta[f, :, 1]) > 1.96 * wald.se[f, :, 1]
        in_score = np.abs(wald.shift[f] - score) < 1.96 * wald.shift_se[f]
        rows = np.stack([stated, b_focal != b, off[:, 1], off[:, 0], in_score, certain & (wald.p > 0.2)])
        out.append(rows[:, np.isfinite(wald.shift_se[f])])
    return np.concatenate(out, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("sound", "power", "sparse", "errors", "models", "cost"))
    parser.add_argument("--tests", type=int, default=6000)
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = np.random.default_rng([arguments.seed, len(arguments.what)])
    if arguments.what == "power":
        power(rng, arguments.items)
    elif arguments.what == "cost":
        cost(rng)
    else:
        {"sound": sound, "sparse": sparse, "errors": errors, "models": models}[arguments.what](rng, arguments.tests)


if __name__ == "__main__":
    main()
