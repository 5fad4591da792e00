"""Simulation of learners and all their answers, with the truth next to the log.

This module has the clock, the assignment of items and the answers; `scenario` has the settings and the bank.

Answers follow P = c + (1−c)/(1 + exp(−a(θ−b))), or `ScoredItems`. θ is constant within a calendar month, or within a
day if the scenario lets it walk. Eligibility counts omitted answers and correct answers with hints as 0. They are drawn
only from answers that would score 0, so that the scored answers follow the model exactly. Answers that eligibility
leaves out are drawn independently of their score.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit

from irt_assets.common.arrays import Floats, Ints, Mask
from irt_assets.simulation.scenario import DISTRACTOR_SHARES, OPTIONS, Bank, Scenario, make_bank
from irt_assets.simulation.truth import DAY, Learners, SimulatedLog, Truth, categorise, make_truth

MINUTE = 60_000
MIN_MS, MAX_MS = 300, 10 * MINUTE
"""Limits of response times: nobody reads an item faster, and the exam closes an item that is open for longer."""

LANGUAGES = ("en", "ko")
COUNTRIES = (("GB", "US"), ("KR", "KR"))
TIERS = ("free", "plus", "pro")


def simulate(scenario: Scenario) -> tuple[SimulatedLog, Truth]:
    """Simulate all that happens from the first month until the scenario's `now`."""
    bank = make_bank(scenario)
    cohorts = [_Cohort(scenario, bank, k) for k in range(len(scenario.months))]
    offsets = np.cumsum([0] + [c.learners.user_ids.size for c in cohorts])
    session_offsets = np.cumsum([0] + [c.session_ids.size for c in cohorts])
    merged = {name: np.concatenate([c.rows[name] for c in cohorts]) for name in cohorts[0].rows}
    merged["person"] += np.repeat(offsets[:-1], [c.rows["person"].size for c in cohorts])
    merged["session"] += np.repeat(session_offsets[:-1], [c.rows["session"].size for c in cohorts])
    order = np.lexsort((merged["session"], merged["completed"]))
    rows = {name: column[order] for name, column in merged.items()}

    present, person = np.unique(rows["person"], return_inverse=True)
    learners = Learners(
        **{
            name: np.concatenate([getattr(c.learners, name) for c in cohorts])[present]
            for name in Learners.__dataclass_fields__
        }
    )
    arrived = rows["recorded"] <= _milliseconds(scenario)
    log = SimulatedLog(
        user_ids=learners.user_ids,
        item_ids=bank.item_ids,
        session_ids=np.concatenate([c.session_ids for c in cohorts]),
        form_ids=_form_ids(scenario),
        person=person,
        item=rows["item"],
        session=rows["session"],
        form=rows["form"],
        position=rows["position"],
        started_at=rows["started"].astype("datetime64[ms]"),
        completed_at=rows["completed"].astype("datetime64[ms]"),
        recorded_at=rows["recorded"].astype("datetime64[ms]"),
        correct=rows["correct"],
        points=rows["points"],
        max_scores=bank.max_scores,
        response=rows["response"],
        response_time_ms=rows["time"],
        hints=rows["hints"],
        sandbox=rows["sandbox"],
        rapid=rows["rapid"],
        arrived=arrived,
        category=categorise(person, rows, learners.is_test[person], arrived),
    )
    return log, make_truth(scenario, bank, learners, log)


class _FaultEffects(NamedTuple):
    """Effects of the faults on each attempt.

    Attributes:
        b: difficulty of the item for the learner.
        known: whether the learner knows the answer.
        always: whether the answer is scored correct in any case.
        time_factor: factor on the response time.
    """

    b: Floats
    known: Mask
    always: Mask
    time_factor: Floats


class _Cohort:
    """The learners who start in one month, their sessions and all their attempts, up to the end of the log."""

    def __init__(self, scenario: Scenario, bank: Bank, month: int) -> None:
        self.scenario, self.bank, self.month = scenario, bank, month
        self.tag = np.datetime64(scenario.months[month], "M").item().strftime("%y%m")
        # Each cohort has its own random stream, so that a later `now` draws the same learners again.
        self.rng = np.random.default_rng([scenario.seed, 1 + month])
        starts = np.datetime64(scenario.months[0], "M") + np.arange(len(scenario.months) + 1)
        self.month_starts = starts.astype("datetime64[ms]").astype(np.int64)
        self.learners = self._enrol()
        self._schedule()
        self._meet_items()
        self.rows = self._answer()

    def _enrol(self) -> Learners:
        s, rng, k = self.scenario, self.rng, self.month
        n_real = s.learners_per_month
        n = n_real + round(s.test_share * n_real)
        standard = rng.standard_normal((n, 2))
        start = s.cohort_means[k % len(s.cohort_means)] + s.cohort_sds[k % len(s.cohort_sds)] * standard[:, 0]
        gain = rng.normal(s.growth_mean, s.growth_sd, n)
        elapsed = np.arange(len(s.months)) - k
        theta = np.where(elapsed >= 0, start[:, None] + gain[:, None] * elapsed, np.nan)
        daily = self._daily(theta)
        r = s.speed_ability_correlation
        lang = rng.permutation(n) % 2
        return Learners(
            user_ids=np.array([f"L{s.seed}-{self.tag}-{i + 1:05d}" for i in range(n)]),
            cohort=np.full(n, k),
            lang=np.array(LANGUAGES)[lang],
            country=np.array(COUNTRIES)[lang, rng.integers(0, 2, n)],
            tier=np.array(TIERS)[rng.choice(3, n, p=(0.6, 0.3, 0.1))],
            is_test=np.arange(n) >= n_real,
            target_theta=np.round(start + rng.uniform(0.2, 1.0, n), 1),
            speed=s.time_person_sd * (r * standard[:, 0] + np.sqrt(1 - r**2) * standard[:, 1]),
            theta=theta,
            daily=daily,
            earlier_theta=np.full(n, np.nan),
            leak_rank=rng.random(n),
        )

    def _daily(self, theta: Floats) -> Floats:
        """θ of each day, as in `Learners`; (N, 0) if θ does not walk. Sets `theta` (N, months) to its monthly means."""
        s, n = self.scenario, len(theta)
        if not s.weekly_variance:
            return np.empty((n, 0))
        # A separate stream, drawn day by day: shorter scenarios, and scenarios with a constant θ, have the same
        # learners.
        rng = np.random.default_rng([s.seed, 1 + self.month, 1])
        rng.standard_normal(n)  # not used, like half of the next draw, so that walks stay as they are
        first = (self.month_starts[self.month] - self.month_starts[0]) // DAY
        lengths = np.diff(self.month_starts) // DAY
        walk = rng.standard_normal((lengths[self.month :].sum(), 2, n))[:, 0]
        daily = np.full((n, lengths.sum()), np.nan)
        daily[:, first:] = np.sqrt(s.weekly_variance / 7) * np.cumsum(walk, axis=0).T
        daily += np.repeat(theta, lengths, axis=1)
        theta[:] = np.add.reduceat(daily, np.cumsum(lengths) - lengths, axis=1) / lengths
        return daily

    def _theta_in(self, session: Ints) -> Floats:
        """θ of the learner at the time of each session."""
        person = self.person[session]
        if not self.scenario.weekly_variance:
            return self.learners.theta[person, self._month_of(session)]
        day = (self.start[session] - self.month_starts[0]) // DAY
        return self.learners.daily[person, np.minimum(day, self.learners.daily.shape[1] - 1)]

    def _schedule(self) -> None:
        """Draw the cohort's sessions: exam sessions learner by learner, then practice sessions.

        Sets `person`, `practice`, `sandbox`, `n_items`, `ordinal`, `start` (ms), `lateness` (ms) and `session_ids`,
        each of shape (sessions,).
        """
        s, rng = self.scenario, self.rng
        n = self.learners.user_ids.size
        n_sessions = rng.integers(s.sessions[0], s.sessions[1] + 1, n)
        exam_person = np.repeat(np.arange(n), n_sessions)
        ordinal = _ordinals(n_sessions)
        month_days = (self.month_starts[self.month + 1] - self.month_starts[self.month]) / DAY
        first_day = self.month_starts[self.month] // DAY + (rng.random(n) * s.intake * month_days).astype(np.int64)
        span = rng.integers(s.span_days[0], s.span_days[1] + 1, n)
        exam_day = first_day[exam_person] + span[exam_person] * ordinal // np.maximum(n_sessions[exam_person] - 1, 1)
        if s.assignment == "adaptive":
            exam_day += np.where(ordinal > 0, int(month_days), 0)
        last_day = exam_day[np.cumsum(n_sessions) - 1]

        n_practice = rng.poisson(s.practice_sessions, n)
        practice_person = np.repeat(np.arange(n), n_practice)
        gaps = 1 + rng.exponential(s.practice_gap_days, practice_person.size).astype(np.int64)
        practice_day = last_day[practice_person] + _running_sum(gaps, n_practice)

        self.person = np.concatenate([exam_person, practice_person])
        self.practice = np.arange(self.person.size) >= exam_person.size
        self.sandbox = self.practice & (rng.random(self.person.size) < s.sandbox_share)
        parts = n_sessions[exam_person]
        exam_size = (ordinal + 1) * s.exam_items // parts - ordinal * s.exam_items // parts
        self.n_items = np.concatenate([exam_size, np.full(practice_person.size, s.practice_items)])
        self.ordinal = np.concatenate([ordinal, np.full(practice_person.size, -1)])
        # Between 06:00 and 20:00, so that no session runs into the next day or month.
        hour = rng.uniform(6 * 60 * MINUTE, 20 * 60 * MINUTE, self.person.size).astype(np.int64)
        self.start = np.concatenate([exam_day, practice_day]) * DAY + hour
        late = rng.random(self.person.size) < s.late_rate
        delay = np.minimum(rng.exponential(s.late_days, self.person.size), 45) * DAY
        self.lateness = np.where(late, delay, rng.integers(200, 4000, self.person.size)).astype(np.int64)
        self.session_ids = np.array(
            [f"{s.session_prefix}{s.seed}-{self.tag}-{i + 1:05d}" for i in range(self.person.size)]
        )

    def _meet_items(self) -> None:
        """Assign an item to each place of each session: sets `item`, shape (attempts,), in order of session."""
        s, rng = self.scenario, self.rng
        n = self.learners.user_ids.size
        self.row_session = np.repeat(np.arange(self.person.size), self.n_items)
        self.uniform = rng.random(self.row_session.size)
        self.row_theta = self._theta_in(self.row_session)
        if s.assignment == "linear":
            self.form = rng.permutation(n) % s.blocks
            starts = self.form[:, None] * s.items_per_block
            order = np.argsort(rng.random((n, s.exam_items)), axis=1)
            exam_item = (starts + order) % s.n_items
        else:
            exam_item = self._adaptive_items()
        practised = np.argsort(rng.random((int(self.practice.sum()), s.exam_items)), axis=1)[:, : s.practice_items]
        practice_item = np.take_along_axis(exam_item[self.person[self.practice]], practised, axis=1)
        self.item = np.concatenate([exam_item.ravel(), practice_item.ravel()])

    def _adaptive_items(self) -> Ints:
        """Items of the exam, shape (learners, items): at random in the first session, then by the EAP of its
        answers."""
        s, rng, bank = self.scenario, self.rng, self.bank
        n = self.learners.user_ids.size
        lottery = rng.random((n, s.n_items))
        items = np.argsort(lottery, axis=1)[:, : s.exam_items]
        rows = n * s.exam_items
        placed = (self.ordinal[self.row_session[:rows]] == 0).reshape(n, s.exam_items)
        b = bank.b[self.month]
        p = _probability(self.row_theta[:rows].reshape(n, -1), bank.a[items], b[items], bank.c[items])
        right = self.uniform[:rows].reshape(n, -1) < p

        nodes = np.linspace(-4, 4, 41)
        logit = bank.a[items][..., None] * (nodes - b[items][..., None])
        loglik = np.where(right[..., None], log_expit(logit), log_expit(-logit))
        posterior = np.einsum("nk,nkq->nq", placed, loglik) - nodes**2 / 2
        weight = np.exp(posterior - posterior.max(axis=1, keepdims=True))
        earlier = weight @ nodes / weight.sum(axis=1)
        self.learners.earlier_theta[:] = earlier

        distance = np.abs(b - earlier[:, None])
        preference = np.where(distance <= s.adaptive_width, lottery, -distance)
        np.put_along_axis(preference, items, np.where(placed, -np.inf, np.take_along_axis(preference, items, 1)), 1)
        best = np.argsort(-preference, axis=1)
        later = best[np.arange(n)[:, None], np.maximum(np.cumsum(~placed, axis=1) - 1, 0)]
        return np.where(placed, items, later)

    def _month_of(self, session: Ints) -> Ints:
        """Index of the session's month. Sessions after the last month get the last month's index; they are dropped
        later."""
        k = np.searchsorted(self.month_starts, self.start[session], side="right") - 1
        return np.minimum(k, len(self.scenario.months) - 1)

    def _answer(self) -> dict[str, npt.NDArray[Any]]:
        """The cohort's attempts as columns, without attempts after `now`."""
        s, rng, bank, people = self.scenario, self.rng, self.bank, self.learners
        session, item = self.row_session, self.item
        person, month, practice = self.person[session], self._month_of(session), self.practice[session]
        rows = session.size
        position = _ordinals(self.n_items) + 1
        unreached = np.where(rng.random(self.n_items.size) < s.unreached_rate, rng.integers(1, 4, self.n_items.size), 0)
        last_answered = (self.n_items - unreached)[session]
        reached = position <= last_answered
        # An item that was not reached in the exam is new in practice, and therefore no easier.
        pair = person * s.n_items + item
        familiar = practice & ~np.isin(pair, pair[~practice & ~reached])
        hurried = rng.random(people.user_ids.size) < s.hurried_share
        rapid = hurried[person] & (rng.random(rows) < s.hurried_rate)

        b, known, always, time_factor = self._fault_effects(person, item, month)
        is_open = bank.options[item, 0] < 0
        rapid &= ~known
        theta, most = self.row_theta + familiar * s.repeat_gain / bank.a[item], bank.max_scores[item]
        p = _probability(theta, bank.a[item], b, bank.c[item])
        p = np.where(rapid, np.where(is_open, 0.0, 1 / len(OPTIONS)), p)
        p = np.where(people.is_test[person], 0.5, p)
        right = (self.uniform < p) | known | always
        points = np.where(right, most, 0)
        partly = (most > 1) & ~rapid & ~people.is_test[person] & ~known & ~always
        points[partly] = bank.scored.scores(self.uniform[partly], (theta - b)[partly], item[partly])
        right = points == most

        hint_rate = np.where(practice, s.hint_rate_practice, s.hint_rate_exam)
        hinted = (points == 0) & ~rapid & (rng.random(rows) < hint_rate)
        right |= hinted & (rng.random(rows) < s.hint_success)
        omitted = ~right & (points == 0) & ~hinted & ~rapid & ~practice & (rng.random(rows) < s.omit_rate)
        omitted &= position < last_answered
        answered = reached & ~omitted
        distractor = 1 + np.searchsorted(np.cumsum(DISTRACTOR_SHARES)[:-1], rng.random(rows))
        chosen = np.where(right, bank.options[item, 0], bank.options[item, distractor])
        correct = np.where(is_open, right, chosen == bank.key[item]) | always

        points = np.where(most == 1, correct, np.where(right, most, points))

        log_time = bank.time_intensity[item] - people.speed[person] + rng.normal(0, s.time_sd, rows)
        # Learners remember an item that they have met, and answer it 15 % faster.
        time = np.exp(log_time) * time_factor * np.where(familiar, 0.85, 1.0)
        time = np.where(rapid, rng.uniform(0.15, 0.7, rows) * 0.1 * np.exp(bank.time_intensity[item]), time)
        time = np.clip(time, MIN_MS, MAX_MS).astype(np.int64)
        pause = rng.integers(500, 3000, rows)
        completed = self.start[session] + _running_sum(time + pause, self.n_items) - pause
        finished = (self.start + np.bincount(session, weights=time + pause)).astype(np.int64)
        form = self.form[person] if s.assignment == "linear" else np.minimum(self.ordinal[session], 1)
        columns = {
            "person": person,
            "item": item,
            "session": session,
            "form": np.where(practice, -1, form),
            "position": position,
            "started": completed - time,
            "completed": completed,
            "recorded": (finished + self.lateness)[session],
            "correct": np.where(answered, correct, -1).astype(np.int8),
            "points": np.where(answered, np.where(most == 1, correct, np.where(right, most, points)), -1).astype(
                np.int8
            ),
            "response": np.where(answered, chosen, -1).astype(np.int8),
            "time": np.where(answered, time, -1),
            "hints": np.where(answered & hinted, rng.integers(1, 4, rows), 0),
            "sandbox": self.sandbox[session],
            "rapid": rapid & answered,
        }
        end = min(_milliseconds(s), int(self.month_starts[-1]))
        # A session that still runs at `now` is left out: its last items would look like items not reached.
        keep = (finished + 5000 <= end)[session]
        return {name: column[keep] for name, column in columns.items()}

    def _fault_effects(self, person: Ints, item: Ints, month: Ints) -> _FaultEffects:
        bank, people = self.bank, self.learners
        b = bank.b[month, item]
        known, always = np.zeros(item.size, dtype=bool), np.zeros(item.size, dtype=bool)
        time_factor = np.ones(item.size)
        for fault in bank.faults:
            here = np.isin(item, bank.index(fault)) & fault.active(self.scenario.months)[month]
            if fault.kind == "dif":
                b = b + np.where(here, np.where(people.lang[person] == "ko", 0.5, -0.5) * fault.size, 0.0)
            elif fault.kind == "leak":
                insider = here & (people.leak_rank[person] < fault.share)
                known |= insider
                time_factor[insider] = fault.size
            elif fault.kind == "all_correct":
                always |= here
        return _FaultEffects(b, known, always, time_factor)


def _probability(theta: Floats, a: Floats, b: Floats, c: Floats) -> Floats:
    return c + (1.0 - c) * expit(a * (theta - b))


def _ordinals(lengths: Ints) -> Ints:
    """0, 1, …, n−1 for each n of `lengths`, concatenated."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _running_sum(values: Ints, lengths: Ints) -> Ints:
    """Cumulative sum that restarts with each run of `lengths`."""
    total = np.concatenate([[0], np.cumsum(values)])
    return total[1:] - np.repeat(total[np.cumsum(lengths) - lengths], lengths)


def _form_ids(scenario: Scenario) -> tuple[str, ...]:
    if scenario.assignment == "adaptive":
        return ("placement", "adaptive")
    letters = scenario.block_letters
    return tuple(
        "".join(letters[(k + i) % scenario.blocks] for i in range(scenario.blocks_per_form))
        for k in range(scenario.blocks)
    )


def _milliseconds(scenario: Scenario) -> int:
    return int(scenario.now.timestamp() * 1000)
