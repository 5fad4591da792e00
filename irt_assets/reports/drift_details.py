"""What a drift report says of one item, and where the numbers of a month come from.

What does not belong here: the report's order and sections (drift_report.py, drift_sections.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from irt_assets.blocks import Pairs, Span, Text, chance, number, pairs, signed
from irt_assets.common.partitions import Month
from irt_assets.psychometrics.core.items import ItemRow
from irt_assets.psychometrics.core.models import Flag
from irt_assets.psychometrics.drift.kinds import Kind
from irt_assets.reports.drift_facts import Facts, Item
from resources.version import code_version

LONG = 50
"""The longest text, in characters, that fits next to another figure of an item."""


def kind_of_change(item: Item) -> str:
    """The kind of change and the evidence for it, as a sentence; "" where it was not asked for."""
    change = item.drift.details.get("change") if item.drift else None
    return change_in_words(change, item.evidence.onset) if change else ""


def change_in_words(change: Mapping[str, Any], onset: str | None) -> str:
    """`change`: as `item_drift` has it; `onset`: the day from which on the first month saw it."""
    size, z = change["size"], change.get("time_z")
    what = {
        Kind.DRIFT: f"drift: its difficulty moved by {signed(size)}",
        Kind.LEAK: f"leak: {number(size, 2)} of the learners know the answer, from {onset} on",
        Kind.WRONG_KEY: f"wrong key: {number(size, 2)} of those who do not know it choose what is scored right",
        Kind.EASIER: f"easier by {signed(size)}: drift or leak; only response times can show which",
        Kind.UNCLEAR: "unclear: none of drift, leak and wrong key explains the answers much better",
    }[Kind(change["kind"])]
    gains = ", ".join(f"{name} {signed(gain, 1)}" for name, gain in change["gains"].items())
    times = f"; correct answers came {'faster' if z < 0 else 'slower'} than usual (z {signed(z, 1)})" if z else ""
    option = "; a distractor rises with ability more than the key does" if change["distractor_above_the_key"] else ""
    return f"{what} (2ΔLL over the published curve: {gains}){times}{option}"


def details(item: Item, facts: Facts) -> tuple[tuple[str, str], ...]:
    """Names and values of an item that needs review, those that need a line of their own first; unknown ones are left
    out."""
    s, drift, lost = item.statistics, item.drift, facts.information.get(item.item_id)
    rows = [
        ("kind of change", kind_of_change(item)),
        ("published", f"{parameters(item.published)}, since {item.since:%Y-%m-%d}" if item.published else ""),
        ("this month", parameters(item.now) if item.now else ""),
        ("answers", f"{item.n:,}, {number(s['p_value'])} correct" + (f", topic {item.topic}" if item.topic else "")),
        ("engine says", "; ".join(Flag(flag).explanation for flag in item.flags)),
        (
            "fit",
            f"point-biserial {number(s['point_biserial'])}, infit {number(s['infit'])}, outfit {number(s['outfit'])}, "
            f"RMSD {number(s['rmsd'], 3)}"
            if s["infit"] is not None
            else "",
        ),
    ]
    if drift is not None and drift.delta_b is not None:
        d = drift.details
        low, high = d["delta_b_95"]
        rows += [
            ("Δb", f"{signed(drift.delta_b)} (95 %: {signed(low)} to {signed(high)})"),
            ("Δa", f"{signed(drift.delta_a)} ± {number(d['delta_a_se'])}"),
            ("test", f"wABC {number(drift.wabc, 3)}, q {chance(drift.q_value)}"),
            ("chances", f"|Δb| > 0.3: {chance(d['chance_b_large'])}, |Δa| > 0.2: {chance(d['chance_a_large'])}"),
            ("fixed limits", ", ".join(f"{name} {level}" for name, level in d["limits"].items())),
        ]
        if trend := d.get("trend"):
            rows.append(
                (
                    "trend of b",
                    f"{signed(trend['b_a_month'], 3)} a month, {trend['months']} months, q {chance(trend['q'])}",
                )
            )
    elif drift is not None and (models := drift.details.get("across_models")):
        rows += [
            ("models", models),
            ("test", f"wABC {number(drift.wabc, 3)}, q {chance(drift.q_value)}"),
        ]
    elif drift is not None and (share := drift.details.get("proportion_correct")):
        tested = f"{number(share['observed'], 3)} of {share['n']} correct, expected {number(share['expected'], 3)}"
        rows.append(("not estimated", f"{share['why']}; {tested} (z {signed(share['z'], 1)})"))
    if drift is not None and (curves := drift.details.get("curves")):
        rows.append(
            ("right answers", f"{signed(curves['right'], 3)} ± {number(curves['right_se'], 3)} of the learners")
        )
    if lost is not None and lost.details.get("ratio") is not None:
        bound = f", at most {lost.details['upper']:.0%}" if lost.details.get("upper") is not None else ""
        rows.append(("information", f"{lost.details['ratio']:.0%} of the published{bound}"))
    return tuple(sorted(((name, value) for name, value in rows if value), key=lambda row: len(row[1]) <= LONG))


def parameters(curve: ItemRow) -> str:
    return ", ".join(
        f"{name} {number(value)}" + ("" if se is None else f" ± {number(se)}")
        for name, (value, se) in curve.shown.items()
    )


def provenance(facts: Facts, made_at: datetime) -> Pairs:
    """Where every number comes from."""
    start, end = Month(facts.month).bounds
    rows: list[tuple[str, Text | None]] = [
        ("window", f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"),
        ("scale", f"{facts.scale.scale_id}: population N({facts.scale.mu:g}, {facts.scale.sigma:g}²)"),
        ("state of the month", f"{facts.state.state}: {facts.state.why}"),
        ("set in force at its start", f"{facts.in_force} items"),
        ("settings of the scale", _pairs(facts.scale.rules.changed()) or "the defaults"),
    ]
    if fit := facts.fit:
        rows += [
            ("fit", Span(fit.fit_id, "code")),
            ("engine", f"{fit.engine} {fit.engine_version}, model {fit.model}"),
            (
                "fitted",
                f"{fit.fitted_at:%Y-%m-%d %H:%M} UTC, {fit.iterations} iterations, log-likelihood {fit.loglik:.2f}",
            ),
            ("software", _pairs(fit.spec.software)),
            ("priors", _pairs(fit.spec.priors or {})),
            ("hash of the answers", Span(fit.data_hash, "code")),
            ("hash of the snapshot", Span(fit.snapshot_hash, "code")),
            ("anchor set", (f"version {facts.scale.anchor_version}, ", Span(fit.anchor_hash, "code"))),
            ("linking", fit.constants.method),
            ("code of the fit", fit.code_version),
            ("run", fit.run_id),
        ]
    judged = [item.drift.computed_at for item in facts.items.values() if item.drift]
    if judged:
        late = facts.fit is not None and max(judged) < facts.fit.fitted_at
        again = ", BEFORE the fit above: materialise item_drift again" if late else ""
        rows.append(("drift judged", f"{max(judged):%Y-%m-%d %H:%M} UTC{again}"))
    rows.append(("this report", f"{made_at:%Y-%m-%d %H:%M:%S} UTC, code {code_version()}"))
    return pairs(rows)


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())
