"""How much an item differs, against differences of draws whose errors are known, integrals and finite differences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from threadpoolctl import threadpool_limits

from irt_assets.psychometrics.core.models import Calibration, Convergence
from irt_assets.psychometrics.core.quadrature import Grid
from irt_assets.psychometrics.dif.effects import expected_scores
from tests.testbed.dif_anchors import compare_by_anchors

J, ERROR = 12, 0.02
A = np.exp(np.linspace(-0.4, 0.4, J))
B = np.linspace(-1.5, 1.5, J)[::-1]
IDS = tuple(f"item{j:02d}" for j in range(J))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Many small matrices gain nothing from threads."""
    with threadpool_limits(1, user_api="blas"):
        yield


def fit(a: np.ndarray, d: np.ndarray, error: float = ERROR) -> Calibration:
    cov, counts = np.tile(error**2 * np.eye(2), (J, 1, 1)), np.full(J, 1000)
    return Calibration(
        IDS, ("2pl",) * J, "test", "0", a, d, np.zeros(J), cov, None, counts, counts // 2, ((),) * J, 0.0, 1.0, 1000,
        Convergence(True, 1, 0.0, 0.0, -1.0, 2 * J),
    )  # fmt: skip


def test_errors_are_those_of_both_groups_and_of_what_links_them() -> None:
    """The SDs of 300 draws of both groups' estimates about known parameters: of a sound item, one that is flat in
    the reference, one that is flat in the focal group, and a hard one. An SD of 300 draws errs by 4 %."""
    rng = np.random.default_rng(3)
    a, d = np.stack([A, A]), np.stack([-A * B, -A * B])
    a[0, 2], a[1, 5] = 0.4, 0.4
    d[0, 9], d[1, 9] = -2.5, -3.0
    anchors = [item for j, item in enumerate(IDS) if j not in (2, 5, 9)]
    delta, se, shift, shift_se = [], [], [], []
    for _ in range(300):
        fits = [fit(a[g] + ERROR * rng.normal(size=J), d[g] + ERROR * rng.normal(size=J)) for g in (0, 1)]
        found = compare_by_anchors(fits, ["ko", "en"], anchors)
        delta.append(found.delta[0])
        se.append(found.se[0])
        shift.append(found.shift[0])
        shift_se.append(found.shift_se[0])
    for j in (2, 5, 6, 9):
        assert np.mean(se, axis=0)[j] == pytest.approx(np.std(delta, axis=0)[j], rel=0.13), IDS[j]
        assert np.mean(shift_se, axis=0)[j] == pytest.approx(np.std(shift, axis=0)[j], rel=0.13), IDS[j]


def test_a_difficulty_that_is_an_extrapolation_has_no_difference_and_the_expected_scores_have() -> None:
    """b = 6.5 in the reference; a = 0.15 in the focal group."""
    a, d = np.stack([A, A]), np.stack([-A * B, -A * B])
    a[0, 3], d[0, 3] = 0.5, -3.25
    a[1, 7] = 0.15
    found = compare_by_anchors([fit(a[g], d[g]) for g in (0, 1)], ["ko", "en"], [*IDS[:3], *IDS[8:]])
    stated = np.isfinite(found.delta[0, :, 1])
    assert np.flatnonzero(~stated).tolist() == [3, 7]
    assert np.array_equal(stated, np.isfinite(found.se[0, :, 1]))
    assert np.isfinite(found.delta[0, :, 0]).all()
    assert np.isfinite(found.shift).all()
    assert np.isfinite(found.shift_se).all()


def test_the_slopes_of_expected_scores_are_those_of_finite_differences() -> None:
    """Between equal curves they are the derivatives; between unlike ones, multiplied, the difference itself."""
    theta = 0.3 + 1.2 * Grid.spanning().nodes
    weights = np.exp(Grid.spanning().log_weights())
    at = np.array([0.7, -1.1])
    _, _, slopes = expected_scores(np.tile(at, 2), theta)

    def score(a: float, d: float) -> float:
        return float(weights @ expit(a * theta + d))

    step = 1e-5
    by_hand = [(score(*(at + e)) - score(*(at - e))) / (2 * step) for e in step * np.eye(2)]
    assert slopes == pytest.approx(by_hand, rel=1e-8)
    other = np.array([2.1, 1.4])
    area, shift, slopes = expected_scores(np.concatenate([at, other]), theta)
    assert shift == pytest.approx(score(*other) - score(*at), abs=1e-12)
    assert slopes @ (other - at) == pytest.approx(shift, rel=1e-6)
    assert area >= abs(shift)


def test_no_difference_is_more_certain_than_the_test_that_it_belongs_to() -> None:
    """A direction's χ² is at most that of both (Cauchy & Schwarz): of expected scores always, of Δb as far as it is
    linear. 20 pairs of sound groups with errors of 0.1, where it is not quite."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        fits = [fit(A + 0.1 * rng.normal(size=J), 0.1 * rng.normal(size=J) - A * B, 0.1) for _ in range(2)]
        found = compare_by_anchors(fits, ["ko", "en"], IDS)
        assert np.all((found.shift / found.shift_se)[0] ** 2 <= found.wald * 1.001)
        assert np.all((found.delta / found.se)[0, :, 1] ** 2 <= found.wald * 1.6 + 0.1)


def test_a_common_slope_has_errors_of_difficulty_alone() -> None:
    rng = np.random.default_rng(6)
    a = np.full(J, 0.8)
    deltas, ses = [], []
    for _ in range(60):
        fits = [replace(fit(a, 0.05 * rng.normal(size=J) - a * B, 0.05), models=("1pl",) * J) for _ in range(2)]
        found = compare_by_anchors(fits, ["ko", "en"], IDS)
        deltas.append(found.delta[0, :, 1])
        ses.append(found.se[0, :, 1])
    assert np.mean(ses) == pytest.approx(np.std(deltas), rel=0.1)
