"""A month's DIF for people, from the rows of `dif_analysis` alone.

What does not belong here: what makes a row (dif_month.py), and drawing (plots.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from irt_assets.blocks import Block, Paragraph, Table, table
from irt_assets.drift.dif_month import Row

ITEMS_SHOWN, GROUPS_SHOWN, NAMES = 30, 40, 12


def by_attribute(rows: Sequence[Row]) -> list[tuple[Row, list[Row]]]:
    """Each attribute as a whole, and its items."""
    ordered = sorted(rows, key=lambda row: (row["attribute"], row["item_id"] != ""))
    return [(next(group), list(group)) for _, group in groupby(ordered, key=lambda row: row["attribute"])]


def sentence(scale_id: str, rows: Sequence[Row]) -> str:
    """A scale's month in a sentence."""
    parts = []
    for whole, items in by_attribute(rows):
        details = whole["details"]
        judged = {row["item_id"] for row in items if row["q_value"] is not None or row["ets_class"] is not None}
        if not judged:
            parts.append(f"{whole['attribute']} not tested ({details['why_not'] or 'no item could be compared'})")
            continue
        large = sorted({row["item_id"] for row in items if row["details"]["large"]})
        differ = {row["item_id"] for row in items if differs(row)} - set(large)
        named = f": {', '.join(large[:NAMES])}" if large else ""
        alone = " (within forms only)" if details["why_not"] else ""
        parts.append(
            f"{whole['attribute']}{alone}: large DIF in {len(large)} of {len(judged)} items{named}"
            + (f", smaller in {len(differ)}" if differ else "")
            + (f"; {'; '.join(details['warnings'])}" if details["warnings"] else "")
        )
    return f"{scale_id}: {'; '.join(parts) or 'the setting dif_attributes names no attribute'}"


def items_blocks(found: dict[str, list[Row]]) -> Iterator[Block]:
    """The items that differ, the largest differences first. Where an item has no Δb its cell has the
    difference of expected scores."""
    items = [row for rows in found.values() for row in rows if row["item_id"]]
    rows = sorted((row for row in items if differs(row) or row["ets_class"] == "C"), key=_weight, reverse=True)
    shown = []
    for row in rows[:ITEMS_SHOWN]:
        details = row["details"]
        wald, within = details["wald"] or {}, details["within_forms"] or {}
        mh, logistic = within.get("mantel_haenszel") or {}, within.get("logistic") or {}
        cells = [
            *(row[name] for name in ("scale_id", "item_id", "attribute")),
            f"{row['focal_group']}, {row['reference_group']}",
            row["ets_class"] or "",
            _with_error(mh.get("delta"), mh.get("se")),
            logistic.get("delta_r2"),
            row["q_value"],
            harder_by(wald),
            _with_error(wald.get("delta_a"), wald.get("delta_a_se")),
            wald.get("wabc"),
            ", ".join(_remarks(row)),
        ]
        shown.append(cells)
    measures = {"D ± SE": "", "ΔR²": ".3f", "q": ".1e", "Δb ± SE": "", "Δa ± SE": "", "wABC": ".3f"}
    columns = ("scale", "item", "attribute", "group, against", "class", *measures, "")
    yield table(columns, shown, numbers=measures)
    if len(rows) > ITEMS_SHOWN:
        yield Paragraph(f"and {len(rows) - ITEMS_SHOWN} more in the table dif_analysis")


def groups_table(found: dict[str, list[Row]]) -> Table:
    """The groups of every attribute, what was tested and what was not."""
    shown: list[tuple[str, ...]] = []
    for scale_id, rows in found.items():
        for whole, _ in by_attribute(rows):
            details, counts = whole["details"], whole["details"]["items"]
            start = scale_id, whole["attribute"]
            for group in details["groups"][:GROUPS_SHOWN]:
                ability = _number(group["mean"], "+.2f"), _number(group["sd"], ".2f")
                shown.append((*start, group["name"], f"{group['n_learners']:,}", *ability, _tested(group, whole)))
            rest = len(details["groups"][GROUPS_SHOWN:]) + details["smaller_groups"]["groups"]
            shown += [(*start, f"{rest} smaller groups", "", "", "", "no")] * (rest > 0)
            unreadable = f", {details['n_unreadable']:,} of them with a value that is not a group"
            left_out = f"left out{unreadable if details['n_unreadable'] else ''}"
            shown.append((*start, "(unknown)", f"{details['n_unknown']:,}", "", "", left_out))
            pairs = f"items × groups: {counts['tested']:,} tested, {counts['low_power']:,} of them with low power, "
            why = f": {details['why_not']}" if details["why_not"] else ""
            shown.append((*start, "(all)", "", "", "", f"{pairs}{counts['not_tested']:,} not tested{why}"))
    columns = ("scale", "attribute", "group", "learners", "mean θ", "SD", "tested")
    return table(columns, shown, numbers=columns[3:6])


def harder_by(wald: Mapping[str, Any]) -> str:
    """Δb ± SE, or, where a group's difficulty is an extrapolation, the difference of expected scores with its own."""
    if wald.get("delta_b") is None and wald.get("shift_se") is not None:
        return f"score {wald['shift']:+.3f} ± {wald['shift_se']:.3f}"
    return _with_error(wald.get("delta_b"), wald.get("delta_b_se"))


def differs(row: Row) -> bool:
    """Whether an item's row says that it differs, by any amount."""
    details = row["details"]
    return details["large"] or bool(details["wald"] and details["wald"]["severity"] != "none")


def _remarks(row: Row) -> list[str]:
    details = row["details"]
    remarks = ["large"] if details["large"] else [] if differs(row) else ["within forms alone"]
    return [*remarks, "low power"] if details["low_power"] else remarks


def _weight(row: Row) -> tuple[bool, float, float]:
    wald, within = row["details"]["wald"] or {}, row["details"]["within_forms"] or {}
    mh = within.get("mantel_haenszel") or {}
    return row["details"]["large"], wald.get("wabc") or 0.0, abs(mh.get("delta") or 0.0)


def _tested(group: Row, whole: Row) -> str:
    if group["why_not"]:
        return f"no: {group['why_not']}"
    if whole["details"]["why_not"]:
        return "no"
    answer = "reference" if group["name"] == whole["reference_group"] else "yes"
    return f"{answer}, low power" if group["low_power"] else answer


def _with_error(value: float | None, error: float | None) -> str:
    return "" if value is None else f"{value:+.2f} ± {_number(error, '.2f')}"


def _number(value: float | None, style: str) -> str:
    return "" if value is None else format(value, style)
