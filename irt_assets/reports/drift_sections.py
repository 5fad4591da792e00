"""The sections of a drift report behind its first page, each as blocks; none where there is nothing to say.

What does not belong here: their order (drift_report.py), the numbers of one item (drift_details.py), how a chart is
drawn (drift_charts.py).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from irt_assets.blocks import (
    Block,
    Column,
    Figure,
    Figures,
    Pairs,
    Paragraph,
    Section,
    Span,
    Table,
    Text,
    chance,
    number,
    signed,
    table,
)
from irt_assets.common.dashboard_pages import month_page
from irt_assets.common.wording import counted, listed, sentence
from irt_assets.decisions.anchor_versions import FIND_OUT_FIRST
from irt_assets.gates.month_judged import State
from irt_assets.ledger.fit_spec import SetStatistics
from irt_assets.psychometrics.drift.kinds import Kind
from irt_assets.reports import drift_charts as charts
from irt_assets.reports.drift_actions import Action
from irt_assets.reports.drift_details import details
from irt_assets.reports.drift_facts import Facts, Item


def proposals(items: Sequence[Item]) -> Table:
    """What is proposed of each item, and why; the items are those of `one_by_one`, from the first on."""
    columns = (
        Column("item", share=2),
        Column("proposed"),
        Column("why", share=5),
        Column("severity"),
        Column("Δb", number=True),
        Column("wABC", number=True),
    )
    rows = []
    for n, item in enumerate(items, 1):
        assert item.proposal is not None
        name: Text = (Span(item.item_id, link=f"#item-{n}"), Span(" (anchor)" if item.is_anchor else "", "quiet"))
        drift = item.drift
        numbers = (signed(drift.delta_b), number(drift.wabc, 3)) if drift else ("–", "–")
        severity = _severity(drift.severity) if drift else "–"
        rows.append((name, Span(item.proposal.action, "bold"), sentence(item.proposal.reason), severity, *numbers))
    return Table(columns, tuple(rows))


def open_decisions(items: Sequence[Item], facts: Facts, dashboard_url: str | None) -> Iterator[Block]:
    """Each change that waits, what to type for it or where to click, and what accepting all of them would do to
    learners. `dashboard_url`: None for no link."""
    rows: list[tuple[Text, ...]] = []
    for change in facts.open_decisions:
        drift = f"{change.kind or 'drift'}, {change.severity} severity" if change.kind else change.why
        values = (
            f"{change.old} in force, {change.new} proposed"
            if change.old
            else f"nothing in force, {change.new} proposed"
        )
        leaked = change.kind == Kind.LEAK
        accept, reject = (
            Span(f'irt release {verb} {shlex.quote(str(change.reference))} --by NAME --reason "WHY"', "code")
            for verb in ("accept", "reject")
        )
        what: Text = (reject, " (it leaked: replace the item)") if leaked else (accept, ", or ", reject)
        rows.append((change.item_id, sentence(f"{drift}: {values}"), what))
    if anchors := [i.item_id for i in items if i.proposal and i.proposal.action is Action.DROP_ANCHOR]:
        named = shlex.join(anchors)
        month = "" if facts.state.state is State.GREEN else f" --from {facts.month}"
        scale = f"--scale {shlex.quote(facts.scale.scale_id)}"
        command = f'irt release drop-anchors {named} {scale}{month} --by NAME --reason "WHY"'
        undone = ("; ", Span("irt release restore-anchors", "code"), " undoes it")
        what = ("those that really changed: ", Span(command, "code"), *undone)
        rows.append((listed(anchors, 3), f"Months are linked through them. {FIND_OUT_FIRST}", what))
    if not rows:
        return
    columns = (Column("item", share=1.5), Column("why", share=4), Column("command", share=5))
    yield Table(columns, tuple(rows))
    if dashboard_url:
        yield Paragraph(("Or decide on ", Span("the month's page", link=month_page(dashboard_url, facts.month)), "."))
    if facts.effect:
        yield Paragraph(sentence(f"If all of them were accepted: {facts.effect.sentence}"))


def what_moved(facts: Facts) -> Iterator[Block]:
    if facts.not_compared:
        yield Paragraph(f"Not tested: {facts.not_compared}.")
        return
    yield Paragraph(
        f"{facts.compared} items were compared with what was in force when the month began. An item is flagged where a "
        f"joint test of {_tested(facts)} says that it changed (q < 0.05 over the items) and the change matters to "
        "answers: the weighted area between its two curves (wABC) is above 0.05 (medium) or 0.10 (high)."
    )
    per_item = [item.drift.details.get("across_models") for item in facts.items.values() if item.drift]
    across = [reason for reason in per_item if reason]
    if across:
        summary = f"{counted(len(across), 'item')} {'was' if len(across) == 1 else 'were'} {across[0]}"
        yield Paragraph(
            f"{sentence(summary)} Parameters of two models are not compared: what counts is the share of the learners "
            "who answer correctly, and how it rises with ability."
        )
    if len(across) == facts.compared:
        return
    yield Figures(
        (
            Figure(
                charts.changes(facts),
                "Change of difficulty with 95 % intervals. Blue dots: not flagged. Orange triangles: flagged.",
                wide=True,
            ),
        )
    )


def _tested(facts: Facts) -> str:
    by_curves = any(item.drift and item.drift.details.get("curves") for item in facts.items.values())
    return "its curves (of the share of correct answers, and of how it rises with ability)" if by_curves else "a and b"


def alerts(facts: Facts) -> Iterator[Block]:
    if not facts.alerts:
        yield Paragraph("None was open.")
        return
    yield table(
        ("item", "kind", "severity", "opened", "closed"),
        [
            (a.item_id, a.kind, a.severity, a.opened_month, a.closed_month if a.closed_month == facts.month else "open")
            for a in facts.alerts
        ],
    )


def decisions(facts: Facts) -> Iterator[Block]:
    if facts.decisions:
        yield table(
            ("item", "decision", "by", "on", "from", "why"),
            [
                (
                    one.item_id,
                    one.decision.replace("_", " "),
                    one.decided_by,
                    f"{one.decided_at:%Y-%m-%d}",
                    f"{one.effective_from:%Y-%m-%d}" if one.effective_from else "–",
                    one.reason,
                )
                for one in facts.decisions
            ],
        )


def one_by_one(items: Sequence[Item], facts: Facts) -> Iterator[Block]:
    if not items:
        yield Paragraph("No items need review.")
    for n, item in enumerate(items, 1):
        assert item.proposal is not None
        blocks: list[Block] = [Paragraph(sentence(item.proposal.reason))]
        if figures := tuple(_figures_of(item, facts)):
            blocks.append(Figures(figures))
        blocks.append(Pairs(details(item, facts), small=True))
        title = f"{item.item_id}: {item.proposal.action}"
        yield Section(title, tuple(blocks), f"item-{n}", level=3, together=True)


def _figures_of(item: Item, facts: Facts) -> Iterator[Figure]:
    if item.now or item.published:
        caption = "Dashed blue: published" if item.published else "Not published"
        caption += "; solid orange: this month" if item.now else ""
        caption += "; dots: observed, by ability from the other items" if item.observed else ""
        yield Figure(charts.response_curves_of(item, facts), f"{caption}. Shades and bars: 95 %.")
    if any(row.delta_b is not None for row in item.history):
        yield Figure(
            charts.history(item),
            "Change of difficulty against the values in force, by month, with 95 % intervals. Triangles: flagged.",
        )


def information(facts: Facts) -> Iterator[Block]:
    test = facts.information.get("")
    if test is None:
        yield Paragraph(f"Not tested: {facts.not_compared or f'materialise test_information of {facts.month}'}.")
        return
    for key in ("why", "caution"):
        if remark := test.details.get(key):
            yield Paragraph(sentence(remark))
    if test.curve.get("theta"):
        caption = "Information of the compared items together. Dashed blue: as published; solid orange: by this month's"
        yield Figures(
            (
                Figure(charts.information(test, "information"), f"{caption} values."),
                Figure(charts.information(test, "se"), "The standard error of θ that follows."),
            )
        )
    retiring = test.details.get("retiring") or {}
    if retiring.get("items"):
        yield Paragraph(
            f"Without {', '.join(retiring['items'])} the test would keep {100 * retiring['lowest']:.0f} % of its "
            f"information where it loses most (θ = {signed(retiring['lowest_at'], 1)})."
        )
    lost = [row for row in facts.information.values() if row.item_id and row.flagged]
    if not lost:
        yield Paragraph("No item lost more than a fifth of its information.")
        return
    yield table(
        ("item", "published", "now", "ratio", "at most", "q"),
        [
            (
                row.item_id,
                number(row.details.get("published"), 3),
                number(row.details.get("now"), 3),
                number(row.details.get("ratio")),
                number(row.details.get("upper")),
                chance(row.details.get("q")),
            )
            for row in lost
        ],
        numbers=("published", "now", "ratio", "at most", "q"),
        sortable=True,
    )
    yield Paragraph(
        "Averaged over the population; flagged where the ratio is below 0.8 and its 95 % bound below 1.", "quiet"
    )


def fit(facts: Facts) -> Iterator[Block]:
    if facts.fit:
        latent, found = facts.fit.spec.latent, facts.fit.spec.fit_statistics
        yield Paragraph(
            f"{facts.fit.n_responses:,} answers of {facts.fit.n_persons:,} learners to {facts.fit.n_items} items; the "
            f"learners' θ has mean {signed(latent.mean)} and SD {number(latent.sd)} on the scale."
        )
        if found:
            yield Paragraph(_fit_statistics(found))
    counts = facts.snapshot.counts.get(facts.scale.scale_id) if facts.snapshot else None
    if counts:
        named = ", ".join(f"{reason.replace('_', ' ')} {n:,}" for reason, n in counts.items() if n)
        yield Paragraph(f"Answers of the month by what became of them: {named}.")
    if facts.step:
        yield Paragraph(f"Publication: {facts.step.why}.")
        if facts.step.held:
            yield table(("held back", "why"), [(name, "; ".join(why)) for name, why in sorted(facts.step.held.items())])
    if facts.proposed:
        named = "; ".join(f"{n} items ({why})" for why, n in facts.proposed.items())
        yield Paragraph(f"Proposed and not published: {named}.")


def _fit_statistics(found: SetStatistics) -> str:
    sentences = [f"Reliability {number(found.reliability)}."]
    if parallel := found.parallel:
        sentences.append(
            f"Largest eigenvalue of the residual correlations {number(parallel.eigenvalue)}, expected "
            f"{number(parallel.expected)} (p {chance(parallel.p)})."
        )
    sentences.append(f"{found.q3.flagged} of {found.q3.pairs} pairs of items are locally dependent.")
    return " ".join(sentences)


def all_items(facts: Facts) -> Iterator[Block]:
    if not facts.items:
        return
    numbers = ("answers", "correct", "a now", "b now", "SE(b)", "b published", "Δb", "Δa", "wABC", "q", "r pb", "RMSD")
    columns = (
        Column("item", share=3),
        Column("topic", share=2),
        *(Column(name, number=True) for name in numbers[:10]),
        Column("severity"),
        *(Column(name, number=True) for name in numbers[10:]),
    )
    rows = tuple(_item_row(item) for item in facts.items.values())
    yield Table(columns, rows, narrow="scroll", sortable=True, filter_id="items-table", small=True)


def _item_row(item: Item) -> tuple[Text, ...]:
    now, drift, s = item.now, item.drift, item.statistics
    return (
        (item.item_id, Span(" anchor" if item.is_anchor else "", "quiet")),
        item.topic or "",
        str(item.n),
        number(s["p_value"]),
        number(now.a if now else None),
        number(now.b if now else None),
        number(now.b_se if now else None),
        number(item.published.b if item.published else None),
        signed(drift.delta_b if drift else None),
        signed(drift.delta_a if drift else None),
        number(drift.wabc if drift else None, 3),
        chance(drift.q_value if drift else None),
        _severity(drift.severity) if drift else "–",
        number(s["point_biserial"]),
        number(s["rmsd"], 3),
    )


def _severity(severity: str) -> Span:
    return Span(severity, "quiet" if severity == "none" else "bold")
