"""The drift report of a month of a scale: the verdict in a sentence, the first page, and the order of sections.

What does not belong here: reading tables (drift_facts.py), the rule for proposals (drift_actions.py), the
sections behind the first page (drift_sections.py).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from irt_assets.blocks import Block, Box, Document, Pairs, Paragraph, Section, Span, Text, pairs
from irt_assets.common.partitions import Month
from irt_assets.common.wording import counted, in_words, listed
from irt_assets.decisions.shown import decisions_table
from irt_assets.drift import dif_page
from irt_assets.drift.shown import drift_said, information_said
from irt_assets.gates.month_judged import State
from irt_assets.reports import drift_sections as sections_of
from irt_assets.reports import month_shown
from irt_assets.reports.drift_actions import Action
from irt_assets.reports.drift_facts import Facts, Item
from irt_assets.reports.drift_linking import linking, remarks, since_last_month
from irt_assets.reports.drift_sections import dif
from resources.version import code_version

ON_THE_FIRST_PAGE = 10


ASKED = {
    Action.RETIRE: "retire {}",
    Action.CHECK_KEY: "check the key of {}",
    Action.DROP_ANCHOR: "find out whether to drop {} from the anchors",
    Action.RE_ESTIMATE: "re-estimate {}",
    Action.KEEP: "watch {}",
}


@dataclass(frozen=True)
class Verdict:
    """Whether the month is safe to release (`mark`: yes, no, or not yet), why, and what needs review; each a sentence.
    `decisions`: changes of the month that wait for one."""

    mark: str
    headline: str
    why: str
    look_at: str
    decisions: int = 0

    @property
    def answer(self) -> str:
        waiting = f", {counted(self.decisions, 'decision')} open" if self.decisions else ""
        return f"Safe to release: {self.mark}{waiting}."

    @property
    def in_short(self) -> str:
        return f"{self.headline} {self.look_at}"


def verdict(facts: Facts) -> Verdict:
    """The first sentence of the first page. Green is safe: drift holds no month, as published values stay until someone
    decides; findings still need review."""
    name = f"{facts.month} of scale {facts.scale.scale_id}"
    mark, says = {
        State.GREEN: ("yes", "is safe to release."),
        State.ORIGIN: ("yes", "was released with the scale."),
        State.RED: ("no", "is NOT safe to release."),
    }.get(facts.state.state, ("not yet", f"is not settled yet ({facts.state.state})."))
    proposals = Counter(item.proposal.action for item in to_look_at(facts) if item.proposal)
    del proposals[Action.WITHDRAWN]
    asked = listed(ASKED[action].format(in_words(proposals[action])) for action in Action if proposals[action])
    n = sum(proposals.values())
    look_at = f"Look at {counted(n, 'item')}: {asked}." if n else "No items need review."
    if facts.not_compared:
        look_at = f"Drift was not tested: {facts.not_compared}." + (f" {look_at}" if n else "")
    stays = "What is published stays in force until someone decides otherwise."
    why = stays if mark == "yes" else f"{facts.state.why}."
    return Verdict(mark, f"{name} {says}", why, look_at, len(facts.open_decisions))


def to_look_at(facts: Facts) -> list[Item]:
    """Items with a proposal, the most urgent action first, then the largest change."""
    order = list(Action)

    def urgency(item: Item) -> tuple[int, float, str]:
        assert item.proposal is not None
        return order.index(item.proposal.action), -((item.drift.wabc or 0.0) if item.drift else 0.0), item.item_id

    return sorted((item for item in facts.items.values() if item.proposal), key=urgency)


def document(facts: Facts, made_at: datetime, dashboard_url: str | None = None) -> Document:
    """The report, with the verdict on the first page and the sources of its numbers at the end. `dashboard_url`: where
    people reach the dashboard; None for no links into it."""
    items, found = to_look_at(facts), verdict(facts)
    constants = facts.fit.constants if facts.fit else None
    sections = [
        ("What waits for a decision", "decide", sections_of.open_decisions(items, facts, dashboard_url)),
        ("Since last month", "since", since_last_month(facts)),
        ("What moved", "changes", sections_of.what_moved(facts)),
        ("Alerts", "alerts", sections_of.alerts(facts)),
        ("Decided", "decided", [decisions_table(facts.decisions)] if facts.decisions else []),
        ("The items one by one", "items", sections_of.one_by_one(items, facts)),
        ("Information", "information", sections_of.information(facts)),
        (
            "Anchors and linking",
            "linking",
            linking(constants, facts.scale, facts.anchor_shifts, facts.linking_history, remarks(facts)),
        ),
        ("DIF: items that function differently for groups of equal ability", "dif", dif(facts)),
        ("Fit and answers", "fit", sections_of.fit(facts)),
        ("All items", "all", sections_of.all_items(facts)),
    ]
    blocks: list[Block] = [*_first_page(facts, found, items)]
    for name, id, section in sections:  # noqa: A001 - the attribute's name
        if written := tuple(section):
            blocks.append(Section(name, written, id))
    blocks.append(Section("Provenance", (provenance(facts, made_at),), "provenance", together=True))
    return Document(
        title=f"Drift report {facts.month}",
        subtitle=f"scale {facts.scale.scale_id}, {counted(facts.bank_size, 'item')}, anchor set version "
        f"{facts.scale.anchor_version} · written on {made_at:%Y-%m-%d at %H:%M} UTC · irt-assets {code_version()}",
        running=f"Drift report {facts.month} · scale {facts.scale.scale_id}",
        language="en",
        kind="bank",
        blocks=tuple(blocks),
    )


def _first_page(facts: Facts, found: Verdict, items: Sequence[Item]) -> Iterator[Block]:
    yield Box(
        (
            Paragraph(Span(found.answer, "bold"), "lead"),
            Paragraph(f"{found.headline} {found.why}"),
            Paragraph(Span(found.look_at, "bold")),
        ),
        "good" if found.mark == "yes" else "bad",
    )
    yield Pairs(tuple(key_figures(facts)))
    if items:
        first = items[:ON_THE_FIRST_PAGE]
        blocks: list[Block] = [sections_of.proposals(first)]
        if len(items) > len(first):
            rest = Span("the items one by one", link="#items")
            blocks.append(Paragraph((f"The other {len(items) - len(first)} are in ", rest, ".")))
        decides_nothing = "A proposal decides nothing: published values stay as they are until a person decides ("
        blocks.append(Paragraph((decides_nothing, Span("irt release list", "code"), ")."), "quiet"))
        yield Section("What to look at first", tuple(blocks), "first")


def key_figures(facts: Facts) -> list[tuple[str, str]]:
    """The figures of the first page: what, and how many, in words."""
    compared = [item.drift for item in facts.items.values() if item.drift]
    figures = [
        ("drift", "not tested" if facts.not_compared else drift_said(compared)),
        ("DIF", dif_page.dif_said((*facts.dif_attributes, *facts.dif)) if facts.dif_attributes else "not tested"),
        ("information", information_said(facts.information)),
    ]
    if facts.fit:
        used, dropped = facts.fit.constants.anchors_used, facts.fit.constants.anchors_dropped
        named = f": {listed(sorted(dropped))}" if dropped else ""
        figures.append(
            (
                "anchors",
                f"{in_words(len(used))} of {len(used) + len(dropped)} used, {in_words(len(dropped))} left out{named}",
            )
        )
    opened, closed = (
        sum(getattr(alert, which) == facts.month for alert in facts.alerts)
        for which in ("opened_month", "closed_month")
    )
    lasting = sum(alert.closed_month != facts.month for alert in facts.alerts)
    figures.append(("alerts", f"{in_words(opened)} opened, {in_words(closed)} closed, {in_words(lasting)} open"))
    if facts.step:
        first, changed, held = (in_words(n) for n in (facts.step.n_published, facts.step.n_proposed, facts.step.n_held))
        figures.append(
            (
                "publication",
                f"{first} published for the first time, {changed} with new values proposed, {held} held back",
            )
        )
    return figures


def provenance(facts: Facts, made_at: datetime) -> Pairs:
    """Where every number comes from."""
    start, end = Month(facts.month).bounds
    rows: list[tuple[str, Text | None]] = [
        ("window", f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"),
        ("scale", f"{facts.scale.scale_id}: population N({facts.scale.mu:g}, {facts.scale.sigma:g}²)"),
        ("state of the month", f"{facts.state.state}: {facts.state.why}"),
        ("set in force at its start", f"{facts.in_force} items"),
        ("settings of the scale", month_shown.settings_in_words(facts.scale.rules.changed()) or "the defaults"),
    ]
    rows += month_shown.fit_facts(facts.fit, facts.scale).items() if facts.fit else ()
    judged = [item.drift.computed_at for item in facts.items.values() if item.drift]
    if judged:
        late = facts.fit is not None and max(judged) < facts.fit.fitted_at
        again = ", BEFORE the fit above: materialise item_drift again" if late else ""
        rows.append(("drift judged", f"{max(judged):%Y-%m-%d %H:%M} UTC{again}"))
    rows.append(("this report", f"{made_at:%Y-%m-%d %H:%M:%S} UTC, code {code_version()}"))
    return pairs(rows)
