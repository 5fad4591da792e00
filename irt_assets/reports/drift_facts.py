"""What a drift report says of a month of a scale, gathered from tables, and the observed proportions from the snapshot.

Nothing is tested or estimated here: what a table does not have yet, the report calls not tested. What does not belong
here: how it looks (drift_report.py, templates/), what is proposed (drift_actions.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString, TypeVar

import numpy as np
import psycopg
from psycopg.rows import class_row, dict_row

from irt_assets.calibration.fits import latest_staged
from irt_assets.calibration.green import MonthState
from irt_assets.calibration.publication import Step, publications_in_force, steps
from irt_assets.partitions import month_bounds
from irt_assets.psychometrics.anchor_diagnosis import Suspect
from irt_assets.psychometrics.observed import Observed, observed
from irt_assets.psychometrics.scoring import eap
from irt_assets.reports.drift_actions import Evidence, Proposal, propose
from irt_assets.responses.scales import Scale
from irt_assets.responses.snapshot import Snapshot, current_snapshot, read_snapshot
from irt_assets.responses.window import scored_responses_of
from resources.object_store import ObjectStore

MONTHS_SHOWN = 12
Row = TypeVar("Row")


@dataclass(frozen=True)
class Curve:
    """An item's parameters on the bank's scale, with their errors (None where unknown)."""

    a: float
    b: float
    c: float
    a_se: float | None = None
    b_se: float | None = None
    cov_ab: float | None = None


@dataclass(frozen=True)
class DriftRow:
    """A row of `item_drift`."""

    item_id: str
    month: str
    severity: str
    delta_a: float | None
    delta_b: float | None
    delta_c: float | None
    p_value: float | None
    q_value: float | None
    wabc: float | None
    details: dict[str, Any]
    computed_at: datetime

    @property
    def kind(self) -> str | None:
        kind: str | None = self.details.get("change", {}).get("kind")
        return kind


@dataclass(frozen=True)
class DifRow:
    """A row of `dif_analysis`."""

    item_id: str
    attribute: str
    reference_group: str
    focal_group: str
    p_value: float | None
    q_value: float | None
    ets_class: str | None
    details: dict[str, Any]


@dataclass(frozen=True)
class InformationRow:
    """A row of `test_information`; of the whole test item_id is ''."""

    item_id: str
    curve: dict[str, Any]
    flagged: bool
    details: dict[str, Any]


@dataclass(frozen=True)
class AlertRow:
    """A row of `drift_alerts`."""

    item_id: str
    kind: str
    severity: str
    opened_month: str
    closed_month: str | None


@dataclass(frozen=True)
class Linked:
    """A month's linked fit: how it came to the scale, and where from. `spec` is its `model_spec`."""

    month: str
    fit_id: str
    constants: dict[str, Any]
    engine: str
    engine_version: str
    model: str
    n_persons: int
    n_items: int
    n_responses: int
    converged: bool
    iterations: int
    loglik: float
    spec: dict[str, Any]
    data_hash: str
    snapshot_hash: str
    anchor_hash: str
    code_version: str
    run_id: str | None
    fitted_at: datetime


@dataclass(frozen=True)
class Item:
    """Everything known of an item in the month. `history`: its drift over the last months, the month's own last."""

    item_id: str
    topic: str | None
    is_anchor: bool
    published: Curve | None
    since: datetime | None
    now: Curve | None
    n: int
    statistics: dict[str, Any]
    flags: tuple[str, ...]
    history: tuple[DriftRow, ...]
    drift: DriftRow | None
    evidence: Evidence
    proposal: Proposal | None
    observed: Observed | None


@dataclass(frozen=True)
class Facts:
    """A month of a scale. `not_compared`: why drift says nothing, "" where it does; `linkings` oldest first, the
    month's own (`fit`) among them; `proposed`: reason → items that publication only proposes; `items` by id."""

    month: str
    scale: Scale
    state: MonthState
    not_compared: str
    items: dict[str, Item]
    fit: Linked | None
    linkings: tuple[Linked, ...]
    dif: tuple[DifRow, ...]
    information: dict[str, InformationRow]
    alerts: tuple[AlertRow, ...]
    step: Step | None
    proposed: dict[str, int]
    snapshot: Snapshot | None
    in_force: int

    @property
    def flagged(self) -> list[Item]:
        """Items with drift, the largest change first."""
        found = [item for item in self.items.values() if item.drift and item.drift.severity != "none"]
        return sorted(found, key=lambda i: -(i.drift.wabc or 0.0 if i.drift else 0.0))

    @property
    def compared(self) -> int:
        return sum(item.drift is not None for item in self.items.values())


def gather(connection: psycopg.Connection, store: ObjectStore, month: str, scale: Scale, state: MonthState) -> Facts:
    """Read it all; `state` is the month's (`calibration.green`). Raises ValueError for what is no month."""
    start = month_bounds(month)[0]
    linkings = _linkings(connection, scale, start)
    fit = next((linked for linked in linkings if linked.month == month), None)
    history = _histories(connection, scale, month)
    information = {row.item_id: row for row in _rows(connection, InformationRow, _INFORMATION, scale, month)}
    dif = tuple(_rows(connection, DifRow, _DIF, scale, month))
    step = steps(connection, scale.scale_id).get(month)
    in_force = {row["item_id"]: row for row in publications_in_force(connection, scale.scale_id, start)}
    snapshot = current_snapshot(connection, month)
    items = _items(connection, scale, month, fit, linkings, history, in_force, information, dif, step)
    wanted = [i for i, item in items.items() if item.proposal is not None and item.now is not None]
    if fit is not None and snapshot is not None and snapshot.snapshot_hash == fit.snapshot_hash and wanted:
        seen = _observed(store, snapshot, scale, fit, items, wanted)
        items |= {i: Item(**(vars(items[i]) | {"observed": seen.get(i)})) for i in wanted}
    return Facts(
        month,
        scale,
        state,
        "" if any(item.drift for item in items.values()) else _why_not(connection, scale, month, fit, in_force),
        items,
        fit,
        linkings,
        dif,
        information,
        tuple(_rows(connection, AlertRow, _ALERTS, scale, month)),
        step,
        _proposed(connection, scale, month, fit),
        snapshot,
        len(in_force),
    )


_INFORMATION = """SELECT item_id, curve, flagged, details FROM test_information
                  WHERE scale_id = %(scale)s AND month = %(month)s ORDER BY item_id"""
_DIF = """SELECT item_id, attribute, reference_group, focal_group, p_value, q_value, ets_class, details
          FROM dif_analysis WHERE scale_id = %(scale)s AND month = %(month)s AND item_id <> ''
          ORDER BY attribute, focal_group, q_value NULLS LAST, item_id"""
_ALERTS = """SELECT item_id, kind, severity, opened_month, closed_month FROM drift_alerts
             WHERE scale_id = %(scale)s AND opened_month <= %(month)s
               AND (closed_month IS NULL OR closed_month >= %(month)s) ORDER BY opened_month DESC, item_id"""


def _rows(connection: psycopg.Connection, row: type[Row], query: LiteralString, scale: Scale, month: str) -> list[Row]:
    with connection.cursor(row_factory=class_row(row)) as cursor:
        return cursor.execute(query, {"scale": scale.scale_id, "month": month}).fetchall()


def _linkings(connection: psycopg.Connection, scale: Scale, start: datetime) -> tuple[Linked, ...]:
    """The last linked fits by the scale's own engine, up to the month that begins at `start`, oldest first."""
    with connection.cursor(row_factory=class_row(Linked)) as cursor:
        found = cursor.execute(
            """SELECT to_char(window_start AT TIME ZONE 'UTC', 'YYYY-MM') AS month, fit_id,
                      model_spec->'linking_constants' AS constants, engine, engine_version, model, n_persons, n_items,
                      n_responses, converged, iterations, loglik, model_spec AS spec, data_hash, snapshot_hash,
                      anchor_hash, code_version, run_id, fitted_at
               FROM mirt_fit_meta
               WHERE scale_id = %s AND kind = 'monthly' AND engine = %s AND superseded_at IS NULL
                 AND window_start <= %s
               ORDER BY window_start DESC LIMIT %s""",
            (scale.scale_id, scale.engine, start, MONTHS_SHOWN),
        ).fetchall()
    return tuple(reversed(found))


def _histories(connection: psycopg.Connection, scale: Scale, month: str) -> dict[str, list[DriftRow]]:
    with connection.cursor(row_factory=class_row(DriftRow)) as cursor:
        rows = cursor.execute(
            """SELECT item_id, month, severity, delta_a, delta_b, delta_c, p_value, q_value, wabc, details, computed_at
               FROM item_drift
               WHERE scale_id = %(scale)s AND engine = %(engine)s AND month <= %(month)s AND month IN (
                 SELECT DISTINCT month FROM item_drift WHERE scale_id = %(scale)s AND month <= %(month)s
                 ORDER BY month DESC LIMIT %(most)s)
               ORDER BY item_id, month""",
            {"scale": scale.scale_id, "engine": scale.engine, "month": month, "most": MONTHS_SHOWN},
        ).fetchall()
    found: dict[str, list[DriftRow]] = {}
    for row in rows:
        found.setdefault(row.item_id, []).append(row)
    return found


def _items(
    connection: psycopg.Connection,
    scale: Scale,
    month: str,
    fit: Linked | None,
    linkings: Sequence[Linked],
    history: dict[str, list[DriftRow]],
    in_force: dict[str, dict[str, Any]],
    information: dict[str, InformationRow],
    dif: Iterable[DifRow],
    step: Step | None,
) -> dict[str, Item]:
    """Every item of the fit, or of the month's drift."""
    with connection.cursor(row_factory=dict_row) as cursor:
        fitted = cursor.execute(
            """SELECT item_id, params, n_responses, p_value, point_biserial, infit, outfit, rmsd, flags
               FROM mirt_item_params WHERE fit_id = %s""",
            (fit.fit_id if fit else None,),
        ).fetchall()
    of_fit = {row["item_id"]: row for row in fitted}
    topics: dict[str, str | None] = dict(
        connection.execute("SELECT item_id, topic_id FROM question WHERE scale_id = %s", (scale.scale_id,)).fetchall()
    )
    anchors = {
        item
        for (item,) in connection.execute(
            "SELECT item_id FROM anchor_set WHERE scale_id = %s AND version = %s",
            (scale.scale_id, scale.anchor_version),
        )
    }
    large: dict[str, list[str]] = {}
    for test in dif:
        if large_dif(test):
            large.setdefault(test.item_id, []).append(f"{test.attribute}: {test.focal_group}")
    suspects = fit.constants.get("suspects", {}) if fit else {}
    found = {}
    for name in sorted(of_fit.keys() | {i for i, rows in history.items() if rows[-1].month == month}):
        rows = history.get(name, [])
        drift = rows[-1] if rows and rows[-1].month == month else None
        row = of_fit.get(name, {})
        params = row.get("params") or {}
        flags = tuple(row.get("flags") or ())
        trend = drift.details.get("trend") if drift else None
        evidence = Evidence(
            severity=drift.severity if drift else "none",
            kind=drift.kind if drift else None,
            onset=drift.details.get("change", {}).get("onset") if drift else None,
            months_flagged=_in_a_row(reversed([r.severity != "none" for r in rows])) if drift else 0,
            trend=(trend["b_a_month"], trend["q"]) if trend and None not in (trend["b_a_month"], trend["q"]) else None,
            is_anchor=name in anchors,
            moved_against=Suspect(**suspects[name]).shown if name in suspects else "",
            months_dropped=_months_dropped(name, row.get("n_responses", 0), scale, fit, linkings),
            flags=flags,
            groups_with_large_dif=tuple(large.get(name, ())),
            information_lost=name in information and information[name].flagged,
            held=tuple(step.held.get(name, ())) if step else (),
        )
        published = in_force.get(name)
        found[name] = Item(
            name,
            topics.get(name),
            name in anchors,
            Curve(*(published[k] for k in ("a", "b", "c", "a_se", "b_se", "cov_ab"))) if published else None,
            published["effective_from"] if published else None,
            _curve(params),
            row.get("n_responses") or (drift.details.get("proportion_correct", {}).get("n", 0) if drift else 0),
            {k: row.get(k) for k in ("p_value", "point_biserial", "infit", "outfit", "rmsd")} | params.get("fit", {}),
            flags,
            tuple(rows),
            drift,
            evidence,
            propose(evidence),
            None,
        )
    return found


def _months_dropped(item: str, n: int, scale: Scale, fit: Linked | None, linkings: Sequence[Linked]) -> int:
    """Months in a row in which linking left the anchor out; none where too few answered it to say that it moved."""
    if fit is None or n < scale.rules.min_anchor_responses:
        return 0
    return _in_a_row(item in linked.constants["anchors_dropped"] for linked in reversed(linkings))


def large_dif(row: DifRow) -> bool:
    """Whether an item's DIF calls for a look, as its row says."""
    large: bool = row.details["large"]
    return large


def _curve(params: dict[str, Any]) -> Curve | None:
    if params.get("a") is None or params.get("b") is None:
        return None
    return Curve(
        params["a"],
        params["b"],
        params.get("c") or 0.0,
        params.get("a_se"),
        params.get("b_se"),
        params.get("cov_ab"),
    )


def _in_a_row(newest_first: Iterable[bool]) -> int:
    n = 0
    for one in newest_first:
        if not one:
            break
        n += 1
    return n


def _observed(
    store: ObjectStore, snapshot: Snapshot, scale: Scale, fit: Linked, items: dict[str, Item], wanted: list[str]
) -> dict[str, Observed]:
    """Proportions correct by ability, of the answers that were fitted; θ is from the items that are not `wanted`."""
    responses, _ = scored_responses_of(read_snapshot(store, snapshot), scale.scale_id)
    curves = [items[i].now if i in items and i not in wanted else None for i in responses.item_ids]
    a, b, c = (np.array([getattr(curve, k) if curve else np.nan for curve in curves]) for k in ("a", "b", "c"))
    latent = fit.spec["latent"]
    theta = eap(responses, a, -a * b, c, mean=latent["mean"], sd=latent["sd"]).theta
    found = {}
    for name in wanted:
        if name in responses.item_ids:
            mine = responses.item == responses.item_ids.index(name)
            found[name] = observed(theta[responses.person[mine]], responses.score[mine])
    return found


def _proposed(connection: psycopg.Connection, scale: Scale, month: str, fit: Linked | None) -> dict[str, int]:
    rows = connection.execute(
        """SELECT why, count(*) FROM item_parameter_proposal WHERE scale_id = %s AND month = %s AND fit_id = %s
           GROUP BY why ORDER BY why""",
        (scale.scale_id, month, fit.fit_id if fit else None),
    ).fetchall()
    return dict(rows)


def _why_not(
    connection: psycopg.Connection, scale: Scale, month: str, fit: Linked | None, in_force: dict[str, Any]
) -> str:
    """Why no item of the month was compared, with the way out."""
    if fit is None:
        staged = latest_staged(connection, month, scale.scale_id, scale.engine)
        if staged is None:
            return f"{month} has not been fitted: `irt calibrate --month {month}`"
        return f"{month} has no linked fit: {staged.error or 'materialise linked_item_parameters'}"
    if not in_force:
        return f"no item had published parameters on {month_bounds(month)[0]:%Y-%m-%d}: there is nothing before it"
    if not fit.converged:
        return f"the fit of {month} did not converge"
    return f"it has not been judged yet: materialise item_drift of {month}"
