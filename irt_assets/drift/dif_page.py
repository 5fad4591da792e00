"""Show a month's DIF to people, from the rows of `dif_analysis` alone.

dif_month.py writes the rows, blocks.py lays them out, and plots.py draws the pictures.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from irt_assets.blocks import Block, Cell, Paragraph, Table, table
from irt_assets.common.wording import join_names
from irt_assets.drift.blocks import NAMES, dif_table, other_items_with_categories
from irt_assets.drift.rows import DifRow

ITEMS_SHOWN, GROUPS_SHOWN = 30, 40


def group_by_attribute(rows: Sequence[DifRow]) -> list[tuple[DifRow, list[DifRow]]]:
    """The row of each attribute as a whole, with the rows of its items."""
    ordered = sorted(rows, key=lambda row: (row.attribute, row.item_id != ""))
    return [(next(group), list(group)) for _, group in groupby(ordered, key=lambda row: row.attribute)]


def dif_summary(rows: Sequence[DifRow]) -> str:
    """A sentence on the DIF of a scale in a month."""
    parts = []
    for whole, items in group_by_attribute(rows):
        details = whole.details
        judged = {row.item_id for row in items if row.q_value is not None or row.ets_class is not None}
        if not judged:
            parts.append(f"{whole.attribute} not tested ({details['why_not'] or 'no item could be compared'})")
            continue
        large = sorted({row.item_id for row in items if row.large})
        differ = {row.item_id for row in items if row.differs} - set(large)
        named = f": {join_names(large, NAMES)}" if large else ""
        alone = " (within forms only)" if details["why_not"] else ""
        smaller = f", smaller in {len(differ)}" if differ else ""
        found = f"{whole.attribute}{alone}: large DIF in {len(large)} of {len(judged)} items{named}{smaller}"
        others = ((f"{row.item_id}, {row.focal_group}", row.categories) for row in items if not row.differs)
        found += other_items_with_categories(others, "differ")
        parts.append("; ".join([found, *details["warnings"]]))
    return "; ".join(parts) or "the setting dif_attributes names no attribute"


def items_blocks(found: Mapping[str, Sequence[DifRow]]) -> Iterator[Block]:
    """The items that differ, the largest differences first."""
    rows = [((scale_id, row.item_id), row) for scale_id, rows in found.items() for row in rows if row.item_id]
    rows = [(cells, row) for cells, row in rows if row.differs or row.ets_class == "C" or row.categories]
    rows.sort(key=lambda ranked: _weight(ranked[1]), reverse=True)
    yield dif_table(("scale", "item"), rows[:ITEMS_SHOWN])
    if len(rows) > ITEMS_SHOWN:
        yield Paragraph(f"and {len(rows) - ITEMS_SHOWN} more in the table dif_analysis")


def groups_table(found: Mapping[str, Sequence[DifRow]]) -> Table:
    """The groups of every attribute, and whether each was tested."""
    formats = {"learners": ",", "mean θ": "+.2f", "SD": ".2f"}
    wholes = [(scale_id, whole) for scale_id, rows in found.items() for whole, _ in group_by_attribute(rows)]
    shown = [(scale_id, whole.attribute, *cells) for scale_id, whole in wholes for cells in _groups(whole)]
    return table(("scale", "attribute", "group", *formats, "tested"), shown, numbers=formats)


def _groups(whole: DifRow) -> Iterator[tuple[Cell, ...]]:
    details, counts = whole.details, whole.details["items"]
    for group in details["groups"][:GROUPS_SHOWN]:
        yield (*map(group.get, ("name", "n_learners", "mean", "sd")), _test_in_words(group, whole))
    rest = len(details["groups"][GROUPS_SHOWN:]) + details["smaller_groups"]["groups"]
    if rest:
        yield f"{rest} smaller groups", "", "", "", "no"
    n = details["n_unreadable"]
    unreadable = f", {n:,} of them with a value that is not a group" if n else ""
    yield "(unknown)", details["n_unknown"], "", "", f"left out{unreadable}"
    pairs = f"items × groups: {counts['tested']:,} tested, {counts['low_power']:,} of them with low power, "
    why = f": {details['why_not']}" if details["why_not"] else ""
    yield "(all)", "", "", "", f"{pairs}{counts['not_tested']:,} not tested{why}"


def _weight(row: DifRow) -> tuple[bool, float, float]:
    mh = row.within_forms.get("mantel_haenszel") or {}
    return row.large, row.wald.get("wabc") or 0.0, abs(mh.get("delta") or 0.0)


def _test_in_words(group: Mapping[str, Any], whole: DifRow) -> str:
    if group["why_not"]:
        return f"no: {group['why_not']}"
    if whole.details["why_not"]:
        return "no"
    answer = "reference" if group["name"] == whole.reference_group else "yes"
    return f"{answer}, low power" if group["low_power"] else answer
