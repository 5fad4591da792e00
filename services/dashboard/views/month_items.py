"""The sections of a month's page about flagged items and lost information."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from htmltools import Tag, TagChild, tags

from irt_assets.common.wording import counted
from irt_assets.drift.alerts import first_seen
from irt_assets.drift.rows import (
    DifRow,
    DriftRow,
    drifted_of,
    histories_of,
    information_lost_in,
    large_dif_of,
)
from irt_assets.drift.shown import information_said
from irt_assets.ledger.steps import Step
from irt_assets.psychometrics.drift.kinds import Kind
from irt_assets.responses.scales import Scale
from services.dashboard.elements import badge, link, number, percent, section, table

MOST_SHOWN = 100
TONE_OF_DRIFT = {"high": "danger", "medium": "warning"}
Row = tuple[str, TagChild, str]
"""Item, finding as a badge, what was found in words."""


def flagged_items(connection: psycopg.Connection, scale: Scale, month: str, step: Step | None, *, red: bool) -> Tag:
    """red: findings from before the month turned red are on another scale, and are not shown."""
    if red:
        return section(
            "Flagged items", tags.p("While the month is red its items are not compared with what is published.")
        )
    drifted = drifted_of(connection, scale, month)
    dif = large_dif_of(connection, scale, month)
    information = {row.item_id: row for row in information_lost_in(connection, scale, month)}
    lost = {item: row.details.get("ratio") for item, row in information.items() if item and row.flagged}
    held = step.held if step else {}
    leaks = [row.item_id for row in drifted if row.kind == Kind.LEAK]
    past = histories_of(connection, scale, month, leaks)
    began = {item: first_seen((r.month, r.severity, r.details) for r in reversed(rows)) for item, rows in past.items()}
    found: list[Row] = [(row.item_id, *_drift(row, began.get(row.item_id))) for row in drifted]
    found += [(item, badge("held back", "danger"), "; ".join(why)) for item, why in sorted(held.items())]
    found += [(row.item_id, badge("DIF", "warning"), _dif(row)) for row in dif]
    found += [
        (item, badge("information lost", "warning"), f"gives {percent(ratio)} of the information that is published")
        for item, ratio in sorted(lost.items())
    ]
    items = {item for item, _, _ in found}
    rows = [
        (link(item, "item", item=item, scale=scale.scale_id), finding, tags.div(words, class_="in-words"))
        for item, finding, words in found
    ]
    more = len(rows) - MOST_SHOWN
    return section(
        "Flagged items",
        tags.p(f"{counted(len(items), 'item').capitalize()} flagged: {'; '.join(_counts(drifted, held, dif))}."),
        tags.p(f"Information of the test: {information_said(information)}."),
        table("What was found, item by item", ("item", "finding", "in words"), rows[:MOST_SHOWN]) if rows else None,
        tags.p(f"{more:,} more findings: ", link("the item bank", "bank", scale=scale.scale_id)) if more > 0 else None,
    )


def _counts(drifted: list[DriftRow], held: dict[str, list[str]], dif: list[DifRow]) -> Iterator[str]:
    severe = sum(row.severity == "high" for row in drifted)
    leaks = sum(row.kind == "leak" for row in drifted)
    yield f"{len(drifted)} drifted ({severe} of them high, {counted(leaks, 'leak')})" if drifted else "none drifted"
    yield f"{len({row.item_id for row in dif})} with large DIF" if dif else "none with large DIF"
    yield f"{len(held)} held back"


def _drift(row: DriftRow, began: str | None) -> tuple[TagChild, str]:
    """The finding, and what it was in words."""
    parts = [
        row.kind or "changed",
        f"b {number(row.delta_b)}" if row.delta_b is None or row.delta_b < 0 else f"b +{number(row.delta_b)}",
        f"curves {number(row.wabc, 3)} apart (wABC)",
        f"since {began}" if began else "",
    ]
    finding = badge(f"drift {row.severity}", TONE_OF_DRIFT.get(row.severity, "secondary"))
    return finding, ", ".join(part for part in parts if part)


def _dif(row: DifRow) -> str:
    words = f"{row.attribute}: {row.focal_group} against {row.reference_group} at equal ability"
    return words + (f", ETS class {row.ets_class}" if row.ets_class else "")
