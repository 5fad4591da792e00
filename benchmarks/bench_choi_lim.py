"""Precision and exposure of tests of discrete items and sets, beside Choi & Lim (2021), study 1, design `ds`.

    python -m benchmarks.bench_choi_lim FOLDER [--content priority] [--learners 5000] [--variants 1]

FOLDER has itempool_mixed.csv, itemattrib_mixed.csv and stimattrib_mixed.csv of SangdonLim/mix_setbased_discrete (599
items, 205 of them discrete), and rep1_true_theta.csv … of their replications. Tests have 10 discrete items and 4 sets
of 5 items, within 28 limits. Their program chooses any 5 items of a set in each shadow test and gives discrete items
first; ours has `--variants` fixed testlets of 5 items for each set and gives units in the order of their value.

Published, mean (SD) of 100 replications: RMSE .3124 (.0034), items above .25 7.2 % without control; .3270 (.0034) and
4.1 % with big-M eligibility at .25.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from irt_psychometrics.adaptive import AdaptiveTest, ItemLimit, simulate_tests
from irt_psychometrics.items import ItemParameters, ItemRow

MOST, POOL = 0.25, 599
CELLS = (  # TESTINGLEVEL2, ITEMTYPE, limits in sets, limits of discrete items
    ({2}, "MC", (1, 2), (1, 1)),
    ({4}, "MC", (1, 2), (1, 1)),
    ({1, 3, 5, 6, 7}, "MC", (3, 6), (2, 3)),
    ({2, 4}, "CR", (2, 2), (1, 1)),
    ({9}, "MC", (1, 2), (1, 1)),
    ({11}, "MC", (1, 2), (1, 1)),
    ({8, 10, 12, 13, 14}, "MC", (3, 6), (2, 3)),
    ({9, 11}, "CR", (2, 2), (1, 1)),
)


def read_pool(folder: Path, variants: int) -> tuple[ItemParameters, tuple[ItemLimit, ...], tuple[tuple[str, ...], ...]]:
    """The items with their limits and testlets. An item of a set has a copy `id/variant` in each of its testlets."""
    pool = pl.read_csv(folder / "itempool_mixed.csv", null_values="NA", infer_schema_length=None)
    facts = pl.read_csv(folder / "itemattrib_mixed.csv", null_values="NA", infer_schema_length=None)
    rows = []
    for own in pool.iter_rows(named=True):
        values = [own[f"IRTPARM0{k}"] for k in (1, 2, 3)]
        if own["IRTMODEL"] == "3PL":
            rows.append(ItemRow(*values))
        else:
            found = ItemRow.parameters_of({"a": values[0], "b1": values[1], "b2": values[2]})
            rows.append(ItemRow(found.pop("a"), found.pop("b"), further=found))
    ids = [str(item) for item in pool["ID"]]
    known = ItemParameters.from_rows(ids, rows)
    fact = {str(own["ID"]): own for own in facts.iter_rows(named=True)}
    sets: dict[str, list[int]] = {}
    for j, item in enumerate(ids):
        if not fact[item]["IS_DISC"]:
            sets.setdefault(str(fact[item]["STID"]), []).append(j)
    testlets = []
    for at in np.linspace(-1.2, 1.2, variants) if variants > 1 else [0.0]:
        information = known.curves.information(at + np.linspace(-1, 1, 5)).mean(axis=0)
        own = [sorted(members, key=lambda j: -information[j])[:5] for members in sets.values()]
        testlets += [tuple(f"{ids[j]}/{at:g}" for j in five) for five in own]
    names = [item for item in ids if fact[item]["IS_DISC"]] + [name for own in testlets for name in own]
    bases = [name.split("/")[0] for name in names]
    places = {item: j for j, item in enumerate(ids)}
    items = ItemParameters.from_rows(names, [rows[places[base]] for base in bases])

    def limit(name: str, least: int, most: int, condition) -> ItemLimit:  # type: ignore[no-untyped-def]
        chosen = tuple(own for own, base in zip(names, bases, strict=True) if condition(fact[base]))
        return ItemLimit(name, chosen, least, most)

    limits = [limit("discrete", 10, 10, lambda f: f["IS_DISC"]), limit("sets", 20, 20, lambda f: not f["IS_DISC"])]
    for discrete, n, dok in ((1, 5, (5, 10)), (0, 10, (10, 20))):
        own = [f for f in fact.values() if f["IS_DISC"] == discrete]
        for content in (1, 2):
            chosen = {str(f["ID"]) for f in own if f["CONTENTCAT"] == content}
            limits.append(limit(f"content {content}", n, n, lambda f, chosen=chosen: str(f["ID"]) in chosen))
        for levels, kind, *ends in CELLS:
            chosen = {str(f["ID"]) for f in own if f["TESTINGLEVEL2"] in levels and f["ITEMTYPE"] == kind}
            name = f"{kind} {sorted(levels)}"
            limits.append(limit(name, *ends[discrete], lambda f, chosen=chosen: str(f["ID"]) in chosen))
        chosen = {str(f["ID"]) for f in own if f["DOKLEVELCODE"] == 2}
        limits.append(limit("depth 2", *dok, lambda f, chosen=chosen: str(f["ID"]) in chosen))
    if variants > 1:
        for stimulus, members in sets.items():
            chosen = {ids[j] for j in members}
            limits.append(limit(f"set {stimulus}", 0, 5, lambda f, chosen=chosen: str(f["ID"]) in chosen))
    return items, tuple(limits), tuple(testlets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--content", default="priority", choices=("priority", "shadow"))
    parser.add_argument("--learners", type=int, default=5000)
    parser.add_argument("--variants", type=int, default=1)
    parser.add_argument("--replications", type=int, default=3)
    given = parser.parse_args()
    items, limits, testlets = read_pool(given.folder, given.variants)
    bases = np.unique([name.split("/")[0] for name in items.item_ids], return_inverse=True)[1]
    for most in (None, MOST):
        test = AdaptiveTest(
            min_items=30, max_items=30, limits=limits, testlets=testlets, content=given.content, max_exposure=most
        )
        for rep in range(1, given.replications + 1):
            theta = pl.read_csv(given.folder / f"rep{rep}_true_theta.csv").to_numpy()[:, -1].astype(float)
            found = simulate_tests(items, test, theta[: given.learners], random_state=rep, mean=0, sd=1)
            exposure = np.zeros(POOL)
            exposure[: bases.max() + 1] = np.bincount(bases, found.exposure)
            print(
                f"{'eligibility' if most else 'no control'}, replication {rep}, seed {rep}: RMSE {found.rmse:.4f}, "
                f"above {MOST} {np.mean(exposure > MOST):.2%}, SD {exposure.std(ddof=1):.4f}, "
                f"limits met {found.limits_met.min():.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
