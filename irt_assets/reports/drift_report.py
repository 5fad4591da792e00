"""The drift report on a month of a scale: its verdict, its first page, and the order of its sections."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from irt_assets.abilities.group_page import group_blocks
from irt_assets.blocks import Block, Box, Document, Pairs, Paragraph, Section, Span, Text, pairs
from irt_assets.common.partitions import Month
from irt_assets.common.wording import in_words, join_names, natural_order, quantity
from irt_assets.decisions.origin import OriginSummary
from irt_assets.drift import dif_page
from irt_assets.drift.blocks import drift_summary, information_summary
from irt_assets.gates.month_classification import State
from irt_assets.reports import drift_sections as sections_of, month_blocks, origin_report
from irt_assets.reports.decision_blocks import decisions_table
from irt_assets.reports.drift_actions import Action
from irt_assets.reports.drift_facts import Facts, Item
from irt_assets.reports.drift_linking import changes_since_last_month, linking, remarks
from irt_assets.reports.drift_sections import dif
from resources.version import code_version

MAX_ITEMS_FIRST_PAGE = 10
DIF = "DIF: items that function differently for groups of equal ability"
ORIGIN_REASON = "Every later month is compared with the values that it published."

ACTION_PHRASES = {
    Action.RETIRE: "retire {}",
    Action.CHECK_KEY: "check the key of {}",
    Action.DROP_ANCHOR: "find out whether to drop {} from the anchors",
    Action.RE_ESTIMATE: "re-estimate {}",
    Action.NOT_PUBLISHED: "see why {} could not be published",
    Action.WATCH: "watch {}",
}


@dataclass(frozen=True)
class ReleaseVerdict:
    """Whether the month is safe to release.

    Attributes:
        mark: yes, no, or not yet.
        answer: the mark as a sentence.
        headline: the month and its state, as a sentence.
        why: the reason, as a sentence.
        look_at: the items that need review, as a sentence.
        decisions: number of the month's changes that wait for a decision.
    """

    mark: str
    answer: str
    headline: str
    why: str
    look_at: str
    decisions: int = 0

    @property
    def in_short(self) -> str:
        return f"{self.headline} {self.look_at}"


def verdict(facts: Facts) -> ReleaseVerdict:
    """Decide whether the month is safe to release.

    A green month is: drift holds no month, because published values stay until someone decides. Findings still need
    review.
    """
    name = f"{facts.month} of scale {facts.scale.scale_id}"
    mark, state = {
        State.GREEN: ("yes", "is safe to release."),
        State.ORIGIN: ("yes", "was released with the scale."),
        State.RED: ("no", "is NOT safe to release."),
    }.get(facts.state.state, ("not yet", f"is not settled yet ({facts.state.state})."))
    proposals = Counter(item.proposal.action for item in items_to_review(facts) if item.proposal)
    del proposals[Action.WITHDRAWN]
    requests = join_names(
        ACTION_PHRASES[action].format(in_words(proposals[action])) for action in Action if proposals[action]
    )
    n = sum(proposals.values())
    look_at = f"Look at {quantity(n, 'item')}: {requests}." if n else "No items need review."
    if facts.origin is not None:
        headline = f"{name} is part of {origin_report.origin_in_words(facts.origin)}."
        return ReleaseVerdict("yes", "Released with the scale.", headline, ORIGIN_REASON, look_at)
    if facts.not_compared:
        look_at = f"Drift was not tested: {facts.not_compared}." + (f" {look_at}" if n else "")
    stays = "Published values stay in force until someone decides otherwise."
    why = stays if mark == "yes" else f"{facts.state.why}."
    n_open = len(facts.open_decisions)
    waiting = f", {quantity(n_open, 'decision')} open" if n_open else ""
    return ReleaseVerdict(mark, f"Safe to release: {mark}{waiting}.", f"{name} {state}", why, look_at, n_open)


def items_to_review(facts: Facts) -> list[Item]:
    """Items with a proposal, ordered by urgency of the action, then by size of the change."""
    order = list(Action)

    def urgency(item: Item) -> tuple[Any, ...]:
        assert item.proposal is not None
        wabc = (item.drift.wabc or 0.0) if item.drift else 0.0
        return order.index(item.proposal.action), -wabc, natural_order(item.item_id)

    return sorted((item for item in facts.items.values() if item.proposal), key=urgency)


def document(facts: Facts, made_at: datetime, dashboard_url: str | None = None) -> Document:
    """Return the report, with the verdict on the first page and the sources of its numbers at the end.

    `dashboard_url` is the address of the dashboard, or None for no link to it.
    """
    items, found = items_to_review(facts), verdict(facts)
    sections = (
        _origin_sections(facts, facts.origin, items) if facts.origin else _month_sections(facts, items, dashboard_url)
    )
    blocks: list[Block] = [
        *_first_page(facts, found, items),
        *(Section(name, content, link) for name, link, section in sections if (content := tuple(section))),
        Section("Provenance", (provenance(facts, made_at),), "provenance", together=True),
    ]
    title = f"Report of the origin window, {facts.month}" if facts.origin else f"Drift report {facts.month}"
    return Document(
        title=title,
        subtitle=f"scale {facts.scale.scale_id}, {quantity(facts.bank_size, 'item')}, anchor set version "
        f"{facts.scale.anchor_version} · written on {made_at:%Y-%m-%d at %H:%M} UTC · irt-assets {code_version()}",
        running=f"{title} · scale {facts.scale.scale_id}",
        language="en",
        kind="bank",
        blocks=tuple(blocks),
    )


Sections: TypeAlias = list[tuple[str, str, Iterable[Block]]]
"""Title, id and blocks of each section. A section without blocks is left out."""


def _month_sections(facts: Facts, items: Sequence[Item], dashboard_url: str | None) -> Sections:
    constants = facts.fit.constants if facts.fit else None
    return [
        ("What waits for a decision", "decide", sections_of.open_decisions(items, facts, dashboard_url)),
        ("Since last month", "since", changes_since_last_month(facts)),
        ("Changed items", "changes", sections_of.changed_items(facts)),
        ("Alerts", "alerts", sections_of.alerts(facts)),
        ("Decided", "decided", [decisions_table(facts.decisions)] if facts.decisions else []),
        ("The items one by one", "items", sections_of.one_by_one(items, facts)),
        ("Information", "information", sections_of.information(facts)),
        (
            "Anchors and linking",
            "linking",
            linking(constants, facts.scale, facts.anchor_shifts, facts.linking_history, remarks(facts)),
        ),
        (DIF, "dif", dif(facts)),
        (month_blocks.GROUPS, "groups", group_blocks(facts.groups, facts.scale)),
        ("Fit and answers", "fit", sections_of.fit(facts)),
        ("All items", "all", sections_of.all_items(facts)),
    ]


def _origin_sections(facts: Facts, origin: OriginSummary, items: Sequence[Item]) -> Sections:
    counts = facts.snapshot.counts.get(facts.scale.scale_id, {}) if facts.snapshot else {}
    learners = [month_blocks.learners(facts.measured)] if facts.measured else []
    return [
        ("Published items", "published", origin_report.publication(origin)),
        ("Fit of the model", "fit", origin_report.model_fit(origin)),
        ("The items one by one", "items", sections_of.one_by_one(items, facts)),
        (DIF, "dif", dif(facts)),
        (month_blocks.GROUPS, "groups", group_blocks(facts.groups, facts.scale)),
        ("Answers and learners", "answers", [Paragraph(origin_report.answers(origin, counts)), *learners]),
        ("Decided", "decided", [decisions_table(facts.decisions)] if facts.decisions else []),
        ("All items", "all", sections_of.all_items(facts)),
    ]


def _first_page(facts: Facts, found: ReleaseVerdict, items: Sequence[Item]) -> Iterator[Block]:
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
        first = items[:MAX_ITEMS_FIRST_PAGE]
        blocks: list[Block] = [sections_of.proposals(first)]
        if len(items) > len(first):
            rest = Span("the items one by one", link="#items")
            blocks.append(Paragraph((f"The other {len(items) - len(first)} are in ", rest, ".")))
        if facts.origin is None:
            decides_nothing = "A proposal decides nothing: published values stay as they are until a person decides."
            blocks.append(Paragraph(decides_nothing, "quiet"))
        yield Section("Items to review first", tuple(blocks), "first")


def key_figures(facts: Facts) -> list[tuple[str, str]]:
    """Key figures of the first page, as pairs of name and words."""
    if facts.origin is not None:
        return [*_keys(facts), *origin_report.key_figures(facts, facts.origin)]
    compared = [item.drift for item in facts.items.values() if item.drift]
    figures = [
        *_keys(facts),
        ("drift", "not tested" if facts.not_compared else drift_summary(compared)),
        ("DIF", dif_page.dif_summary((*facts.dif_attributes, *facts.dif)) if facts.dif_attributes else "not tested"),
        ("information", information_summary(facts.information)),
    ]
    if facts.fit:
        used, dropped = facts.fit.constants.anchors_used, facts.fit.constants.anchors_dropped
        names = f": {join_names(sorted(dropped))}" if dropped else ""
        figures.append(
            (
                "anchors",
                f"{len(used)} of {len(used) + len(dropped)} used, {in_words(len(dropped))} left out{names}",
            )
        )
    opened, closed = (
        sum(getattr(alert, column) == facts.month for alert in facts.alerts)
        for column in ("opened_month", "closed_month")
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


def _keys(facts: Facts) -> list[tuple[str, str]]:
    return [("keys", " ".join(facts.key_warnings))] if facts.key_warnings else []


def provenance(facts: Facts, made_at: datetime) -> Pairs:
    """Sources of the report's numbers."""
    window = facts.origin.window if facts.origin else None
    start, end = (window.window_start, window.window_end) if window else Month(facts.month).bounds
    rows: list[tuple[str, Text | None]] = [
        ("window", f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"),
        ("scale", f"{facts.scale.scale_id}: population N({facts.scale.mu:g}, {facts.scale.sigma:g}²)"),
        ("state of the month", f"{facts.state.state}: {facts.state.why}"),
        (f"set in force at its {'end' if window else 'start'}", f"{facts.in_force} items"),
        ("settings of the scale", month_blocks.settings_in_words(facts.scale.rules.non_defaults()) or "the defaults"),
    ]
    rows += month_blocks.fit_facts(facts.fit, facts.scale).items() if facts.fit else ()
    computed = [item.drift.computed_at for item in facts.items.values() if item.drift]
    if computed:
        late = facts.fit is not None and max(computed) < facts.fit.fitted_at
        again = ", BEFORE the fit above: materialise item_drift again" if late else ""
        rows.append(("drift judged", f"{max(computed):%Y-%m-%d %H:%M} UTC{again}"))
    rows.append(("this report", f"{made_at:%Y-%m-%d %H:%M:%S} UTC, code {code_version()}"))
    return pairs(rows)
