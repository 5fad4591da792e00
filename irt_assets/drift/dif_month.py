"""Compute a month's DIF scale by scale: read answers and attributes, compare the groups, and write the rows.

`irt_psychometrics.dif` computes the statistics; dif_page.py shows them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import psycopg
import pyarrow as pa
from threadpoolctl import threadpool_limits

from irt_assets.common.arrays import finite
from irt_assets.common.intervals import Z95
from irt_assets.common.partitions import Month
from irt_assets.ledger.cited_fits import models_of_fits
from irt_assets.ledger.fits import linked_fit
from irt_assets.ledger.origin_fit import overlapping_origin
from irt_assets.responses.learner_groups import groups_of
from irt_assets.responses.snapshot import FIT_COLUMNS, read_for_run, sample_for_run, snapshot_of
from irt_assets.responses.window import scored_sittings_of
from irt_assets.scales.rules import Latent
from irt_assets.scales.scale import Scale, read_scales
from irt_psychometrics import BreakdownError, Responses
from irt_psychometrics.dif import Dif
from irt_psychometrics.drift import CategoryChanges
from irt_psychometrics.items import Model, item_model
from resources import tables
from resources.files.object_store import ObjectStore
from resources.postgres import warehouse
from resources.postgres.database import Database, database_settings

Row = dict[str, Any]

MANTEL_STATISTICS = ("smd", "se", "chi2", "p")
"""Statistics stored for a scored item instead of the Mantel-Haenszel ones."""
SMALL_GROUPS_NAMED = 20
"""Number of rows for groups that are too small to test, largest first. Other small groups, perhaps one per learner, are
only counted."""
BY_LEVEL = (
    "items were assigned by level, and between groups that differ in ability one item in a hundred then looks large "
    "without being so"
)


@dataclass(frozen=True)
class MonthAnswers:
    """The responses that were fitted for a month of a scale, with forms, learners and the assumed distribution of θ.

    Attributes:
        model: the model of all items, or one model per item.
        sample: the sample of learners, in words; empty if all learners are included.
    """

    responses: Responses
    learners: npt.NDArray[np.object_]
    forms: npt.NDArray[np.object_]
    latent: Latent
    model: Model | Sequence[Model]
    sample: str = ""


@dataclass(frozen=True)
class ComparisonProblem:
    """Why a month's groups are not compared."""

    why: str


def dif_of_month(
    database: Database, store: ObjectStore, month: str, threads: int | None = None
) -> dict[str, list[Row]]:
    """Compare the groups of every scale's attributes and replace the month's stored rows, in one transaction.

    Returns the rows by scale, as stored in `dif_analysis`.
    """
    scales = database.call(read_scales, Month(month).start)
    files: dict[str, pa.Table] = {}
    found: dict[str, list[Row]] = {}
    for scale in scales.values():
        with database.connect() as connection:
            answers = answers_of(connection, store, month, scale, files)
            attributes = {
                name: groups_of(connection, name, answers.learners.tolist())
                if isinstance(answers, MonthAnswers)
                else ([], 0)
                for name in scale.rules.warnings.attributes
            }
        rows = []
        difs = [_compare(name, answers, groups, threads) for name, (groups, _) in attributes.items()]
        sample = "" if isinstance(answers, ComparisonProblem) else answers.sample
        for dif, (_, n_unreadable) in zip(Dif.with_common_q(difs), attributes.values(), strict=True):
            rows += rows_of(dif, n_unreadable, scale.rules.fit.assignment == "by_level", sample)
        found[scale.scale_id] = [{"month": month, "scale_id": scale.scale_id} | row for row in rows]
    with database.connect() as connection:
        for scale_id, rows in found.items():
            owned = {"month": month, "scale_id": scale_id}
            warehouse.replace(connection, tables.dif_analysis, owned, pd.DataFrame(rows))
    return found


def _compare(
    attribute: str, answers: MonthAnswers | ComparisonProblem, groups: Sequence[str | None], threads: int | None
) -> Dif:
    """Compare the groups of an attribute. If that is impossible, the result has the reason."""
    if isinstance(answers, ComparisonProblem):
        return Dif.without_test(attribute, answers.why)
    try:
        # its many small matrices gain nothing from BLAS threads, which on a busy machine take 8 times the CPU
        with BreakdownError.explain("the groups could not be compared"), threadpool_limits(1, user_api="blas"):
            return Dif.from_responses(
                attribute,
                answers.responses,
                groups,
                forms=answers.forms.tolist(),
                model=answers.model,
                latent=answers.latent,
                threads=threads,
            )
    except BreakdownError as error:
        return Dif.without_test(attribute, str(error))


def answers_of(
    connection: psycopg.Connection, store: ObjectStore, month: str, scale: Scale, files: dict[str, pa.Table]
) -> MonthAnswers | ComparisonProblem:
    """The responses behind the month's linked fit by the scale's own engine, or the reason why there are none.

    For a month of the origin window without a fit of its own, the fit of the window is used. `files`: cache of
    snapshots by hash, to which snapshots read here are added.
    """
    fit = linked_fit(connection, scale.scale_id, "monthly", Month(month).start, scale.engine)
    snapshot = snapshot_of(connection, month, fit.snapshot_hash) if fit else None
    if fit is None and (origin := overlapping_origin(connection, scale.scale_id, *Month(month).bounds)):
        snapshot = origin.snapshot
        fit = linked_fit(connection, scale.scale_id, "origin", origin.window_start, origin.engine)
    if fit is None or not fit.converged:
        return ComparisonProblem(f"{month} has no converged fit that was linked to the anchors")
    if snapshot is None:
        return ComparisonProblem(
            f"the answers that the fit of {month} was made from are no longer kept: materialise it again"
        )
    most = database_settings(connection).most_for_run
    if fit.snapshot_hash not in files:
        files[fit.snapshot_hash] = read_for_run(store, snapshot, most, FIT_COLUMNS)
    scored, forms = scored_sittings_of(files[fit.snapshot_hash], scale.scale_id)
    sample = sample_for_run(snapshot, most, scale.scale_id)
    models = _models(connection, fit.fit_id, scored.responses, scale)
    return MonthAnswers(scored.responses, scored.learners, forms, fit.model_spec.latent_shape, models, sample)


def _models(
    connection: psycopg.Connection, fit_id: str, responses: Responses, scale: Scale
) -> Model | tuple[Model, ...]:
    """The scale's model or, if there are items with more than two scores, the model of each item in the month's fit."""
    default = item_model(scale.model)
    if responses.categories is None:
        return default.of_max_score(1).name
    fitted = models_of_fits(connection, [fit_id], responses.item_ids)
    return tuple(
        fitted[fit_id, item].model if (fit_id, item) in fitted else default.of_max_score(int(n) - 1).name
        for item, n in zip(responses.item_ids, responses.categories, strict=True)
    )


def rows_of(dif: Dif, n_unreadable: int, by_level: bool, sample: str) -> list[Row]:
    """The rows of an attribute as `resources.tables` describes them, without month and scale.

    `n_unreadable`: number of learners whose value names no group. `by_level`: whether items were assigned by the
    learner's level. `sample`: see `MonthAnswers`.
    """
    reference = dif.reference
    large = [group for group in dif.groups if group.large_enough]
    small = [group for group in dif.groups if not group.large_enough]
    named = large + small[:SMALL_GROUPS_NAMED]
    key: Row = {"attribute": dif.attribute, "reference_group": reference.name if reference else ""}
    items = [
        key | _item(dif, focal.name, j)
        for focal in named
        if reference and focal.name != reference.name
        for j in range(len(dif.item_ids))
    ]
    tested = [row["details"] for row in items if not row["details"]["why_not"]]
    sampled = [f"judged on {sample}"] if sample else []
    whole = {
        "why_not": dif.reason,
        "groups": [_group(dif, group.name) for group in named],
        "smaller_groups": {
            "groups": len(dif.groups) - len(named),
            "learners": sum(group.n_learners for group in small[SMALL_GROUPS_NAMED:]),
        },
        "n_unknown": dif.n_unknown,
        "n_unreadable": n_unreadable,
        "anchors": list(dif.wald.anchors) if dif.wald else [],
        "warnings": [*dif.wald.warnings, *[BY_LEVEL] * by_level, *sampled] if dif.wald else [],
        "sittings": {"complete": dif.within_forms.n_sittings, "incomplete": dif.within_forms.n_incomplete}
        if dif.within_forms
        else None,
        "items": {
            "tested": len(tested),
            "low_power": sum(details["low_power"] for details in tested),
            "not_tested": len(items) - len(tested),
        },
    }
    nothing = dict.fromkeys(("p_value", "q_value", "ets_class"))
    return [key | {"item_id": "", "focal_group": ""} | nothing | {"details": whole}, *items]


def _group(dif: Dif, name: str) -> dict[str, Any]:
    group, wald = dif.group(name), dif.wald
    position = wald.groups.index(group.name) if wald and group.name in wald.groups else None
    return {
        "name": group.name,
        "n_learners": group.n_learners,
        "n_responses": group.n_responses,
        "why_not": group.reason,
        "low_power": group.low_power,
        "mean": None if wald is None or position is None else finite(wald.mean[position]),
        "sd": None if wald is None or position is None else finite(wald.sd[position]),
    }


def _item(dif: Dif, name: str, j: int) -> Row:
    """The row of an item, compared between the reference and the group with this name."""
    reference, focal = dif.reference, dif.group(name)
    assert reference is not None
    why_not = dif.why_not(j, focal)
    wald = _wald(dif, name, j) if not why_not else None
    within = _within_forms(dif, name, j)
    ets_class = within.pop("ets_class") if within else None
    return {
        "item_id": dif.item_ids[j],
        "focal_group": name,
        "p_value": finite(dif.wald.p[j]) if dif.wald and wald else None,
        "q_value": finite(dif.wald.q[j]) if dif.wald and wald else None,
        "ets_class": ets_class,
        "details": {
            "large": wald["severity"] == "high" if wald else ets_class == "C",
            "why_not": why_not,
            "low_power": wald is not None and dif.low_power(j, focal),
            "n": {"reference": int(reference.answers[j]), "focal": int(focal.answers[j])},
            "wald": wald,
            "categories": category_records(dif.wald.categories.get(name), j) if dif.wald else [],
            "within_forms": within,
        },
    }


def _wald(dif: Dif, focal: str, j: int) -> dict[str, Any] | None:
    wald = dif.wald
    if wald is None:
        return None
    f = wald.groups.index(focal) - 1
    (delta_a, delta_b), (delta_a_se, delta_b_se) = wald.delta[f, j], wald.se[f, j]
    return {
        "statistic": finite(wald.wald[j]),
        "df": int(wald.df[j]),
        "severity": wald.severity(f, j),
        "wabc": finite(wald.wabc[f, j]),
        "shift": finite(wald.shift[f, j]),
        "shift_se": finite(wald.shift_se[f, j]),
        "delta_a": finite(delta_a),
        "delta_a_se": finite(delta_a_se),
        "delta_b": finite(delta_b),
        "delta_b_se": finite(delta_b_se),
        "delta_b_95": [finite(delta_b + sign * Z95 * delta_b_se) for sign in (-1, 1)],
        "anchor": wald.item_ids[j] in wald.anchors,
    }


def category_records(changes: CategoryChanges | None, j: int) -> list[dict[str, Any]]:
    """Convert the tests of the j-th item's single categories to the form in which they are stored."""
    if changes is None:
        return []
    own = changes.of_item(j)
    numbers = {name: getattr(own, name).tolist() for name in ("score", "shift", "se", "p", "q", "wabc", "named")}
    rows = (dict(zip(numbers, row, strict=True)) for row in zip(*numbers.values(), strict=True))
    return [row | {name: finite(row[name]) for name in ("shift", "se")} for row in rows]


def _within_forms(dif: Dif, focal: str, j: int) -> dict[str, Any] | None:
    within = dif.within_forms
    if within is None or focal not in within.groups:
        return None
    f = within.groups.index(focal)
    mh, mantel, logistic = within.mantel_haenszel[f - 1][j], within.mantel[f - 1][j], within.logistic[f - 1][j]
    return {
        "ets_class": within.ets_class(f - 1, j),
        "sittings": {"reference": int(within.sittings[0, j]), "focal": int(within.sittings[f, j])},
        "mantel_haenszel": {name: finite(getattr(mh, name)) for name in ("delta", "se", "odds_ratio", "chi2", "p")}
        if mh
        else None,
        "logistic": {
            name: finite(getattr(logistic, name))
            for name in ("p", "p_uniform", "p_nonuniform", "delta_r2", "delta_r2_uniform")
        }
        | {"size": logistic.size}
        if logistic
        else None,
    } | ({"mantel": {name: finite(getattr(mantel, name)) for name in MANTEL_STATISTICS}} if mantel else {})
