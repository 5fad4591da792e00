"""Pictures of a calibration, its linking, its abilities and its agreement with other fits, for asset metadata."""

from collections.abc import Mapping, Sequence

import numpy as np

from irt_assets.blocks import chance
from irt_assets.charts import (
    ESTIMATE_STYLE,
    MAX_NAMES,
    ability_chart,
    rank_chart,
    response_axis_label,
    robust_limits,
    scatter_chart,
)
from irt_assets.common.intervals import Z95
from irt_assets.common.wording import with_capital
from irt_assets.gates.agreement import Agreement
from irt_assets.gates.early_warning import Difficulties
from irt_assets.scales.rules import Rules
from irt_psychometrics import Calibration
from irt_psychometrics.itemfit import Observed
from irt_psychometrics.items import ItemRow
from irt_psychometrics.linking import AnchorSet, Linking
from irt_psychometrics.plots import Chart, Picture

B, A = "difficulty b (SD of θ)", "discrimination a (1/θ)"
_THETA = np.linspace(-4.0, 4.0, 81)


def parameters_with_intervals(calibration: Calibration) -> Picture:
    """Draw difficulty and discrimination of every item with 95 % intervals, ordered by difficulty.

    Axes cover the bulk of the items. An item beyond an axis is an arrow at its edge, and its interval is cut.
    """
    estimated = np.flatnonzero(calibration.estimated)
    order = estimated[np.argsort(calibration.b[estimated])]
    kinds = ["flagged" if calibration.flags[j] else "" for j in order]
    flagged = np.flatnonzero(kinds)
    named = [(k, calibration.item_ids[order[k]]) for k in flagged[:MAX_NAMES]]
    charts = [
        rank_chart(
            ("items, easy to hard (rank)", label), label, value, Z95 * se, kinds, robust_limits(value), named=named
        )
        for label, value, se in (
            (B, calibration.b[order], calibration.b_se[order]),
            (A, calibration.a[order], calibration.a_se[order]),
        )
    ]
    missing = calibration.n_items - order.size
    return Picture(
        f"{order.size} items with 95 % intervals"
        + (f", {flagged.size} of them flagged (orange triangles)" if flagged.size else "")
        + (f"; {missing} more could not be estimated" if missing else ""),
        charts,
    )


def item_curves(calibration: Calibration, item_ids: Sequence[str]) -> Picture:
    """Draw the response curves of estimated items."""
    charts = []
    for item in item_ids:
        j = calibration.item_ids.index(item)
        scored = calibration.n_categories[j] > 2
        y_label = response_axis_label(scored=bool(scored))
        full = "with full credit" if scored else "correct"
        chart = ability_chart(
            _THETA, y_label, f"Response curve of {item}", 1.5
        )  # up to 1.5 to leave room for the notes
        chart.line(_THETA, calibration.select([j]).curves.probability(_THETA)[:, 0], **ESTIMATE_STYLE)
        chart.heading, chart.y_names = Chart.shortened(item, 30), {0.0: "0", 0.5: "0.5", 1.0: "1"}
        chart.notes = [
            ", ".join(f"{name} = {value:.2f}" for name, (value, _) in _item_row(calibration, j).in_brief.items()),
            *(str(flag.value).replace("_", " ") for flag in calibration.flags[j]),
            f"n = {calibration.n[j]}, {calibration.n_correct[j]} {full}",
        ]
        charts.append(chart)
    return Picture("Response curves", charts, min(3, len(charts)))


def category_curves(calibration: Calibration, seen: Mapping[str, Observed]) -> Picture:
    """Draw the probability of each score of scored items, one line per score, and the observed shares."""
    charts = []
    for item, found in seen.items():
        j = calibration.item_ids.index(item)
        row = _item_row(calibration, j)
        chart = ability_chart(_THETA, "probability of each score", f"Category curves of {item}", 1.0, height=230)
        chart.heading = Chart.shortened(item, 30)
        for score, curve in enumerate(row.score_probabilities(_THETA)):
            colour = Chart.SERIES[score % len(Chart.SERIES)]
            shares = found.of_score(score)
            chart.line(_THETA, curve, colour, f"score {score}")
            chart.points(found.theta, shares.proportion, colour, "", *shares.interval())
        charts.append(chart)
    most = max(len(found.by_score.n) for found in seen.values() if found.by_score)
    named = ", ".join(f"{Chart.SERIES[score % len(Chart.SERIES)]} {score}" for score in range(most))
    return Picture(
        f"Each score's curve ({named}); dots: observed, by ability from the other items, with 95 %", charts, 2
    )


def _item_row(calibration: Calibration, j: int) -> ItemRow:
    return ItemRow(float(calibration.a[j]), float(calibration.b[j]), further=calibration.further_of(j))


def test_information(calibration: Calibration) -> Picture:
    """Draw test information and the resulting standard error of θ. The middle 95 % of the learners is grey."""
    usable = calibration.estimated
    if not usable.any():
        return Picture("No item has parameters, so there is no information")
    total = calibration.select(usable).curves.information(_THETA).sum(axis=1)
    low = max(calibration.latent_mean - Z95 * calibration.latent_sd, _THETA[0])
    high = min(calibration.latent_mean + Z95 * calibration.latent_sd, _THETA[-1])
    with np.errstate(divide="ignore"):
        se = 1 / np.sqrt(total)
    population = " (grey: middle 95 % of the learners)"
    charts = [
        ability_chart(_THETA, label, label, top, population, height=230)
        .line(_THETA, y, **ESTIMATE_STYLE)
        .stretch(low, high)
        for y, label, top in (
            (total, "test information (1/θ²)", 1.08 * float(total.max())),
            (se, "standard error of θ (SD)", min(1.0, 1.1 * float(se.max()))),
        )
    ]
    best = int(np.argmax(total))
    return Picture(
        f"All {usable.sum()} items together measure best at θ = {_THETA[best]:.1f}, with a standard error of"
        f" {se[best]:.2f}",
        charts,
        2,
    )


test_information.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it as a test


def linking_scatter(
    new: Calibration, anchors: AnchorSet, linking: Linking, *, agree: bool, disagreement: str
) -> Picture:
    """Draw the anchors' parameters in the anchor set against their linked parameters in this fit.

    Anchors on the diagonal did not change. Dropped anchors are orange crosses, with names if their values differ by
    more than the 95 % intervals. Used anchors that moved against the others are orange triangles, with names in the
    chart of the parameter that moved.

    Parameters
    ----------
    new
        The fit before linking.
    anchors
        The anchor set.
    linking
        The linking of `new` to the anchors.
    agree
        Whether the used anchors agree with each other.
    disagreement
        The reason why the anchors cannot link the fit; empty if they can. The title contains it.

    Returns
    -------
    Picture
        A chart of b and a chart of a.
    """
    linked = linking.transform(new)
    position = {item: j for j, item in enumerate(linked.item_ids)}
    rows = [(k, position[item]) for k, item in enumerate(anchors.item_ids) if item in position]
    rows = [(k, j) for k, j in rows if linked.estimated[j] and np.isfinite(linked.b[j])]
    k_rows, j_rows = (np.array([row[side] for row in rows], dtype=int) for side in (0, 1))
    names = [anchors.item_ids[k] for k in k_rows]
    moved = [linking.suspects.get(name, {}).get("parameter", "") for name in names]
    kinds = [
        "left out" if name not in linking.anchors_used else "moved" if parameter else ""
        for name, parameter in zip(names, moved, strict=True)
    ]
    charts = []
    for name, old, old_se, now, now_se, label in (
        ("b", anchors.b, anchors.b_se, linked.b, linked.b_se, B),
        ("a", anchors.a, anchors.a_se, linked.a, linked.a_se, A),
    ):
        x, x_half, y, y_half = old[k_rows], Z95 * old_se[k_rows], now[j_rows], Z95 * now_se[j_rows]
        differs = np.abs(y - x) > np.hypot(x_half, y_half)  # a dropped anchor is named only if it differs here
        named = [
            (k, names[k]) for k, kind in enumerate(kinds) if (differs[k] if kind == "left out" else moved[k] == name)
        ]
        labels = f"{label} in the anchor set", f"{label} in this fit, linked"
        charts.append(
            scatter_chart(
                labels, label, x, y, kinds, robust_limits(x, y), x_half=x_half, y_half=y_half, plain="used", named=named
            )
        )
    unseen = len(anchors.item_ids) - len(rows)
    dropped = len(linking.anchors_dropped) - unseen
    return Picture(
        f"{len(linking.anchors_used)} of {len(anchors.item_ids)} anchors used"
        + (f", {dropped} left out (orange crosses)" if dropped > 0 else "")
        + (f", {kinds.count('moved')} moved (orange triangles)" if "moved" in kinds else "")
        + (f", {unseen} without estimate" if unseen else "")
        + f"; those used {'agree' if agree else 'DISAGREE'} (Q = {linking.q:.0f}, df {linking.q_df}, "
        f"p = {chance(linking.q_p)}, τ {linking.tau:.2f})\n"
        + (f"{with_capital(disagreement)}\n" if disagreement else "")
        + f"slope {linking.slope:.3f} ± {linking.slope_se:.3f}, intercept {linking.intercept:+.3f} ±"
        f" {linking.intercept_se:.3f} (standard errors), {linking.method}",
        charts,
        2,
    )


def agreement_scatter(agreement: Agreement, rules: Rules) -> Picture:
    """Draw difficulty and discrimination by two engines with 95 % intervals and the line of equal values.

    Items that differ by more than `rules.warnings.agreement_max_se` standard errors are orange triangles, with names
    next to the parameter that differs.
    """
    limit = rules.warnings.agreement_max_se
    differs = np.any([comparison.standardized > limit for comparison in (agreement.a, agreement.b)], axis=0)
    kinds = ["far apart" if comparison else "" for comparison in differs]
    charts = []
    for comparison, label in ((agreement.b, B), (agreement.a, A)):
        labels = f"{label}, {agreement.engines[0]}", f"{label}, {agreement.engines[1]}"
        (x, y), (x_se, y_se) = comparison.value, comparison.se
        named = [(k, agreement.item_ids[k]) for k in np.flatnonzero(comparison.standardized > limit)]
        charts.append(
            scatter_chart(
                labels, label, x, y, kinds, robust_limits(x, y), x_half=Z95 * x_se, y_half=Z95 * y_se, named=named
            )
        )
    verdict = "DISAGREE" if agreement.problems(rules) else "agree"
    return Picture(
        f"{' and '.join(agreement.engines)} {verdict} on {len(agreement.item_ids)} items"
        + (f", {differs.sum()} of them far apart (orange triangles)" if differs.any() else "")
        + f"\nroot mean squared difference: b {agreement.b.rmsd:.3f}, a {agreement.a.rmsd:.3f}",
        charts,
        2,
    )


def difficulty_scatter(difficulties: Difficulties) -> Picture:
    """Draw published difficulties against a night's, with 95 % intervals. Moved items are named orange triangles."""
    d, moved = difficulties, difficulties.moved
    chart = scatter_chart(
        (f"{B}, published", f"{B}, this night, linked"),
        B,
        d.published,
        d.night,
        ["moved" if is_moved else "" for is_moved in moved],
        robust_limits(d.published, d.night),
        x_half=Z95 * d.published_se,
        y_half=Z95 * d.night_se,
        named=[(k, d.item_ids[k]) for k in np.flatnonzero(moved)],
    )
    moved_text = f"{moved.sum()} of them moved (orange triangles)" if moved.any() else "none has moved"
    return Picture(f"{len(d.item_ids)} published items, {moved_text}", [chart])
