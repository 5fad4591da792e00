"""A month's drift, scale by scale: compared, judged, told apart, written, alerts opened and closed.

What does not belong here: what the numbers mean (psychometrics/drift*), how evidence is read (evidence.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import psycopg

from irt_assets.calibration.fits import finite
from irt_assets.drift import evidence
from irt_assets.drift.alerts import settle_alerts
from irt_assets.partitions import month_bounds, month_of, months_between
from irt_assets.psychometrics.drift import Drift, judge
from irt_assets.psychometrics.drift_kinds import Change, tell_kinds
from irt_assets.psychometrics.drift_trend import Trends, trends
from irt_assets.responses.scales import Scale, read_scales
from resources import tables, warehouse
from resources.database import Database
from resources.object_store import ObjectStore

TREND_MONTHS = 12
Z95 = 1.959964


@dataclass(frozen=True)
class ScaleDrift:
    """What became of a scale's published items in a month; `why` says why nothing was compared, if so."""

    scale_id: str
    drift: Drift | None = None
    trends: Trends | None = None
    changes: dict[str, Change] = field(default_factory=dict)
    why: str = ""

    def items(self, severity: str) -> list[str]:
        """The items of this severity, largest wABC first."""
        if self.drift is None:
            return []
        order = np.argsort(-self.drift.wabc, kind="stable")
        return [self.drift.item_ids[j] for j in order if self.drift.severity[j] == severity]


def drift_of_month(database: Database, store: ObjectStore, month: str) -> list[ScaleDrift]:
    """Judge the month on every scale and replace what was stored of it, in one transaction."""
    found = []
    with database.connect() as connection:
        for scale in read_scales(connection).values():
            judged = judge_month(connection, store, month, scale)
            owned = {"month": month, "scale_id": scale.scale_id}
            warehouse.replace(connection, tables.item_drift, owned, _rows(month, scale, judged))
            settle_alerts(connection, scale.scale_id)
            found.append(judged)
    return found


def judge_month(connection: psycopg.Connection, store: ObjectStore, month: str, scale: Scale) -> ScaleDrift:
    start = month_bounds(month)[0]
    window = evidence.linked_window(connection, scale, month)
    anchors = evidence.frozen_anchors(connection, scale)
    if window is None or anchors is None:
        return ScaleDrift(scale.scale_id, why=f"{month} has no converged fit that was linked to the anchors")
    at = evidence.in_force_with_errors(connection, scale, start, anchors)
    comparison = evidence.against_published(window, anchors, at, start)
    if not comparison.item_ids:
        return ScaleDrift(scale.scale_id, why=f"no item of the month had published parameters on {start:%Y-%m-%d}")
    drift = judge(comparison, mean=scale.mu, sd=scale.sigma)
    before = evidence.linked_before(connection, scale, month, TREND_MONTHS - 1)
    since = dict(zip(at.published.item_ids, at.since, strict=True))
    comparisons, elapsed = [], []
    for earlier, linked in [*before.items(), (month, window)]:
        begins, ends = month_bounds(earlier)
        compared = evidence.against_published(linked, anchors, at, begins)
        if compared.item_ids:
            middle = begins + (ends - begins) / 2
            comparisons.append(compared)
            elapsed.append(
                np.array([(middle - since[i]).total_seconds() / (86_400 * 30.4375) for i in compared.item_ids])
            )
    changes: dict[str, Change] = {}
    if drift.flagged:
        months_before = list(months_between(month_of(min(at.since)), month))[:-1]
        answers = evidence.answers_of(connection, store, month, scale, months_before)
        if answers is not None:
            place = {item: j for j, item in enumerate(at.published.item_ids)}
            a, b, c = (
                np.array([values[place[i]] if i in place else np.nan for i in answers.item_ids])
                for values in (at.published.a, at.published.b, at.published.c)
            )
            mean, sd = evidence.population_of(window)
            changes = tell_kinds(answers, drift.flagged, a, b, c, mean=mean, sd=sd)
    return ScaleDrift(scale.scale_id, drift, trends(comparisons, elapsed, anchors), changes)


def _rows(month: str, scale: Scale, judged: ScaleDrift) -> pd.DataFrame:
    drift = judged.drift
    if drift is None:
        return pd.DataFrame(columns=["month", "scale_id", "item_id", "engine", "severity"])
    place = {item: k for k, item in enumerate(judged.trends.item_ids)} if judged.trends else {}
    limits = {name: drift.beyond_limits(name) for name in ("a", "b", "c")}
    rows = []
    for j, item in enumerate(drift.item_ids):
        details: dict[str, Any] = {
            "published": {name: finite(getattr(drift.comparison.published, name)[j]) for name in ("a", "b", "c")},
            "delta_a_se": finite(drift.se[j, 0]),
            "delta_b_se": finite(drift.se[j, 1]),
            "delta_b_95": [finite(drift.delta_b[j] + sign * Z95 * drift.se[j, 1]) for sign in (-1, 1)],
            "wald": finite(drift.wald[j]),
            "inflation": drift.inflation,
            "limits": {name: levels[j] for name, levels in limits.items()},
            "chance_b_large": finite(drift.chance_b_large[j]),
            "chance_a_large": finite(drift.chance_a_large[j]),
            "log_bayes_factor": finite(drift.log_bayes_factor[j]),
        }
        if judged.trends and item in place:
            k = place[item]
            details["trend"] = {
                "b_a_month": finite(judged.trends.slope[k]),
                "se": finite(judged.trends.slope_se[k]),
                "q": finite(judged.trends.q[k]),
                "months": int(judged.trends.n_months[k]),
            }
        if item in judged.changes:
            details["change"] = described(judged.changes[item])
        rows.append(
            {
                "month": month,
                "scale_id": scale.scale_id,
                "item_id": item,
                "engine": scale.engine,
                "delta_a": drift.delta_a[j],
                "delta_b": drift.delta_b[j],
                "delta_c": drift.delta_c[j],
                "p_value": drift.p[j],
                "q_value": drift.q[j],
                "wabc": drift.wabc[j],
                "severity": drift.severity[j],
                "details": details,
            }
        )
    return pd.DataFrame(rows)


def described(change: Change) -> dict[str, Any]:
    """A change as it is stored; `onset` is an ISO date."""
    return {
        "kind": str(change.kind),
        "size": finite(change.size),
        "gains": {name: finite(gain) for name, gain in change.gains.items()},
        "time_z": finite(change.time_z),
        "onset": None if change.onset is None else str(np.datetime64(change.onset, "D")),
        "distractor_above_the_key": change.distractor is not None,
    }
