"""Type I error rates of the fit statistics under a planned-missing design.

    python -m benchmarks.bench_type1 --sets 400 --persons 1500 --length 30 --model 2pl
    python -m benchmarks.bench_type1 --sets 100 --persons 1500 --length 20 --model gpcm

Each set is simulated from the model (θ ~ N(0, 1), a ~ LogNormal(0, 0.3), b ~ N(0, 1), c = 0.2 under a 3PL): three
forms of `length` items out of twice as many, a third of the learners on each, neighbouring forms overlapping by half.
Items of a GPCM are scored 0 … 3, 0 … 2, 0 and 2, and 0 and 1 in turn (`ScoredItems`); with `--graded` their answers
follow the graded response model. Item parameters are estimated from the set itself, as in practice. Prints a Markdown
table of the rejections at nominal 5 %, 1 % and 0.1 %, at 5 % with the Monte Carlo error (over sets, because items
depend on each other). Parallel analysis is by far the slowest: `--parallel 0` leaves it out, `--parallel 200` runs it
on the first 200 sets.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy.stats import norm

from irt_psychometrics.core.options import Model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.itemfit import item_statistics
from irt_psychometrics.itemfit.dependence import local_dependence, parallel_analysis
from irt_psychometrics.itemfit.m2 import form_fit
from irt_psychometrics.itemfit.measure import Measure
from irt_psychometrics.itemfit.person_patterns import person_fit
from irt_psychometrics.itemfit.sum_score_fit import sum_score_fit
from irt_psychometrics.simulation.scored_items import ScoredItems
from psychometrics_testbed.graded import GradedItems

LEVELS = (0.05, 0.01, 0.001)
REPLICATIONS = 39
"""Replications of a parallel analysis, with which 5 % is an exact level."""


KINDS = ((0, 1, 2, 3), (0, 1, 2), (0, 2), (0, 1))


def simulate(rng: np.random.Generator, persons: int, length: int, model: Model, *, graded: bool = False) -> Responses:
    items = 2 * length
    if model == "gpcm":
        scores = [KINDS[j % len(KINDS)] for j in range(items)]
        a, b = np.exp(rng.normal(0, 0.3, items)), rng.normal(0, 1, items)
        scored_items = (GradedItems if graded else ScoredItems).draw(rng, scores, a, b)
        answers = design(scored_items.matrix(rng, rng.normal(size=persons)), length)
        return Responses.from_wide(answers, categories=scored_items.max_scores[: answers.shape[1]] + 1)
    a = np.exp(rng.normal(0, 0.3, items)) if model in ("2pl", "3pl") else np.ones(items)
    c = 0.2 if model == "3pl" else 0.0
    b = rng.normal(0, 1, items)
    theta = rng.normal(size=(persons, 1))
    x = (rng.random((persons, items)) < c + (1 - c) / (1 + np.exp(-a * (theta - b)))).astype(float)
    return Responses.from_wide(design(x, length))


def design(x: np.ndarray, length: int) -> np.ndarray:
    """Answers `x` with NaN for items outside each learner's form."""
    persons, items = x.shape
    first = (np.arange(persons) % 3) * (length // 2)
    position = np.arange(items)
    x[(position < first[:, None]) | (position >= first[:, None] + length)] = np.nan
    return x[:, position < length + 2 * (length // 2)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--persons", type=int, default=1500)
    parser.add_argument("--length", type=int, default=30)
    parser.add_argument("--model", choices=["rasch", "1pl", "2pl", "3pl", "gpcm"], default="2pl")
    parser.add_argument("--graded", action="store_true", help="answers to scored items that the model does not fit")
    parser.add_argument("--parallel", type=int, default=20, help="sets that parallel analysis is run on")
    parser.add_argument("--only", nargs="*", choices=["items", "s-x2", "persons", "sets", "pairs"])
    parser.add_argument(
        "--simulated", type=int, default=item_statistics.SIMULATED_RESPONSES, help="answers behind item_fit"
    )
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    item_statistics.SIMULATED_RESPONSES = options.simulated
    kinds = set(options.only or ["items", "s-x2", "persons", "sets", "pairs"])
    p: dict[str, list[np.ndarray]] = {}
    pairs = flagged = unconverged = 0
    started = time.perf_counter()
    for number in range(options.sets):
        rng = np.random.default_rng([options.seed, number])
        responses = simulate(rng, options.persons, options.length, options.model, graded=options.graded)
        fit = fit_em(responses, model=options.model)
        if not fit.convergence.converged:
            unconverged += 1
            continue
        p_values: dict[str, np.ndarray] = {}
        if "items" in kinds:
            item = item_statistics.item_fit(responses, fit, random_state=number)
            infit, outfit = (2 * norm.sf(np.abs(z)) for z in (item.infit_z, item.outfit_z))
            p_values |= {"infit": infit, "outfit": outfit, "RMSD": item.rmsd_p}
        if "s-x2" in kinds:
            p_values["S-X²"] = sum_score_fit(responses, fit).p
        if "persons" in kinds:
            p_values["lz* (lower tail)"] = person_fit(responses, fit).p
        if "sets" in kinds:
            p_values["M₂ (a form)"] = np.array([form.p for form in form_fit(responses, fit)])
        if "pairs" in kinds:
            dependence = local_dependence(responses, fit)
            pairs += int(np.triu(dependence.n >= Measure.MIN_PERSONS_OF_PAIR, 1).sum())
            flagged += len(dependence.flagged)
        if number < options.parallel:
            analysis = parallel_analysis(responses, fit, replications=REPLICATIONS, random_state=number)
            p_values["parallel analysis"] = np.array([analysis.p])
        for name, values in p_values.items():
            p.setdefault(name, []).append(values[np.isfinite(values)])
    seconds = time.perf_counter() - started
    print(
        f"{options.sets} sets of {options.persons} learners, three forms of {options.length} items, {options.model}, "
        f"seed {options.seed}; {unconverged} not converged; {seconds:.0f} s\n"
    )
    print("| statistic | tests | 5 % | its error | 1 % | 0.1 % |\n|---|--:|--:|--:|--:|--:|")
    for name, parts in p.items():
        values = np.concatenate(parts)
        of_sets = np.array([np.mean(part <= LEVELS[0]) for part in parts if part.size])
        rates = [f"{100 * np.mean(values <= level):.2f}" for level in LEVELS]
        rates.insert(1, f"{100 * of_sets.std(ddof=1) / np.sqrt(of_sets.size):.2f}")
        print(f"| {name} | {values.size} | {' | '.join(rates)} |")
    if pairs:
        print(f"\nQ3 flagged {flagged} of {pairs} sound pairs ({100 * flagged / pairs:.3f} %).")


if __name__ == "__main__":
    main()
