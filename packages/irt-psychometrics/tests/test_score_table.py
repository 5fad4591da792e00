"""Score tables of forms with known items."""

import numpy as np
import pytest
from scipy.special import expit

from irt_psychometrics import PsychometricsError
from irt_psychometrics.items import ItemParameters
from irt_psychometrics.scoring import ScoreScale, ScoreTable
from irt_psychometrics.scoring.score_table import normal_deviates, percentile_ranks

B = np.linspace(-2, 2, 10)


def form(c: float = 0.0) -> ItemParameters:
    return ItemParameters.from_frame({"item": list("abcdefghij"), "a": [1.2] * 10, "b": B.tolist(), "c": [c] * 10})


def test_pass_is_lowest_raw_score_whose_unrounded_scaled_score_reaches_mark():
    table = ScoreTable.from_items(form(0.2), ScoreScale(100, 500, step=10), mark=500, mean=0, sd=1)
    assert table.raw_cut == 7
    assert table.scaled[6] == 500
    assert not table.passes[6]
    assert table.notes == ("Raw scores [6] are shown as 500 or more by rounding, and do not pass.",)


def test_theta_of_test_curve_has_its_raw_score_and_ends_continue_line():
    table = ScoreTable.from_items(form(), ScoreScale(1, 0, step=0.01), theta="test-curve")
    inside = table.theta[1:-1]
    np.testing.assert_allclose(expit(1.2 * (inside[:, None] - B)).sum(axis=1), np.arange(1, 10))
    assert table.theta[0] == pytest.approx(2 * inside[0] - inside[1])
    assert table.theta[-1] == pytest.approx(2 * inside[-1] - inside[-2])
    assert "Raw scores [0, 10] have no θ" in table.notes[0]


def test_scores_stop_at_lowest_and_highest_obtainable():
    table = ScoreTable.from_items(form(0.2), ScoreScale(100, 500, 10, 300, 700), theta="test-curve")
    assert table.scaled[[0, -1]].tolist() == [300, 700]
    assert (np.diff(table.scaled) >= 0).all()
    assert table.ties == [(0, 3), (9, 10)]


def test_table_never_falls_and_says_where_it_would():
    table = ScoreTable.from_values(np.array([0.0, 2.0, 1.5, 3.0]), np.ones(4), ScoreScale(1, 0))
    assert table.scaled.tolist() == [0, 2, 2, 3]
    assert "Raw scores [2]" in table.notes[0]


def test_halves_are_rounded_up():
    scale = ScoreScale(1, 0)
    assert scale.rounded(np.array([0.5, 1.5, 2.4999, -0.5])).tolist() == [1, 2, 2, 0]


def test_percentile_ranks_count_half_of_those_with_score():
    assert percentile_ranks([1, 2, 1]).tolist() == [12.5, 50, 87.5]
    assert percentile_ranks([0, 4, 0]).tolist() == [12.5, 50, 87.5]
    np.testing.assert_allclose(normal_deviates([0, 4, 0]), [-1.1503, 0, 1.1503], atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ScoreScale(0, 500), "slope and step must be above 0"),
        (lambda: ScoreScale(1, 0, lowest=5, highest=5), "lowest score below the highest"),
        (
            lambda: ScoreTable.from_items(form(), ScoreScale(1, 0), norm_counts=[1, 2], mean=0, sd=1),
            "2 counts; the form has 11",
        ),
        (lambda: percentile_ranks([0, 0]), "norm group has no persons"),
    ],
)
def test_scale_or_norm_group_that_gives_no_table_is_refused(call, message):
    with pytest.raises(PsychometricsError, match=message):
        call()


@pytest.mark.parametrize(("a", "b"), [(12.0, np.linspace(-1.5, 1.5, 20)), (25.0, np.array([-0.9, 0.1, 0.13, 1.1]))])
def test_table_of_steep_items_equals_integrals_on_many_nodes(a, b):
    theta = np.linspace(-8, 8, 40_001)
    p = expit(a * (theta[:, None] - b))
    joint = np.zeros((b.size + 1, theta.size))
    joint[0] = np.exp(-(theta**2) / 2)
    for j in range(b.size):
        joint[1:] = joint[1:] * (1 - p[:, j]) + joint[:-1] * p[:, j]
        joint[0] *= 1 - p[:, j]
    mean = joint @ theta / joint.sum(axis=1)
    sd = np.sqrt((joint * (theta - mean[:, None]) ** 2).sum(axis=1) / joint.sum(axis=1))
    items = ItemParameters.from_frame({"item": range(b.size), "a": [a] * b.size, "b": b})
    table = ScoreTable.from_items(items, ScoreScale(1, 0, step=0.01), mean=0, sd=1)
    np.testing.assert_allclose(table.theta, mean, atol=1e-5)
    np.testing.assert_allclose(table.se, sd, atol=1e-5)
