"""The drift report of a month of a scale: what its facts come to in a sentence, and its pages as HTML.

What does not belong here: reading tables (drift_facts.py), the rule of what is proposed (drift_actions.py), the charts
(drift_charts.py).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from irt_assets.calibration.green import State
from irt_assets.partitions import month_bounds
from irt_assets.psychometrics.drift_kinds import Kind
from irt_assets.psychometrics.models import Flag
from irt_assets.reports import drift_charts, render
from irt_assets.reports.drift_actions import Action
from irt_assets.reports.drift_facts import Facts, Item
from irt_assets.reports.drift_rows import Curve, DifRow
from resources.version import code_version

ON_THE_FIRST_PAGE = 10
DIF_SHOWN = 20
LONG = 50
"""Characters that still fit beside another figure of an item."""


@dataclass(frozen=True)
class Verdict:
    """Whether the month is safe to release (`mark`: yes, no, or not yet), why, and what to look at; each a sentence."""

    mark: str
    headline: str
    why: str
    look_at: str

    @property
    def in_short(self) -> str:
        return f"{self.headline} {self.look_at}"


def verdict(facts: Facts) -> Verdict:
    """What the first page says first. Green is safe: drift holds no month, as published values stay until someone
    decides; what was found is to be looked at all the same."""
    name = f"{facts.month} of scale {facts.scale.scale_id}"
    mark, says = {
        State.GREEN: ("yes", "is safe to release."),
        State.RED: ("no", "is NOT safe to release."),
    }.get(facts.state.state, ("not yet", f"is not settled yet ({facts.state.state})."))
    proposals = Counter(item.proposal.action for item in to_look_at(facts) if item.proposal)
    asked = ", ".join(f"{proposals[action]} {action}" for action in Action if proposals[action])
    n = sum(proposals.values())
    look_at = f"Look at {counted(n, 'item')}: {asked}." if n else "No item calls for a look."
    if facts.not_compared:
        look_at = f"Drift was not tested: {facts.not_compared}." + (f" {look_at}" if n else "")
    return Verdict(mark, f"{name} {says}", f"{facts.state.why}.", look_at)


def to_look_at(facts: Facts) -> list[Item]:
    """Items with a proposal, the most urgent action first, then the largest change."""
    order = list(Action)

    def urgency(item: Item) -> tuple[int, float, str]:
        assert item.proposal is not None
        return order.index(item.proposal.action), -((item.drift.wabc or 0.0) if item.drift else 0.0), item.item_id

    return sorted((item for item in facts.items.values() if item.proposal), key=urgency)


def html(facts: Facts, made_at: datetime) -> str:
    """The report as one file that needs no other; `render.pdf` of it is the printed one."""
    items = to_look_at(facts)
    return render.html(
        "drift.html",
        facts=facts,
        verdict=verdict(facts),
        key_figures=key_figures(facts),
        to_look_at=items,
        first=items[:ON_THE_FIRST_PAGE],
        details={item.item_id: details(item, facts) for item in items},
        charts=drift_charts,
        dif=dif_to_show(facts),
        long=LONG,
        said_of_groups=said_of_groups,
        test=facts.information.get(""),
        provenance=provenance(facts, made_at),
        number=number,
        signed=signed,
        chance=chance,
        sentence=sentence,
    )


def dif_to_show(facts: Facts) -> list[DifRow]:
    """Every large one, and the next by q."""
    ordered = sorted(facts.dif, key=lambda row: (not row.large, 1.0 if row.q_value is None else row.q_value))
    return ordered[: max(DIF_SHOWN, sum(row.large for row in facts.dif))]


def key_figures(facts: Facts) -> list[tuple[str, str]]:
    """The figures of the first page: what, and how many."""
    severities = Counter(item.drift.severity for item in facts.items.values() if item.drift)
    figures = [
        (
            "drift",
            "not tested"
            if facts.not_compared
            else f"{severities['high']} high, {severities['medium']} medium, of {facts.compared} items compared",
        )
    ]
    inflation = next((i.drift.details.get("inflation", 1.0) for i in facts.items.values() if i.drift), 1.0)
    if inflation > 1:
        figures.append(
            ("spread", f"all items spread more than their errors explain; these were multiplied by {inflation:.2f}")
        )
    figures.append(("large DIF", _dif(facts)))
    figures.append(("information", _information(facts)))
    if facts.fit:
        used, dropped = (facts.fit.constants[name] for name in ("anchors_used", "anchors_dropped"))
        named = f": {', '.join(sorted(dropped)[:5])}{' …' if len(dropped) > 5 else ''}" if dropped else ""
        figures.append(("anchors", f"{len(used)} of {len(used) + len(dropped)} used, {len(dropped)} dropped{named}"))
    opened, closed = (
        sum(getattr(alert, which) == facts.month for alert in facts.alerts)
        for which in ("opened_month", "closed_month")
    )
    lasting = sum(alert.closed_month != facts.month for alert in facts.alerts)
    figures.append(("alerts", f"{opened} opened, {closed} closed, {lasting} open"))
    if facts.step:
        s = facts.step
        figures.append(
            ("publication", f"{s.n_published} first published, {s.n_proposed} proposed, {s.n_held} held back")
        )
    return figures


def _dif(facts: Facts) -> str:
    if not facts.dif_attributes:
        return "not tested"
    found = sorted({row.item_id for row in facts.dif if row.large})
    tested = {(row.attribute, row.focal_group) for row in facts.dif if row.p_value is not None}
    named = f" ({', '.join(found[:5])}{' …' if len(found) > 5 else ''})" if found else ""
    absent = [row.attribute for row in facts.dif_attributes if row.details.get("why_not")]
    not_tested = f"; not tested: {', '.join(absent)}" if absent else ""
    return f"{counted(len(found), 'item')}{named}, {counted(len(tested), 'group')} compared{not_tested}"


def said_of_groups(row: DifRow) -> str:
    """What a comparison by an attribute stands on, or why there is none."""
    d = row.details
    groups = [
        f"{group['name']} {group['n_learners']:,}" + (f" ({group['why_not']})" if group.get("why_not") else "")
        for group in d.get("groups", ())
    ]
    said = [", ".join(groups), f"{d['n_unknown']:,} learners unknown" if d.get("n_unknown") else ""]
    said += [f"not tested: {d['why_not']}" if d.get("why_not") else "", *d.get("warnings", ())]
    return "; ".join(part for part in said if part)


def _information(facts: Facts) -> str:
    test = facts.information.get("")
    if test is None:
        return "not tested"
    n = sum(row.flagged for item, row in facts.information.items() if item)
    items = f"{counted(n, 'item')} lost more than a fifth"
    worst = test.details.get("worst") or {}
    if worst.get("ratio") is None:
        return f"{items}; of the test: {test.details.get('why') or 'not tested'}"
    says = "the test lost more than a fifth" if test.flagged else "the test did not"
    return f"{items}; {says} (lowest {worst['ratio']:.0%} of the published, at θ = {signed(worst['theta'], 1)})"


def told(item: Item) -> str:
    """The kind of change and the evidence for it, as a sentence; "" where it was not asked for."""
    change = item.drift.details.get("change") if item.drift else None
    if not change:
        return ""
    size, z = change["size"], change.get("time_z")
    what = {
        Kind.DRIFT: f"drift: its difficulty moved by {signed(size)}",
        Kind.LEAK: f"leak: {number(size, 2)} of the learners know the answer, from {change.get('onset')} on",
        Kind.WRONG_KEY: f"wrong key: {number(size, 2)} of those who do not know it choose what is scored right",
        Kind.EASIER: f"easier by {signed(size)}: drift or leak, which only response times can tell",
        Kind.UNCLEAR: "unclear: none of drift, leak and wrong key explains the answers much better",
    }[Kind(change["kind"])]
    gains = ", ".join(f"{name} {signed(gain, 1)}" for name, gain in change["gains"].items())
    times = f"; correct answers came {'faster' if z < 0 else 'slower'} than usual (z {signed(z, 1)})" if z else ""
    option = "; a distractor goes with ability more than the key does" if change["distractor_above_the_key"] else ""
    return f"{what} (2ΔLL over the published curve: {gains}){times}{option}"


def details(item: Item, facts: Facts) -> list[tuple[str, str]]:
    """The numbers of an item that is to be looked at: what, and how much, those that need a line of their own first;
    nothing is said of what is not known."""
    s, drift, lost = item.statistics, item.drift, facts.information.get(item.item_id)
    rows = [
        ("kind of change", told(item)),
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
    elif drift is not None and (share := drift.details.get("proportion_correct")):
        tested = f"{number(share['observed'], 3)} of {share['n']} correct, expected {number(share['expected'], 3)}"
        rows.append(("not estimated", f"{share['why']}; {tested} (z {signed(share['z'], 1)})"))
    if lost is not None and lost.details.get("ratio") is not None:
        bound = f", at most {lost.details['upper']:.0%}" if lost.details.get("upper") is not None else ""
        rows.append(("information", f"{lost.details['ratio']:.0%} of the published{bound}"))
    return sorted(((name, value) for name, value in rows if value), key=lambda row: len(row[1]) <= LONG)


def parameters(curve: Curve) -> str:
    def with_error(name: str, value: float, se: float | None) -> str:
        return f"{name} {number(value)}" + ("" if se is None else f" ± {number(se)}")

    guessing = f", c {number(curve.c)}" if curve.c else ""
    return f"{with_error('a', curve.a, curve.a_se)}, {with_error('b', curve.b, curve.b_se)}{guessing}"


def provenance(facts: Facts, made_at: datetime) -> list[tuple[str, Any]]:
    """Where every number comes from."""
    start, end = month_bounds(facts.month)
    rows: list[tuple[str, Any]] = [
        ("window", f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"),
        ("scale", f"{facts.scale.scale_id}: population N({facts.scale.mu:g}, {facts.scale.sigma:g}²)"),
        ("state of the month", f"{facts.state.state}: {facts.state.why}"),
        ("set in force at its start", f"{facts.in_force} items"),
        ("settings of the scale", _pairs(facts.scale.rules.changed()) or "the defaults"),
    ]
    if fit := facts.fit:
        rows += [
            ("fit", fit.fit_id),
            ("engine", f"{fit.engine} {fit.engine_version}, model {fit.model}"),
            (
                "fitted",
                f"{fit.fitted_at:%Y-%m-%d %H:%M} UTC, {fit.iterations} iterations, log-likelihood {fit.loglik:.2f}",
            ),
            ("software", _pairs(fit.spec.get("software", {}))),
            ("priors", _pairs(fit.spec.get("priors", {}))),
            ("hash of the answers", fit.data_hash),
            ("hash of the snapshot", fit.snapshot_hash),
            ("anchor set", f"version {facts.scale.anchor_version}, {fit.anchor_hash}"),
            ("linking", f"{fit.constants['method']}"),
            ("code of the fit", fit.code_version),
            ("run", fit.run_id),
        ]
    judged = [item.drift.computed_at for item in facts.items.values() if item.drift]
    if judged:
        late = facts.fit is not None and max(judged) < facts.fit.fitted_at
        again = ", BEFORE the fit above: materialise item_drift again" if late else ""
        rows.append(("drift judged", f"{max(judged):%Y-%m-%d %H:%M} UTC{again}"))
    rows.append(("this report", f"{made_at:%Y-%m-%d %H:%M:%S} UTC, code {code_version()}"))
    return [(name, value) for name, value in rows if value]


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def number(value: float | None, digits: int = 2) -> str:
    """With a true minus sign; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def chance(value: float | None) -> str:
    """A probability: small ones as a power of ten, never as 0."""
    if value is None:
        return "–"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}".replace("-", "−")
