"""Every learner's θ at a given time, by the published set then in force and the scale's population.

What does not belong here: how θ is estimated (see `irt_psychometrics.scoring`) and which parameters are in force (see
`ledger.publications`).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa

from irt_assets.common.partitions import Month, month_of
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.ledger.publications import PublishedSet, in_force
from irt_assets.ledger.steps import done_months
from irt_assets.ledger.testlets import EffectsInForce
from irt_assets.responses.facts import abilities_start, ability_start
from irt_assets.responses.scored_answers import scoring_groups
from irt_assets.responses.verdicts import judge_differing
from irt_assets.scales.scale import Scale, read_scales
from irt_assets.spark.window import map_learners
from irt_psychometrics import ItemParameters, Responses
from irt_psychometrics.items import ItemRow
from irt_psychometrics.scoring import Curves, ParameterErrors, Scores, theta_now
from resources import tables
from resources.cluster.relational import holds_log, on_log, require_judged
from resources.postgres import warehouse
from resources.postgres.database import Database, advisory_lock, first_column, records

WRITE_BATCH_SIZE = 100_000
"""Number of learners whose abilities are written in one batch."""
SCORE_SCHEMA = pa.schema(
    {
        "user_id": pa.string(),
        "theta": pa.float64(),
        "se": pa.float64(),
        "se_total": pa.float64(),
        "n_items": pa.int64(),
        "as_of": pa.int64(),
    }
)
"""Columns of a scored learner; `as_of` is the time of the last answer, in microseconds since 1970."""
SPARK_SCORE_SCHEMA = "user_id string, theta double, se double, se_total double, n_items bigint, as_of bigint"


@dataclass(frozen=True)
class ScaleAbilities:
    """Abilities measured on one scale.

    Attributes:
        theta, se: shape (learners,).
        why: reason why no learner was scored; empty if learners were scored.
        testlet_sd: SD of the testlet effects that `se` accounts for, or None if no testlets are in force.
        absent: number of answers by item that counted as a lower score, because the item's parameters in force have no
            step for their own score. Empty if Spark scored the answers.
    """

    scale_id: str
    theta: np.ndarray
    se: np.ndarray
    n_published: int
    why: str = ""
    testlet_sd: float | None = None
    absent: Mapping[str, int] = field(default_factory=dict)


def judge_until(database: Database, end: datetime) -> None:
    """Judge the days whose answers count for abilities at `end`, if they have no verdicts or the log has changed.

    Does nothing if PostgreSQL has dropped some of these days and only the lake has them.
    """
    with database.connect() as connection:
        start = abilities_start(end, read_scales(connection, end))
        if not holds_log(connection, start, end):
            return
    judge_differing(database, start.date(), end.date())


def measure(database: Database, month: str, update_id: str) -> list[ScaleAbilities]:
    """Judge the answers that count at the month's end, then measure (`measure_at`) in one transaction."""
    judge_until(database, Month(month).end)
    with database.connect() as connection:
        advisory_lock(connection, "abilities", month)
        return measure_at(connection, Month(month).end, "monthly", update_id)


def measure_at(
    connection: psycopg.Connection, end: datetime, kind: Literal["monthly", "nightly"], update_id: str
) -> list[ScaleAbilities]:
    """Store EAP and SE of every learner who answered a published item between `facts.ability_start` and `end`.

    θ is as of the learner's last answer. Scores come from the verdicts (see `judge_until`), and parameters from the
    published set in force at `end`. If PostgreSQL has dropped answers that count, Spark executors score the lake's
    answers. Replaces the abilities of this kind and time, in the caller's transaction.
    """
    import pandas as pd  # importing it takes half a second, and the θ API does not need it

    connection.execute("DELETE FROM mirt_ability WHERE kind = %s AND window_end = %s", (kind, end))
    measured = []
    for scale in read_scales(connection, end).values():
        published = set_with_errors(connection, scale.scale_id, end)
        if not published.items:
            empty = np.array([])
            why = f"no parameters of scale {scale.scale_id} are in force at {end:%Y-%m-%d %H:%M} UTC"
            measured.append(ScaleAbilities(scale.scale_id, empty, empty, 0, why))
            continue
        absent: Counter[str] = Counter()
        scores = score_learners(connection, end, scale, published, absent).to_pandas()
        constants: dict[str, Any] = {
            "update_id": update_id,
            "scale_id": scale.scale_id,
            "method": "eap",
            "kind": kind,
            "window_end": pd.Timestamp(end),
            "published_as_of": pd.Timestamp(end),
            "set_hash": scoring_hash(published, scale),
            "scale_version": scale.anchor_version,
            "fitted_at": pd.Timestamp.now("UTC"),
        }
        batches = (scores[first : first + WRITE_BATCH_SIZE] for first in range(0, len(scores), WRITE_BATCH_SIZE))
        dated = (batch.assign(as_of=pd.to_datetime(batch["as_of"], unit="us", utc=True)) for batch in batches)
        warehouse.append_parts(connection, tables.mirt_ability, (batch.assign(**constants) for batch in dated))
        theta, se = (scores[name].to_numpy() for name in ("theta", "se"))
        sd = published.testlets.sd if published.testlets else None
        by_item = dict(sorted(absent.items()))
        measured.append(ScaleAbilities(scale.scale_id, theta, se, len(published.items), testlet_sd=sd, absent=by_item))
    return measured


def scoring_hash(published: PublishedSet, scale: Scale) -> str:
    """Hash of the published set and, if abilities move on this scale, of its movement."""
    if not scale.movement:
        return published.set_hash
    return hashlib.sha256(json.dumps([published.set_hash, *astuple(scale.movement)]).encode()).hexdigest()


def score_learners(
    connection: psycopg.Connection,
    end: datetime,
    scale: Scale,
    published: PublishedSet,
    absent: Counter[str],
) -> pa.Table:
    """Table of `SCORE_SCHEMA`: a row per learner with an answer to a published item before `end`, in order of ids.

    Adds to `absent` the answers that `ScaleAbilities.absent` counts.
    """
    parts = [SCORE_SCHEMA.empty_table(), *_score_groups(connection, end, scale, published, absent)]
    return pa.concat_tables(parts).sort_by("user_id")


def _score_groups(
    connection: psycopg.Connection,
    end: datetime,
    scale: Scale,
    published: PublishedSet,
    absent: Counter[str],
) -> Iterator[pa.Table]:
    """The rows of `score_learners`, in no order: a table for each group of learners."""
    start, items = ability_start(end, scale), list(published.items)
    if holds_log(connection, start, end):
        for responses, learners in scoring_groups(connection, start, end, items, published.withdrawn):
            absent.update(count_absent_scores(responses, published.items))
            yield score_group(published, scale, None, responses, learners)
        return
    require_judged(connection, start, end)
    run, score = on_log(connection, start, end), partial(score_group, published, scale, 1)
    yield from map_learners(run, start, end, items, published.withdrawn, score, SPARK_SCORE_SCHEMA)


def score_group(
    published: PublishedSet,
    scale: Scale,
    threads: int | None,
    responses: Responses,
    learners: npt.NDArray[np.object_],
) -> pa.Table:
    """Table of `SCORE_SCHEMA` with a row for each of `learners`, whose codes are the persons of `responses`."""
    scores = estimate_with_errors(responses, published, scale, threads)
    n_items = np.bincount(responses.person, minlength=len(learners))
    total = pa.array(scores.se_total, pa.float64(), from_pandas=True)
    users = pa.array(learners, pa.string())
    return pa.table([users, scores.theta, scores.se, total, n_items, responses.last_at], schema=SCORE_SCHEMA)


def estimate_with_errors(
    responses: Responses, published: PublishedSet, scale: Scale, threads: int | None = None
) -> Scores:
    """`estimate`, with `se_total` from the errors of the parameters in force."""
    scores = estimate(responses, published.items, scale, published.testlets, threads)
    errors = published.errors.among(responses.item_ids) if published.errors else None
    return add_parameter_errors(scores, responses, errors, scale)


def add_parameter_errors(scores: Scores, responses: Responses, errors: ParameterErrors | None, scale: Scale) -> Scores:
    """The scores with `se_total` from the `errors` of the items of `responses`; NaN if `errors` is None."""
    unknown = np.full(responses.n_persons, np.nan)
    return replace(scores, se_total=errors.total_se(scores, responses, scale.sigma) if errors else unknown)


def count_absent_scores(responses: Responses, items: Mapping[str, ItemRow]) -> dict[str, int]:
    """Number of answers by item that count as a lower score, because `items` has no parameters for their own score.

    A fit estimates no parameters for scores that its answers never had.
    """
    known = ItemParameters.from_rows(responses.item_ids, map(items.get, responses.item_ids)).curves
    if responses.categories is None and not known.scored:
        return {}
    otherwise = known.scored_differently(responses.item, responses.score, responses.categories)
    n = np.bincount(responses.item[otherwise & known.known[responses.item]], minlength=responses.n_items)
    return {responses.item_ids[j]: int(n[j]) for j in np.flatnonzero(n).tolist()}


def estimate(
    responses: Responses,
    items: Mapping[str, ItemRow],
    scale: Scale,
    testlets: EffectsInForce | None = None,
    threads: int | None = None,
) -> Scores:
    """EAP of θ as it is reported: by the parameters `items` and the scale's population.

    If ability moves, it is θ as of the last answer. Answers to an item without parameters do not count.
    `testlets` widen the standard error.
    """
    curves = curves_of(responses.item_ids, items, scale, testlets)
    return theta_now(responses, curves, scale.movement, threads=threads)


def curves_of(
    item_ids: Sequence[str],
    items: Mapping[str, ItemRow],
    scale: Scale,
    testlets: EffectsInForce | None = None,
) -> Curves:
    """Response curves of `item_ids` by the parameters `items`. An item without parameters has no curve."""
    known = ItemParameters.from_rows(item_ids, map(items.get, item_ids))
    effects = testlets.effects(item_ids) if testlets else None
    return Curves.from_items(known.curves, mean=scale.mu, sd=scale.sigma, effects=effects)


@dataclass(frozen=True)
class MeasuredLearners:
    """Number of learners that a month measured on a scale, and their θ.

    `mean` and `mean_se` are None if there are no learners, and `sd` is None if there are fewer than two.
    """

    learners: int
    mean: float | None
    sd: float | None
    mean_se: float | None


def read_measured_learners(connection: psycopg.Connection, scale_id: str, end: datetime) -> MeasuredLearners:
    """The learners measured for the month that ended at `end`."""
    [measured] = records(
        connection,
        MeasuredLearners,
        """SELECT count(*) AS learners, avg(theta) AS mean, stddev_samp(theta) AS sd, avg(se) AS mean_se
           FROM mirt_ability WHERE (kind, window_end, scale_id) = ('monthly', %s, %s)""",
        (end, scale_id),
    )
    return measured


def newest_thetas(connection: psycopg.Connection, scale_id: str) -> list[float]:
    """θ of the learners measured for the newest month of a scale; empty if there is no such month."""
    return first_column(
        connection,
        """SELECT theta FROM mirt_ability WHERE (kind, scale_id) = ('monthly', %(scale)s) AND window_end =
             (SELECT max(window_end) FROM mirt_ability WHERE (kind, scale_id) = ('monthly', %(scale)s))""",
        {"scale": scale_id},
    )


def last_measured_month(connection: psycopg.Connection, scale_id: str) -> str | None:
    """The last month whose learners were measured on a scale. Returns None if there is no such month."""
    ends = [end for scale, end in _sets_used(connection) if scale == scale_id]
    return month_of(max(ends) - timedelta(microseconds=1)) if ends else None


def stale_months(connection: psycopg.Connection) -> dict[str, str]:
    """Months whose abilities were scored with a set or movement that is no longer in force at their end.

    Returns month → a key that names the scales concerned and their present hashes (`scoring_hash`). A scale without a
    row may have been measured before it had a set, or may have no learner. The key changes only if a hash does, so a
    sensor that uses it requests at most one redundant run.
    """
    used = _sets_used(connection)
    ends = {end for _, end in used} | {Month(month).end for month in done_months(connection)}
    stale: dict[str, str] = {}
    for end in ends:
        in_force_now = {
            scale_id: scoring_hash(published, scale)
            for scale_id, scale in read_scales(connection, end).items()
            if (published := in_force(connection, scale_id, end)).items
        }
        changed = [
            f"{scale_id} {set_hash}"
            for scale_id, set_hash in in_force_now.items()
            if used.get((scale_id, end)) != set_hash
        ]
        if changed:
            stale[month_of(end - timedelta(microseconds=1))] = ", ".join(changed)
    return stale


def _sets_used(connection: psycopg.Connection) -> dict[tuple[str, datetime], str]:
    """(scale, end of month) → hash of the set with which all abilities of that month were measured.

    The query jumps along the index from one month and scale to the next, because each has about 100,000 rows.
    """
    rows = connection.execute(
        """WITH RECURSIVE first_rows AS (
             (SELECT window_end, scale_id, set_hash FROM mirt_ability WHERE kind = 'monthly'
              ORDER BY window_end, scale_id LIMIT 1)
             UNION ALL
             SELECT next.* FROM first_rows f CROSS JOIN LATERAL (
               SELECT window_end, scale_id, set_hash FROM mirt_ability
               WHERE kind = 'monthly' AND (window_end, scale_id) > (f.window_end, f.scale_id)
               ORDER BY window_end, scale_id LIMIT 1) next)
           SELECT scale_id, window_end, set_hash FROM first_rows"""
    ).fetchall()
    return {(scale_id, end): set_hash for scale_id, end, set_hash in rows}
