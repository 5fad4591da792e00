"""Charts: both renderers place marks by the axes' values and escape all text."""

from __future__ import annotations

import json
import math
import re
import sys
import xml.etree.ElementTree as ElementTree
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

from irt_psychometrics import PsychometricsError
from irt_psychometrics.plots import Chart, Picture, svg

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
    assert {"−2", "0", "2", "0.1", "0.4"} <= ticks, "with a true minus"
    assert not any(tick.startswith("-") for tick in ticks if tick)


def test_dates_are_shown_as_dates_by_both_renderers() -> None:
    drawn = chart(x=(date(2026, 9, 1), date(2026, 9, 21)), dated=True)
    drawn.points([datetime(2026, 9, 11, 12, tzinfo=UTC)], [0.5])
    assert "2026-09-03" in drawn.to_svg(bare=True)
    figure = drawn.to_plotly()
    assert figure["layout"]["xaxis"]["type"] == "date"
    assert figure["data"][0]["x"] == [datetime(2026, 9, 11, 12, tzinfo=UTC).timestamp() * 1000]


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


def test_every_part_of_a_chart_has_properties_that_plotly_accepts() -> None:
    drawn = chart(x_names={1.0: "one"}, y_names={0.5: "half"})
    drawn.line([1, 2], [0.1, 0.2], name="line", dash="dashdot", steps=True)
    drawn.line([1, 2], [0.2, 0.3], low=[0.1, 0.2], high=[0.3, 0.4])
    drawn.points([1, 2], [0.1, 0.2], left=[0, 1], right=[2, 3], joined=True, name="points", shape="triangle")
    drawn.boxes([1], [0], [2], [0.5], fills=["#123456"], texts=["text"])
    drawn.boxes([1], [0], [2], [1], hatched=True)
    drawn.names([1], [0.5], ["name"])
    drawn.stretch(1, 2).level(0)
    made = go.Figure(drawn.to_plotly())  # raises if Plotly rejects a property
    assert [trace.name for trace in made.data if trace.showlegend] == ["line", "points"]
    assert made.layout.showlegend


def test_matplotlib_draws_all_parts_in_the_units_of_the_axes() -> None:
    figure = pytest.importorskip("matplotlib.figure")
    own = chart(y=(0, 2), x_names={2: "two", 8: "eight"}, heading="$1 and $2", notes=["a note"])
    own.line([0, 5, 10], [0, 1, 2], "orange", "_line", low=[0, 0.5, 1], high=[1, 1.5, 2], dash="dash")
    own.points([1, 5, 9, 3], [0.5, math.nan, 2.5, -1], "green", "dots", low=[0.4, 0, 2, -2], high=[0.6, 1, 3, 0])
    own.boxes([2], [0.0], [4], [1.0], name="bars", texts=["inside"]).names([8], [1.0], ["near"])
    ax = figure.Figure().add_subplot()
    assert own.to_matplotlib(ax) is ax
    assert (ax.get_xlim(), ax.get_ylim()) == ((0, 10), (0, 2))
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["eight", "two"]
    line, above, below, inside = ax.get_lines()
    assert (line.get_xdata().tolist(), line.get_color()) == ([0, 5, 10], svg.COLOURS["orange"])
    marked = [side.get_xydata().tolist() for side in (above, below, inside)]
    assert marked == [[[9, 2]], [[3, 0]], [[1, 0.5]]], (
        "values beyond an end are arrows there, unknown ones are left out"
    )
    (bar,) = ax.patches
    assert bar.get_bbox().extents.tolist() == [2, 0, 4, 1]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["_line", "dots", "bars"]
    assert {text.get_text() for text in ax.texts} == {"a note", "inside", "near"}
    assert ax.get_title(loc="left") == r"\$1 and \$2", "no formula"


def test_matplotlib_shows_days_as_dates() -> None:
    dates, figure = (pytest.importorskip(f"matplotlib.{name}") for name in ("dates", "figure"))
    days = date(2026, 1, 1), date(2026, 2, 1)
    ax = chart(x=days, dated=True).line(days, [0, 1], steps=True).to_matplotlib(figure.Figure().add_subplot())
    assert [dates.num2date(end).date() for end in ax.get_xlim()] == [*days]
    assert ax.get_lines()[0].get_drawstyle() == "steps-post"


@pytest.mark.parametrize(("kind", "first"), [("png", b"\x89PNG"), ("PDF", b"%PDF")])
def test_charts_and_pictures_are_written_as_png_and_pdf(tmp_path: Path, kind: str, first: bytes) -> None:
    pytest.importorskip("matplotlib")
    own = chart().points([1, 5], [0.5, 3], name="a point").line([0, 9], [0, 1], name="a line")
    path = tmp_path / f"figure.{kind}"
    for figure in (own, Picture("A title", [own, own, own], 2), Picture("only a title")):
        figure.save(path)
        assert path.read_bytes().startswith(first)


def test_axes_of_a_new_figure_have_the_size_of_the_chart() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure = chart(width=640, height=320).to_matplotlib().figure
    both = Picture("A title", [chart(), chart()], 2).to_matplotlib()
    assert figure.get_size_inches().tolist() == pytest.approx([640 / 76.8, 320 / 76.8])  # 1.25 pixels of 1/96 inch
    assert len(both.axes) == 2
    pyplot.close("all")


def test_names_stand_right_of_their_points_and_move_by_a_line_instead_of_overlapping() -> None:
    """Four names at the ends of lines, and one without room at the right."""
    drawn = chart(width=330).names([9, 9, 9, 9, 10], [0.5, 0.5, 0.5, 0.5, 0.9], ["D", "A", "C", "B", "item_11"])
    texts = {one.text: one for one in parse_svg(drawn.to_svg(bare=True)).iter(f"{SVG}text")}
    assert {texts[name].get("text-anchor") for name in "DAC"} == {"start"}
    levels = sorted(float(texts[name].get("y") or 0) for name in "DAC")
    assert min(np.diff(levels)) >= 10
    assert "B" not in texts  # neither its line nor the next ones have room
    assert texts["item_11"].get("text-anchor") == "end"


def test_plotly_cuts_no_mark_or_name_at_the_end_of_an_axis() -> None:
    marks, names = chart().points([0, 10], [0, 1]).names([0, 10], [0, 1], ["first", "item_11"]).to_plotly()["data"]
    assert (marks["cliponaxis"], names["cliponaxis"]) == (False, False)
    assert names["textposition"] == ["middle right", "middle left"]


def test_png_without_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (lambda: chart().save(tmp_path / "figure.png"), chart().to_matplotlib, Picture("").to_matplotlib):
        with pytest.raises(PsychometricsError, match=r"pip install irt-psychometrics\[plots\]"):
            draw()
    chart().save(tmp_path / "figure.svg")
