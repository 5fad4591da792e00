"""Figures of calibrations, scores and comparisons, drawn from the library's results.

Bands and bars are 95 % intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.confidence import Z95
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_sources import ItemSource, find_calibration, require_items
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.logistic import expit, logit
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.results import Result
from irt_psychometrics.information.functions import conditional_se, item_information as information_of_items
from irt_psychometrics.itemfit import Observed
from irt_psychometrics.plots.axes import CHOICES, shortened
from irt_psychometrics.plots.chart import Chart, Picture

if TYPE_CHECKING:
    from irt_psychometrics.dif import Dif
    from irt_psychometrics.drift import Drift
    from irt_psychometrics.itemfit import ItemFit
    from irt_psychometrics.linking import Linking
    from irt_psychometrics.scoring import Scores

SIZE: dict[str, Any] = {"width": 640, "height": 320}
NODES = 121
MAX_CURVES = 8
"""Maximum number of information curves with a colour and a name. Further curves are grey."""
MAX_ROWS = 60
"""Maximum number of items in a figure with one row per item."""
MAX_MARKS, BANDS, MAX_NAMED = 40, 16, 2
"""Largest number of items of a Wright map with a mark each, number of bands of more items, and largest number of items
of a band with names."""
ID_LENGTH = 24
THETA = "ability θ"
SOUND: dict[str, Any] = {"colour": "blue", "shape": "circle"}
ODD: dict[str, Any] = {"colour": "orange", "shape": "triangle", "size": 3.4}


def item_curves(
    fit: ItemSource,
    items: str | Sequence[str],
    *,
    responses: Responses | None = None,
    each_score: bool = False,
    theta: npt.ArrayLike | None = None,
) -> Chart:
    """Draw response curves with 95 % bands.

    A curve is the probability of a right answer, or the expected score as a share of the maximum score. The pointwise
    band follows from the covariance of all item parameters by the delta method on the logit. Items without standard
    errors have no band.

    Parameters
    ----------
    fit
        A fit, or items.
    items
        One item id or several.
    responses
        If given, observed proportions are drawn, too, with 95 % intervals. Persons are grouped by ability, estimated
        from the answers to the other items.
    each_score
        Whether to draw the probability of each score instead; for one item.
    theta
        Shape (T,), increasing abilities. None: ±4 SD around the population's mean; items without a fit have N(0, 1).

    Returns
    -------
    Chart
        The figure.

    Raises
    ------
    PsychometricsError
        If an item is not in the fit or has no parameters, if `each_score` is used with several items, or if `theta` is
        not increasing and finite.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics import plots
    >>> bank = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 2, 1], "b": [-1, 0, 1]})
    >>> plots.item_curves(bank, ["q1", "q2"])
    <Chart: Response curves of q1, q2>
    """
    wanted = [items] if isinstance(items, str) else list(items)
    known = _parameters(fit, wanted)
    at = _abilities(fit, theta)
    seen = [_empirical_curve(fit, responses, item) for item in wanted]
    if each_score:
        if len(wanted) != 1:
            raise PsychometricsError("the curves of each score are drawn for one item: give one id")
        return _score_curves(known, wanted[0], at, seen[0])
    scored = bool((known.curves.categories > 2).any())
    label = "score as a share of the maximum" if scored else "probability correct"
    chart = Chart(_ends(at), (0.0, 1.0), THETA, label, f"Response curves of {_list_names(wanted)}", **SIZE)
    for k, item in enumerate(wanted):
        p, low, high = _curve(known.select([item]), at)
        style = _style(k)
        chart.line(at, p, name=shortened(item, ID_LENGTH), low=low, high=high, **style)
        found = seen[k]
        if found is not None:
            _add_observed(chart, found, "observed" if len(wanted) == 1 else "", k, style["colour"])
    return chart


def _score_curves(known: ItemParameters, item: str, at: Floats, seen: Observed | None) -> Chart:
    """Draw the probability of each score of one item."""
    described = f"Probability of each score of {shortened(item, ID_LENGTH)}"
    chart = Chart(_ends(at), (0.0, 1.0), THETA, "probability", described, heading=shortened(item, 60), **SIZE)
    for score, (p, low, high) in enumerate(_curves_of_scores(known, at)):
        style = _style(score)
        chart.line(at, p, name=f"score {score}", low=low, high=high, **style)
        if seen is not None:
            of_score = seen.of_score(score) if seen.by_score is not None else _for_score(seen, score)
            _add_observed(chart, of_score, "", score, style["colour"])
    return chart


def _for_score(seen: Observed, score: int) -> Observed:
    return seen if score == 1 else Observed(seen.theta, 1 - seen.proportion, seen.n)


def _add_observed(chart: Chart, found: Observed, name: str, k: int, colour: str) -> None:
    titles = [f"{p:.2f} of {n} answers" for p, n in zip(found.proportion, found.n, strict=True)]
    shapes = CHOICES["shape"]
    style: dict[str, Any] = {"colour": "black" if name else colour, "shape": shapes[k % len(shapes)]}
    chart.points(found.theta, found.proportion, name=name, titles=titles, **_bars(*found.interval()), **style)


def item_information(
    fit: ItemSource, items: Sequence[str] | None = None, *, theta: npt.ArrayLike | None = None
) -> Chart:
    """Draw the Fisher information of each item about θ, in 1/θ².

    Parameters
    ----------
    fit
        A fit, or items.
    items
        Item ids. None: all items, of which the eight most informative have colours and names.
    theta
        Shape (T,), increasing abilities. None: ±4 SD around the population's mean; items without a fit have N(0, 1).

    Returns
    -------
    Chart
        The figure.

    Raises
    ------
    PsychometricsError
        If an item is not in the fit or has no parameters, or if `theta` is not increasing and finite.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics import plots
    >>> bank = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 2, 1], "b": [-1, 0, 1]})
    >>> plots.item_information(bank)
    <Chart: Information of 3 items by ability>
    """
    at = _abilities(fit, theta)
    known = _parameters(fit, items)
    information = information_of_items(at, known.curves)
    order = np.argsort(-information.max(axis=0), kind="stable")
    first = order[:MAX_CURVES] if items is None else np.arange(len(known.item_ids))
    top = 1.08 * float(information.max(initial=0.0)) or 1.0
    described = f"Information of {len(known.item_ids)} items by ability"
    chart = Chart(_ends(at), (0.0, top), THETA, "information (1/θ²)", described, **SIZE)
    for j in np.setdiff1d(order, first):
        chart.line(at, information[:, j], "grey", width=0.6)
    for k, j in enumerate(first):
        chart.line(at, information[:, j], name=shortened(known.item_ids[j], ID_LENGTH), **_style(k))
    return chart


def test_information(fit: ItemSource, *, theta: npt.ArrayLike | None = None) -> Picture:  # noqa: PT028 - no test
    """Draw the information of all items together, and the standard error of θ that follows, 1/√information.

    The middle 95 % of a fit's population is grey.

    Parameters
    ----------
    fit
        A fit, or items.
    theta
        Shape (T,), increasing abilities. None: ±4 SD around the population's mean; items without a fit have N(0, 1).

    Returns
    -------
    Picture
        Two charts: information and standard error.

    Raises
    ------
    PsychometricsError
        If no item has parameters, or if `theta` is not increasing and finite.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics import plots
    >>> bank = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 2, 1], "b": [-1, 0, 1]})
    >>> plots.test_information(bank)
    <Picture of 2 charts: 3 items measure best at θ = 0.0, with a standard error of 0.85>
    """
    at = _abilities(fit, theta)
    known = _parameters(fit, None)
    total = information_of_items(at, known.curves).sum(axis=1)
    return information_picture(at, total, len(known.item_ids), _middle(fit, at))


def information_picture(
    theta: Floats, total: Floats, n_items: int, middle: Sequence[tuple[float, float]] = ()
) -> Picture:
    """Draw test information and the standard error of θ.

    Parameters
    ----------
    theta, total
        Shape (T,), increasing abilities, and the information of the test.
    n_items
        Number of items.
    middle
        Ranges of θ that are drawn grey: the middle 95 % of the population.
    """
    se = conditional_se(total)
    best = int(np.argmax(total))
    charts = []
    for y, label, top in (
        (total, "test information (1/θ²)", 1.08 * float(total.max())),
        (se, "standard error of θ", min(1.1 * float(se.max()), 4 * float(se.min()))),
    ):
        chart = Chart(_ends(theta), (0.0, top), THETA, label, f"{label} of {n_items} items", height=280)
        for low, high in middle:
            chart.stretch(low, high)
        charts.append(chart.line(theta[y <= top], y[y <= top]))
    note = " (grey: the middle 95 % of the population)" if middle else ""
    title = f"{n_items} items measure best at θ = {theta[best]:.1f}, with a standard error of {se[best]:.2f}"
    return Picture(title.replace("-", "−") + note, charts, 2)


test_information.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it as a test


def wright_map(fit: ItemSource, scores: Scores | Result | npt.ArrayLike | None = None) -> Chart:
    """Draw persons and items on one scale: a histogram of abilities on the left, items by difficulty on the right.

    More than 40 items are drawn as numbers of items in bands of difficulty, with the names if a band has at most two.

    Parameters
    ----------
    fit
        A fit, or items. Items are drawn at b; names without room are left out.
    scores
        Scores or abilities of persons. None: the population is drawn.

    Returns
    -------
    Chart
        The figure.

    Raises
    ------
    PsychometricsError
        If no item has parameters.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics import plots
    >>> bank = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 2, 1], "b": [-1, 0, 1]})
    >>> plots.wright_map(bank, [-0.5, 0.0, 0.7])
    <Chart: 3 items and the persons on one scale>
    """
    known = _parameters(fit, None)
    b = known.b
    theta = _finite(scores)
    mean, sd = _population(fit)
    people = (theta.min(), theta.max()) if theta.size else (mean - 3 * sd, mean + 3 * sd)
    height = 430
    ends = Chart.ends_of(people, np.clip(b, mean - 6 * sd, mean + 6 * sd))
    described = f"{len(b)} items and the persons on one scale"
    names = {-0.5: "persons" if theta.size else "population", 0.5: "items"}
    chart = Chart((-1.0, 1.0), ends, "", THETA, described, width=640, height=height, x_names=names)
    if theta.size:
        edges = _edges(theta)
        n, _ = np.histogram(theta, edges)
        chart.boxes(-0.9 * n / n.max(), edges[:-1], np.zeros(n.size), edges[1:], hatched=True)
    else:
        at = np.linspace(*ends, NODES)
        chart.line(-0.9 * np.exp(-0.5 * ((at - mean) / sd) ** 2), at)
    chart.line([0, 0], ends, "grey", width=0.8)
    if len(b) > MAX_MARKS:
        return _add_bands(chart, np.clip(b, *ends), known.item_ids)
    places, named = _places_of_names(b, [*map(str, known.item_ids)], (ends[1] - ends[0]) / (height - 28))
    titles = [f"{item}: b = {value:.2f}" for item, value in zip(known.item_ids, b, strict=True)]
    chart.points(places, b, titles=titles, **SOUND)
    return chart.names(places[named], b[named], [shortened(known.item_ids[j], 20) for j in named])


def _add_bands(chart: Chart, b: Floats, item_ids: Sequence[str]) -> Chart:
    """Draw the number of items in each band of difficulty, with the names of few."""
    edges = np.linspace(*chart.y, BANDS + 1)
    band = np.clip(np.digitize(b, edges) - 1, 0, BANDS - 1)
    n = np.bincount(band, minlength=BANDS)
    filled = np.flatnonzero(n)
    texts = [
        ", ".join(shortened(item_ids[j], 12) for j in np.flatnonzero(band == k).tolist())
        if n[k] <= MAX_NAMED
        else f"{n[k]} items"
        for k in filled
    ]
    chart.boxes(np.zeros(BANDS), edges[:-1], 0.7 * n / n.max(), edges[1:], "orange", hatched=True)
    return chart.names(0.7 * n[filled] / n.max(), (edges[:-1] + edges[1:])[filled] / 2, texts)


def _places_of_names(b: Floats, item_ids: Sequence[str], unit: float) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Place items in columns in which their names do not overlap; `unit` is the θ per unit of the chart's height.

    Returns the x of each item, shape (J,), and the indices of the items whose names have room.
    """
    letters = min(max(map(len, item_ids), default=1), 20)
    columns = min(max(int(290 // (16 + 5.2 * letters)), 1), 4)
    last, places, named = np.full(columns, -np.inf), np.empty(len(b)), []
    for k, j in enumerate(np.argsort(b, kind="stable")):
        order = (k + np.arange(columns)) % columns
        free = order[b[j] - last[order] >= 11 * unit]
        column = free[0] if free.size else order[0]
        if free.size:
            last[column] = b[j]
            named.append(j)
        places[j] = (column + 0.1) / columns  # names are at the right of their marks
    return places, np.array(named, dtype=np.intp)


def score_distribution(scores: Scores | Result | npt.ArrayLike, fit: ItemSource | None = None) -> Chart:
    """Draw a histogram of abilities.

    Parameters
    ----------
    scores
        Scores or abilities. Values that are not finite are left out, and the chart notes how many.
    fit
        If given, the ability distribution of the fit is drawn, too. EAP estimates vary less than this distribution; ML
        and WLE estimates vary more, because of their errors.

    Returns
    -------
    Chart
        The figure.

    Raises
    ------
    PsychometricsError
        If no ability is finite.

    Examples
    --------
    >>> from irt_psychometrics import plots
    >>> plots.score_distribution([-1.0, 0.0, 1.0])
    <Chart: 3 persons: mean 0.00, SD 0.82>
    """
    theta = _finite(scores)
    if not theta.size:
        raise PsychometricsError("no ability is finite, so there is nothing to draw: score persons with answers")
    edges = _edges(theta)
    n, _ = np.histogram(theta, edges)
    at = np.linspace(edges[0], edges[-1], NODES)
    expected = np.zeros_like(at)
    known = find_calibration(fit)
    if fit is not None and known is None:
        raise PsychometricsError(f"plots.score_distribution draws the population of a fit, got {type(fit).__name__}")
    if known is not None:
        sizes = np.array([group.n_persons or 1 for group in known.latent], dtype=float)
        for share, group in zip(sizes / sizes.sum(), known.latent, strict=True):
            expected += share * np.exp(-0.5 * ((at - group.mean) / group.sd) ** 2) / (group.sd * np.sqrt(2 * np.pi))
        expected *= theta.size * (edges[1] - edges[0])
    top = 1.08 * max(float(n.max()), float(expected.max()))
    mean = f"mean {theta.mean():z.2f}".replace("-", "−")
    described = f"{theta.size} persons: {mean}, SD {theta.std():.2f}"
    chart = Chart(_ends(edges), (0.0, top), THETA, "persons", described, **SIZE)
    chart.boxes(edges[:-1], np.zeros(n.size), edges[1:], n, name="persons", hatched=True)
    if known is not None:
        chart.line(at, expected, "black", "population of the fit", dash="dash")
    chart.line([theta.mean()] * 2, chart.y, "orange", mean, dash="dot")
    left_out = _values(scores).size - theta.size
    chart.notes = [f"{left_out} without a finite θ"] if left_out else []
    return chart


def dif_curves(
    reference: ItemSource,
    focal: ItemSource,
    item: str,
    *,
    names: tuple[str, str] = ("reference", "focal"),
    theta: npt.ArrayLike | None = None,
) -> Chart:
    """Draw the response curve of an item in each of two groups, with 95 % bands.

    Parameters
    ----------
    reference, focal
        Fits of the two groups on the same scale: the second is linked to the first.
    item
        The item's id.
    names
        Names of the groups for the legend.
    theta
        Shape (T,), increasing abilities. None: ±4 SD around the population's mean; items without a fit have N(0, 1).

    Returns
    -------
    Chart
        The figure.

    Raises
    ------
    PsychometricsError
        If the item is missing in a fit or has no parameters, or if `theta` is not increasing and finite.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics import plots
    >>> bank = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 2, 1], "b": [-1, 0, 1]})
    >>> plots.dif_curves(bank, bank.rescaled(1.0, 0.5), "q2")
    <Chart: Response curves of q2 for reference and focal>
    """
    at = _abilities(reference, theta)
    known = [_parameters(fit, [item]) for fit in (reference, focal)]
    scored = any((of.curves.categories > 2).any() for of in known)
    label = "score as a share of the maximum" if scored else "probability correct"
    described = f"Response curves of {shortened(item, ID_LENGTH)} for {names[0]} and {names[1]}"
    chart = Chart(_ends(at), (0.0, 1.0), THETA, label, described, heading=shortened(item, 60), **SIZE)
    styles: tuple[dict[str, Any], ...] = ({"colour": "blue", "dash": "dash"}, {"colour": "orange"})
    for of, name, style in zip(known, names, styles, strict=True):
        p, low, high = _curve(of, at)
        chart.line(at, p, name=name, low=low, high=high, **style)
    return chart


def dif_effects(found: Dif | Result, group: str | None = None) -> Chart:
    """Draw how much harder each item is for a focal group than for the reference group (Δb), with 95 % intervals.

    Items that differ with q < 0.05 are orange. At most the 60 items furthest from 0 are drawn.

    Parameters
    ----------
    found
        The result of `find_dif`, or a `dif.Dif`.
    group
        The focal group. None: the first one.

    Returns
    -------
    Chart
        The figure.

    Raises
    ------
    PsychometricsError
        For another result, if the groups could not be compared, if there is no such focal group, or if no item has a
        value.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics import plots
    >>> names = [f"q{k}" for k in range(8)]
    >>> bank = irt.ItemParameters.from_frame({"item": names, "a": [1.2] * 8, "b": np.linspace(-1, 1, 8)})
    >>> x = irt.simulate_responses(bank, np.linspace(-2, 2, 600), random_state=1)
    >>> plots.dif_effects(irt.find_dif(x, ["boys", "girls"] * 300))
    <Chart: Δb, girls minus boys of 8 items with 95 % intervals>
    """
    rows = _rows_of_dif(found)
    groups = [*dict.fromkeys(rows.groups)]
    name = groups[0] if group is None else group
    if name not in groups:
        raise PsychometricsError(f"no such focal group: {name!r}; the groups are {', '.join(groups)}")
    here = np.array(rows.groups) == name
    kinds = ["differs (q < 0.05)" if flagged else "" for flagged in rows.q[here] < 0.05]
    label = f"Δb, {name} minus {rows.reference}"
    item_ids = [item for item, shown in zip(rows.item_ids, here, strict=True) if shown]
    return _rows(item_ids, rows.delta_b[here], Z95 * rows.delta_b_se[here], kinds, label, "not certain")


class _DifRows(NamedTuple):
    """The columns of an `ItemDif` that are drawn, one row per item and focal group."""

    reference: str
    item_ids: Sequence[str]
    groups: Sequence[str]
    delta_b: Floats
    delta_b_se: Floats
    q: Floats


def _rows_of_dif(found: Any) -> _DifRows:
    if hasattr(found, "mh_class"):  # an ItemDif, whose module is above this one
        return _DifRows(*(getattr(found, name) for name in _DifRows._fields))
    if not hasattr(found, "wald"):
        raise PsychometricsError(f"dif_effects draws the result of find_dif, got {type(found).__name__}")
    wald = found.wald
    if wald is None:
        raise PsychometricsError(f"the groups of {found.attribute} could not be compared: {found.reason}")
    (reference, *focal), item_ids = wald.groups, wald.item_ids
    groups = [name for name in focal for _ in item_ids]
    numbers = (wald.delta[:, :, 1].ravel(), wald.se[:, :, 1].ravel(), np.tile(wald.q, len(focal)))
    return _DifRows(reference, [*item_ids] * len(focal), groups, *numbers)


def linking(new: ItemSource, old: ItemSource, constants: Linking | Result) -> Picture:
    """Draw b and a of the anchors in two fits against each other, with the line of the linking.

    Anchors that were left out are orange crosses with names. Bars are 95 % intervals in both fits.

    Parameters
    ----------
    new
        The fit before linking.
    old
        The fit, or the items, on the scale to which `new` was linked.
    constants
        The result of `link`, or a `linking.Linking`.

    Returns
    -------
    Picture
        Two charts: difficulty and discrimination.

    Raises
    ------
    PsychometricsError
        For another result, or if the fits have no item with parameters in common.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics import plots
    >>> names = [f"q{k}" for k in range(8)]
    >>> bank = irt.ItemParameters.from_frame({"item": names, "a": [1.2] * 8, "b": np.linspace(-1, 1, 8)})
    >>> f = irt.fit(irt.simulate_responses(bank, np.linspace(-2, 2, 600), random_state=1))
    >>> plots.linking(f, f, irt.link(f, f)).charts[0]
    <Chart: difficulty b of 8 anchors, new against old, 0 left out>
    """
    line = _constants(constants)
    sides = [require_items(side, "plots.linking") for side in (new, old)]
    known = [{item for item, ok in zip(of.item_ids, of.curves.known, strict=True) if ok} for of in sides]
    both = [item for item in sides[1].item_ids if item in known[0] & known[1]]
    x, y = (of.select(both) for of in sides)
    return _linking_picture(both, (x.a, x.b, x.a_se, x.b_se), (y.a, y.b, y.a_se, y.b_se), line)


def link_picture(link: Any) -> Picture:
    """Draw a `ScaleLink` as `linking` does, without intervals: it does not contain the errors of the old side."""
    line = link.linking
    a, b = line.slope * link.new_a, (link.new_b - line.intercept) / line.slope  # on the scale of the new fit
    known = np.isfinite(a) & np.isfinite(b) & np.isfinite(link.old_a) & np.isfinite(link.old_b)
    unknown = np.full(known.sum(), np.nan)
    item_ids = [item for item, is_known in zip(link.item_ids, known, strict=True) if is_known]
    old = (link.old_a[known], link.old_b[known], unknown, unknown)
    return _linking_picture(item_ids, (a[known], b[known], unknown, unknown), old, line)


_Side: TypeAlias = tuple[Floats, Floats, Floats, Floats]
"""a, b and their standard errors, shape (K,) each."""


def _linking_picture(both: list[str], new: _Side, old: _Side, constants: Linking) -> Picture:
    if not both:
        raise PsychometricsError("the two fits have no item with parameters in common, so nothing can be drawn")
    used = np.isin(both, constants.anchors_used)
    charts = []
    for label, k, slope, intercept in (
        ("difficulty b", 1, constants.slope, constants.intercept),
        ("discrimination a", 0, 1 / constants.slope, 0.0),
    ):
        (of_x, x_se), (of_y, y_se) = (new[k], new[k + 2]), (old[k], old[k + 2])
        x_half, y_half = (np.minimum(Z95 * se, np.ptp(of) / 2) for se, of in ((x_se, of_x), (y_se, of_y)))
        across = Chart.ends_of(of_x, of_x - x_half, of_x + x_half)
        line = slope * np.array(across) + intercept
        ends = across, Chart.ends_of(of_y, of_y - y_half, of_y + y_half, line)
        described = f"{label} of {len(both)} anchors, new against old, {int((~used).sum())} left out"
        chart = Chart(*ends, f"{label}, new", f"{label}, old", described, height=330)
        chart.line(across, line, "black", "line of the linking", dash="dash", width=1.0)
        for some, name, style in ((used, "used", SOUND), (~used, "left out", ODD | {"shape": "cross"})):
            titles = [item for item, is_some in zip(both, some, strict=True) if is_some]
            bars = _bars((of_y - Z95 * y_se)[some], (of_y + Z95 * y_se)[some])
            bars |= _bars((of_x - Z95 * x_se)[some], (of_x + Z95 * x_se)[some], ends=("left", "right"))
            chart.points(of_x[some], of_y[some], name=name, titles=titles, **bars, **style)
        out = np.flatnonzero(~used)
        charts.append(chart.names(of_x[out], of_y[out], [shortened(both[int(k)], ID_LENGTH) for k in out]))
    title = (
        f"{int(used.sum())} of {len(both)} anchors used: slope {constants.slope:.3f} ± {constants.slope_se:.3f}, "
        f"intercept {constants.intercept:.3f} ± {constants.intercept_se:.3f}"
    )
    return Picture(title.replace(" -", " −"), charts, 2)


def _constants(found: Any) -> Any:
    """Return the constants of a link, or `found` itself if it is a `Linking`."""
    constants = getattr(found, "linking", found)
    if not hasattr(constants, "anchors_used"):
        raise PsychometricsError(f"linking draws the result of link, got {type(found).__name__}")
    return constants


def drift(found: Drift | Result, parameter: Literal["a", "b"] = "b") -> Chart:
    """Draw each item's change from its published value, with 95 % intervals. Flagged items are orange.

    At most the 60 items furthest from 0 are drawn.

    Parameters
    ----------
    found
        The result of `find_drift`, or a `drift.Drift`.
    parameter
        "b" (difficulty) or "a" (discrimination).

    Returns
    -------
    Chart
        The figure.

    Raises
    ------
    PsychometricsError
        For another result or parameter, or if no item has a value.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics import plots
    >>> names = [f"q{k}" for k in range(8)]
    >>> bank = irt.ItemParameters.from_frame({"item": names, "a": [1.2] * 8, "b": np.linspace(-1, 1, 8)})
    >>> f = irt.fit(irt.simulate_responses(bank, np.linspace(-2, 2, 600), random_state=1))
    >>> plots.drift(irt.find_drift(f, f))
    <Chart: Δb, new minus published of 8 items with 95 % intervals>
    """
    if parameter not in ("a", "b"):
        raise PsychometricsError(f"drift is drawn for a or b, not for {parameter!r}")
    of: Any = found
    if not hasattr(of, "delta_b") or hasattr(of, "groups"):  # an ItemDif has both
        raise PsychometricsError(f"drift draws the result of find_drift, got {type(found).__name__}")
    delta = of.delta_a if parameter == "a" else of.delta_b
    se = of.se[:, "ab".index(parameter)] if hasattr(of, "se") else getattr(of, f"delta_{parameter}_se")
    kinds = ["" if level == "none" else f"{level} drift" for level in of.severity]
    return _rows(of.item_ids, delta, Z95 * se, kinds, f"Δ{parameter}, new minus published", "not flagged")


def item_fit(fit: ItemSource, found: ItemFit | Result) -> Chart:
    """Draw infit and outfit of each item by its difficulty. Both are near 1 under the model.

    Items whose RMSD exceeds its cutoff are orange and have names. One in a thousand items that follow the model exceeds
    it.

    Parameters
    ----------
    fit
        A fit, or items.
    found
        Fit statistics of the same items, in the same order: the result of `Fit.fit_statistics` or of
        `itemfit.item_fit`.

    Returns
    -------
    Chart
        The figure.

    Raises
    ------
    PsychometricsError
        If the numbers of items differ.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics import plots
    >>> bank = irt.ItemParameters.from_frame({"item": ["q1", "q2"], "a": [1.0, 1.5], "b": [-0.5, 0.5]})
    >>> x = irt.datasets.two_forms()[0].responses
    >>> f = irt.fit(x)
    >>> plots.item_fit(f, f.fit_statistics(x))
    <Chart: Infit and outfit of 30 items by difficulty; 0 do not fit>
    """
    items = require_items(fit, "plots.item_fit")
    values = getattr(found, "items", None) or vars(found)  # FitStatistics has the statistics by name
    infit, outfit, rmsd, cutoff = (values[name] for name in ("infit", "outfit", "rmsd", "rmsd_cutoff"))
    if len(items.item_ids) != len(infit):
        raise PsychometricsError(f"{len(items.item_ids)} items and fit statistics of {len(infit)}: give one fit")
    odd = rmsd > cutoff
    known = np.isfinite(items.b) & np.isfinite(infit)
    ends = Chart.ends_of(infit, outfit, [0.8, 1.2])
    described = f"Infit and outfit of {int(known.sum())} items by difficulty; {int(odd.sum())} do not fit"
    chart = Chart(Chart.ends_of(items.b[known]), ends, "difficulty b", "mean square", described, **SIZE).level(1.0)
    for of, statistic, shape in ((infit, "infit", "circle"), (outfit, "outfit", "diamond")):
        for some, colour, fits in ((known & ~odd, "blue", ""), (known & odd, "orange", ", does not fit")):
            titles = [f"{items.item_ids[j]}: {statistic} {of[j]:.2f}" for j in np.flatnonzero(some)]
            size = 3.4 if fits else 2.6
            chart.points(items.b[some], of[some], colour, statistic + fits, shape=shape, titles=titles, size=size)
    named = np.flatnonzero(known & odd)
    return chart.names(items.b[named], outfit[named], [shortened(items.item_ids[j], ID_LENGTH) for j in named])


def _parameters(fit: ItemSource, wanted: Iterable[str] | None) -> ItemParameters:
    """Select the wanted items, or all items that have parameters if `wanted` is None."""
    items, calibration = require_items(fit, "a figure"), find_calibration(fit)
    known = dict(zip(items.item_ids, items.curves.known.tolist(), strict=True))
    if wanted is None:
        wanted = [item for item, has in known.items() if has]
        if not wanted:
            raise PsychometricsError("no item has parameters, so there is nothing to draw: fit items with answers")
    wanted = list(wanted)
    for item in wanted:
        if item not in known:
            some = ", ".join(list(known)[:5])
            raise PsychometricsError(f"no such item: {item!r}; the {len(known)} items are {some} …")
        if not known[item]:
            why = ""
            if calibration is not None:
                why = "; ".join(flag.explanation for flag in calibration.flags[calibration.item_ids.index(item)])
            raise PsychometricsError(f"item {item} has no parameters, so it has no curve{f': {why}' if why else ''}")
    return items.select(wanted)


def _population(fit: ItemSource) -> tuple[float, float]:
    """Mean and SD of θ in the population; 0 and 1 for parameters of items."""
    known = find_calibration(fit)
    return (0.0, 1.0) if known is None else (known.latent_mean, known.latent_sd)


def _abilities(fit: ItemSource, theta: npt.ArrayLike | None) -> Floats:
    if theta is None:
        mean, sd = _population(fit)
        return np.linspace(mean - 4 * sd, mean + 4 * sd, NODES)
    return increasing(theta)


def increasing(theta: npt.ArrayLike) -> Floats:
    """Return abilities as an array. Raises PsychometricsError if they are not at least two that increase."""
    found = np.asarray(theta, dtype=float)
    if found.ndim != 1 or found.size < 2 or not np.isfinite(found).all() or not (np.diff(found) > 0).all():
        raise PsychometricsError("theta must be at least two finite, increasing abilities, as np.linspace makes them")
    return found


def _middle(fit: ItemSource, at: Floats) -> list[tuple[float, float]]:
    """The middle 95 % of a fit's population, cut to the range of `at`; empty for parameters of items."""
    if find_calibration(fit) is None:
        return []
    mean, sd = _population(fit)
    low, high = (mean + sign * Z95 * sd for sign in (-1, 1))
    return [(max(low, float(at[0])), min(high, float(at[-1])))]


def _empirical_curve(fit: ItemSource, responses: Responses | None, item: str) -> Observed | None:
    if responses is None:
        return None
    mean, sd = _population(fit)
    items = _parameters(fit, None)
    return Observed.by_ability(responses, items, [item], mean=mean, sd=sd).get(item)


class _CurveWithBand(NamedTuple):
    """A curve and its 95 % band, shape (T,) each; the band is empty without standard errors."""

    p: Floats
    low: Floats | tuple[()]
    high: Floats | tuple[()]


def _curve(item: ItemParameters, theta: Floats) -> _CurveWithBand:
    p = item.curve(theta)[:, 0]
    by = np.hstack([item.curve_by_ab(theta)[0], item.by_further(theta)[0].T])
    se = _root_of_form(by, item.cov_of_all[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        return _CurveWithBand(p, *_band(p, se / (p * (1 - p))))


def _curves_of_scores(item: ItemParameters, theta: Floats) -> list[_CurveWithBand]:
    """Probability of each score of one item, with bands."""
    if not item.others:
        p, low, high = _curve(item, theta)
        below: tuple[Any, Any] = (1 - np.asarray(high), 1 - np.asarray(low)) if len(low) else ((), ())
        return [_CurveWithBand(1 - p, *below), _CurveWithBand(p, low, high)]
    (some,) = item.others
    parameters = some.parameters(item.a, item.d)
    p = some.model.probabilities(theta, parameters, some.categories)[0]
    by = some.model.by_parameters(theta, parameters, some.categories)[:, 0]  # ∂ log p/∂(a, d, further)
    by_ab = np.concatenate([[by[0] - item.b[0] * by[1], -item.a[0] * by[1]], by[2:]])
    cov = item.cov_of_all[0, : len(by_ab), : len(by_ab)]
    found = []
    for k in range(p.shape[1]):
        with np.errstate(divide="ignore", invalid="ignore"):
            band = _band(p[:, k], _root_of_form(by_ab[:, :, k].T, cov) / (1 - p[:, k]))
            found.append(_CurveWithBand(p[:, k], *band))
    return found


def _root_of_form(by: Floats, cov: Floats) -> Floats:
    variance = np.einsum("tk,kl,tl->t", by, cov, by)
    return np.sqrt(np.where(variance >= 0, variance, np.nan))


def _band(p: Floats, se_logit: Floats) -> tuple[Floats | tuple[()], Floats | tuple[()]]:
    """95 % interval of a probability from the standard error of its logit."""
    if not np.isfinite(se_logit).any():
        return (), ()
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = (expit(logit(p) + sign * Z95 * se_logit) for sign in (-1, 1))
    return np.where(np.isfinite(low), low, p), np.where(np.isfinite(high), high, p)


def _rows(item_ids: Sequence[str], values: Floats, half: Floats, kinds: Sequence[str], label: str, plain: str) -> Chart:
    """Draw one row per item that has a value, ordered by value. `plain` is the name in the legend of the kind ""."""
    known = np.flatnonzero(np.isfinite(values))
    if not known.size:
        raise PsychometricsError("no item has a value, so there is nothing to draw")
    furthest = known[np.argsort(-np.abs(values[known]), kind="stable")][:MAX_ROWS]
    rows = furthest[np.argsort(values[furthest], kind="stable")]
    shown, reach = values[rows], np.where(np.isfinite(half[rows]), half[rows], 0.0)
    described = f"{label} of {rows.size} items with 95 % intervals"
    names = [shortened(item_ids[j], ID_LENGTH) for j in rows]
    size: dict[str, Any] = {"width": 640, "height": 56 + 14 * rows.size}
    ends = Chart.ends_of(shown - reach, shown + reach, [0.0])
    chart = Chart(ends, (rows.size - 0.4, -0.6), label, "", described, y_names=names, **size)
    chart.line([0, 0], chart.y, "grey", width=0.8)
    for k, kind in enumerate(sorted({kinds[j] for j in rows})):
        some = np.array([kinds[j] == kind for j in rows])
        style = SOUND if not kind else ODD | {"shape": ("triangle", "diamond", "square")[k % 3]}
        across = _bars((shown - reach)[some], (shown + reach)[some], ends=("left", "right"))
        chart.points(shown[some], np.flatnonzero(some), name=kind or plain, **across, **style)
    if rows.size < known.size:
        chart.heading = f"The {rows.size} of {known.size} items that are furthest from 0"
    return chart


def _style(k: int) -> dict[str, Any]:
    """Colour and dash of a series."""
    dashes = CHOICES["dash"]
    return {"colour": Chart.SERIES[k % len(Chart.SERIES)], "dash": dashes[k % len(dashes)]}


def _bars(low: Floats, high: Floats, ends: tuple[str, str] = ("low", "high")) -> dict[str, Any]:
    return {ends[0]: low, ends[1]: high} if np.isfinite(low).any() else {}


def _ends(at: Floats) -> tuple[float, float]:
    return float(at[0]), float(at[-1])


def _values(scores: Scores | Result | npt.ArrayLike | None) -> Floats:
    if scores is None:
        return np.empty(0)
    return np.asarray(getattr(scores, "theta", scores), dtype=float).ravel()


def _finite(scores: Scores | Result | npt.ArrayLike | None) -> Floats:
    found = _values(scores)
    return found[np.isfinite(found)]


def _edges(theta: Floats) -> Floats:
    """Edges of a histogram's bins, shape (bins + 1,)."""
    bins = min(40, max(5, round(theta.size**0.5)))
    return np.linspace(theta.min() - 1e-9, theta.max() + 1e-9, bins + 1)


def _list_names(names: Sequence[str]) -> str:
    return ", ".join(shortened(name, ID_LENGTH) for name in names[:5]) + (" …" if len(names) > 5 else "")
