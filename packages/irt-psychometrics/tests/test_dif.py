"""DIF: Wald tests of items with known parameters, published Mantel-Haenszel values, and sittings."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import chi2, norm

from irt_psychometrics.dif import Dif, Wald
from irt_psychometrics.dif.forms import Cells, cells, sittings
from irt_psychometrics.dif.logistic import logistic_dif
from irt_psychometrics.dif.mantel_haenszel import ets_class, mantel_haenszel
from irt_psychometrics.dif.wald import Differences, differences_of, family_q, severity_of
from irt_psychometrics.items import Model
from irt_psychometrics.responses import Responses
from psychometrics_testbed.split_fits import LEARNERS, split_fit, without

J = 12
A = np.exp(np.linspace(-0.4, 0.4, J))
B = np.linspace(-1.5, 1.5, J)[::-1]
MEAN = -1.0


def differences(b: np.ndarray, a: np.ndarray = A, *, model: Model = "2pl") -> Differences:
    """Compare focal groups, whose parameters have shape (…, J), with a reference group of parameters A and B."""
    a, b = np.vstack([A if model == "2pl" else a[:1] * np.ones(J), a * np.ones_like(b)]), np.vstack([B, b])
    copies = split_fit(a, -a * b, mean=MEAN, model=model)
    return differences_of(copies, np.full(len(a), LEARNERS))


def test_wald_statistic_is_0_if_the_groups_parameters_are_equal() -> None:
    found = differences(B)
    assert (found.wald, found.df.tolist()) == (pytest.approx(0.0, abs=1e-9), [2] * J)


def test_wald_test_detects_an_item_that_is_harder_for_a_group_with_its_effect_size() -> None:
    """wABC is compared with an integral over the normal with the mean and variance of both groups together; the Wald
    statistic with Lord's, from a, d and their covariance."""
    b = B + 0.6 * (np.arange(J) == 3)
    found = differences(b)
    assert found.delta[0, 3:5] == pytest.approx(np.array([[0.0, 0.6], [0.0, 0.0]]), abs=1e-9)
    middle, wide = MEAN / 2, np.sqrt(1 + MEAN**2 / 4)
    gap = lambda t: (expit(A[3] * (t - B[3])) - expit(A[3] * (t - b[3]))) * norm.pdf(t, middle, wide)  # noqa: E731
    area = quad(gap, -12, 12)[0]
    assert (found.wabc[0, 3], found.shift[0, 3]) == pytest.approx((area, -area), rel=1e-6)
    assert (severity_of(0.01, area), severity_of(0.06, area)) == ("high" if area > 0.1 else "medium", "none")
    assert found.wald[3] == pytest.approx((0.6 * A[3]) ** 2 / (2 * 0.05**2), rel=1e-5)


def test_three_groups_are_tested_jointly_with_two_degrees_less_if_a_group_is_missing() -> None:
    b = np.vstack([B, B, B + 0.8 * (np.arange(J) == 7)])
    copies = without(split_fit(np.vstack([A] * 3), -A * b), 2, 2)
    found = differences_of(copies, np.full(3, LEARNERS))
    assert (found.df.tolist(), np.flatnonzero(found.wald > 1).tolist()) == ([4, 4, 2, *[4] * (J - 3)], [7])
    assert found.wabc[1, 7] > found.wabc[0, 7]
    assert np.isnan(found.delta[1, 2]).all()


@pytest.mark.parametrize("model", ["rasch", "1pl"])
def test_wald_test_has_1_degree_of_freedom_if_all_items_share_a_slope(model: Model) -> None:
    unit = np.full(J, 1.0 if model == "rasch" else 0.8)
    found = differences(B + 0.7 * (np.arange(J) == 3), unit, model=model)
    assert (found.df.tolist(), np.flatnonzero(found.wald > 1e-6).tolist()) == ([1] * J, [3])
    assert found.delta[0, 3] == pytest.approx([0.0, 0.7], abs=1e-6)


def test_q_values_are_computed_over_the_tests_of_all_attributes() -> None:
    """A p of .004 has a q of .04 among 10 items, and of .16 among these and 30 items of a second attribute."""
    p = np.r_[0.004, np.linspace(0.2, 1, 9)], np.linspace(0.1, 1, 30)
    none = np.zeros((1, 1))
    found = []
    for of_attribute in p:
        ids = tuple(f"i{j}" for j in range(len(of_attribute)))
        wald = Wald(
            item_ids=ids, groups=("a", "b"), mean=none, sd=none, anchors=ids, df=none, wald=none, p=of_attribute,
            q=family_q(of_attribute), delta=none, se=none, wabc=none, shift=none, shift_se=none, unestimated=({}, {}),
        )  # fmt: skip
        found.append(Dif("lang", ids, (), 0, wald, None))
    untested = Dif.without_test("tier", "no learner has it")
    lang, tier, country = Dif.with_common_q([found[0], untested, found[1]])
    assert found[0].wald is not None and lang.wald is not None and country.wald is not None  # noqa: PT018
    assert found[0].wald.flagged == ("i0",)
    assert (lang.wald.q[0], lang.wald.flagged, country.wald.q.shape) == (pytest.approx(0.16), (), (30,))
    assert tier is untested


# --- Mantel-Haenszel and logistic regression -----------------------------------------------------------------------

BERKELEY = np.array(
    [[512, 313, 89, 19], [353, 207, 17, 8], [120, 205, 202, 391], [138, 279, 131, 244], [53, 138, 94, 299],
     [22, 351, 24, 317]]
)  # fmt: skip
"""Admitted and rejected men, admitted and rejected women, of six departments (Bickel et al. 1975)."""


def berkeley() -> Cells:
    men, women = BERKELEY[:, :2], BERKELEY[:, 2:]
    n = np.stack([men.sum(axis=1), women.sum(axis=1)], axis=1).astype(float)
    right = np.stack([men[:, 0], women[:, 0]], axis=1).astype(float)
    return Cells(np.zeros(6, dtype=np.int64), np.linspace(0, 1, 6), n, right, right)


def test_mantel_haenszel_statistics_equal_rs_for_admissions_at_berkeley() -> None:
    """`mantelhaen.test(UCBAdmissions)` in R: X-squared = 1.4269, p = 0.2323, odds ratio 0.9046968, 95 % CI 0.7719074
    to 1.0603298 (by Robins, Breslow & Greenland's variance)."""
    found = mantel_haenszel(berkeley(), focal=1)
    assert found.odds_ratio == pytest.approx(0.9046968, abs=5e-8)
    assert (found.chi2, found.p) == pytest.approx((1.4269, 0.2323), abs=5e-5)
    assert found.ets_class == "A"
    se = np.log(1.0603298 / 0.7719074) / (2 * norm.ppf(0.975))
    assert (found.se, found.delta) == pytest.approx((2.35 * se, -2.35 * np.log(0.9046968)), rel=1e-6)


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
def test_ets_class_depends_on_effect_size_and_significance(delta: float, se: float, p: float, expected: str) -> None:
    assert ets_class(delta, se, p) == expected


def test_logistic_regression_of_counts_equals_a_regression_of_single_answers() -> None:
    """A general optimiser maximises the likelihood of single answers, and R² follows Nagelkerke (1991)."""
    rng = np.random.default_rng(4)
    score, group, form = rng.integers(0, 9, 900), rng.integers(0, 2, 900), rng.integers(0, 2, 900)
    y = rng.random(900) < expit(-2 + 0.5 * score + 0.6 * group - 0.1 * group * score + 0.3 * form)
    cell_index = np.ravel_multi_index((form, score, group), (2, 9, 2))
    n, right = (np.bincount(cell_index, w, 36).reshape(18, 2) for w in (np.ones(900), y))
    found = logistic_dif(Cells(np.repeat([0, 1], 9), np.tile(np.arange(9) / 8, 2), n, right, right), focal=1)

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
    p = chi2.sf([2 * (full - base), 2 * (shifted - base), 2 * (full - shifted)], [2, 1, 1])
    assert [found.p, found.p_uniform, found.p_nonuniform] == pytest.approx(p, rel=1e-4)


def test_strata_without_both_groups_or_both_answers_contribute_no_information() -> None:
    counts = Cells(np.zeros(2, dtype=np.int64), np.array([0.0, 1.0]), np.array([[5.0, 0.0], [4.0, 3.0]]),
                   *[np.array([[1.0, 0.0], [4.0, 3.0]])] * 2)  # fmt: skip
    found = mantel_haenszel(counts, focal=1)
    assert np.isnan(found.odds_ratio)
    assert (found.ets_class, logistic_dif(counts, focal=1).size) == (None, None)


def test_sittings_are_complete_and_learners_are_matched_on_anchors_and_the_item() -> None:
    """Four learners answer a form of three items. The last learner omits an item, and item 2 is not an anchor."""
    x = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, np.nan]])
    responses = Responses.from_wide(x)
    taken, incomplete = sittings(responses, ["f"] * responses.n_responses, np.array([0, 0, 1, 1]))
    assert (incomplete, taken[0].score.tolist()) == (1, x[:3].tolist())
    table = cells(taken, 0, [1], 2)
    assert table.score.tolist() == [0, 0.5, 1]
    assert [table.n.tolist(), table.right.tolist()] == [[[0, 0], [1, 1], [1, 0]], [[0, 0], [0, 1], [1, 0]]]
    assert cells(taken, 2, [1], 2).n.tolist() == [[0, 0], [1, 1], [1, 0]]
    practice, _ = sittings(responses, [None] * responses.n_responses, np.array([0, 0, 1, 1]))
    assert (practice, cells(practice, 0, [1], 2).n.size) == ((), 0)
