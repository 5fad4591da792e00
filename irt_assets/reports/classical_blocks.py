"""Blocks on item analysis by classical test theory: an item's statistics, its options, and keys that look wrong.

The pages of an item and of a form show them.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from irt_assets.blocks import Badge, Cell, Figure, Pairs, Table, number, pairs, table, value_with_error
from irt_assets.common.wording import join_names, shorten
from irt_assets.item_analysis.key_evidence import key_warning
from irt_assets.item_analysis.stored import ItemRow
from irt_psychometrics.itemfit import Observed
from irt_psychometrics.plots import Chart

REST_SCORES = {
    "sum": "rest score (sum of the other scores)",
    "share": "rest score (mean of the other items, standardised within the form)",
    "theta": "θ from the other items",
}
FLAGS = {
    "above_key": "above the key",
    "min_option_share": "chosen by few",
    "min_facility": "hard",
    "max_facility": "easy",
    "min_item_rest": "low item-rest r",
    "equals_rest": "equals the rest",
    "speeded": "many did not reach it",
}
"""Flags in words, by the name of the rule or of the finding. `key_warning` is the sentence on the others."""
SHAPES = ("circle", "diamond", "square", "triangle", "cross")
MODEL_ABILITY = "ability of the month's learners, in SDs from their mean"
THIRDS = ("lower third", "middle", "upper")


def key_warnings(items: Iterable[ItemRow]) -> tuple[str, ...]:
    """The warnings of the items whose key an option beats, each after the item's name."""
    return tuple(f"{item.item_id}: {warning}" for item in items if (warning := key_warning(item)))


def flags_in_words(flags: Sequence[str]) -> str | None:
    """The flags of an item or of an option, in words. Returns None if it has no flag."""
    return "; ".join(FLAGS[flag] for flag in flags if flag in FLAGS) or None


def discrimination(item: ItemRow) -> float | None:
    """The index D of the item, upper − lower 27 %."""
    return None if item.lower is None or item.upper is None else item.upper - item.lower


def statistics(item: ItemRow) -> Pairs:
    """Return the classical statistics of an item; unknown ones are left out."""
    mean = "p (proportion correct)" if item.max_score == 1 else "mean as a share of the maximum"
    share = 100 / max(item.presented, 1)
    known = {
        "presented": f"{item.presented:,} learners, {item.presented - item.omitted - item.not_reached:,} answered",
        "omitted": f"{item.omitted:,} ({item.omitted * share:.1f} %)",
        "not reached": f"{item.not_reached:,} ({item.not_reached * share:.1f} %)",
        mean: value_with_error(item.facility, item.facility_se, 3),
        "mean and SD": f"{number(item.mean)} of {item.max_score}, SD {number(item.sd)}",
        "item-rest r": number(item.item_rest, 3) + (f", biserial {number(item.biserial, 3)}" if item.biserial else ""),
        "α without the item": number(item.alpha_if_deleted, 3) if item.alpha_if_deleted is not None else None,
        "D (upper − lower 27 %)": f"{number(discrimination(item))}: {number(item.upper)} − {number(item.lower)}",
        "response time": f"median {item.time_median:.0f} s, 5–95 %: {number(item.time_low, 0)} to "
        f"{number(item.time_high, 0)} s"
        if item.time_median is not None
        else None,
        "rapid guesses": None if item.rapid is None else f"{100 * item.rapid:.1f} %",
        "r and D are with": REST_SCORES[item.rest],
        "flags": flags_in_words(item.flags),
    }
    return pairs(known, small=True)


def options_table(item: ItemRow) -> Table:
    """Return a table of the options, or of the scores of an item without options."""
    formats = {"n": ",", "share": ".1%", "r": ".3f"} | dict.fromkeys(THIRDS, ".1%")
    rest = "mean θ" if item.rest == "theta" else "mean rest"
    formats[rest] = ".2f"
    subject = "option" if item.key else "score"
    rows: list[tuple[Cell, ...]] = [
        (
            (shorten(option.option, 20), " ", Badge("key", "good")) if item.key and option.is_key else option.option,
            option.n,
            option.share,
            option.rest_correlation,
            *(*option.thirds, None, None, None)[:3],
            option.mean_rest,
            flags_in_words(option.flags),
        )
        for option in item.options
    ]
    caption = f"Each {subject}: its correlation r with the rest score, and its share in the thirds of the learners"
    return table((subject, *formats, "flag"), rows, numbers=formats, caption=caption, small=True)


def trace_lines(item: ItemRow) -> Figure:
    """Draw the share of each option, or score, by rest score with 95 % intervals, on one chart. The key is wider."""
    subject = "option" if item.key else "score"
    described = f"Share of each {subject} of item {shorten(item.item_id)} by rest score, with 95 % intervals."
    ends = Chart.ends_of([point.rest for option in item.options for point in option.trace])
    chart = Chart(ends, (0.0, 1.0), REST_SCORES[item.rest], "share of the learners", described, height=190)
    rows, last = [], []
    for k, option in enumerate(item.options):
        is_key = bool(item.key) and option.is_key
        name = f"{subject} {shorten(option.option, 20)}" + (" (key)" if is_key else "")
        style: dict[str, Any] = {"colour": Chart.SERIES[k % len(Chart.SERIES)], "shape": SHAPES[k % len(SHAPES)]}
        x, n, y = (np.array([getattr(point, each) for point in option.trace]) for each in ("rest", "n", "share"))
        low, high = Observed(x, y, n).interval()
        titles = [f"{name}: {point.share:.2f} of {point.n} learners" for point in option.trace]
        chart.points(x, y, name=name, low=low, high=high, titles=titles, joined=True, **style)
        if is_key:
            chart.line(x, y, style["colour"], width=2.6)
        rows += [
            (option.option, point.rest, point.n, point.share, *ends)
            for point, *ends in zip(option.trace, low, high, strict=True)
        ]
        last += [(point.rest, point.share, option.option) for point in option.trace[-1:]]
    if last:
        chart.names(*map(list, zip(*last, strict=True)))
    formats = {"rest score": ".2f", "learners": ",", "share": ".2f", "95 % from": ".2f", "to": ".2f"}
    numbers = table((subject, *formats), rows, numbers=formats, caption="The points of the chart", small=True)
    key = " The wide line is the key." if item.key else ""
    return Figure(chart, f"Choices by ability.{key} Bars: 95 %.", numbers=numbers)


def option_curves(item: ItemRow) -> tuple[Figure, ...]:
    """Draw the probability of each option by the nominal model, in the colours of `trace_lines`.

    Returns () if the item has no curves.
    """
    if not item.curves:
        return ()
    z, place = np.linspace(-3, 3, 61), {option.option: k for k, option in enumerate(item.options)}
    slopes, intercepts = ([getattr(curve, name) for curve in item.curves] for name in ("slope", "intercept"))
    p = softmax(np.outer(z, slopes) + intercepts, axis=1)
    described = f"Probability of each option of item {shorten(item.item_id)} by the nominal model."
    chart = Chart((-3.0, 3.0), (0.0, 1.0), MODEL_ABILITY, "probability of the option", described, height=190)
    for curve, of_option in zip(item.curves, p.T, strict=True):
        colour = Chart.SERIES[place[curve.option] % len(Chart.SERIES)]
        name = f"option {shorten(curve.option, 20)}" + " (key)" * curve.is_key
        chart.line(z, of_option, colour, name, width=2.6 if curve.is_key else 1.8)
    chart.names([3.0] * len(p.T), p[-1].tolist(), [curve.option for curve in item.curves])
    rows = [
        (
            curve.option,
            value_with_error(curve.slope, curve.slope_se),
            value_with_error(curve.intercept, curve.intercept_se),
        )
        for curve in item.curves
    ]
    numbers = table(("option", "slope", "intercept"), rows, caption="Options in the nominal model", small=True)
    return (Figure(chart, f"Choices by the nominal model. {_information_in_words(item)}", numbers=numbers),)


def _information_in_words(item: ItemRow) -> str:
    """Write a sentence on the information that the wrong options add to right and wrong."""
    at, known, added = (
        join_names(number(getattr(point, name), digits) for point in item.information)
        for name, digits in (("theta", 0), ("right_wrong", 2), ("distractors", 2))
    )
    return f"At {at} SD, which wrong option was chosen adds {added} to the information in right and wrong, {known}."
