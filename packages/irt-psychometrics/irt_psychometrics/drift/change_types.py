"""Kind of change of an item that moved: drift, a leak, or a wrong key.

This module compares the likelihoods of the three, uses response times and options, and finds the first day of a leak.
items.py selects the items. The caller must not filter the answers: rules against rapid guesses would remove the very
answers that reveal a leak.

Every learner's θ comes from the *other*, unexamined items with their published parameters. θ is not treated as known:
with its posterior h_n, the likelihood of an answer is ∫ P(x | θ) h_n(θ) dθ. The three alternatives to the published
curve P have one parameter each:

    drift      P with b + δ
    leak       π + (1 − π) P: a share π of the learners knows the answer
    wrong key  s (1 − P): a distractor is scored as right, and a share s of those who do not know the answer chooses it

For an item scored 0 … m, P is the probability of each score, and a leak gives the score m to the share π. Such an item
has no key.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.item_models import CountedScores
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.scoring.rest_posterior import RestPosterior

ACCEPTED = 10.8
"""Gain in 2ΔLL that one parameter exceeds by chance for one in a thousand items without a change."""
FASTER = -4.0
"""z of the correct answers' log times below which an easier item counts as leaked."""
MIN_TIMES = 30
MAX_DRIFT = 4.0


class ChangeKind(StrEnum):
    """Kind of change of an item.

    Examples
    --------
    >>> from irt_psychometrics.drift import ChangeKind
    >>> ChangeKind("leak") is ChangeKind.LEAK
    True
    """

    DRIFT = "drift"
    LEAK = "leak"
    WRONG_KEY = "wrong key"
    EASIER = "easier: drift or leak"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class TimedAnswers:
    """R answers of a window, in any order.

    Attributes
    ----------
    person, item
        Shape (R,), indices; item is an index into `item_ids`.
    score
        Shape (R,), 0 or 1, or below `categories`.
    log_time
        Shape (R,), log of the response time; NaN if unknown.
    day
        Shape (R,), whole days of any calendar.
    option
        Shape (R,), number of the chosen option; −1 if unknown.
    item_ids
        J items.
    key
        Shape (J,), number of the right option; −1 if unknown.
    usual_log_time, usual_log_time_se
        Shape (J,), mean log time of correct answers before the window and its standard error; NaN if unknown.
    categories
        Shape (J,), number of scores of each item; None if all items are scored 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from irt_psychometrics.drift import TimedAnswers
    >>> two, unseen, unknown = np.array([0, 1]), np.array([-1, -1]), np.full(2, np.nan)
    >>> answers = TimedAnswers(
    ...     person=two, item=two, score=np.array([1, 0], dtype=np.int8), log_time=unknown, day=two, option=unseen,
    ...     item_ids=("q1", "q2"), key=unseen, usual_log_time=unknown, usual_log_time_se=unknown,
    ... )
    >>> answers.n_categories.tolist()
    [2, 2]
    """

    person: Ints
    item: Ints
    score: npt.NDArray[np.int8]
    log_time: Floats
    day: Ints
    option: Ints
    item_ids: tuple[str, ...]
    key: Ints
    usual_log_time: Floats
    usual_log_time_se: Floats
    categories: Ints | None = None

    @property
    def n_categories(self) -> Ints:
        """Number of scores of each item, shape (J,)."""
        return np.full(len(self.item_ids), 2) if self.categories is None else self.categories


@dataclass(frozen=True)
class Change:
    """Change of an item, as `Drift.with_changes` finds it.

    Attributes
    ----------
    item_id
        The item.
    kind
        The kind of change.
    size
        δ in θ for drift and for "easier", π for a leak, s for a wrong key; NaN for "unclear".
    gains
        2ΔLL of "drift", "leak" and (for an item scored 0 and 1) "wrong key", relative to the published curve.
    time_z
        z of the correct answers' log times after removing item and person effects; NaN if there are too few times.
    onset
        First day of a leak, in the calendar of `TimedAnswers.day`; None for other kinds.
    distractor
        An option other than the key that abler persons choose; None if there is no such option.

    Examples
    --------
    >>> from irt_psychometrics.drift import Change, ChangeKind
    >>> gains = {"drift": 14.1, "leak": 30.2, "wrong key": 0.0}
    >>> change = Change("q1", ChangeKind.LEAK, size=0.3, gains=gains, time_z=-5.1, onset=12, distractor=None)
    >>> change.kind.value, max(change.gains, key=change.gains.get)
    ('leak', 'leak')
    """

    item_id: str
    kind: ChangeKind
    size: float
    gains: dict[str, float]
    time_z: float
    onset: int | None
    distractor: int | None


def classify_changes(
    answers: TimedAnswers, items: Collection[str], published: ItemParameters, *, mean: float, sd: float
) -> dict[str, Change]:
    """The kind of change of each of `items`.

    Args:
        answers: the answers of the window.
        items: the items to examine.
        published: the published items, in the order of `answers.item_ids`.
        mean, sd: the window's learners on the bank's scale, θ ~ N(mean, sd²).

    A change is a wrong key if a distractor attracts abler learners, or if a wrong key explains the answers best. It is
    "unclear" if no alternative gains more than 10.8 in 2ΔLL. If a leak or δ < 0 explains the answers best, it is a leak
    if correct answers came faster than usual (z < −4), drift if they did not, and "easier" if times are unknown.
    """
    known = published.curves.known
    examined = np.isin(answers.item_ids, list(items))
    others = known & ~examined
    measured = RestPosterior.from_answers(
        answers.person, answers.item, answers.score, others, published,
        mean=mean, sd=sd, categories=answers.categories,
    )  # fmt: skip
    residual = _time_residuals(answers, others)
    found = {}
    for j in np.flatnonzero(examined & known).tolist():
        rows = np.flatnonzero(answers.item == j)
        posterior = measured.posterior(answers.person[rows])
        item = published.select([answers.item_ids[j]])
        found[answers.item_ids[j]] = _classify(answers, j, rows, posterior, measured.nodes, item, residual[rows])
    return found


def _classify(
    answers: TimedAnswers,
    j: int,
    rows: Ints,
    posterior: Floats,
    nodes: Floats,
    item: ItemParameters,
    residual: Floats,
) -> Change:
    score, scored = answers.score[rows], bool(answers.n_categories[j] > 2)
    correct = score == answers.n_categories[j] - 1
    own = item.curves.categories
    counted = (
        CountedScores.from_curves(item.curves).of_answers(np.zeros_like(score), score, own) if item.others else score
    )
    published = _chances(item, nodes, posterior, counted, correct)
    sound = _loglik(*published, correct).sum()
    p, share = published

    def loglik_moved(delta: float) -> float:
        by = _chances(replace(item, b=item.b + delta), nodes, posterior, counted, correct)
        return float(_loglik(*by, correct).sum())

    delta, by_drift = _best(loglik_moved, -MAX_DRIFT, MAX_DRIFT)
    known, by_leak = _best(lambda x: float(_loglik(x + (1 - x) * p, share, correct).sum()), 0.0, 1.0)
    gains = {"drift": 2 * (by_drift - sound), "leak": 2 * (by_leak - sound)}
    taken, distractor = np.nan, None
    if not scored:
        taken, by_key = _best(lambda x: float(_loglik(x * (1 - p), share, correct).sum()), 0.0, 1.0)
        gains["wrong key"] = 2 * (by_key - sound)
        distractor = _distractor(answers.option[rows], int(answers.key[j]), posterior @ nodes)
    best = max(gains, key=lambda name: gains[name])
    z = _mean_z(residual[correct], float(answers.usual_log_time_se[j]))
    kind, size, onset = ChangeKind.UNCLEAR, np.nan, None
    if distractor is not None or (best == "wrong key" and gains[best] > ACCEPTED):
        kind, size = ChangeKind.WRONG_KEY, taken
    elif gains[best] > ACCEPTED and (best == "leak" or delta < 0):
        kind = ChangeKind.EASIER if np.isnan(z) else ChangeKind.LEAK if z < FASTER else ChangeKind.DRIFT
        size = known if kind is ChangeKind.LEAK else delta
        onset = _onset(answers.day[rows], p, share, correct) if kind is ChangeKind.LEAK else None
    elif gains[best] > ACCEPTED:
        kind, size = ChangeKind.DRIFT, delta
    return Change(answers.item_ids[j], kind, float(size), gains, z, onset, distractor)


def _chances(
    item: ItemParameters, nodes: Floats, posterior: Floats, counted: npt.NDArray[np.int8], correct: Mask
) -> tuple[Floats, Floats]:
    """Probability of full credit, ∫ P h_n, shape (n,), and the share of other answers that have the learner's score.

    A leak and a wrong key change the probability linearly. The share is 1 for full credit.
    """
    for some in item.others:
        tables = posterior @ some.model.probabilities(nodes, some.parameters(item.a, item.d), some.categories)[0]
        p = tables[:, some.categories[0] - 1]  # columns beyond belong to items with more scores
        others = tables[np.arange(len(counted)), counted] / np.maximum(1 - p, np.finfo(float).tiny)
        return p, np.where(correct, 1.0, others)
    return posterior @ item.curve(nodes)[:, 0], np.ones(len(counted))


def _loglik(p: Floats, share: Floats, correct: Mask) -> Floats:
    return np.log(np.maximum(np.where(correct, p, (1 - p) * share), np.finfo(float).tiny))


def _best(loglik: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    from scipy.optimize import minimize_scalar  # takes a tenth of a second to load, and `irt status` reads this module

    found = minimize_scalar(lambda x: -loglik(x), bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    return float(found.x), -float(found.fun)


def _time_residuals(answers: TimedAnswers, others: Mask) -> Floats:
    """Log time minus the item's usual log time and the learner's mean excess on the other items, shape (R,).

    NaN if the time, or one of these means, is unknown.
    """
    n_persons = int(answers.person.max(initial=-1)) + 1
    off = answers.log_time - answers.usual_log_time[answers.item]
    use = others[answers.item] & np.isfinite(off)
    n = np.bincount(answers.person[use], minlength=n_persons)
    with np.errstate(invalid="ignore"):
        own = np.bincount(answers.person[use], weights=off[use], minlength=n_persons) / n
    return off - own[answers.person]


def _mean_z(residual: Floats, usual_se: float) -> float:
    known = residual[np.isfinite(residual)]
    if known.size < MIN_TIMES:
        return np.nan
    return float(known.mean() / np.hypot(known.std(ddof=1) / np.sqrt(known.size), usual_se))


def _distractor(option: Ints, key: int, theta: Floats) -> int | None:
    """Option other than the key whose choice correlates most with θ from the other items.

    Returns None if no correlation is above 0 and above the key's.
    """
    known = option >= 0
    if key < 0 or known.sum() < 2 or np.ptp(theta[known]) == 0:
        return None
    correlations = {
        int(o): float(np.corrcoef(option[known] == o, theta[known])[0, 1])
        for o in np.unique(option[known])
        if 0 < (option[known] == o).mean() < 1
    }
    of_key = correlations.pop(key, -1.0)
    best = max(correlations, key=lambda o: correlations[o], default=None)
    return best if best is not None and correlations[best] > max(0.0, of_key) else None


def _onset(day: Ints, p: Floats, share: Floats, correct: Mask) -> int:
    """First day of a leak: the change point, by maximum likelihood, from the published curve to a leak.

    The leak's share is fitted again for every candidate day.
    """
    before = _loglik(p, share, correct)
    best, when = -np.inf, int(day.min())
    for candidate in np.unique(day).tolist():
        later = day >= candidate
        p_later, share_later, correct_later = p[later], share[later], correct[later]

        def loglik_leaked(
            x: float, p: Floats = p_later, share: Floats = share_later, correct: Mask = correct_later
        ) -> float:
            return float(_loglik(x + (1 - x) * p, share, correct).sum())

        total = before[~later].sum() + _best(loglik_leaked, 0.0, 1.0)[1]
        if total > best:
            best, when = total, int(candidate)
    return when
