"""Blocks about a form: its scores, its reliability, its items by classical test theory, and its precision.

The dashboard's page of a form and the document for a committee show them.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

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
    table,
    without_page_links,
)
from irt_assets.charts import Floats, ability_chart, add_points
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.intervals import Z95
from irt_assets.common.wording import quantity, sentence
from irt_assets.gates.misfit import misfit_in_words
from irt_assets.item_analysis.key_evidence import key_warning
from irt_assets.item_analysis.stored import SUMMARY, FormRow, ItemRow
from irt_assets.reports import score_blocks
from irt_assets.reports.classical_blocks import discrimination, flags_in_words
from irt_assets.reports.form_facts import FormFacts
from irt_assets.reports.item_blocks import abilities
from irt_psychometrics.plots import Chart
from resources.version import code_version

SOURCES = {"file": "imported", "assembled": "assembled", "log": "taken from the log"}


def document(facts: FormFacts, at: datetime) -> Document:
    """Return the form's page as a document without links, for people who cannot open the dashboard."""
    title = f"Form {facts.name}, {facts.month}" if facts.form.form_id else f"Test form of all answers, {facts.month}"
    return Document(
        title=title,
        subtitle=f"scale {facts.scale.scale_id} · written on {at:%Y-%m-%d at %H:%M} UTC · irt-assets {code_version()}",
        running=f"{title} · scale {facts.scale.scale_id}",
        language="en",
        kind="bank",
        blocks=without_page_links(tuple(form_blocks(facts))),
    )


def form_blocks(facts: FormFacts) -> Iterator[Block]:
    """Yield all blocks about the form, with links to pages; those without content are left out."""
    yield key_figures(facts)
    yield from keys(facts)
    figures = [scores(facts.form)] if any(facts.form.scores) else []
    figures += [difficulty_and_discrimination(facts.items), *_by_position(facts.items)]
    yield Section("Scores and items", (Figures(tuple(figures)), items_table(facts)), "items")
    if len(facts.published.item_ids):
        yield Section("Precision", tuple(precision(facts)), "precision")
    yield from score_blocks.reported_scores(facts)
    yield from score_blocks.subscores(facts.form)
    if facts.fit is not None:
        found = (f"marginal reliability {number(facts.fit.reliability)}", *misfit_in_words(facts.fit))
        caption = "All answers of the month's fit, of every form:"
        yield Section("Fit of the model", (Paragraph(caption), List(tuple(map(sentence, found)))), "fit", together=True)


def keys(facts: FormFacts) -> Iterator[Block]:
    """Yield the key check: the keys that an option beats. A form without options has no key check."""
    if not any(item.key for item in facts.items):
        return
    found: list[Text] = [
        (_item_link(item, facts), f": {warning}") for item in facts.items if (warning := key_warning(item))
    ]
    yield Section("Key check", (List(tuple(found)) if found else Paragraph("No option beats a key."),), "keys")


def key_figures(facts: FormFacts) -> Pairs:
    """Return the size of the form, the moments of its sum scores, and its reliability."""
    form = facts.form
    known = {
        "learners": f"{form.n:,}",
        "items": f"{form.n_items:,}, maximum {form.max_score:,} points",
        "form": SOURCES.get(form.source),
    }
    if not form.statistics:  # the sum scores of learners with different items cannot be compared
        return pairs(known | {"sum scores": "none: not all learners have a score on all items"}, small=True)
    seen = np.flatnonzero(form.scores)
    of, to_3 = ({name: number(x, digits) for name, x in form.statistics.items()} for digits in (2, 3))
    interval = f" ({to_3['alpha_low']} to {to_3['alpha_high']})" if form.statistics["alpha"] is not None else ""
    known |= {
        "mean and SD": f"{of['mean']}, SD {of['sd']}",
        "median and range": f"{number(form.statistics['median'], 1)}, {seen[0]} to {seen[-1]}",
        "skewness and kurtosis": f"{of['skewness']}, {of['kurtosis']}",
        "Cronbach's α": f"{to_3['alpha']}{interval}",
        "SEM": f"{of['sem']} points",
        "ω and λ₂": f"{to_3['omega']}, {to_3['lambda2']}",
        "split half": f"{to_3['split_half']} (odd and even items, Spearman–Brown)",
    }
    return pairs(known, small=True)


def scores(form: FormRow) -> Figure:
    """Draw the number of learners with each sum score."""
    at, n = np.arange(len(form.scores)), np.array(form.scores)
    mean, sd = (number(form.statistics[name]) for name in ("mean", "sd"))
    described = f"Learners by sum score: mean {mean} of {form.max_score}, SD {sd}."
    chart = Chart((-0.5, len(n) - 0.5), (0, 1.08 * max(int(n.max()), 1)), "sum score", "learners", described)
    return Figure(chart.boxes(at - 0.45, np.zeros(n.size), at + 0.45, n), "Learners by sum score.")


def difficulty_and_discrimination(items: Sequence[ItemRow]) -> Figure:
    """Draw the item-rest correlation against p, with the names of flagged items."""
    known = [item for item in items if item.facility is not None and item.item_rest is not None]
    x, y = ([getattr(item, name) for item in known] for name in ("facility", "item_rest"))
    flagged = [(k, item.item_id) for k, item in enumerate(known) if item.flags]
    described = f"Item-rest correlation by p: {quantity(len(flagged), 'flagged item')} of {len(known)}."
    chart = Chart((0.0, 1.0), Chart.ends_of(y, [0.0]), "p (mean / maximum)", "item-rest r", described).level(0)
    titles = [f"{item.item_id}: r = {number(item.item_rest)}" for item in known]
    kinds = ["flagged" if item.flags else "" for item in known]
    return Figure(
        add_points(chart, x, y, kinds, named=flagged, titles=titles),
        "Difficulty and discrimination. Triangles: flagged items.",
    )


def items_table(facts: FormFacts) -> Table:
    """Return the classical table of all items."""
    formats = {"n": ",", "p": ".3f", "SD": ".2f", "r": ".3f", "α without": ".3f", "D": ".2f"}
    formats |= {"omitted": ".1%", "not reached": ".1%"}
    rows: list[tuple[Cell, ...]] = [
        (
            item.position,
            _item_link(item, facts),
            *(item.n, item.facility, item.sd, item.item_rest, item.alpha_if_deleted, discrimination(item)),
            *_shares_skipped(item),
            flags_in_words(item.flags),
        )
        for item in facts.items
    ]
    caption = "p: mean as a share of the maximum; r: with the score on the other items; D: upper − lower 27 %"
    columns, formats = ("at", "item", *formats, "flags"), {"at": ""} | formats
    return table(columns, rows, numbers=formats, caption=caption, small=True, sortable=True)


def _item_link(item: ItemRow, facts: FormFacts) -> Text:
    fields = {"scale": facts.scale.scale_id, "item": item.item_id, "month": facts.month, "form": facts.form.form_id}
    return page_link(item.item_id, "item", **fields)


def _shares_skipped(item: ItemRow) -> tuple[float, float]:
    """Shares of the learners who omitted the item, and who did not reach it."""
    return item.omitted / max(item.presented, 1), item.not_reached / max(item.presented, 1)


def _by_position(items: Sequence[ItemRow]) -> Iterator[Figure]:
    """Draw the shares of learners who omitted, or did not reach, the item at each position, if somebody did."""
    shares = {item.position: _shares_skipped(item) for item in items if item.position}
    top = 1.1 * max(map(max, shares.values()), default=0.0)
    if top == 0:
        return
    described = "Omitted and not reached items by position."
    chart = Chart((0.5, max(shares) + 0.5), (0.0, top), "position", "share of the learners", described)
    for k, name in enumerate(("omitted", "not reached")):
        chart.points(shares, [share[k] for share in shares.values()], Chart.SERIES[k], name, joined=True)
    yield Figure(chart, "Omitted and not reached, by position.")


def precision(facts: FormFacts) -> Iterator[Block]:
    """Yield the expected score, the information and the standard error of θ, by the published parameters."""
    items, theta = facts.published, abilities(facts.scale)
    most = {item.item_id: item.max_score for item in facts.items}
    weights = np.array([most[name] for name in items.item_ids])
    information = items.curves.information(theta).sum(axis=1)
    error, best = information**-0.5, int(information.argmax())
    curves = {
        "expected score": (items.curve(theta) @ weights, float(weights.sum())),
        "information (1/θ²)": (information, 1.08 * float(information.max())),
        "standard error of θ": (error, 4 * float(error.min())),
    }
    middle = facts.scale.mu - Z95 * facts.scale.sigma, facts.scale.mu + Z95 * facts.scale.sigma
    charts = [
        ability_chart(theta, label, f"{label} of {quantity(len(weights), 'item')} by ability", top)
        .stretch(*middle)
        .line(theta[y <= top], y[y <= top])
        for label, (y, top) in curves.items()
    ]
    yield Paragraph(
        f"By the published values of {len(weights)} of {quantity(len(facts.items), 'item')} the form measures best at "
        f"θ = {number(theta[best], 1)}, with a standard error of {number(error[best])}. Grey: the middle 95 % of the "
        "population."
    )
    yield Figures((*map(Figure, charts), _reliability_by_ability(facts, theta, error)))


def _reliability_by_ability(facts: FormFacts, theta: Floats, error: Floats) -> Figure:
    """Draw 1 − SE²/σ² over θ, and the reliabilities that are one number as levels."""
    chart = ability_chart(theta, "reliability 1 − SE²/σ²", "Reliability by ability, with the overall ones.", 1.0)
    chart.line(theta, np.maximum(1 - (error / facts.scale.sigma) ** 2, 0.0))
    overall = {
        "Cronbach's α": facts.form.statistics.get("alpha"),
        "ω": facts.form.statistics.get("omega"),
        "marginal reliability": facts.fit.reliability if facts.fit else None,
    }
    known = {f"{name} {number(value)}": value for name, value in overall.items() if value is not None and value > 0}
    for colour, (name, value) in zip(Chart.SERIES[1:], known.items(), strict=False):
        chart.line(chart.x, (value, value), colour, name, dash="dash", width=1.2)
    chart.names([theta[0]] * len(known), known.values(), known)
    return Figure(chart, "Reliability by ability. Dashed: of all learners.")


def forms_table(forms: Sequence[FormRow], scale: str, month: str, released: Mapping[str, str] | None = None) -> Table:
    """Return a table of a month's forms, with links to their pages. `released`: their released score tables in words,
    on a scale with reported scores."""
    formats = {"learners": ",", "items": ",", "maximum": ",", "mean": ".2f", "SD": ".2f", "α": ".3f", "SEM": ".2f"}
    rows = [
        (
            page_link(form.form_id or "all answers", "form", scale=scale, month=month, form=form.form_id),
            *(form.n, form.n_items, form.max_score, *map(form.statistics.get, SUMMARY)),
            SOURCES.get(form.source),
            *(() if released is None else (released.get(form.form_id),)),
        )
        for form in forms
    ]
    columns = ("form", *formats, "source", *(() if released is None else ("released score table",)))
    caption = f"Forms of {month}; a form has no mean and no α if not all of its learners have a score on all items"
    return table(columns, rows, numbers=formats, caption=caption)
