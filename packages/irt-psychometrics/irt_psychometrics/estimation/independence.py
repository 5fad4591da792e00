"""Test whether answers to different items have anything in common, by comparing a fit's gain with shuffled answers.

One factor always explains some of the noise between items, so a gain is evidence only if it exceeds the gain by chance.
If it is far above, nothing is computed. Otherwise the answers are shuffled among the learners of each item and group.
This keeps the design, the items' difficulties and the groups, and removes the dependence between answers. Without an
ability, the probability that no gain of 99 shuffles reaches the real gain is 1 in 100 (Phipson & Smyth 2010).
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from irt_psychometrics.core import kernels
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.model_families import GPCM, ONE_PL, PCM, TWO_PL, ItemModel
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em_request import Persons
from irt_psychometrics.estimation.marginal import Problem
from irt_psychometrics.estimation.optimizer import maximise
from irt_psychometrics.estimation.parameter_layout import ParameterLayout
from irt_psychometrics.estimation.response_layout import LaidOutAnswers, ResponseLayout

NOISE_PER_ITEM, NOISE = 3.0, 8.0
"""On independent answers, one factor gains 1.3 to 1.8 per item on average in twice the log-likelihood. It never gained
more than 3 per item plus 8 in 150 simulated sets of 4 to 100 items. LSAT6, five items with little in common, has 54."""
SHUFFLES = 99
_NODES, _ITERATIONS, _TOLERANCE = 16, 15, 1e-2
"""Real and shuffled answers are compared by a short ascent on few nodes: 40 ms for 28,000 answers to 163 items."""


def unrelated_reason(gather: Callable[[], tuple[Responses, Persons] | None], problem: Problem, loglik: float) -> str:
    """The reason to doubt that answers have anything in common, a sentence; "" if there is no reason.

    Only items that have their own slopes, and either curves of a, d and c or a model of the partial credit family, are
    tested. `gather` returns the responses of `problem` in memory, or None; `loglik` is the problem's maximum.
    """
    s = problem.structure
    if s.item_model.path == "general":
        return ""
    ratio = 2 * (loglik - _independent_loglik(problem.data))
    if s.anchored or not s.item_model.own_slopes or ratio >= NOISE_PER_ITEM * s.n_items + NOISE:
        return ""
    found = gather()
    if found is None:
        return (
            f"the answers may have nothing in common: with an ability behind them they are likelier than without by a "
            f"likelihood ratio statistic of only {ratio:.1f}, and they are too many for a comparison with shuffled "
            "answers"
        )
    responses, persons = _repeat_persons(*found)
    scored = responses.categories is not None
    reached = _first_matching_shuffle(responses, persons, GPCM if scored else TWO_PL, problem.run)
    if reached is None:
        return ""
    chance = (
        f"they are likelier than without by a likelihood ratio statistic of {ratio:.1f}, and answers shuffled among "
        f"the learners of each item gain as much (shuffle {reached} of {SHUFFLES} did)"
    )
    if _first_matching_shuffle(responses, persons, PCM if scored else ONE_PL, problem.run) is None:
        return (
            f"the answers do not distinguish items' own slopes from chance: with such slopes {chance}. One slope "
            f"for all items gains more than in any shuffle: fit a rasch or 1pl model, or collect more answers"
        )
    return (
        f"the answers to different items cannot be distinguished from unrelated ones: with an ability behind them "
        f"{chance}. Check that each answer belongs to its learner and item and was scored with the right key, or "
        f"collect more answers"
    )


def _repeat_persons(responses: Responses, persons: Persons) -> tuple[Responses, Persons]:
    """Repeat each person as often as its weight says, because shuffling moves single answers.

    If a weight is not a whole number, persons and weights are unchanged.
    """
    times = np.rint(persons.weight).astype(np.int64)
    if (times == 1).all() or (times != persons.weight).any():
        return responses, persons
    n_responses = np.bincount(responses.person, minlength=responses.n_persons)
    begin = np.repeat(np.cumsum(n_responses) - n_responses, times)
    n_responses = np.repeat(n_responses, times)
    person = np.repeat(np.arange(len(n_responses)), n_responses)
    rows = np.repeat(begin - np.cumsum(n_responses) + n_responses, n_responses) + np.arange(len(person))
    repeated = Responses(
        person.astype(np.int32),
        responses.item[rows],
        responses.score[rows],
        len(n_responses),
        responses.item_ids,
        responses.categories,
    )
    return repeated, Persons(persons.names, np.repeat(persons.group, times), np.ones(len(n_responses)))


def _first_matching_shuffle(responses: Responses, persons: Persons, model: ItemModel, run: kernels.Run) -> int | None:
    """Number, from 1, of the first shuffle that gains as much as the real answers. Returns None if there is none."""
    real = _gain(responses, persons, model, run)
    for number, shuffled in enumerate(_shuffles(responses, persons), start=1):
        if _gain(shuffled, persons, model, run) >= real:
            return number
    return None


def _shuffles(responses: Responses, persons: Persons) -> Iterator[Responses]:
    """The responses with scores shuffled within each item and group. Equal responses give the same sequence."""
    content = hashlib.sha256()
    for values in (responses.person, responses.item, responses.score):
        content.update(np.ascontiguousarray(values, dtype=np.int64).tobytes())
    rng = np.random.default_rng(int.from_bytes(content.digest()[:8]))
    cell = responses.item.astype(np.int64) * len(persons.names) + persons.group[responses.person]
    cells = np.argsort(cell, kind="stable")
    for _ in range(SHUFFLES):
        score = np.empty_like(responses.score)
        score[cells] = responses.score[np.lexsort((rng.random(len(cell)), cell))]
        yield replace(responses, score=score)


def _gain(responses: Responses, persons: Persons, model: ItemModel, run: kernels.Run) -> float:
    scored = responses.categories is not None
    data = ResponseLayout.from_responses(responses, group=persons.group, weights=persons.weight, by_category=scored)
    layout = ParameterLayout.from_model(
        model,
        responses.n_items,
        n_groups=len(persons.names),
        categories=data.n_categories,
        given_scores=data.shares > 0 if scored else None,
    )
    problem = Problem(data, layout, Grid.symmetric(_NODES), run)
    return 2 * (maximise(problem, problem.start(), _TOLERANCE, _ITERATIONS).point.loglik - _independent_loglik(data))


def _independent_loglik(data: LaidOutAnswers) -> float:
    """Log-likelihood of the answers if they are independent."""
    if data.counts is not None:
        return _sum_of_logs(data.counts.table, data.shares)
    n, right = data.n, data.correct
    return _sum_of_logs(right, right / n) + _sum_of_logs(n - right, 1 - right / n)


def _sum_of_logs(n: Floats, share: Floats) -> float:
    """Σ n·log(share) over n > 0."""
    given = n > 0
    return float(n[given] @ np.log(share[given]))
