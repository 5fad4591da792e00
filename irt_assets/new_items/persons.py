"""Abilities of the learners who answered new items, at the time of these answers and by published items only."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psycopg
from scipy.sparse import csr_matrix, diags_array, hstack, vstack

from irt_assets.abilities.batch import estimate
from irt_assets.common.arrays import Floats, Ints
from irt_assets.ledger.publications import PublishedSet
from irt_assets.responses.facts import ability_start
from irt_assets.responses.scored_answers import scoring_responses
from irt_assets.scales.item_status import DAY, microseconds
from irt_assets.scales.scale import Scale
from irt_psychometrics import Responses
from irt_psychometrics.new_items import theta_effects
from irt_psychometrics.scoring import ParameterErrors

LEARNERS_OF_A_GROUP = 20_000
"""Number of learners whose answers are read at once, so that memory does not grow with the log."""

POPULATION_STEPS = 100
"""Number of steps of EM; with 5 answers a learner, each step more than halves the distance to the mode."""


@dataclass(frozen=True)
class Abilities:
    """Posteriors of θ of P persons: a learner, or a learner on a day if abilities move on the scale.

    Attributes:
        theta, se: mean and SD, shape (P,).
        effects: effects of independent errors of the published items on the means, a sparse matrix (P, R).
        person: the person of each answer, shape (N,); −1 if the learner has no answer to a published item by then.
    """

    theta: Floats
    se: Floats
    effects: Any
    person: Ints


class Occasions(NamedTuple):
    """Days for which learners are measured: the index of the learner in `learners`, and the day since 1970."""

    learners: list[str]
    learner: Ints
    day: Ints


def measure_persons(
    connection: psycopg.Connection,
    end: datetime,
    scale: Scale,
    published: PublishedSet,
    users: npt.NDArray[np.object_],
    at: Ints,
) -> Abilities:
    """Measure the learner of each of N answers, given the learners' ids and the times in microseconds since 1970.

    If ability is constant, all answers to published items that count at `end` give θ. If it moves, θ is as of the day
    of the answer, from the learner's answers up to this day.
    """
    learners, learner = np.unique(users.astype(str), return_inverse=True)
    day = at // DAY if scale.movement else np.full(len(at), microseconds(end) // DAY)
    (of, days), occasion = np.unique(np.stack([learner, day]), axis=1, return_inverse=True)
    assert published.errors is not None
    roots = _roots(published.errors)
    groups, place, n = [], np.full(len(of), -1), 0
    for first in range(0, len(learners), LEARNERS_OF_A_GROUP):
        names = learners[first : first + LEARNERS_OF_A_GROUP].tolist()
        some = slice(*np.searchsorted(of, [first, first + len(names)]))
        occasions = Occasions(names, of[some] - first, days[some])
        group = _measure_group(connection, end, scale, published, occasions, roots)
        place[some] = np.where(group.person < 0, -1, group.person + n)
        groups.append(group)
        n += len(group.theta)
    theta, se = (np.concatenate([getattr(group, name) for group in groups]) for name in ("theta", "se"))
    effects = vstack([group.effects for group in groups], "csr")
    if n and not scale.movement:
        former = se
        theta, se = _among_these_learners(theta, se, scale)
        effects = diags_array((se / former) ** 2) @ effects
    return Abilities(theta, se, effects, place[occasion.ravel()])


def _among_these_learners(theta: Floats, se: Floats, scale: Scale) -> tuple[Floats, Floats]:
    """Replace the scale's population in normal posteriors by the population of these learners, found by EM.

    Learners who are abler than the scale's population would otherwise make each new item look easier.
    """
    mean, variance = scale.mu, scale.sigma**2
    precision = np.maximum(se**-2 - 1 / variance, 0.0)
    located = theta / se**2 - mean / variance
    for _ in range(POPULATION_STEPS):
        of_each = 1 / (precision + 1 / variance)
        theta = of_each * (located + mean / variance)
        mean = float(theta.mean())
        variance = float((of_each + (theta - mean) ** 2).mean())
    return theta, np.sqrt(of_each)


def _measure_group(
    connection: psycopg.Connection,
    end: datetime,
    scale: Scale,
    published: PublishedSet,
    occasions: Occasions,
    roots: csr_matrix,
) -> Abilities:
    """Measure some learners, with the person of each occasion in place of the person of each answer."""
    items, names = list(published.items), occasions.learners
    found, users = scoring_responses(connection, ability_start(end, scale), end, items, names, published.withdrawn)
    number = {name: k for k, name in enumerate(names)}
    found = found.renumber_persons(np.array([number[user] for user in users], dtype=np.int32), len(names))
    responses = _responses_by(found, occasions)
    answered = np.unique(responses.person)
    responses = responses.of_persons(answered).among(items)
    place = np.full(len(occasions.day), -1)
    place[answered] = np.arange(len(answered))
    if not len(answered):
        return Abilities(np.zeros(0), np.zeros(0), csr_matrix((0, roots.shape[1])), place)
    scores = estimate(responses, published.items, scale, published.testlets)
    moves, waited = scale.movement, (occasions.day[answered] - responses.last_at // DAY).astype(np.float64)
    variance = scores.se**2 + moves.variance_over(waited) + moves.occasion_variance
    assert published.errors is not None
    alone = replace(published.errors.items, cov=np.tile(np.eye(2), (len(items), 1, 1)))
    effects = theta_effects(responses, alone, scale.mu, scale.sigma) @ roots  # as if ability were constant
    return Abilities(scores.theta + moves.growth_over(waited), np.sqrt(variance), effects, place)


def _responses_by(responses: Responses, occasions: Occasions) -> Responses:
    """Repeat each learner's responses for each of the learner's occasions, up to the day of the occasion."""
    learner, day = occasions.learner, occasions.day
    start = np.searchsorted(responses.person, np.arange(responses.n_persons + 1))
    n = np.diff(start)[learner]
    occasion = np.repeat(np.arange(len(learner)), n)
    rows = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n) + np.repeat(start[learner], n)
    at = responses.known_times[rows]
    kept = at < (day[occasion] + 1) * DAY
    rows, person = rows[kept], occasion[kept].astype(np.int32)
    return replace(
        responses,
        person=person,
        item=responses.item[rows],
        score=responses.score[rows],
        at=at[kept],
        n_persons=len(learner),
    )


def _roots(errors: ParameterErrors) -> csr_matrix:
    """Compute a root of the joint covariance of (a of each item, b of each), shape (2J, R).

    The first 2J columns are errors of single items, and the others are errors that items from one fit share. Errors
    that are not known count as 0.
    """
    common = np.nan_to_num(errors.shared_effects)
    own = np.nan_to_num(errors.items.cov_of_each) - common @ common.swapaxes(1, 2)
    values, vectors = np.linalg.eigh(own)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None]
    rows = [hstack([diags_array(root[:, u, v]) for v in (0, 1)] + [csr_matrix(common[:, u])]) for u in (0, 1)]
    return vstack(rows, "csr")
