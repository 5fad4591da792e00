"""Misfit of a window compared with a reference: published limits, simulated errors, and detection of new misfit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ncx2

from irt_psychometrics.estimation import fit_em
from irt_psychometrics.itemfit import Measure, Window, misfit
from irt_psychometrics.itemfit.dependence import new_dependence, parallel_analysis
from irt_psychometrics.itemfit.misfit import share, share_of_class
from irt_psychometrics.itemfit.model_replicates import FittedData
from irt_psychometrics.responses import Responses
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE


def answers(rng: np.random.Generator, persons: int, items: int = 12, *, second: float = 0.0) -> Responses:
    """2PL answers; `second`: loading of the last half of the items on a second ability."""
    a, b = np.linspace(0.8, 1.5, items), np.linspace(-1.5, 1.5, items)[::-1]
    theta, other = rng.normal(size=(2, persons, 1))
    z = a * (theta - b) + second * other * (np.arange(items) >= items // 2)
    return Responses.from_wide((rng.random(z.shape) < 1 / (1 + np.exp(-z))).astype(float))


def test_limits_of_a_difference_of_shares_match_newcombe(monkeypatch) -> None:
    """56 of 70 less 48 of 80: Newcombe (1998), Statistics in Medicine 17, 873–890, Table II (a), method 10."""
    monkeypatch.setattr(misfit, "CONFIDENCE", 0.975)
    found = share(56, 70).minus(share(48, 80))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)  # four published decimals


def test_limits_of_rmsea_match_tails_of_the_noncentral_chi_square() -> None:
    found = Measure.rmsea(m2=(180.0, 90.0), df=(120, 80), persons=(1000, 500))
    scale = 120 * 999 + 80 * 499
    assert found.value == pytest.approx(np.sqrt(70 / scale))
    assert ncx2.cdf(270, 200, found.low**2 * scale) == pytest.approx(0.99, abs=1e-6)
    assert ncx2.cdf(270, 200, found.high**2 * scale) == pytest.approx(0.01, abs=1e-6)
    sound = Measure.rmsea([100.0], [120], [1000])
    assert (sound.value, sound.low) == (0.0, 0.0)
    assert sound.high > 0


def test_share_of_a_class_maximises_its_likelihood() -> None:
    rng = np.random.default_rng(1)
    member = rng.random(2000) < 0.1
    log_ratio = rng.normal(np.where(member, 2.0, -2.0), 2.0)  # normal, SD 2, 4 apart: the log ratio is the value itself
    found = share_of_class(log_ratio)
    grid = np.linspace(0, 1, 10_001)
    loglik = np.array([np.log1p(p * np.expm1(log_ratio)).sum() for p in grid])
    assert found.value == pytest.approx(grid[loglik.argmax()], abs=1e-4)
    within = grid[loglik >= loglik.max() - 2.326348**2 / 2]
    assert (found.low, found.high) == pytest.approx((within[0], within[-1]), abs=2e-4)
    assert found.low < 0.1 < found.high


@pytest.mark.parametrize(("log_ratio", "value"), [(np.full(50, -3.0), 0.0), (np.full(50, 3.0), 1.0)])
def test_shares_of_empty_and_full_classes_have_limits(log_ratio: np.ndarray, value: float) -> None:
    found = share_of_class(log_ratio)
    assert found.value == pytest.approx(value, abs=1e-6)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0.01


def test_error_of_a_large_eigenvalue_matches_the_spread_over_samples() -> None:
    """Item parameters are known, as the error assumes. An SD over 100 samples has an error of 7 %."""
    truth = fit_em(answers(np.random.default_rng(2), 50_000, second=2.0), threads=1)
    found = [
        parallel_analysis(answers(np.random.default_rng([3, k]), 3000, second=2.0), truth, replications=3)
        for k in range(100)
    ]
    spread = np.std([one.eigenvalue for one in found], ddof=1)
    assert np.mean([one.se for one in found]) == pytest.approx(spread, rel=0.2)


def fit_responses(responses: Responses) -> FittedData:
    return FittedData.from_responses(responses, fit_em(responses, threads=1))


def test_dependence_of_the_reference_is_not_reported_as_new() -> None:
    rng = np.random.default_rng(4)
    sound, again = fit_responses(answers(rng, 1500)), fit_responses(answers(rng, 1500))
    two, both = fit_responses(answers(rng, 1500, second=2.0)), fit_responses(answers(rng, 1500, second=2.0))
    for now, before in ((again, sound), (both, two)):
        found = new_dependence(now, before, replications=11)
        assert found.eigenvalue < found.under_model.mean() + 3 * found.se
    new = new_dependence(two, sound, replications=11)
    assert new.eigenvalue > new.under_model.max() + 3 * new.se


PLANTED = {"a testlet": 5, "a second ability": 8, "items not reached": 12}


@pytest.mark.parametrize("kind", PLANTED)
def test_dependent_items_are_listed_first(kind: str) -> None:
    """In 12 more months of each kind, the first five items were all planted ones (92 % if items are not reached)."""
    J, n, share = 30, 2000, []
    for seed in range(4):
        rng = np.random.default_rng([7, seed])
        a, b, order = np.exp(rng.normal(0.1, 0.3, J)), rng.normal(0, 1, J), rng.permutation(J)
        planted = order[-PLANTED[kind] :]
        before, z = (a * (rng.normal(size=(n, 1)) - b) for _ in range(2))
        if kind != "items not reached":
            z[:, planted] += a[planted] * (1.0 if kind == "a testlet" else 1.2) * rng.normal(size=(n, 1))
        now = (rng.random(z.shape) < 1 / (1 + np.exp(-z))).astype(float)
        if kind == "items not reached":
            last = (np.arange(J) >= J - rng.integers(2, 13, (n, 1))) & (rng.random((n, 1)) < 0.2)
            now[:, order] = np.where(last, 0.0, now[:, order])
        then = (rng.random(z.shape) < 1 / (1 + np.exp(-before))).astype(float)
        found = new_dependence(*(fit_responses(Responses.from_wide(x)) for x in (now, then)), replications=2)
        share.append(np.isin(found.loading_items[:5], planted).mean())
    assert np.mean(share) >= 0.8


def test_stored_parallel_analysis_is_reused_if_numbers_of_learners_are_similar(monkeypatch) -> None:
    made: list[int] = []

    def counted(*args, **options):
        made.append(options["most_persons"])
        return parallel_analysis(*args, **options)

    rng = np.random.default_rng(8)
    windows = [answers(rng, n) for n in (600, 700, 1000)]
    few, more, many = (Window(one, fit_em(one, threads=1)) for one in windows)
    kept = [
        Window(one.responses, one.calibration, parallel_analysis(one.responses, one.calibration))
        for one in (few, more, many)
    ]
    plain = few.compare_with(few).growth["ratio"]
    monkeypatch.setattr(misfit, "parallel_analysis", counted)
    assert kept[0].compare_with(kept[0]).growth["ratio"] == plain
    assert kept[1].compare_with(kept[0]).growth["ratio"] is not None
    assert made == []
    kept[2].compare_with(kept[0])
    assert made == [600], "the larger one again, with as many learners as the smaller one has"
    kept[2].compare_with(few)
    assert made == [600, 600, 600], "none was kept with an earlier version's fit"


def test_distribution_of_new_dependence_matches_independent_replications() -> None:
    """7 × 7 pairs of replications have the mean of 60 independent replications, within the errors of both."""
    rng = np.random.default_rng(9)
    sound, again = fit_responses(answers(rng, 600)), fit_responses(answers(rng, 600))
    crossed = new_dependence(sound, again, replications=7)
    single = [new_dependence(sound, again, replications=1, random_state=seed) for seed in range(60)]
    means = np.array([one.under_model.item() for one in single if one])
    error = np.hypot(crossed.under_model_se, means.std(ddof=1) / np.sqrt(60))
    assert abs(crossed.under_model.mean() - means.mean()) < 3 * error
    assert crossed.under_model_se < means.std(ddof=1) / 2


def test_learners_are_compared_by_the_references_fit_only_if_they_guess() -> None:
    rng = np.random.default_rng(11)
    one, other = (Window(x, fit_em(x, threads=1)) for x in (answers(rng, 600), answers(rng, 600)))
    assert "chance" not in one.compare_with(other).growth
    renamed = Window(
        replace(other.responses, item_ids=tuple(f"new{j}" for j in range(12))),
        replace(other.calibration, item_ids=tuple(f"new{j}" for j in range(12))),
    )
    assert "chance" not in one.compare_with(renamed, guessing=True).growth, "no item in common"


def test_windows_without_common_items_are_compared_by_measures_without_items() -> None:
    rng = np.random.default_rng(5)
    one, other = answers(rng, 600), answers(rng, 600)
    renamed = Responses(other.person, other.item, other.score, other.n_persons, tuple(f"new{j}" for j in range(12)))
    change = Window(one, fit_em(one)).compare_with(Window(renamed, fit_em(renamed)))
    assert change.items == 0
    assert {name for name, measure in change.growth.items() if measure is None} == {"dependence", "rmsea", "unlikely"}
    assert isinstance(change.growth["random"], Measure)


def test_items_of_two_windows_are_matched_by_name_in_any_order() -> None:
    rng = np.random.default_rng(6)
    one = answers(rng, 600)
    back = 11 - one.item
    reversed_items = Responses(one.person, back.astype(np.int32), one.score, one.n_persons, one.item_ids[::-1])
    order = np.lexsort((reversed_items.item, reversed_items.person))
    other = Responses(
        reversed_items.person[order], reversed_items.item[order], reversed_items.score[order], 600, one.item_ids[::-1]
    )
    change = Window(one, fit_em(one)).compare_with(Window(other, fit_em(other)))
    assert (change.items, change.now.unlikely) == (12, change.before.unlikely)
    assert change.growth["rmsea"].value == pytest.approx(0, abs=1e-6)  # the same answers: the fits agree to 1e-8
