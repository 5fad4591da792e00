"""One learner's θ on request: the θ that the month and the night would report on the same answers, kept as a row.

What does not belong here: how θ is estimated (see `irt_psychometrics.scoring`), and HTTP (see `services.theta_api`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta

import psycopg

from irt_assets.abilities.batch import curves_of, scored_by, with_errors
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.ledger.publications import PublishedSet
from irt_assets.responses.facts import abilities_start, ability_start
from irt_assets.responses.item_status import instant_of
from irt_assets.responses.learner_answers import (
    Answer,
    Judging,
    ScoredItems,
    answered_at_all,
    learner_answers,
    read_judging,
)
from irt_assets.responses.scales import Scale, read_scales
from irt_psychometrics.scoring import Curves, ParameterErrors, theta_now
from resources.postgres.database import advisory_lock, records

MOST_HISTORY = 100
USUAL_DAYS = 30
"""Days of answers that count on request where θ is constant and nobody says how many."""


JUDGING_S = 300
"""Seconds for which rules and item times that judge answers are kept."""


@dataclass(frozen=True)
class Measure:
    """What a scale is measured with: its rules, the set in force, its items, and their curves in the same order."""

    scale: Scale
    published: PublishedSet
    items: ScoredItems
    curves: Curves
    errors: ParameterErrors | None
    scored_by: str

    @classmethod
    def of(cls, scale: Scale, published: PublishedSet, before: Measure | None = None) -> Measure:
        """`before`: an earlier one, whose curves it keeps where they are the same."""
        items = ScoredItems.of(published.items, published.withdrawn)
        if before and (before.scale, before.published.set_hash) == (scale, published.set_hash):
            curves = before.curves
        else:
            curves = curves_of(items.item_ids, published.items, scale, published.testlets)
        errors = published.errors.among(items.item_ids) if published.errors else None
        return cls(scale, published, items, curves, errors, scored_by(published, scale))


@dataclass(frozen=True)
class Measures:
    """Every scale that has a set in force as of a time, and what judges answers without a verdict."""

    as_of: datetime
    scales: Mapping[str, Measure]
    judging: Judging


@dataclass(frozen=True)
class Theta:
    """A row of `mirt_ability`, or what is to become one.

    Attributes:
        as_of: when the last of its answers was given.
        update_id: hash of everything that θ depends on, or id of the run that measured θ.
        lookback_days: the number of days whose answers it rests on, fewer than count; it has no row then. None: it
            rests on all answers that count.
    """

    scale_id: str
    theta: float
    se: float
    se_total: float | None
    n_items: int
    kind: str
    window_end: datetime
    set_hash: str
    scale_version: int
    fitted_at: datetime
    as_of: datetime | None
    update_id: str
    lookback_days: int | None = None


_STORE = """
    WITH stored AS (
      INSERT INTO mirt_ability AS known (update_id, user_id, scale_id, theta, se, se_total, method, n_items,
        kind, window_end, as_of, published_as_of, set_hash, scale_version, fitted_at)
      VALUES (%(update_id)s, %(user_id)s, %(scale_id)s, %(theta)s, %(se)s, %(se_total)s, 'eap', %(n_items)s,
        %(kind)s, %(window_end)s, %(as_of)s, %(published_as_of)s, %(set_hash)s, %(scale_version)s, %(fitted_at)s)
      ON CONFLICT (update_id, user_id, scale_id) DO UPDATE
      SET theta = excluded.theta, se = excluded.se, se_total = excluded.se_total, window_end = excluded.window_end,
        as_of = excluded.as_of, published_as_of = excluded.published_as_of, fitted_at = excluded.fitted_at
      WHERE known.fitted_at < (SELECT max(o.fitted_at) FROM mirt_ability o
        WHERE o.user_id = %(user_id)s AND o.scale_id = %(scale_id)s AND o.kind = 'online')
      RETURNING window_end, fitted_at)
    SELECT * FROM stored
    UNION ALL
    SELECT window_end, fitted_at FROM mirt_ability
    WHERE (update_id, user_id, scale_id) = (%(update_id)s, %(user_id)s, %(scale_id)s)
      AND NOT EXISTS (SELECT FROM stored)
"""
_THETA = ", ".join(one.name for one in fields(Theta) if one.name != "lookback_days")


@dataclass(frozen=True)
class Learner:
    """What the platform knows about a learner whose θ is requested."""

    user_id: str
    is_test: bool
    target_scale_id: str | None
    target_theta: float | None = None


def read_measures(connection: psycopg.Connection, now: datetime, known: Measures | None = None) -> Measures:
    """What learners are measured with from `now` on; `known`: what was read before."""
    scales, measures = read_scales(connection, now), {}
    for scale_id, scale in scales.items():
        if (published := set_with_errors(connection, scale_id, now)).items:
            measures[scale_id] = Measure.of(scale, published, known.scales.get(scale_id) if known else None)
    if known is not None and now - known.judging.read_at < timedelta(seconds=JUDGING_S):
        return Measures(now, measures, known.judging)
    items = {item for measure in measures.values() for item in measure.items.item_ids}
    return Measures(now, measures, read_judging(connection, scales, items, abilities_start(now, scales), now))


def find_learner(connection: psycopg.Connection, user_id: str) -> Learner | None:
    """The learner; None if there is neither a row nor an attempt."""
    row = connection.execute(
        "SELECT is_test, target_scale_id, target_theta FROM learner WHERE user_id = %s", (user_id,)
    ).fetchone()
    if row is not None:
        return Learner(user_id, *row)
    return Learner(user_id, False, None) if answered_at_all(connection, user_id) else None


def find_learners(connection: psycopg.Connection, prefix: str, most: int) -> list[Learner]:
    """Learners with a row whose id begins so, in order of id.

    In a database with the collation C, as the embedded one has it, no others are looked at.
    """
    pattern = re.sub(r"([\\%_])", r"\\\1", prefix) + "%"
    return records(
        connection,
        Learner,
        """SELECT user_id, is_test, target_scale_id, target_theta FROM learner
               WHERE user_id LIKE %s ORDER BY user_id LIMIT %s""",
        (pattern, most),
    )


def update(
    connection: psycopg.Connection, measures: Measures, user_id: str, lookback_days: int | None, now: datetime
) -> dict[str, Theta]:
    """Measure and store a learner on every scale whose published items were answered in the days before `now`.

    lookback_days: None for all answers that count, or for `USUAL_DAYS` if θ is constant. If ability moves, the θ of
    all answers is stored, because a θ of some days is not the ability of now; the θ of those days is returned.

    The same answers scored with the same set are the same row. Another update of the learner waits until the caller's
    transaction ends.
    """
    advisory_lock(connection, "theta", user_id)
    asked = now - timedelta(days=lookback_days or USUAL_DAYS)
    starts = {
        scale_id: ability_start(now, measure.scale) if measure.scale.movement else asked
        for scale_id, measure in measures.scales.items()
    }
    answers = learner_answers(connection, user_id, min([asked, *starts.values()]), now, measures.judging)
    found = {}
    for scale_id, measure in measures.scales.items():
        theta = _theta(user_id, measure, answers, starts[scale_id], now)
        if theta is None:
            continue
        found[scale_id] = _store(connection, user_id, theta, measures.as_of)
        if measure.scale.movement and lookback_days is not None:
            recent = _theta(user_id, measure, answers, asked, now)
            if recent is None:
                del found[scale_id]
            else:
                found[scale_id] = replace(recent, lookback_days=lookback_days)
    return found


def read_theta(
    connection: psycopg.Connection, measures: Measures, scale_id: str, user_id: str, end: datetime
) -> Theta | None:
    """θ from all answers of a learner on a scale that count at `end`. None: there are none. Stores nothing."""
    measure = measures.scales[scale_id]
    start = ability_start(end, measure.scale)
    answers = learner_answers(connection, user_id, start, end, measures.judging)
    return _theta(user_id, measure, answers, start, end)


def _theta(user_id: str, measure: Measure, answers: Sequence[Answer], since: datetime, now: datetime) -> Theta | None:
    """θ from the answers to the scale's items from a time on. None: there are none."""
    scale, responses = measure.scale, measure.items.responses(answers, since)
    if not responses.n_responses:
        return None
    scores = theta_now(responses, measure.curves, scale.movement, threads=1)
    content = [user_id, scale.scale_id, measure.scored_by, scale.mu, scale.sigma]
    content += [[responses.item_ids[item] for item in responses.item], responses.score.tolist()]
    if scale.movement and responses.at is not None:
        content.append(responses.at.tolist())
    return Theta(
        scale_id=scale.scale_id,
        theta=float(scores.theta[0]),
        se=float(scores.se[0]),
        se_total=with_errors(scores, responses, measure.errors, scale).known_total,
        n_items=responses.n_responses,
        kind="online",
        window_end=now,
        set_hash=measure.scored_by,
        scale_version=scale.anchor_version,
        fitted_at=now,
        as_of=instant_of(int(responses.last_at[0])),
        update_id=f"online-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:40]}",
    )


def _store(connection: psycopg.Connection, user_id: str, theta: Theta, published_as_of: datetime) -> Theta:
    """Store a θ, unless its row is already the learner's newest of the scale. Returns the θ as it is stored."""
    values = vars(theta) | {"user_id": user_id, "published_as_of": published_as_of}
    [(window_end, fitted_at)] = connection.execute(_STORE, values, prepare=True).fetchall()
    return replace(theta, window_end=window_end, fitted_at=fitted_at)


def read_thetas(connection: psycopg.Connection, user_id: str, most: int = MOST_HISTORY) -> list[Theta]:
    """A learner's θs of every kind and scale, latest answers first; at most `most`."""
    return records(
        connection,
        Theta,
        f"""SELECT {_THETA} FROM mirt_ability WHERE user_id = %s
            ORDER BY window_end DESC, fitted_at DESC, scale_id LIMIT %s""",
        (user_id, most),
    )


def latest_of(connection: psycopg.Connection, user_ids: Collection[str]) -> dict[str, dict[str, Theta]]:
    """The θ of the latest answers, by learner and scale; meant for a few learners, as each costs a query."""
    rows = connection.execute(
        f"""SELECT DISTINCT ON (user_id, scale_id) user_id, {_THETA} FROM mirt_ability WHERE user_id = ANY(%s)
            ORDER BY user_id, scale_id, window_end DESC, fitted_at DESC""",
        (list(user_ids),),
    ).fetchall()
    found: dict[str, dict[str, Theta]] = {}
    for user, *row in rows:
        found.setdefault(user, {})[row[0]] = Theta(*row)
    return found


def latest(thetas: Iterable[Theta]) -> dict[str, Theta]:
    """The θ of the latest answers among `read_thetas`, by scale."""
    found: dict[str, Theta] = {}
    for one in thetas:
        found.setdefault(one.scale_id, one)
    return found


def scale_to_answer_by(learner: Learner, found: Mapping[str, Theta]) -> str | None:
    """The learner's target scale; without one, that with the most answers; None where nothing was found."""
    if learner.target_scale_id is not None or not found:
        return learner.target_scale_id
    return max(sorted(found), key=lambda scale_id: found[scale_id].n_items)
