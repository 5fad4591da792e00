"""Sections of a drift report after its first page, each as blocks; a section without content yields nothing."""

from collections.abc import Iterator, Sequence

from irt_assets.blocks import (
    DASH,
    Block,
    Cell,
    Column,
    Figure,
    Figures,
    Paragraph,
    Section,
    Span,
    Table,
    Text,
    chance,
    number,
    signed_number,
    table,
)
from irt_assets.common.dashboard_pages import month_page
from irt_assets.common.wording import join_names, quantity, sentence
from irt_assets.decisions.anchor_versions import FIND_OUT_FIRST
from irt_assets.drift.blocks import CURVES, DIF_EXPLAINED, dif_table, information_summary, information_table, severity
from irt_assets.drift.dif_page import groups_table
from irt_assets.drift.plots import test_curves
from irt_assets.drift.rows import DifRow
from irt_assets.ledger.fit_spec import SetStatistics
from irt_assets.reports import drift_charts as charts, month_blocks
from irt_assets.reports.drift_actions import Action
from irt_assets.reports.drift_facts import Facts, Item
from irt_assets.reports.item_blocks import category_curves, curves, details
from irt_psychometrics.drift import ChangeKind
from irt_psychometrics.items import ItemRow

MAX_DIF_ROWS, MAX_CURVES = 20, 6


def proposals(items: Sequence[Item]) -> Table:
    """Return a table of proposals with reasons, and with drift if an item was compared. `items` begin `one_by_one`."""
    columns: tuple[Column, ...] = (Column("item", share=2), Column("proposed"), Column("why", share=5))
    compared = any(item.drift for item in items)
    if compared:
        columns += (Column("severity"), Column("Δb", number=True), CURVES)
    rows = []
    for n, item in enumerate(items, 1):
        assert item.proposal is not None
        name: Text = (Span(item.item_id, link=f"#item-{n}"), Span(" (anchor)" if item.is_anchor else "", "quiet"))
        drift = item.drift
        numbers = (signed_number(drift.delta_b), drift.wabc) if drift else ("–", None)
        level = severity(drift.severity) if drift else "–"
        moved = (level, *numbers) if compared else ()
        rows.append((name, Span(item.proposal.action, "bold"), sentence(item.proposal.reason), *moved))
    return Table(columns, tuple(rows))


def open_decisions(items: Sequence[Item], facts: Facts, dashboard_url: str | None) -> Iterator[Block]:
    """Yield the changes that wait for a decision, and the effect on learners of accepting them all.

    `dashboard_url` is the address of the dashboard, or None for no link to it.
    """
    rows: list[tuple[Text, ...]] = []
    for change in facts.open_decisions:
        drift = f"{change.kind or 'drift'}, {change.severity} severity" if change.kind else change.why
        values = (
            f"{change.old} in force, {change.new} proposed"
            if change.old
            else f"nothing in force, {change.new} proposed"
        )
        choice = "reject (it leaked: replace the item)" if change.kind == ChangeKind.LEAK else "accept or reject"
        rows.append((change.item_id, sentence(f"{drift}: {values}"), choice, str(change.reference)))
    if anchors := [i.item_id for i in items if i.proposal and i.proposal.action is Action.DROP_ANCHOR]:
        why = f"Months are linked through them. {FIND_OUT_FIRST}"
        rows.append((join_names(anchors, 3), why, "drop those that really changed; a drop can be undone", DASH))
    if not rows:
        return
    columns = (Column("item", share=1.5), Column("why", share=5), Column("decision", share=2), Column("proposal"))
    yield Table(columns, tuple(rows))
    page = month_page(dashboard_url, facts.month) if dashboard_url else ""
    yield Paragraph(("Decide on ", Span("the month's page", link=page), " of the dashboard."))
    if facts.effect:
        yield Paragraph(sentence(f"If all of them were accepted: {facts.effect.sentence}"))


def changed_items(facts: Facts) -> Iterator[Block]:
    if facts.not_compared:
        yield Paragraph(f"Not tested: {facts.not_compared}.")
        return
    yield Paragraph(
        f"{facts.n_compared} items were compared with the values in force when the month began. An item is flagged "
        f"if a joint test of {_test_in_words(facts)} shows that it changed (q < 0.05 over the items) and the change "
        "matters to answers: the mean difference of its two curves over the learners is above 0.05 (medium) or 0.10 "
        "(high)."
    )
    compared = (item.drift.details for item in facts.items.values() if item.drift)
    across = [details["across_models"] for details in compared if "across_models" in details]
    if across:
        summary = f"{quantity(len(across), 'item')} {'was' if len(across) == 1 else 'were'} {across[0]}"
        yield Paragraph(
            f"{sentence(summary)} Parameters of two models are not compared. The test compares the share of the "
            "learners who answer correctly, and its rise with ability."
        )
    if len(across) == facts.n_compared:
        return
    yield Figure(
        charts.changes(facts),
        "Change of difficulty with 95 % intervals. Blue dots: not flagged. Orange triangles: flagged.",
        wide=True,
    )


def _test_in_words(facts: Facts) -> str:
    by_curves = any(item.drift and item.drift.details.get("curves") for item in facts.items.values())
    return "its curves (of the share of correct answers, and of how it rises with ability)" if by_curves else "a and b"


def alerts(facts: Facts) -> Iterator[Block]:
    yield table(
        ("item", "kind", "severity", "opened", "closed"),
        [
            (a.item_id, a.kind, a.severity, a.opened_month, a.closed_month if a.closed_month == facts.month else "open")
            for a in facts.alerts
        ],
        empty="None was open.",
    )


def one_by_one(items: Sequence[Item], facts: Facts) -> Iterator[Block]:
    if not items:
        yield Paragraph("No items need review.")
    for n, item in enumerate(items, 1):
        assert item.proposal is not None
        blocks: list[Block] = [Paragraph(sentence(item.proposal.reason))]
        if figures := tuple(_figures_of(item, facts)):
            blocks.append(Figures(figures))
        blocks += category_curves(item, facts.scale, facts.fit.month if facts.fit else facts.month)
        blocks.append(details(item, item.evidence.onset, facts.information.get(item.item_id)))
        title = f"{item.item_id}: {item.proposal.action}"
        yield Section(title, tuple(blocks), f"item-{n}", level=3, together=True)


def _figures_of(item: Item, facts: Facts) -> Iterator[Figure]:
    if item.values or item.published:
        month = facts.fit.month if facts.fit else facts.month
        yield curves(item.item_id, item.published, item.values, facts.scale, month, item.observed)
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
    yield Paragraph(sentence(information_summary(facts.information)))
    if caution := test.details.get("caution"):
        yield Paragraph(sentence(caution))
    if test.curve.get("theta"):
        information, error = test_curves(test)
        caption = (
            "Dashed blue: as published; solid orange: the same items this month; black: all items in force, with those "
            "that might be retired (dash-dotted) and without (dotted)."
        )
        yield Figures((Figure(information, caption), Figure(error, "The standard error of θ that follows.")))
    items = [row for name, row in facts.information.items() if name and (row.flagged or row.details.get("retire"))]
    yield information_table(
        ("item",),
        [((row.item_id,), row) for row in items],
        sortable=True,
        empty="No item lost more than a fifth of its information, or drifted far.",
    )
    yield Paragraph(
        "Averaged over the population; lost if less than 0.8 is kept, and less than 1 with 95 % certainty.", "quiet"
    )


def fit(facts: Facts) -> Iterator[Block]:
    counts = facts.snapshot.counts.get(facts.scale.scale_id, {}) if facts.snapshot else {}
    yield from month_blocks.answers(facts.fit, counts)
    if facts.fit:
        latent, found = facts.fit.spec.latent, facts.fit.spec.fit_statistics
        yield Paragraph(
            f"The learners' θ has mean {signed_number(latent.mean)} and SD {number(latent.sd)} on the scale."
        )
        if found:
            yield Paragraph(_fit_statistics(found))
    yield from month_blocks.publication_blocks(facts.step, facts.proposed)
    if facts.step and facts.step.held:
        yield table(("held back", "why"), [(name, "; ".join(why)) for name, why in sorted(facts.step.held.items())])


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
    scored = any(item.values is not None and item.values.max_score > 1 for item in facts.items.values())
    formats = {"answers": "", "correct": ".2f", "a now": ".2f"} | ({ItemRow.WHOLE_SLOPE: ".2f"} if scored else {})
    formats |= {"b now": ".2f", "SE(b)": ".2f", "b published": ".2f"}
    moved = {"Δb": "+.2f", "Δa": "+.2f", CURVES.name: ".3f", "q": ""} if facts.n_compared else {}
    of_fit = {"r pb": ".2f", "RMSD": ".3f"}
    columns = (
        Column("item", share=3),
        Column("topic", share=2),
        *(Column(name, number=True, format=form) for name, form in (formats | moved).items()),
        *[Column("severity")] * bool(moved),
        *(Column(name, number=True, format=form) for name, form in of_fit.items()),
    )
    rows = tuple(_item_row(item, scored, compared=bool(moved)) for item in facts.items.values())
    yield Table(columns, rows, sortable=True, filter_id="items-table", small=True)


def _item_row(item: Item, scored: bool, *, compared: bool) -> tuple[Cell, ...]:
    """Cells of an item. `scored` and `compared` say whether any item of the table is scored or compared."""
    now, drift, s = item.values, item.drift, item.statistics
    slopes: list[Cell] = [now.a if now else None]
    if scored:
        slopes.append(now.comparable_slope[0] if now else None)
    moved: tuple[Cell, ...] = (None,) * 5
    if drift:
        moved = drift.delta_b, drift.delta_a, drift.wabc, chance(drift.q_value), severity(drift.severity)
    return (
        (item.item_id, Span(" anchor" if item.is_anchor else "", "quiet")),
        item.topic or "",
        item.n,
        s["p_value"],
        *slopes,
        *((now.b, now.b_se) if now else (None,) * 2),
        item.published and item.published.b,
        *(moved if compared else ()),
        s["point_biserial"],
        s["rmsd"],
    )


def dif(facts: Facts) -> Iterator[Block]:
    if not facts.dif_attributes:
        yield Paragraph(f"Not tested: materialise dif_analysis of {facts.month}.")
        return
    yield groups_table({facts.scale.scale_id: facts.dif_attributes})
    shown = dif_to_show(facts)
    if not shown:
        return
    yield from _curves(shown, facts)
    yield dif_table(("item",), [((row.item_id,), row) for row in shown], sortable=True, small=True)
    if len(facts.dif) > len(shown):
        yield Paragraph(
            f"The {len(shown)} comparisons that stand out most, of {len(facts.dif)}; the table dif_analysis has all.",
            "quiet",
        )
    yield Paragraph(DIF_EXPLAINED, "quiet")


def _curves(shown: Sequence[DifRow], facts: Facts) -> Iterator[Block]:
    """Yield the curves of both groups for each large difference."""
    figures = []
    for row in shown:
        item = facts.items.get(row.item_id)
        if row.large and item and item.values and row.details.get("n") and row.wald.get("delta_b") is not None:
            pair = f"solid orange {row.focal_group}, dashed blue {row.reference_group}"
            figures.append(
                Figure(
                    charts.groups(row, item, facts),
                    f"{row.item_id}, {row.attribute}: {pair}; the month's curve ± Δa and Δb.",
                )
            )
    if figures:
        yield Figures(tuple(figures[:MAX_CURVES]))


def dif_to_show(facts: Facts) -> list[DifRow]:
    """Return all rows with large DIF, then further rows by q up to `MAX_DIF_ROWS`."""
    ordered = sorted(facts.dif, key=lambda row: (not row.large, 1.0 if row.q_value is None else row.q_value))
    return ordered[: max(MAX_DIF_ROWS, sum(row.large for row in facts.dif))]
