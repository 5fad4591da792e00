"""DIF: groups that fits of known parameters set apart, published Mantel-Haenszel values, and sittings."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import chi2, norm

from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.models import Calibration, Convergence, Responses
from irt_assets.psychometrics.core.options import Model
from irt_assets.psychometrics.dif.forms import Cells, cells, sittings
from irt_assets.psychometrics.dif.logistic import logistic_dif
from irt_assets.psychometrics.dif.mantel_haenszel import ets_class, mantel_haenszel
from irt_assets.psychometrics.dif.wald import compare_groups
from tests.testbed.dif_anchors import compare_by_anchors

J = 12
A = np.exp(np.linspace(-0.4, 0.4, J))
B = np.linspace(-1.5, 1.5, J)[::-1]
MEAN, SD = -1.0, 1.25


def fit(a: np.ndarray, b: np.ndarray, *, model: Model = "2pl", error: float = 0.05, n: int = 1000) -> Calibration:
    """Estimates that are exact, with independent errors."""
    cov = np.tile(error**2 * np.eye(2), (len(a), 1, 1))
    if model != "2pl":
        cov[:, 0] = cov[:, :, 0] = 0.0
    ids, counts = tuple(f"item{j:02d}" for j in range(len(a))), np.full(len(a), n)
    return Calibration(
        ids, (model,) * len(a), "test", "0", a, -a * b, np.zeros(len(a)), cov, None, counts, counts // 2,
        ((),) * len(a), 0.0, 1.0, n, Convergence(True, 1, 0.0, 0.0, -1.0, 2 * len(a)),
    )  # fmt: skip


def focal(b: np.ndarray, a: np.ndarray = A, **known: object) -> Calibration:
    """Items with these parameters, seen by a group N(MEAN, SD²) that is its own scale's N(0, 1)."""
    return fit(SD * a, (b - MEAN) / SD, **known)  # type: ignore[arg-type]


def test_groups_that_differ_in_ability_alone_differ_in_no_item() -> None:
    wald = compare_groups([fit(A, B), focal(B)], ["ko", "en"])
    assert wald.mean == pytest.approx([0.0, MEAN], abs=1e-8)
    assert wald.sd == pytest.approx([1.0, SD], abs=1e-8)
    assert wald.wald == pytest.approx(0.0, abs=1e-9)
    assert wald.flagged == ()
    assert wald.anchors == wald.item_ids
    assert wald.df.tolist() == [2] * J


def test_an_item_that_is_harder_for_a_group_is_found_with_its_size() -> None:
    """wABC against an integral over the normal with the mean and the variance of both groups together."""
    b = B + 0.6 * (np.arange(J) == 3)
    wald = compare_groups([fit(A, B), focal(b)], ["ko", "en"])
    assert wald.flagged == ("item03",)
    assert "item03" not in wald.anchors
    assert wald.delta[0, 3] == pytest.approx([0.0, 0.6], abs=1e-6)
    assert np.delete(wald.delta[0], 3, axis=0) == pytest.approx(0.0, abs=1e-6)
    middle, wide = MEAN / 2, np.sqrt((1 + SD**2) / 2 + MEAN**2 / 4)
    gap = lambda t: (expit(A[3] * (t - B[3])) - expit(A[3] * (t - b[3]))) * norm.pdf(t, middle, wide)  # noqa: E731
    area = quad(gap, -12, 12)[0]
    assert wald.wabc[0, 3] == pytest.approx(area, rel=1e-6)
    assert wald.shift[0, 3] == pytest.approx(-area, rel=1e-6)
    assert wald.severity[3] == ("high" if area > 0.1 else "medium")
    assert set(np.delete(wald.severity, 3)) == {"none"}


def test_the_test_of_an_anchor_is_that_with_the_other_anchors() -> None:
    """To the order in which the equations are linear: estimates differ by a tenth of a unit and less."""
    rng = np.random.default_rng(1)
    reference = fit(A, B)
    noisy = fit(SD * A + rng.normal(0, 0.05, J), (B - MEAN) / SD + rng.normal(0, 0.05, J))
    ids = reference.item_ids
    together = compare_by_anchors([reference, noisy], ["ko", "en"], ids)
    for j in (0, 5, 11):
        apart = compare_by_anchors([reference, noisy], ["ko", "en"], [i for i in ids if i != ids[j]])
        assert together.wald[j] == pytest.approx(apart.wald[j], rel=0.1, abs=0.05)


def test_three_groups_are_tested_at_once_and_a_missing_one_costs_its_two_degrees() -> None:
    third = focal(B + 0.8 * (np.arange(J) == 7))
    for values in (third.a, third.d, third.cov):
        values[2] = np.nan
    wald = compare_groups([fit(A, B), focal(B), third], ["ko", "en", "vi"])
    assert wald.df.tolist() == [4, 4, 2, *[4] * (J - 3)]
    assert wald.flagged == ("item07",)
    assert wald.wabc[1, 7] > wald.wabc[0, 7]
    assert np.isnan(wald.delta[1, 2]).all()


@pytest.mark.parametrize("model", ["rasch", "1pl"])
def test_a_common_slope_leaves_one_difference_to_test(model: Model) -> None:
    unit = 1.0 if model == "rasch" else 0.8
    b = B + 0.7 * (np.arange(J) == 3)
    if model == "rasch":
        other = fit(np.ones(J), b - MEAN, model=model)
    else:
        other = fit(np.full(J, unit * SD), (b - MEAN) / SD, model=model)
    wald = compare_groups([fit(np.full(J, unit), B, model=model), other], ["ko", "en"])
    assert wald.df.tolist() == [1] * J
    assert wald.flagged == ("item03",)
    assert wald.delta[0, 3] == pytest.approx([0.0, 0.7], abs=1e-6)
    assert wald.mean[1] == pytest.approx(MEAN, abs=1e-6)


def test_where_most_items_differ_the_result_says_that_anchors_disagree() -> None:
    b = B + np.array([0.9, -0.9, 0, 0.5] * 3)
    wald = compare_groups([fit(A, B), focal(b)], ["ko", "en"])
    assert "anchors disagree" in wald.warnings[0]
    assert len(wald.anchors) >= J / 2


def test_groups_without_common_items_cannot_be_compared() -> None:
    first, second = fit(A, B), focal(B)
    first.cov[: J // 2] = np.nan
    second.cov[J // 2 - 2 :] = np.nan
    with pytest.raises(PsychometricsError, match="0 items have estimates"):
        compare_groups([first, second], ["ko", "en"])
    with pytest.raises(PsychometricsError, match="groups ko and en share 1 items"):
        compare_groups([fit(np.append(-A[:-1], 1.0), B), focal(B)], ["ko", "en"])
    with pytest.raises(PsychometricsError, match="without guessing"):
        compare_groups([fit(A, B, model="3pl"), focal(B, model="3pl")], ["ko", "en"])


# --- Mantel-Haenszel and logistic regression -----------------------------------------------------------------------

BERKELEY = np.array(
    [[512, 313, 89, 19], [353, 207, 17, 8], [120, 205, 202, 391], [138, 279, 131, 244], [53, 138, 94, 299],
     [22, 351, 24, 317]]
)  # fmt: skip
"""Admitted and rejected men, admitted and rejected women, of six departments (Bickel, Hammel & O'Connell 1975)."""


def berkeley() -> Cells:
    men, women = BERKELEY[:, :2], BERKELEY[:, 2:]
    n = np.stack([men.sum(axis=1), women.sum(axis=1)], axis=1).astype(float)
    right = np.stack([men[:, 0], women[:, 0]], axis=1).astype(float)
    return Cells(np.zeros(6, dtype=np.int64), np.linspace(0, 1, 6), n, right)


def test_mantel_haenszel_is_what_r_says_of_admissions_at_berkeley() -> None:
    """`mantelhaen.test(UCBAdmissions)` in R: X-squared = 1.4269, p = 0.2323, odds ratio 0.9046968, 95 % CI 0.7719074
    to 1.0603298 (by Robins, Breslow & Greenland's variance)."""
    found = mantel_haenszel(berkeley(), focal=1)
    assert found.odds_ratio == pytest.approx(0.9046968, abs=5e-8)
    assert found.chi2 == pytest.approx(1.4269, abs=5e-5)
    assert found.p == pytest.approx(0.2323, abs=5e-5)
    se = np.log(1.0603298 / 0.7719074) / (2 * norm.ppf(0.975))
    assert found.se == pytest.approx(2.35 * se, rel=1e-6)
    assert found.delta == pytest.approx(-2.35 * np.log(0.9046968), rel=1e-6)
    assert found.ets_class == "A"


@pytest.mark.parametrize(
    ("delta", "se", "p", "expected"),
    [
        (0.99, 0.1, 0.0, "A"),
        (-1.2, 0.4, 0.003, "B"),
        (-1.2, 0.8, 0.13, "A"),
        (1.5, 0.30, 0.0, "C"),
        (-1.5, 0.30, 0.0, "C"),
        (1.5, 0.31, 0.0, "B"),
        (1.49, 0.1, 0.0, "B"),
        (1.9, 1.0, 0.06, "A"),
    ],
)
def test_ets_classes_ask_for_size_and_certainty(delta: float, se: float, p: float, expected: str) -> None:
    assert ets_class(delta, se, p) == expected


def test_logistic_regression_is_that_of_single_answers() -> None:
    """Likelihoods maximised answer by answer by another optimiser, and R² written as Nagelkerke (1991) does."""
    rng = np.random.default_rng(4)
    score, group, form = rng.integers(0, 9, 900), rng.integers(0, 2, 900), rng.integers(0, 2, 900)
    y = rng.random(900) < expit(-2 + 0.5 * score + 0.6 * group - 0.1 * group * score + 0.3 * form)
    place = np.ravel_multi_index((form, score, group), (2, 9, 2))
    n, right = (np.bincount(place, w, 36).reshape(18, 2) for w in (np.ones(900), y))
    found = logistic_dif(Cells(np.repeat([0, 1], 9), np.tile(np.arange(9) / 8, 2), n, right), focal=1)

    def best(*columns: np.ndarray) -> float:
        x = np.column_stack([form == 0, form == 1, *columns]).astype(float)
        loss = lambda beta: np.logaddexp(0, x @ beta).sum() - y @ (x @ beta)  # noqa: E731
        slope = lambda beta: x.T @ (expit(x @ beta) - y)  # noqa: E731
        return -minimize(loss, np.zeros(x.shape[1]), jac=slope, method="BFGS", tol=1e-9).fun

    matched = (score * (form == 0), score * (form == 1))
    null, base, shifted, full = (
        best(), best(*matched), best(*matched, group), best(*matched, group, group * score)
    )  # fmt: skip
    r2 = [(1 - np.exp(2 * (null - x) / 900)) / (1 - np.exp(2 * null / 900)) for x in (base, full)]
    assert found.delta_r2 == pytest.approx(r2[1] - r2[0], abs=1e-6)
    assert found.delta_r2_uniform == pytest.approx(
        (np.exp(2 * (null - base) / 900) - np.exp(2 * (null - shifted) / 900)) / (1 - np.exp(2 * null / 900)), abs=1e-6
    )
    assert found.p == pytest.approx(chi2.sf(2 * (full - base), 2), rel=1e-4)
    assert found.p_uniform == pytest.approx(chi2.sf(2 * (shifted - base), 1), rel=1e-4)
    assert found.p_nonuniform == pytest.approx(chi2.sf(2 * (full - shifted), 1), rel=1e-4)


def test_strata_without_both_groups_or_both_answers_decide_nothing() -> None:
    counts = Cells(np.zeros(2, dtype=np.int64), np.array([0.0, 1.0]), np.array([[5.0, 0.0], [4.0, 3.0]]),
                   np.array([[1.0, 0.0], [4.0, 3.0]]))  # fmt: skip
    found = mantel_haenszel(counts, focal=1)
    assert np.isnan(found.odds_ratio)
    assert found.ets_class is None
    assert logistic_dif(counts, focal=1).size is None


def test_sittings_are_complete_and_matched_on_anchors_and_the_item_itself() -> None:
    """Four learners on a form of three items, the last without an answer to one; item 2 is not an anchor."""
    x = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, np.nan]])
    responses = Responses.from_wide(x)
    taken, incomplete = sittings(responses, ["f"] * responses.n_responses, np.array([0, 0, 1, 1]))
    assert incomplete == 1
    assert taken[0].score.tolist() == x[:3].tolist()
    table = cells(taken, 0, [1], 2)
    assert table.score.tolist() == [0, 0.5, 1]
    assert table.n.tolist() == [[0, 0], [1, 1], [1, 0]]
    assert table.right.tolist() == [[0, 0], [0, 1], [1, 0]]
    assert cells(taken, 2, [1], 2).n.tolist() == [[0, 0], [1, 1], [1, 0]]
    practice, _ = sittings(responses, [None] * responses.n_responses, np.array([0, 0, 1, 1]))
    assert practice == ()
    assert cells(practice, 0, [1], 2).n.size == 0
