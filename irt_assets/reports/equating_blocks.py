"""Blocks about the methods of equating two forms: differences, passes under each, the design, and the smoothing.

The dashboard's page, the document for a committee and `irt scores equate` show them.
"""

from collections.abc import Iterator

import numpy as np

from irt_assets.blocks import (
    Block,
    Figure,
    Figures,
    List,
    Paragraph,
    Section,
    number,
    signed_number,
    table,
)
from irt_assets.common.intervals import Z95
from irt_assets.common.wording import join_names, quantity, sentence
from irt_assets.scores.equating import IDENTITY, MATTERS, MIN_ANCHORS, EquatingComparison
from irt_psychometrics.plots import Chart

MAX_ITEMS_NAMED = 20
COVERED = 0.01, 0.99
"""Shares of the new form's learners between whose raw scores differences are shown."""


def equating_blocks(comparison: EquatingComparison) -> Iterator[Block]:
    """Yield all blocks about the comparison."""
    new, old, chosen = comparison.new.form_id, comparison.old.form_id, comparison.in_force
    lead = f"No equating of form {new} is chosen: its score table is made by its own items."
    yield Paragraph(f"Form {new} is equated to {chosen.old} by {chosen.method}." if chosen else lead, "lead")
    yield List(tuple(map(sentence, design_in_words(comparison))))
    yield methods(comparison)
    pictures = (
        f"Differences of the equivalents by each method from {comparison.baseline}, in raw points of {old}, by raw "
        f"score of {new}. Bands: 95 % intervals by the method's own error. Grey: ± ½ point."
    )
    yield Section("Differences", (Paragraph(pictures), Figures(tuple(differences(comparison)))), "differences")
    shown = {
        name.replace("-", " ").replace("equipercentile", "equi-percentile"): found.equating.equated
        for name, found in comparison.methods.items()
        if name != IDENTITY
    }
    rows = zip(range(comparison.new.highest + 1), *shown.values(), strict=True)
    caption, formats = f"Equivalents on {old} of raw scores of {new}", {"raw": ","} | dict.fromkeys(shown, ".2f")
    yield Section(
        "Equivalents", (table([*formats], rows, numbers=formats, caption=caption, small=True),), "equivalents"
    )
    if any(comparison.smoothing.values()):
        yield smoothing(comparison)


def design_in_words(comparison: EquatingComparison) -> Iterator[str]:
    """Yield the design, the samples and the source of the scores."""
    forms, anchor, released = (comparison.new, comparison.old), comparison.anchor, comparison.old_table
    names = f"{forms[0].form_id} and {forms[1].form_id}"
    if comparison.design == "single group":
        both = forms[0].scores.index.isin(forms[1].scores.index).sum()
        yield f"single group: {both:,} learners took {names}"
    elif comparison.design == "common items":
        new, old = (form.scores["anchor"] for form in forms)
        gap = (new.mean() - old.mean()) / np.sqrt((new.var() + old.var()) / 2)
        of = ", ".join(f"{number(form.scores['anchor'].mean())} on {form.form_id}" for form in forms)
        yield (
            f"common items: {quantity(len(anchor), 'item')} with {sum(anchor.values())} points are in both forms, and "
            f"count in their scores ({join_names(anchor, MAX_ITEMS_NAMED)})"
        )
        yield f"mean on the common items: {of}; the groups differ by {signed_number(gap)} SD"
    else:
        yield (
            f"random groups: {names} have {quantity(len(anchor), 'item')} in common, and common items need at least "
            f"{MIN_ANCHORS}; the learners of both forms are taken as samples of one population"
        )
    yield "; ".join(
        f"{form.form_id}: {quantity(form.n, 'learner')} in the last year, first sittings, "
        f"mean {number(form.scores['raw'].mean())} of {form.highest}, SD {number(form.scores['raw'].std())}"
        for form in forms
    )
    yield f"scores come from the released table {released.table_id} of {released.form_id}, of {released.month}"


def differences(comparison: EquatingComparison) -> Iterator[Figure]:
    """Draw the differences of each method from the baseline, on one axis."""
    low, high = np.quantile(comparison.new.scores["raw"], COVERED).astype(int)
    at = np.arange(comparison.new.highest + 1)[low : max(high, low + 1) + 1]
    bands = {
        name: found.difference[at] + np.outer((-1, 0, 1), np.nan_to_num(Z95 * found.equating.se[at]))
        for name, found in comparison.methods.items()
        if name != comparison.baseline
    }
    ends = Chart.ends_of(*(line for band in bands.values() for line in band), [-2 * MATTERS, 2 * MATTERS])
    for name, (lower, y, upper) in bands.items():
        described = f"Difference of {name} from {comparison.baseline} by raw score."
        chart = Chart((at[0], at[-1]), ends, "raw score", "difference", described, height=140)
        chart.boxes([at[0]], [-MATTERS], [at[-1]], [MATTERS], "grey", pale=True).level(0)
        yield Figure(chart.line(at, y, "blue", "", lower, upper), name)


def methods(comparison: EquatingComparison) -> Section:
    """Return a table with one row per method (differences, errors, and passes), and the methods without a result."""
    formats = {
        "mean difference": "+.2f",
        "largest": "+.2f",
        "mean SE": ".3f",
        "beyond ½": ",",
        "passes from": ",",
        "pass": ",",
        "share": ".1%",
    }
    counts, n = comparison.new.counts, comparison.new.n
    rows = [
        (
            *(name, float(counts @ found.difference) / n, max(found.difference[counts > 0], key=abs)),
            *(float(counts @ found.equating.se) / n, int(counts[np.abs(found.difference) > MATTERS].sum())),
            *(found.raw_cut, found.passing, found.passing and found.passing / n),
        )
        for name, found in comparison.methods.items()
    ]
    text = (
        f"Over {quantity(n, 'learner')} of {comparison.new.form_id}. Differences are from {comparison.baseline}, in "
        f"raw points of {comparison.old.form_id}. Beyond ½: learners whose equivalent differs by more than half a "
        "point, the difference that matters, because rounded scores then differ. Errors of the irt methods come from "
        "the items of both forms, with the errors that items of one fit share."
    )
    unknown = [name for name, found in comparison.methods.items() if not np.isfinite(found.equating.se).all()]
    missing = [
        *(f"no {name}: {why}" for name, why in comparison.without.items()),
        *([f"no errors of {join_names(unknown)}: errors of some published values are not known"] if unknown else []),
    ]
    found = table(("method", *formats), rows, numbers=formats, caption="Methods of equating", small=True)
    below = [List(tuple(map(sentence, missing)))] if missing else []
    return Section("Methods", (Paragraph(text), found, *below), "methods")


def smoothing(comparison: EquatingComparison) -> Section:
    """Return a table of the log-linear models that were compared."""
    degrees = "the score" if comparison.design == "random groups" else "the score, the second score, their products"
    text = (
        f"Log-linear models of the scores, for equipercentile and kernel. Degrees: of {degrees}. Equating uses the "
        "model with the smallest AIC."
    )
    formats = {"parameters": ",", "G²": ".1f", "AIC": ".1f"}
    rows = [
        (
            *(form, " · ".join(str(degree) for degree in vars(model.model).values() if degree)),
            *(model.columns, model.deviance, model.aic, "used" if model is models[0] else ""),
        )
        for form, models in comparison.smoothing.items()
        for model in models
    ]
    found = table(("form", "degrees", *formats, ""), rows, numbers=formats, caption="Log-linear models", small=True)
    return Section("Smoothing", (Paragraph(text), found), "smoothing")
