"""Lay out the facts of a scale as blocks, for its page and for `irt scale show`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from irt_assets.blocks import (
    Block,
    Cell,
    Column,
    Details,
    Document,
    Figure,
    Figures,
    List,
    Moment,
    Paragraph,
    Section,
    Span,
    Table,
    Text,
    notice,
    number,
    pairs,
    percent,
    prose,
    signed_number,
    table,
    without_page_links,
)
from irt_assets.calibration.linking_history import history_figures, history_table, linked_months
from irt_assets.charts import PUBLISHED_STYLE, ability_chart, add_points
from irt_assets.common.arrays import Floats
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import join_names, natural_order, quantity, sentence, shorten
from irt_assets.decisions.bank import IN_USE, NOT_PUBLISHED, WITHDRAWN, BankItem
from irt_assets.decisions.movement_proposal import remarks
from irt_assets.ledger.movement_proposals import MovementProposal
from irt_assets.reports import origin_report
from irt_assets.reports.scale_facts import SHARES, MeasuredMonth, ScaleFacts
from irt_assets.scales.rules import STAGES
from irt_assets.scales.scale_decisions import MOVEMENT, PRIORS, decision_in_force
from irt_assets.scores.reported import in_unit
from irt_assets.scores.standards import Standard, mark_in_force
from irt_psychometrics.items import item_model
from irt_psychometrics.plots import Chart, wright_map
from resources.version import code_version

MOVEMENT_WORDS = {
    "ability_variance": "variance of θ that a week adds",
    "ability_growth": "growth of θ in a week",
    "occasion_variance": "variance of θ from day to day",
}
MONTH = timedelta(days=30.5)
MOVEMENT_TITLE = "How abilities move"


def scale_in_short(facts: ScaleFacts) -> str:
    """The scale in two sentences: its model and bank, and its learners in the last measured month."""
    scale, last = facts.scale, facts.measured[-1] if facts.measured else None
    model = item_model(scale.model).spoken
    bank = f"{len(facts.in_use)} of {quantity(len(facts.items), 'item')} in use."
    if last is None:
        return f"A {model} with {bank} No learner has been measured yet."
    passing = f" {percent(last.passing)} pass." if last.passing is not None else ""
    return (
        f"A {model} with {bank} {last.learners:,} learners of {last.month} have a mean θ of {number(last.mean)} and an "
        f"SD of {number(last.sd)}.{passing}"
    )


def scales_table(scales: Sequence[ScaleFacts]) -> Table:
    """Return a table with one row per scale."""
    rows = [
        (
            facts.scale.scale_id,
            facts.scale.model,
            _origin(facts).partition(":")[0],
            len(facts.items),
            len(facts.in_use),
            0 if facts.anchors is None else facts.anchors.b.size,
            facts.measured[-1].month if facts.measured else None,
            facts.measured[-1].learners if facts.measured else None,
        )
        for facts in scales
    ]
    counts = ("items", "in use", "anchors", "learners")
    names = ("scale", "model", "origin", "items", "in use", "anchors", "measured", "learners")
    return table(names, rows, numbers=dict.fromkeys(counts, ","), caption="Scales", empty="The bank has no scale yet.")


def sections(
    facts: ScaleFacts, *, zone: str = "UTC", dashboard: str | None = None, commands: bool = True
) -> Iterator[Section]:
    """Yield the sections of a scale. Times are in the time zone `zone`; for `dashboard` see `page_link`. `commands`:
    whether hints name shell commands."""
    if not facts.scale.initialised:
        command = f": `irt scale init --scale {facts.scale.scale_id}` makes it" if commands else ""
        why = prose(f"No month can be linked before the scale has an origin{command}.")
        yield Section("No origin yet", (notice(why, "warning"),))
    yield Section("Bank and learners", tuple(_bank(facts)))
    if any(own.changes or own.stuck or own.needed for own in facts.supplies):
        yield Section("Size of the bank to come", tuple(_size_forecast(facts, dashboard)))
    if facts.measured:
        yield Section("θ by month", tuple(_learners(facts)))
    if facts.linked:
        figures = [history_figures(facts.linked)] if linked_months(facts.linked) else []
        yield Section("Linking by month", (*figures, Details("The numbers", (history_table(facts.linked),))))
    if facts.scale.initialised:
        yield Section(MOVEMENT_TITLE, tuple(_movement(facts, commands)))
    yield Section("Model and origin", tuple(_identity(facts, zone)))
    yield Section("Rules", tuple(_rules(facts, zone)))
    yield Section("Decisions on the scale", tuple(_decisions(facts, zone, dashboard)))


def document(facts: ScaleFacts, at: datetime, zone: str) -> Document:
    """Return the scale's page as a document."""
    title = f"Scale {facts.scale.scale_id}"
    return Document(
        title=title,
        subtitle=f"written on {at:%Y-%m-%d at %H:%M} UTC · irt-assets {code_version()}",
        running=title,
        language="en",
        kind="bank",
        blocks=without_page_links(
            (Paragraph(scale_in_short(facts), "lead"), *sections(facts, zone=zone, commands=False))
        ),
    )


def _bank(facts: ScaleFacts) -> Iterator[Block]:
    if facts.in_use:
        yield Figures((_wright_map(facts), _information(facts)))
    if facts.in_use and facts.measured:
        yield _targeting(facts)
    yield _bank_table(facts)


def _wright_map(facts: ScaleFacts) -> Figure:
    last = facts.measured[-1].month if facts.measured else ""
    people = f"learners of {last}" if last else "the standard normal population, as no learner has been measured"
    chart = wright_map(facts.published, facts.learners if last else None)
    return Figure(chart, f"Wright map. Left: {people}; right: the items in use at their b.", wide=True)


def _information(facts: ScaleFacts) -> Figure:
    """Draw the information of all items in use over a histogram of the learners, which has its own height."""
    published, theta = facts.published, facts.learners
    at = np.linspace(*Chart.ends_of(theta, np.clip(published.b, -6, 6), [-3.0, 3.0]), 161)
    found = published.curves.information(at).sum(axis=1)
    chart = ability_chart(at, "information", _best(at, found), 1.08 * float(found.max()), width=690, height=250)
    if theta.size:
        n, edges = np.histogram(theta, 24)
        heights = 0.6 * float(found.max()) * n / n.max()
        chart.boxes(edges[:-1], np.zeros(n.size), edges[1:], heights, "grey", "learners", hatched=True)
    chart.line(at, found, name="information", **PUBLISHED_STYLE)
    return Figure(chart, f"{_best(at, found)} The heights of the bars are shares of the learners.")


def _best(at: Floats, information: Floats) -> str:
    best = int(np.argmax(information))
    return f"Information of the items in use. They measure best at θ = {number(at[best], 1)}."


def _targeting(facts: ScaleFacts) -> Table:
    """The information at the quantiles of the learners' θ, and the items near them."""
    last, b = facts.measured[-1], facts.published.b
    found = facts.published.curves.information(np.array(last.quantiles)).sum(axis=1)
    rows = [
        (percent(share), theta, info, info**-0.5 if info > 0 else None, int(np.sum(np.abs(b - theta) < 0.5)))
        for share, theta, info in zip(SHARES, last.quantiles, found.tolist(), strict=True)
    ]
    formats = {"θ": ".2f", "information": ".1f", "SE with all items": ".2f", "items within 0.5 of it": ""}
    caption = f"Precision of all items in use for the learners of {last.month}"
    return table(("learners below", *formats), rows, numbers=formats, caption=caption, small=True)


def _bank_table(facts: ScaleFacts) -> Table:
    """Items by topic: how many have each status, and the b of the items in use in bands of the population's SD."""
    edges = [facts.scale.mu + k * facts.scale.sigma for k in (-2, -1, 0, 1, 2)]
    bands = [f"b < {number(edges[0], 1)}", *(f"{number(x, 1)} to {number(y, 1)}" for x, y in pairwise(edges))]
    bands.append(f"b ≥ {number(edges[-1], 1)}")

    def counts(items: Sequence[BankItem]) -> Sequence[Cell]:
        statuses = [item.status for item in items]
        b = [item.values.b for item in items if item.status == IN_USE and item.values]
        n = np.bincount(np.searchsorted(edges, b, side="right"), minlength=len(bands))
        return [*map(statuses.count, (IN_USE, NOT_PUBLISHED, WITHDRAWN)), *n.tolist()]

    rows: list[Sequence[Cell]] = [(topic, *counts(items)) for topic, items in _by_topic(facts).items()]
    columns = (IN_USE, NOT_PUBLISHED, WITHDRAWN, *bands)
    caption = "Items by topic and status, and those in use by b"
    return table(("topic", *columns), rows, numbers=columns, caption=caption, small=True)


def _by_topic(facts: ScaleFacts) -> dict[str, list[BankItem]]:
    """Group the items by topic, with all items at the end if there are several topics."""
    ordered = sorted(facts.items, key=lambda item: natural_order(item.topic or ""))
    by_topic = {name: [*items] for name, items in groupby(ordered, lambda item: shorten(item.topic or "no topic"))}
    return by_topic | ({"all": ordered} if len(by_topic) > 1 else {})


def _size_forecast(facts: ScaleFacts, dashboard: str | None) -> Iterator[Block]:
    """Yield shortages, and a table of the items in use by topic, now and in one to three months by the forecasts."""
    yield from (notice(sentence(own.shortage), "warning") for own in facts.supplies if own.shortage)
    ends = [(facts.at + k * MONTH).date() for k in range(4)]
    counts = [(own.in_use, *map(own.size, ends), own.stuck) for own in facts.supplies]
    rows: list[Sequence[Cell]] = [
        (shorten(own.topic), own.needed or None, *numbers) for own, numbers in zip(facts.supplies, counts, strict=True)
    ]
    if len(rows) > 1:
        rows.append(("all", None, *map(sum, zip(*counts, strict=True))))
    columns = ("needed", IN_USE, *("with publishable items", "in 1 month", "in 2 months", "in 3 months"), "stuck")
    caption = f"Items in use by topic, as of {ends[0]}, if each new item is published on the day of its forecast"
    yield table(("topic", *columns), rows, numbers=columns, caption=caption, small=True)
    queue = page_link("New items", "new_items", dashboard=dashboard, scale=facts.scale.scale_id)
    needed = "Needed: by the minimum of a form blueprint or of an adaptive test, whichever is largest."
    if not any(own.needed for own in facts.supplies):
        needed = "No stored form blueprint and no adaptive test in force has a minimum of a topic."
    yield Paragraph((f"{needed} Retired items are not in use; stuck items have no forecast. ", queue), "quiet")


def _learners(facts: ScaleFacts) -> Iterator[Block]:
    measured = facts.measured
    median = [month.quantiles[2] for month in measured]
    low, high = ([month.quantiles[k] for month in measured] for k in (0, -1))
    mark = facts.scale.pass_theta
    theta = _month_chart(measured, "θ", Chart.ends_of(low, high, [mark]), "Median θ by month, and its middle 90 %")
    add_points(theta, range(len(measured)), median, [""] * len(measured), low=low, high=high, joined=True)
    figures = [Figure(theta, "Median θ; bars: the middle 90 % of the learners." + " Line: pass mark." * bool(mark))]
    if mark is not None:
        theta.level(mark)
    reliable = [facts.reliability.get(month.month) or np.nan for month in measured]
    if np.isfinite(reliable).any():
        chart = _month_chart(measured, "reliability", (0.0, 1.0), "Reliability of θ in the fit of each month")
        add_points(chart, range(len(measured)), reliable, [""] * len(measured), joined=True)
        figures.append(Figure(chart, "Reliability of θ in the fit of each month."))
    yield Figures(tuple(figures))
    quantiles = dict.fromkeys((percent(share) for share in SHARES), ".2f")
    formats = {"learners": ",", "mean": ".2f", "SD": ".2f"} | quantiles | {"mean SE": ".2f", "reliability": ".2f"}
    formats |= {"passing": ".0%"} if mark is not None else {}
    rows = [
        (m.month, m.learners, m.mean, m.sd, *m.quantiles, m.mean_se, facts.reliability.get(m.month))
        + ((m.passing,) if mark is not None else ())
        for m in reversed(measured)
    ]
    caption = "θ of the learners measured at each month's end: mean, SD, quantiles, mean standard error"
    yield table(("month", *formats), rows, numbers=formats, caption=caption, small=True)


def _month_chart(measured: Sequence[MeasuredMonth], label: str, ends: tuple[float, float], described: str) -> Chart:
    names = [month.month[2:] for month in measured]
    return Chart((-0.5, max(len(names), 3) - 0.5), ends, "month", label, described, height=190, x_names=names)


def _identity(facts: ScaleFacts, zone: str) -> Iterator[Block]:
    scale, anchors = facts.scale, facts.anchors
    model = item_model(scale.model).spoken
    since = f", decided for months from {scale.model_since:%Y-%m} on" if scale.model_since else ""
    priors = [d for subject in PRIORS if (d := decision_in_force(facts.decisions, subject, None)) and d.value != "none"]
    yield pairs(
        {
            "model": f"{model}{since}",
            "priors": join_names(f"{PRIORS[d.subject]} ~ {d.value}" for d in priors) or "none of its own",
            "engine": scale.engine,
            "a person in a fit is": f"a learner's {scale.occasions}",
            "population": f"θ ~ N({number(scale.mu)}, {number(scale.sigma)}²)",
            "pass mark": _pass_mark(facts),
            "made": Moment(scale.since, zone) if scale.since else "not yet",
            "origin": _origin(facts),
            "anchors": _anchor_summary(facts),
        }
    )
    if anchors is None:
        return
    topics = sorted({*anchors.topics}, key=lambda topic: natural_order(topic or ""))
    by_topic = {topic: anchors.b[[other == topic for other in anchors.topics]] for topic in topics}
    rows = [
        (shorten(topic or "no topic"), b.size, b.mean(), b.std(ddof=1) if b.size > 1 else None)
        for topic, b in by_topic.items()
    ]
    formats = {"anchors": "", "mean of b": ".2f", "SD of b": ".2f"}
    caption = f"Anchors by topic, version {anchors.version} of the set"
    yield Details("Anchors by topic", (table(("topic", *formats), rows, numbers=formats, caption=caption),))


def _pass_mark(facts: ScaleFacts) -> str:
    """Return the pass mark, who set it, and by which standard setting, if there was one."""
    mark, found = facts.scale.pass_mark, mark_in_force(facts.decisions, facts.scale)
    unit = facts.scale.rules.scores.unit
    at = "none" if mark is None else f"θ = {number(mark)}" if unit == "theta" else in_unit(unit, mark)
    if found is None:
        return at
    decision, made = found
    panel = (
        f"{made.method.capitalize()} by {made.panel}, {quantity(made.judges, 'judge')}, SE {made.se:.3f}, form "
        f"{made.form}; "
        if isinstance(made, Standard)
        else ""
    )
    return f"{at}: {panel}{decision.decided_by}, {decision.decided_at:%Y-%m-%d}"


def _origin(facts: ScaleFacts) -> str:
    if not facts.scale.initialised:
        return "none yet"
    if facts.origin is None:
        return "the bank's parameters"
    window = facts.origin.window
    return f"{origin_report.days(facts.origin)}: {window.n_responses:,} answers of {window.n_persons:,} learners"


def _anchor_summary(facts: ScaleFacts) -> str:
    if facts.anchors is None:
        return "none"
    b = facts.anchors.b
    spread = f" and an SD of {number(b.std(ddof=1))}" if b.size > 1 else ""
    return f"{b.size}, with a mean b of {number(b.mean())}{spread}"


def _rules(facts: ScaleFacts, zone: str) -> Iterator[Block]:
    """Yield the rules that differ from their defaults, and all rules by stage."""
    values = facts.scale.rules.settings()
    rows = {
        name: (
            name,
            _value(values[name]),
            _value(rule.default),
            *_set_by(facts, name, zone),
            prose(rule.description or ""),
        )
        for stage in STAGES.values()
        for name, rule in stage.model_fields.items()
    }
    changed = facts.scale.rules.non_defaults()
    names = ("rule", "value", "default", "set by", "when", "meaning")
    columns = tuple(Column(name, share=4 if name == "meaning" else 1) for name in names)
    yield Paragraph(f"{len(changed)} of {len(values)} rules differ from their defaults.")
    if changed:
        yield Table(columns, tuple(rows[name] for name in changed), "Rules that differ from their defaults")
    others = tuple(row for name, row in rows.items() if name not in changed)
    yield Details("The other rules", (Table(columns, others, "Rules that have their defaults"),))


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def _set_by(facts: ScaleFacts, name: str, zone: str) -> tuple[Text, Text | None]:
    """Who set a rule, and when. Values from `irt scale init` and from older releases have no name."""
    decision = facts.rule_decision(name)
    if decision is not None:
        return decision.decided_by, Moment(decision.decided_at, zone)
    return "not recorded" if name in facts.scale.rules.non_defaults() else "default", None


def _decisions(facts: ScaleFacts, zone: str, dashboard: str | None) -> Iterator[Block]:
    rows = [
        (d.subject, d.in_short, d.decided_by, Moment(d.decided_at, zone), f"{d.effective_from:%Y-%m}", d.reason)
        for d in reversed(facts.decisions)
    ]
    columns = ("on", "value", "by", "when", "for months from", "why")
    yield table(columns, rows, empty="Nothing has been decided since the scale was made.")
    yield Paragraph(
        ("Decisions on items and anchors: ", page_link("Decisions", "decisions", dashboard=dashboard), "."), "quiet"
    )


def _movement(facts: ScaleFacts, commands: bool) -> Iterator[Block]:
    """Yield the movement in force, and the newest proposal with its evidence."""
    movement, proposal = facts.scale.movement, facts.proposal
    if not movement:
        yield Paragraph("θ of a learner counts as constant: no movement is in force.")
    known = proposal.details if proposal and proposal.movement else {}
    rows: list[tuple[Cell, ...]] = []
    for subject, (part, *_) in MOVEMENT.items():
        row: tuple[Cell, ...] = (MOVEMENT_WORDS[subject], Span(subject, "code"), f"{getattr(movement, part):.3g}")
        if proposal and known:
            row += f"{getattr(proposal, part):.3g}", f"{known['estimate'][part]:.3g} ± {known['errors'][part]:.2g}"
            row += (known["p"][part],)
        rows.append(row)
    names = ("number", "rule", "in force", *(("proposed", "estimate ± SE", "p that it is 0") if known else ()))
    formats = {"in force": "", "proposed": "", "estimate ± SE": "", "p that it is 0": ".2g"}
    caption = "How abilities move"
    yield table(names, rows, numbers={n: f for n, f in formats.items() if n in names}, caption=caption)
    yield from _proposal(proposal, facts.is_waiting, commands)


def _proposal(proposal: MovementProposal | None, is_waiting: bool, commands: bool) -> Iterator[Block]:
    if proposal is None:
        command = " `irt scale movement --propose` estimates it from the last year." if commands else ""
        yield Paragraph(prose(f"Nothing has been proposed.{command}"))
        return
    if proposal.movement is None:
        yield Paragraph(f"As of {proposal.month} nothing is proposed: {sentence(proposal.why_not)}")
        return
    known = proposal.details
    state = "It waits for a decision." if is_waiting else "It has been decided on, or equals the movement in force."
    yield Paragraph(
        f"Proposed as of {proposal.month}, from {known['learners']:,} learners with answers on "
        f"{known['occasions']:,} days within {known['weeks']:.0f} weeks. {state}"
    )
    yield List(tuple(map(sentence, remarks(known))))


def movement_in_short(proposal: MovementProposal) -> str:
    """A proposal in a clause, with the proposed growth and variance."""
    return (
        f"as of {proposal.month}, growth of {signed_number(proposal.growth, 3)} a week and a variance of "
        f"{number(proposal.variance, 4)} are proposed"
    )
