"""A simulated log, its learners, and the truth: true values, planted faults, and the category that eligibility should
give each attempt.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_assets.common.arrays import Floats, Ints, Mask
from irt_assets.simulation.scenario import Bank, Scenario

Times = npt.NDArray[np.datetime64]

DAY = 86_400_000
"""A day in ms, the unit of the simulator's clock."""

LOOK_BACK_DAYS = 365
"""An answer is a repeat if the learner met the item within this many days before."""

CATEGORIES = ("scored", "sandbox", "test_account", "repeat", "not_reached", "rapid")
"""Results of eligibility for a simulated attempt: scored, or else the reason, in order of precedence."""


@dataclass(frozen=True)
class Learners:
    """N learners who gave at least one answer.

    Attributes:
        user_ids: sorted by month of enrolment.
        cohort: shape (N,), index of that month.
        lang, country, tier: shape (N,), text.
        is_test: shape (N,).
        target_theta: shape (N,), the goal.
        speed: shape (N,), τ of van der Linden (2007), which is subtracted from the log time.
        theta: shape (N, months); NaN before enrolment. If θ moves within a month, its mean over the month's days.
        daily: shape (N, days), θ of each day from the first day of the first month on; (N, 0) if θ does not move
            within a month.
        earlier_theta: shape (N,), the θ̂ by which items were assigned; NaN in linear assignment.
        leak_rank: shape (N,), 0 to 1: a learner knows each leaked item whose share exceeds it.
    """

    user_ids: npt.NDArray[np.str_]
    cohort: Ints
    lang: npt.NDArray[np.str_]
    country: npt.NDArray[np.str_]
    tier: npt.NDArray[np.str_]
    is_test: Mask
    target_theta: Floats
    speed: Floats
    theta: Floats
    daily: Floats
    earlier_theta: Floats
    leak_rank: Floats


@dataclass(frozen=True)
class SimulatedLog:
    """R attempts in order of `completed_at`. Times are UTC, datetime64[ms].

    Attributes:
        user_ids, item_ids, session_ids, form_ids: labels of the index columns.
        person, item, session, form: shape (R,), indices; form −1 is practice.
        position: shape (R,), from 1 within the session.
        correct: shape (R,), int8: 1 right, 0 wrong, −1 not answered.
        points: shape (R,), int8; −1 not answered.
        max_scores: shape (J,); an answer is correct if it has this many points.
        response: shape (R,), index into OPTIONS; −1 no option.
        response_time_ms: shape (R,); −1 not answered.
        hints: shape (R,), number of hints used.
        sandbox: shape (R,), whether the session is in sandbox mode.
        rapid: shape (R,), whether the answer is a planted rapid guess.
        arrived: shape (R,), whether the attempt had reached the database by `now`; the others are the late batch.
        category: shape (R,), index into CATEGORIES, as if the late attempts did not exist; −1 for the late attempts.
    """

    user_ids: npt.NDArray[np.str_]
    item_ids: tuple[str, ...]
    session_ids: npt.NDArray[np.str_]
    form_ids: tuple[str, ...]
    person: Ints
    item: Ints
    session: Ints
    form: Ints
    position: Ints
    started_at: Times
    completed_at: Times
    recorded_at: Times
    correct: npt.NDArray[np.int8]
    points: npt.NDArray[np.int8]
    max_scores: Ints
    response: npt.NDArray[np.int8]
    response_time_ms: Ints
    hints: Ints
    sandbox: Mask
    rapid: Mask
    arrived: Mask
    category: npt.NDArray[np.int8]

    @property
    def n_attempts(self) -> int:
        return int(self.person.size)

    @property
    def month(self) -> npt.NDArray[np.datetime64]:
        """Month of completion, shape (R,), datetime64[M]."""
        return self.completed_at.astype("datetime64[M]")

    @property
    def scored(self) -> Mask:
        """Whether a calibration of the answer's month uses it, shape (R,)."""
        return self.category == 0

    @property
    def score(self) -> npt.NDArray[np.int8]:
        """Score in calibration, shape (R,): 0 for an omitted answer and for an answer with hints."""
        return np.where((self.points > 0) & (self.hints == 0), self.points, 0).astype(np.int8)


@dataclass(frozen=True)
class Truth:
    """The true values and the planted faults, which the code under test must not read.

    Attributes:
        bank: true item parameters by month, the faults with their items, and the anchors' bank values.
        learners: true θ by month, attributes.
        counts: numbers of attempts by month and category, and of scored attempts that were omitted, or correct with
            hints.
        scored: shape (months, J), numbers of scored answers.
        sample_mean, sample_sd: shape (months,), mean and SD of `Learners.theta` over the learners with a scored answer
            in the month, each counted once: the values that the latent distribution of a window's fit estimates.
    """

    scenario: Scenario
    bank: Bank
    learners: Learners
    counts: dict[str, dict[str, int]]
    scored: Ints
    sample_mean: Floats
    sample_sd: Floats

    def as_dict(self) -> dict[str, Any]:
        """Plain data for `json.dumps`: faults, items, learners, cohorts and counts, by id and month."""
        months, bank = self.scenario.months, self.bank
        sizes = np.bincount(self.learners.cohort[~self.learners.is_test], minlength=len(months))
        return {
            "seed": self.scenario.seed,
            "now": self.scenario.now.isoformat(),
            "months": list(months),
            "assignment": self.scenario.assignment,
            "faults": [
                {
                    "kind": f.kind,
                    "item_ids": list(f.item_ids),
                    "months": [m for m, on in zip(months, f.active(months), strict=True) if on],
                    "size": f.size,
                    "share": f.share,
                }
                for f in bank.faults
            ],
            "cohorts": {
                m: {
                    "mean": self.scenario.cohort_means[k % len(self.scenario.cohort_means)],
                    "sd": self.scenario.cohort_sds[k % len(self.scenario.cohort_sds)],
                    "n": int(sizes[k]),
                    "sample_mean": _number(self.sample_mean[k]),
                    "sample_sd": _number(self.sample_sd[k]),
                }
                for k, m in enumerate(months)
            },
            "counts": self.counts,
            "items": {
                item: {
                    "a": _number(bank.a[j]),
                    "b": {m: _number(bank.b[k, j]) for k, m in enumerate(months)},
                    "c": _number(bank.c[j]),
                    "topic": bank.topics[bank.topic[j]],
                    "anchor": bool(bank.anchor[j]),
                    "scored": {m: int(self.scored[k, j]) for k, m in enumerate(months)},
                }
                | ({} if bank.max_scores[j] == 1 else {"t": [_number(t) for t in bank.scored.t[j]]})
                for j, item in enumerate(bank.item_ids)
            },
            "learners": {
                user: {"theta": [_number(t) for t in theta], "earlier_theta": _number(earlier)}
                for user, theta, earlier in zip(
                    self.learners.user_ids.tolist(), self.learners.theta, self.learners.earlier_theta, strict=True
                )
            },
        }


def categorise(person: Ints, rows: dict[str, npt.NDArray[Any]], is_test: Mask, arrived: Mask) -> npt.NDArray[np.int8]:
    """Index of each attempt into CATEGORIES, shape (R,); −1 if it has not arrived. Rows are in order of completion.

    An item counts as seen once it was answered, or left blank before a later answer in an exam session.
    """
    last_answered = np.zeros(rows["session"].max(initial=0) + 1, dtype=np.int64)
    np.maximum.at(last_answered, rows["session"], np.where(arrived & (rows["correct"] >= 0), rows["position"], 0))
    omitted = (rows["correct"] < 0) & (rows["form"] >= 0) & (rows["position"] < last_answered[rows["session"]])
    seen = (rows["correct"] >= 0) | omitted

    index = np.flatnonzero(arrived)
    index = index[np.lexsort((rows["completed"][index], rows["item"][index], person[index]))]
    order = np.arange(index.size)
    latest_seen = np.maximum.accumulate(np.concatenate([[-1], np.where(seen[index], order, -1)]))[:-1]
    before = index[np.maximum(latest_seen, 0)]
    again = (latest_seen >= 0) & (person[before] == person[index]) & (rows["item"][before] == rows["item"][index])
    again &= rows["completed"][index] - rows["completed"][before] <= LOOK_BACK_DAYS * DAY
    repeat = np.zeros(person.size, dtype=bool)
    repeat[index[again]] = True

    not_reached = ~seen
    conditions = [~arrived, rows["sandbox"], is_test, repeat, not_reached, rows["rapid"]]
    return np.select(conditions, [-1, 1, 2, 3, 4, 5], 0).astype(np.int8)


def make_truth(scenario: Scenario, bank: Bank, learners: Learners, log: SimulatedLog) -> Truth:
    months, n_items = scenario.months, len(bank.item_ids)
    month = (log.month - np.datetime64(months[0], "M")).astype(np.int64)
    scored = np.bincount(month[log.scored] * n_items + log.item[log.scored], minlength=len(months) * n_items)
    counts, mean, sd = {}, np.full(len(months), np.nan), np.full(len(months), np.nan)
    for k, name in enumerate(months):
        here = log.category[(month == k) & log.arrived]
        counts[name] = {c: int(n) for c, n in zip(CATEGORIES, np.bincount(here, minlength=6), strict=True)}
        used = (month == k) & log.scored
        counts[name]["scored_omitted"] = int(np.sum(used & (log.correct < 0)))
        counts[name]["scored_correct_with_hints"] = int(np.sum(used & (log.correct == 1) & (log.hints > 0)))
        theta = learners.theta[np.unique(log.person[used]), k]
        if theta.size > 1:
            mean[k], sd[k] = theta.mean(), theta.std()
    return Truth(scenario, bank, learners, counts, scored.reshape(len(months), n_items), mean, sd)


def _number(value: float) -> float | None:
    """A number for JSON: six digits, None for NaN."""
    return round(float(value), 6) if np.isfinite(value) else None
