"""Charts: what is drawn lies where the axes say, and no text comes through unescaped."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from irt_assets.reports.charts import BLUE, Chart, ends_of

SVG = "{http://www.w3.org/2000/svg}"


def chart(**changes: object) -> Chart:
    return Chart(**({"x": (0, 10), "y": (0, 1), "x_label": "x", "y_label": "y", "described": "a chart"} | changes))  # type: ignore[arg-type]


def parsed(drawn: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(drawn.svg())


def test_points_lie_between_the_ends_of_the_axes_and_beyond_at_their_edge() -> None:
    root = parsed(chart().points([0, 5, 10, 12], [0, 0.5, 1, 1], BLUE))
    at = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(f"{SVG}circle")]  # type: ignore[arg-type]
    (left, bottom), middle, (right, top), beyond = at
    assert middle == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=0.1)  # places are rounded to 0.1
    assert bottom > top
    assert beyond == (right, top)


def test_names_titles_and_labels_are_escaped() -> None:
    bad = "<script>alert(1)</script>"
    drawn = (
        chart(x_label=bad, described=f'"{bad}', x_names=[bad])
        .points([1], [0.5], BLUE, "triangle", [bad])
        .names([1], [0.5], [bad])
    ).svg()
    assert "<script" not in drawn
    titles = [title.text for title in ElementTree.fromstring(drawn).iter(f"{SVG}title")]
    assert titles == [bad], "and it reads as it was"


@pytest.mark.parametrize("shape", ["circle", "triangle", "cross"])
def test_a_point_that_is_not_known_is_not_drawn(shape: str) -> None:
    marks = parsed(chart().points([1, 2], [np.nan, 0.5], BLUE, shape, ["gone", "there"]))  # type: ignore[arg-type]
    assert [title.text for title in marks.iter(f"{SVG}title")] == ["there"]


def test_intervals_that_are_not_known_are_not_drawn() -> None:
    (path, *_) = re.findall(
        r'<path d="(M[^"]*V[^"]*)" fill="none" stroke="#0072B2"',
        chart().intervals([1, 2], [np.nan, 0.2], [np.nan, 0.4], BLUE).svg(),
    )
    assert path.count("M") == 1


def test_axes_hold_every_value_with_room_and_stand_where_there_is_none() -> None:
    low, high = ends_of([1.0, np.nan, None], [3.0])  # type: ignore[list-item]
    assert low < 1.0
    assert high > 3.0
    assert ends_of([np.nan]) == (-1.0, 1.0)
    assert np.diff(ends_of([2.0]))[0] > 0


def test_ticks_are_round_numbers_within_the_axis() -> None:
    root = parsed(chart(x=(-3.5, 3.5), y=(-0.13, 0.47)))
    ticks = {text.text for text in root.iter(f"{SVG}text")}
    assert {"-2", "0", "2", "0.1", "0.4"} <= ticks
