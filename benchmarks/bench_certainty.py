"""Share of true banks in which an assembled form has the information that it promises with a certainty of 95 %.

    python -m benchmarks.bench_certainty --banks 60 --to certainty.csv

Each bank has its own true items, b ~ .6·N(−.6, .7²) + .4·N(1, .5²), and is calibrated (2PL) from the answers of all
learners, θ ~ N(0, 1), to all items. The cases differ in the learners, the number of items, the length of the form, and
the slopes. A form has the largest information at θ = 0, or at least 90 % of the information of the best 20 items by the
estimates (`target`, `shortest`). The file has a row for each bank that is done, and a second call continues it. Prints
the share of banks whose true information reaches the promise and the certainty that the form itself states. `maximum`
is compared with the form by a normal density of slopes (the former method, `EM_STEPS` = 0): the share of banks in which
that form reaches its promise, and the mean of the true information as a share of that form's.

The constants of `item_posterior` were chosen with the banks 0 to 59. Other banks show whether they hold.
"""

from __future__ import annotations

import argparse
import csv
from functools import lru_cache
from pathlib import Path

import numpy as np

import irt_psychometrics as irt
from irt_psychometrics.adaptive import ItemPosterior, item_posterior
from irt_psychometrics.assembly import FormDesign, assemble
from irt_psychometrics.items import ItemParameters

CASES = {
    "300 learners": (300, 100, 20, "uniform"),
    "1,000 learners": (1000, 100, 20, "uniform"),
    "15 of 200 items": (500, 200, 15, "uniform"),
    "3,000 learners": (3000, 100, 20, "uniform"),
    "lognormal slopes": (1000, 100, 20, "lognormal"),
}
"""Learners, items of the bank and of the form, and distribution of the slopes."""
OBJECTIVES = ("maximum", "target", "shortest")
COLUMNS = ("case", "objective", "bank", "reached", "stated", "information", "former", "former_reached")
THETA = (0.0,)


@lru_cache(maxsize=1)
def calibrated_bank(case: str, number: int) -> tuple[ItemParameters, ItemParameters]:
    """True items, and their estimates with joint errors."""
    learners, size, _, slopes = CASES[case]
    rng, ids = np.random.default_rng([74, list(CASES).index(case), number]), [f"i{j}" for j in range(size)]
    a = rng.uniform(0.6, 1.8, size) if slopes == "uniform" else rng.lognormal(0.1, 0.3, size)
    b = np.where(rng.random(size) < 0.6, rng.normal(-0.6, 0.7, size), rng.normal(1, 0.5, size))
    true = ItemParameters.from_frame({"item": ids, "a": a, "b": b})
    right = rng.random((learners, size)) < true.curve(rng.normal(0, 1, learners))
    return true, irt.fit(irt.Responses.from_wide(right.astype(float), ids), "2pl").calibration.items


def assemble_form(items: ItemParameters, objective: str, size: int) -> tuple[tuple[str, ...], float, float]:
    """Return the form, the information that it promises, and the certainty that it states."""
    best = np.sort(items.curves.information(THETA)[0])[::-1][:20].sum()
    target = None if objective == "maximum" else (0.9 * float(best) * size / 20,)
    most = size + 10 if objective != "maximum" else size
    least = size if objective == "maximum" else 1
    design = FormDesign(
        min_items=least, max_items=most, objective=objective, theta=THETA, target=target, certainty=0.95
    )  # type: ignore[arg-type]
    found = assemble(items, design, posterior=ItemPosterior.from_items(items), gap=0.005)
    assert found.reached is not None
    return found.forms[0], found.objective if target is None else target[0], float(found.reached[0])


def run_bank(case: str, objective: str, number: int) -> tuple[float, ...]:
    true, items = calibrated_bank(case, number)
    at = dict(zip(items.item_ids, true.curves.information(THETA)[0].tolist(), strict=True))
    steps, size = item_posterior.EM_STEPS, CASES[case][2]
    form, promised, stated = assemble_form(items, objective, size)
    item_posterior.EM_STEPS = 0
    former, before, _ = assemble_form(items, objective, size) if objective == "maximum" else ((), np.nan, 0.0)
    item_posterior.EM_STEPS = steps
    real, of_former = (sum(at[item] for item in ids) for ids in (form, former))
    return float(real >= promised), stated, real, of_former, float(of_former >= before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--banks", type=int, default=60)
    parser.add_argument("--first", type=int, default=1000, help="Number of the first bank.")
    parser.add_argument("--to", type=Path, default=Path("certainty.csv"))
    parser.add_argument("--objectives", nargs="+", default=OBJECTIVES, choices=OBJECTIVES)
    given = parser.parse_args()
    if not given.to.exists():
        given.to.write_text(",".join(COLUMNS) + "\n")
    done = {(row["case"], row["objective"], int(row["bank"])) for row in csv.DictReader(given.to.open())}
    for number in range(given.first, given.first + given.banks):
        for case in CASES:
            for objective in given.objectives:
                if (case, objective, number) not in done:
                    with given.to.open("a", newline="") as file:
                        csv.writer(file).writerow((case, objective, number, *run_bank(case, objective, number)))
    rows = list(csv.DictReader(given.to.open()))
    print("| case | objective | banks | reached | former | stated | information |\n|:--|:--|--:|--:|--:|--:|--:|")
    for case in CASES:
        for objective in given.objectives:
            own = [row for row in rows if (row["case"], row["objective"]) == (case, objective)]
            reached, stated, real, former, before = np.array([[float(row[x]) for x in COLUMNS[3:]] for row in own]).T
            shares = [f"{x.mean():.0%} ± {x.std() / np.sqrt(len(x)):.0%}" for x in (reached, before)]
            cells = [
                case,
                objective,
                str(len(own)),
                *shares,
                f"{stated.mean():.1%}",
                f"{real.sum() / former.sum():.3f}",
            ]
            print("|", " | ".join(cells if objective == "maximum" else [*cells[:4], "", cells[5], ""]), "|")


if __name__ == "__main__":
    main()
