"""Blocks about the scores that a form's learners get: the score table, pass and fail, and subscores."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import compress
from typing import Any

import numpy as np

from irt_assets.blocks import (
    Block,
    Cell,
    Figure,
    Figures,
    List,
    Paragraph,
    Section,
    Table,
    number,
    pairs,
    prose,
    table,
)
from irt_assets.common.intervals import Z95
from irt_assets.common.wording import join_names, sentence
from irt_assets.item_analysis.stored import FormRow
from irt_assets.reports.form_facts import FormFacts, ReportedForm
from irt_assets.scales.rules import MAX_REPORTED
from irt_assets.scores.form_tables import COLUMNS, FormTable
from irt_assets.scores.releases import TableRelease
from irt_assets.scores.reported import UNITS, in_unit
from irt_psychometrics import PsychometricsError
from irt_psychometrics.plots import Chart
from irt_psychometrics.scoring import Classification

METHODS = {
    "eap": "mean and SD of θ given the raw score (EAP over summed scores, by the Lord–Wingersky recursion)",
    "test-curve": "θ at which the form's expected raw score is the raw score (inverse of the test curve). Raw scores "
    "that the curve does not reach continue the line of the two nearest (Kolen & Brennan, 2014)",
    "normalised": "percentile rank of the raw score in the norm group, as a normal deviate",
    "raw": "a line in the raw score, without published values",
    "percent": "a line in the per cent of the maximum score, without published values",
    "percentile": "a line in the percentile rank of the raw score in the norm group, without published values",
}
VARIABLES = {"normalised": "deviate", "raw": "raw score", "percent": "per cent", "percentile": "percentile rank"}
"""Names of x on the line of scores; otherwise θ."""
ROUNDING = {
    "half-up": "",
    "half-even": ", halves to the even multiple",
    "not-up-to-pass": ", below the pass mark if the score does not pass",
}
SCORE = ",.10g"
"""Format of scaled scores."""
PASSED: Mapping[bool | None, str | None] = {True: "pass", False: "fail", None: None}
SHARES = {"accuracy": "", "consistency": ".1%", "κ": ".2f", "false pass": ".1%", "false fail": ".1%"}


def reported_scores(facts: FormFacts) -> Iterator[Block]:
    """Yield the score table of the form, its changes and its errors, and how reliably learners pass or fail.

    A form of a scale without reported scores has no such sections.
    """
    reported = facts.reported
    if reported is None:
        return
    found, left_out = reported.table, reported.left_out
    uncounted = [f"items that do not count: {join_names(left_out)}"] if left_out else []
    if found is None:
        lead = Paragraph(prose(f"The form has no score table: {reported.why}."), "lead")
        blocks: tuple[Block, ...] = (lead, *([List(tuple(map(sentence, uncounted)))] if uncounted else []))
    else:
        unreleased = "the newest. No table is released yet, so no scores of the form can be handed out"
        text = f"Score table {found.table_id} of {found.month} is {'released' if reported.released else unreleased}."
        blocks = (
            Paragraph(text, "lead"),
            List(tuple(map(sentence, [found.passing_in_words, *uncounted, *found.remarks]))),
            _key_facts(found),
            score_table(found),
            *([Figures((_error_by_score(found),))] if np.ptp(found.table.scaled_se) else []),
        )
    yield Section("Scores", blocks, "scores")
    if reported.release and reported.released:
        yield Section("Changes by the newest table", tuple(_changes(reported.release, facts)), "changes")
    if (facts.scale.pass_theta if reported.by_theta else found and found.spec["mark"]) is not None:
        yield Section("Pass and fail", tuple(pass_and_fail(facts, reported)), "pass-and-fail")


def _key_facts(found: FormTable) -> Block:
    rules, n, mark, pass_theta = (found.spec[name] for name in ("rules", "n", "mark", "pass_theta"))
    slope, intercept, by = rules["score_slope"], rules["score_intercept"], rules.get("score_by")
    line, n_items = f"{slope:,.6g} · {VARIABLES.get(by, 'θ')}", f"{len(found.spec['items']):,}"
    if mark is not None:
        at = in_unit(by, (mark - intercept) / slope) if pass_theta is None else f"θ = {number(pass_theta)}"
        mark = f"{mark:,.10g} ({at}), for scores before rounding"
    return pairs(
        {
            "method": METHODS.get(found.method, f"raw scores are {found.method}"),
            "scaled score": f"{line} + {intercept:,.6g}".replace("+ -", "− "),
            "rounded to": f"multiples of {rules['score_step']:,.10g}{ROUNDING[rules.get('score_rounding', 'half-up')]}",
            "at least": f"{rules['score_lowest']:,.10g}" if rules["score_lowest"] > -MAX_REPORTED else None,
            "at most": f"{rules['score_highest']:,.10g}" if rules["score_highest"] < MAX_REPORTED else None,
            "pass mark": mark,
            "norm group": f"learners of {found.month}, n = {n:,}" if n else "no learner, so there are no percentiles",
            "items": n_items if by in UNITS else f"{n_items}, by the values published at the end of {found.month}",
        }
    )


def score_table(found: FormTable) -> Table:
    """Return the scores that each raw score gives."""
    formats = {
        "raw": "",
        "θ": ".2f",
        "SE of θ": ".2f",
        "unrounded": ",.2f",
        "scaled": SCORE,
        "SE of scaled": ",.2f",
        "percentile": ".1f",
    }
    raw, without_theta = range(found.table.raw.size), np.isnan(found.table.theta).all()
    columns = dict(zip(formats, [raw, *(getattr(found.table, name) for name in COLUMNS)], strict=False))
    for name in ("θ", "SE of θ") if without_theta else ():
        del formats[name]
    rows = zip(*(columns[name] for name in formats), map(PASSED.get, found.passes_or_none), strict=True)
    caption = f"Form {found.form_id}, table {found.table_id} of {found.month} ({found.method})"
    return table((*formats, "result"), rows, numbers=formats, caption=caption, small=True, sortable=True)


def _error_by_score(found: FormTable) -> Figure:
    """Draw the standard error of the scaled score over the scaled score, with the mark."""
    x, y, mark = found.table.scaled, found.table.scaled_se, found.spec["mark"]
    top = 1.15 * float(y.max())
    described = f"Standard error of the scaled score: {number(y.min(), 1)} to {number(y.max(), 1)}."
    chart = Chart(Chart.ends_of(x), (0.0, top), "scaled score", "standard error", described, height=190)
    if mark is not None:
        chart.line((mark, mark), (0.0, top), "grey", f"pass mark {mark:,.10g}", dash="dash", width=1.2)
    chart.points(x, y, joined=True)
    dashed = "" if mark is None else f" Dashed: the pass mark {mark:,.10g}."
    return Figure(chart, f"Standard error of each scaled score (conditional SEM).{dashed}")


def _changes(release: TableRelease, facts: FormFacts) -> Iterator[Block]:
    """Yield the raw scores whose score or pass differs by the newest table, and how many learners have them."""
    yield List(tuple(map(sentence, release.sentences)))
    old, new = release.before, release.table
    if old is None or new is None or old.table.raw.size != new.table.raw.size:
        return
    moved = (new.table.scaled != old.table.scaled) | (new.table.passes != old.table.passes)
    counts = facts.form.scores if len(facts.form.scores) == moved.size else [None] * moved.size
    results = [
        PASSED[was] if was == now else f"{PASSED[was]} → {PASSED[now]}"
        for was, now in zip(old.passes_or_none, new.passes_or_none, strict=True)
    ]
    columns = (old.table.scaled, new.table.scaled, new.table.unrounded - old.table.unrounded, results)
    rows = compress(zip(range(moved.size), counts, *columns, strict=True), moved)
    formats = {
        "raw": "",
        "learners": ",",
        f"table {old.table_id}": SCORE,
        f"table {new.table_id}": SCORE,
        "move, unrounded": "+,.2f",
    }
    caption = f"Raw scores with another scaled score or result; learners of {facts.month}"
    yield table((*formats, "result"), rows, numbers=formats, caption=caption, small=True, sortable=True)


def pass_and_fail(facts: FormFacts, reported: ReportedForm) -> Iterator[Block]:
    """Yield how often the decision is right, and how often it would be repeated, by each method."""
    rows, reasons = list[list[Any]](), list[str]()
    for names, classify in _methods(facts, reported):
        try:
            rows.append([*names, *_shares(classify())])
        except PsychometricsError as error:
            reasons.append(f"{names[0]}: {error}")
    if rows:
        method, *_, accuracy, consistency, _, false_pass, false_fail = rows[0]
        yield table(("method", "learners", "who should pass", *SHARES), rows, numbers=SHARES, small=True)
        yield Paragraph(
            f"How to read it: by {method}, {accuracy} of the learners get the result that their true score deserves. "
            f"{false_pass:.1%} pass although they should fail, and {false_fail:.1%} fail although they should pass. "
            f"{consistency:.1%} would get the same result on another form like this; κ is this agreement beyond "
            "chance."
            + " In brackets are 95 % intervals: by the errors of the items' values (Lee), or of the sample (Rudner)."
            * (len(rows) > 1)
        )
    elif not reasons:
        n, n_of_table = len(facts.form.scores), reported.table.table.raw.size if reported.table else 0
        other = "the table is for other items" if n else "not all learners have a score on all items"
        of_form = "nobody passes" if n == n_of_table else other
        why = "no score of the month is handed out" if reported.by_theta else of_form
        reasons.append(f"nothing can be said about the decisions of {facts.month}, because {why}")
    yield from (Paragraph(sentence(reason)) for reason in reasons)


def _methods(facts: FormFacts, reported: ReportedForm) -> list[tuple[list[str], Callable[[], Classification]]]:
    """The methods that apply: the name with the learners and who of them should pass, and the classification."""
    scale, found, counts = facts.scale, reported.table, facts.form.scores
    if found is None:
        theta, se = (np.array([getattr(score, name) for score in reported.issued]) for name in ("theta", "theta_se"))
        if scale.pass_theta is None or not theta.size:
            return []
        return [
            (
                ["Rudner", f"{theta.size:,} scores of {facts.month}", f"θ from {number(scale.pass_theta)}"],
                partial(Classification.from_abilities, theta, se, [scale.pass_theta]),
            )
        ]
    scores, cut, pass_theta = found.table, found.table.raw_cut, found.spec["pass_theta"]
    if cut is None or not any(counts) or len(counts) != scores.raw.size:
        return []
    raw, alpha = np.repeat(np.arange(scores.raw.size), counts), facts.form.statistics.get("alpha") or 0.0
    learners, of_raw = f"{facts.form.n:,} of {facts.month}", f"expected raw score from {cut}"
    livingston_lewis = (
        [f"Livingston and Lewis (α {number(alpha)})", learners, of_raw],
        partial(Classification.from_reliability, raw, alpha, [cut], max_score=float(scores.raw[-1])),
    )
    if pass_theta is None:
        return [livingston_lewis]
    items = facts.published.among(list(found.spec["items"]))
    return [
        (
            ["Lee", f"θ ~ N({scale.mu:g}, {scale.sigma:g}²)", of_raw],
            partial(Classification.from_items, items, [cut], mean=scale.mu, sd=scale.sigma),
        ),
        (
            ["Rudner", learners, f"θ from {number(pass_theta)}"],
            partial(Classification.from_abilities, scores.theta[raw], scores.se[raw], [pass_theta]),
        ),
        livingston_lewis,
    ]


def _shares(found: Classification) -> list[Cell]:
    accuracy, half = found.accuracy.item(), Z95 * found.accuracy_se.item()
    between = "" if np.isnan(half) else f" ({max(accuracy - half, 0):.1%} to {min(accuracy + half, 1):.1%})"
    others = (found.consistency, found.kappa, found.false_pass, found.false_fail)
    return [f"{accuracy:.1%}{between}", *(share.item() for share in others)]


def subscores(form: FormRow) -> Iterator[Section]:
    """Yield the topics with the share that their subscores predict, or why there are no subscores."""
    if form.no_subscores:
        yield Section("Subscores", (Paragraph(f"The form has no subscores: {form.no_subscores}."),), "subscores")
    if form.subscores:
        adding = [row.topic for row in form.subscores if row.adds_value]
        text = f"The scores on {join_names(adding)} predict the true score of their topic better than the total does."
        if not adding:
            text = (
                "The form has no subscores: the total score predicts each topic's true score better than its own does."
            )
        formats = {"items": ",", "by the subscore": ".3f", "by the total score": ".3f"}
        rows = [(*vars(row).values(), "yes" if row.topic in adding else "no") for row in form.subscores]
        caption = "Share of the variance of true subscores that is predicted (PRMSE; Haberman, 2008)"
        found = table(("topic", *formats, "subscore"), rows, numbers=formats, caption=caption, small=True)
        yield Section("Subscores", (Paragraph(text), found), "subscores")
