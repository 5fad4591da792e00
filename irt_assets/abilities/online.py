"""One learner's θ on request: the θ that a month or a night would report for the same answers, stored as a row."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta

import psycopg

from irt_assets.abilities.batch import add_parameter_errors, curves_of, scoring_hash
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.ledger.publications import PublishedSet
from irt_assets.responses.facts import abilities_start, ability_start
from irt_assets.responses.learner_answers import (
    Answer,
    Judging,
    ScoredItems,
    has_attempts,
    learner_answers,
    read_judging,
)
from irt_assets.scales.item_status import instant_of
from irt_assets.scales.scale import Scale, read_scales
from irt_psychometrics.scoring import Curves, ParameterErrors, theta_now
from resources.postgres.database import advisory_lock, one_value, records

MAX_HISTORY = 100
DEFAULT_DAYS = 30
"""Days of answers that count if θ is constant and the request names no number of days."""
JUDGING_S = 300
"""Seconds after which the rules and item times for judging answers are read again."""


@dataclass(frozen=True)
class Measure:
    """A scale, its published set in force, its items, and their curves and errors in the same order."""

    scale: Scale
    published: PublishedSet
    items: ScoredItems
    curves: Curves
    errors: ParameterErrors | None
    scoring_hash: str

    @classmethod
    def from_published_set(cls, scale: Scale, published: PublishedSet, before: Measure | None = None) -> Measure:
        """Build a scale's measure. Reuses the curves of an earlier measure, `before`, if scale and set are the same."""
        items = ScoredItems.from_item_ids(published.items, published.withdrawn)
        if before and (before.scale, before.published.set_hash) == (scale, published.set_hash):
            curves = before.curves
        else:
            curves = curves_of(items.item_ids, published.items, scale, published.testlets)
        errors = published.errors.among(items.item_ids) if published.errors else None
        return cls(scale, published, items, curves, errors, scoring_hash(published, scale))


@dataclass(frozen=True)
class Measures:
    """Measures of every scale with a published set at `as_of`, and the data for judging answers that have no
    verdict."""

    as_of: datetime
    scales: Mapping[str, Measure]
    judging: Judging


@dataclass(frozen=True)
class Theta:
    """A row of `mirt_ability`, stored or about to be.

    Attributes:
        as_of: time of its last answer.
        update_id: hash of everything that θ depends on, or id of the run that measured θ.
        lookback_days: number of days before the request whose answers θ uses; such a θ is not stored. None: θ uses all
            answers that count.
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
_COLUMNS = ", ".join(field.name for field in fields(Theta) if field.name != "lookback_days")


@dataclass(frozen=True)
class Learner:
    """A learner whose θ is requested, as stored in the table `learner`."""

    user_id: str
    is_test: bool
    target_scale_id: str | None
    target_theta: float | None = None


def read_measures(connection: psycopg.Connection, now: datetime, known: Measures | None = None) -> Measures:
    """Read the measures in force at `now`, reusing the unchanged parts of `known`, the measures that were read last."""
    scales, measures = read_scales(connection, now), {}
    for scale_id, scale in scales.items():
        if (published := set_with_errors(connection, scale_id, now)).items:
            measures[scale_id] = Measure.from_published_set(
                scale, published, known.scales.get(scale_id) if known else None
            )
    if known is not None and now - known.judging.read_at < timedelta(seconds=JUDGING_S):
        return Measures(now, measures, known.judging)
    items = {item for measure in measures.values() for item in measure.items.item_ids}
    return Measures(now, measures, read_judging(connection, scales, items, abilities_start(now, scales), now))


def find_learner(connection: psycopg.Connection, user_id: str) -> Learner | None:
    """Find a learner by id. Returns None if there is neither a row nor an attempt."""
    row = connection.execute(
        "SELECT is_test, target_scale_id, target_theta FROM learner WHERE user_id = %s", (user_id,)
    ).fetchone()
    if row is not None:
        return Learner(user_id, *row)
    return Learner(user_id, False, None) if has_attempts(connection, user_id) else None


def count_learners(connection: psycopg.Connection, prefix: str) -> int:
    """Number of the learners with a row whose id begins with `prefix`."""
    return one_value(connection, "SELECT count(*) FROM learner WHERE user_id LIKE %s", (_pattern(prefix),))


def find_learners(connection: psycopg.Connection, prefix: str, most: int, skip: int = 0) -> list[Learner]:
    """At most `most` learners with a row whose id begins with `prefix`, in order of id, without the first `skip`.

    With the collation C, as in the embedded database, the query uses the index and reads no other rows.
    """
    return records(
        connection,
        Learner,
        """SELECT user_id, is_test, target_scale_id, target_theta FROM learner
               WHERE user_id LIKE %s ORDER BY user_id LIMIT %s OFFSET %s""",
        (_pattern(prefix), most, skip),
    )


def _pattern(prefix: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", prefix) + "%"


def update(
    connection: psycopg.Connection, measures: Measures, user_id: str, lookback_days: int | None, now: datetime
) -> dict[str, Theta]:
    """Measure and store a learner's θ on every scale whose published items the learner answered. Returns θ by scale.

    `lookback_days` limits the answers to the days before `now`. None means `DEFAULT_DAYS` if θ is constant, and all
    answers that count if ability moves. If ability moves, the stored θ always uses all answers, because θ from the
    answers of a few days is not the present ability; the returned θ uses the answers of `lookback_days`.

    The same answers scored with the same set give the same row. Another update of this learner waits until the
    caller's transaction ends.
    """
    advisory_lock(connection, "theta", user_id)
    requested = now - timedelta(days=lookback_days or DEFAULT_DAYS)
    starts = {
        scale_id: ability_start(now, measure.scale) if measure.scale.movement else requested
        for scale_id, measure in measures.scales.items()
    }
    answers = learner_answers(connection, user_id, min([requested, *starts.values()]), now, measures.judging)
    thetas = {}
    for scale_id, measure in measures.scales.items():
        theta = _theta(user_id, measure, answers, starts[scale_id], now)
        if theta is None:
            continue
        thetas[scale_id] = _store(connection, user_id, theta, measures.as_of)
        if measure.scale.movement and lookback_days is not None:
            recent = _theta(user_id, measure, answers, requested, now)
            if recent is None:
                del thetas[scale_id]
            else:
                thetas[scale_id] = replace(recent, lookback_days=lookback_days)
    return thetas


def read_theta(
    connection: psycopg.Connection, measures: Measures, scale_id: str, user_id: str, end: datetime
) -> Theta | None:
    """θ of a learner from all answers on a scale that count at `end`, or None without answers. It is not stored."""
    measure = measures.scales[scale_id]
    start = ability_start(end, measure.scale)
    answers = learner_answers(connection, user_id, start, end, measures.judging)
    return _theta(user_id, measure, answers, start, end)


def read_posterior(
    connection: psycopg.Connection, measures: Measures, scale_id: str, user_id: str, end: datetime
) -> tuple[float, float]:
    """Return the mean and SD of a learner's θ by all answers that count at `end`, or of the population."""
    theta, scale = read_theta(connection, measures, scale_id, user_id, end), measures.scales[scale_id].scale
    return (theta.theta, theta.se) if theta else (scale.mu, scale.sigma)


def _theta(user_id: str, measure: Measure, answers: Sequence[Answer], since: datetime, now: datetime) -> Theta | None:
    """θ from the answers to the scale's items since a time. Returns None if there are no such answers."""
    scale, responses = measure.scale, measure.items.responses(answers, since)
    if not responses.n_responses:
        return None
    scores = theta_now(responses, measure.curves, scale.movement, threads=1)
    content = [user_id, scale.scale_id, measure.scoring_hash, scale.mu, scale.sigma]
    content += [[responses.item_ids[item] for item in responses.item], responses.score.tolist()]
    if scale.movement and responses.at is not None:
        content.append(responses.at.tolist())
    return Theta(
        scale_id=scale.scale_id,
        theta=float(scores.theta[0]),
        se=float(scores.se[0]),
        se_total=add_parameter_errors(scores, responses, measure.errors, scale).known_total,
        n_items=responses.n_responses,
        kind="online",
        window_end=now,
        set_hash=measure.scoring_hash,
        scale_version=scale.anchor_version,
        fitted_at=now,
        as_of=instant_of(int(responses.last_at[0])),
        update_id=f"online-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:40]}",
    )


def _store(connection: psycopg.Connection, user_id: str, theta: Theta, published_as_of: datetime) -> Theta:
    """Store θ, unless its row is already the learner's newest on the scale. Returns θ as stored."""
    values = vars(theta) | {"user_id": user_id, "published_as_of": published_as_of}
    [(window_end, fitted_at)] = connection.execute(_STORE, values, prepare=True).fetchall()
    return replace(theta, window_end=window_end, fitted_at=fitted_at)


def read_thetas(connection: psycopg.Connection, user_id: str, most: int = MAX_HISTORY) -> list[Theta]:
    """At most `most` θs of a learner, of every kind and scale, newest first."""
    return records(
        connection,
        Theta,
        f"""SELECT {_COLUMNS} FROM mirt_ability WHERE user_id = %s
            ORDER BY window_end DESC, fitted_at DESC, scale_id LIMIT %s""",
        (user_id, most),
    )


def read_latest_thetas(connection: psycopg.Connection, user_ids: Collection[str]) -> dict[str, dict[str, Theta]]:
    """Latest θ by learner and scale. Meant for a few learners, because all rows of each are read."""
    rows = connection.execute(
        f"""SELECT DISTINCT ON (user_id, scale_id) user_id, {_COLUMNS} FROM mirt_ability WHERE user_id = ANY(%s)
            ORDER BY user_id, scale_id, window_end DESC, fitted_at DESC""",
        (list(user_ids),),
    ).fetchall()
    by_learner: dict[str, dict[str, Theta]] = {}
    for user, *row in rows:
        by_learner.setdefault(user, {})[row[0]] = Theta(*row)
    return by_learner


def latest_by_scale(thetas: Iterable[Theta]) -> dict[str, Theta]:
    """The first θ of each scale: the latest, if `thetas` are in the order of `read_thetas`."""
    by_scale: dict[str, Theta] = {}
    for theta in thetas:
        by_scale.setdefault(theta.scale_id, theta)
    return by_scale


def default_scale(learner: Learner, found: Mapping[str, Theta]) -> str | None:
    """The learner's target scale, or else the scale of `found` with the most answers. Returns None if `found` is empty
    and there is no target scale."""
    if learner.target_scale_id is not None or not found:
        return learner.target_scale_id
    return max(sorted(found), key=lambda scale_id: found[scale_id].n_items)
