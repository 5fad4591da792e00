"""The description of a simulation: the settings, the planted faults and the item bank that follows from them.

`make_bank` draws the items, chooses the anchors and the faulty items, and gives the anchors the values that an earlier
calibration would have left in the bank.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtri

from irt_assets.common.arrays import Floats, Ints, Mask
from irt_psychometrics import PsychometricsError
from irt_psychometrics.simulation import ScoredItems

FaultKind = Literal["drift", "leak", "dif", "wrong_key", "all_correct", "anchors_moved"]

OPTIONS = ("A", "B", "C", "D")
DISTRACTOR_SHARES = (0.5, 0.3, 0.2)
"""Shares of an item's three distractors among its wrong answers, most attractive first."""

OPEN_ITEM_INTERVAL = 6
"""Every sixth sound item has no options: real banks are mixed, and code that uses options must cope with both kinds."""

PLANTABLE_B = 0.5
"""Faults are planted in items with |b| up to this value, where most learners' answers show a change."""


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes:
        kind: kind of the fault. `drift`: b moves by `size`. `leak`: `share` of the learners answer correctly, in
            `size` times their usual time. `dif`: b is `size` higher for lang = ko than for en, half to each side.
            `wrong_key`: the bank's key is the most attractive distractor. `all_correct`: every answer is scored
            correct. `anchors_moved`: b of `n_items` anchors moves by `size`.
        first_month, last_month: `YYYY-MM`, both inclusive; None leaves that side open.
        size: in θ for drift, dif and anchors_moved; a factor on time for leak; unused otherwise.
        share: share of the learners, 0 to 1, for leak.
        n_items: number of items with the fault.
        scored: whether these are items scored 0 … m, instead of items scored 0 and 1.
        item_ids: the items; empty until `make_bank` has chosen them.
    """

    kind: FaultKind
    first_month: str | None = None
    last_month: str | None = None
    size: float = 0.0
    share: float = 1.0
    n_items: int = 1
    scored: bool = False
    item_ids: tuple[str, ...] = ()

    def active(self, months: tuple[str, ...]) -> Mask:
        """Whether the fault is present in each month, shape (months,)."""
        return np.array([(self.first_month or m) <= m <= (self.last_month or m) for m in months])


@dataclass(frozen=True)
class Scenario:
    """All inputs of a simulation. The same scenario gives the same log; a later `now` only extends it.

    Attributes:
        months: consecutive calendar months `YYYY-MM` (UTC), each with an intake of new learners.
        now: aware; nothing is completed after it. Answers that reach the database after it are the late batch.
        seed: seed of all random draws.
        learners_per_month: new learners per month, without test accounts.
        weekly_variance: variance of the daily random walk of θ, in θ² per week. 0: θ is constant within a calendar
            month, so that each window follows its model exactly.
        scored_items: scores of open items that are not anchors, in turn: ((0, 1, 2), (0, 2)) gives half of them the
            scores 0, 1 and 2, and the other half 0 and 2. Empty: all items are scored 0 and 1.
        faults: faults to plant.
        assignment: `linear`: forms. `adaptive`: the first session draws from the whole bank; the later sessions, a
            month after it, from items with |b − θ̂| ≤ `adaptive_width`, where θ̂ is the EAP of the first session's
            answers.

    Constants of all simulations, except the ones that `VocabularyScenario` replaces:
        scale_id: the scale of all items.
        first_block: letter of the first block; the next letters name the other blocks.
        session_prefix: start of the session ids.
        cohort_means, cohort_sds: mean and SD of new learners' θ, by month, repeated if there are more months.
        growth_mean, growth_sd: mean and SD of a learner's gain in θ from one calendar month to the next.
        blocks, items_per_block, blocks_per_form: the bank, and the linear forms: all combinations of neighbouring
            blocks, in a circle. Each learner gets a form's items in a random order.
        anchors_per_block: anchors, spread evenly over the block's sorted b.
        topics: dealt to the items in order of b, so that every topic spans the bank.
        discrimination_sd: SD of ln a.
        difficulty_sd: SD of b.
        guessing: c of every item, a probability.
        bank_n: learners in the earlier calibration from which the anchors' bank values come.
        adaptive_items: items per learner in adaptive assignment.
        adaptive_width: in SD of the reference population, that is in θ.
        intake: part of a month, from its start (0 to 1), in which learners begin.
        sessions: least and largest number of a learner's exam sessions.
        span_days: shortest and longest time from a learner's first to last exam session, in days.
        practice_sessions: expected number of sessions after the exam, each with `practice_items` items of the exam.
        practice_gap_days: mean time between practice sessions, in days.
        repeat_gain: increase of the logit for an item that the learner has seen.
        test_share: test accounts per new learner.
        sandbox_share: share of practice sessions in sandbox mode.
        hurried_share: share of learners who guess rapidly.
        hurried_rate: share of their answers that are rapid guesses.
        omit_rate: share of wrong exam answers that are left blank.
        unreached_rate: share of sessions whose last 1 to 3 items are not reached.
        hint_rate_exam, hint_rate_practice: share of answers that would be wrong for which hints are used.
        hint_success: share of these answers that become right.
        late_rate: share of sessions that reach the database late.
        late_days: mean delay of these sessions, in days (at most 45).
        time_median_s: median response time of the median item, in seconds.
        time_item_sd, time_person_sd, time_sd: SDs of log time between items, between learners, and within both
            (van der Linden 2007).
        speed_ability_correlation: correlation of a learner's speed and θ.
    """

    months: tuple[str, ...]
    now: datetime
    seed: int = 1
    learners_per_month: int = 1500
    weekly_variance: float = 0.0
    scored_items: tuple[tuple[int, ...], ...] = ()
    faults: tuple[Fault, ...] = ()
    assignment: Literal["linear", "adaptive"] = "linear"

    scale_id = "default"
    first_block = "A"
    session_prefix = "S"
    cohort_means = (0.0, 0.15, -0.1, 0.2, 0.05)
    cohort_sds = (1.0, 1.1, 0.95, 1.05, 1.0)
    growth_mean = 0.12
    growth_sd = 0.08
    blocks = 3
    items_per_block = 40
    blocks_per_form = 2
    anchors_per_block = 10
    topics: ClassVar[tuple[str, ...]] = ("algebra", "data", "functions", "geometry", "number")
    discrimination_sd = 0.25
    difficulty_sd = 1.0
    guessing = 0.0
    bank_n = 1000
    adaptive_items = 40
    adaptive_width = 1.0
    intake = 0.5
    sessions = (2, 4)
    span_days = (15, 21)
    practice_sessions = 2.2
    practice_items = 15
    practice_gap_days = 12.0
    repeat_gain = 0.7
    test_share = 0.01
    sandbox_share = 0.03
    hurried_share = 0.10
    hurried_rate = 0.15
    omit_rate = 0.04
    unreached_rate = 0.04
    hint_rate_exam = 0.005
    hint_rate_practice = 0.20
    hint_success = 0.7
    late_rate = 0.01
    late_days = 10.0
    time_median_s = 45.0
    time_item_sd = 0.30
    time_person_sd = 0.25
    time_sd = 0.35
    speed_ability_correlation = 0.3

    def __post_init__(self) -> None:
        if not self.months:
            raise ValueError("months is empty: name at least one month, e.g. ('2026-07',)")
        first = np.datetime64(self.months[0], "M")
        wanted = tuple(str(first + k) for k in range(len(self.months)))
        if self.months != wanted:
            raise ValueError(f"months must be consecutive YYYY-MM; got {self.months}, expected {wanted}")
        if self.now.tzinfo is None:
            raise ValueError(f"now must carry a time zone, got {self.now.isoformat()}: use datetime(..., tzinfo=UTC)")
        if self.scored_items and self.assignment == "adaptive":
            raise PsychometricsError("adaptive assignment uses answers scored 0 and 1: set scored_items=()")
        for fault in self.faults:
            if fault.scored and fault.kind in ("wrong_key", "anchors_moved"):
                raise ValueError(f"fault {fault.kind} cannot be in scored items: they have neither key nor anchors")
            if not fault.active(self.months).any():
                span = f"{fault.first_month or '…'} to {fault.last_month or '…'}"
                raise ValueError(f"fault {fault.kind} ({span}) is in none of the months {self.months}")

    @property
    def n_items(self) -> int:
        return self.blocks * self.items_per_block

    @property
    def block_letters(self) -> tuple[str, ...]:
        """Names of the blocks, in order."""
        return tuple(chr(ord(self.first_block) + k) for k in range(self.blocks))

    @property
    def exam_items(self) -> int:
        """Number of items in a learner's exam sessions."""
        return self.blocks_per_form * self.items_per_block if self.assignment == "linear" else self.adaptive_items


@dataclass(frozen=True)
class VocabularyScenario(Scenario):
    """The small second scale of the demo: one form of 18 items, which some learners of the first scale take, too.

    A learner of both scales has the same θ on them at first. Test accounts belong to the first scale.
    """

    learners_per_month: int = 600
    scale_id = "vocabulary"
    first_block = "V"
    session_prefix = "V"
    blocks = 1
    items_per_block = 18
    blocks_per_form = 1
    anchors_per_block = 9
    topics = ("everyday", "technical")
    practice_sessions = 0.5
    practice_items = 6
    test_share = 0.0


def demo_scenario(now: datetime, seed: int = 1, *, scored: bool = False) -> Scenario:
    """Scenario of the demo: the four complete months before `now` and the current one, with one fault of every kind.

    Drift and leak begin in the third month. Wrong key, all-correct and DIF are present from the start. In the second
    month 12 of 30 anchors are 0.8 harder, so that nothing of that month may be published: by far enough that the
    month is held whatever the lengths of the months make of the draws. `scored`: open items are scored 0 to 3, 0 to
    2, or 0 and 2, and one of them drifts, too; nothing else changes. Draws depend on the position of a month and not
    on its name, so that the demo gives nearly the same picture whenever it is run.
    """
    running = np.datetime64(now.astimezone(UTC).strftime("%Y-%m"), "M")
    months = tuple(str(running - k) for k in range(4, -1, -1))
    faults = (
        Fault("drift", first_month=months[2], size=-0.8),
        Fault("leak", first_month=months[2], size=0.5, share=0.3),
        Fault("dif", size=1.0),
        Fault("wrong_key"),
        Fault("all_correct"),
        Fault("anchors_moved", first_month=months[1], last_month=months[1], size=0.8, n_items=12),
    )
    if not scored:
        return Scenario(months=months, now=now, seed=seed, faults=faults)
    scored_drift = Fault("drift", first_month=months[2], size=-0.8, scored=True)
    kinds = (0, 1, 2, 3), (0, 1, 2), (0, 2)
    return Scenario(months=months, now=now, seed=seed, faults=(*faults, scored_drift), scored_items=kinds)


@dataclass(frozen=True)
class Bank:
    """J items: their true values, and their values in the bank. Logistic metric, D = 1; b and θ are on one scale.

    Attributes:
        scale_id: the scale of all items.
        item_ids: block letter and number, e.g. `A07`, sorted.
        block, topic: shape (J,), indices.
        anchor: shape (J,), whether an item is an anchor.
        a, c: shape (J,), true values.
        b: shape (months, J), true values with drift and moved anchors. For a DIF item the middle of its groups; for a
            leaked, wrongly keyed or all-correct item the value without the fault.
        scored: the items as items of a partial credit model, with b before any fault.
        options: shape (J, 4), indices into OPTIONS: the right answer, then the distractors, most attractive first.
            All are −1 for an open item.
        key: shape (J,), the option that the bank scores as correct; −1 for an open item.
        time_intensity: shape (J,), log of the median time in ms (β of van der Linden 2007).
        bank_a, bank_b: shape (J,), estimates of an earlier calibration; NaN if the item is not an anchor.
        bank_cov: shape (J, 2, 2), their covariance; NaN if the item is not an anchor.
        faults: the scenario's faults with their items.
    """

    scale_id: str
    item_ids: tuple[str, ...]
    topics: tuple[str, ...]
    block: Ints
    topic: Ints
    anchor: Mask
    a: Floats
    b: Floats
    c: Floats
    scored: ScoredItems
    options: npt.NDArray[np.int8]
    key: npt.NDArray[np.int8]
    time_intensity: Floats
    bank_a: Floats
    bank_b: Floats
    bank_cov: Floats
    bank_n: int
    faults: tuple[Fault, ...]

    def index(self, fault: Fault) -> Ints:
        """Indices of a fault's items."""
        return np.array([self.item_ids.index(i) for i in fault.item_ids], dtype=np.int64)

    @property
    def max_scores(self) -> Ints:
        """Maximum scores, shape (J,)."""
        return self.scored.max_scores


def make_bank(scenario: Scenario) -> Bank:
    """Draw the bank of a scenario.

    Raises PsychometricsError if the bank has too few items of medium difficulty, or anchors, for the faults.
    """
    rng = np.random.default_rng([scenario.seed, 0])
    blocks, per_block = scenario.blocks, scenario.items_per_block
    quantiles = (np.arange(per_block) + 0.5) / per_block
    b = scenario.difficulty_sd * ndtri(quantiles) + rng.normal(0, 0.05, (blocks, per_block))
    b.sort(axis=1)
    rank_is_anchor = np.zeros(per_block, dtype=bool)
    # From the 3rd to the 95th percentile, so that the anchors together reach beyond the middle 80 % of b.
    rank_is_anchor[(np.linspace(0.03, 0.95, scenario.anchors_per_block) * per_block).astype(int)] = True

    shuffle = np.argsort(rng.random((blocks, per_block)), axis=1)
    b = np.take_along_axis(b, shuffle, axis=1).ravel()
    anchor = rank_is_anchor[shuffle].ravel()
    n = b.size
    width = len(str(per_block))
    item_ids = tuple(f"{letter}{j + 1:0{width}d}" for letter in scenario.block_letters for j in range(per_block))
    block = np.repeat(np.arange(blocks), per_block)
    a = np.clip(np.exp(rng.normal(0, scenario.discrimination_sd, n)), 0.5, 2.0)
    topic = np.empty(n, dtype=np.int64)
    for group in (anchor, ~anchor):
        in_order = np.flatnonzero(group)[np.argsort(b[group])]
        topic[in_order] = np.arange(in_order.size) % len(scenario.topics)

    chosen = _choose_items([f for f in scenario.faults if not f.scored], item_ids, block, anchor, b, rng)
    position = {item: j for j, item in enumerate(item_ids)}
    planted = [position[i] for f in chosen if f.kind != "anchors_moved" for i in f.item_ids]
    a[planted] = 1.0
    is_open = np.arange(n) % OPEN_ITEM_INTERVAL == OPEN_ITEM_INTERVAL - 1
    is_open[planted] = False
    scored = _scored_items(scenario, is_open & ~anchor, a, b)
    a = scored.a
    own = np.random.default_rng([scenario.seed, 0, 1])
    of_scored = [f for f in scenario.faults if f.scored]
    chosen += _choose_items(of_scored, item_ids, block, scored.max_scores == 1, b, own)
    faults = tuple(chosen)
    b_by_month = np.tile(b, (len(scenario.months), 1))
    for fault in faults:
        if fault.kind in ("drift", "anchors_moved"):
            moved = [position[i] for i in fault.item_ids]
            b_by_month[:, moved] += fault.size * fault.active(scenario.months)[:, None]

    options = np.argsort(rng.random((n, len(OPTIONS))), axis=1).astype(np.int8)
    options[is_open] = -1
    key = options[:, 0].copy()
    for fault in faults:
        if fault.kind == "wrong_key":
            wrong = [position[i] for i in fault.item_ids]
            key[wrong] = options[wrong, 1]

    c = np.full(n, scenario.guessing)
    cov = calibration_covariance(a, b, c, scenario.bank_n)
    error = np.einsum("jkl,jl->jk", np.linalg.cholesky(cov), rng.standard_normal((n, 2)))
    return Bank(
        scale_id=scenario.scale_id,
        item_ids=item_ids,
        topics=scenario.topics,
        block=block,
        topic=topic,
        anchor=anchor,
        a=a,
        b=b_by_month,
        c=c,
        scored=scored,
        options=options,
        key=key,
        time_intensity=np.log(1000 * scenario.time_median_s) + rng.normal(0, scenario.time_item_sd, n),
        bank_a=np.where(anchor, a + error[:, 0], np.nan),
        bank_b=np.where(anchor, b + error[:, 1], np.nan),
        bank_cov=np.where(anchor[:, None, None], cov, np.nan),
        bank_n=scenario.bank_n,
        faults=faults,
    )


def calibration_covariance(a: Floats, b: Floats, c: Floats, n: int) -> Floats:
    """Covariance of (a, b) from n answers of learners with θ ~ N(0, 1) and D = 1, shape (J, 2, 2).

    The inverse of n ∫ g gᵀ / (P Q) φ(θ) dθ with g = (1 − c) L (1 − L) (θ − b, −a) and L the logistic part (Lord 1980,
    section 12.1). θ and c count as known, which is nearly true of an earlier calibration with a long test.
    """
    nodes = np.linspace(-6, 6, 121)
    weights = np.exp(-0.5 * nodes**2)
    weights /= weights.sum()
    away = nodes[:, None] - b
    logistic = expit(a * away)
    p, slope = c + (1.0 - c) * logistic, (1.0 - c) * logistic * (1.0 - logistic)
    direction = np.stack([away, np.broadcast_to(-a, away.shape)], axis=-1)
    information = n * np.einsum("q,qj,qjk,qjl->jkl", weights, slope**2 / (p * (1 - p)), direction, direction)
    return np.linalg.inv(information)


def _scored_items(scenario: Scenario, is_scored: Mask, a: Floats, b: Floats) -> ScoredItems:
    """All items as scored items.

    `is_scored`: shape (J,), the items that get the scenario's `scored_items`, if it has any; the others are scored 0
    and 1.
    """
    scored_items = np.flatnonzero(is_scored) if scenario.scored_items else np.zeros(0, dtype=np.int64)
    scores: list[tuple[int, ...]] = [(0, 1)] * len(a)
    for turn, j in enumerate(scored_items):
        scores[j] = scenario.scored_items[turn % len(scenario.scored_items)]
    return ScoredItems.draw(np.random.default_rng([scenario.seed, 0, 2]), scores, a, b)


def _choose_items(
    faults: list[Fault],
    item_ids: tuple[str, ...],
    block: Ints,
    anchor: Mask,
    b: Floats,
    rng: np.random.Generator,
) -> list[Fault]:
    """Give every fault its items, each used once: for moved anchors, anchors at random; for any other fault, items of
    medium difficulty that are not anchors, taking turns between the blocks."""
    free = np.flatnonzero(~anchor & (np.abs(b) <= PLANTABLE_B))
    free = free[np.argsort(np.abs(b[free]))]
    turn = np.array([np.sum(block[free[:k]] == block[j]) for k, j in enumerate(free)])
    queue = list(free[np.lexsort((block[free], turn))])
    anchors = np.flatnonzero(anchor)
    chosen = []
    for fault in faults:
        pool = len(anchors) if fault.kind == "anchors_moved" else len(queue)
        if pool < fault.n_items:
            raise PsychometricsError(
                f"fault {fault.kind} needs {fault.n_items} items, but {pool} are left: "
                "enlarge items_per_block or anchors_per_block, or plant fewer faults"
            )
        if fault.kind == "anchors_moved":
            items = np.sort(rng.choice(anchors, fault.n_items, replace=False))
        else:
            items, queue = np.array(queue[: fault.n_items]), queue[fault.n_items :]
        chosen.append(replace(fault, item_ids=tuple(item_ids[j] for j in items)))
    return chosen
