"""Linking over many simulated months: errors are as large as they say, sound months pass, moved anchors are found."""

from __future__ import annotations

import numpy as np
import pytest

from irt_assets.gates.coverage import error_of_linking
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.psychometrics.core.covariances import block_diagonal
from irt_assets.psychometrics.core.options import Method
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.psychometrics.linking.linking import link
from irt_assets.psychometrics.linking.placement import Linking
from tests.helpers.what_changed import WHERE_STATISTICS_CHANGE
from tests.testbed.linked_months import CRITERIA, INTERCEPT, SLOPE, calibration, ids, month

pytestmark = WHERE_STATISTICS_CHANGE


def agree(linking: Linking) -> bool:
    """Whether the gate on agreement leaves the month alone, as far as anchors are concerned."""
    return not LinkingConstants.of(linking).disagreement(Rules().publication)


def months(n: int, seed: int, **options: object) -> list[Linking]:
    rng = np.random.default_rng(seed)
    return [link(*month(rng, **options)) for _ in range(n)]


@pytest.mark.parametrize(
    ("method", "symmetric", "n_new", "n_old"),
    [
        *((*criterion, 1000, 1000) for criterion in CRITERIA[:-2]),
        *((*criterion, 3000, 400) for criterion in CRITERIA[-2:]),
    ],
)
def test_standard_errors_are_the_spread_over_simulated_months(
    method: Method, symmetric: bool, n_new: int, n_old: int
) -> None:
    rng = np.random.default_rng(11)
    n, loose = 100, Rules.from_settings({"min_anchor_share": 0})
    options = {"method": method, "symmetric": symmetric, "rules": loose, "purify": False}
    found = [link(*month(rng, k=20, n_new=n_new, n_old=n_old), **options) for _ in range(n)]
    for name, truth in (("slope", SLOPE), ("intercept", INTERCEPT)):
        values = np.array([getattr(f, name) for f in found])
        stated = np.mean([getattr(f, f"{name}_se") for f in found])
        # an SD over 100 months has a relative standard error of 1/√200 = 7.1 %; three of them
        assert values.std() == pytest.approx(stated, rel=0.21)
        # bias below a third of a standard error, tested with 3 standard errors of the mean on top
        assert abs(values.mean() - truth) < stated * (0.33 + 3 / np.sqrt(n))
    ends = np.array([-1.3, 1.3])
    placed = np.array([f.slope * (ends - INTERCEPT) / SLOPE + f.intercept for f in found])
    errors_of_ends = [error_of_linking(f.slope, f.intercept, f.cov, ends) for f in found]
    assert placed.std(axis=0) == pytest.approx(np.mean(errors_of_ends, axis=0), rel=0.21)  # as above


def test_what_all_items_of_a_fit_have_in_common_is_part_of_the_intercepts_error() -> None:
    rng = np.random.default_rng(3)
    k, common_sd, n = 20, 0.08, 100
    intercepts, stated, blind, p_values = [], [], [], []
    for _ in range(n):
        new, anchors = month(rng, k=k)
        joint = block_diagonal(new.cov_ab)
        joint[1::2, 1::2] += common_sd**2
        b, blocks = new.b + rng.normal(0, common_sd), new.cov_ab + np.diag([0.0, common_sd**2])
        with_joint = link(calibration(new.a, b, blocks, joint_ab=joint), anchors, purify=False)
        intercepts.append(with_joint.intercept)
        stated.append(with_joint.intercept_se)
        p_values.append(with_joint.q_p)
        blind.append(link(calibration(new.a, b, blocks), anchors, purify=False).intercept_se)
    # 100 months: an SD is good to 7 %; two of them
    assert np.std(intercepts) == pytest.approx(np.mean(stated), rel=0.15)
    assert np.mean(blind) < 0.5 * np.mean(stated)
    # the common error moves all anchors together, which is not a disagreement: p is uniform, its mean 0.5 ± 2·0.29/√100
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.06)


def test_q_is_chi_square_when_only_errors_move_the_anchors() -> None:
    rng = np.random.default_rng(8)
    found = [link(*month(rng), purify=False) for _ in range(200)]
    q = np.array([f.q for f in found])
    df = found[0].q_df
    assert df == 58
    # mean df and variance 2·df of a χ², three standard errors of 200 draws, and 3 % below for the curvature of ln a
    assert 0.97 * df - 3 * np.sqrt(2 * df / 200) < q.mean() < df + 3 * np.sqrt(2 * df / 200)
    assert q.var() == pytest.approx(2 * df, rel=0.25)
    # false alarms 1 %: 2 of 200 expected, P(> 7) < 0.002
    assert sum(f.q_p < 0.01 for f in found) <= 7


@pytest.mark.parametrize("k", [7, 10, 30])
def test_sound_months_pass_and_keep_nearly_all_anchors(k: int) -> None:
    found = months(70, seed=k, k=k)
    assert sum(not agree(f) for f in found) <= 4  # up to 3 % of months with few anchors: 2.1 expected, P(> 4) = 0.06
    assert np.mean([len(f.anchors_dropped) for f in found]) < 0.02 * k


def test_twelve_of_thirty_anchors_moved_together_do_not_pass() -> None:
    # by .6 at 1000 learners many months look as if all anchors varied, by more than items of one scale do
    found = months(50, seed=4, moved=12, shift=0.6)
    assert sum(agree(f) for f in found) <= 5  # 3 % may pass, P(> 5 of 50) < 0.004
    found = months(30, seed=4, moved=12, shift=0.8, n_new=2000, n_old=2000)
    assert not any(agree(f) for f in found)
    named = [set(f.suspects) & set(ids(12)) for f in found]
    assert np.mean([len(some) for some in named]) >= 11  # a month that cannot tell counts 0
    assert np.mean([len(set(f.suspects) - set(ids(12))) for f in found]) <= 1


def test_one_moved_anchor_of_thirty_is_dropped_and_the_rest_agree() -> None:
    found = months(50, seed=6, moved=1, shift=0.8)
    assert all("item00" in f.anchors_dropped for f in found)
    assert "It lies off the line of the anchors that are kept: b by +0." in found[0].anchors_dropped["item00"]
    assert found[0].suspects["item00"]["parameter"] == "b"
    assert sum(agree(f) for f in found) >= 47
    # the constants are as good as without it
    assert np.mean([f.intercept for f in found]) == pytest.approx(INTERCEPT, abs=0.01)


def test_half_of_the_anchors_cannot_tell_which_half_moved() -> None:
    found = months(30, seed=4, moved=15, shift=0.9)
    told = [f for f in found if f.suspects]
    assert len(told) <= 15  # by chance one half loses an anchor to the other's line, or not
    tie = next(f for f in found if not f.suspects)
    assert tie.diagnosis.startswith("which anchors moved cannot be determined: of 30, ")
    assert not any(agree(f) for f in found)


def test_the_slopes_of_anchors_may_vary_too_and_only_then_count() -> None:
    """ln a of all anchors by N(0, .08²) at 10,000 learners, which give it errors of .04."""
    rng = np.random.default_rng(13)
    sound, varied = [], []
    for _ in range(20):
        new, anchors = month(rng, n_new=10_000, n_old=10_000)
        sound.append(link(new, anchors))
        a = new.a * rng.lognormal(0, 0.08, new.n_items)
        varied.append(link(calibration(a, new.b, new.cov_ab), anchors))
    assert sum(f.tau_slope > 0 for f in sound) <= 3  # by a lower 97.5 % limit: .5 expected, P(> 3) < 0.002
    assert np.mean([f.tau_slope for f in varied]) == pytest.approx(0.08, abs=0.015)
    assert np.mean([f.slope_se for f in varied]) > 1.5 * np.mean([f.slope_se for f in sound])
