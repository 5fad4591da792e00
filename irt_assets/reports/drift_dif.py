"""The section of a drift report on DIF: what was compared, the curves of groups that differ, all large differences.

What does not belong here: how a difference is tested (psychometrics, drift).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from irt_assets.blocks import Block, Figure, Figures, Pairs, Paragraph, Span, Text, chance, number, signed, table
from irt_assets.reports import drift_charts as charts
from irt_assets.reports.drift_facts import Facts
from irt_assets.reports.drift_rows import DifRow

DIF_SHOWN = 20
MOST_CURVES = 6


def dif(facts: Facts) -> Iterator[Block]:
    if not facts.dif_attributes:
        yield Paragraph(f"Not tested: materialise dif_analysis of {facts.month}.")
        return
    yield Pairs(tuple((row.attribute, said_of_groups(row)) for row in facts.dif_attributes))
    shown = dif_to_show(facts)
    if not shown:
        return
    yield from _curves(shown, facts)
    numbers = ("answers", "Δb ± SE", "wABC", "q", "MH", "ΔR²")
    yield table(
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
        "purified anchors, the primary one. MH and class: Mantel-Haenszel within forms (A negligible, B moderate, C "
        "large); ΔR²: logistic regression within forms. Low power: fewer than 500 answers in a group.",
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
    """Δb, or, where a group's difficulty is an extrapolation, the difference of expected scores."""
    if wald["delta_b"] is None and "shift_se" in wald:
        return f"score {signed(wald['shift'], 3)} ± {number(wald['shift_se'], 3)}"
    return f"{signed(wald['delta_b'])} ± {number(wald['delta_b_se'])}"


def _curves(shown: Sequence[DifRow], facts: Facts) -> Iterator[Block]:
    """The curves of the two groups of each large difference."""
    figures = []
    for row in shown:
        item, wald = facts.items.get(row.item_id), row.details.get("wald") or {}
        if row.large and item and item.now and row.details.get("n") and wald.get("delta_b") is not None:
            pair = f"solid orange {row.focal_group}, dashed blue {row.reference_group}"
            figures.append(
                Figure(
                    charts.groups(row, item, facts),
                    f"{row.item_id}, {row.attribute}: {pair}; the month's curve ± Δa and Δb.",
                )
            )
    if figures:
        yield Figures(tuple(figures[:MOST_CURVES]))


def dif_to_show(facts: Facts) -> list[DifRow]:
    """Every large one, and the next by q."""
    ordered = sorted(facts.dif, key=lambda row: (not row.large, 1.0 if row.q_value is None else row.q_value))
    return ordered[: max(DIF_SHOWN, sum(row.large for row in facts.dif))]


def said_of_groups(row: DifRow) -> str:
    """What a comparison by an attribute is based on, or why there is none."""
    d = row.details
    groups = [
        f"{group['name']} {group['n_learners']:,}" + (f" ({group['why_not']})" if group.get("why_not") else "")
        for group in d.get("groups", ())
    ]
    parts = [", ".join(groups), f"{d['n_unknown']:,} learners unknown" if d.get("n_unknown") else ""]
    parts += [f"not tested: {d['why_not']}" if d.get("why_not") else "", *d.get("warnings", ())]
    return "; ".join(part for part in parts if part)
