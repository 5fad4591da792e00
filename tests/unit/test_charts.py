"""Charts: both renderers place marks by the axes' values and escape all text."""

from __future__ import annotations

import base64
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import plotly.graph_objects as go
import pytest

from irt_assets.abilities.blocks import ability_histogram
from irt_assets.calibration import plots
from irt_assets.charts import add_points
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.scales.rules import PublicationRules
from irt_psychometrics import Calibration
from irt_psychometrics.commands.fitting import models_of
from irt_psychometrics.core.assumed_errors import assumed_errors
from irt_psychometrics.estimation import Convergence, Flag, fit_em
from irt_psychometrics.itemfit import Observed
from irt_psychometrics.linking import AnchorSet, Linking, link
from irt_psychometrics.plots import Chart, Picture, svg
from irt_psychometrics.plots.axes import Line, Names, Points
from psychometrics_testbed.made_anchors import anchor_set_of
from psychometrics_testbed.made_scored import planned_mixed

SVG = "{http://www.w3.org/2000/svg}"


def chart(**changes: object) -> Chart:
    return Chart(**({"x": (0, 10), "y": (0, 1), "x_label": "x", "y_label": "y", "described": "a chart"} | changes))  # type: ignore[arg-type]


def parse_svg(drawn: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawn)


def marks(drawn: str, colour: str = "blue") -> list[tuple[float, float]]:
    """Return the places of the circles of a colour."""
    paths = [p for p in parse_svg(drawn).iter(f"{SVG}path") if p.get("stroke") == svg.COLOURS[colour]]
    return [(float(x), float(y)) for p in paths for x, y in re.findall(r"M([\d.]+) ([\d.]+)h\.01", p.get("d", ""))]


def test_points_are_drawn_between_the_axis_ends_and_at_the_edge_if_beyond() -> None:
    (left, bottom), middle, (right, top), beyond = marks(
        chart().points([0, 5, 10, 12], [0, 0.5, 1, 1]).to_svg(bare=True)
    )
    assert middle == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=0.1)  # places are rounded to 0.1
    assert bottom > top
    assert beyond == (right, top)


def test_axis_runs_downwards_if_its_ends_are_in_descending_order() -> None:
    first, second = marks(chart(y=(3, 0)).points([1, 1], [0, 2]).to_svg(bare=True))
    assert first[1] < second[1]


def test_value_beyond_the_axis_is_drawn_as_an_arrow_at_the_edge() -> None:
    (path,) = [
        p
        for p in parse_svg(chart().points([5], [7], "orange").to_svg(bare=True)).iter(f"{SVG}path")
        if p.get("fill") == svg.COLOURS["orange"]
    ]
    at = re.match(r"M[\d.]+ ([\d.]+)l", path.get("d", ""))
    assert float(at[1]) == 10, "the top of the axis"


@pytest.mark.parametrize(
    "bad", ["<script>alert(1)</script>", "a\x01b", "x" * 500, "$x_1$", "😀 項目", "", "line\nbreak"]
)
def test_text_is_escaped_in_every_part_of_a_chart(bad: str) -> None:
    drawn = chart(x_label=bad, described=f'"{bad}', x_names={1.0: bad}, y_names={0.5: bad}, heading=bad, notes=[bad])
    drawn.points([1], [0.5], name=bad, shape="triangle", titles=[bad]).names([1], [0.5], [bad])
    for made in (drawn.to_svg(bare=True), drawn.to_svg(), Picture(bad, [drawn]).to_svg()):
        assert "<script" not in made
        assert parse_svg(made) is not None
    (title,) = parse_svg(drawn.to_svg(bare=True)).iter(f"{SVG}title")
    assert (title.text or "") == "".join(ch if ch.isprintable() else "□" for ch in bad), "it reads as it was"
    assert json.loads(json.dumps(drawn.to_plotly()))["data"][0]["text"] == [bad]


@pytest.mark.parametrize("shape", ["circle", "triangle", "cross", "diamond", "square"])
def test_points_with_missing_values_are_not_drawn(shape: str) -> None:
    drawn = chart().points([1, 2], [np.nan, 0.5], shape=shape, titles=["gone", "there"])
    assert [title.text for title in parse_svg(drawn.to_svg(bare=True)).iter(f"{SVG}title")] == ["there"]
    assert drawn.to_plotly()["data"][0]["y"] == [None, 0.5]


def test_intervals_with_missing_ends_are_not_drawn() -> None:
    drawn = chart().points([1, 2], [0.3, 0.3], low=[None, 0.2], high=[np.nan, 0.4])
    (path,) = re.findall(r'<path d="(M[^"]*V[^"]*)" fill="none" stroke="#0072B2"', drawn.to_svg(bare=True))
    assert path.count("M") == 1
    error = drawn.to_plotly()["data"][0]["error_y"]
    assert (error["array"], error["arrayminus"]) == ([None, 0.1], [None, 0.1])


def test_axis_ends_include_every_value_with_a_margin_and_default_to_1_if_all_are_missing() -> None:
    low, high = Chart.ends_of([1.0, np.nan, None], [3.0])
    assert low < 1.0
    assert high > 3.0
    assert Chart.ends_of([np.nan]) == (-1.0, 1.0)
    assert np.diff(Chart.ends_of([2.0]))[0] > 0


def test_ticks_are_round_numbers_within_the_axis() -> None:
    root = parse_svg(chart(x=(-3.5, 3.5), y=(-0.13, 0.47)).to_svg(bare=True))
    ticks = {text.text for text in root.iter(f"{SVG}text")}
    assert {"−2", "0", "2", "0.1", "0.4"} <= ticks


def test_dates_are_shown_as_dates_by_both_renderers() -> None:
    drawn = chart(x=(date(2026, 9, 1), date(2026, 9, 21)), dated=True)
    drawn.points([datetime(2026, 9, 11, 12, tzinfo=UTC)], [0.5])
    assert "2026-09-03" in drawn.to_svg(bare=True)
    figure = drawn.to_plotly()
    assert figure["layout"]["xaxis"]["type"] == "date"
    assert figure["data"][0]["x"] == [datetime(2026, 9, 11, 12, tzinfo=UTC).timestamp() * 1000]


def test_every_part_of_a_chart_has_properties_that_plotly_accepts() -> None:
    drawn = chart(x_names={1.0: "one"}, y_names={0.5: "half"})
    drawn.line([1, 2], [0.1, 0.2], name="line", dash="dashdot", steps=True)
    drawn.line([1, 2], [0.2, 0.3], low=[0.1, 0.2], high=[0.3, 0.4])
    drawn.boxes([1], [0], [2], [0.5], fills=["#123456"], texts=["text"])
    drawn.boxes([1], [0], [2], [1], hatched=True)
    drawn.names([1], [0.5], ["name"])
    drawn.stretch(1, 2).level(0)
    add_points(drawn, [1, 2], [0.1, 0.2], ["", "flagged"], left=[0, 1], right=[2, 3], joined=True, plain="sound")
    made = go.Figure(drawn.to_plotly())  # raises if Plotly rejects a property
    assert [trace.name for trace in made.data if trace.showlegend] == ["line", "sound", "flagged"]
    assert made.layout.showlegend
    assert [trace.marker.symbol for trace in made.data if trace.name in ("sound", "flagged")] == [
        "circle",
        "triangle-up",
    ]


def test_picture_arranges_charts_in_rows_and_lists_each_name_once_in_its_legend() -> None:
    charts = [chart().line([0, 10], [0, 1], name=name) for name in ("one", "two", "one")]
    wide, narrow = (parse_svg(Picture("title", charts, columns).to_svg()) for columns in (3, 1))
    assert float(wide.get("height", 0)) < float(narrow.get("height", 0))
    assert {wide.get("width"), narrow.get("width")} == {"900"}
    texts = [text.text for text in wide.iter(f"{SVG}text")]
    assert [name for name in texts if name in ("one", "two")] == ["one", "two"]


def test_image_with_too_many_points_draws_a_sample_and_states_the_share() -> None:
    many = Picture(
        "many",
        [chart().points(np.linspace(0, 10, 2500), np.full(2500, 0.5), low=np.zeros(2500), high=np.ones(2500))],
    )
    assert "one of 3 points is drawn" in many.to_svg()
    assert len(many.to_markdown()) < 150_000


# -- plots -------------------------------------------------------------------------------------------
# Pictures of a calibration: they accept any fit and any id, stay small, and mark the right items.

MAX_BYTES = 150_000


def fit(k: int, *, flagged: tuple[int, ...] = (), shift: float = 0.0, seed: int = 0) -> Calibration:
    rng = np.random.default_rng(seed)
    a, b = rng.lognormal(0, 0.3, k), rng.normal(0, 1, k) + shift
    a_se, b_se, cov_ab = assumed_errors(a, b, np.zeros(k))
    a[list(flagged)] *= -0.4
    cov = np.zeros((k, 2, 2))  # covariance of a and d = −ab
    cov[:, 0, 0] = a_se**2
    cov[:, 0, 1] = cov[:, 1, 0] = -b * a_se**2 - a * cov_ab
    cov[:, 1, 1] = (b * a_se) ** 2 + (a * b_se) ** 2 + 2 * a * b * cov_ab
    return Calibration(
        item_ids=tuple(f"i{j}" for j in range(k)), models=("2pl",) * k, engine="em", engine_version="test", a=a,
        d=-a * b, c=np.zeros(k), cov=cov, joint_cov=None, n=np.full(k, 500), n_correct=np.full(k, 250),
        flags=tuple((Flag.NEGATIVE_DISCRIMINATION,) if j in flagged else () for j in range(k)),
        latent_mean=0.0, latent_sd=1.0, n_persons=500, convergence=Convergence(True, 5, 0.0, 0.0, -1.0, 2 * k),
    )  # fmt: skip


def anchors_of(calibration: Calibration, moved: int = 0) -> AnchorSet:
    k = calibration.n_items
    b = calibration.b.copy()
    b[:moved] += 2.0
    return anchor_set_of(
        "s", "1", calibration.item_ids, calibration.a, b, np.zeros(k), *assumed_errors(calibration.a, b, np.zeros(k)),
        (None,) * k, np.zeros(k, dtype=bool),
    )  # fmt: skip


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
    return {part.name: len(part.xs) for part in chart.parts if isinstance(part, Points) and part.name}


def names_in(chart: Chart) -> list[str]:
    return [name for part in chart.parts if isinstance(part, Names) for name in part.names]


@pytest.mark.parametrize("k", [1, 120, 1000, 5000])
def test_only_flagged_items_are_marked_in_the_plot_of_parameters(k: int) -> None:
    sound, flagged = (plots.parameters_with_intervals(fit(k, flagged=some)) for some in ((), (0,)))
    assert [count_marks(chart) for chart in sound.charts] == [{}, {}]
    assert [count_marks(chart) for chart in flagged.charts] == [{"flagged": 1}] * 2
    assert [names_in(chart) for chart in flagged.charts] == [["i0"]] * 2
    assert svg.COLOURS["orange"] in draw_svg(flagged)
    assert svg.COLOURS["orange"] not in draw_svg(sound)


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
        linking = link(calibration, anchors)
        assert len(linking.anchors_dropped) == moved
        for chart in scatter(calibration, anchors, linking).charts:
            assert count_marks(chart) == {"used": 30 - moved} | ({"left out": moved} if moved else {})


def test_anchors_that_are_used_but_moved_are_marked_and_named() -> None:
    calibration = fit(30)
    anchors = anchors_of(calibration)
    linking = link(calibration, anchors)
    one = {"delta_b": 0.5, "delta_a": 0.0, "z": 4.0, "parameter": "b"}
    changed = replace(linking, suspects={"i3": one, "i4": one, "not in this fit": one})
    before, after = (scatter(calibration, anchors, k) for k in (linking, changed))
    assert [count_marks(chart) for chart in before.charts] == [{"used": 30}] * 2
    assert [count_marks(chart) for chart in after.charts] == [{"moved": 2, "used": 28}] * 2
    assert [names_in(chart) for chart in after.charts] == [["i3", "i4"], []], "in the panel of b"


def test_linking_plot_gives_the_number_of_agreeing_anchors_as_the_reason_if_too_few_agree() -> None:
    calibration = fit(30)
    anchors = anchors_of(calibration, moved=10)
    linking = replace(link(calibration, anchors), suspects={})
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
    linking = replace(link(calibration, anchors), suspects={}, tau=0.3, tau_low=0.2)
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
    picture = scatter(partly, anchors, link(partly, anchors))
    assert svg.COLOURS["orange"] in draw_svg(picture)
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
    draw_svg(scatter(sound, renamed, link(sound, renamed)))


def test_markdown_contains_the_picture_and_an_escaped_alternative_text() -> None:
    picture = plots.test_information(fit(5))
    text = picture.to_markdown("information [math]")
    match = re.fullmatch(r"!\[information \(math\)\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", text)
    assert base64.b64decode(match[1]).decode() == picture.to_svg()


def test_each_score_has_a_curve_and_its_observed_shares() -> None:
    responses = planned_mixed(900)
    fit = fit_em(responses, model=models_of(responses, "gpcm"))
    seen = Observed.by_ability(responses, fit.items, ["i7", "i21"], mean=0.0, sd=1.0)
    picture = plots.category_curves(fit, seen)
    assert picture.title.startswith("Each score's curve (blue 0, orange 1, green 2, purple 3, sky 4)")
    for chart, scores in zip(picture.charts, (3, 5), strict=True):
        lines = [part for part in chart.parts if isinstance(part, Line)]
        points = [part for part in chart.parts if isinstance(part, Points)]
        assert len(lines) == len(points) == scores
        assert np.sum([line.ys for line in lines], axis=0) == pytest.approx(np.ones(81))
        expected = [np.interp(part.xs, line.xs, line.ys) for line, part in zip(lines, points, strict=True)]
        beyond = [(of < part.low) | (of > part.high) for of, part in zip(expected, points, strict=True)]
        assert np.mean(beyond) < 0.2  # 95 % intervals; each group covers a range of θ
