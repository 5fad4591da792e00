"""One learner's θ on request: the θ that the month and the night would report on the same answers, kept as a row.

What does not belong here: how θ is estimated (see `psychometrics.scoring`), and HTTP (see `services.theta_api`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

import psycopg

from irt_assets.abilities.batch import curves_of, estimate_by, scored_by, with_errors
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.ledger.publications import PublishedSet
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.scoring.abilities import Curves
from irt_assets.psychometrics.scoring.total_error import ParameterErrors
from irt_assets.responses.facts import ability_start
from irt_assets.responses.item_status import instant_of
from irt_assets.responses.learner_answers import Answer, RulesByDay, ScoredItems, answered_at_all, learner_answers
from irt_assets.responses.scales import Scale, read_scales
from resources.postgres.database import advisory_lock, records

MOST_HISTORY = 100
USUAL_DAYS = 30
"""Days of answers that count on request where θ is constant and nobody says how many."""


RULES_S = 300
"""Seconds for which rules and item times that judge the answers of a day are kept."""


@dataclass(frozen=True)
class Measure:
    """What a scale is measured with: its rules, the set in force, its items, and their curves in the same order."""

    scale: Scale
    published: PublishedSet
    items: ScoredItems
    curves: Curves
    errors: ParameterErrors | None

    @classmethod
    def of(cls, scale: Scale, published: PublishedSet, before: Measure | None = None) -> Measure:
        """`before`: an earlier one, whose curves it keeps where they are the same."""
        items = ScoredItems.of(published.items, published.withdrawn)
        if before and (before.scale, before.published.set_hash) == (scale, published.set_hash):
            curves = before.curves
        else:
            curves = curves_of(items.item_ids, published.items, scale, published.testlets)
        errors = published.errors.among(items.item_ids) if published.errors else None
        return cls(scale, published, items, curves, errors)

    @property
    def scored_by(self) -> str:
        return scored_by(self.published, self.scale)


@dataclass(frozen=True)
class Measures:
    """Every scale that has a set in force as of a time, and what judges answers without a verdict."""

    as_of: datetime
    scales: Mapping[str, Measure]
    by_day: RulesByDay


@dataclass(frozen=True)
class Score:
    """θ and its standard errors, as in `Scores`, how many answers they rest on, when the last was given, and the id of
    a row with them: a hash of everything that θ depends on."""

    theta: float
    se: float
    se_total: float | None
    n_items: int
    as_of: datetime
    update_id: str


@dataclass(frozen=True)
class Theta:
    """A row of `mirt_ability`, or what is to become one. `as_of`: when the last of its answers was given.

    `lookback_days`: the number of days whose answers it rests on, fewer than count; it has no row then. None: it rests
    on all answers that count.
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
    lookback_days: int | None = None


_THETA = ", ".join(field.name for field in fields(Theta) if field.name != "lookback_days")


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
    fresh = known is not None and now - known.by_day.read_at < timedelta(seconds=RULES_S)
    items = {item for measure in measures.values() for item in measure.items.item_ids}
    return Measures(now, measures, known.by_day if known and fresh else RulesByDay(scales, items, now))


def read_past_measure(connection: psycopg.Connection, scale: Scale, at: datetime) -> Measure | None:
    """What the month or night that ended then was measured with. None: no item was in force on the scale."""
    published = set_with_errors(connection, scale.scale_id, at)
    return Measure.of(scale, published) if published.items else None


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
    answers = learner_answers(connection, user_id, min([asked, *starts.values()]), now, measures.by_day)
    found = {}
    for scale_id, measure in measures.scales.items():
        score = _score(measure, user_id, answers, starts[scale_id])
        if score is None:
            continue
        found[scale_id] = _kept(connection, user_id, _theta(measure, score, now), score.update_id, measures.as_of)
        if measure.scale.movement and lookback_days is not None:
            recent = _score(measure, user_id, answers, asked)
            if recent is None:
                del found[scale_id]
            else:
                found[scale_id] = replace(_theta(measure, recent, now), lookback_days=lookback_days)
    return found


def read_score(
    connection: psycopg.Connection, measure: Measure, user_id: str, start: datetime, end: datetime
) -> Score | None:
    """θ from a learner's answers of [start, end) on a scale. None: there are no such answers. Stores nothing."""
    by_day = RulesByDay(read_scales(connection, end), measure.items.item_ids, end)
    return _score(measure, user_id, learner_answers(connection, user_id, start, end, by_day), start)


def _score(measure: Measure, user_id: str, answers: Sequence[Answer], since: datetime) -> Score | None:
    responses = measure.items.responses(answers, since)
    if not responses.n_responses:
        return None
    scores = estimate_by(responses, measure.curves, measure.scale, threads=1)
    total = with_errors(scores, responses, measure.errors, measure.scale).known_total
    last = instant_of(int(responses.last_at[0]))
    update_id = _update_id(user_id, measure, responses)
    return Score(float(scores.theta[0]), float(scores.se[0]), total, responses.n_responses, last, update_id)


def _theta(measure: Measure, score: Score, now: datetime) -> Theta:
    return Theta(
        scale_id=measure.scale.scale_id,
        theta=score.theta,
        se=score.se,
        se_total=score.se_total,
        n_items=score.n_items,
        kind="online",
        window_end=now,
        set_hash=measure.scored_by,
        scale_version=measure.scale.anchor_version,
        fitted_at=now,
        as_of=score.as_of,
    )


def _kept(
    connection: psycopg.Connection,
    user_id: str,
    one: Theta,
    update_id: str,
    published_as_of: datetime,
) -> Theta:
    """Store a θ, unless its row is there already and is the newest; what is then stored."""
    row = connection.execute(
        """INSERT INTO mirt_ability AS known (update_id, user_id, scale_id, theta, se, se_total, method, n_items,
             kind, window_end, as_of, published_as_of, set_hash, scale_version, fitted_at)
           VALUES (%(id)s, %(user)s, %(scale)s, %(theta)s, %(se)s, %(total)s, 'eap', %(n)s, 'online',
             %(now)s, %(as_of)s, %(published)s, %(set)s, %(version)s, %(now)s)
           ON CONFLICT (update_id, user_id, scale_id) DO UPDATE
           SET theta = excluded.theta, se = excluded.se, se_total = excluded.se_total, window_end = excluded.window_end,
             as_of = excluded.as_of, published_as_of = excluded.published_as_of, fitted_at = excluded.fitted_at
           WHERE known.fitted_at < (SELECT max(o.fitted_at) FROM mirt_ability o
             WHERE o.user_id = %(user)s AND o.scale_id = %(scale)s AND o.kind = 'online')
           RETURNING window_end, fitted_at""",
        {
            "id": update_id,
            "user": user_id,
            "scale": one.scale_id,
            "theta": one.theta,
            "se": one.se,
            "total": one.se_total,
            "n": one.n_items,
            "now": one.fitted_at,
            "as_of": one.as_of,
            "published": published_as_of,
            "set": one.set_hash,
            "version": one.scale_version,
        },
        prepare=True,
    ).fetchone()
    if row is None:
        row = connection.execute(
            "SELECT window_end, fitted_at FROM mirt_ability WHERE (update_id, user_id, scale_id) = (%s, %s, %s)",
            (update_id, user_id, one.scale_id),
            prepare=True,
        ).fetchone()
    assert row is not None
    return replace(one, window_end=row[0], fitted_at=row[1])


def _update_id(user_id: str, measure: Measure, responses: Responses) -> str:
    scale = measure.scale
    items = [responses.item_ids[item] for item in responses.item]
    answers: list[list[Any]] = [items, responses.score.tolist()]
    if scale.movement and responses.at is not None:
        answers.append(responses.at.tolist())
    content = [user_id, scale.scale_id, measure.scored_by, scale.mu, scale.sigma, *answers]
    return f"online-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:40]}"


def read_thetas(connection: psycopg.Connection, user_id: str, most: int = MOST_HISTORY) -> list[Theta]:
    """A learner's θs of every kind and scale, latest answers first; at most `most`."""
    return records(
        connection,
        Theta,
        f"""SELECT {_THETA} FROM mirt_ability WHERE user_id = %s
            ORDER BY window_end DESC, fitted_at DESC, scale_id LIMIT %s""".encode(),
        (user_id, most),
    )


def latest_of(connection: psycopg.Connection, user_ids: Collection[str]) -> dict[str, dict[str, Theta]]:
    """The θ of the latest answers, by learner and scale; meant for a few learners, as each costs a query."""
    rows = connection.execute(
        f"""SELECT DISTINCT ON (user_id, scale_id) user_id, {_THETA} FROM mirt_ability WHERE user_id = ANY(%s)
            ORDER BY user_id, scale_id, window_end DESC, fitted_at DESC""".encode(),
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
