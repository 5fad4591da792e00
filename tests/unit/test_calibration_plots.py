"""Pictures of a calibration: they accept any fit and any id, stay small, and mark the right items."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from irt_assets.abilities.blocks import ability_histogram
from irt_assets.calibration import plots
from irt_assets.charts import add_points
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.scales.rules import PublicationRules
from irt_psychometrics import Calibration
from irt_psychometrics.estimation import Flag, fit_em
from irt_psychometrics.itemfit import Observed
from irt_psychometrics.items import item_model
from irt_psychometrics.linking import AnchorSet, Linking, link_to_anchors
from irt_psychometrics.plots import Chart, Picture
from psychometrics_testbed.chart_parts import lines, names, points
from psychometrics_testbed.linked_months import anchor_set, calibration as fit_with_errors, errors
from psychometrics_testbed.made_scored import planned_mixed

MAX_BYTES = 150_000
ORANGE = "#D55E00"
"""Colour of marked items."""


def test_marked_points_have_a_shape_and_a_name_of_their_own() -> None:
    drawn = Chart(x=(0, 10), y=(0, 1), x_label="x", y_label="y", described="a chart")
    add_points(drawn, [1, 2], [0.1, 0.2], ["", "flagged"], plain="sound")
    assert [(part.name, part.shape) for part in points(drawn)] == [("sound", "circle"), ("flagged", "triangle")]


def fit(k: int, *, flagged: tuple[int, ...] = ()) -> Calibration:
    rng = np.random.default_rng(0)
    a, b = rng.lognormal(0, 0.3, k), rng.normal(0, 1, k)
    cov = errors(a, b, 500)
    a[list(flagged)] *= -0.4
    flags = tuple((Flag.NEGATIVE_DISCRIMINATION,) if j in flagged else () for j in range(k))
    return replace(fit_with_errors(a, b, cov, n=500), item_ids=tuple(f"i{j}" for j in range(k)), flags=flags)


def anchors_of(calibration: Calibration, moved: int = 0) -> AnchorSet:
    b = calibration.b.copy()
    b[:moved] += 2.0
    anchors = anchor_set(calibration.a, b, errors(calibration.a, b, 500))
    return replace(anchors, item_ids=calibration.item_ids)


def without_estimates(calibration: Calibration, *items: int) -> Calibration:
    a, d, cov = calibration.a.copy(), calibration.d.copy(), calibration.cov.copy()
    flags = list(calibration.flags)
    for j in items:
        a[j] = d[j] = np.nan
        cov[j] = np.nan
        flags[j] = (Flag.ALL_CORRECT,)
    return replace(calibration, a=a, d=d, cov=cov, flags=tuple(flags))


def draw_svg(picture: Picture) -> str:
    """Return a picture's SVG. Also asserts the pane's width and a size that metadata can store."""
    assert len(picture.to_markdown()) <= MAX_BYTES
    made = picture.to_svg()
    assert ElementTree.fromstring(made).get("width") == "900"
    return made


def count_marks(chart: Chart) -> dict[str, int]:
    """Count the points of each named kind."""
    return {part.name: len(part.xs) for part in points(chart) if part.name}


@pytest.mark.parametrize("k", [1, 120, 1000, 5000])
def test_only_flagged_items_are_marked_in_the_plot_of_parameters(k: int) -> None:
    sound, flagged = (plots.parameters_with_intervals(fit(k, flagged=some)) for some in ((), (0,)))
    assert [count_marks(chart) for chart in sound.charts] == [{}, {}]
    assert [count_marks(chart) for chart in flagged.charts] == [{"flagged": 1}] * 2
    assert [names(chart) for chart in flagged.charts] == [["i0"]] * 2
    assert ORANGE in draw_svg(flagged)
    assert ORANGE not in draw_svg(sound)


def test_axis_stays_narrow_if_an_item_has_an_extreme_difficulty() -> None:
    sound = fit(30)
    a = sound.a.copy()
    a[3] = 1e-3  # b of some thousands
    both = [plots.parameters_with_intervals(c).charts[0].y for c in (sound, replace(sound, a=a))]
    assert np.ptp(both[1]) < 1.25 * np.ptp(both[0])


@pytest.mark.parametrize("n_shown", [1, 4, 9])
def test_curves_of_a_few_items_fit_into_a_single_picture(n_shown: int) -> None:
    picture = plots.item_curves(fit(30, flagged=(1,)), [f"i{j}" for j in range(n_shown)])
    assert len(picture.charts) == n_shown
    draw_svg(picture)


def test_information_plot_without_charts_gives_the_reason_if_no_item_has_parameters() -> None:
    full, empty = plots.test_information(fit(20)), plots.test_information(without_estimates(fit(3), 0, 1, 2))
    assert len(full.charts) == 2
    assert not empty.charts
    assert "No item has parameters" in draw_svg(empty)


def test_histogram_of_abilities_counts_every_learner() -> None:
    theta = np.random.default_rng(1).normal(size=100_000)
    picture = ability_histogram(theta, np.full(theta.size, 0.3))
    (bars,) = [part for part in picture.charts[0].parts if hasattr(part, "top")]
    assert sum(bars.top) == theta.size
    draw_svg(picture)


def scatter(calibration: Calibration, anchors: AnchorSet, linking: Linking, disagreement: str = "") -> Picture:
    return plots.linking_scatter(calibration, anchors, linking, agree=not linking.suspects, disagreement=disagreement)


def test_only_dropped_anchors_are_marked_as_left_out() -> None:
    calibration = fit(30)
    for moved in (0, 1, 6):
        anchors = anchors_of(calibration, moved)
        linking = link_to_anchors(calibration, anchors)
        assert len(linking.anchors_dropped) == moved
        for chart in scatter(calibration, anchors, linking).charts:
            assert count_marks(chart) == {"used": 30 - moved} | ({"left out": moved} if moved else {})


def test_anchors_that_are_used_but_moved_are_marked_and_named() -> None:
    calibration = fit(30)
    anchors = anchors_of(calibration)
    linking = link_to_anchors(calibration, anchors)
    one = {"delta_b": 0.5, "delta_a": 0.0, "z": 4.0, "parameter": "b"}
    changed = replace(linking, suspects={"i3": one, "i4": one, "not in this fit": one})
    before, after = (scatter(calibration, anchors, k) for k in (linking, changed))
    assert [count_marks(chart) for chart in before.charts] == [{"used": 30}] * 2
    assert [count_marks(chart) for chart in after.charts] == [{"moved": 2, "used": 28}] * 2
    assert [names(chart) for chart in after.charts] == [["i3", "i4"], []], "in the panel of b"


def test_linking_plot_gives_the_number_of_agreeing_anchors_as_the_reason_if_too_few_agree() -> None:
    calibration = fit(30)
    anchors = anchors_of(calibration, moved=10)
    linking = replace(link_to_anchors(calibration, anchors), suspects={})
    reason = LinkingConstants.from_linking(linking).disagreement(PublicationRules())
    title = scatter(calibration, anchors, linking, reason).title
    assert "those used agree" in title
    assert (
        "\nOnly 20 anchors agree with each other, 67% of the anchors with enough responses; "
        "at least 5 and 70% are needed\n" in title
    )
    assert "Only" not in scatter(calibration, anchors, linking).title


def test_linking_plot_gives_the_reason_if_the_few_used_anchors_disagree_too() -> None:
    calibration = fit(30)
    anchors = anchors_of(calibration, moved=10)
    linking = replace(link_to_anchors(calibration, anchors), suspects={}, tau=0.3, tau_low=0.2)
    constants = LinkingConstants.from_linking(linking)
    why = constants.disagreement(PublicationRules())
    agree = not constants.disagreement_of_used(PublicationRules())
    title = plots.linking_scatter(calibration, anchors, linking, agree=agree, disagreement=why).title
    assert "those used DISAGREE" in title
    assert "\nOnly 20 anchors agree with each other" in title


def test_linking_plot_is_drawn_if_anchors_lack_estimates_or_moved() -> None:
    calibration = fit(30)
    anchors = anchors_of(calibration, moved=10)
    partly = without_estimates(calibration.select(np.arange(30) != 29), 28)
    picture = scatter(partly, anchors, link_to_anchors(partly, anchors))
    assert ORANGE in draw_svg(picture)
    assert "2 without estimate" in picture.title


@pytest.mark.filterwarnings("error")
def test_pictures_are_drawn_if_item_ids_contain_markup_or_unusual_characters() -> None:
    """Every picture names these items, because they are flagged and are anchors that moved."""
    ids = ("x" * 500, "$x_1$", "$\\frac{", "emoji 😀", "項目", "'; drop", "", "line\nbreak")
    calibration = fit(40, flagged=tuple(range(len(ids))))
    odd = replace(calibration, item_ids=(*ids, *calibration.item_ids[len(ids) :]))
    draw_svg(plots.parameters_with_intervals(odd))
    assert "項目" in draw_svg(plots.item_curves(odd, ids))
    anchors = anchors_of(fit(40), moved=len(ids))
    sound = replace(fit(40), item_ids=odd.item_ids)
    renamed = replace(anchors, item_ids=odd.item_ids)
    draw_svg(scatter(sound, renamed, link_to_anchors(sound, renamed)))


def test_markdown_contains_the_picture_and_an_escaped_alternative_text() -> None:
    picture = plots.test_information(fit(5))
    text = picture.to_markdown("information [math]")
    match = re.fullmatch(r"!\[information \(math\)\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", text)
    assert base64.b64decode(match[1]).decode() == picture.to_svg()


def test_each_score_has_a_curve_and_its_observed_shares() -> None:
    responses = planned_mixed(900)
    fit = fit_em(
        responses, model=[item_model("gpcm").of_max_score(int(most)).name for most in responses.n_categories - 1]
    )
    seen = Observed.by_ability(responses, fit.items, ["i7", "i21"], mean=0.0, sd=1.0)
    picture = plots.category_curves(fit, seen)
    assert picture.title.startswith("Each score's curve (blue 0, orange 1, green 2, purple 3, sky 4)")
    for chart, scores in zip(picture.charts, (3, 5), strict=True):
        curves, shares = lines(chart), points(chart)
        assert len(curves) == len(shares) == scores
        assert np.sum([line.ys for line in curves], axis=0) == pytest.approx(np.ones(81))
        expected = [np.interp(part.xs, line.xs, line.ys) for line, part in zip(curves, shares, strict=True)]
        beyond = [(of < part.low) | (of > part.high) for of, part in zip(expected, shares, strict=True)]
        assert np.mean(beyond) < 0.2  # 95 % intervals; each group covers a range of θ
