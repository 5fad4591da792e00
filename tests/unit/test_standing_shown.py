"""The path of θ on a learner's page: where abilities move, what is known of θ at any time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import sqrt

import pytest

from irt_assets.abilities.online import Learner, Theta
from irt_assets.charts.chart import Line, Points, days
from irt_assets.psychometrics.core.confidence import Z95
from irt_assets.psychometrics.core.movement import Movement
from irt_assets.reports.standing_shown import activity, in_short, theta_over_time

NOW = datetime(2026, 10, 20, tzinfo=UTC)
WALK = Movement(variance=0.01, growth=0.02)


def theta(value: float, se: float, kind: str, end: datetime, as_of: datetime | None, scale: str = "default") -> Theta:
    return Theta(scale, value, se, None, 40, kind, end, "set", 1, end, as_of, "run")


LAST = theta(0.6, 0.2, "nightly", NOW - timedelta(days=5), NOW - timedelta(days=14))
FIRST = theta(0.2, 0.3, "monthly", NOW - timedelta(days=50), NOW - timedelta(days=56))


ANSWERED = [days(one.as_of) for one in (FIRST, LAST) if one.as_of]


def test_the_band_widens_by_the_walk_until_the_next_answer_and_until_now() -> None:
    chart = theta_over_time([LAST, FIRST], "UTC", {"default": WALK}, NOW).chart
    (path,) = (part for part in chart.parts if isinstance(part, Line))
    half = {x: (high - low) / 2 / Z95 for x, low, high in zip(path.xs, path.low, path.high, strict=True)}
    assert half[ANSWERED[0]] == pytest.approx(0.3)
    ahead = max(high for x, y, high in zip(path.xs, path.ys, path.high, strict=True) if y == 0.2) - 0.2
    assert ahead == pytest.approx(Z95 * sqrt(0.3**2 + 0.01 * 6)), "six weeks later, before what was answered then"
    assert half[days(NOW)] == pytest.approx(sqrt(0.2**2 + 0.01 * 2))
    assert path.ys[-1] == 0.6, "nobody grows without an answer"
    assert [part.xs for part in chart.parts if isinstance(part, Points)] == [[x] for x in ANSWERED]


def test_a_constant_theta_stands_where_its_window_ends_with_its_interval() -> None:
    chart = theta_over_time([LAST, FIRST], "UTC").chart
    assert not [part for part in chart.parts if isinstance(part, Line)]
    of_month, of_night = (part for part in chart.parts if isinstance(part, Points))
    assert (of_month.xs, of_night.xs) == ([days(FIRST.window_end)], [days(LAST.window_end)])
    assert of_night.high == [pytest.approx(0.6 + Z95 * 0.2)]


@pytest.mark.parametrize(("as_of", "said"), [(LAST.as_of, "2026-10-06"), (None, "2026-10-15")])
def test_a_theta_says_as_of_when_it_is(as_of: datetime | None, said: str) -> None:
    one = theta(0.6, 0.2, "nightly", LAST.window_end, as_of)
    text = str(in_short(Learner("u", False, "default", 1.0), {"default": one}, "UTC"))
    assert "from 40 answers as of " in text
    assert said.replace("-", ", ").replace(", 0", ", ") in text


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (NOW - timedelta(days=70), "have not been made yet"),
        (NOW - timedelta(days=366), "No live answer in the last 365"),
    ],
)
def test_activity_does_not_deny_recent_answers_of_days_without_features(last: datetime, said: str) -> None:
    assert said in str(activity([], last, NOW))
