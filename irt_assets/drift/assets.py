"""The assets of drift: `item_drift`, a month's items against the published set; `dif_analysis`, between groups of
learners; `test_information`, how precisely items and test measure θ, their loss since publication, and the cost of
retiring items.

Thin: the steps are in `month`, `dif_month` and `information`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import psycopg

from irt_assets.blocks import Block, Figure, Table, table
from irt_assets.common.metadata import Entry, md, metadata
from irt_assets.common.partitions import Month
from irt_assets.common.retries import classify_failures
from irt_assets.common.wording import quantity
from irt_assets.drift import dif_page, plots
from irt_assets.drift.blocks import (
    drift_summary,
    drift_table,
    information_summary,
    information_table,
    unestimated_reason,
)
from irt_assets.drift.dif_month import dif_of_month
from irt_assets.drift.information import TEST_ID, ScaleInformation, information_of_month, rows_of
from irt_assets.drift.month import ScaleDrift, drift_of_month
from irt_assets.drift.rows import DifRow, DriftRow, InformationRow, read_compared_items
from irt_assets.engines.spec import LIGHT_POOL
from irt_assets.scales.scale import read_scales
from irt_psychometrics.plots import Picture
from resources import tables
from resources.dagster_schema import stored_in
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database

DRIFT_JOB = "detect_drift"
MONTHS_SHOWN, ITEMS_SHOWN = 12, 10


def item_drift(
    context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
) -> dg.MaterializeResult:
    with classify_failures():
        found = drift_of_month(database, store, context.partition_key)
        with database.connect() as connection:
            maps = {s.scale_id: _heat_map(connection, s.scale_id, context.partition_key) for s in found}
            scales = read_scales(connection, Month(context.partition_key).start)
            rows = {
                s.scale_id: read_compared_items(connection, scales[s.scale_id], context.partition_key) for s in found
            }
    return dg.MaterializeResult(
        metadata={
            "drift": "; ".join(drift_sentence(s, rows[s.scale_id]) for s in found),
            "top flagged items": md(flagged_items(rows)),
            "published items without an estimate": md(*unestimated_items(found, rows)),
            **{
                f"{level} drift ({s.scale_id})": len(s.items(level))
                for s in found
                if s.drift
                for level in ("high", "medium")
            },
            **{f"answers read ({s.scale_id})": f"those of {s.sample}" for s in found if s.sample},
            **{
                f"plot: drift ({scale})": md(Figure(drawn, alt="drift"))
                for scale, drawn in maps.items()
                if drawn is not None
            },
            "dagster/row_count": sum(len(s.drift.item_ids) + len(s.unestimated.tested_items) for s in found if s.drift),
        }
    )


def build_drift_assets(
    months: dg.PartitionsDefinition, follows_a_month: dg.AutomationCondition, threads: int | None
) -> list[dg.AssetsDefinition]:
    """Return the assets of drift. `follows_a_month` is the condition that requests a month. `threads`: number of
    threads for the fits of groups, or None for all.

    DIF and information do not depend on item_drift, because its rows may be of an earlier fit. They compute the verdict
    on drift again from the same evidence.
    """
    in_common: dict[str, Any] = {
        "partitions_def": months,
        "deps": ["scored_responses", "linked_item_parameters", "published_item_parameters"],
        "pool": LIGHT_POOL,
        "automation_condition": follows_a_month,
    }

    of_items = dg.asset(
        **in_common,
        metadata=stored_in(tables.item_drift),
        description="One row per published item: its change against the set in force when the month began, the size "
        "of the effect, and the likely cause (drift, a leak, a wrong key).",
    )(item_drift)

    @dg.asset(
        **in_common,
        metadata=stored_in(tables.dif_analysis),
        description="One row per item and group of learners: whether the item functions differently for the group than "
        "for other learners of equal ability (DIF), for each of the scale's attributes.",
    )
    def dif_analysis(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
    ) -> dg.MaterializeResult:
        with classify_failures():
            rows_by_scale = dif_of_month(database, store, context.partition_key, threads)
        found = {scale: [*map(DifRow.from_row, rows)] for scale, rows in rows_by_scale.items()}
        drawn_by_name = {
            f"plot: DIF ({scale}, {whole.attribute})": md(Figure(drawn, alt="DIF"))
            for scale, rows in found.items()
            for whole, items in dif_page.group_by_attribute(rows)
            if (drawn := plots.differences_plot(whole, items))
        }
        return dg.MaterializeResult(
            metadata={
                "DIF": "; ".join(f"{scale}: {dif_page.dif_summary(rows)}" for scale, rows in found.items()),
                "items with DIF": md(*dif_page.items_blocks(found)),
                "groups": md(dif_page.groups_table(found)),
                **drawn_by_name,
                "dagster/row_count": sum(map(len, found.values())),
            }
        )

    @dg.asset(
        **in_common,
        metadata=stored_in(tables.test_information),
        description="One row per item, and one for the test: its information over θ, as published and in the month. "
        "Items that lost a fifth of their information are flagged.",
    )
    def test_information(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
    ) -> dg.MaterializeResult:
        with classify_failures():
            judged = information_of_month(database, store, context.partition_key)
        found = {result.scale_id: rows_of(result.found) for result in judged if result.found is not None}
        cautions = [
            f"{result.scale_id}: {result.found.caution}" for result in judged if result.found and result.found.caution
        ]
        shown = metadata(
            {
                "information": "; ".join(information_sentence(result) for result in judged),
                "flagged items": flagged_table(found),
                "dagster/row_count": dg.MetadataValue.int(sum(map(len, found.values()))),
                "caution": "; ".join(cautions),
            },
            ((scale, _information_entries(of_scale).items()) for scale, of_scale in found.items()),
        )
        return dg.MaterializeResult(metadata=shown)

    return [of_items, dif_analysis, test_information]


def drift_sentence(judged: ScaleDrift, rows: Sequence[DriftRow]) -> str:
    """A sentence on the drift of a scale in a month."""
    if judged.drift is None:
        return f"{judged.scale_id}: {judged.why}"
    untested = len(judged.unestimated.untested_items)
    more = f"; {quantity(untested, 'published item')} could be neither compared nor tested" if untested else ""
    return f"{judged.scale_id}: {drift_summary(rows)}{more}"


def flagged_items(rows: Mapping[str, Sequence[DriftRow]]) -> Table:
    """The estimated items of each scale that moved furthest, as a whole or in a single category."""
    return _scales_table(
        rows, lambda row: (row.severity != "none" or bool(row.categories)) and not unestimated_reason(row)
    )


def unestimated_items(found: Sequence[ScaleDrift], rows: Mapping[str, Sequence[DriftRow]]) -> Iterator[Block]:
    """Items in force that the month could not estimate, flagged ones first, then untested ones."""
    yield _scales_table(rows, lambda row: bool(unestimated_reason(row)))
    untested = [(s.scale_id, *why) for s in found for why in [*s.unestimated.untested_items.items()][:ITEMS_SHOWN]]
    yield table(("scale", "item", "why it was not tested"), untested)


def _scales_table(rows: Mapping[str, Sequence[DriftRow]], which: Callable[[DriftRow], bool]) -> Table:
    first = {scale: [*filter(which, of_scale)][:ITEMS_SHOWN] for scale, of_scale in rows.items()}
    return drift_table(("scale", "item"), [((scale, row.item_id), row) for scale in first for row in first[scale]])


def information_sentence(judged: ScaleInformation) -> str:
    """A sentence on the information of a scale in a month."""
    return f"{judged.scale_id}: {information_summary(rows_of(judged.found)) if judged.found else judged.why}"


def _information_entries(rows: Mapping[str, InformationRow]) -> dict[str, Entry]:
    test = Picture("Information of the whole test", plots.test_curves(rows[TEST_ID]), 2)
    return {
        "items that lost information": dg.MetadataValue.int(len(rows[TEST_ID].details["flagged_items"])),
        "plot: information": Figure(test, alt="test information, published and now"),
    }


def flagged_table(found: Mapping[str, Mapping[str, InformationRow]]) -> Table:
    """The items that might be retired, most information lost first. `found`: rows by scale and item."""
    rows = [
        ((scale, row.item_id), row)
        for scale, scale_rows in found.items()
        for row in _rows_to_retire(scale_rows)[:ITEMS_SHOWN]
    ]
    return information_table(("scale", "item"), rows)


def _rows_to_retire(rows: Mapping[str, InformationRow]) -> list[InformationRow]:
    return sorted(
        (row for row in rows.values() if row.details.get("retire")), key=lambda row: row.details.get("ratio", 1.0)
    )


def _heat_map(connection: psycopg.Connection, scale_id: str, month: str) -> Picture | None:
    """The items that moved most in any of the last months, flagged items first. Returns None if no month compared
    items."""
    rows = connection.execute(
        """SELECT item_id, month,
                  coalesce(delta_b, -(details->'curves'->>'right')::float,
                           -(details->'proportion_correct'->>'difference')::float),
                  severity, wabc
           FROM item_drift WHERE scale_id = %s AND month <= %s
             AND month IN (SELECT DISTINCT month FROM item_drift WHERE scale_id = %s AND month <= %s
                           ORDER BY month DESC LIMIT %s)""",
        (scale_id, month, scale_id, month, MONTHS_SHOWN),
    ).fetchall()
    if not rows:
        return None
    found = pd.DataFrame(rows, columns=["item", "month", "harder", "severity", "wabc"])
    found["change"] = np.copysign(found.wabc, found.harder)
    found["flag"] = found.severity.map({"none": ""}).fillna(found.severity.str[0])
    largest = found.assign(flagged=found.flag != "").groupby("item")[["flagged", "wabc"]].max()
    items = largest.sort_values(["flagged", "wabc"], ascending=False).index[: plots.MAX_ITEMS]
    change, flags = (found.pivot(index="item", columns="month", values=name).loc[items] for name in ("change", "flag"))
    return plots.heat_map([*items], [*change.columns], change.to_numpy(), flags.fillna("").to_numpy())
