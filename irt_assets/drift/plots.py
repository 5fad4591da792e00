"""Pictures of drift: the heat map of a scale's months, an attribute's DIF, and the test's information over θ.

`irt_psychometrics.plots` draws them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_assets.charts import ESTIMATE_STYLE, PUBLISHED_STYLE, ability_chart, rank_chart
from irt_assets.common.intervals import Z95
from irt_assets.drift.rows import DifRow, InformationRow
from irt_psychometrics.plots import Chart, Picture

MAX_ITEMS = 30
LIMIT = 0.15  # wABC at which the colours end
EASIER, HARDER, MISSING = (84, 39, 136), (179, 88, 6), "#EEEEEE"  # of ColorBrewer's PuOr
MAX_GROUPS = 4
"""Largest number of panels in the plot of an attribute's DIF."""
INFORMATION = "information (1/θ²)"


def heat_map(
    items: Sequence[str], months: Sequence[str], change: npt.NDArray[np.float64], flags: np.ndarray
) -> Picture:
    """Draw the heat map of the items' changes.

    change: wABC, shape (items, months), negative if the item became easier, NaN if it was not compared.
    flags: "", "m" (medium) or "h" (high), in the same shape.
    """
    rows, columns = np.indices(change.shape).reshape(2, -1)
    chart = Chart(
        (-0.5, len(months) - 0.5),
        (len(items) - 0.5, -0.5),
        "month",
        "",
        "how much items changed",
        height=50 + 18 * max(len(items), 1),
        x_names=months,
        y_names=[Chart.shortened(item, 24) for item in items],
    ).boxes(
        columns - 0.49,
        rows + 0.48,
        columns + 0.49,
        rows - 0.48,
        fills=[_colour(value) for value in change.flat],
        texts=[f"{value:+.2f} {flag}" if flag else "" for value, flag in zip(change.flat, flags.flat, strict=True)],
    )
    return Picture(
        "How much items changed against the published set (difference of curves): purple easier, brown harder; "
        "flagged: m medium, h high; grey: not compared",
        [chart],
    )


def _colour(value: float) -> str:
    """Colour of a change, from white for 0 to the full colour at ±LIMIT."""
    if not np.isfinite(value):
        return MISSING
    share = min(abs(value) / LIMIT, 1.0)
    return "#" + "".join(f"{round(255 + share * (full - 255)):02X}" for full in (HARDER if value > 0 else EASIER))


def differences_plot(whole: DifRow, items: Sequence[DifRow]) -> Picture | None:
    """Plot each item's Δb with its 95 % interval, one panel per tested group, largest group first.

    Items with large DIF are named; items without Δb are left out. Returns None if no group was tested.
    """
    tested = [row for row in items if row.wald.get("delta_b_se") is not None]
    names = [g["name"] for g in whole.details["groups"] if any(row.focal_group == g["name"] for row in tested)]
    if not names:
        return None
    reference = Chart.shortened(whole.reference_group, 24)
    charts = []
    for name in names[:MAX_GROUPS]:
        rows = [row for row in tested if row.focal_group == name]
        rows.sort(key=lambda row: row.wald["delta_b"])
        delta = np.array([row.wald["delta_b"] for row in rows])
        half = Z95 * np.array([row.wald["delta_b_se"] for row in rows])
        large = [row.large for row in rows]
        reach = 1.15 * max(0.5, float(np.quantile(np.abs(delta) + half, 0.97)), float(np.abs(delta).max(initial=0)))
        charts.append(
            rank_chart(
                (
                    f"items, from easier to harder for the group than for {reference}",
                    f"Δb, {Chart.shortened(name, 24)}",
                ),
                f"difference of difficulty between {name} and {reference}",
                delta,
                half,
                ["large" if much else "certain" if row.differs else "" for much, row in zip(large, rows, strict=True)],
                (-reach, reach),
                named=[(k, row.item_id) for k, row in enumerate(rows) if row.large],
            )
        )
    more = f" (the first {MAX_GROUPS} of {len(names)} groups)" if len(names) > MAX_GROUPS else ""
    return Picture(
        f"{Chart.shortened(whole.attribute, 30)}: difference of difficulty with 95 % intervals{more}; orange: certain "
        "(q < 0.05), triangles with a name: large",
        charts,
    )


def test_curves(test: InformationRow) -> list[Chart]:
    """Information of the compared items as published and now, and of the set in force with and without the items that
    might be retired; the standard error of θ that follows. Grey: the middle 95 % of the population."""
    theta, details = test.curve["theta"], test.details
    drawn: dict[str, tuple[str, Mapping[str, Any]]] = {
        "published": (f"{details['items']['compared']} items, as published", PUBLISHED_STYLE),
        "now": ("the same items in this month", ESTIMATE_STYLE),
    }
    if retiring := details["retiring"]["items"]:
        all_in_force = f"all {details['items']['in_force']} items in force, as now known"
        drawn["in_force"] = all_in_force, {"colour": "black", "dash": "dashdot"}
        drawn["without_flagged"] = f"without the {len(retiring)} flagged items", {"colour": "black", "dash": "dot"}
    low, high = details["middle"]
    charts = []
    for prefix, label in (("", f"test {INFORMATION}"), ("se_", "standard error of θ")):
        curves = np.array([test.curve[prefix + key] for key in drawn], dtype=float)
        if prefix:
            inside = curves[:, [low <= x <= high for x in theta]]
            inside = inside[np.isfinite(inside)]
            top = 1.6 * min(float(inside.max()) if inside.size else 1.0, 2.0 * details["population"]["sd"])
        else:
            top = 1.08 * float(curves.max()) or 1.0
        population = " (grey: middle 95 % of the population)"
        chart = ability_chart(theta, label, label, top, population, height=250)
        for curve, (name, style) in zip(curves, drawn.values(), strict=True):
            chart.line(theta, curve, name=name, **style)
        charts.append(chart.stretch(low, high))
    return charts


test_curves.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test
