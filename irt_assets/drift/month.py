"""Judge a month's drift scale by scale: compare, classify the changes, write the rows, and update the alerts.

`irt_psychometrics.drift` computes the numbers; evidence.py reads the answers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import psycopg

from irt_assets.common.arrays import finite
from irt_assets.common.intervals import Z95
from irt_assets.common.partitions import Month, month_of, months_between
from irt_assets.drift import evidence
from irt_assets.drift.alerts import settle_alerts
from irt_assets.drift.dif_month import ComparisonProblem, answers_of, category_records
from irt_assets.drift.month_comparison import ComparedMonth, compare_month
from irt_assets.drift.unestimated_items import UnestimatedItems, examine_unestimated_items
from irt_assets.ledger.values_with_errors import compare_with_published
from irt_assets.scales.scale import Scale, read_scales
from irt_psychometrics import BreakdownError, PsychometricsError
from irt_psychometrics.drift import Drift
from irt_psychometrics.items import Model, item_model
from resources import tables
from resources.files.object_store import ObjectStore
from resources.postgres import warehouse
from resources.postgres.database import Database

TREND_MONTHS = 12


@dataclass(frozen=True)
class ScaleDrift:
    """Drift of a scale's published items in a month.

    Attributes:
        why: reason why nothing was compared; empty if something was.
        sample: the sample of learners, in words, whose answers were used to classify changes and to test items without
            an estimate; empty if all were used.
    """

    scale_id: str
    drift: Drift | None = None
    unestimated: UnestimatedItems = field(default_factory=UnestimatedItems)
    why: str = ""
    sample: str = ""

    def items(self, severity: str) -> list[str]:
        """The items of this severity, the most changed first."""
        if self.drift is None:
            return []
        size = self.unestimated.items(severity) | {
            item: area
            for item, area, level in zip(self.drift.item_ids, self.drift.wabc, self.drift.severity, strict=True)
            if level == severity
        }
        return sorted(size, key=lambda item: -size[item])


def drift_of_month(database: Database, store: ObjectStore, month: str) -> list[ScaleDrift]:
    """Judge the month on every scale and replace its stored rows, in one transaction."""
    found = []
    with database.connect() as connection:
        for scale in read_scales(connection, Month(month).start).values():
            judged = judge_month(connection, store, month, scale)
            owned = {"month": month, "scale_id": scale.scale_id}
            warehouse.replace(connection, tables.item_drift, owned, _rows(month, scale, judged))
            settle_alerts(connection, scale.scale_id)
            found.append(judged)
    return found


def judge_month(connection: psycopg.Connection, store: ObjectStore, month: str, scale: Scale) -> ScaleDrift:
    try:
        with BreakdownError.explain(f"{month} could not be judged"):
            compared = compare_month(connection, scale, month)
            unestimated = examine_unestimated_items(connection, store, month, scale, compared)
            flagged = [*compared.drift.flagged, *unestimated.items("high"), *unestimated.items("medium")]
            drift = _with_trends(connection, month, scale, compared, unestimated.drift or compared.drift)
            drift = _with_categories(connection, store, month, scale, drift)
            if flagged:
                drift = _with_changes(connection, store, month, scale, compared, drift, flagged)
            sample = evidence.sample_in_words(connection, month, scale)
            return ScaleDrift(scale.scale_id, drift, unestimated, sample=sample)
    except PsychometricsError as error:
        return ScaleDrift(scale.scale_id, why=str(error))


def _with_trends(
    connection: psycopg.Connection, month: str, scale: Scale, compared: ComparedMonth, drift: Drift
) -> Drift:
    before = evidence.read_earlier_windows(connection, scale, month, TREND_MONTHS - 1)
    at, anchors = compared.at, compared.anchors
    since = dict(zip(at.published.item_ids, at.since, strict=True))
    comparisons, elapsed = [], []
    for earlier, linked in [*before.items(), (month, compared.window)]:
        begins, ends = Month(earlier).bounds
        found = compare_with_published(linked, anchors, at, begins)
        found = found.select(~found.across_models)
        if found.item_ids:
            middle = begins + (ends - begins) / 2
            comparisons.append(found)
            elapsed.append(np.array([(middle - since[i]).total_seconds() / (86_400 * 30.4375) for i in found.item_ids]))
    return drift.with_trends(comparisons, elapsed, anchors) if comparisons else drift


def _with_categories(
    connection: psycopg.Connection, store: ObjectStore, month: str, scale: Scale, drift: Drift
) -> Drift:
    """Add the tests of single categories if there are scored items and the answers of the fit are still kept."""
    if not drift.comparison.window.curves.scored:
        return drift
    answers = answers_of(connection, store, month, scale, {})
    if isinstance(answers, ComparisonProblem):
        return drift
    return drift.with_categories(answers.responses, mean=scale.mu, sd=scale.sigma)


def _with_changes(
    connection: psycopg.Connection,
    store: ObjectStore,
    month: str,
    scale: Scale,
    compared: ComparedMonth,
    drift: Drift,
    flagged: Sequence[str],
) -> Drift:
    months_before = list(months_between(month_of(min(compared.at.since)), month))[:-1]
    answers = evidence.answers_of(connection, store, month, scale, months_before)
    if answers is None:
        return drift
    mean, sd = evidence.population_of(compared.window)
    return drift.with_changes(answers, flagged, compared.at.published.among(answers.item_ids), mean=mean, sd=sd)


def _rows(month: str, scale: Scale, judged: ScaleDrift) -> pd.DataFrame:
    drift = judged.drift
    rows = [] if drift is None else [*_compared_rows(drift), *_tested_rows(drift, judged.unestimated)]
    of_all = {"month": month, "scale_id": scale.scale_id, "engine": scale.engine}
    return pd.DataFrame([of_all | row for row in rows], columns=None if rows else [*of_all, "item_id", "severity"])


def _compared_rows(drift: Drift) -> Iterator[dict[str, Any]]:
    trends = drift.trends
    position = {item: k for k, item in enumerate(trends.item_ids)} if trends else {}
    limits = {name: drift.beyond_limits(name) for name in ("a", "b", "c")}
    across = drift.across_models
    for j, item in enumerate(drift.item_ids):
        details: dict[str, Any] = {
            "published": {name: finite(getattr(drift.comparison.published, name)[j]) for name in ("a", "b", "c")},
            "delta_a_se": finite(drift.se[j, 0]),
            "delta_b_se": finite(drift.se[j, 1]),
            "delta_b_95": [finite(drift.delta_b[j] + sign * Z95 * drift.se[j, 1]) for sign in (-1, 1)],
            "wald": finite(drift.wald[j]),
            "tau": finite(drift.tau),
            "most_tau": drift.most_tau,
            "limits": {name: levels[j] for name, levels in limits.items()},
            "chance_b_large": finite(drift.chance_b_large[j]),
            "chance_a_large": finite(drift.chance_a_large[j]),
            "log_bayes_factor": finite(drift.log_bayes_factor[j]),
        }
        if drift.curves is not None and drift.comparison.by_curves[j]:
            details["curves"] = curve_tests(drift, j)
        if categories := category_records(drift.categories, j):
            details["categories"] = categories
        if item in across:
            details |= {"across_models": across_models_in_words(*across[item]), "delta_b_95": None, "limits": None}
        elif trends and item in position:
            k = position[item]
            details["trend"] = {
                "b_a_month": finite(trends.slope[k]),
                "se": finite(trends.slope_se[k]),
                "q": finite(trends.q[k]),
                "months": int(trends.n_months[k]),
            }
        if item in drift.changes:
            details["change"] = _change_record(drift, item)
        yield {
            "item_id": item,
            "delta_a": finite(drift.delta_a[j]),
            "delta_b": finite(drift.delta_b[j]),
            "delta_c": finite(drift.delta_c[j]),
            "p_value": drift.p[j],
            "q_value": drift.q[j],
            "wabc": drift.wabc[j],
            "severity": drift.severity[j],
            "details": details,
        }


def _tested_rows(drift: Drift, unestimated: UnestimatedItems) -> Iterator[dict[str, Any]]:
    """Yield the rows of items without an estimate, by their proportion correct."""
    tested = drift.proportions
    if tested is None:
        return
    for j, item in enumerate(tested.item_ids):
        details: dict[str, Any] = {
            "published": dict(zip("abc", unestimated.published[item], strict=True)),
            "proportion_correct": {
                "n": int(tested.n[j]),
                "observed": tested.observed[j],
                "expected": tested.expected[j],
                "difference": tested.difference[j],
                "se": tested.se[j],
                "z": tested.difference[j] / tested.se[j],
                "why": unestimated.why[item],
            },
        }
        if item in drift.changes:
            details["change"] = _change_record(drift, item)
        yield {
            "item_id": item,
            "p_value": tested.p[j],
            "q_value": tested.q[j],
            "wabc": abs(tested.difference[j]),
            "severity": tested.severity[j],
            "details": details,
        }


def across_models_in_words(published: Model, fitted: Model) -> str:
    return f"compared by curves: published as {item_model(published).spoken}, fitted as {item_model(fitted).spoken}"


def curve_tests(drift: Drift, j: int) -> dict[str, Any]:
    """Tests of the j-th item's response curve: the difference between the window and the published values in the share
    of right answers (`right`), and in how strongly answers depend on ability (`with_ability`)."""
    curves = drift.curves
    assert curves is not None
    se = np.sqrt(np.diag(curves.cov[j]))
    return {
        "right": finite(curves.t[j, 0]),
        "right_se": finite(se[0]),
        "with_ability": finite(curves.t[j, 1]),
        "with_ability_se": finite(se[1]),
        "df": int(curves.df[j]),
    }


def _change_record(drift: Drift, item: str) -> dict[str, Any]:
    """The change of an item as it is stored; `onset` is an ISO date."""
    change = drift.changes[item]
    return {
        "kind": str(change.kind),
        "size": finite(change.size),
        "gains": {name: finite(gain) for name, gain in change.gains.items()},
        "time_z": finite(change.time_z),
        "onset": None if change.onset is None else str(np.datetime64(change.onset, "D")),
        "distractor_above_the_key": change.distractor is not None,
    }
