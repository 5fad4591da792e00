"""Blocks about the methods of equating two forms: differences, passes under each, the design, and the smoothing.

The dashboard's page, the document for a committee and `irt scores equate` show them.
"""

from collections.abc import Iterator
from datetime import datetime
from functools import partial

import numpy as np

from irt_assets.blocks import (
    Block,
    Document,
    Figure,
    Figures,
    List,
    Paragraph,
    Section,
    Table,
    notice,
    number,
    prose,
    signed_number,
    table,
    without_page_links,
)
from irt_assets.common.intervals import Z95
from irt_assets.common.wording import join_names, quantity, sentence
from irt_assets.scores.equating import IDENTITY, MATTERS, MIN_ANCHORS, EquatingComparison, FormSample
from irt_psychometrics.plots import Chart
from resources.version import code_version

MAX_ITEMS_NAMED = 20
COVERED = 0.01, 0.99
"""Shares of the new form's learners between whose raw scores differences are shown."""
METHODS = (
    "Over {learners} of {new}. Differences are from {baseline}, in raw points of {old}. Beyond ½: learners whose "
    "equivalent differs by more than half a point, the difference that matters, because rounded scores then differ. "
    "Errors of the irt methods come from the items of both forms, with the errors that items of one fit share."
)
SMOOTHING = (
    "Log-linear models of the scores, for equipercentile and kernel. Degrees: of {}. Equating uses the model with the "
    "smallest AIC."
)
DIFFERENCES = (
    "Differences of the equivalents by each method from {baseline}, in raw points of {old}, by raw score of {new}. "
    "Bands: 95 % intervals by the method's own error. Grey: ± ½ point."
)


def document(comparison: EquatingComparison, at: datetime) -> Document:
    """Return the page as a document without links, for a committee."""
    title = f"Equating of {comparison.new.form_id} to {comparison.old.form_id}"
    scale = comparison.scale.scale_id
    return Document(
        title=title,
        subtitle=f"scale {scale} · written on {at:%Y-%m-%d at %H:%M} UTC · irt-assets {code_version()}",
        running=f"{title} · scale {scale}",
        language="en",
        kind="bank",
        blocks=without_page_links(tuple(equating_blocks(comparison))),
    )


def equating_blocks(comparison: EquatingComparison) -> Iterator[Block]:
    """Yield all blocks about the comparison."""
    yield Paragraph(sentence(choice(comparison)), "lead")
    yield List(tuple(map(sentence, design_in_words(comparison))))
    names = {"baseline": comparison.baseline, "old": comparison.old.form_id, "new": comparison.new.form_id}
    over = Paragraph(METHODS.format(**names, learners=quantity(comparison.new.n, "learner")))
    yield Section("Methods", (over, methods_table(comparison), *missing(comparison)), "methods")
    figures = Paragraph(DIFFERENCES.format(**names)), Figures(tuple(differences(comparison)))
    yield Section("Differences", figures, "differences")
    yield Section("Equivalents", (equivalents_table(comparison),), "equivalents")
    if comparison.smoothing:
        degrees = "the score" if comparison.design == "random groups" else "the score, the second score, their products"
        yield Section("Smoothing", (Paragraph(SMOOTHING.format(degrees)), smoothing_table(comparison)), "smoothing")


def choice(comparison: EquatingComparison) -> str:
    """The equating in force, in words."""
    if comparison.in_force is None:
        return f"no equating of form {comparison.new.form_id} is chosen: its score table is made by its own items"
    chosen = comparison.in_force
    return f"form {comparison.new.form_id} is equated to {chosen.old} by {chosen.method}"


def design_in_words(comparison: EquatingComparison) -> Iterator[str]:
    """Yield the design, the samples and the source of the scores."""
    new, old, anchor = comparison.new, comparison.old, comparison.anchor
    names = f"{new.form_id} and {old.form_id}"
    if comparison.design == "single group":
        yield f"single group: {comparison.n_of_both:,} learners took {names}"
    elif comparison.design == "common items":
        most = sum(anchor.values())
        gap = new.scores["anchor"].mean() - old.scores["anchor"].mean()
        sd = np.sqrt((new.scores["anchor"].var() + old.scores["anchor"].var()) / 2)
        of = ", ".join(f"{number(form.scores['anchor'].mean())} on {form.form_id}" for form in (new, old))
        yield (
            f"common items: {quantity(len(anchor), 'item')} with {most} points are in both forms, and count in their "
            f"scores ({join_names(anchor, MAX_ITEMS_NAMED)})"
        )
        yield f"mean on the common items: {of}; the groups differ by {signed_number(gap / sd)} SD"
    else:
        yield (
            f"random groups: {names} have {quantity(len(anchor), 'item')} in common, and common items need at least "
            f"{MIN_ANCHORS}; the learners of both forms are taken as samples of one population"
        )
    yield "; ".join(map(_sample_in_words, (new, old)))
    table_of_old = comparison.old_table
    yield f"scores come from the released table {table_of_old.table_id} of {old.form_id}, of {table_of_old.month}"


def _sample_in_words(form: FormSample) -> str:
    raw = form.scores["raw"]
    return (
        f"{form.form_id}: {quantity(form.n, 'learner')} in the last year, first sittings, mean {number(raw.mean())} of "
        f"{form.highest}, SD {number(raw.std())}"
    )


def differences(comparison: EquatingComparison) -> Iterator[Figure]:
    """Draw the differences of each method from the baseline, on one axis."""
    low, high = np.quantile(comparison.new.scores["raw"], COVERED).astype(int)
    shown = slice(low, max(high, low + 1) + 1)
    others = [found for found in comparison.methods if found.name != comparison.baseline]
    at = np.arange(comparison.new.highest + 1)[shown]
    halves = {found.name: np.nan_to_num(Z95 * found.equating.se[shown]) for found in others}
    reach = [found.difference[shown] + sign * halves[found.name] for found in others for sign in (-1, 1)]
    ends = Chart.ends_of(*reach, [-2 * MATTERS, 2 * MATTERS])
    for found in others:
        y, half = found.difference[shown], halves[found.name]
        described = f"Difference of {found.name} from {comparison.baseline} by raw score."
        chart = Chart((at[0], at[-1]), ends, "raw score", "difference", described, height=140)
        chart.boxes([at[0]], [-MATTERS], [at[-1]], [MATTERS], "grey", pale=True).level(0)
        yield Figure(chart.line(at, y, "blue", "", y - half, y + half), found.name)


def methods_table(comparison: EquatingComparison) -> Table:
    """Return a table with one row per method: differences, errors, and passes."""
    formats = {"mean difference": "+.2f", "largest": "+.2f", "mean SE": ".3f", "beyond ½": ",", "passes from": ","}
    formats |= {"pass": ",", "share": ".1%"}
    n = comparison.new.counts
    mean = partial(np.average, weights=n)
    rows = [
        (
            found.name,
            *(mean(found.difference), max(found.difference[n > 0], key=abs), mean(found.equating.se), found.affected),
            *(found.table.raw_cut, found.passing, found.passing and found.passing / comparison.new.n),
        )
        for found in comparison.methods
    ]
    return table(("method", *formats), rows, numbers=formats, caption="Methods of equating", small=True)


def missing(comparison: EquatingComparison) -> Iterator[Block]:
    """Yield the methods without a result, and why."""
    if comparison.without:
        yield List(tuple(sentence(f"no {name}: {why}") for name, why in comparison.without.items()))
    if any(not np.isfinite(found.equating.se).all() for found in comparison.methods):
        why = "The errors of some published values are not known, so methods by items have no standard errors."
        yield notice(prose(why), "warning")


def equivalents_table(comparison: EquatingComparison) -> Table:
    """Return the equivalents of each raw score by each method."""
    shown = {
        found.name.replace("-", " ").replace("equipercentile", "equi-percentile"): found.equating.equated
        for found in comparison.methods
        if found.name != IDENTITY
    }
    columns = np.column_stack([*shown.values()])
    rows = [(raw, *row) for raw, row in enumerate(columns.tolist())]
    caption = f"Equivalents on {comparison.old.form_id} of raw scores of {comparison.new.form_id}"
    return table(("raw", *shown), rows, numbers={"raw": ","} | dict.fromkeys(shown, ".2f"), caption=caption, small=True)


def smoothing_table(comparison: EquatingComparison) -> Table:
    """Return the log-linear models that were compared."""
    formats = {"parameters": ",", "G²": ".1f", "AIC": ".1f"}
    best = {model.form_id: model for model in reversed(comparison.smoothing)}
    rows = [
        (model.form_id, " · ".join(map(str, model.degrees)), model.parameters, model.deviance, model.aic)
        + ("used" if model is best[model.form_id] else "",)
        for model in comparison.smoothing
    ]
    return table(("form", "degrees", *formats, ""), rows, numbers=formats, caption="Log-linear models", small=True)
