"""The picture of an attribute's DIF: every item's difference of difficulty between two groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from irt_assets.charts.chart import Picture, shortened
from irt_assets.charts.pictures import by_rank
from irt_assets.drift.dif_month import Row
from irt_assets.drift.dif_page import differs
from irt_assets.psychometrics.core.confidence import Z95

PANELS = 4


def differences_plot(whole: Row, items: Sequence[Row]) -> Picture | None:
    """Each item's Δb with its 95 % interval, a panel for each group that was tested, the largest first; None where
    none was. Items with large DIF are named. Items that have no Δb are in the table alone."""
    tested = [row for row in items if row["details"]["wald"] and row["details"]["wald"]["delta_b_se"] is not None]
    names = [g["name"] for g in whole["details"]["groups"] if any(row["focal_group"] == g["name"] for row in tested)]
    if not names:
        return None
    reference = shortened(whole["reference_group"], 24)
    charts = []
    for name in names[:PANELS]:
        rows = [row for row in tested if row["focal_group"] == name]
        rows.sort(key=lambda row: row["details"]["wald"]["delta_b"])
        delta = np.array([row["details"]["wald"]["delta_b"] for row in rows])
        half = Z95 * np.array([row["details"]["wald"]["delta_b_se"] for row in rows])
        large = [row["details"]["large"] for row in rows]
        reach = 1.15 * max(0.5, float(np.quantile(np.abs(delta) + half, 0.97)), float(np.abs(delta).max(initial=0)))
        charts.append(
            by_rank(
                (f"items, from easier to harder for the group than for {reference}", f"Δb, {shortened(name, 24)}"),
                f"difference of difficulty between {name} and {reference}",
                delta,
                half,
                ["large" if much else "certain" if differs(row) else "" for much, row in zip(large, rows, strict=True)],
                (-reach, reach),
                names=[row["item_id"] for row in rows],
                named=np.flatnonzero(large),
            )
        )
    more = f" (the first {PANELS} of {len(names)} groups)" if len(names) > PANELS else ""
    return Picture(
        f"{shortened(whole['attribute'], 30)}: difference of difficulty with 95 % intervals{more}; orange: certain "
        "(q < 0.05), triangles with a name: large",
        charts,
    )
