"""History of a scale's linking by month: constants with intervals, and the anchors used and dropped."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import psycopg

from irt_assets.blocks import Figure, Figures, Table, table, value_with_error
from irt_assets.charts import month_chart
from irt_assets.common.intervals import Z95
from irt_assets.common.partitions import months_between
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.ledger.linked_windows import answered_items, fitted_months
from irt_assets.scales.scale import Scale
from irt_psychometrics.plots import Chart, Picture

MONTHS_SHOWN = 24
ANCHORS_SHOWN = 12


@dataclass(frozen=True)
class LinkedMonth:
    """The linking of a month's fit by the scale's own engine.

    Attributes:
        constants: linking constants, or None if the month could not be linked.
        dropped: anchors that had enough answers and were not used.
        unseen: number of unused anchors with too few answers.
        error: why the month could not be linked; "" if it was.
    """

    month: str
    constants: LinkingConstants | None = None
    dropped: tuple[str, ...] = ()
    unseen: int = 0
    error: str = ""


def read_history(connection: psycopg.Connection, scale: Scale, month: str) -> list[LinkedMonth]:
    """Read the linking of the last 24 fitted months up to `month`, oldest first. Only the latest fit of each counts."""
    months = fitted_months(connection, scale, month, MONTHS_SHOWN)
    linked = [row.fit_id for row in months if row.fit_id]
    unused = {item for row in months if row.constants for item in row.constants.anchors_dropped}
    seen = answered_items(connection, linked, unused, scale.rules.linking.min_anchor_responses)
    history = []
    for row in months:
        constants = row.constants
        if row.fit_id is None or constants is None:
            history.append(LinkedMonth(row.month, error=row.error or "it was fitted and not linked"))
            continue
        dropped = tuple(sorted(set(constants.anchors_dropped) & seen.get(row.fit_id, set())))
        unseen = len(constants.anchors_dropped) - len(dropped)
        history.append(LinkedMonth(row.month, constants, dropped, unseen))
    return history


def history_table(history: Sequence[LinkedMonth]) -> Table:
    """Return the history as a table, newest month first."""
    rows = []
    for month in reversed(history):
        if (k := month.constants) is None:
            rows.append((month.month, f"not linked: {month.error}", *[""] * 4))
            continue
        constants = value_with_error(*k.value("slope"), 3), value_with_error(*k.value("intercept"), 3, sign=True)
        used = f"{len(k.anchors_used)}"
        rows.append((month.month, *constants, used, ", ".join(month.dropped) or "none", f"{month.unseen}"))
    columns = ("month", "slope ± SE", "intercept ± SE", "anchors used", "left out", "too few answers")
    return table(columns, rows, numbers={*columns} - {"month", "left out"}, caption="Linking by month, newest first")


def history_figures(history: Sequence[LinkedMonth]) -> Figures:
    """Return figures of slope and intercept by month."""
    linked = linked_months(history)
    return Figures(
        tuple(
            Figure(constant_chart(linked, list(linked), name), f"The {name} by month, with 95 % intervals.")
            for name in ("slope", "intercept")
        )
    )


def history_plot(history: Sequence[LinkedMonth]) -> Picture:
    """Draw slope and intercept by month with 95 % intervals, and below them the dropped anchors."""
    linked = linked_months(history)
    if not linked:
        return Picture("No month has been linked yet")
    months: list[str] = list(months_between(history[0].month, history[-1].month))
    drop_counts = Counter(item for month in history for item in month.dropped)
    named = [item for item, _ in sorted(drop_counts.items(), key=lambda entry: (-entry[1], entry[0]))[:ANCHORS_SHOWN]]
    missing = [months.index(month.month) for month in history if month.error]
    charts = [constant_chart(linked, months, name) for name in ("slope", "intercept")]
    dropped = [
        (months.index(month.month), row) for month in history for row, item in enumerate(named) if item in month.dropped
    ]
    below = Chart(
        charts[0].x,
        (max(len(named), 1) - 0.4, -0.6),
        "month",
        "",
        "anchors that were dropped",
        height=60 + 14 * max(len(named), 1),
        x_names=charts[0].x_names,
        y_names=[Chart.shortened(item, 16) for item in named] or ["none dropped"],
    )
    below.points([k for k, _ in dropped], [row for _, row in dropped], "orange", shape="cross", size=3.2)
    for chart in (*charts, below):
        for k in missing:
            chart.stretch(k - 0.4, k + 0.4)
    more = f", {len(drop_counts) - len(named)} more were dropped" if len(drop_counts) > len(named) else ""
    return Picture(
        f"{len(linked)} months linked"
        + (f", {len(missing)} not (grey)" if missing else "")
        + f"; bars: 95 % intervals;"
        f" crosses: anchors dropped{more}",
        [*charts, below],
    )


def linked_months(history: Sequence[LinkedMonth]) -> dict[str, LinkingConstants]:
    """Constants of the linked months."""
    return {month.month: month.constants for month in history if month.constants}


def constant_chart(linked: Mapping[str, LinkingConstants], months: Sequence[str], name: str) -> Chart:
    """Draw `slope` or `intercept` of the linked months with 95 % intervals."""
    found = [linked[month].value(name) if month in linked else (np.nan, np.nan) for month in months]
    value, se = np.reshape(found, (-1, 2)).T
    used = [len(linked[month].anchors_used) if month in linked else 0 for month in months]
    titles = [f"{month}: {v:.3f}, {n} anchors used" for month, v, n in zip(months, value, used, strict=True)]
    described = f"The {name} of the linking by month, with 95 % intervals: {len(linked)} months."
    same = 1.0 if name == "slope" else 0.0
    return month_chart(months, name, described, value, Z95 * se, same, titles=titles, joined=True)
