"""What was found of a month's items, one by one: drift, DIF, lost information, and what publication held back.

What does not belong here: what to do about an item (drift_actions.py), and its numbers (item_shown.py).
"""

from collections.abc import Iterator, Sequence

import psycopg

from irt_assets.blocks import Badge, Block, Cell, Paragraph, Text, number, percent, signed, table
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import counted, with_capital
from irt_assets.drift.alerts import first_seen
from irt_assets.drift.rows import (
    DifRow,
    DriftRow,
    drifted_of,
    histories_of,
    information_lost_in,
    large_dif_of,
)
from irt_assets.drift.shown import TONES, information_said
from irt_assets.ledger.steps import Step
from irt_assets.psychometrics.drift.kinds import Kind
from irt_assets.responses.scales import Scale

MOST_SHOWN = 100


def flagged_items(
    connection: psycopg.Connection, scale: Scale, month: str, step: Step | None, dashboard: str | None = None
) -> Iterator[Block]:
    """For a month that is not red: what was found before it turned red is on another scale. dashboard: see
    `page_link`."""
    drifted = drifted_of(connection, scale, month)
    dif = large_dif_of(connection, scale, month)
    information = {row.item_id: row for row in information_lost_in(connection, scale, month)}
    held = step.held if step else {}
    leaks = [row.item_id for row in drifted if row.kind == Kind.LEAK]
    past = histories_of(connection, scale, month, leaks)
    began = {item: first_seen((r.month, r.severity, r.details) for r in reversed(rows)) for item, rows in past.items()}

    def link(item: str) -> Text:
        return page_link(item, "item", dashboard=dashboard, item=item, scale=scale.scale_id)

    found: list[tuple[Cell, ...]] = [(link(row.item_id), *_drift(row, began.get(row.item_id))) for row in drifted]
    found += [(link(item), Badge("held back", "bad"), "; ".join(why)) for item, why in sorted(held.items())]
    found += [(link(row.item_id), Badge("DIF", "warning"), _dif(row)) for row in dif]
    found += [
        (link(item), Badge("information lost", "warning"))
        + (f"gives {percent(row.details.get('ratio'))} of the published one",)
        for item, row in sorted(information.items())
        if item and row.flagged
    ]
    n = counted(len({item for item, *_ in found}), "item")
    yield Paragraph(f"{with_capital(n)} flagged: {'; '.join(_counts(drifted, held, dif))}.")
    yield Paragraph(f"Information of the test: {information_said(information)}.")
    if found:
        yield table(("item", "finding", "in words"), found[:MOST_SHOWN], caption="What was found, item by item")
    if (more := len(found) - MOST_SHOWN) > 0:
        bank = page_link("the item bank", "bank", dashboard=dashboard, scale=scale.scale_id)
        yield Paragraph((f"{more:,} more findings: ", bank))


def _counts(drifted: Sequence[DriftRow], held: dict[str, list[str]], dif: Sequence[DifRow]) -> Iterator[str]:
    severe = sum(row.severity == "high" for row in drifted)
    leaks = sum(row.kind == Kind.LEAK for row in drifted)
    yield f"{len(drifted)} drifted ({severe} of them high, {counted(leaks, 'leak')})" if drifted else "none drifted"
    yield f"{len({row.item_id for row in dif})} with large DIF" if dif else "none with large DIF"
    yield f"{len(held)} held back"


def _drift(row: DriftRow, began: str | None) -> tuple[Badge, str]:
    words = f"{row.kind or 'changed'}, b {signed(row.delta_b)}, curves {number(row.wabc, 3)} apart (wABC)"
    finding = Badge(f"drift {row.severity}", TONES.get(row.severity, "neutral"))
    return finding, words + (f", since {began}" if began else "")


def _dif(row: DifRow) -> str:
    words = f"{row.attribute}: {row.focal_group} against {row.reference_group} at equal ability"
    return words + (f", ETS class {row.ets_class}" if row.ets_class else "")
