"""Charts: what is drawn lies where the axes say, in both renderers, and no text comes through unescaped."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from datetime import UTC, date, datetime

import numpy as np
import plotly.graph_objects as go
import pytest

from irt_assets.charts import plotly, svg
from irt_assets.charts.chart import Boxes, Chart, Line, Names, Picture, Points, days, ends_of
from irt_assets.charts.pictures import mark

SVG = "{http://www.w3.org/2000/svg}"


def chart(**changes: object) -> Chart:
    return Chart(**({"x": (0, 10), "y": (0, 1), "x_label": "x", "y_label": "y", "described": "a chart"} | changes))  # type: ignore[arg-type]


def parsed(drawn: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawn)


def marks(drawn: str, colour: str = "blue") -> list[tuple[float, float]]:
    """Where the circles of a colour are."""
    paths = [p for p in parsed(drawn).iter(f"{SVG}path") if p.get("stroke") == svg.COLOURS[colour]]
    return [(float(x), float(y)) for p in paths for x, y in re.findall(r"M([\d.]+) ([\d.]+)h\.01", p.get("d", ""))]


def test_points_lie_between_the_ends_of_the_axes_and_beyond_at_their_edge() -> None:
    (left, bottom), middle, (right, top), beyond = marks(svg.svg(chart().add(Points([0, 5, 10, 12], [0, 0.5, 1, 1]))))
    assert middle == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=0.1)  # places are rounded to 0.1
    assert bottom > top
    assert beyond == (right, top)


def test_an_axis_may_run_downwards() -> None:
    first, second = marks(svg.svg(chart(y=(3, 0)).add(Points([1, 1], [0, 2]))))
    assert first[1] < second[1]


def test_a_value_beyond_the_axis_is_an_arrow_at_its_edge() -> None:
    (path,) = [
        p
        for p in parsed(svg.svg(chart().add(Points([5], [7], "orange")))).iter(f"{SVG}path")
        if p.get("fill") == svg.COLOURS["orange"]
    ]
    at = re.match(r"M[\d.]+ ([\d.]+)l", path.get("d", ""))
    assert float(at[1]) == 10, "the top of the axis"


@pytest.mark.parametrize(
    "bad", ["<script>alert(1)</script>", "a\x01b", "x" * 500, "$x_1$", "😀 項目", "", "line\nbreak"]
)
def test_any_text_is_escaped_in_every_place(bad: str) -> None:
    drawn = chart(x_label=bad, described=f'"{bad}', x_names={1.0: bad}, y_names={0.5: bad}, heading=bad, notes=[bad])
    drawn.add(Points([1], [0.5], name=bad, shape="triangle", titles=[bad]), Names([1], [0.5], names=[bad]))
    for made in (svg.svg(drawn), svg.image(Picture(bad, [drawn]))):
        assert "<script" not in made
        assert parsed(made) is not None
    (title,) = parsed(svg.svg(drawn)).iter(f"{SVG}title")
    assert (title.text or "") == "".join(ch if ch.isprintable() else "□" for ch in bad), "it reads as it was"
    assert json.loads(json.dumps(plotly.figure(drawn)))["data"][0]["text"] == [bad]


@pytest.mark.parametrize("shape", ["circle", "triangle", "cross", "diamond", "square"])
def test_a_point_that_is_not_known_is_not_drawn(shape: str) -> None:
    drawn = chart().add(Points([1, 2], [np.nan, 0.5], shape=shape, titles=["gone", "there"]))  # type: ignore[arg-type]
    assert [title.text for title in parsed(svg.svg(drawn)).iter(f"{SVG}title")] == ["there"]
    assert plotly.figure(drawn)["data"][0]["y"] == [None, 0.5]


def test_intervals_that_are_not_known_are_not_drawn() -> None:
    drawn = chart().add(Points([1, 2], [0.3, 0.3], low=[None, 0.2], high=[np.nan, 0.4]))
    (path,) = re.findall(r'<path d="(M[^"]*V[^"]*)" fill="none" stroke="#0072B2"', svg.svg(drawn))
    assert path.count("M") == 1
    error = plotly.figure(drawn)["data"][0]["error_y"]
    assert (error["array"], error["arrayminus"]) == ([None, 0.1], [None, 0.1])


def test_axes_hold_every_value_with_room_and_stand_where_there_is_none() -> None:
    low, high = ends_of([1.0, np.nan, None], [3.0])
    assert low < 1.0
    assert high > 3.0
    assert ends_of([np.nan]) == (-1.0, 1.0)
    assert np.diff(ends_of([2.0]))[0] > 0


def test_ticks_are_round_numbers_within_the_axis() -> None:
    root = parsed(svg.svg(chart(x=(-3.5, 3.5), y=(-0.13, 0.47))))
    ticks = {text.text for text in root.iter(f"{SVG}text")}
    assert {"−2", "0", "2", "0.1", "0.4"} <= ticks


def test_days_are_dates_on_both_axes() -> None:
    drawn = chart(x=(days(date(2026, 9, 1)), days(date(2026, 9, 21))), dated=True)
    drawn.add(Points([days(datetime(2026, 9, 11, 12, tzinfo=UTC))], [0.5]))
    assert "2026-09-03" in svg.svg(drawn)
    figure = plotly.figure(drawn)
    assert figure["layout"]["xaxis"]["type"] == "date"
    assert figure["data"][0]["x"] == [datetime(2026, 9, 11, 12, tzinfo=UTC).timestamp() * 1000]


def test_every_part_is_a_figure_that_plotly_knows() -> None:
    drawn = chart(x_names={1.0: "one"}, y_names={0.5: "half"})
    drawn.add(
        Line([1, 2], [0.1, 0.2], name="line", dash="dashdot", steps=True),
        Line([1, 2], [0.2, 0.3], low=[0.1, 0.2], high=[0.3, 0.4]),
        Boxes([1], [0], right=[2], top=[0.5], fills=["#123456"], texts=["text"]),
        Boxes([1], [0], right=[2], top=[1], hatched=True),
        Names([1], [0.5], names=["name"]),
    )
    drawn.stretch(1, 2).level(0)
    mark(drawn, [1, 2], [0.1, 0.2], ["", "flagged"], left=[0, 1], right=[2, 3], joined=True, plain="sound")
    made = go.Figure(plotly.figure(drawn))  # raises where Plotly does not know a property
    assert [trace.name for trace in made.data if trace.showlegend] == ["line", "sound", "flagged"]
    assert made.layout.showlegend
    assert [trace.marker.symbol for trace in made.data if trace.name in ("sound", "flagged")] == [
        "circle",
        "triangle-up",
    ]


def test_a_picture_has_a_row_for_so_many_charts_and_a_legend_of_the_names() -> None:
    charts = [chart().add(Line([0, 10], [0, 1], name=name)) for name in ("one", "two", "one")]
    wide, narrow = (parsed(svg.image(Picture("title", charts, columns))) for columns in (3, 1))
    assert float(wide.get("height", 0)) < float(narrow.get("height", 0))
    assert {wide.get("width"), narrow.get("width")} == {"900"}
    texts = [text.text for text in wide.iter(f"{SVG}text")]
    assert [name for name in texts if name in ("one", "two")] == ["one", "two"]


def test_of_very_many_points_an_image_draws_some_and_says_so() -> None:
    many = Picture(
        "many",
        [chart().add(Points(np.linspace(0, 10, 2500), np.full(2500, 0.5), low=np.zeros(2500), high=np.ones(2500)))],
    )
    assert "one of 3 points is drawn" in svg.image(many)
    assert len(svg.as_markdown(many, "many")) < 150_000


def test_processes_that_write_learner_reports_stay_small() -> None:
    code = "import sys, irt_assets.reports.learner_curve, irt_assets.charts.svg, irt_assets.charts.plotly; "
    code += "print({'numpy', 'plotly'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
