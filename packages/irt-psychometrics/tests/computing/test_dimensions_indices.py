"""Margins, M₂ and indices of two-tier models, against enumerated patterns, the one-dimensional M₂, and R mirt."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import irt_psychometrics as irt
from irt_psychometrics.classical import subscores
from irt_psychometrics.core.models import Convergence
from irt_psychometrics.dimensions.calibration import DimensionsCalibration, ParameterPlaces
from irt_psychometrics.dimensions.comparison import compare_with_one, simulate_answers
from irt_psychometrics.dimensions.fitting import fit_dimensions
from irt_psychometrics.dimensions.indices import Dimensionality, dimensionality, prmse
from irt_psychometrics.dimensions.margins import Moments
from irt_psychometrics.dimensions.model_fit import form_fit
from irt_psychometrics.dimensions.structure import Dimensions
from irt_psychometrics.itemfit import m2


def calibration(dimensions, slopes, intercepts, *, models="2pl", categories=None, further=None, correlations=None):
    """Build a calibration in which the slopes, intercepts, correlations and all `further` but NaN are free."""
    J, D = slopes.shape
    further = np.zeros((J, 0)) if further is None else np.asarray(further, dtype=float)
    places, n = np.full(further.shape, -1), dimensions.n_slopes + J
    places[np.isfinite(further)] = n + np.arange(np.isfinite(further).sum())
    between, n = np.full((D, D), -1), n + int(np.isfinite(further).sum())
    pairs = np.nonzero(np.triu(dimensions.free_correlations))
    between[pairs] = between[pairs[::-1]] = n + np.arange(len(pairs[0]))
    return DimensionsCalibration(
        dimensions,
        (models,) * J if isinstance(models, str) else tuple(models),
        np.full(J, 2) if categories is None else np.array(categories),
        slopes,
        np.asarray(intercepts, dtype=float),
        np.nan_to_num(further) if further.size else None,
        np.eye(D) if correlations is None else np.array(correlations),
        None,
        ParameterPlaces(dimensions.tied, dimensions.n_slopes + np.arange(J), places, between),
        np.full(J, 1000),
        1000,
        ((),) * J,
        Convergence(converged=True, iterations=1, max_change=0.0, max_gradient=0.0, loglik=0.0, n_parameters=1),
        "test",
        (15, 15),
    )


TOPICS = {"q1": "a", "q2": "a", "q3": "a", "q4": "a", "q5": "b", "q6": "b", "q7": "b", "q8": None}
MIXED = calibration(
    Dimensions.bifactor(TOPICS),
    np.array(
        [[1.2, 0.9, 0], [0.8, 1.1, 0], [1.5, -0.4, 0], [0.6, 0.8, 0], [1, 0, 1.3], [1.4, 0, 0.5], [2, 0, 0.7]]
        + [[1.1, 0, 0]]
    ),
    [0.2, -0.5, 1.0, 0.0, -1.0, 0.4, 0.3, 0.7],
    models=["gpcm", "2pl", "2pl", "2pl", "3pl", "2pl", "2pl", "2pl"],
    categories=[3, *[2] * 7],
    further=[[np.nan, 0.4, np.nan], *[[np.nan] * 3] * 3, [-1.5, np.nan, np.nan], *[[np.nan] * 3] * 3],
)
"""Eight items, four of them on one specific dimension: products of four scores may share one."""


def enumerated_margins(fit):
    """Compute the margins' means and covariance from the probabilities of all 384 patterns."""
    axis = np.linspace(-6, 6, 33)
    density = np.exp(-(axis**2) / 2) / np.exp(-(axis**2) / 2).sum()
    theta = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    weights = np.einsum("a,b,c->abc", density, density, density).ravel()
    patterns = np.array([*product(*[range(n) for n in fit.categories])])
    logs = [*fit.log_probabilities(theta)]
    probability = np.array(
        [np.exp(sum(own[:, x] for own, x in zip(logs, row, strict=True))) @ weights for row in patterns]
    )
    shares = [patterns[:, j] == k for j, n in enumerate(fit.categories) for k in range(1, n)]
    first, second = np.triu_indices(len(fit.categories), 1)
    margins = np.column_stack([*shares, patterns[:, first] * patterns[:, second]]).astype(float)
    mean = probability @ margins
    return mean, (margins * probability[:, None]).T @ margins - np.outer(mean, mean), patterns, probability


def test_margins_and_their_covariance_are_those_of_all_patterns():
    """Both grids integrate to about 1e-9; 33 nodes for each dimension are enough for these slopes."""
    found = Moments.from_calibration(MIXED, np.arange(8))
    mean, covariance, patterns, probability = enumerated_margins(MIXED)
    np.testing.assert_allclose(found.expected, mean, atol=1e-7)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-7)
    centred = patterns - probability @ patterns
    scores = (centred * probability[:, None]).T @ centred
    true, observed = found.score_covariances
    np.testing.assert_allclose(observed, scores, atol=1e-7)
    np.testing.assert_allclose(true - np.diag(true.diagonal()), scores - np.diag(scores.diagonal()), atol=1e-7)
    assert (true.diagonal() < scores.diagonal()).all()


def moved(fit, k, step):
    """Change the k-th free parameter by `step`."""
    slopes, places = fit.slopes + step * (fit.places.slopes == k), fit.places
    further = fit.further if fit.further is None else fit.further + step * (places.further == k)
    return replace(
        fit,
        slopes=slopes,
        further=further,
        intercepts=fit.intercepts + step * (places.intercepts == k),
        correlations=fit.correlations + step * (places.correlations == k),
    )


def tied_and_correlated():
    rows = {
        "item": ["q1", "q2", "q3", "q4", "q5", "q6", "q2"],
        "dimension": ["x", "x", "x", "y", "y", "y", "y"],
        "slope": ["free", "same", "same", "free", "same", "free", "free"],
    }
    slopes = np.array([[1.5, 0], [0.8, -0.6], [0.8, 0], [0, 1.1], [0, 0.8], [0, 2.0]])
    correlations = [[1, 0.55], [0.55, 1]]
    return calibration(Dimensions.from_frame(rows), slopes, [0, 1, -1, 0.5, 0, 0.2], correlations=correlations)


@pytest.mark.parametrize("fit", [MIXED, tied_and_correlated()], ids=["bifactor", "tied and correlated"])
def test_derivatives_of_margins_are_central_differences(fit):
    """A step of 1e-5 leaves errors of about 1e-10."""
    items = np.arange(len(fit.models))
    found = Moments.from_calibration(fit, items).derivatives
    assert found.shape[1] == fit.places.n_free
    for k in range(fit.places.n_free):
        above, below = (Moments.from_calibration(moved(fit, k, step), items).expected for step in (1e-5, -1e-5))
        np.testing.assert_allclose(found[:, k], (above - below) / 2e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("responses", "model"),
    [(irt.datasets.two_forms()[0].responses, "2pl"), (irt.datasets.rating_scale().responses, "gpcm")],
)
def test_m2_of_one_dimension_is_that_of_a_one_dimensional_fit(responses, model):
    """The grids differ; both integrate the margins to about 1e-8, which M₂ multiplies by n."""
    fit = irt.fit(responses, model).calibration
    further = (
        None if fit.further is None else np.where(fit.item_model.free(fit.n_categories)[2:].T, fit.further, np.nan)
    )
    same = calibration(
        Dimensions.explore(fit.item_ids, 1),
        fit.a[:, None],
        fit.d,
        models=model,
        categories=fit.n_categories,
        further=further,
    )
    (one,), (several,) = m2.form_fit(responses, fit), form_fit(responses, same)
    assert several.df == one.df
    assert several.scored == one.scored
    np.testing.assert_allclose(
        [several.m2, several.srmsr, several.rmsea.high], [one.m2, one.srmsr, one.rmsea.high], rtol=1e-4
    )


def test_other_items_are_refused():
    responses = irt.datasets.two_forms()[0].responses
    with pytest.raises(irt.PsychometricsError, match="not in both"):
        form_fit(responses, MIXED)


SAT12_TOPICS = (2, 3, 2, 3, 3, 2, 1, 2, 1, 1, 1, 3, 1, 3, 1, 2, 1, 1, 3, 3, 1, 1, 3, 1, 3, 3, 1, 3, 2, 3, 1, 2)
"""The specific dimensions of the example in mirt's help page of `bfactor`."""


MIRT_BIFACTOR = np.array(
    [
        [0.87579159, 0.68182084, 0, -1.1465795],
        [1.9268821, -0.70663173, 0, 0.47447128],
        [1.0384855, 0.43667089, 0, -1.1705512],
        [0.64047761, 0.33482943, 0, -0.55164733],
        [0.95456678, -0.37141046, 0, 0.59795749],
        [1.252804, 0.72982843, 0, -2.2363077],
        [1.0586931, 0, 1.1149551, 1.6249246],
        [0.85242647, 0, -0.25343557, -1.5870196],
        [0.51589677, 0, 0.89045547, 2.4092668],
        [1.0819714, 0, 0.75782418, -0.41527215],
        [0.72739185, 0, 1.7809014, 5.6806228],
        [0.22310977, 0, -0.29373566, -0.35452608],
    ]
)
"""a1, a2, a3 and d of bfactor(SAT12[, 1:12], rep(1:2, each = 6), TOL = 1e-3), R mirt 1.47."""
MIRT_EXPLORATORY = np.array(
    [
        [-0.8227384, 0.50372534, -1.0982359],
        [-0.80201658, 1.144251, 0.38793123],
        [-0.5202662, 0.92923126, -1.1497124],
        [-0.73734648, 0.33909889, -0.56477894],
        [-0.39334305, 0.77061133, 0.5712419],
        [-1.0706799, 0.82288224, -2.1697076],
        [0.22428652, 1.665864, 1.698452],
        [-0.71677885, 0.4860523, -1.5762687],
        [0.11964451, 0.84208952, 2.2996768],
        [-0.20578123, 1.3000997, -0.41389994],
        [0.94797787, 1.8288873, 5.8964369],
        [-0.36216584, 0, -0.35419789],
    ]
)
"""a1, a2 and d of mirt(SAT12[, 1:12], 2, TOL = 1e-3)."""


@pytest.fixture(scope="module")
def sat12(shared):
    x = np.loadtxt(shared / "data" / "sat12_scored_wide.csv", delimiter=",", skiprows=1, usecols=range(1, 33))
    responses = irt.Responses.from_wide(x)
    topics = {item: f"topic {k}" for item, k in zip(responses.item_ids, SAT12_TOPICS, strict=True)}
    return responses, fit_dimensions(responses, Dimensions.bifactor(topics), ("2pl",) * 32)


def first_twelve(responses):
    return responses.of_items(np.arange(32) < 12)


def test_m2_of_a_bifactor_model_is_that_of_mirt(sat12):
    """M2(fit, quadpts = 41) of R mirt 1.47, at mirt's estimates. The grids differ; both integrate to about 1e-8."""
    responses = first_twelve(sat12[0])
    topics = Dimensions.bifactor({item: "AB"[j // 6] for j, item in enumerate(responses.item_ids)})
    (found,) = form_fit(responses, calibration(topics, MIRT_BIFACTOR[:, :3], MIRT_BIFACTOR[:, 3]))
    assert found.df == 42
    expected = [40.8495939656628, 0.0289942000244, 1.0036037373682]
    np.testing.assert_allclose([found.m2, found.srmsr, found.tli], expected, rtol=1e-6)


def test_m2_of_an_exploratory_model_is_that_of_mirt(sat12):
    """M2(fit, quadpts = 61) of R mirt 1.47. The slopes are turned until the first item measures only F1.

    For correlated dimensions mirt counts the correlation as a parameter and leaves its derivative out, so its M₂ is
    too large (76.748 instead of 76.745 for items 1-6 and 7-12).
    """
    responses, first = first_twelve(sat12[0]), MIRT_EXPLORATORY[0, :2] / np.linalg.norm(MIRT_EXPLORATORY[0, :2])
    slopes = MIRT_EXPLORATORY[:, :2] @ np.array([first, [-first[1], first[0]]]).T
    explored = calibration(Dimensions.explore(responses.item_ids, 2), slopes, MIRT_EXPLORATORY[:, 2])
    (found,) = form_fit(responses, explored)
    assert found.df == 43
    expected = [47.3927940102341, 0.0303072409878, 0.9865592452915, 0.9912431446596]
    np.testing.assert_allclose([found.m2, found.srmsr, found.tli, found.cfi], expected, rtol=1e-5)


def test_m2_of_a_bifactor_fit_is_that_of_mirt(sat12):
    """R mirt 1.47: M2(bfactor(data, specific, TOL = 1e-6), quadpts = 19) is 558.228 and converges with quadpts.

    With its parameters the margins integrate to 558.216 here; the fits differ by 1e-3 in log L. mirt prints three
    decimals.
    """
    (found,) = form_fit(*sat12)
    assert (found.df, found.n, found.scored) == (432, 600, False)
    np.testing.assert_allclose(found.m2, 558.22, atol=0.02)
    indices = [found.rmsea.value, found.rmsea.low, found.rmsea.high, found.srmsr, found.tli, found.cfi]
    np.testing.assert_allclose(indices, [0.022, 0.016, 0.027, 0.041, 0.969, 0.973], atol=6e-4)


def test_dimensionality_reports_indices_and_a_verdict(sat12):
    responses, fit = sat12
    found = dimensionality(responses, fit)
    assert found.dimensions == ("general", "topic 2", "topic 3", "topic 1")
    assert found.n_items.tolist() == [32, 7, 12, 13]
    assert found.puc == 1 - (7 * 6 + 12 * 11 + 13 * 12) / (32 * 31)
    loadings = np.array([[0.408, 0.226], [0.619, 0.339]]) ** 2  # of mirt's summary
    np.testing.assert_allclose(found.item_ecv[:2], loadings[:, 0] / loadings.sum(axis=1), atol=2e-3)
    assert found.adds_value.tolist() == [False, False, False, True]
    assert found.verdict.startswith("Subscores are worth it: those of topic 1 predict")
    assert np.isnan(found.p)
    assert "CFI" in repr(found)
    assert Dimensionality.from_json(found.to_json()) == found


def test_forms_of_equal_items_are_not_tested_and_a_note_tells_why():
    """Items with slopes of 100 are equal at all nodes, and the margins have a singular covariance."""
    responses, pairs = simulated(np.tile([1.5, 0.0], (10, 1)), 5)
    found = dimensionality(responses, calibration(pairs, 100.0 * pairs.measured, np.full(10, 22.9)))
    assert found.forms.forms == ()
    assert "no two items with equal answers" in found._notes()[-1]


def test_prmse_is_that_of_classical_subscores_of_parallel_items():
    """α is the reliability of parallel items. With 20,000 persons its standard error is about .003."""
    names = [f"q{j}" for j in range(16)]
    topics = ["a"] * 8 + ["b"] * 8
    slopes = np.column_stack([np.full(16, 1.2), *[1.5 * (np.array(topics) == k) for k in "ab"]])
    fit = calibration(Dimensions.bifactor(dict(zip(names, topics, strict=True))), slopes, np.zeros(16))
    blank = irt.Responses.from_wide(np.tile([0, 1], (10_000, 1)).repeat(16).reshape(20_000, 16), names)
    points = simulate_answers(blank, fit, np.random.default_rng(1)).score.reshape(20_000, 16)
    classical = subscores(points, topics)
    own = prmse(*Moments.from_calibration(fit, np.arange(16)).score_covariances, fit.dimensions.measured)
    np.testing.assert_allclose(own[0, 1:], classical.by_subscore, atol=0.01)
    np.testing.assert_allclose(own[1, 1:], classical.by_total, atol=0.01)


def simulated(slopes, seed):
    """Draw answers of 400 persons to ten items with these slopes, shape (10, 2)."""
    names = [f"q{j}" for j in range(10)]
    pairs = Dimensions.between({name: "xy"[j % 2] for j, name in enumerate(names)})
    blank = irt.Responses.from_wide(np.tile([0, 1], 2_000).reshape(400, 10), names)
    return simulate_answers(
        blank, calibration(pairs, slopes, np.linspace(-1, 1, 10)), np.random.default_rng(seed)
    ), pairs


@pytest.mark.parametrize("second", [0.0, 1.0])
def test_bootstrap_finds_a_second_ability_only_if_there_is_one(second):
    """19 replicates: the smallest p is 1/20. Slopes are 1.5 on uncorrelated dimensions, or all on the first one."""
    slopes = 1.5 * np.column_stack([np.where(np.arange(10) % 2, 1 - second, 1), np.where(np.arange(10) % 2, second, 0)])
    responses, pairs = simulated(slopes, 3)
    fit = fit_dimensions(responses, pairs, ("2pl",) * 10)
    found = compare_with_one(responses, fit, replicates=19)
    assert (found.p == 0.05) == (second > 0)
    assert (found.bic_gain > 0) == (second > 0)
    assert found.simulated.shape == (19,)


def test_negative_replicates_are_refused(sat12):
    with pytest.raises(irt.PsychometricsError, match="replicates must be 0 or more, got -1"):
        compare_with_one(*sat12, replicates=-1)
