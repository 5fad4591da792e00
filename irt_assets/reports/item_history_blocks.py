"""Blocks on an item's months, findings, decisions and publications, for the dashboard's page of an item."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import chain
from typing import Literal

import numpy as np

from irt_assets.blocks import (
    Badge,
    Block,
    Cell,
    Details,
    Figure,
    Figures,
    Paragraph,
    Section,
    Tone,
    chance,
    filled_sections,
    number,
    pairs,
    percent,
    table,
    value_with_error,
)
from irt_assets.charts import PUBLISHED_STYLE, add_points
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.intervals import Z95
from irt_assets.common.wording import join_names, shorten
from irt_assets.drift.blocks import DIF_EXPLAINED, dif_table, drift_table, information_table
from irt_assets.ledger.relations import ORIGIN_WINDOW
from irt_assets.new_items.decided import ITEM_DECISIONS
from irt_assets.new_items.stages import Stage
from irt_assets.reports.decision_blocks import decisions_table, publications
from irt_assets.reports.item_facts import ItemFacts, ItemInMonth
from irt_psychometrics.estimation import Flag
from irt_psychometrics.items import ItemRow
from irt_psychometrics.plots import Chart

AXIS_MARGIN = timedelta(days=10)
"""Space left of the first month, so that its point is not on the edge."""
DRIFT_CAPTION = "Each month against the values published when it began"
KEPT_CAPTION = "Information as published and as each month has it, averaged over the population"
DIF_NOTE = Paragraph(DIF_EXPLAINED, "quiet")
STAGE_TONES: Mapping[Stage, Tone] = {
    "draft": "neutral",
    "seeded": "info",
    "measured": "info",
    "publishable": "good",
    "published": "good",
    "rejected": "dark",
    "retired": "dark",
}
PARAMETERS: dict[str, str] = {"a": "discrimination a", "b": "difficulty b"}


def history_sections(facts: ItemFacts, zone: str) -> Iterator[Section]:
    """Yield sections on the item's months, findings, decisions and publications. Times are in the time zone `zone`."""
    yield stage(facts)
    if facts.months:
        yield month_by_month(facts)
    drift = [((row.month,), row) for row in reversed(facts.drift)]
    kept = [((month,), facts.information[month]) for month in reversed([*facts.information])]
    groups = f"Groups of equal ability compared in {facts.dif_month}"
    found = tuple(publications(facts.publications, zone))
    yield from filled_sections(
        ("Drift", [drift_table(("month",), drift, caption=DRIFT_CAPTION, small=True)] if drift else ()),
        ("Information", [information_table(("month",), kept, caption=KEPT_CAPTION, small=True)] if kept else ()),
        ("Fit", _fit(facts)),
        (
            "DIF",
            [dif_table((), [((), row) for row in facts.dif], caption=groups, small=True), DIF_NOTE]
            if facts.dif
            else (),
        ),
        ("Decisions", [decisions_table(facts.decisions, zone, dashboard="")] if facts.decisions else ()),
        ("Sources of the published values", [Details(f"Publications: {len(found)}", found)] if found else ()),
    )


def stage(facts: ItemFacts) -> Section:
    """Return a section on the item's stage, on the progress of a new item, and on the steps to the stage."""
    now, new = facts.stage, facts.new
    known = pairs(
        {
            "stage": (Badge(now.stage, STAGE_TONES[now.stage]), f" since {now.since:%Y-%m-%d}" if now.since else ""),
            "why": now.why,
            "answers while new": f"{now.n:,}" if now.n else None,
            "progress": percent(new.progress(facts.scale.rules.seeding)) if new else None,
            "errors": f"SE(b) {number(new.b_se)}, SE(ln a) {number(new.ln_a_se)}" if new else None,
            "prior's share": percent(new.prior_share) if new else None,
            "publishable on": f"{new.ready_at} (80 %: {new.ready_from} to {new.ready_to or 'later'})"
            if new and new.ready_at and not new.publishable
            else None,
        }
    )
    steps = [(f"{at:%Y-%m-%d}", step) for at, step in _steps(facts)]
    shown = table(("day", "step"), steps, caption="How it got there", empty="nothing yet", small=True)
    return Section("Stage", (known, shown))


def _steps(facts: ItemFacts) -> list[tuple[datetime, str]]:
    """List the steps to the item's stage, oldest first: decisions, answers and the first publication."""
    kinds, new = {kind.name for kind in ITEM_DECISIONS}, facts.new
    steps = [(row.at, f"{row.kind}, {row.by}: {row.reason}") for row in facts.decisions if row.kind in kinds]
    if new is not None:
        reached = ((new.first_at, "first answer"), (new.measured_at, "measured"), (new.publishable_at, "publishable"))
        steps += [(at, step) for at, step in reached if at is not None]
    if facts.publications:
        steps.append((min(row["effective_from"] for row in facts.publications), "first published values in force"))
    return sorted(steps)


def month_by_month(facts: ItemFacts) -> Section:
    """Return a section on the months' estimates and the published values. The item needs at least one month."""
    estimated = [month.values.in_brief if month.values else {} for month in facts.months]
    scored = any(ItemRow.WHOLE_SLOPE in values for values in estimated)
    names = tuple(dict.fromkeys(chain(("a", ItemRow.WHOLE_SLOPE, "b") if scored else "ab", *estimated)))
    pages = [
        page_link(month.month, "months")
        if month.month == ORIGIN_WINDOW
        else page_link(month.month, "month", month=month.month, scale=facts.scale.scale_id)
        for month in facts.months
    ]
    rows: list[tuple[Cell, ...]] = [
        (
            page,
            month.n,
            *(value_with_error(*values.get(name, (None, None))) for name in names),
            Badge("red", "bad") if month.red else Badge("used", "good"),
        )
        for month, values, page in [*zip(facts.months, estimated, pages, strict=True)][::-1]
    ]
    caption = "Answers and estimates of each month; ± is the standard error"
    formats = {"answers": ","} | dict.fromkeys(names, "")
    estimates = table(("month", *formats, "month is"), rows, numbers=formats, caption=caption, small=True)
    figures = (Figures((history(facts, "b"), history(facts, "a"))),) * (len(facts.months) > 1)
    return Section("Month by month", (*figures, estimates))


def history(facts: ItemFacts, name: Literal["a", "b"]) -> Figure:
    """Draw a parameter by month with 95 % intervals, and the published values as steps until the last month's end."""
    fitted = [month for month in facts.months if month.values is not None]
    values, errors = (  # an unknown error counts as 0
        np.array([getattr(month.values, key) or 0.0 for month in fitted], dtype=float) for key in (name, f"{name}_se")
    )
    low, high = values - Z95 * errors, values + Z95 * errors
    steps = sorted(facts.publications, key=lambda row: (row["effective_from"], row["publication_id"]))
    since = [row["effective_from"] for row in steps]
    times = [facts.months[-1].end, *(month.start for month in fitted), *since]
    published = [row[name] for row in steps]
    of_a_point = name == "a" and any(month.values is not None and month.values.max_score > 1 for month in fitted)
    quantity = PARAMETERS[name] + (" of a point" if of_a_point else "")
    chart = Chart(
        (min(times) - AXIS_MARGIN, max(times)),
        Chart.ends_of(low, high, published),
        "month",
        quantity,
        f"The {quantity} of {shorten(facts.item_id)} by month with 95 % intervals, and the published values.",
        dated=True,
    )
    kinds = ["red month, not relied on" if month.red else "month" for month in fitted]
    titles = [f"{month.month}: {value:.2f}" for month, value in zip(fitted, values, strict=True)]
    add_points(chart, [month.start for month in fitted], values, kinds, low=low, high=high, titles=titles)
    if steps:
        levels = [*published, published[-1]]
        chart.line([*since, max(times)], levels, name="published", steps=True, **PUBLISHED_STYLE)
    return Figure(chart)


def _fit(facts: ItemFacts) -> Iterator[Block]:
    """Yield the fit statistics by month, and the items with which this one shares more than the ability."""
    if not facts.months:
        return
    formats = {"infit": ".2f", "z of infit": ".1f", "outfit": ".2f", "z of outfit": ".1f", "RMSD": ".3f"}
    formats["item-rest r"] = ".2f"
    rows = [
        (
            month.month,
            *map(month.statistics.get, ("infit", "infit_z", "outfit", "outfit_z", "rmsd", "point_biserial")),
            _s_x2(month),
            "; ".join(Flag(flag).explanation for flag in month.flags) or None,
        )
        for month in reversed(facts.months)
    ]
    caption = "How well each month's curve describes the answers (infit and outfit of a sound item are near 1)"
    columns = ("month", *formats, "S-X²", "flags of the engine")
    yield table(columns, rows, numbers=formats, caption=caption, small=True)
    for month in reversed(facts.months):
        if month.dependent:
            named = join_names(f"{name} (Q3 = {number(q3)})" for name, q3 in month.dependent.items())
            yield Paragraph(f"{month.month}: its answers depend on those to {named} beyond the ability.")


def _s_x2(month: ItemInMonth) -> str | None:
    statistic, df, p = map(month.statistics.get, ("s_x2", "s_x2_df", "s_x2_p"))
    known = statistic is not None and df is not None
    return f"{number(statistic, 1)} on {number(df, 0)}, p {chance(p)}" if known else None
