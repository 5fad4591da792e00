"""The em engine: independent likelihood, invariances, simulated data, and data that do not determine the parameters.

Agreement with other programs is in test_em_reference.py of the library.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from irt_psychometrics import PsychometricsError
from irt_psychometrics.core import kernels
from irt_psychometrics.core.design import components
from irt_psychometrics.core.errors import DisconnectedDesignError
from irt_psychometrics.core.model_families import SLOPE_BOUND
from irt_psychometrics.core.priors import GUESSING_PRIOR
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.estimation import Flag, RemoteAnswers, fit_em, likelihood, reductions, table_kernels
from irt_psychometrics.estimation.em_request import Persons
from irt_psychometrics.estimation.marginal import Problem
from irt_psychometrics.estimation.mstep import em_step
from irt_psychometrics.estimation.parameter_layout import ParameterLayout
from irt_psychometrics.estimation.response_layout import Counts, ResponseLayout
from irt_psychometrics.estimation.source import InMemory
from irt_psychometrics.estimation.standard_errors import inverse
from irt_psychometrics.items import item_model
from irt_psychometrics.responses import Responses
from psychometrics_testbed.plain_likelihood import plain_log_likelihood
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

MODELS = ("rasch", "1pl", "2pl")


def simulated(rng, n_persons, n_items, *, seen=1.0, sd=1.0):
    """A persons × items matrix with NaN for unseen items, and the true a and d."""
    a = np.exp(rng.normal(0, 0.3, n_items))
    d = -a * rng.normal(0, 1, n_items)
    theta = rng.normal(0, sd, n_persons)
    x = (rng.random((n_persons, n_items)) < 1 / (1 + np.exp(-(theta[:, None] * a + d)))).astype(float)
    x[rng.random(x.shape) > seen] = np.nan
    return x, a, d


def plain_objective(model, responses, n_items):
    """The log-likelihood as a function of the free parameters of a model, in the order of `ParameterLayout`."""

    def value(free):
        if model == "2pl":
            return plain_log_likelihood(responses, free[:n_items], free[n_items:])
        if model == "1pl":
            return plain_log_likelihood(responses, np.full(n_items, free[0]), free[1:])
        return plain_log_likelihood(responses, np.ones(n_items), free[:-1], sd=np.exp(free[-1]))

    return value


def differences(f, x, h=1e-5):
    steps = np.eye(len(x)) * h
    return np.array([(f(x + s) - f(x - s)) / (2 * h) for s in steps])


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("model", MODELS)
def test_value_and_gradient_match_a_plain_likelihood_away_from_the_maximum(model):
    rng = np.random.default_rng(11)
    x, _, _ = simulated(rng, 60, 6, seen=0.7)
    data = ResponseLayout.from_responses(Responses.from_wide(x))
    structure = ParameterLayout.from_model(item_model(model), 6)
    free = rng.normal(0.3, 0.4, structure.size)
    with kernels.runner(2) as run:
        point = Problem(data, structure, Grid.symmetric(), run).evaluate(free)
    plain = plain_objective(model, Responses.from_wide(x), 6)
    assert point.loglik == pytest.approx(plain(free), abs=1e-9)  # sums of 60 logs in double precision
    # central differences of step 1e-5 are accurate to about 1e-7 here
    np.testing.assert_allclose(point.gradient, differences(plain, free), atol=2e-6)


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("seen", [1.0, 0.7])
def test_covariance_is_the_inverse_of_the_numerical_hessian(model, seen):
    rng = np.random.default_rng(3)
    x, _, _ = simulated(rng, 400, 4, seen=seen)
    fit = fit_em(Responses.from_wide(x), model=model)
    free = {
        "2pl": np.concatenate([fit.a, fit.d]),
        "1pl": np.concatenate([fit.a[:1], fit.d]),
        "rasch": np.append(fit.d, np.log(fit.latent_sd)),
    }[model]
    plain = plain_objective(model, Responses.from_wide(x), 4)
    hessian = differences(lambda p: differences(plain, p, 1e-4), free, 1e-4)
    plain_cov = np.linalg.inv(-hessian)
    slopes, intercepts = {
        "2pl": (np.arange(4), 4 + np.arange(4)),
        "1pl": (np.zeros(4, int), 1 + np.arange(4)),
        "rasch": (None, np.arange(4)),
    }[model]
    joint = fit.joint_cov.reshape(4, 2, 4, 2)
    # second differences of step 1e-4 keep about five digits
    np.testing.assert_allclose(joint[:, 1, :, 1], plain_cov[np.ix_(intercepts, intercepts)], rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(fit.cov, joint[np.arange(4), :, np.arange(4), :])
    if slopes is None:
        assert not joint[:, 0].any()
    else:
        np.testing.assert_allclose(joint[:, 0, :, 0], plain_cov[np.ix_(slopes, slopes)], rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(joint[:, 0, :, 1], plain_cov[np.ix_(slopes, intercepts)], rtol=1e-4, atol=1e-6)


@WHERE_STATISTICS_CHANGE
def test_a_wide_population_has_a_wider_grid():
    rng = np.random.default_rng(4)
    n = 1500
    d = np.linspace(-2, 2, 30)
    theta = rng.normal(0, 3, n)
    x = (rng.random((n, 30)) < 1 / (1 + np.exp(-(theta[:, None] + d)))).astype(float)
    fit = fit_em(Responses.from_wide(x), model="rasch")
    assert fit.convergence.converged
    # SE of an estimated SD is about sd/√(2n) = 0.055; a grid that ends at ±6 gives 3.4
    assert fit.latent_sd == pytest.approx(theta.std(), abs=0.12)


@WHERE_STATISTICS_CHANGE
def test_learners_with_many_answers_have_a_denser_grid():
    """Their posteriors are narrower than the distance of 61 nodes, which would bias slopes by up to a tenth."""
    x, _, _ = simulated(np.random.default_rng(12), 150, 500)
    found, dense = (fit_em(Responses.from_wide(x), nodes=nodes, threads=2) for nodes in (61, 301))
    assert found.convergence.converged
    # both end when a step would move no parameter by more than 1e-6
    np.testing.assert_allclose(found.a, dense.a, atol=2e-5)
    np.testing.assert_allclose(found.d, dense.d, atol=2e-5)


@WHERE_STATISTICS_CHANGE
def test_order_of_persons_and_items_is_irrelevant():
    rng = np.random.default_rng(6)
    x, _, _ = simulated(rng, 500, 12, seen=0.6)
    rows, columns = rng.permutation(500), rng.permutation(12)
    one = fit_em(Responses.from_wide(x))
    other = fit_em(Responses.from_wide(x[rows][:, columns]))
    # both stop within the tolerance 1e-5 of a scaled gradient, and then differ by the order of summation
    np.testing.assert_allclose(other.a, one.a[columns], atol=1e-7)
    np.testing.assert_allclose(other.d, one.d[columns], atol=1e-7)
    np.testing.assert_allclose(other.a_se, one.a_se[columns], rtol=1e-7)


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model": "3pl"},
        {"groups": ["a", "b", "c"] * 2000, "latent": "histogram"},
        {"model": "rasch", "groups": ["a", "b"] * 3000, "weights": np.linspace(0.5, 2, 6000)},
    ],
)
def test_results_are_bitwise_equal_for_any_number_of_threads(options):
    rng = np.random.default_rng(7)
    responses = Responses.from_wide(simulated(rng, 6000, 40, seen=0.8)[0])
    one, two, again = (fit_em(responses, threads=t, **options) for t in (1, 3, 3))
    for other in (two, again):
        assert other.convergence == one.convergence
        assert other.populations == one.populations or "latent" in options  # a histogram's errors are NaN
        for name in ("a", "d", "c", "cov", "joint_cov"):
            np.testing.assert_array_equal(getattr(other, name), getattr(one, name))


@WHERE_STATISTICS_CHANGE
def test_persons_without_responses_do_not_change_a_fit_and_are_not_counted():
    rng = np.random.default_rng(9)
    x, _, _ = simulated(rng, 300, 6)
    with_empty = np.full((310, 6), np.nan)
    with_empty[5:305] = x
    one, other = fit_em(Responses.from_wide(x)), fit_em(Responses.from_wide(with_empty))
    np.testing.assert_array_equal(one.a, other.a)
    assert one.n_persons == other.n_persons == 300


# -- the M step --------------------------------------------------------------------------------------
# The M-step of a 3PL against a general optimiser, item by item.

ITEMS = 8


def test_m_step_maximises_the_expected_posterior_of_every_item():
    rng = np.random.default_rng(3)
    a, b = np.exp(rng.normal(0, 0.4, ITEMS)), rng.normal(0, 1, ITEMS)
    b[0] = -3.0  # an easy item, whose c the answers leave open
    p = 0.2 + 0.8 * expit(a * (rng.normal(size=(1500, 1)) - b))
    data = ResponseLayout.from_responses(Responses.from_wide((rng.random(p.shape) < p).astype(float)), rarer=True)
    with kernels.runner(1) as run:
        problem = Problem(
            data, ParameterLayout.from_model(item_model("3pl"), ITEMS), Grid.symmetric(), run, GUESSING_PRIOR
        )
        point = problem.evaluate(problem.start())
        moved = (point.x + em_step(problem, point, point.gradient, np.zeros(len(point.x), bool))).reshape(3, ITEMS)
    theta = problem.grid.nodes
    for j in range(ITEMS):

        def cost(y, seen=point.expected.seen[j], right=point.expected.right[j]):
            c = expit(y[2])
            p = c + (1 - c) * expit(y[0] * theta + y[1])
            prior = -0.5 * ((y[2] - np.log(0.25)) / 0.5) ** 2
            return -(right @ np.log(p) + (seen - right) @ np.log1p(-p) + prior)

        best = minimize(cost, point.x.reshape(3, ITEMS)[:, j], method="Nelder-Mead", options={"fatol": 1e-7}).fun
        # the M-step stops if the next step promises less than half of 0.01
        assert cost(moved[:, j]) < best + 0.01
        assert cost(point.x.reshape(3, ITEMS)[:, j]) > best + 0.01


# -- sums --------------------------------------------------------------------------------------------
# Sums over persons are bitwise equal for any number of threads and in any process.

ITEMS_SUMMED = 12


def draw_responses(n_persons: int, seed: int = 3) -> Responses:
    rng = np.random.default_rng(seed)
    x = (rng.random((n_persons, ITEMS_SUMMED)) < rng.random((n_persons, 1))).astype(float)
    x[rng.random(x.shape) < 0.3] = np.nan
    responses = Responses.from_wide(x)
    key = np.array([zlib.crc32(f"u{k}".encode()) for k in range(n_persons)], dtype=np.uint32)
    return dataclasses.replace(responses, key=key)


@WHERE_STATISTICS_CHANGE
def test_number_of_shards_follows_from_the_number_of_responses():
    persons = (0, 99_999, 100_000, 1_500_000, 10**8, 10**9)
    assert [reductions.number_of_shards(n) for n in persons] == [
        1,
        1,
        2,
        16,
        16,
        50,
    ]


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("shards", [1, 7, 64, 65, 500])
def test_bundles_are_consecutive_shards(shards):
    found = reductions.bundles(shards)
    assert len(found) == min(shards, 64)
    assert [shard for group in found for shard in group] == list(range(shards))
    # the formula by which Spark assigns a shard to a bundle
    assert [((s + 1) * len(found) - 1) // shards for s in range(shards)] == [
        k for k, group in enumerate(found) for _ in group
    ]


@WHERE_STATISTICS_CHANGE
def test_shards_contain_every_person_once_by_key():
    responses = draw_responses(500)
    data = ResponseLayout.from_responses(responses, shards=5)
    seen = np.bincount(reductions.shard_of(responses.key, 500, 5), minlength=5)
    assert [len(people.set_of) for people in data.shards] == seen.tolist()
    assert data.size == data.n_persons == 500


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("shards", [1, 3, 70])
def test_e_step_in_shards_matches_the_e_step_without_shards_for_any_threads(shards):
    responses, structure, found = draw_responses(800), ParameterLayout.from_model(item_model("2pl"), ITEMS_SUMMED), []
    x = np.random.default_rng(1).normal(0.5, 0.2, structure.size)
    for threads in (1, 3):
        with kernels.runner(threads) as run:
            data = ResponseLayout.from_responses(responses, shards=shards)
            problem = Problem(data, structure, Grid.symmetric(), run)
            point = problem.evaluate(x)
            found.append((point.loglik, point.gradient, problem.observed_information(point)))
    with kernels.runner(1) as run:
        problem = Problem(ResponseLayout.from_responses(responses, shards=1), structure, Grid.symmetric(), run)
        whole = problem.evaluate(x)
        information = problem.observed_information(whole)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    # sums of 800 terms in a different order: 1e-13 of their size
    assert found[0][0] == pytest.approx(whole.loglik, rel=1e-13)
    np.testing.assert_allclose(found[0][1], whole.gradient, atol=1e-10)
    # 8 or more persons with the same items share a sum; single persons' sums are accurate to 1e-5 of a covariance
    np.testing.assert_allclose(found[0][2], information, atol=1e-5)


@WHERE_STATISTICS_CHANGE
@pytest.mark.ci
def test_fits_are_bitwise_equal_with_compiled_and_with_loaded_kernels(tmp_path: Path):
    """Previously, helpers of kernels had copies, and a loaded kernel used a different copy."""
    script = tmp_path / "fit.py"
    script.write_text(
        "import pickle, sys\n"
        "from irt_psychometrics.estimation.em import fit_em\n"
        "answers = pickle.load(open(sys.argv[1], 'rb'))\n"
        "for model in ('2pl', '3pl'):\n"
        "    fit = fit_em(answers, model=model, threads=1)\n"
        "    print(fit.a.tobytes().hex(), fit.cov.tobytes().hex())\n"
    )
    (tmp_path / "answers").write_bytes(pickle.dumps(draw_responses(600)))
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, str(script), str(tmp_path / "answers")]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert first
    assert first == second


@WHERE_STATISTICS_CHANGE
def test_fit_in_shards_matches_the_fit_without_shards(monkeypatch):
    responses = draw_responses(3000)
    whole = fit_em(responses)
    monkeypatch.setattr(reductions, "RESPONSES_PER_SHARD", 2000)
    found = fit_em(responses)
    assert reductions.number_of_shards(responses.n_responses) == 13
    # both are within the fit's tolerance of the same maximum
    np.testing.assert_allclose(found.a, whole.a, atol=2e-5)
    np.testing.assert_allclose(found.a_se, whole.a_se, rtol=1e-4)
    assert found.convergence.loglik == pytest.approx(whole.convergence.loglik, abs=1e-6)


# -- bad data ----------------------------------------------------------------------------------------
# Data that do not determine the parameters: the em engine reports item and reason, and does not converge.

ALL_MODELS = ("rasch", "1pl", "2pl", "3pl")


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def answers(rng, n_persons, n_items):
    """Persons × items, a = 1.2 and difficulties spread over ±1."""
    theta = rng.normal(size=(n_persons, 1))
    return (rng.random((n_persons, n_items)) < expit(1.2 * (theta - np.linspace(-1, 1, n_items)))).astype(float)


def fit(matrix, model="2pl", **options):
    return fit_em(Responses.from_wide(matrix), model=model, **options)


def flagged(result):
    return {item: set(flags) for item, flags in zip(result.item_ids, result.flags, strict=True) if flags}


LEFT_OUT = r"found 0; left out: i1 \(all_"


@pytest.mark.parametrize("model", ALL_MODELS)
@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.full((3, 5), np.nan), "no responses"),
        (np.ones((50, 4)), LEFT_OUT),
        (np.zeros((50, 4)), LEFT_OUT),
        (np.array([[1.0, 0, 1, 1]]), LEFT_OUT),
        (
            np.array([[1.0, 0, 1, 0, 1], [0, 1, 1, 0, 0], [1, 1, 0, 1, 0]]),
            "only 3 learners answered two or more items",
        ),
    ],
    ids=["no responses", "all right", "all wrong", "a single learner", "three learners"],
)
def test_answers_that_are_too_few_or_constant_are_refused(model, matrix, message):
    with pytest.raises(PsychometricsError, match=message):
        fit(matrix, model)


@pytest.mark.parametrize(("model", "items"), [("rasch", 1), ("1pl", 1), ("2pl", 1), ("2pl", 2), ("3pl", 3)])
def test_a_model_with_more_parameters_than_frequencies_is_refused(rng, model, items):
    with pytest.raises(PsychometricsError, match=f"found {items}"):
        fit(answers(rng, 300, items), model)


@pytest.mark.parametrize("model", ALL_MODELS)
def test_items_with_constant_answers_are_left_out_and_flagged(rng, model):
    matrix = answers(rng, 400, 8)
    matrix[:, 0], matrix[:, 1], matrix[:, 2] = 1, 0, np.nan
    matrix[1:, 3] = np.nan
    result, without = fit(matrix, model), fit(matrix[:, 4:], model)
    single = Flag.ALL_CORRECT if matrix[0, 3] == 1 else Flag.ALL_WRONG
    assert flagged(result) == {"i1": {Flag.ALL_CORRECT}, "i2": {Flag.ALL_WRONG}, "i3": {Flag.NO_DATA}, "i4": {single}}
    assert all(np.isnan(x).all() for x in (result.a[:4], result.d[:4], result.cov[:4], result.joint_cov[:8]))
    np.testing.assert_array_equal(result.d[4:], without.d)
    np.testing.assert_array_equal(result.joint_cov[8:, 8:], without.joint_cov)
    assert list(result.n[:4]) == [400, 400, 0, 1]
    assert result.convergence.converged


@pytest.mark.parametrize("model", ALL_MODELS)
def test_only_the_item_with_a_wrong_key_is_flagged_for_negative_discrimination(rng, model):
    matrix = answers(rng, 800, 8)
    matrix[:, 2] = 1 - matrix[:, 2]
    result = fit(matrix, model)
    assert [item for item, flags in flagged(result).items() if Flag.NEGATIVE_DISCRIMINATION in flags] == ["i3"]
    if model == "2pl":
        assert result.a[2] < -3 * result.a_se[2]
    assert result.convergence.converged


def test_sign_of_theta_makes_most_slopes_positive(rng):
    """The likelihood is the same for (a, θ) and (−a, −θ). Two strong reversed items pull the ascent to the second."""
    slope = np.array([-2.5, -2.5, 0.6, 0.6, 0.6])
    matrix = (rng.random((1500, 5)) < expit(rng.normal(size=(1500, 1)) * slope)).astype(float)
    result = fit(matrix)
    assert (np.sign(result.a) == [-1, -1, 1, 1, 1]).all()
    z = (result.a - slope) / result.a_se
    assert np.abs(z).max() < 4  # five normal deviates


def test_a_slope_without_a_maximum_stops_at_the_bound_without_errors(rng):
    """A cut of θ separates the item's right and wrong answer, so the likelihood rises with the slope without limit."""
    matrix = answers(rng, 500, 8)
    matrix[2:, 0] = np.nan
    matrix[0], matrix[1] = 1, 0
    result = fit(matrix)
    assert (flagged(result), result.a[0]) == ({"i1": {Flag.AT_BOUND}}, SLOPE_BOUND)
    assert np.isnan(result.cov[0]).all()
    assert np.isfinite(result.cov[1:]).all()
    assert result.convergence.converged


@pytest.mark.parametrize("model", ALL_MODELS)
def test_identical_items_are_flagged_and_the_fit_does_not_converge(rng, model):
    """Own slopes of identical items diverge. A Rasch model would converge, so the engine searches for duplicates."""
    matrix = answers(rng, 600, 6)
    matrix[:, 1] = matrix[:, 0]
    result = fit(matrix, model)
    assert [item for item, flags in flagged(result).items() if Flag.DUPLICATE in flags] == ["i1", "i2"]
    assert not result.convergence.converged
    assert "the same answers by the same learners as another item (i1, i2)" in result.convergence.reason
    if model == "2pl":
        assert flagged(result) == {item: {Flag.AT_BOUND, Flag.DUPLICATE} for item in ("i1", "i2")}


def test_items_with_the_same_few_answers_are_not_flagged_as_duplicates(rng):
    matrix = answers(rng, 600, 6)
    matrix[8:, :2] = np.nan
    matrix[:8, :2] = np.arange(8)[:, None] % 2
    assert not any(Flag.DUPLICATE in flags for flags in fit(matrix).flags)


@pytest.mark.parametrize("model", ALL_MODELS)
def test_fit_of_guttman_patterns_does_not_converge(rng, model):
    theta = rng.normal(size=(300, 1))
    result = fit((theta > np.linspace(-1, 1, 6)).astype(float), model)
    assert not result.convergence.converged
    assert result.convergence.reason
    assert all(Flag.AT_BOUND in flags for flags in result.flags)
    assert np.isnan(result.cov).all()


@pytest.mark.parametrize("model", ["rasch", "1pl"])
def test_fit_of_exactly_independent_answers_does_not_converge(model):
    matrix = np.array(np.meshgrid(*[[0.0, 1.0]] * 5)).reshape(5, -1).T  # every pattern once: exactly independent
    result = fit(np.repeat(matrix, 10, axis=0), model)
    assert not result.convergence.converged
    assert "unrelated" in result.convergence.reason


def test_items_of_an_unidentified_2pl_are_flagged_and_have_no_errors(rng):
    """No learner saw both items 1 and 3: 6 parameters, 5 free proportions. The fit has a ridge, not a maximum."""
    matrix = answers(rng, 800, 3)
    matrix[:400, 2] = np.nan
    matrix[400:, 0] = np.nan
    result = fit(matrix)
    assert all(Flag.UNIDENTIFIED in flags for flags in result.flags)
    assert np.isnan(result.cov).all()
    assert not result.convergence.converged
    assert "do not determine" in result.convergence.reason


@pytest.mark.parametrize("worst", [0.0, 1e-9, -0.1])
def test_singular_block_does_not_change_the_errors_of_the_remaining_parameters(worst):
    sound = np.array([[1.0, 0.3], [0.3, 0.8]])
    corner = np.array([[0.5, -0.5], [-0.5, 0.5]]) + worst / 2
    information = np.block([[sound, np.zeros((2, 2))], [np.zeros((2, 2)), corner]])
    covariance, share = inverse(information)
    np.testing.assert_allclose(covariance[:2, :2], np.linalg.inv(sound), atol=1e-12)
    np.testing.assert_allclose(share, [0, 0, 0.5, 0.5], atol=1e-12)


def test_fit_reports_that_the_iteration_limit_was_reached(rng):
    result = fit(answers(rng, 300, 6), max_iterations=2)
    assert not result.convergence.converged
    assert "limit of 2 iterations" in result.convergence.reason


@pytest.mark.parametrize("model", ALL_MODELS)
def test_disconnected_forms_are_refused_with_both_remedies(rng, model):
    matrix = answers(rng, 200, 9)
    matrix[:120, 5:] = np.nan
    matrix[120:, :5] = np.nan
    with pytest.raises(DisconnectedDesignError) as refusal:
        fit(matrix, model)
    forms = ("1: 5 items, 120 learners (i1, i2, i3, i4, i5)", "2: 4 items, 80 learners (i6, i7, i8, i9)")
    assert [part for part in (*forms, "common items", "anchors") if part not in str(refusal.value)] == []


def test_forms_are_disconnected_if_every_learner_answers_the_common_item_correctly(rng):
    """Such an item is left out of the likelihood, so it does not connect forms."""
    matrix = answers(rng, 200, 9)
    matrix[:100, 5:] = np.nan
    matrix[100:, :4] = np.nan
    matrix[:, 4] = 1
    with pytest.raises(DisconnectedDesignError):
        fit(matrix)


def test_a_single_learner_who_saw_both_forms_connects_the_forms(rng):
    matrix = answers(rng, 200, 8)
    both = matrix[0].copy()
    matrix[:100, 4:] = np.nan
    matrix[100:, :4] = np.nan
    assert [len(part.items) for part in components(Responses.from_wide(matrix))] == [4, 4]
    matrix[0] = both
    (whole,) = components(Responses.from_wide(matrix))
    assert (len(whole.items), whole.n_persons) == (8, 200)


def test_items_and_learners_without_responses_are_in_no_component():
    matrix = np.array([[1.0, np.nan, 0.0], [np.nan, np.nan, np.nan]])
    (part,) = components(Responses.from_wide(matrix))
    assert (part.items, part.n_persons) == (("i1", "i3"), 1)


@pytest.mark.parametrize("model", ALL_MODELS)
def test_learners_with_a_single_answer_or_a_constant_pattern_are_counted(rng, model):
    matrix = answers(rng, 400, 6)
    matrix[:40], matrix[40:80] = 1, 0
    matrix[80, 1:] = np.nan
    result = fit(matrix, model)
    assert (result.convergence.converged, result.n_persons) == (True, 400)


def test_a_thread_count_below_one_is_refused(rng):
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        fit(answers(rng, 100, 4), threads=0)


@pytest.mark.parametrize("model", ["2pl", "3pl"])
@pytest.mark.parametrize("n_items", [5, 12, 30])
def test_fit_of_coin_tosses_does_not_converge(rng, model, n_items):
    result = fit((rng.random((800, n_items)) < rng.uniform(0.3, 0.7, n_items)).astype(float), model)
    assert not result.convergence.converged
    assert "cannot be distinguished from unrelated ones" in result.convergence.reason


def test_fit_of_a_weak_ability_scale_converges(rng):
    """Slopes of 0.6 and 300 learners: the answers share a tenth of their variance."""
    matrix = (rng.random((300, 12)) < expit(0.6 * rng.normal(size=(300, 1)) * np.ones(12))).astype(float)
    result = fit(matrix)
    assert result.convergence.converged, result.convergence.reason


def test_item_is_not_flagged_for_a_wrong_key_because_of_a_single_answer(rng):
    """A single wrong answer of the best learner drives the slope to −10. It has no maximum and thus no errors."""
    matrix = answers(rng, 500, 10)
    matrix[:, 0] = 1
    matrix[np.argmax(matrix.sum(axis=1)), 0] = 0
    result, without = fit(matrix), fit(matrix[:, 1:])
    assert flagged(result) == {"i1": {Flag.AT_BOUND}}
    assert np.isnan(result.cov[0]).all()
    assert result.convergence.converged
    # one answer among 5000 moves the remaining items by a small part of their error
    assert np.all(np.abs(result.a[1:] - without.a) < 0.1 * without.a_se)


# -- persons who share rows --------------------------------------------------------------------------

FORMS = np.array([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]], dtype=bool)


def repeated_answers(n_persons, *, scored=False, forms=False, seed=7):
    """Responses of persons among whom many have the same answers, in two groups with weights."""
    rng = np.random.default_rng(seed)
    x = simulated(rng, n_persons, 6)[0]
    if scored:
        x += simulated(rng, n_persons, 6)[0]
    if forms:
        x[~FORMS[rng.integers(0, 2, n_persons)]] = np.nan
    weight = rng.integers(0, 3, n_persons).astype(float)
    categories = np.full(6, 3) if scored else None
    return Responses.from_wide(x, None, categories), Persons(("a", "b"), rng.integers(0, 2, n_persons), weight)


def problem_of_rows(responses, persons, model, merge, run, *, rarer=False):
    of, everything = item_model(model), np.ones(responses.n_items, dtype=bool)
    laid = InMemory(responses, persons).lay_out_items(
        everything, rarer=rarer, by_category=of.path != "logistic", merge=merge
    )
    categories = responses.n_categories
    structure = ParameterLayout.from_model(of, responses.n_items, n_groups=2, categories=categories)
    return Problem(laid.answers, structure, Grid.symmetric(), run), laid


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("forms", [False, True])
@pytest.mark.parametrize(
    ("model", "merge"),
    [("2pl", "patterns"), ("3pl", "patterns"), ("gpcm", "patterns"), ("rasch", "sums"), ("pcm", "sums")],
)
def test_rows_of_several_persons_give_the_sums_over_single_persons(model, merge, forms, monkeypatch):
    monkeypatch.setattr(likelihood, "MIN_FOR_TABLE", 10**9)  # sums over nodes are exact
    responses, persons = repeated_answers(3000, scored=model in ("pcm", "gpcm"), forms=forms)
    with kernels.runner(2) as run:
        alone, laid_alone = problem_of_rows(responses, persons, model, "nobody", run, rarer=model == "3pl")
        merged, laid = problem_of_rows(responses, persons, model, merge, run, rarer=model == "3pl")
        x = alone.start() + np.random.default_rng(3).normal(0, 0.1, alone.structure.size)
        points = [problem.evaluate(x) for problem in (alone, merged)]
        information = [p.observed_information(point) for p, point in zip((alone, merged), points, strict=True)]
    assert 2 * merged.data.size <= alone.data.size == np.count_nonzero(persons.weight)
    assert merged.data.n_persons == alone.data.n_persons == persons.weight.sum()
    one, other = points
    assert other.loglik == pytest.approx(one.loglik, rel=1e-12)
    np.testing.assert_allclose(other.expected.association, one.expected.association, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(other.expected.mass, one.expected.mass, rtol=1e-9, atol=1e-9)
    # slopes of 1 are not estimated, so only the sum of persons' answers to all items is right in their rows
    free = np.flatnonzero(alone.structure.index[alone.structure.listed] >= 0)
    np.testing.assert_allclose(other.gradient, one.gradient, rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(
        information[1][np.ix_(free, free)], information[0][np.ix_(free, free)], rtol=1e-6, atol=1e-6
    )
    np.testing.assert_array_equal(laid.first_alike, laid_alone.first_alike)
    np.testing.assert_allclose(laid.informative, laid_alone.informative)
    np.testing.assert_array_equal(laid.links.persons, laid_alone.links.persons)


@WHERE_STATISTICS_CHANGE
def test_persons_with_equal_sums_share_a_row_under_a_rasch_model():
    responses, persons = repeated_answers(3000, forms=True)
    with kernels.runner(1) as run:
        problem, _ = problem_of_rows(responses, persons, "rasch", "sums", run)
    assert problem.data.size == 2 * 2 * 5  # two forms of four items, two groups


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("merge", ["patterns", "sums"])
def test_persons_with_different_answers_have_rows_of_their_own(merge):
    """Neither patterns nor sums within a set occur often enough if each person saw another set of 40 items."""
    x, _, _ = simulated(np.random.default_rng(5), 6000, 40, seen=0.5)
    responses = Responses.from_wide(x)
    persons = Persons.from_responses(responses, None, None, None)
    laid = InMemory(responses, persons).lay_out_items(
        np.ones(40, dtype=bool), rarer=False, by_category=False, merge=merge
    )
    assert laid.answers.size == 6000
    assert laid.answers.thin(4).size < 3000


@WHERE_STATISTICS_CHANGE
def test_samples_contain_all_rows_that_represent_several_persons():
    responses, persons = repeated_answers(3000)
    with kernels.runner(1) as run:
        data = problem_of_rows(responses, persons, "rasch", "sums", run)[0].data
    sample = data.thin(8)
    assert sample.size == data.size
    np.testing.assert_array_equal(sample.n, data.n)
    np.testing.assert_array_equal(sample.correct, data.correct)


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("model", ["rasch", "2pl"])
def test_fits_of_shared_rows_have_the_same_bits_for_any_number_of_threads(model):
    x, _, _ = simulated(np.random.default_rng(8), 40_000, 6)
    one, three = (fit_em(Responses.from_wide(x), model=model, threads=n) for n in (1, 3))
    assert one.convergence == three.convergence
    for name in ("a", "d", "cov", "joint_cov"):
        np.testing.assert_array_equal(getattr(one, name), getattr(three, name))


@WHERE_STATISTICS_CHANGE
def test_rasch_fits_flag_reversed_and_equal_items_in_shared_rows():
    x, _, _ = simulated(np.random.default_rng(9), 2000, 20)
    x[:, 1], x[:, 2] = x[:, 0], 1 - x[:, 2]
    flags = fit_em(Responses.from_wide(x), model="rasch").flags
    assert [j for j in range(20) if Flag.NEGATIVE_DISCRIMINATION in flags[j]] == [2]
    assert [j for j in range(20) if Flag.DUPLICATE in flags[j]] == [0, 1]


# -- tables of large sets ----------------------------------------------------------------------------


def large_set(n_persons, n_items, slopes, sd=1.0):
    """Responses of persons who all saw the same items, and parameters near the truth."""
    rng = np.random.default_rng(12)
    d = rng.normal(0, 1, n_items)
    eta = sd * rng.normal(size=(n_persons, 1)) * slopes + d
    return Responses.from_wide((rng.random(eta.shape) < expit(eta)).astype(float)), np.concatenate([slopes, d])


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize(
    "slopes",
    [np.full(4, 0.3), np.linspace(0.5, 2, 30), np.linspace(-2, 2, 16), np.full(60, 1.7)],
    ids=["few items", "2pl", "negative slopes", "many items"],
)
def test_tables_of_large_sets_match_the_plain_likelihood_and_the_sums_over_nodes(slopes, monkeypatch):
    responses, x = large_set(1500, len(slopes), slopes)
    calls = []

    def count(*arguments):
        calls.append(table_kernels.counts_by_table(*arguments))
        return calls[-1]

    with kernels.runner(2) as run:
        data = ResponseLayout.from_responses(responses, shards=1)
        problem = Problem(data, ParameterLayout.from_model(item_model("2pl"), len(slopes)), Grid.symmetric(), run)
        monkeypatch.setattr(likelihood, "MIN_FOR_TABLE", 10**9)
        exact = problem.evaluate(x)
        monkeypatch.setattr(likelihood, "MIN_FOR_TABLE", 300)
        monkeypatch.setattr(likelihood, "table_kernels", SimpleNamespace(counts_by_table=count, STEP=0.5))
        found = problem.evaluate(x)
    assert calls
    assert np.isfinite(calls).all()
    J = len(slopes)
    assert found.loglik == pytest.approx(plain_log_likelihood(responses, x[:J], x[J:]), rel=1e-9)
    assert found.loglik == pytest.approx(exact.loglik, rel=1e-11)
    scale = problem.information_scale(exact)
    np.testing.assert_allclose(found.gradient / scale, exact.gradient / scale, atol=1e-6)
    for name in ("seen", "mass", "right"):
        np.testing.assert_allclose(getattr(found.expected, name), getattr(exact.expected, name), rtol=1e-6, atol=1e-6)


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("inaccurate", [False, True])
def test_tables_match_sums_over_nodes_if_posteriors_have_two_modes(inaccurate, monkeypatch):
    """Posteriors then change fast with s. A table halves the step, and sums over nodes replace it if that fails."""
    responses, x = large_set(1000, 3, np.full(3, 0.5))
    nodes = Grid.symmetric().nodes
    log_weights = np.where(np.abs(nodes) > 5.9, -np.log(2), -200.0)[None]
    if inaccurate:
        stand_in = SimpleNamespace(counts_by_table=lambda *_: np.nan, STEP=0.5)
        monkeypatch.setattr(likelihood, "table_kernels", stand_in)
    found = []
    for least in (10**9, 300):
        monkeypatch.setattr(likelihood, "MIN_FOR_TABLE", least)
        with kernels.runner(1) as run:
            data = ResponseLayout.from_responses(responses, shards=1)
            found.append(likelihood.Logistic(data, nodes, x[:3], x[3:]).expect(data.sums(run), log_weights))
    assert found[0].loglik == pytest.approx(found[1].loglik, rel=1e-9)
    np.testing.assert_allclose(found[0].seen, found[1].seen, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(found[0].right, found[1].right, rtol=1e-6, atol=1e-5)


@WHERE_STATISTICS_CHANGE
def test_fits_with_tables_have_the_same_bits_for_any_number_of_threads():
    responses, _ = large_set(6000, 30, np.linspace(0.5, 2, 30))
    one, three = (fit_em(responses, threads=n) for n in (1, 3))
    assert one.convergence == three.convergence
    for name in ("a", "d", "cov", "joint_cov"):
        np.testing.assert_array_equal(getattr(one, name), getattr(three, name))


class AnswersInRows(RemoteAnswers):
    """Answers whose shards are kept as bytes, as on another machine."""

    def __init__(self, responses):
        counts = Counts.from_responses(responses, np.ones(responses.n_persons))
        super().__init__(responses.item_ids, counts.table, responses.n_categories)
        self.responses, self.rows = responses, {}

    def lay_out(self, layout):
        shard = reductions.shard_of(self.responses.key, self.responses.n_persons, self.n_shards)
        for k in range(self.n_shards):
            some = self.responses.of_persons(np.flatnonzero(shard == k))
            arrays = layout(k, some, np.zeros(some.n_persons, dtype=np.int64))
            self.rows[k] = {name: array.tobytes() for name, array in arrays.items()}
            yield k, self.rows[k] | {"n_rows": len(arrays["weight"]), "n_bytes": 0}

    def add_up(self, work, n_bytes):
        for bundle in self.bundles:
            yield from work((k, self.rows[k]) for k in bundle)

    def fetch(self, work=None):
        yield from self.rows.items() if work is None else work(self.rows.items())

    def gather(self):
        return self.responses, np.zeros(self.responses.n_persons, dtype=np.int64)

    def report_loglik(self, loglik):
        assert loglik < 0


@WHERE_STATISTICS_CHANGE
@pytest.mark.parametrize("model", ["rasch", "2pl"])
@pytest.mark.parametrize("fetched", [-1, 10**9], ids=["elsewhere", "fetched"])
def test_fits_of_shared_rows_on_other_machines_have_the_bits_of_fits_in_memory(model, fetched, monkeypatch):
    monkeypatch.setattr(reductions, "RESPONSES_PER_SHARD", 6000)
    x, _, _ = simulated(np.random.default_rng(8), 4000, 6)
    key = np.array([zlib.crc32(b"%d" % k) for k in range(4000)], dtype=np.uint32)
    responses = dataclasses.replace(Responses.from_wide(x), key=key)
    remote = AnswersInRows(responses)
    remote.max_fetched_bytes = fetched
    found, expected = fit_em(remote, model=model), fit_em(responses, model=model)
    assert remote.n_shards > 1
    assert remote.answers.size < 1000
    assert found.convergence == expected.convergence
    assert found.n_persons == expected.n_persons == 4000
    for name in ("a", "d", "cov", "joint_cov"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
