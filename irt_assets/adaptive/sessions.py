"""Sessions of adaptive tests: the values that their first request fixes, and the next item by the answers.

A session's row in `adaptive_session`, the bank that it cites and the answers determine the next item. `Plans` keeps the
tables of the tests in force and of the sessions under way in memory.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import psycopg
from psycopg.types.json import Jsonb
from pydantic import BaseModel, Field

from irt_assets.abilities.online import Measures, read_theta
from irt_assets.adaptive.banks import TestBank, hash_content, read_test_bank
from irt_assets.adaptive.exposure import (
    counts_by_items,
    counts_of_session,
    exposure_counts,
    simulated_counts,
    with_prior,
)
from irt_assets.adaptive.stored_banks import read_session_bank, store_bank
from irt_assets.adaptive.versions import TestVersion, versions_in_force
from irt_assets.common.arrays import Floats
from irt_assets.intake.max_scores import known_maxima
from irt_assets.new_items.draws import Places, fill_places, give_back_unanswered, read_draws
from irt_assets.new_items.pool import SeedPools
from irt_assets.responses.points import is_possible, read_points
from irt_assets.scales.item_status import Withdrawals, read_withdrawals
from irt_psychometrics import PsychometricsError
from irt_psychometrics.adaptive import Step, simulate_tests
from resources.failures import PermanentFailure
from resources.postgres.database import first_column, one_value, record

LOG = logging.getLogger(__name__)
MAX_FORMER_BANKS = 8
"""Largest number of banks in memory besides the banks of the tests in force. The tables of 2,000 items take 35 MB."""
DAY = timedelta(days=1)
FIRST_SESSIONS = 1_000
"""Number of simulated sessions from which a test without any counts starts; a twentieth with shadow tests."""
DAYS_OF_ENDED = 2
"""Days for which ended sessions are remembered, so that a repeated last request counts once."""


class Answer(NamedTuple):
    """An answer of a session, as it was sent or as it is in the log. `counts`: false if the log has it as dropped."""

    item_id: str
    correct: bool | None
    score: int | None
    counts: bool = True


@dataclass(frozen=True)
class Session:
    """A row of `adaptive_session`, without its scale.

    Attributes:
        bank_hash: the stored bank; None: the session began before banks were stored.
        start_theta, start_se: the learner's θ of the start by which items are chosen; None: the population.
        eligible: items that are avoided because of their exposure, by interval of θ.
        unscored: items for the unscored places, in order; empty if new items are drawn when a place comes up.
        seen: items that the learner had seen within the look-back before the start.
    """

    session_id: str
    user_id: str
    test_id: str
    version: int
    set_hash: str
    bank_hash: str | None
    seed: int
    start_theta: float | None
    start_se: float | None
    eligible: Mapping[str, Sequence[float]]
    unscored: Sequence[str]
    seen: Sequence[str]
    started_at: datetime

    @property
    def start(self) -> tuple[float, float] | None:
        return None if self.start_theta is None or self.start_se is None else (self.start_theta, self.start_se)


_COLUMNS = ", ".join(field.name for field in fields(Session))


class NextItem(BaseModel):
    """The next item of a session, or the reason for which the session ends. Learners must not see it."""

    test: str
    session_id: str
    version: int = Field(description="version of the test's policy")
    set_hash: str = Field(description="hash of the published parameters")
    seed: int = Field(description="seed of the session's random choices")
    item_id: str | None = Field(description="the next item; null if the session ends")
    position: int = Field(description="number of the next item among all items of the session, from 1")
    scored: bool = Field(description="whether the answer will be scored")
    theta: float = Field(description="θ by the population and the scored answers of this session")
    se: float = Field(description="standard error of θ")
    stop: str | None = Field(description="max-items, max-se, classified or no-item; null if the session goes on")
    passes: bool | None = Field(description="whether the learner passes; null before the end, or without a pass mark")
    skipped: list[str] = Field(description="items of the test that were withdrawn after the session began")


@dataclass(frozen=True)
class Offer:
    """A test in force.

    Attributes:
        counts, simulated: `exposure_counts` and `simulated_counts` of the test.
        finished: counts in sessions that ended in this process, by day of their start, until the day is counted.
        ended: the sessions of the last days that `finished` includes, by day of their start.
        drawn: for each item for unscored places, the number of sessions for which it was drawn; empty while items of
            the scale are being seeded.
    """

    version: TestVersion
    bank: TestBank
    counts: Floats
    simulated: Floats
    finished: dict[date, Floats]
    ended: dict[date, set[str]]
    drawn: Counter[str]

    @property
    def eligibility(self) -> Floats:
        """Probability that an item is eligible in the next session, shape (S, J)."""
        counts = with_prior(sum([*self.finished.values()], self.counts), self.simulated)
        return self.bank.plan.eligibility(*counts)


class Plans:
    """The tests in force, and the banks of their sessions.

    Attributes:
        offers: the tests in force.
        faults: the reasons for which other tests in force cannot be given.
        seeds: the new items to draw for unscored places.
    """

    def __init__(self) -> None:
        self.offers: dict[str, Offer] = {}
        self.faults: dict[str, str] = {}
        self.seeds = SeedPools()
        self._banks: dict[str, TestBank] = {}
        self._withdrawn, self._dropped = Withdrawals(), set[str]()
        self._max_scores: dict[str, int | None] = {}
        self._lock = threading.Lock()

    def refresh(self, connection: psycopg.Connection, now: datetime) -> None:
        """Read the tests in force and the items withdrawn, and make the tables of new plans."""
        self._withdrawn = read_withdrawals(connection)
        self._dropped = set(first_column(connection, "SELECT item_id FROM question WHERE meta->'key' = '[]'::jsonb"))
        self._max_scores = known_maxima(connection)
        offers, faults = {}, dict[str, str]()
        for test_id, version in versions_in_force(connection, now).items():
            try:
                offers[test_id] = self._offer(connection, version, now)
            except PermanentFailure as error:
                faults[test_id] = str(error)
                LOG.warning("test %s cannot be given: %s", test_id, error)
        self.offers, self.faults = offers, faults
        with self._lock:
            in_force = [offer.bank for offer in offers.values()]
            former = [key for key, bank in self._banks.items() if bank not in in_force]
            for key in former[:-MAX_FORMER_BANKS]:
                del self._banks[key]

    def _offer(self, connection: psycopg.Connection, version: TestVersion, now: datetime) -> Offer:
        read = read_test_bank(connection, version.policy, now)
        content = read.content
        content_hash = hash_content(content)
        bank = self._banks.get(content_hash)
        if bank is None:
            bank = TestBank.from_content(content, content_hash)
            bank.plan.next([], [], random_state=0)  # makes the tables
            self._banks[content_hash] = bank
        counts, simulated = (
            read_counts(connection, version.version, bank.plan) for read_counts in (exposure_counts, simulated_counts)
        )
        former = self.offers.get(version.test_id)
        if former and former.version.version == version.version:
            counted = one_value(connection, "SELECT max(day) FROM item_exposure WHERE version = %s", (version.version,))
            finished, ended, drawn = former.finished, former.ended, former.drawn
            if former.bank is not bank:
                finished = {day: counts_by_items(own, former.bank.plan, bank.plan) for day, own in [*finished.items()]}
            if not counts.any() and not simulated.any():
                simulated = counts_by_items(former.simulated, former.bank.plan, bank.plan)
            for day in [*finished]:
                if counted and day <= counted:
                    del finished[day]
            for day in [*ended]:
                if not _is_recent(day, now):
                    del ended[day]
        else:
            finished, ended = {}, {}
            if bank.test.max_exposure is not None and not counts.any() and not simulated.any():
                n = FIRST_SESSIONS if bank.policy.content == "priority" else FIRST_SESSIONS // 20
                first = simulate_tests(
                    bank.items,
                    bank.test,
                    n,
                    errors=bank.plan.posterior,
                    mean=bank.scale.mu,
                    sd=bank.scale.sigma,
                    threads=1,
                )
                simulated = np.array([first.times_eligible, first.times_given])
            drawn = Counter(
                first_column(
                    connection,
                    """SELECT item FROM adaptive_session, jsonb_array_elements_text(unscored) item
                       WHERE test_id = %s AND started_at >= %s""",
                    (version.test_id, now - 90 * DAY),
                )
            )
        unscored = () if version.policy.scale in self.seeds.by_scale else read.unscored
        return Offer(
            version, bank, counts, simulated, finished, ended, Counter({item: drawn[item] for item in unscored})
        )

    def bank_of(self, connection: psycopg.Connection, session: Session) -> TestBank:
        """Return the bank of a session. Raises SetGone if it is not known any more.

        A session of an earlier release cites the bank that is found from then on, so every replica uses this bank.
        """
        with self._lock:
            bank = self._banks.get(session.bank_hash or "")
            if bank is None:
                bank = read_session_bank(
                    connection, session.version, session.bank_hash, session.set_hash, session.started_at
                )
                if session.bank_hash is None:
                    bank = _cite(connection, session, bank)
                bank = self._banks.setdefault(bank.content_hash, bank)
            return bank

    def next_item(
        self, connection: psycopg.Connection, session: Session, sent: Sequence[Answer] | None, now: datetime
    ) -> NextItem:
        """Choose the next item of a session by all answers so far, in order. None: by the answers in the log.

        Answers to items that are dropped from scoring count neither for θ nor for the length. Raises PsychometricsError
        if sent answers are not possible or do not belong to the session's test, and SetGone like `bank_of`.
        """
        bank, offer = self.bank_of(connection, session), self.offers.get(session.test_id)
        answers = read_answers(connection, session) if sent is None else sent
        plan, answered = bank.plan, {answer.item_id for answer in answers}
        draws_seeds = bool(bank.test.unscored and not session.unscored)
        seeds = {*read_draws(connection, session.user_id, session.session_id).values()} if draws_seeds else set()
        gone = {item for item in self._withdrawn.stretches if self._withdrawn.covers(item, now)} | self._dropped
        uncounted = self._dropped | {*session.unscored} | seeds | gone.difference(plan.places)
        points = [self._points(bank, answer, from_log=sent is None) for answer in answers]
        given = [
            (answer.item_id, own)
            for answer, own in zip(answers, points, strict=True)
            if answer.counts and own is not None and answer.item_id not in uncounted
        ]
        scored = [item for item, _ in given]
        step = plan.next(
            scored,
            [own for _, own in given],
            random_state=session.seed,
            start=session.start,
            score_from_start=bank.policy.score_by == "theta-now",
            excluded=gone | answered | {*session.seen} | _enemies(bank, seeds),
            eligible=session.eligible,
        )
        position, stop, item = len(answers) + 1, step.stop, step.item
        places = plan.unscored_places(session.seed) if stop in (None, "max-items") else ()
        of_place = session.unscored if position in places else []
        if draws_seeds and position in places:
            of_place = [*self._fill(connection, session, bank, position, step, gone | _enemies(bank, answered), now)]
        unscored = [own for own in of_place if own not in answered and own not in gone]
        if stop and not unscored and seeds:
            give_back_unanswered(connection, session.session_id, answered, now)
        if unscored:
            item, stop = unscored[0], None
        elif stop and offer and offer.version.version == session.version:
            _count_end(offer, session, scored, step.theta, now)
        return NextItem(
            test=session.test_id,
            session_id=session.session_id,
            version=session.version,
            set_hash=session.set_hash,
            seed=session.seed,
            item_id=item,
            position=position,
            scored=not unscored,
            theta=step.theta,
            se=step.se,
            stop=stop,
            passes=step.passes if stop else None,
            skipped=sorted(gone & (plan.places.keys() | {*session.unscored} | seeds)),
        )

    def _fill(
        self,
        connection: psycopg.Connection,
        session: Session,
        bank: TestBank,
        position: int,
        step: Step,
        excluded: set[str],
        now: datetime,
    ) -> Collection[str]:
        """Draw a new item for a place by the ability so far, unless the place has one. Returns the item, if any."""
        pool = self.seeds.by_scale.get(bank.policy.scale)
        place = Places(session.user_id, session.session_id, session.test_id, [position])
        posterior = step.theta, step.se
        return fill_places(connection, pool, place, lambda: posterior, now, excluded=excluded).values()

    def _points(self, bank: TestBank, answer: Answer, *, from_log: bool) -> int | None:
        """Read an answer's points; None: it does not count. Raises PsychometricsError if a sent one is impossible."""
        values = bank.published.items.get(answer.item_id)
        most = values.max_score if values else self._max_scores.get(answer.item_id) or 1
        if not from_log and not is_possible(answer.correct, answer.score, most):
            correct = "" if answer.correct is None else f" with correct {str(answer.correct).lower()}"
            raise PsychometricsError(
                f"the score of item {answer.item_id} must be 0 to {most}, with correct true only for {most}, got "
                f"{answer.score}{correct}"
            )
        return read_points(answer.correct, answer.score, most)


def _enemies(bank: TestBank, items: Set[str]) -> set[str]:
    """Return the enemies of items, and the items that have enemies."""
    return {enemy for group in bank.enemies if items & group for enemy in group}


def _is_recent(day: date, now: datetime) -> bool:
    return (now.astimezone(UTC).date() - day).days < DAYS_OF_ENDED


def _count_end(offer: Offer, session: Session, given: Sequence[str], theta: float, now: datetime) -> None:
    """Count the items of a session that has ended, once."""
    day = session.started_at.astimezone(UTC).date()
    if not _is_recent(day, now) or session.session_id in offer.ended.setdefault(day, set()):
        return
    interval, own = counts_of_session(offer.bank.plan, session.eligible, given, theta)
    offer.finished.setdefault(day, np.zeros_like(offer.counts))[:, interval] += own
    offer.ended[day].add(session.session_id)


def _cite(connection: psycopg.Connection, session: Session, bank: TestBank) -> TestBank:
    """Store a bank and let a session cite it. If a simultaneous request was first, return the bank of that request."""
    store_bank(connection, bank)
    cited = one_value(
        connection,
        "UPDATE adaptive_session SET bank_hash = coalesce(bank_hash, %s) WHERE session_id = %s RETURNING bank_hash",
        (bank.content_hash, session.session_id),
    )
    if cited == bank.content_hash:
        return bank
    return read_session_bank(connection, session.version, cited, session.set_hash, session.started_at)


def find_session(connection: psycopg.Connection, session_id: str) -> Session | None:
    """Find a session by its id."""
    return record(connection, Session, f"SELECT {_COLUMNS} FROM adaptive_session WHERE session_id = %s", (session_id,))


def begin_session(
    connection: psycopg.Connection, offer: Offer, measures: Measures, user_id: str, session_id: str, now: datetime
) -> Session:
    """Begin a session, unless a simultaneous request has begun it. Returns the session as stored."""
    policy, bank, plan = offer.bank.policy, offer.bank, offer.bank.plan
    seed = secrets.randbits(53)  # JavaScript's integers have 53 bits
    theta = read_theta(connection, measures, policy.scale, user_id, now) if policy.start == "theta-now" else None
    seen = set(
        first_column(
            connection,
            """SELECT DISTINCT item_id FROM attempt
               WHERE user_id = %s AND completed_at >= %s AND session_id IS DISTINCT FROM %s""",
            (user_id, now - policy.look_back_days * DAY, session_id),
        )
    )
    fresh = [item for item in offer.drawn if item not in seen]
    waits = np.random.default_rng([seed, 1]).exponential(1.0 + np.array([offer.drawn[item] for item in fresh]))
    unscored = [fresh[k] for k in np.argsort(waits)[: bank.test.unscored]]
    values: dict[str, Any] = {
        "session_id": session_id,
        "user_id": user_id,
        "test_id": policy.test,
        "version": offer.version.version,
        "scale_id": policy.scale,
        "scale_version": bank.scale.anchor_version,
        "set_hash": bank.published.set_hash,
        "bank_hash": bank.content_hash,
        "seed": seed,
        "start_theta": theta and theta.theta,
        "start_se": theta and theta.se,
        "eligible": Jsonb(plan.draw_ineligible(offer.eligibility, seed)),
        "unscored": Jsonb(unscored),
        "seen": Jsonb(sorted(seen & plan.places.keys())),
        "started_at": now,
    }
    store_bank(connection, bank)
    session = record(
        connection,
        Session,
        f"""INSERT INTO adaptive_session ({", ".join(values)}) VALUES ({", ".join(f"%({name})s" for name in values)})
            ON CONFLICT (session_id) DO UPDATE SET session_id = excluded.session_id RETURNING {_COLUMNS}""",
        values,
    )
    assert session is not None
    offer.drawn.update(unscored)
    return session


def read_answers(connection: psycopg.Connection, session: Session) -> list[Answer]:
    """Read the session's answers in the log, in order: the first answer to each item."""
    rows = connection.execute(
        """SELECT item_id, correct, score, mode <> 'dropped' FROM (
             SELECT DISTINCT ON (item_id) item_id, correct, score, mode, position, completed_at FROM attempt
             WHERE user_id = %s AND completed_at >= %s AND (session_id, form_id) = (%s, %s)
             ORDER BY item_id, position, completed_at) given
           ORDER BY position, completed_at""",
        (session.user_id, session.started_at - DAY, session.session_id, session.test_id),
    )
    return [Answer(*row) for row in rows]
