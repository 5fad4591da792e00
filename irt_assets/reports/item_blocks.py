"""Blocks about an item: its state and identity, its curves, its information, and a month's findings.

A drift report shows the findings of its month; the dashboard's page of an item shows everything. What does not belong
here: reading them (item_facts.py, drift_facts.py), item analysis (classical_blocks.py), and the item's months,
decisions and publications (item_history_blocks.py).
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import chain
from typing import Any

import numpy as np

from irt_assets.blocks import (
    Block,
    Cell,
    Figure,
    Pairs,
    Table,
    Text,
    chance,
    number,
    pairs,
    signed_number,
    table,
    value_with_error,
)
from irt_assets.charts import (
    ESTIMATE_STYLE,
    PUBLISHED_STYLE,
    ability_chart,
    add_observed,
    response_axis_label,
)
from irt_assets.common.arrays import Floats
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import join_names, shorten, with_capital
from irt_assets.drift.blocks import (
    categories_in_words,
    change_in_words,
    unestimated_reason,
)
from irt_assets.drift.rows import InformationRow
from irt_assets.item_analysis.stored import ItemRow as ClassicalRow
from irt_assets.reports.classical_blocks import SHAPES
from irt_assets.reports.drift_facts import ItemFindings
from irt_assets.reports.item_facts import ItemFacts
from irt_assets.scales.scale import Scale
from irt_psychometrics import ItemParameters
from irt_psychometrics.estimation import Flag
from irt_psychometrics.itemfit import Observed
from irt_psychometrics.items import ItemRow
from irt_psychometrics.plots import Chart

MAX_MONTHS = 6
"""Number of newest months whose exposure is shown."""
LONG = 50
"""Length in characters of the longest text that fits next to another pair."""


def abilities(scale: Scale) -> Floats:
    """θ values at which curves are drawn, shape (81,): ±4 SD of the scale's population around its mean."""
    return np.linspace(scale.mu - 4 * scale.sigma, scale.mu + 4 * scale.sigma, 81)


def parameters(values: ItemRow) -> str:
    """The parameters with their standard errors, as text; for a scored item also its steps."""
    known = [f"{name} {value_with_error(*value)}" for name, value in values.in_brief.items()]
    steps = ", ".join(value_with_error(*step) for step in values.steps.values())
    return ", ".join(known + [f"{values.model.step_word}s {steps}"] * bool(steps))


def details(item: ItemFindings, onset: str | None, lost: InformationRow | None = None) -> Pairs:
    """Return the month's findings about the item, long texts first; unknown values are left out.

    `onset` is the first day (ISO) of a leak that the month found, and `lost` the item's information.
    """
    s, drift = item.statistics, item.drift
    right = "of the maximum score" if _is_scored(item.published, item.values) else "correct"
    d = drift.details if drift else {}
    why_not, trend, found = unestimated_reason(drift) if drift else "", d.get("trend"), d.get("curves")
    kept = lost.details if lost is not None and lost.details.get("ratio") is not None else {}
    bound = f", at most {kept['upper']:.0%}" if kept.get("upper") is not None else ""
    changes: list[tuple[str, str]] = []
    if drift is not None and drift.delta_b is not None:
        low, high = d["delta_b_95"]
        changes = [
            ("Δb", f"{signed_number(drift.delta_b)} (95 %: {signed_number(low)} to {signed_number(high)})"),
            ("Δa", value_with_error(drift.delta_a, d["delta_a_se"], sign=True)),
            ("chances", f"|Δb| > 0.3: {chance(d['chance_b_large'])}, |Δa| > 0.2: {chance(d['chance_a_large'])}"),
            ("fixed limits", ", ".join(f"{name} {level}" for name, level in d["limits"].items())),
        ]
    rows = [
        ("kind of change", change_in_words(d["change"], onset) if "change" in d else ""),
        ("published", f"{parameters(item.published)}, since {item.since:%Y-%m-%d}" if item.published else ""),
        ("estimate", parameters(item.values) if item.values else ""),
        ("answers", f"{item.n:,}, {number(s['p_value'])} {right}" + (f", topic {item.topic}" if item.topic else "")),
        ("flags of the engine", "; ".join(Flag(flag).explanation for flag in item.flags)),
        (
            "fit",
            f"point-biserial {number(s['point_biserial'])}, infit {number(s['infit'])}, outfit {number(s['outfit'])}, "
            f"RMSD {number(s['rmsd'], 3)}"
            if s["infit"] is not None
            else "",
        ),
        *changes,
        ("not estimated", why_not),
        ("single categories", categories_in_words(drift.categories) if drift is not None else ""),
        ("models", "" if why_not else d.get("across_models", "")),
        (
            "difference of curves",
            f"{number(drift.wabc, 3)}, q {chance(drift.q_value)}" if drift is not None and not why_not else "",
        ),
        (
            "trend of b",
            f"{signed_number(trend['b_a_month'], 3)} a month, {trend['months']} months, q {chance(trend['q'])}"
            if trend
            else "",
        ),
        (
            "right answers",
            f"{value_with_error(found['right'], found['right_se'], 3, sign=True)} of the learners" if found else "",
        ),
        ("information", f"{kept['ratio']:.0%} of the published{bound}" if kept else ""),
    ]
    rows.sort(key=lambda row: len(row[1]) <= LONG)
    return pairs(rows, small=True)


def curves(
    name: str, published: ItemRow | None, values: ItemRow | None, scale: Scale, month: str, seen: Observed | None = None
) -> Figure:
    """Draw an item's published curve and the month's with 95 % bands, and the observed proportions."""
    theta = abilities(scale)
    known = {"published": (published, PUBLISHED_STYLE), f"estimate of {month}": (values, ESTIMATE_STYLE)}
    found = {name: (curve, style) for name, (curve, style) in known.items() if curve is not None}
    description = f"Curves of item {shorten(name)} over ability: {join_names(found) or 'none'}"
    numbers = None
    if seen is not None:
        low, high = seen.interval()
        expected = {name: curve.curve(seen.theta) for name, (curve, _) in found.items()}
        misses = [f"{np.sum((y < low) | (y > high))} of {seen.n.size} off the {name}" for name, y in expected.items()]
        description += f". Groups of learners whose 95 % interval lies off a curve: {', '.join(misses) or 'none'}"
        share = "correct" if seen.by_score is None else "score / maximum"
        formats = {"mean θ": ".2f", "answers": ",", share: ".2f", "95 % from": ".2f", "to": ".2f"}
        formats |= dict.fromkeys(expected, ".2f")
        rows = zip(seen.theta, seen.n, seen.proportion, low, high, *expected.values(), strict=True)
        subject = "Shares correct" if seen.by_score is None else "Scores as shares of the maximum"
        caption = f"{subject} in {month} by ability from the other items, and the shares that the curves predict"
        numbers = table(tuple(formats), rows, numbers=formats, caption=caption)
    drawn = [
        "Dashed blue: published" if published else "Not published",
        f"solid orange: {month}" if values else "",
        "dots: observed, by ability from the other items" if seen else "",
    ]
    caption = f"{'; '.join(filter(None, drawn))}. Shades and bars: 95 %."
    chart = ability_chart(theta, response_axis_label(scored=_is_scored(published, values)), f"{description}.", 1.0)
    for name, (curve, style) in found.items():
        bounds: tuple[Sequence[float] | Floats, ...] = curve.interval(theta) or ((), ())
        chart.line(theta, curve.curve(theta), name=name, low=bounds[0], high=bounds[1], **style)
    return Figure(add_observed(chart, seen, f"learners of {month}"), caption, numbers=numbers)


def _is_scored(*known: ItemRow | None) -> bool:
    return any(values is not None and values.max_score > 1 for values in known)


def category_curves(item: ItemFindings, scale: Scale, month: str) -> tuple[Block, ...]:
    """Draw the probability of every score by ability on one chart, and add a table of the scores.

    The chart has the published curves, the month's curves and the observed shares. Returns () for items scored 0 and 1.
    """
    if not _is_scored(item.published, item.values):
        return ()
    theta, by_score = abilities(scale), item.observed and item.observed.by_score
    found = [(values, dash) for values, dash in ((item.published, "dash"), (item.values, "solid")) if values]
    most = max(values.max_score for values, _ in found)
    curves = [(values.score_probabilities(theta), dash) for values, dash in found if values.max_score == most]
    description = f"How likely each score of item {shorten(item.item_id)} is over ability."
    chart = ability_chart(theta, "probability of a score", description, 1.0, width=690, height=250)
    for k in range(most + 1):
        if all(k in values.absent_scores for values, _ in found) and not (by_score and by_score.n[k : k + 1].any()):
            continue  # no learner has had this score
        colour = Chart.SERIES[k % len(Chart.SERIES)]
        for of_each, dash in curves:
            chart.line(theta, of_each[k], colour, f"score {k}" if dash == curves[-1][1] else "", dash=dash)
        if item.observed and by_score and k < len(by_score.n):
            seen = item.observed.of_score(k)
            titles = [f"score {k}: {p:.2f} of {n} answers" for p, n in zip(seen.proportion, seen.n, strict=True)]
            style: dict[str, Any] = {"shape": SHAPES[k % len(SHAPES)], "titles": titles}
            chart.points(seen.theta, seen.proportion, colour, "", *seen.interval(), **style)
        peak = int(curves[-1][0][k].argmax())
        chart.names([theta[peak]], [curves[-1][0][k][peak]], [str(k)])
    caption = f"Every score. Solid: {month}; dashed: published; marks: observed shares. Bars: 95 %."
    return Figure(chart, caption, wide=True), _scores_table(item, most)


def information(facts: ItemFacts, values: ItemRow | None, month: str) -> Figure | None:
    """Draw the item's information by ability, as published and as estimated.

    The caption has its maximum and, if the scale has a pass mark, its share of the test's information there. Returns
    None if the item has no parameters.
    """
    theta, published = abilities(facts.scale), ItemRow.if_known(facts.publication or {})
    known = {"published": (published, PUBLISHED_STYLE), f"estimate of {month}": (values, ESTIMATE_STYLE)}
    drawn = {name: (_information_at(row, theta), style) for name, (row, style) in known.items() if row}
    if not drawn:
        return None
    top = 1.08 * max(float(y.max()) for y, _ in drawn.values()) or 1.0
    described = f"Information of item {shorten(facts.item_id)} over ability, as published and in {month}."
    chart = ability_chart(theta, "information (1/θ²)", described, top, width=690)
    for name, (y, style) in drawn.items():
        chart.line(theta, y, name=name, **style)
    y, _ = next(iter(drawn.values()))
    caption = f"Information: at most {number(y.max(), 3)}, at θ = {number(theta[y.argmax()], 1)}"
    if facts.test is not None and published is not None:
        cut = np.array([facts.scale.pass_theta])
        share = float(_information_at(published, cut)[0] / facts.test.curves.information(cut).sum())
        caption += f"; at the pass mark θ = {number(cut[0])} it is {100 * share:.1f} % of the information of the test"
    return Figure(chart, f"{caption}.", wide=True)


def _information_at(row: ItemRow, theta: Floats) -> Floats:
    found = ItemParameters.from_rows(("",), [row]).curves.information(theta)[:, 0]
    return found if row.a > 0 else np.zeros_like(theta)


def _scores_table(item: ItemFindings, most: int) -> Table:
    """Return a table of the answers with each score, and of the steps or thresholds with errors and changes."""
    by_score = None if item.observed is None else item.observed.by_score
    known = {"published": item.published, "estimate": item.values}
    sources = {name: values for name, values in known.items() if values is not None}
    columns: dict[str, list[Cell]] = {
        f"{word}, {name}": [value_with_error(*of_score.get(k, (None, None))) for k in range(most + 1)]
        for name, values in sources.items()
        for word, of_score in values.score_parameters.items()
    }
    before, now = ((values.score_parameters if values is not None else {}) for values in known.values())
    for word in [word for word in now if word in before]:
        moved = {k: value - before[word][k][0] for k, (value, _) in now[word].items() if k in before[word]}
        columns[f"{word}, change"] = [signed_number(moved.get(k)) for k in range(most + 1)]
    rows: list[tuple[Cell, ...]] = []
    for k in range(most + 1):
        row: list[Cell] = [k, None, None, None]
        if by_score is not None and k < len(by_score.n):
            row[1:] = [int(by_score.n[k]), by_score.n[k] / max(by_score.n.sum(), 1), by_score.theta[k]]
        rows.append((*row, *(cells[k] for cells in columns.values())))
    formats = {"score": "", "answers": ",", "share": ".3f", "mean θ": ".2f"} | dict.fromkeys(columns, "")
    meanings = dict.fromkeys(values.model.step_meaning for values in sources.values() if values.steps)
    caption = ". ".join(["Answers by score", *map(with_capital, meanings), "± is the standard error"])
    return table((*formats,), rows, numbers=formats, caption=caption, small=True)


def item_in_short(facts: ItemFacts, at: datetime) -> tuple[Text, ...]:
    """Sentences on whether the item is in use, whether it has drifted or has DIF, and open decisions."""
    sentences: list[Text] = [_use(facts, at)]
    if facts.status is not None and facts.status.effective_from > at:
        sentences.append(f"It is {facts.status.sentence}.")
    if facts.drifted is not None:
        delta = facts.drift[-1].delta_b if facts.drift else None
        severe = f" ({facts.drifted.severity})"
        moved = severe if delta is None else f": {'easier' if delta < 0 else 'harder'} by {number(abs(delta))}"
        sentences.append(f"It has drifted since {facts.onset or facts.drifted.since}{moved}.")
    groups = sorted({f"{row.attribute} = {row.focal_group}" for row in facts.dif if row.large})
    if groups:
        sentences.append(f"Large DIF for {', '.join(groups)}.")
    if facts.proposal is not None:
        sentences.append((page_link("A decision waits", "proposal", proposal=str(facts.proposal.reference)), "."))
    elif not facts.drifted:
        sentences.append("No decision on it waits.")
    return tuple(chain.from_iterable((sentence, " ") for sentence in sentences))


def _use(facts: ItemFacts, at: datetime) -> str:
    name, row = shorten(facts.item_id), facts.publication
    if facts.withdrawn and facts.status is not None:
        return f"{name} is {facts.status.sentence}."
    after = facts.coming(at) or row
    if after is None:
        return f"{name} is not in use: {facts.unpublished}."
    if row is None:
        return f"{name} comes into use on {after['effective_from']:%Y-%m-%d}."
    in_use = f"{name} is in use with {_in_words(ItemRow.from_row(row))} since {row['effective_from']:%Y-%m-%d}."
    values = ItemRow.from_row(after)
    if values.scored_with == ItemRow.from_row(row).scored_with:
        return in_use
    return f"{in_use} {after['decided_by']} decided on {_in_words(values)} from {after['effective_from']:%Y-%m-%d} on."


def _in_words(values: ItemRow) -> str:
    known = [f"{name} = {number(value)}" for name, (value, _) in values.in_brief.items()]
    steps = ", ".join(number(step) for step, _ in values.steps.values())
    return join_names(known + [f"{values.model.step_word}s {steps}"] * bool(steps))


def identity(facts: ItemFacts, at: datetime, analysed: Sequence[ClassicalRow] = ()) -> Pairs:
    """Return the item's values (in force and coming), key, scale, topic, forms, role as an anchor, exposure and time.

    `analysed` are its rows of the month's item analysis.
    """
    row, coming, time = facts.publication, facts.coming(at), facts.response_time
    most = max((found.max_score for found in analysed), default=1)
    # "2pl+gpcm" is a fit in which scored items have the second model
    models = ((row or {}).get("model") or facts.scale.model).split("+")
    positions = [f"{f.form_id} at {f.position}" if f.position else f.form_id for f in analysed if f.form_id]
    seen = [f"{month}: {n:,} of {of:,} learners" for month, (n, of) in [*facts.exposure.items()][-MAX_MONTHS:]]
    return pairs(
        {
            "published": "nothing" if row is None else parameters(ItemRow.from_row(row)),
            "comes into force": f"{parameters(ItemRow.from_row(coming))}, from {coming['effective_from']:%Y-%m-%d} on"
            if coming
            else None,
            "key": next((found.key for found in analysed if found.key), None),
            "model": facts.of_bank.get("model") or models[-1 if most > 1 else 0],
            "maximum score": str(most) if most > 1 else None,
            "block": facts.of_bank.get("block"),
            "form": join_names(positions, 4),
            "shown to": "; ".join(seen),
            "scale": page_link(facts.scale.scale_id, "bank", scale=facts.scale.scale_id),
            "topic": shorten(facts.topic) if facts.topic else None,
            "anchor": "yes: months are linked by it" if facts.anchor else "no",
            "response time": f"{time[0] / 1000:.1f} s (median of {time[1]:,} answers)" if time else None,
        }
    )
