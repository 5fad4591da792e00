"""Estimate every unpublished item with answers each night, forecast its publication, and find obstacles.

The rows are computed from the verdicts each night and only propose: no fit, link or θ reads them. Does not belong here:
estimates (`irt_psychometrics.new_items`), learners' abilities (`persons`) and obstacles (`progress`).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import psycopg
from scipy.special import ndtr

from irt_assets.abilities.batch import judge_until
from irt_assets.common.arrays import Floats, Ints, Mask, finite
from irt_assets.common.partitions import day_bounds, day_of
from irt_assets.item_analysis.key_evidence import NAMED_FROM, evidence_of_year
from irt_assets.ledger.encoding import item_as_json
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.ledger.publications import PublishedSet
from irt_assets.new_items.answers import read_new_item_answers
from irt_assets.new_items.persons import Abilities, measure_persons
from irt_assets.new_items.progress import MAX_MISFIT, PipelineItem, read_pipeline
from irt_assets.new_items.stages import item_stages
from irt_assets.responses.columns import codes, instants, numbers
from irt_assets.scales.item_status import DAY, instant_of, microseconds
from irt_assets.scales.rules import PublicationRules, SeedRules
from irt_assets.scales.scale import Scale, read_scales
from irt_assets.scales.scored_models import models_in_bank, scored_item_model
from irt_psychometrics.items import ItemParameters, ItemRow, Model, item_model
from irt_psychometrics.new_items import (
    BankPrior,
    NewItemEstimates,
    PersonPosteriors,
    Targets,
    answer_information,
    days_to_precision,
    estimate_new_items,
)
from resources import tables
from resources.postgres import warehouse
from resources.postgres.database import Database, first_column

WINDOW = timedelta(days=365)
"""Age up to which answers to new items count."""
DAYS_OF_RATE = 28
"""Number of days before the night that give an item's rate of answers, if the last week is without answers."""
RATE_VARIANCE = 0.4
"""Variance of the logarithm of later rates of answers, as measured by `benchmarks.bench_item_year`."""
ABILITIES_OF_FORECAST = 200
"""Number of learners who represent the learners to come."""
CLOSED = ("published", "rejected", "retired")
"""Stages of items that the pipeline leaves out."""


@dataclass(frozen=True)
class ScalePipeline:
    """The unpublished items of a scale after a night. `why`: reason why the night did not estimate any; else ""."""

    scale: Scale
    items: list[PipelineItem]
    why: str = ""


@dataclass(frozen=True)
class Answers:
    """N answers to J new items, in order of the items and of time.

    Attributes:
        item_ids: shape (J,).
        item, at, score: indices of items, times in microseconds since 1970, and points, shape (N,).
        users: ids of learners, shape (N,).
        position: places in sessions, shape (N,); NaN if not known.
        drawn: whether a seed draw chose the item, shape (N,).
    """

    item_ids: list[str]
    item: Ints
    at: Ints
    score: Ints
    users: Any
    position: Floats
    drawn: Mask

    @property
    def n(self) -> Ints:
        """Number of answers to each item, shape (J,)."""
        return np.bincount(self.item, minlength=len(self.item_ids))


def make_pipeline(database: Database, day: str) -> list[ScalePipeline]:
    """Replace the rows of each scale by the items as of the end of a day (UTC), in one transaction for each scale.

    A scale whose rows are of a later night keeps these rows.
    """
    end = day_bounds(day)[1]
    judge_until(database, end)
    with database.connect() as connection:
        scales = read_scales(connection, end)
    return [database.call(_make_rows, scale, end) for scale in scales.values()]


def _make_rows(connection: psycopg.Connection, scale: Scale, end: datetime) -> ScalePipeline:
    owned = {"scale_id": scale.scale_id}
    warehouse.lock_rows(connection, tables.item_pipeline, owned)
    former = {item.item_id: item for item in read_pipeline(connection, scale.scale_id)}
    if any(item.evaluated_at > end for item in former.values()):
        return ScalePipeline(scale, [*former.values()], "its rows are of a later night, so this night keeps them")
    published = set_with_errors(connection, scale.scale_id, end)
    answers = _read_answers(connection, scale, published, end) if published.items else None
    items = _evaluate(connection, scale, published, answers, end) if answers and answers.item_ids else []
    items = [_judge(item, scale.rules.seeding, former.get(item.item_id)) for item in items]
    warehouse.replace(connection, tables.item_pipeline, owned, pd.DataFrame([asdict(item) for item in items]))
    why = "" if published.items else "it has no published items yet, and the origin comes first: `irt scale init`"
    return ScalePipeline(scale, items, why)


def _read_answers(connection: psycopg.Connection, scale: Scale, published: PublishedSet, end: datetime) -> Answers:
    """Read the answers to the items that are not published, rejected or retired."""
    found = read_new_item_answers(connection, scale.scale_id, end - WINDOW, end)
    closed = {each.item_id for each in item_stages(connection, scale.scale_id) if each.stage in CLOSED}
    item, names = codes(found["item_id"])
    at = instants(found["completed_at"])
    left_out = [*closed, *published.items, *_items_of_months(connection, scale)]
    rows = np.flatnonzero(~np.isin(names, left_out)[item])
    rows = rows[np.lexsort((at[rows], item[rows]))]
    kept, place = np.unique(item[rows], return_inverse=True)
    return Answers(
        names[kept].tolist(),
        place,
        at[rows],
        numbers(found["score"], 0)[rows].astype(np.int64),
        found["user_id"].to_numpy()[rows],
        numbers(found["position"].cast("double"), np.nan)[rows],
        found["seed"].to_numpy()[rows],
    )


def _evaluate(
    connection: psycopg.Connection, scale: Scale, published: PublishedSet, answers: Answers, end: datetime
) -> list[PipelineItem]:
    abilities = measure_persons(connection, end, scale, published, answers.users, answers.at)
    models, estimates = _estimate(connection, scale, published, answers, abilities)
    days = forecast_days(answers, estimates, abilities, scale.rules.seeding, end)
    gates = gate_probabilities(answers, estimates, abilities, scale.rules.publication)
    e_values = evidence_of_year(connection, scale.scale_id, day_of(end - timedelta(microseconds=1)))
    start = np.searchsorted(answers.item, np.arange(len(answers.item_ids) + 1))
    least = scale.rules.eligibility.min_provisional_responses
    parameters = [json.loads(item_as_json(row)) if row else {} for row in item_rows(estimates.items)]
    misfit = _largest(estimates.misfit)
    items = []
    for j, item_id in enumerate(answers.item_ids):
        at, e_value = answers.at[start[j] : start[j + 1]], e_values.get(item_id)
        flags = {
            "not_estimated": not estimates.converged[j],
            "one_score": estimates.one_score[j],
            "misfit": abs(misfit[j]) > MAX_MISFIT,
            "withdrawn": published.withdrawn.covers(item_id, end),
        }
        items.append(
            PipelineItem(
                scale_id=scale.scale_id,
                item_id=item_id,
                model=models[j],
                parameters=parameters[j],
                n=len(at),
                first_at=instant_of(int(at[0])),
                last_at=instant_of(int(at[-1])),
                measured_at=instant_of(int(at[least - 1])) if len(at) >= least else None,
                prior_share=finite(estimates.prior_share[j]),
                p_gates={name: float(p[j]) for name, p in gates.items()} if parameters[j] else {},
                e_value=e_value,
                accused=e_value is not None and e_value >= NAMED_FROM,
                position=_mean_position(answers.position[start[j] : start[j + 1]]),
                misfit=finite(misfit[j]),
                flags=[name for name, applies in flags.items() if applies],
                publishable=False,
                publishable_at=None,
                ready_at=_after(end, days[j, 0]),
                ready_from=_after(end, days[j, 1]),
                ready_to=_after(end, days[j, 2]),
                stuck=None,
                evaluated_at=end,
            )
        )
    return items


def _judge(item: PipelineItem, rules: SeedRules, former: PipelineItem | None) -> PipelineItem:
    """Add whether the item is publishable, since which night, and the reason if it is stuck."""
    if item.meets(rules):
        since = former.publishable_at if former and former.publishable else item.evaluated_at
        return replace(item, publishable=True, publishable_at=since)
    obstacle = item.obstacle(rules)
    return replace(item, stuck=obstacle.reason if obstacle else None)


def _estimate(
    connection: psycopg.Connection, scale: Scale, published: PublishedSet, answers: Answers, abilities: Abilities
) -> tuple[list[Model], NewItemEstimates]:
    """Estimate the items with the prior of the published ones. Returns the model of each, and the estimates."""
    declared = declare_items(connection, scale, published, answers.item_ids)
    used = abilities.person >= 0
    estimates = estimate_new_items(
        answers.item_ids,
        answers.item[used],
        abilities.person[used],
        answers.score[used],
        PersonPosteriors.normal(abilities.theta, abilities.se),
        theta_effects=abilities.effects,
        **declared,
    )
    return declared["models"], estimates


def declare_items(
    connection: psycopg.Connection, scale: Scale, published: PublishedSet, item_ids: Sequence[str]
) -> dict[str, Any]:
    """Read the arguments of `estimate_new_items` that describe new items: `prior`, `models`, `max_scores`, `topics`."""
    assert published.errors is not None
    rows = connection.execute(
        "SELECT item_id, topic_id, coalesce(max_score, 1) FROM question WHERE scale_id = %s", (scale.scale_id,)
    )
    bank = {item: (topic, max_score) for item, topic, max_score in rows}
    topics, max_scores = zip(*map(bank.__getitem__, item_ids), strict=True)
    in_bank = models_in_bank(connection, scale.scale_id)
    binary = item_model(scale.model).of_max_score(1).name
    models = [
        scored_item_model(scale.model, in_bank.get(item)) if max_score > 1 else binary
        for item, max_score in zip(item_ids, max_scores, strict=True)
    ]
    prior = BankPrior.from_items(published.errors.items, [bank.get(item, (None,))[0] for item in published.items])
    return {"prior": prior, "models": models, "max_scores": max_scores, "topics": topics}


def _items_of_months(connection: psycopg.Connection, scale: Scale) -> list[str]:
    """List the scored items whose model allows an estimate together with other items only, in a month."""
    query = "SELECT item_id FROM question WHERE scale_id = %s AND max_score > 1"
    scored, in_bank = first_column(connection, query, (scale.scale_id,)), models_in_bank(connection, scale.scale_id)
    models = {item: scored_item_model(scale.model, in_bank.get(item)) for item in scored}
    return [item for item, model in models.items() if not item_model(model).estimated_alone]


def forecast_days(
    answers: Answers, estimates: NewItemEstimates, abilities: Abilities, rules: SeedRules, end: datetime
) -> Floats:
    """Forecast the days until each item is precise, and an 80 % interval, shape (J, 3)."""
    order = np.argsort(abilities.theta)
    some = order[np.unique(np.linspace(0, len(order) - 1, ABILITIES_OF_FORECAST).astype(int))] if len(order) else order
    return days_to_precision(
        estimates.precision,
        answer_information(estimates.items, abilities.theta[some], abilities.se[some]),
        answers.n,
        expected_week(answers, end),
        targets=Targets(rules.seed_max_ln_a_se, rules.seed_max_b_se, rules.seed_min_responses),
        published_cov=estimates.published_cov,
        rate_variance=RATE_VARIANCE,
    )


def expected_week(answers: Answers, end: datetime) -> Floats:
    """Compute the answers that each item is expected to get on the days of a week to come, shape (J, 7).

    They are the answers of the last week, or the mean of four weeks if an item has no answers in the last one. Days
    before the first answer do not count.
    """
    J = len(answers.item_ids)
    age = microseconds(end) // DAY - 1 - answers.at // DAY
    known = age[np.searchsorted(answers.item, np.arange(J))] + 1
    recent = age < DAYS_OF_RATE
    daily = np.bincount(answers.item[recent] * DAYS_OF_RATE + age[recent], minlength=J * DAYS_OF_RATE)
    daily = daily.reshape(J, DAYS_OF_RATE)
    week = daily[:, 6::-1] * np.maximum(7 / known, 1)[:, None]
    mean = daily.sum(axis=1) / np.minimum(known, DAYS_OF_RATE)
    week = np.where(week.any(axis=1, keepdims=True), week, mean[:, None])
    # draws prefer items of which less is known, so a young item's rate will fall to the rate of items with more answers
    order, rate = np.argsort(-answers.n, kind="stable"), week.mean(axis=1)
    drawn = np.bincount(answers.item, answers.drawn, J) > 0
    further = np.zeros(J)
    further[order] = np.cumsum((rate * drawn)[order]) / np.maximum(np.cumsum(drawn[order]), 1)
    limit = np.divide(further, rate, out=np.ones(J), where=drawn & (rate > further))
    return np.asarray(week * limit[:, None])


def gate_probabilities(
    answers: Answers, estimates: NewItemEstimates, abilities: Abilities, rules: PublicationRules
) -> dict[str, Floats]:
    """Compute the probability with which each item passes each item gate, shape (J,), by the name of the gate.

    The sign of a is judged by the correlation of the item's scores with ability, because ln a has no negative a.
    """
    b, b_se = estimates.items.b, estimates.items.b_se
    with np.errstate(invalid="ignore", divide="ignore"):
        within = ndtr((rules.max_abs_b - b) / b_se) - ndtr((-rules.max_abs_b - b) / b_se)
    return {
        "positive_a": ndtr(_correlation_z(answers, abilities)),
        "max_abs_b": np.clip(within, 0, 1),
        "max_b_se": (b_se <= rules.max_b_se).astype(np.float64),
        "max_rmsd": (np.abs(_largest(estimates.misfit)) <= MAX_MISFIT).astype(np.float64),
    }


def _correlation_z(answers: Answers, abilities: Abilities) -> Floats:
    """Compute r·√n of each item's scores with the learners' abilities, shape (J,); 0 if either does not vary."""
    used, n = abilities.person >= 0, len(answers.item_ids)
    item, count = answers.item[used], np.maximum(np.bincount(answers.item[used], minlength=n), 1)
    both = answers.score[used], abilities.theta[abilities.person[used]]
    x, y = (values - (np.bincount(item, values, n) / count)[item] for values in both)
    together, alone, other = (np.bincount(item, values, n) for values in (x * y, x * x, y * y))
    scale = np.sqrt(alone * other / count)
    return np.divide(together, scale, out=np.zeros(n), where=scale > 0)


def _largest(misfit: Floats) -> Floats:
    """Return each item's z with the largest absolute value, shape (J,)."""
    at = np.argmax(np.abs(np.nan_to_num(misfit)), axis=1)
    return misfit[np.arange(len(misfit)), at]


def item_rows(items: ItemParameters) -> list[ItemRow | None]:
    """Convert estimates to rows. An item without an estimate has None."""
    further: dict[int, Mapping[str, float]] = {}
    errors = np.zeros((len(items.item_ids), items.n_further))
    if items.further_cov is not None:
        errors = np.sqrt(items.further_cov[:, :, 2:].diagonal(axis1=1, axis2=2))
    for other in items.others:
        for k, j in enumerate(other.at.tolist()):
            further[j] = other.model.stored_values(other.further[:, k], errors[j], int(other.categories[k]))
    rows: list[ItemRow | None] = []
    for j, (a, b, c) in enumerate(zip(items.a.tolist(), items.b.tolist(), items.c.tolist(), strict=True)):
        known = (float(items.a_se[j]), float(items.b_se[j]), float(items.cov_ab[j]))
        c_se = c * (1 - c) * float(errors[j, 0]) if c else None
        rows.append(ItemRow(a, b, c, *known, c_se, further=further.get(j, {})) if math.isfinite(a + b) else None)
    return rows


def _mean_position(position: Floats) -> float | None:
    known = position[np.isfinite(position)]
    return float(known.mean()) if known.size else None


def _after(end: datetime, days: float) -> Any:
    """Return the day after a number of days, or None from ten years on."""
    return (end + timedelta(days=math.ceil(days))).date() if days <= 3650 else None
