"""Abilities at a time: every learner's θ with the published set in force, against the scale's population.

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
from irt_assets.ledger.testlets import InTestlets
from irt_assets.responses.facts import abilities_start, ability_start
from irt_assets.responses.scales import Scale, read_scales
from irt_assets.responses.scored_answers import scoring_groups
from irt_assets.responses.verdicts import judge_differing
from irt_assets.spark.window import map_learners
from irt_psychometrics import ItemParameters, Responses
from irt_psychometrics.items import ItemRow
from irt_psychometrics.scoring import Curves, ParameterErrors, Scores, theta_now
from resources import tables
from resources.cluster.relational import holds_log, on_log, require_judged
from resources.postgres import warehouse
from resources.postgres.database import Database, advisory_lock, records

LEARNERS_WRITTEN = 100_000
"""Learners whose abilities are written at once."""
SCORED = pa.schema(
    {
        "user_id": pa.string(),
        "theta": pa.float64(),
        "se": pa.float64(),
        "se_total": pa.float64(),
        "n_items": pa.int64(),
        "as_of": pa.int64(),
    }
)
"""`as_of`: when the last of the answers was given, in microseconds since 1970."""
SCORED_ON_SPARK = "user_id string, theta double, se double, se_total double, n_items bigint, as_of bigint"


@dataclass(frozen=True)
class ScaleAbilities:
    """What was measured on one scale: shapes (learners,). `why` says why there is nothing to score, if so;
    `testlet_sd`: for what effects of testlets `se` was corrected, None where none are in force. `absent`: by item, the
    answers with a score that its parameters in force lack, which counted as another; not known of executors."""

    scale_id: str
    theta: np.ndarray
    se: np.ndarray
    n_published: int
    set_hash: str
    why: str = ""
    testlet_sd: float | None = None
    absent: Mapping[str, int] = field(default_factory=dict)


def judge_until(database: Database, end: datetime) -> None:
    """Judge the days whose answers count for abilities at `end`, if they have no verdicts or the log has changed; no
    days that PostgreSQL has dropped, where a lake has them."""
    with database.connect() as connection:
        start = abilities_start(end, read_scales(connection, end))
        if not holds_log(connection, start, end):
            return
    judge_differing(database, start.date(), end.date())


def measure(database: Database, month: str, update_id: str) -> list[ScaleAbilities]:
    """`measure_at` the month's end, in one transaction, after its look-back is judged."""
    judge_until(database, Month(month).end)
    with database.connect() as connection:
        advisory_lock(connection, "abilities", month)
        return measure_at(connection, Month(month).end, "monthly", update_id)


def measure_at(
    connection: psycopg.Connection, end: datetime, kind: Literal["monthly", "nightly"], update_id: str
) -> list[ScaleAbilities]:
    """EAP and SE of every learner with an answer to a published item from `facts.ability_start` until `end`, as of that
    answer, by the verdicts (see `judge_until`).

    The published set is the one in force at `end`. If PostgreSQL has dropped answers that count, executors of Spark
    score those of the lake. Replaces the abilities of this kind and time, in the caller's transaction.
    """
    import pandas as pd  # takes half a second, and the θ API measures without it

    connection.execute("DELETE FROM mirt_ability WHERE kind = %s AND window_end = %s", (kind, end))
    measured = []
    for scale in read_scales(connection, end).values():
        published = set_with_errors(connection, scale.scale_id, end)
        if not published.items:
            nothing = np.array([])
            why = f"no parameters of scale {scale.scale_id} are in force at {end:%Y-%m-%d %H:%M} UTC"
            measured.append(ScaleAbilities(scale.scale_id, nothing, nothing, 0, published.set_hash, why))
            continue
        absent: Counter[str] = Counter()
        mark = scored_by(published, scale)
        scored = scored_at(connection, end, scale, published, absent).to_pandas()
        same: dict[str, Any] = {
            "update_id": update_id,
            "scale_id": scale.scale_id,
            "method": "eap",
            "kind": kind,
            "window_end": pd.Timestamp(end),
            "published_as_of": pd.Timestamp(end),
            "set_hash": mark,
            "scale_version": scale.anchor_version,
            "fitted_at": pd.Timestamp.now("UTC"),
        }
        rows = (scored[first : first + LEARNERS_WRITTEN] for first in range(0, len(scored), LEARNERS_WRITTEN))
        dated = (some.assign(as_of=pd.to_datetime(some["as_of"], unit="us", utc=True)) for some in rows)
        warehouse.append_parts(connection, tables.mirt_ability, (some.assign(**same) for some in dated))
        theta, se = (scored[name].to_numpy() for name in ("theta", "se"))
        sd = published.testlets.sd if published.testlets else None
        otherwise = dict(sorted(absent.items()))
        measured.append(
            ScaleAbilities(scale.scale_id, theta, se, len(published.items), mark, testlet_sd=sd, absent=otherwise)
        )
    return measured


def scored_by(published: PublishedSet, scale: Scale) -> str:
    """Hash of what θ is scored with: the published set and, where abilities move, how."""
    if not scale.movement:
        return published.set_hash
    return hashlib.sha256(json.dumps([published.set_hash, *astuple(scale.movement)]).encode()).hexdigest()


def scored_at(
    connection: psycopg.Connection,
    end: datetime,
    scale: Scale,
    published: PublishedSet,
    absent: Counter[str],
) -> pa.Table:
    """A row of `SCORED` for every learner with an answer to a published item before `end`, in order of their ids;
    `absent` counts as in `ScaleAbilities`."""
    parts = [SCORED.empty_table(), *_scored_parts(connection, end, scale, published, absent)]
    return pa.concat_tables(parts).sort_by("user_id")


def _scored_parts(
    connection: psycopg.Connection,
    end: datetime,
    scale: Scale,
    published: PublishedSet,
    absent: Counter[str],
) -> Iterator[pa.Table]:
    """A row for each learner, some learners after the others; `absent` counts as in `ScaleAbilities`."""
    start, items = ability_start(end, scale), list(published.items)
    if holds_log(connection, start, end):
        for responses, learners in scoring_groups(connection, start, end, items, published.withdrawn):
            absent.update(answers_counted_otherwise(responses, published.items))
            yield scored(published, scale, None, responses, learners)
        return
    require_judged(connection, start, end)
    run, score = on_log(connection, start, end), partial(scored, published, scale, 1)
    yield from map_learners(run, start, end, items, published.withdrawn, score, SCORED_ON_SPARK)


def scored(
    published: PublishedSet,
    scale: Scale,
    threads: int | None,
    responses: Responses,
    learners: npt.NDArray[np.object_],
) -> pa.Table:
    """A row of `SCORED` for each of the learners."""
    scores = estimate_with_errors(responses, published, scale, threads)
    n_items = np.bincount(responses.person, minlength=len(learners))
    total = pa.array(scores.se_total, pa.float64(), from_pandas=True)
    users = pa.array(learners, pa.string())
    return pa.table([users, scores.theta, scores.se, total, n_items, responses.last_at], schema=SCORED)


def estimate_with_errors(
    responses: Responses, published: PublishedSet, scale: Scale, threads: int | None = None
) -> Scores:
    """`estimate`, with the errors of the parameters in force."""
    scores = estimate(responses, published.items, scale, published.testlets, threads)
    errors = published.errors.among(responses.item_ids) if published.errors else None
    return with_errors(scores, responses, errors, scale)


def with_errors(scores: Scores, responses: Responses, errors: ParameterErrors | None, scale: Scale) -> Scores:
    """The scores with their `se_total` by the `errors` of the items of `responses`; None: they are not known."""
    unknown = np.full(responses.n_persons, np.nan)
    return replace(scores, se_total=errors.total_se(scores, responses, scale.sigma) if errors else unknown)


def answers_counted_otherwise(responses: Responses, items: Mapping[str, ItemRow]) -> dict[str, int]:
    """By item, the answers with a score that its parameters in `items` lack, as nobody had given it: they count as
    another one."""
    known = ItemParameters.of_rows(responses.item_ids, map(items.get, responses.item_ids)).curves
    if responses.categories is None and not known.scored:
        return {}
    otherwise = known.counted_otherwise(responses.item, responses.score, responses.categories)
    n = np.bincount(responses.item[otherwise & known.known[responses.item]], minlength=responses.n_items)
    return {responses.item_ids[j]: int(n[j]) for j in np.flatnonzero(n).tolist()}


def estimate(
    responses: Responses,
    items: Mapping[str, ItemRow],
    scale: Scale,
    testlets: InTestlets | None = None,
    threads: int | None = None,
) -> Scores:
    """θ as it is reported, with `items` as the set in force: EAP against the scale's population.

    If ability moves, it is θ as of the last answer. An answer to an item that has no parameters there says nothing.
    `testlets` widen the standard error.
    """
    curves = curves_of(responses.item_ids, items, scale, testlets)
    return theta_now(responses, curves, scale.movement, threads=threads)


def curves_of(
    item_ids: Sequence[str],
    items: Mapping[str, ItemRow],
    scale: Scale,
    testlets: InTestlets | None = None,
) -> Curves:
    """The curves of `item_ids` with `items` against a scale's population; none for others."""
    known = ItemParameters.of_rows(item_ids, map(items.get, item_ids))
    effects = testlets.effects(item_ids) if testlets else None
    return Curves.of(known.curves, mean=scale.mu, sd=scale.sigma, effects=effects)


@dataclass(frozen=True)
class Measured:
    """How many learners a month measured on a scale, and their θ; None where these are too few."""

    learners: int
    mean: float | None
    sd: float | None
    mean_se: float | None


def measured_in(connection: psycopg.Connection, scale_id: str, end: datetime) -> Measured:
    """The month that ended at `end`."""
    [found] = records(
        connection,
        Measured,
        """SELECT count(*) AS learners, avg(theta) AS mean, stddev_samp(theta) AS sd, avg(se) AS mean_se
           FROM mirt_ability WHERE (kind, window_end, scale_id) = ('monthly', %s, %s)""",
        (end, scale_id),
    )
    return found


def last_measured_month(connection: psycopg.Connection, scale_id: str) -> str | None:
    """The last month whose learners were measured on a scale; None where none was."""
    ends = [end for scale, end in _sets_used(connection) if scale == scale_id]
    return month_of(max(ends) - timedelta(microseconds=1)) if ends else None


def stale_months(connection: psycopg.Connection) -> dict[str, str]:
    """Months whose abilities were scored with another set, or another movement, than is now in force at their end,
    with a mark of the present ones.

    A scale without a row may have been measured before it had a set, or may have no learner; the mark
    changes only when what it is scored with does, so a sensor keyed on it requests at most one redundant run.
    """
    used = _sets_used(connection)
    ends = {end for _, end in used} | {Month(month).end for month in done_months(connection)}
    stale: dict[str, str] = {}
    for end in ends:
        now = {
            scale_id: scored_by(published, scale)
            for scale_id, scale in read_scales(connection, end).items()
            if (published := in_force(connection, scale_id, end)).items
        }
        changed = [f"{scale_id} {mark}" for scale_id, mark in now.items() if used.get((scale_id, end)) != mark]
        if changed:
            stale[month_of(end - timedelta(microseconds=1))] = ", ".join(changed)
    return stale


def _sets_used(connection: psycopg.Connection) -> dict[tuple[str, datetime], str]:
    """Scale and end of a month → hash of the set that its abilities were measured with, the same for all of them.

    From one month and scale to the next by the index, as there are a hundred thousand rows to each.
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
