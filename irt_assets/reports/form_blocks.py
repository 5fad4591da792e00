"""Blocks about a form: its scores, its reliability, its items by classical test theory, and what it measures best.

The dashboard's page of a form and the document for a committee show them.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import compress

import numpy as np

from irt_assets.blocks import (
    Block,
    Cell,
    Document,
    Figure,
    Figures,
    List,
    Pairs,
    Paragraph,
    Section,
    Table,
    Text,
    number,
    pairs,
    percent,
    table,
)
from irt_assets.charts import ability_chart, add_points
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.intervals import Z95
from irt_assets.common.wording import quantity, sentence
from irt_assets.gates.misfit import misfit_in_words
from irt_assets.item_analysis.stored import FormRow, ItemRow
from irt_assets.reports.classical_blocks import flags_in_words, key_warning
from irt_assets.reports.form_facts import FormFacts
from irt_assets.reports.item_blocks import abilities
from irt_psychometrics.plots import Chart
from resources.version import code_version

SOURCES = {"file": "imported", "log": "taken from the log"}


def document(facts: FormFacts, at: datetime) -> Document:
    """Return the form's page as a document without links, for people who cannot open the dashboard."""
    title = f"Form {facts.name}, {facts.month}" if facts.form.form_id else f"Test form of all answers, {facts.month}"
    return Document(
        title=title,
        subtitle=f"scale {facts.scale.scale_id} · written on {at:%Y-%m-%d at %H:%M} UTC · irt-assets {code_version()}",
        running=f"{title} · scale {facts.scale.scale_id}",
        language="en",
        kind="bank",
        blocks=tuple(form_blocks(facts, None)),
    )


def form_blocks(facts: FormFacts, dashboard: str | None = "") -> Iterator[Block]:
    """Yield all blocks about the form; those without content are left out. For `dashboard` see `page_link`."""
    yield key_figures(facts)
    yield from keys(facts, dashboard)
    figures = [scores(facts.form)] if any(facts.form.scores) else []
    figures += [difficulty_and_discrimination(facts.items), *_by_position(facts.items)]
    yield Section("Scores and items", (Figures(tuple(figures)), items_table(facts, dashboard)), "items")
    if len(facts.published.item_ids):
        yield Section("Precision", tuple(precision(facts)), "precision")
    if facts.fit is not None:
        found = (f"marginal reliability {number(facts.fit.reliability)}", *misfit_in_words(facts.fit))
        caption = "All answers of the month's fit, of every form:"
        yield Section("Fit of the model", (Paragraph(caption), List(tuple(map(sentence, found)))), "fit", together=True)


def keys(facts: FormFacts, dashboard: str | None) -> Iterator[Block]:
    """Yield the keys that an option beats, or say that there are none; nothing for a form without options."""
    if not any(item.key for item in facts.items):
        return
    found: list[Text] = [
        (_item_link(item, facts, dashboard), f": {warning}") for item in facts.items if (warning := key_warning(item))
    ]
    yield Section("Key check", (List(tuple(found)) if found else Paragraph("No option beats a key."),), "keys")


def key_figures(facts: FormFacts) -> Pairs:
    """Return the size of the form, the moments of its sum scores, and its reliability."""
    form, seen = facts.form, [score for score, n in enumerate(facts.form.scores) if n]
    interval = f" ({number(form.alpha_low, 3)} to {number(form.alpha_high, 3)})" if form.alpha_low is not None else ""
    known = {
        "learners": f"{form.n:,}",
        "items": f"{form.n_items:,}, maximum {form.max_score:,} points",
        "form": SOURCES.get(form.source),
        "mean and SD": f"{number(form.mean)}, SD {number(form.sd)}",
        "median and range": f"{number(form.median, 1)}" + (f", {seen[0]} to {seen[-1]}" if seen else ""),
        "skewness and kurtosis": f"{number(form.skewness)}, {number(form.kurtosis)}",
        "Cronbach's α": f"{number(form.alpha, 3)}{interval}",
        "SEM": f"{number(form.sem)} points",
        "ω and λ₂": f"{number(form.omega, 3)}, {number(form.lambda2, 3)}",
        "split half": f"{number(form.split_half, 3)} (odd and even items, Spearman–Brown)",
    }
    if form.mean is None:  # the sum scores of learners with different items cannot be compared
        known = dict([*known.items()][:3]) | {"sum scores": "none: not all learners have a score on all items"}
    return pairs(known, small=True)


def scores(form: FormRow) -> Figure:
    """Draw the number of learners with each sum score."""
    at, n = np.arange(len(form.scores)), np.array(form.scores)
    described = f"Learners by sum score: mean {number(form.mean)} of {form.max_score}, SD {number(form.sd)}."
    chart = Chart((-0.5, len(n) - 0.5), (0, 1.08 * max(int(n.max()), 1)), "sum score", "learners", described)
    return Figure(chart.boxes(at - 0.45, np.zeros(n.size), at + 0.45, n), "Learners by sum score.")


def difficulty_and_discrimination(items: Sequence[ItemRow]) -> Figure:
    """Draw the item-rest correlation against p, with the names of flagged items."""
    known = [item for item in items if item.facility is not None and item.item_rest is not None]
    x, y = ([getattr(item, name) for item in known] for name in ("facility", "item_rest"))
    flagged = [bool(item.flags or key_warning(item)) for item in known]
    described = f"Item-rest correlation by p: {quantity(sum(flagged), 'flagged item')} of {len(known)}."
    chart = Chart((0.0, 1.0), Chart.ends_of(y, [0.0]), "p (mean / maximum)", "item-rest r", described).level(0)
    kinds = ["flagged" if flag else "" for flag in flagged]
    names = list(compress(((k, item.item_id) for k, item in enumerate(known)), flagged))
    add_points(chart, x, y, kinds, named=names, titles=[f"{item.item_id}: r = {item.item_rest:.2f}" for item in known])
    return Figure(chart, "Difficulty and discrimination. Triangles: flagged items.")


def items_table(facts: FormFacts, dashboard: str | None = None) -> Table:
    """Return the classical table of all items."""
    formats = {"n": ",", "p": ".3f", "SD": ".2f", "r": ".3f", "α without": ".3f", "D": ".2f"}
    formats |= {"omitted": ".1%", "not reached": ".1%"} | ({"time (s)": ".0f"} if _timed(facts.items) else {})
    numbered = any(item.position for item in facts.items)
    rows: list[tuple[Cell, ...]] = []
    for item in facts.items:
        row: list[Cell] = [item.position] if numbered else []
        row += [_item_link(item, facts, dashboard), item.n, item.facility, item.sd, item.item_rest]
        row += [item.alpha_if_deleted, None if item.lower is None or item.upper is None else item.upper - item.lower]
        row += [item.omitted / max(item.presented, 1), item.not_reached / max(item.presented, 1)]
        row += [item.time_median] if _timed(facts.items) else []
        rows.append((*row, flags_in_words(item.flags)))
    formats = {"at": ""} | formats if numbered else formats
    columns = (*["at"] * numbered, "item", *[name for name in formats if name != "at"], "flags")
    caption = "p: mean as a share of the maximum; r: with the score on the other items; D: upper − lower 27 %"
    return table(columns, rows, numbers=formats, caption=caption, small=True, sortable=True)


def _timed(items: Sequence[ItemRow]) -> bool:
    return any(item.time_median is not None for item in items)


def _item_link(item: ItemRow, facts: FormFacts, dashboard: str | None) -> Text:
    fields = {"scale": facts.scale.scale_id, "item": item.item_id, "month": facts.month, "form": facts.form.form_id}
    return page_link(item.item_id, "item", dashboard=dashboard, **fields)


def _by_position(items: Sequence[ItemRow]) -> Iterator[Figure]:
    """Draw the shares of learners who omitted, or did not reach, the item at each position, if somebody did."""
    placed = [item for item in items if item.position]
    if not any(item.omitted or item.not_reached for item in placed):
        return
    at = [item.position for item in placed]
    shares = {
        "omitted": [item.omitted / max(item.presented, 1) for item in placed],
        "not reached": [item.not_reached / max(item.presented, 1) for item in placed],
    }
    top = 1.1 * max(map(max, shares.values()))
    ends = (0.5, max(position or 0 for position in at) + 0.5)
    chart = Chart(ends, (0, top), "position", "share of the learners", "Omitted and not reached items by position.")
    for (name, share), shape in zip(shares.items(), ("circle", "diamond"), strict=True):
        titles = [f"{item.item_id}: {percent(y)} {name}" for item, y in zip(placed, share, strict=True)]
        chart.points(
            at, share, "blue" if name == "omitted" else "orange", name, shape=shape, titles=titles, joined=True
        )
    yield Figure(chart, "Omitted and not reached, by position.")


def precision(facts: FormFacts) -> Iterator[Block]:
    """Yield the expected score, the information and the standard error of θ, by the published parameters."""
    items, theta = facts.published, abilities(facts.scale)
    most = sum(item.max_score for item in facts.items if item.item_id in set(items.item_ids))
    weights = np.array([{i.item_id: i.max_score for i in facts.items}[name] for name in items.item_ids])
    information = items.curves.information(theta).sum(axis=1)
    curves = {
        "expected score": (items.curve(theta) @ weights, float(most)),
        "information (1/θ²)": (information, 1.08 * float(information.max())),
        "standard error of θ": (information**-0.5, 4 * float(information.max()) ** -0.5),
    }
    mu, sigma = facts.scale.mu, facts.scale.sigma
    figures = []
    for label, (y, top) in curves.items():
        chart = ability_chart(theta, label, f"{label} of {quantity(len(weights), 'item')} by ability", top)
        chart.stretch(mu - Z95 * sigma, mu + Z95 * sigma)
        figures.append(Figure(chart.line(theta[y <= top], y[y <= top], "blue")))
    best = int(information.argmax())
    yield Paragraph(
        f"By the published values of {len(weights)} of {quantity(len(facts.items), 'item')} the form measures best at "
        f"θ = {number(theta[best], 1)}, with a standard error of {number(information[best] ** -0.5)}. Grey: the middle "
        "95 % of the population."
    )
    yield Figures(tuple(figures))


def forms_table(forms: Sequence[FormRow], scale: str, month: str) -> Table:
    """Return a table of a month's forms, with links to their pages."""
    formats = {"learners": ",", "items": ",", "maximum": ",", "mean": ".2f", "SD": ".2f", "α": ".3f", "SEM": ".2f"}
    rows = [
        (
            page_link(form.form_id or "all answers", "form", scale=scale, month=month, form=form.form_id),
            *(form.n, form.n_items, form.max_score, form.mean, form.sd, form.alpha, form.sem),
            SOURCES.get(form.source),
        )
        for form in forms
    ]
    caption = f"Forms of {month}; a form has no mean and no α if not all of its learners have a score on all items"
    return table(("form", *formats, "source"), rows, numbers=formats, caption=caption)
