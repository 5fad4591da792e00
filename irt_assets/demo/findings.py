"""Comparison of the planted faults with the findings of the platform."""

from dataclasses import dataclass
from typing import Any

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.common.wording import quantity, some_of
from irt_assets.gates.evidence import load_evidence
from irt_assets.gates.linking_gates import anchors_agree
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.ledger.decisions import newest_decisions
from irt_assets.scales.scale import read_scales
from irt_assets.simulation.files import SCALE_ID
from irt_psychometrics.estimation import Flag
from resources.postgres.database import Database

MIN_SHARE_NAMED = 0.75  # share of the moved anchors, because some move by less than their errors


@dataclass(frozen=True)
class Finding:
    """A planted fault and the platform's finding on it."""

    fault: str
    planted: str
    found: str
    as_expected: bool


def compare(database: Database, truth: dict[str, Any], months: list[str], states: list[MonthState]) -> list[Finding]:
    """Compare the planted faults with the findings."""
    with database.connect() as connection:
        flags = {month: _flags(connection, month) for month in months}
        findings = [_finding(connection, fault, states, flags) for fault in truth["faults"]]
        dropped = {month: _dropped_by(connection, month) for month in months}
    findings.append(_false_alarms(truth, flags))
    bad = {m for f in truth["faults"] if f["kind"] == "anchors_moved" for m in f["months"]}
    for state in states:
        planted = state.scale_id == SCALE_ID and state.month in bad
        expected = State.RED if planted else State.GREEN
        found, as_expected = f"{state.state}", state.state is expected
        if not as_expected and planted and dropped[state.month]:
            found, as_expected = f"{found}: {dropped[state.month]}", True
        findings.append(Finding(f"state of {state.month}", f"{state.scale_id} {expected}", found, as_expected))
    return findings


def _dropped_by(connection: psycopg.Connection, month: str) -> str:
    """A clause with the person who dropped anchors from the month on; empty if nobody did."""
    dropped = [decision for decision in newest_decisions(connection, month=month) if decision.kind == "drop_anchor"]
    return (
        f"{dropped[0].by} dropped {quantity(len({decision.item_id for decision in dropped}), 'anchor')}"
        if dropped
        else ""
    )


def _flags(connection: psycopg.Connection, month: str) -> dict[str, tuple[Flag, ...]]:
    """Flags of each item in the month's fits."""
    found: dict[str, tuple[Flag, ...]] = {}
    for scale in read_scales(connection, Month(month).start).values():
        if fit := load_evidence(connection, month, scale).calibration:
            found |= zip(fit.item_ids, fit.flags, strict=True)
    return found


def _finding(
    connection: psycopg.Connection,
    fault: dict[str, Any],
    states: list[MonthState],
    flags: dict[str, dict[str, tuple[Flag, ...]]],
) -> Finding:
    kind, items = fault["kind"], fault["item_ids"]
    active = [m for m in fault["months"] if m in flags]
    planted = some_of(items, 3) + (f" in {active[0]}" if len(active) == 1 else f" from {active[0]}")
    of_scale = {s.month: s.state for s in states if s.scale_id == SCALE_ID}
    judged = [m for m in active if of_scale.get(m) is State.GREEN]
    if kind == "dif":
        return _dif_finding(connection, planted, set(items), judged)
    if kind in ("drift", "leak"):
        kinds_found = connection.execute(
            """SELECT month, details->'change'->>'kind' FROM item_drift
               WHERE severity <> 'none' AND item_id = ANY(%s) AND month = ANY(%s) ORDER BY 1""",
            (items, judged),
        ).fetchall()
        rightly = [month for month, found in kinds_found if found == kind]
        other_kinds = sorted({str(found) for _, found in kinds_found} - {kind})
        found = f"flagged as {kind} in {len(rightly)} of {len(judged)} green months"
        return Finding(
            kind, planted, found + (f", as {', '.join(other_kinds)} too" if other_kinds else ""), rightly == judged
        )
    if kind == "anchors_moved":
        state = of_scale[active[0]]
        if decided := _dropped_by(connection, active[0]):
            return Finding("anchors moved", planted, f"{decided}; month is {state}", as_expected=True)
        evidence = load_evidence(connection, active[0], read_scales(connection, Month(active[0]).start)[SCALE_ID])
        constants = anchors_agree(evidence).details
        named = {*constants.get("anchors_dropped", ()), *constants.get("suspects", ())}
        right = len(named & set(items))
        found = f"{right} of {len(items)} named, {len(named) - right} others; month is {state}"
        return Finding("anchors moved", planted, found, state is State.RED and right >= MIN_SHARE_NAMED * len(items))
    expected_flag = Flag.NEGATIVE_DISCRIMINATION if kind == "wrong_key" else Flag.ALL_CORRECT
    flagged = sum(all(expected_flag in flags[month].get(item, ()) for item in items) for month in active)
    found = f"{expected_flag.value} in {flagged} of {len(active)} months"
    return Finding(kind, planted, found, flagged == len(active))


def _dif_finding(connection: psycopg.Connection, planted: str, items: set[str], judged: list[str]) -> Finding:
    large: dict[str, set[str]] = {month: set() for month in judged}
    for month, item in connection.execute(
        "SELECT month, item_id FROM dif_analysis WHERE month = ANY(%s) AND details->'large' = 'true'", (judged,)
    ):
        large[month].add(item)
    rightly = [month for month in judged if items <= large[month]]
    other_items = sorted(set().union(*large.values()) - items)
    found = f"large in {len(rightly)} of {len(judged)} green months, "
    found += f"and so are {', '.join(other_items[:5])}" if other_items else "and no other item is"
    return Finding("dif", planted, found, rightly == judged and not other_items)


def _false_alarms(truth: dict[str, Any], flags: dict[str, dict[str, tuple[Flag, ...]]]) -> Finding:
    planted = {item for fault in truth["faults"] for item in fault["item_ids"]}
    flagged = {item for of_month in flags.values() for item, found in of_month.items() if found}
    wrong = sorted(flagged - planted)
    return Finding("sound items", "none flagged", ", ".join(wrong[:5]) or "none flagged", not wrong)
