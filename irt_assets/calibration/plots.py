"""Plots of one calibration as PNG bytes, for asset metadata and reports.

Belongs here: drawing a `Calibration`, a `Linking` and an `Agreement`. Does not belong here: computing anything a test
would want to check, and plots of drift or learners. Figures are built without pyplot, so nothing is global and threads
do not meet.

Colours are two of Okabe & Ito's, which differ for every kind of colour vision; what they mean is also in the marker
or the line, so that a print in grey says the same. matplotlib is imported when something is drawn: every command and
server imports this module.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from irt_assets.gates.agreement import Agreement
from irt_assets.gates.early_warning import Difficulties
from irt_assets.psychometrics.core.anchors import AnchorSet
from irt_assets.psychometrics.core.confidence import Z95
from irt_assets.psychometrics.core.models import Calibration, Floats
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.psychometrics.fit.observed import Observed
from irt_assets.psychometrics.linking.linking import Linking, transform

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"
WIDTH = 9.0  # inches; at 100 dots an inch the 900 pixels that fit the pane in which Dagster shows them
_DPI = 100
_THETA = np.linspace(-4.0, 4.0, 161)
_MAX_CURVES = 9
_MAX_NAMED_ITEMS = 45  # more names than this do not fit under an axis of 9 inches
_MAX_LABELS = 12  # on each side of a scatter


class _Anchors(NamedTuple):
    """K anchors of a scatter; arrays of shape (K,). `named`: whether it moved in the parameter that is drawn."""

    sound: npt.NDArray[np.bool_]
    moved: npt.NDArray[np.bool_]
    dropped: npt.NDArray[np.bool_]
    named: npt.NDArray[np.bool_]
    names: Sequence[str]


def as_markdown(png: bytes, alt: str) -> str:
    """The image inside Markdown, as Dagster's metadata shows it."""
    return f"![{alt.replace('[', '(').replace(']', ')')}](data:image/png;base64,{base64.b64encode(png).decode()})"


def parameters_with_intervals(calibration: Calibration) -> bytes:
    """Difficulty and discrimination of every item with 95 % intervals, items in the order of their difficulty.

    Axes show where the bulk of the items lie; an item beyond is drawn at the edge as an arrow, its interval cut.
    """
    estimated = np.flatnonzero(calibration.estimated)
    order = estimated[np.argsort(calibration.b[estimated])]
    flagged = np.array([bool(calibration.flags[j]) for j in order], dtype=bool)
    figure = new_figure(6.4)
    top, bottom = figure.subplots(2, 1, sharex=True)
    columns = (
        (top, calibration.b, calibration.b_se, "difficulty b (SD of θ)"),
        (bottom, calibration.a, calibration.a_se, "discrimination a (1/θ)"),
    )
    for ax, value, se, label in columns:
        _intervals(ax, value[order], se[order], flagged)
        ax.set_ylabel(label)
        tidy(ax)
    bottom.axhline(0, color=GREY, linewidth=0.8)
    if 0 < order.size <= _MAX_NAMED_ITEMS:
        _name_ticks(bottom, [calibration.item_ids[j] for j in order])
        bottom.set_xlabel("item, easy to hard")
    else:
        bottom.set_xlabel("items, easy to hard (rank)")
        low, high = bottom.get_ylim()
        bottom.set_ylim(low - 0.14 * (high - low) * bool(flagged.any()), high)
        _name_some(bottom, [calibration.item_ids[j] for j in order], np.flatnonzero(flagged))
    missing = calibration.n_items - order.size
    title(
        figure,
        f"{order.size} items with 95 % intervals"
        + (f", {flagged.sum()} of them flagged (orange triangles)" if flagged.any() else "")
        + (f"; {missing} more could not be estimated" if missing else ""),
    )
    return as_png(figure)


def item_curves(
    calibration: Calibration, item_ids: Sequence[str], observed: Mapping[str, Observed] | None = None
) -> bytes:
    """Response curves of up to nine items, with the observed proportions where given (bars: 95 %)."""
    shown = list(item_ids)[:_MAX_CURVES]
    if not shown:
        return message("No item to show")
    n_columns = min(3, len(shown))
    n_rows = -(-len(shown) // n_columns)
    figure = new_figure(0.9 + 2.3 * n_rows)
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    place = {item: j for j, item in enumerate(calibration.item_ids)}
    for ax, item in zip(axes, shown, strict=False):
        _one_curve(ax, calibration, place.get(item), item, (observed or {}).get(item))
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    for ax in axes[max(len(shown) - n_columns, 0) : len(shown)]:
        ax.tick_params(labelbottom=True)  # the lowest panel of each column, also where the last row is not full
    figure.supxlabel("ability θ (SD of the population)", fontsize=9)
    figure.supylabel("probability of a correct answer", fontsize=9)
    more = f" (the first {len(shown)} of {len(item_ids)})" if len(item_ids) > len(shown) else ""
    title(figure, f"Response curves{more}" + ("; points: observed proportions" if observed else ""))
    return as_png(figure)


def test_information(calibration: Calibration) -> bytes:
    """Test information and the standard error of θ it allows, over θ; grey: the middle 95 % of the learners."""
    usable = calibration.estimated
    if not usable.any():
        return message("No item has parameters, so there is no information")
    total = calibration.select(usable).curves.information(_THETA).sum(axis=1)
    low = calibration.latent_mean - Z95 * calibration.latent_sd
    high = calibration.latent_mean + Z95 * calibration.latent_sd
    figure = new_figure(3.6)
    left, right = figure.subplots(1, 2)
    left.plot(_THETA, total, color=BLUE, linewidth=2)
    left.set_ylabel("test information (1/θ²)")
    left.set_ylim(bottom=0)
    with np.errstate(divide="ignore"):
        se = 1 / np.sqrt(total)
    right.plot(_THETA, se, color=BLUE, linewidth=2)
    right.set_ylabel("standard error of θ (SD)")
    right.set_ylim(0, min(1.0, 1.1 * float(se.max())))
    for ax in (left, right):
        ax.axvspan(max(low, _THETA[0]), min(high, _THETA[-1]), color="#ECECEC", zorder=0)
        ax.set_xlabel("ability θ (grey: middle 95 % of the learners)")
        ax.set_xlim(_THETA[0], _THETA[-1])
        tidy(ax)
    best = int(np.argmax(total))
    title(
        figure,
        f"All {usable.sum()} items together measure best at θ = {_THETA[best]:.1f}, with a standard error of"
        f" {se[best]:.2f}",
    )
    return as_png(figure)


test_information.__test__ = False  # type: ignore[attr-defined]  # pytest takes the name of the asset for a test


def ability_histogram(theta: Floats, se: Floats) -> bytes:
    """How many learners have which θ, and how well it is known along it."""
    figure = new_figure(3.2)
    left, right = figure.subplots(1, 2)
    left.hist(theta, bins=min(40, max(5, round(len(theta) ** 0.5))), color=BLUE)
    left.axvline(float(theta.mean()), color=ORANGE, linewidth=1.5)
    left.set_ylabel("learners")
    right.plot(theta, se, ".", color=BLUE, markersize=2, alpha=0.4)
    right.set_ylabel("standard error of θ")
    right.set_ylim(bottom=0)
    for ax in (left, right):
        ax.set_xlabel("ability θ")
        tidy(ax)
    title(
        figure,
        f"{len(theta):,} learners: mean θ {theta.mean():+.2f} (orange), SD {theta.std():.2f}, mean SE {se.mean():.2f}",
    )
    return as_png(figure)


def linking_scatter(new: Calibration, anchors: AnchorSet, linking: Linking, *, agree: bool) -> bytes:
    """The anchors' parameters in the anchor set against this fit's, after linking; on the line nothing changed.

    `new` is the fit before linking; `agree`: whether the anchors in use do. Dropped anchors are orange crosses, those
    off the line with their names; anchors in use that moved against the others are orange diamonds, named next to the
    parameter that moved.
    """
    linked = transform(new, linking)
    place = {item: j for j, item in enumerate(linked.item_ids)}
    rows = [(k, place[item]) for k, item in enumerate(anchors.item_ids) if item in place]
    rows = [(k, j) for k, j in rows if linked.estimated[j] and np.isfinite(linked.b[j])]
    k_rows, j_rows = (np.array([row[side] for row in rows], dtype=int) for side in (0, 1))
    used = np.array([anchors.item_ids[k] in linking.anchors_used for k in k_rows], dtype=bool)
    names = [anchors.item_ids[k] for k in k_rows]
    moved = np.array([linking.suspects.get(name, {}).get("parameter", "") for name in names], dtype="U1")

    figure = new_figure(5.0)
    axes = figure.subplots(1, 2)
    panels = (
        (axes[0], "b", anchors.b, anchors.b_se, linked.b, linked.b_se, "difficulty b (SD of θ)"),
        (axes[1], "a", anchors.a, anchors.a_se, linked.a, linked.a_se, "discrimination a (1/θ)"),
    )
    for ax, name, x, x_se, y, y_se, label in panels:
        kinds = _Anchors(used & (moved == ""), used & (moved != ""), ~used, moved == name, names)
        _scatter(ax, (x[k_rows], x_se[k_rows]), (y[j_rows], y_se[j_rows]), kinds)
        ax.set_xlabel(f"{label} in the anchor set")
        ax.set_ylabel(f"{label} in this fit, linked")
    verdict = "agree" if agree else "DISAGREE"
    unseen = len(anchors.item_ids) - len(rows)
    dropped = len(linking.anchors_dropped) - unseen
    n_moved = int(np.count_nonzero(used & (moved != "")))
    title(
        figure,
        f"{len(linking.anchors_used)} of {len(anchors.item_ids)} anchors used"
        + (f", {dropped} dropped (orange crosses)" if dropped > 0 else "")
        + (f", {n_moved} moved (orange diamonds)" if n_moved else "")
        + (f", {unseen} without estimate" if unseen else "")
        + f";\nthey {verdict} (Q = {linking.q:.0f}, df {linking.q_df}, p {_p(linking.q_p)})\n"
        f"slope {linking.slope:.3f} ± {linking.slope_se:.3f}, intercept {linking.intercept:+.3f} ±"
        f" {linking.intercept_se:.3f} (standard errors), {linking.method}",
    )
    return as_png(figure)


def agreement_scatter(agreement: Agreement, rules: Rules) -> bytes:
    """Difficulty and discrimination by two engines with 95 % intervals; on the line they agree. Items further apart
    than `rules.warnings.agreement_max_se` are orange diamonds, named next to the parameter that differs."""
    figure = new_figure(5.0)
    of = agreement.a, agreement.b
    apart = np.any([one.apart > rules.warnings.agreement_max_se for one in of], axis=0)
    no_items = np.zeros(len(agreement.item_ids), dtype=bool)
    panels = ((agreement.b, "difficulty b (SD of θ)"), (agreement.a, "discrimination a (1/θ)"))
    for ax, (one, label) in zip(figure.subplots(1, 2), panels, strict=True):
        kinds = _Anchors(~apart, apart, no_items, one.apart > rules.warnings.agreement_max_se, agreement.item_ids)
        _scatter(ax, (one.value[0], one.se[0]), (one.value[1], one.se[1]), kinds, differ=0.0)
        ax.set_xlabel(f"{label}, {agreement.engines[0]}")
        ax.set_ylabel(f"{label}, {agreement.engines[1]}")
    verdict = "DISAGREE" if agreement.problems(rules) else "agree"
    title(
        figure,
        f"{' and '.join(agreement.engines)} {verdict} on {len(agreement.item_ids)} items"
        + (f", {apart.sum()} of them far apart (orange diamonds)" if apart.any() else "")
        + f"\nroot mean squared difference: b {agreement.b.rmsd:.3f}, a {agreement.a.rmsd:.3f}",
    )
    return as_png(figure)


def difficulty_scatter(difficulties: Difficulties) -> bytes:
    """Difficulty as published against that of a night, with 95 % intervals; items that moved are orange diamonds with
    their names."""
    d, moved = difficulties, difficulties.moved
    figure = new_figure(5.0)
    ax = figure.subplots()
    kinds = _Anchors(~moved, moved, np.zeros_like(moved), moved, d.item_ids)
    _scatter(ax, (d.published, d.published_se), (d.night, d.night_se), kinds)
    ax.set_xlabel("difficulty b (SD of θ), published")
    ax.set_ylabel("difficulty b (SD of θ), this night, linked")
    named = f"{moved.sum()} of them moved (orange diamonds)" if moved.any() else "none of them moved"
    title(figure, f"{len(d.item_ids)} published items, {named}")
    return as_png(figure)


def _one_curve(ax: Axes, calibration: Calibration, j: int | None, item: str, observed: Observed | None) -> None:
    notes = []
    if j is not None and calibration.estimated[j]:
        ax.plot(_THETA, calibration.select([j]).curves.probability(_THETA), color=BLUE, linewidth=2)
        notes.append(f"a = {calibration.a[j]:.2f}, b = {calibration.b[j]:.2f}")
    else:
        notes.append("no parameters")
    if j is not None:
        notes += [str(flag.value).replace("_", " ") for flag in calibration.flags[j]]
        notes.append(f"n = {calibration.n[j]}, {calibration.n_correct[j]} correct")
    if observed is not None:
        p, (low, high) = observed.proportion, observed.interval()
        bars = [p - low, high - p]
        ax.errorbar(observed.theta, p, bars, fmt="o", color="black", markersize=3.5, elinewidth=1, zorder=3)
    ax.text(0.03, 0.97, "\n".join(notes), va="top", fontsize=7.5, transform=ax.transAxes, parse_math=False)
    ax.set_title(short(item, 30), fontsize=9, parse_math=False)
    ax.set_xlim(_THETA[0], _THETA[-1])
    ax.set_ylim(-0.02, 1.35)  # the room above 1 is for the notes
    ax.set_yticks([0, 0.5, 1])
    tidy(ax)


def _intervals(ax: Axes, value: Floats, se: Floats, flagged: npt.NDArray[np.bool_]) -> None:
    """Points with 95 % intervals against rank; an axis that holds the bulk, arrows at its edges for the rest."""
    from matplotlib.markers import CARETDOWN, CARETUP  # loaded with the figure

    rank = np.arange(1, value.size + 1)
    ax.set_xlim(0.3, max(value.size, 1) + 0.7)
    low, high = _bulk(value)
    ax.set_ylim(low, high)
    margin = 0.04 * (high - low)
    drawn = np.clip(value, low + margin, high - margin)
    half = np.where(np.isfinite(se), Z95 * se, 0.0)
    size = 5.0 if value.size <= _MAX_NAMED_ITEMS else 3.0
    styles: tuple[tuple[npt.NDArray[np.bool_], str, str], ...] = ((~flagged, BLUE, "o"), (flagged, ORANGE, "^"))
    for chosen, colour, marker in styles:
        inside = chosen & (drawn == value)
        ends = np.clip([value[chosen] - half[chosen], value[chosen] + half[chosen]], low, high)
        ax.vlines(rank[chosen], ends[0], ends[1], color=colour, linewidth=1.0, alpha=0.6)
        ax.plot(rank[inside], value[inside], marker, color=colour, markersize=size + (2 if marker == "^" else 0))
        for beyond, arrow in ((chosen & (value > drawn), CARETUP), (chosen & (value < drawn), CARETDOWN)):
            ax.plot(rank[beyond], drawn[beyond], marker=arrow, linestyle="", color=colour, markersize=9)


def _bulk(value: Floats) -> tuple[float, float]:
    """Limits that hold every value within 3 interquartile ranges of the quartiles, and some room."""
    finite = value[np.isfinite(value)]
    if finite.size == 0:
        return -1.0, 1.0
    q1, q3 = np.quantile(finite, [0.25, 0.75])
    reach = 3 * max(q3 - q1, 1.0)  # so that a negative discrimination is drawn where it is
    inside = finite[(finite >= q1 - reach) & (finite <= q3 + reach)]
    room = 0.12 * max(float(np.ptp(inside)), 0.5)
    return float(inside.min()) - room, float(inside.max()) + room


def _scatter(
    ax: Axes,
    x: tuple[Floats, Floats],
    y: tuple[Floats, Floats],
    anchors: _Anchors,
    differ: float = Z95,
) -> None:
    """`differ`: standard errors of the difference within which no point is named."""
    limits = _bulk(np.concatenate([x[0], y[0]]))
    ax.plot(limits, limits, color=GREY, linewidth=1, zorder=1)
    styles = ((anchors.sound, BLUE, "o"), (anchors.moved, ORANGE, "D"), (anchors.dropped, ORANGE, "X"))
    for chosen, colour, marker in styles:
        ax.errorbar(
            x[0][chosen], y[0][chosen], Z95 * y[1][chosen], Z95 * x[1][chosen], fmt=marker, color=colour,
            markersize={"o": 5, "D": 6, "X": 8}[marker], elinewidth=0.7, ecolor=colour, alpha=0.8,
            zorder=2 + (marker != "o"),
        )  # fmt: skip
    ax.set_xlim(*limits)
    ax.set_ylim(*limits)
    ax.set_aspect("equal", anchor="N")
    tidy(ax)
    inside = (x[0] > limits[0]) & (x[0] < limits[1]) & (y[0] > limits[0]) & (y[0] < limits[1])
    apart = np.abs(y[0] - x[0]) > differ * np.hypot(x[1], y[1])  # an anchor dropped for its b is not news among the a
    named = anchors.dropped & apart | anchors.moved & anchors.named
    _label(ax, x[0], y[0], np.flatnonzero(named & inside), anchors.names)
    beyond = int(np.count_nonzero(~inside))
    if beyond:
        ax.text(0.5, 0.02, f"{beyond} beyond the axes", ha="center", va="bottom", fontsize=7.5, transform=ax.transAxes)


def _label(ax: Axes, x: Floats, y: Floats, chosen: npt.NDArray[np.intp], names: Sequence[str]) -> None:
    """Names in the empty corners on both sides of the line, each tied to its point, none over another."""
    above = chosen[y[chosen] >= x[chosen]]
    below = chosen[y[chosen] < x[chosen]]
    for side, x_at, align in ((above, 0.03, "left"), (below, 0.97, "right")):
        ordered = side[np.argsort(-y[side])]
        labels = ordered[:_MAX_LABELS]
        top = 0.97 if align == "left" else 0.05 + 0.045 * len(labels)
        for line, k in enumerate(labels):
            ax.annotate(
                short(names[k], 16), (x[k], y[k]), (x_at, top - 0.045 * line), textcoords="axes fraction",
                ha=align, va="center", fontsize=7.5, color="black", parse_math=False,
                arrowprops={"arrowstyle": "-", "color": ORANGE, "linewidth": 0.5, "shrinkB": 4},
            )  # fmt: skip
        if len(ordered) > len(labels):
            at = top - 0.045 * len(labels)
            ax.text(x_at, at, f"and {len(ordered) - len(labels)} more", ha=align, fontsize=7.5, transform=ax.transAxes)


def _name_ticks(ax: Axes, names: Sequence[str]) -> None:
    ax.set_xticks(np.arange(1, len(names) + 1))
    ax.set_xticklabels([short(name, 12) for name in names], rotation=90, fontsize=7, parse_math=False)


def _name_some(ax: Axes, names: Sequence[str], ranks: npt.NDArray[np.intp]) -> None:
    """The names of a few items along the lower edge, at their ranks; those that would overlap are left out."""
    gap = len(names) / 12
    last = -np.inf
    for rank in ranks:
        if rank - last >= gap:
            at_left, at_right = rank < gap / 2, rank > len(names) - gap / 2
            ax.text(
                rank + 1, 0.02, short(names[rank], 12), ha="left" if at_left else "right" if at_right else "center",
                va="bottom", fontsize=7, color="black", transform=ax.get_xaxis_transform(), parse_math=False,
            )  # fmt: skip
            last = rank


def message(text: str) -> bytes:
    figure = new_figure(1.2)
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=11)
    return as_png(figure)


def new_figure(height: float) -> Figure:
    """An empty figure of the usual width; `height` in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # a second, only for who draws
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def title(figure: Figure, text: str) -> None:
    figure.suptitle(text, fontsize=10.5, x=0.01, ha="left", parse_math=False)


def tidy(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=True, color="#E4E4E4", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8)
    ax.xaxis.label.set_fontsize(9)
    ax.yaxis.label.set_fontsize(9)


def _p(p: float) -> str:
    return f"= {p:.3f}" if p >= 0.001 else "< 0.001"


def short(name: str, length: int) -> str:
    """An id that fits and that the font can draw: any text is a valid id."""
    drawable = "".join(ch if ord(ch) in _glyphs() else "□" for ch in name)
    return drawable if len(drawable) <= length else drawable[: length - 1] + "…"


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font  # loaded with the figure

    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def as_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
