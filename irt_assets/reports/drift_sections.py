"""The sections of a drift report behind its first page, each as blocks; none where there is nothing to say.

What does not belong here: their order (drift_report.py), the numbers of one item (drift_details.py), how a chart is
drawn (drift_charts.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from irt_assets.reports import drift_charts as charts
from irt_assets.reports.document import (
    Block,
    Column,
    Figure,
    Figures,
    Group,
    Heading,
    Pairs,
    Paragraph,
    Span,
    Table,
    Text,
)
from irt_assets.reports.drift_details import details
from irt_assets.reports.drift_facts import Facts, Item
from irt_assets.reports.drift_rows import DifRow
from irt_assets.reports.drift_words import chance, number, sentence, signed

DIF_SHOWN = 20


def proposals(items: Sequence[Item]) -> Table:
    """What is proposed of each item, and why; the items are those of `one_by_one`, from the first on."""
    columns = (
        Column("item", share=2),
        Column("proposed", share=1.5),
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


def what_moved(facts: Facts) -> Iterator[Block]:
    if facts.not_compared:
        yield Paragraph(f"Not tested: {facts.not_compared}.")
        return
    yield Paragraph(
        f"{facts.compared} items were compared with what was in force when the month began. An item is flagged where a "
        "joint test of a and b says that it changed (q < 0.05 over the items) and the change matters to answers: the "
        "weighted area between its two curves (wABC) is above 0.05 (medium) or 0.10 (high)."
    )
    yield Figures(
        (
            Figure(
                *charts.changes(facts),
                "Change of difficulty with 95 % intervals. Blue dots: not flagged. Orange triangles: flagged.",
            ),
        )
    )


def alerts(facts: Facts) -> Iterator[Block]:
    if not facts.alerts:
        yield Paragraph("None was open.")
        return
    yield _table(
        ("item", "kind", "severity", "opened", "closed"),
        [
            (a.item_id, a.kind, a.severity, a.opened_month, a.closed_month if a.closed_month == facts.month else "open")
            for a in facts.alerts
        ],
    )


def decisions(facts: Facts) -> Iterator[Block]:
    if facts.decisions:
        yield _table(
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
        yield Paragraph("No item calls for a look.")
    for n, item in enumerate(items, 1):
        assert item.proposal is not None
        blocks: list[Block] = [
            Heading(f"{item.item_id}: {item.proposal.action}", 3),
            Paragraph(sentence(item.proposal.reason)),
        ]
        if figures := tuple(_figures_of(item, facts)):
            blocks.append(Figures(figures))
        blocks.append(Pairs(details(item, facts), small=True))
        yield Group(tuple(blocks), id=f"item-{n}")


def _figures_of(item: Item, facts: Facts) -> Iterator[Figure]:
    if item.now or item.published:
        caption = "Dashed blue: published" if item.published else "Not published"
        caption += "; solid orange: this month" if item.now else ""
        caption += "; dots: observed, by ability from the other items" if item.observed else ""
        yield Figure(*charts.response_curves(item, facts), f"{caption}. Shades and bars: 95 %.")
    if any(row.delta_b is not None for row in item.history):
        yield Figure(
            *charts.history(item),
            "Change of difficulty against the values in force, by month, with 95 % intervals. Triangles: flagged.",
        )


def information(facts: Facts) -> Iterator[Block]:
    test = facts.information.get("")
    if test is None:
        yield Paragraph(f"Not tested: materialise test_information of {facts.month}.")
        return
    for key in ("why", "caution"):
        if said := test.details.get(key):
            yield Paragraph(sentence(said))
    if test.curve.get("theta"):
        caption = "Information of the compared items together. Dashed blue: as published; solid orange: by this month's"
        yield Figures(
            (
                Figure(*charts.information(test, "information"), f"{caption} values."),
                Figure(*charts.information(test, "se"), "The standard error of θ that follows."),
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
    yield _table(
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


def linking(facts: Facts) -> Iterator[Block]:
    if facts.fit is None:
        yield Paragraph("The month has no linked fit.")
        return
    constants = facts.fit.constants
    yield Paragraph(
        f"θ on the scale = {number(constants['slope'], 3)} ± {number(constants['slope_se'], 3)} · θ of the fit "
        f"{signed(constants['intercept'], 3)} ± {number(constants['intercept_se'], 3)} ({constants['method']}), from "
        f"{len(constants['anchors_used'])} anchors.{_agreement(constants, facts.scale.rules.anchor_q_alpha)}"
    )
    yield Figures(
        (
            Figure(*charts.linking(facts.linkings, "slope"), "The slope by month, with 95 % intervals."),
            Figure(*charts.linking(facts.linkings, "intercept"), "The intercept by month, with 95 % intervals."),
        )
    )
    yield Figures(
        (
            Figure(
                *charts.anchors(facts),
                "Each anchor's difficulty; on the line nothing changed. Orange triangles: left out, or moved against "
                "the others.",
            ),
        )
    )
    yield Paragraph(f"Used this month: {', '.join(constants['anchors_used']) or 'none'}.", "quiet")
    if constants["anchors_dropped"]:
        yield _table(("anchor left out", "why"), sorted(constants["anchors_dropped"].items()))
    else:
        yield Paragraph("No anchor was left out.")
    yield _table(
        ("month", "slope ± SE", "intercept ± SE", "anchors used", "left out"),
        [
            (
                one.month,
                _plus_minus(one.constants, "slope"),
                _plus_minus(one.constants, "intercept"),
                str(len(one.constants["anchors_used"])),
                ", ".join(sorted(one.constants["anchors_dropped"])) or "none",
            )
            for one in facts.linkings
        ],
        numbers=("slope ± SE", "intercept ± SE", "anchors used"),
    )


def _agreement(constants: dict[str, Any], alpha: float) -> str:
    said = ""
    if "q" in constants:
        agree = "agree" if constants["q_p"] >= alpha else "DISAGREE"
        q, p = number(constants["q"], 1), chance(constants["q_p"])
        said = f" They {agree}: Q = {q} on {constants['q_df']} df, p = {p}."
    return said + (f" Diagnosis: {constants['diagnosis']}." if constants.get("diagnosis") else "")


def _plus_minus(constants: dict[str, Any], name: str) -> str:
    return f"{number(constants[name], 3)} ± {number(constants[f'{name}_se'], 3)}"


def dif(facts: Facts) -> Iterator[Block]:
    if not facts.dif_attributes:
        yield Paragraph(f"Not tested: materialise dif_analysis of {facts.month}.")
        return
    yield Pairs(tuple((row.attribute, said_of_groups(row)) for row in facts.dif_attributes))
    shown = dif_to_show(facts)
    if not shown:
        return
    numbers = ("answers", "Δb ± SE", "wABC", "q", "MH", "ΔR²")
    yield _table(
        ("item", "attribute", "group", "against", *numbers[:-1], "class", "ΔR²", "call"),
        [_dif_row(row) for row in shown],
        numbers=numbers,
        sortable=True,
        narrow="scroll",
    )
    if len(facts.dif) > len(shown):
        yield Paragraph(
            f"The {len(shown)} comparisons that stand out most, of {len(facts.dif)}; the table dif_analysis has all.",
            "quiet",
        )
    yield Paragraph(
        "Answers: of the group / of the reference. Δb (above 0: harder for the group; where |b| > 6 or a < 0.2 in a "
        "group, score: the difference of expected scores, below 0: harder), wABC and q: multi-group Wald test with "
        "purified anchors, the primary one. MH and class: Mantel-Haenszel within forms (A negligible, "
        "B moderate, C large); ΔR²: logistic regression within forms. Low power: fewer than 500 answers in a group.",
        "quiet",
    )


def _dif_row(row: DifRow) -> tuple[Text, ...]:
    d = row.details
    wald, n = d.get("wald"), d.get("n") or {"focal": "–", "reference": "–"}
    forms = d.get("within_forms") or {}
    mantel_haenszel, logistic = forms.get("mantel_haenszel"), forms.get("logistic")
    why_not = d.get("why_not") or ("low power" if d.get("low_power") else "")
    return (
        row.item_id,
        row.attribute,
        row.focal_group,
        row.reference_group,
        f"{n['focal']} / {n['reference']}",
        _harder_by(wald) if wald else "–",
        number(wald["wabc"], 3) if wald else "–",
        chance(row.q_value),
        signed(mantel_haenszel["delta"]) if mantel_haenszel else "–",
        row.ets_class or "–",
        number(logistic["delta_r2"], 3) if logistic else "–",
        Span("large", "bold") if row.large else Span(why_not, "quiet"),
    )


def _harder_by(wald: dict[str, Any]) -> str:
    if wald["delta_b"] is None and "shift_se" in wald:
        return f"score {signed(wald['shift'], 3)} ± {number(wald['shift_se'], 3)}"
    return f"{signed(wald['delta_b'])} ± {number(wald['delta_b_se'])}"


def dif_to_show(facts: Facts) -> list[DifRow]:
    """Every large one, and the next by q."""
    ordered = sorted(facts.dif, key=lambda row: (not row.large, 1.0 if row.q_value is None else row.q_value))
    return ordered[: max(DIF_SHOWN, sum(row.large for row in facts.dif))]


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


def fit(facts: Facts) -> Iterator[Block]:
    if facts.fit:
        latent, found = facts.fit.spec["latent"], facts.fit.spec.get("fit_statistics")
        yield Paragraph(
            f"{facts.fit.n_responses:,} answers of {facts.fit.n_persons:,} learners to {facts.fit.n_items} items; the "
            f"learners' θ has mean {signed(latent['mean'])} and SD {number(latent['sd'])} on the scale."
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
            yield _table(
                ("held back", "why"), [(name, "; ".join(why)) for name, why in sorted(facts.step.held.items())]
            )
    if facts.proposed:
        named = "; ".join(f"{n} items ({why})" for why, n in facts.proposed.items())
        yield Paragraph(f"Proposed and not published: {named}.")


def _fit_statistics(found: dict[str, Any]) -> str:
    said = [f"Reliability {number(found['reliability'])}."]
    if parallel := found.get("parallel"):
        said.append(
            f"Largest eigenvalue of the residual correlations {number(parallel['eigenvalue'])}, expected "
            f"{number(parallel['expected'])} (p {chance(parallel['p'])})."
        )
    if q3 := found.get("q3"):
        said.append(f"{q3['flagged']} of {q3['pairs']} pairs of items are locally dependent.")
    return " ".join(said)


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


def _table(
    names: Sequence[str],
    rows: Sequence[tuple[Text, ...]],
    *,
    numbers: Sequence[str] = (),
    sortable: bool = False,
    narrow: Literal["cards", "scroll"] = "cards",
) -> Table:
    """Words share the width that the numbers leave; the last of them, a reason as a rule, takes the most."""
    words = [name for name in names if name not in numbers]
    columns = tuple(
        Column(name, True)
        if name in numbers
        else Column(name, share=4 if narrow == "cards" and name == words[-1] else 1)
        for name in names
    )
    return Table(columns, tuple(rows), narrow, sortable, small=narrow == "scroll")
