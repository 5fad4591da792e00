"""Standard errors of IRT equating after a link, against the spread of the equivalents over simulated data sets.

    python -m benchmarks.bench_irt_equating --model 2pl --sets 400 --store build/irt-equating [--draw-c]

Two forms of 20 items with 10 in common, a ~ LogNormal(.1, .25), b ~ N(0, 1), and c = .2 under a 3PL. With `--draw-c`
each set has c of its own, drawn from the prior that a fit assumes: logit c ~ N(ln .25, .5²). The old form is
answered by learners θ ~ N(0, 1), the new form by others ~ N(.3, 1.1²). Both are fitted, and the new fit is linked to
the old one through the common items. The errors are compared in three ways:

- `link`: `equate_by_items` with `ScaleLink.joint_cov`
- `platform`: published values of one scale, with the errors that items of a fit share
- `independent`: forms and link counted as independent, as a warning

SE : SD is the root mean square of the standard errors divided by the SD over the sets, and its mean over raw scores
between the 5th and the 95th percentile of the new form. Each set has a seed of its own. Finished sets are read from the
folder `--store`, so an interrupted run continues.
"""

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import irt_psychometrics as irt
from irt_assets.scores.equating import joint_covariance
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.equating import Equating, equate_by_items
from irt_psychometrics.scoring import ParameterErrors
from irt_psychometrics.scoring.form_scores import covariance_of_forms

ITEMS, COMMON, MEAN, SD = 20, 10, 0.3, 1.1
METHODS = ("true-score", "observed-score")
POPULATION: dict[str, Any] = {"mean": 0.0, "sd": 1.0}
"""Population of each form, on the scale of the fit of this form."""
ROWS = (
    *((way, method) for way in ("link", "platform") for method in METHODS),
    ("independent", "true-score"),
)


class World:
    """Two forms with known items, and the true equivalents."""

    def __init__(self, model: str, seed: int) -> None:
        rng = np.random.default_rng(seed)
        n = 2 * ITEMS - COMMON
        self.model, names = model, [f"q{k:02}" for k in range(n)]
        values = {"a": rng.lognormal(0.1, 0.25, n), "b": rng.normal(0, 1, n), "c": [0.2 * (model == "3pl")] * n}
        self.bank = irt.ItemParameters.from_frame({"item": names, **values})
        self.old, self.new = names[:ITEMS], names[ITEMS - COMMON :]
        theta = rng.normal(MEAN, SD, 20_000)
        scores = (rng.random((theta.size, ITEMS)) < self.bank.select(self.new).curve(theta)).sum(axis=1)
        self.compared = slice(int(np.percentile(scores, 5)), int(np.percentile(scores, 95)) + 1)

    def truth(self, bank: irt.ItemParameters) -> Floats:
        """True equivalents, shape (rows, K + 1)."""
        old, new = bank.select(self.old), bank.select(self.new)
        on_new_scale = new.rescaled(1 / SD, -MEAN / SD)
        by_link = [
            equate_by_items(on_new_scale, old, method=method, slope=SD, intercept=MEAN, **POPULATION).equated
            for method in METHODS
        ]
        by_values = [equate_by_items(new, old, method=method, **POPULATION).equated for method in METHODS]
        return np.array([*by_link, *by_values, by_link[0]])

    def equated(self, learners: int, seed: int, k: int, draw_c: bool) -> Floats:
        """Errors of the equivalents in the k-th data set, and their standard errors, shape (rows, 2, K + 1)."""
        rng, bank = np.random.default_rng([seed, k]), self.bank
        if draw_c:
            logit = np.log(0.25) + 0.5 * np.random.default_rng([77, k]).standard_normal(len(bank.a))
            bank = replace(bank, c=1 / (1 + np.exp(-logit)))
        x, y = (
            irt.simulate_responses(bank.select(names), rng.normal(mean, sd, learners), random_state=rng)
            for names, mean, sd in ((self.old, 0.0, 1.0), (self.new, MEAN, SD))
        )
        old, new = (irt.fit(answers, self.model, threads=1) for answers in (x, y))
        link, month = irt.link(new, old), new
        if self.model == "3pl":  # a month's fit takes c of published items as known
            c = old.calibration.items.select(self.old[-COMMON:]).c.tolist()
            month = irt.fit(y, self.model, threads=1, guessing=dict(zip(self.old[-COMMON:], c, strict=True)))
        found = [*self._by_link(new, old, link), *self._by_published_values(old, irt.link(month, old))]
        forms = new.calibration.items.select(self.new), old.calibration.items.select(self.old)
        apart = np.pad(covariance_of_forms(forms), (0, 2))
        apart[-2:, -2:] = link.linking.cov
        found.append(equate_by_items(*forms, slope=link.slope, intercept=link.intercept, joint_cov=apart))
        truth = self.truth(bank)
        return np.array([[one.equated - true, one.se] for one, true in zip(found, truth, strict=True)])

    def _by_link(self, new: irt.Fit, old: irt.Fit, link: irt.ScaleLink) -> Iterator[Equating]:
        forms = new.calibration.items.select(self.new), old.calibration.items.select(self.old)
        cov = link.joint_cov(*forms)
        for method in METHODS:
            yield equate_by_items(
                *forms, method=method, slope=link.slope, intercept=link.intercept, joint_cov=cov, **POPULATION
            )

    def _by_published_values(self, old: irt.Fit, link: irt.ScaleLink) -> Iterator[Equating]:
        """Equate by the values that a scale publishes: of the old fit, and of the new items of the linked fit."""
        origin, month = old.calibration, link.fit.calibration
        first = origin.items
        added = month.items.select(self.new[COMMON:])
        further = [np.zeros((len(x.a), x.n_further, 2 + x.n_further)) if x.further_cov is None else x.further_cov
                   for x in (first, added)]  # fmt: skip
        items = irt.ItemParameters(
            (*first.item_ids, *added.item_ids),
            *(np.concatenate([getattr(first, name), getattr(added, name)]) for name in "abc"),
            np.concatenate([first.cov_of_each, added.cov_of_each]),
            np.concatenate(further),
        )
        common = [ParameterErrors.common_to(fit) for fit in (origin, month)]
        errors = ParameterErrors(items, np.repeat([0, 1], [len(first.a), len(added.a)]), common, common[0])
        cov = np.pad(joint_covariance(errors, (self.new, self.old)), (0, 2))
        for method in METHODS:
            yield equate_by_items(
                items.select(self.new), items.select(self.old), method=method, joint_cov=cov, **POPULATION
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("2pl", "3pl"), default="2pl")
    parser.add_argument("--sets", type=int, default=400)
    parser.add_argument("--learners", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--draw-c", action="store_true")
    parser.add_argument("--store", type=Path, default=Path("build/irt-equating"))
    options = parser.parse_args()
    world, sets = World(options.model, options.seed), []
    drawn = "-drawn" * options.draw_c
    folder = options.store / f"{options.model}-{options.learners}-{options.seed}{drawn}"
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(options.sets):
        path = folder / f"{k}.npy"
        if not path.exists():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of items whose c the answers hardly determine
                np.save(path, world.equated(options.learners, options.seed, k, options.draw_c))
        sets.append(np.load(path))
    known = np.array([one for one in sets if np.isfinite(one).all()])  # a fit with a parameter at a bound has no errors
    errors, se = np.moveaxis(known, 2, 0)[:, :, :, world.compared]
    print("| model | errors | method | sets | SE : SD | ± | lowest and highest of a score | coverage | bias : SD |")
    print("|---|---|---|--:|--:|--:|--:|--:|--:|")
    for j, (way, method) in enumerate(ROWS):
        off, error = errors[:, j], se[:, j]
        sd = off.std(axis=0, ddof=1)
        ratio = np.sqrt((error**2).mean(axis=0)) / sd
        print(
            f"| {options.model} | {way} | {method} | {len(off)} | {ratio.mean():.3f} | {(2 * len(off)) ** -0.5:.3f} |"
            f" {ratio.min():.2f} … {ratio.max():.2f} | {(np.abs(off) < 1.96 * error).mean():.1%} |"
            f" {np.abs(off.mean(axis=0) / sd).mean():.2f} |"
        )


if __name__ == "__main__":
    main()
