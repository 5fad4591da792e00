"""The section of a drift report on DIF: what was compared, the curves of groups that differ, all large differences.

What does not belong here: how a difference is tested (psychometrics, drift).
"""

from collections.abc import Iterator, Sequence

from irt_assets.blocks import Block, Figure, Figures, Paragraph
from irt_assets.drift.dif_page import groups_table
from irt_assets.drift.rows import DifRow
from irt_assets.drift.shown import DIF_EXPLAINED, dif_table
from irt_assets.reports import drift_charts as charts
from irt_assets.reports.drift_facts import Facts

DIF_SHOWN = 20
MOST_CURVES = 6


def dif(facts: Facts) -> Iterator[Block]:
    if not facts.dif_attributes:
        yield Paragraph(f"Not tested: materialise dif_analysis of {facts.month}.")
        return
    yield groups_table({facts.scale.scale_id: facts.dif_attributes})
    shown = dif_to_show(facts)
    if not shown:
        return
    yield from _curves(shown, facts)
    yield dif_table(("item",), [((row.item_id,), row) for row in shown], sortable=True, narrow="scroll")
    if len(facts.dif) > len(shown):
        yield Paragraph(
            f"The {len(shown)} comparisons that stand out most, of {len(facts.dif)}; the table dif_analysis has all.",
            "quiet",
        )
    yield Paragraph(DIF_EXPLAINED, "quiet")


def _curves(shown: Sequence[DifRow], facts: Facts) -> Iterator[Block]:
    """The curves of the two groups of each large difference."""
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
        yield Figures(tuple(figures[:MOST_CURVES]))


def dif_to_show(facts: Facts) -> list[DifRow]:
    """Every large one, and the next by q."""
    ordered = sorted(facts.dif, key=lambda row: (not row.large, 1.0 if row.q_value is None else row.q_value))
    return ordered[: max(DIF_SHOWN, sum(row.large for row in facts.dif))]
