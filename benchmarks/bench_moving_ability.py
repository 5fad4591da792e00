"""Coverage of 95 % intervals of a moving ability, with the rules that `auto` proposes for its scale.

    python -m benchmarks.bench_moving_ability --learners 2000 --seed 261127
    python -m benchmarks.bench_moving_ability --log lkt_statistics_cloze.csv.gz
    python -m benchmarks.bench_moving_ability --scored 1000000

Each row is a scale: learners with ten answers a week over 52 weeks to random items of 200, a ~ LogNormal(0, .3) and
b ~ N(0, 1), θ ~ N(0, 1) in the first week. θ is compared at the last answer. In rows with a gap, in which nobody
answers for 26 weeks in the middle, θ is also compared at the first answer after it. If growth is proposed, θ is also
computed with the true movement. Movement is estimated from the whole year. The constant θ is from the same answers.
In rows with leavers, a week is a learner's last with probability 1/(1 + e^(3.4 + .9 θ)): one in 30 if
θ = 0, one in 73 if θ = 1, one in 13 if θ = −1. The last rows have parameters from a fit of the same number of other
learners, and intervals include the parameters' errors. ± is one standard error, over learners. Prints a Markdown table.

With a number of still scales: the number of scales for which a movement is proposed although abilities are constant. A
quarter of them each have items fitted from 300, 1,000, 2,000 and 3,000 answers per item. a ~ U(.5, 2), b from a mixture
of two normal distributions, θ of other learners N(0, 1); 500 learners answer ten of 100 items a week for 26 weeks.

With a number of leaving scales: the same for 700 learners with one answer a week, of whom weak ones leave early.

With a log (CSV with the columns user_id, item_id, answered_at, correct): the movement that `auto` proposes, and the
probability of a day's answers given the days before, by movement and by time since the learner's previous day: mean
−log p per answer, and its reduction compared with a constant θ. Only a learner's first answer to each item counts.
Items are fitted to half of the learners, and the other half is evaluated. Items that have no learner in common are
fitted separately.

With a number to be scored: processor seconds for scoring judged answers in a month and in a night, for this number
of learners with two answers on each of 50 days, with constant and moving θ, 50,000 learners at a time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from irt_assets.abilities.batch import score_group
from irt_assets.ledger.publications import PublishedSet
from irt_assets.scales.item_status import DAY
from irt_assets.scales.scale import Scale
from irt_psychometrics.core.design import components
from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.core.items import ItemRow
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.movement import Movement
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.ability_growth import MovementEstimate
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.scoring.abilities import Curves, Scores, eap_by
from irt_psychometrics.scoring.moving_ability import moving_eap
from irt_psychometrics.scoring.moving_filter import Lattice, OccasionAnswers, filter_learners
from irt_psychometrics.scoring.total_error import ParameterErrors
from psychometrics_testbed.moving_ability import Moving, answered

WEEKS, A_WEEK, ITEMS = 52, 10, 200
YEAR = 365.25 / 7
WALK = 0.05
TRUE_MOVEMENT = Movement(WALK**2, 0.5 / YEAR)
"""True movement in all rows with a gap for which growth is proposed."""
GAP = slice(13, 39)
"""Weeks in which nobody answers."""
STILL_ITEMS, ANSWERS_AN_ITEM = 100, (300, 1000, 2000, 3000)
Z95 = 1.959964
WALKS = 0.02, 0.03, 0.05, 0.07, 0.1
AHEAD = ("any", 1, np.inf), ("1", 1, 1), ("2 to 6", 2, 6), ("7 to 27", 7, 27), ("28 and more", 28, np.inf)
MAX_DAYS = 20_000
"""Maximum number of learners' days that are forecast, drawn at random."""

TIME_OF_LEVELLING = 120 / 7
"""Weeks after which growth that levels off has fallen to 1/e."""

Truth = Callable[[np.random.Generator, int], np.ndarray]
"""Abilities (learners, weeks)."""


def path(
    walk: float, growth: float, differs: float = 0.0, *, walks: bool = True, grows: bool = True, forgets: float = 0.0
) -> Truth:
    """Abilities with a weekly walk and yearly growth, which differs between learners.

    `walks`, `grows`: whether walk and growth continue in a gap. `forgets`: decrease of θ in a gap.
    """

    def drawn(rng: np.random.Generator, n: int) -> np.ndarray:
        own = np.repeat(rng.normal(growth, differs, (n, 1)) / YEAR, WEEKS - 1, axis=1)
        steps = rng.normal(0, walk, (n, WEEKS - 1))
        steps[:, GAP] *= walks
        own[:, GAP] *= grows
        own[:, GAP] -= forgets / (GAP.stop - GAP.start)
        return np.cumsum(np.column_stack([rng.normal(size=n), steps + own]), axis=1)

    return drawn


def halves(rng: np.random.Generator, n: int) -> np.ndarray:
    """Abilities that are constant in the first half, and grow by half a unit per year in the second."""
    theta = np.repeat(rng.normal(size=(n, 1)), WEEKS, axis=1)
    theta[n // 2 :] += 0.5 / YEAR * np.arange(WEEKS)
    return theta


def curved(curve: Callable[[np.ndarray], np.ndarray], walk: float = 0.0) -> Truth:
    """Abilities with a weekly walk and gains that are a function of the weeks since the first."""
    return lambda rng, n: path(walk, 0)(rng, n) + curve(np.arange(WEEKS))


def levelling(weeks: np.ndarray) -> np.ndarray:
    return 0.8 * (1 - np.exp(-weeks / TIME_OF_LEVELLING))


class Row(NamedTuple):
    """The true values of a scale; `own` is a day's own SD."""

    truth: Truth
    gap: bool = False
    own: float = 0.0
    leavers: bool = False


ROWS = {
    "constant": Row(path(0, 0)),
    "walk .05 a week": Row(path(WALK, 0)),
    "walk .05 and +.5 a year": Row(path(WALK, 0.5)),
    "+.5 ± .3 a year between learners, walk .05": Row(path(WALK, 0.5, 0.3)),
    "walk .05, +.5 a year; a gap in which θ walks on": Row(path(WALK, 0.5, grows=False), gap=True),
    "walk .05, +.5 a year; a gap in which θ stands still": Row(path(WALK, 0.5, walks=False, grows=False), gap=True),
    "walk .05, +.5 a year; growth goes on in the gap": Row(path(WALK, 0.5), gap=True),
    "half constant, half +.5 a year": Row(halves),
    "walk .05, a day's own SD .3": Row(path(WALK, 0), own=0.3),
    "walk .05, +.5 a year; a gap in which θ falls by .3": Row(
        path(WALK, 0.5, walks=False, grows=False, forgets=0.3), gap=True
    ),
    "constant; a gap in which θ falls by .3": Row(path(0, 0, forgets=0.3), gap=True),
    "levels off: +.8 (1 − e^(−t/120 days))": Row(curved(levelling)),
    "levels off, walk .05": Row(curved(levelling, WALK)),
    "grows ever faster: +.6 (t/year)²": Row(curved(lambda weeks: 0.6 * (weeks / YEAR) ** 2)),
    "constant; weak learners leave early": Row(path(0, 0), leavers=True),
    "walk .05, +.5 a year; weak learners leave early": Row(path(WALK, 0.5), leavers=True),
    "levels off; weak learners leave early": Row(curved(levelling), leavers=True),
}
FITTED = {
    "walk .05 and +.5 a year, fitted parameters": Row(path(WALK, 0.5)),
    "constant, fitted parameters": Row(path(0, 0)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=261127)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--scored", type=int)
    parser.add_argument("--still", type=int)
    parser.add_argument("--leaving", type=int)
    options = parser.parse_args()
    if options.scored is not None:
        _measure_scoring(options.scored, np.random.default_rng(options.seed))
        return
    if options.still is not None:
        _show_still(options.still, options.seed)
        return
    if options.leaving is not None:
        _show_leaving(options.leaving, options.seed)
        return
    if options.log is not None:
        _on_log(options.log, np.random.default_rng(options.seed))
        return
    print(f"{options.learners} learners a row, seed {options.seed}\n")
    print("| truth | rules: √q a week, g a year, s | covers | RMSE | bias | SE | constant: covers | RMSE | auto, s |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|")
    for k, (name, row) in enumerate(ROWS.items()):
        _show_row(name, row, np.random.default_rng([options.seed, k]), options.learners)
    for k, (name, row) in enumerate(FITTED.items()):
        _show_row(name, row, np.random.default_rng([options.seed, 99 - k]), options.learners, fitted=True)


def _measure_scoring(learners: int, rng: np.random.Generator) -> None:
    a, b = rng.lognormal(0, 0.3, ITEMS), rng.normal(0, 1, ITEMS)
    items = ItemCurves(a, -a * b, np.zeros(ITEMS))
    errors = _with_errors(_fit_items(items, rng, 2000))
    values = zip(errors.items.a.tolist(), errors.items.b.tolist(), strict=True)
    published = PublishedSet({f"i{j}": ItemRow(*ab) for j, ab in enumerate(values)}, "", errors=errors)
    constant = Scale("s")
    scales = {"constant": constant, "moves": replace(constant, movement=Movement(WALK**2, 0.5 / YEAR, 0.1**2))}
    some, spent = min(learners, 50_000), dict.fromkeys(scales, 0.0)
    for _ in range(learners // some):
        answers = answered(items, path(WALK, 0.5)(rng, some)[:, :50], 7 * np.arange(50), 2, rng)
        responses = replace(answers.responses, at=answers.day * DAY)
        for name, scale in scales.items():
            begin = time.process_time()
            score_group(published, scale, None, responses, np.arange(some).astype(str).astype(object))
            spent[name] += time.process_time() - begin
    summary = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in spent.items())
    print(f"{learners:,} learners with 100 answers: {summary}, × {spent['moves'] / spent['constant']:.2f}")


def _show_row(name: str, row: Row, rng: np.random.Generator, n: int, *, fitted: bool = False) -> None:
    a, b = rng.lognormal(0, 0.3, ITEMS), rng.normal(0, 1, ITEMS)
    items = ItemCurves(a, -a * b, np.zeros(ITEMS))
    weeks = np.arange(WEEKS)
    theta = row.truth(rng, n)
    if row.gap:
        weeks = np.delete(weeks, np.arange(GAP.start, GAP.stop))
    days = 7 * weeks
    answers = answered(items, theta[:, weeks] + rng.normal(0, row.own, (n, len(weeks))), days, A_WEEK, rng)
    last = np.full(n, WEEKS - 1)
    if row.leavers:
        leaves = rng.random(theta.shape) < 1 / (1 + np.exp(3.4 + 0.9 * theta))
        last = np.where(leaves.any(axis=1), leaves.argmax(axis=1), last)
        answers = answers.chosen(answers.day <= 7 * last[answers.responses.person])
    errors = _with_errors(_fit_items(items, rng, n)) if fitted else None
    begin = time.process_time()
    curves = Curves.from_items(errors.items.curves if errors else items)
    estimate = MovementEstimate.from_answers(answers.responses, answers.day, curves, errors.items if errors else None)
    took = time.process_time() - begin
    at = {name: (answers, theta[np.arange(n), last])}
    if row.gap:
        first = np.arange(len(answers.day)) % A_WEEK == 0
        until = answers.chosen((answers.day < 7 * GAP.stop) | ((answers.day == 7 * GAP.stop) & first))
        at = {f"{name}: first answer after it": (until, theta[:, GAP.stop])} | at
    by = {"": estimate.proposed} | (
        {", by the true q and g": TRUE_MOVEMENT} if row.gap and estimate.proposed.growth else {}
    )
    for label, movement in by.items():
        for answer, (some, now) in at.items():
            moving, still = _scores(some, curves, movement, errors)
            print(_line(answer + label, movement, moving, still, now, took), flush=True)


def _scores(
    answers: Moving, curves: Curves, movement: Movement, errors: ParameterErrors | None
) -> tuple[Scores, Scores]:
    """Scores with a movement and with a constant θ."""
    still = eap_by(answers.responses, curves)
    moving = moving_eap(answers.responses, answers.day, curves, movement) if movement else still
    if errors is None:
        return moving, still
    return (
        Scores(moving.theta, errors.total_se(moving, answers.responses, 1.0)),
        Scores(still.theta, errors.total_se(still, answers.responses, 1.0)),
    )


def _show_still(scales: int, seed: int) -> None:
    """Print a line per scale with the proposed movement, then a table."""
    detections: dict[int, list[bool]] = {n: [] for n in ANSWERS_AN_ITEM}
    for k in range(scales // len(detections)):
        for an_item, proposed in detections.items():
            rng = np.random.default_rng([seed, an_item, k])
            a = rng.uniform(0.5, 2, STILL_ITEMS)
            low = rng.random(STILL_ITEMS) < 0.5
            b = np.where(low, rng.normal(-0.8, 0.5, STILL_ITEMS), rng.normal(0.9, 0.7, STILL_ITEMS))
            items = ItemCurves(a, -a * b, np.zeros(STILL_ITEMS))
            fit = _fit_items(items, rng, an_item * STILL_ITEMS // 60)
            days = 7 * np.arange(26)
            answers = answered(items, np.repeat(rng.normal(size=(500, 1)), days.size, axis=1), days, A_WEEK, rng)
            estimate = MovementEstimate.from_answers(
                answers.responses, answers.day, Curves.from_items(fit.items.curves), fit.items
            )
            proposed.append(bool(estimate.proposed))
            p = ", ".join(f"{value:.3f}" for value in estimate.p.values())
            print(f"{an_item} answers an item, scale {k}: p {p}; {estimate.proposed}", flush=True)
    print("\n| answers an item | scales | with a movement |\n|--:|--:|--:|")
    for an_item, proposed in detections.items():
        print(f"| {an_item:,} | {len(proposed)} | {sum(proposed)} |")


def _show_leaving(scales: int, seed: int) -> None:
    """Print a line per scale of 700 learners whose θ is constant and who give one answer a week, for 8 to 40 weeks.

    The stay rises with θ: learners with θ = 0 stay for 10 weeks, learners with θ = 1 for 24.
    """
    n, weeks, proposed, roots = 700, 40, 0, []
    for k in range(scales):
        rng = np.random.default_rng([seed, n, k])
        a, b = rng.lognormal(0, 0.3, ITEMS), rng.normal(0, 1, ITEMS)
        items, theta, days = ItemCurves(a, -a * b, np.zeros(ITEMS)), rng.normal(size=n), 7 * np.arange(weeks)
        stay = 8 + (weeks - 8) / (1 + np.exp(-2.5 * (theta - 1) - rng.normal(0, 0.3, n)))
        answers = answered(items, np.repeat(theta[:, None], weeks, axis=1), days, 1, rng)
        answers = answers.chosen(answers.day < 7 * np.floor(stay)[answers.responses.person])
        estimate = MovementEstimate.from_answers(answers.responses, answers.day, Curves.from_items(items))
        proposed += bool(estimate.proposed)
        roots.append([estimate.estimate.growth / estimate.errors["growth"], estimate.p["variance"]])
        p = ", ".join(f"{value:.3f}" for value in estimate.p.values())
        print(f"scale {k}: p {p}; {estimate.proposed}", flush=True)
    z, p_of_walk = np.mean(roots, axis=0)
    print(f"{proposed} of {scales} with a movement; mean growth / SE {z:+.2f}, mean p of no walk {p_of_walk:.2f}")


def _fit_items(items: ItemCurves, rng: np.random.Generator, n: int) -> Calibration:
    """Fit items to 60 answers of each of n other learners, whose θ is N(0, 1)."""
    seen = rng.permuted(np.tile(np.arange(len(items.a)) < 60, (n, 1)), axis=1)
    p = 1 / (1 + np.exp(-(items.a * rng.normal(size=(n, 1)) + items.d)))
    return fit_em(Responses.from_wide(np.where(seen, rng.random(p.shape) < p, np.nan)), model="2pl")


def _with_errors(fit: Calibration) -> ParameterErrors:
    gamma = ParameterErrors.common_to(fit)
    return ParameterErrors(fit.items, np.zeros(len(fit.items.a), dtype=np.int64), [gamma], np.zeros((2, 2)))


def _line(name: str, movement: Movement, moving: Scores, still: Scores, theta: np.ndarray, took: float) -> str:
    q, g, s = movement.variance, movement.growth, movement.occasion_variance
    parts = [f"{np.sqrt(q):.4f}, {g * YEAR:+.3f}, {np.sqrt(s):.3f}"]
    for scores in (moving, still):
        off = scores.theta - theta
        covered = (np.abs(off) <= Z95 * scores.se).mean()
        parts += [f"{100 * covered:.1f} ± {100 * np.sqrt(covered * (1 - covered) / len(off)):.1f} %"]
        parts += [f"{np.sqrt((off**2).mean()):.3f}"]
        if scores is moving:
            parts += [f"{off.mean():+.3f}", f"{scores.se.mean():.3f}"]
    return f"| {name} | {' | '.join(parts)} | {took:.0f} |"


def _on_log(path: Path, rng: np.random.Generator) -> None:
    log = pd.read_csv(path).dropna(subset=["correct"])
    log["day"] = (pd.to_datetime(log["answered_at"], format="ISO8601", utc=True) - pd.Timestamp(0, tz="UTC")).dt.days
    log = log.sort_values("answered_at").drop_duplicates(["user_id", "item_id"]).sort_values("user_id", kind="stable")
    person, users = pd.factorize(log["user_id"])
    item, names = pd.factorize(log["item_id"])
    day, score = log["day"].to_numpy(), log["correct"].to_numpy().astype(np.int8)
    is_held_out = rng.permutation(len(users)) < len(users) // 2

    def of(is_selected: np.ndarray) -> tuple[Responses, np.ndarray]:
        rows = is_selected[person]
        renumbered = (np.cumsum(is_selected) - 1)[person[rows]].astype(np.int32)
        some = Responses(renumbered, item[rows].astype(np.int32), score[rows], int(is_selected.sum()), tuple(names))
        return some, day[rows]

    learners, _ = of(~is_held_out)
    a, d = np.full((2, len(names)), np.nan)
    for part in components(learners):
        own = np.isin(names, part.items)
        persons = np.unique(learners.person[own[learners.item]])
        some = own[learners.item]
        fit = fit_em(
            Responses(
                np.searchsorted(persons, learners.person[some]).astype(np.int32),
                (np.cumsum(own) - 1)[learners.item[some]].astype(np.int32),
                learners.score[some],
                len(persons),
                tuple(names[own]),
            ),
            model="2pl",
        )
        a[own], d[own] = fit.a, fit.d
    curves = Curves.from_items(ItemCurves(a, d, np.where(np.isnan(a), np.nan, 0.0)))
    estimate = MovementEstimate.from_answers(*of(np.ones(len(users), bool)), curves)
    print(f"{len(users)} learners, {np.ptp(day) + 1} days; auto: {estimate}")
    proposed = [] if not estimate.proposed else [estimate.proposed]
    _show_forecasts(*of(is_held_out), curves, [Movement(walk**2) for walk in WALKS] + proposed, rng)


def _show_forecasts(
    responses: Responses, day: np.ndarray, curves: Curves, movements: list[Movement], rng: np.random.Generator
) -> None:
    """Print mean −log p of the answers of learners' later days, by time since the previous day."""
    order = np.lexsort((day, responses.person))
    responses, day = responses.of_rows(order), day[order]
    begins = np.flatnonzero((np.diff(responses.person, prepend=-1) != 0) | (np.diff(day, prepend=-1) != 0))
    later = np.flatnonzero(np.diff(responses.person[begins], prepend=-1) == 0)
    chosen = np.sort(rng.permutation(later)[:MAX_DAYS])
    begin, end = begins[chosen], np.append(begins, len(day))[chosen + 1]
    learner, gap = responses.person[begin], day[begin] - day[begins[chosen - 1]]
    first = np.searchsorted(responses.person, learner)

    def log_p(movement: Movement) -> np.ndarray:
        """log p of each chosen day given the days before: log p including the day minus log p without it."""
        lattice, found = Lattice.from_population(curves.population, movement), []
        for to in (end, begin):
            rows = np.concatenate([np.arange(*part) for part in zip(first, to, strict=True)])
            person = np.repeat(np.arange(len(to)), to - first).astype(np.int32)
            some = Responses(person, responses.item[rows], responses.score[rows], len(to), responses.item_ids)
            found.append(
                filter_learners(
                    OccasionAnswers.from_responses(some, day[rows], curves), curves, lattice, 1
                ).log_likelihood
            )
        return found[0] - found[1]

    n, still = end - begin, log_p(Movement(1e-12))
    gains = [log_p(movement) - still for movement in movements]
    names = [f"walk {np.sqrt(m.variance):.3f}" + ", proposed" * (k >= len(WALKS)) for k, m in enumerate(movements)]
    print(
        f"\n{np.unique(learner).size} learners held out; −log p an answer, and how much less (± SE) with a movement\n"
    )
    print(f"| days since the day before | answers | constant | {' | '.join(names)} |")
    print(f"|---|--:|--:|{'--:|' * len(names)}")
    for name, low, high in AHEAD:
        those = (gap >= low) & (gap <= high)
        if not those.any():
            continue
        answers, cells = n[those].sum(), []
        for gain in gains:
            mean = gain[those].sum() / answers
            by_learner = np.bincount(learner[those], gain[those] - n[those] * mean)
            cells.append(f"{mean:+.5f} ± {np.sqrt(by_learner @ by_learner) / answers:.5f}")
        print(f"| {name} | {answers:,} | {-still[those].sum() / answers:.4f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
