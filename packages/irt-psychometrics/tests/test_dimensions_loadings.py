"""Loadings, rotations and indices from loadings, against R mirt, GPArotation and published values."""

import numpy as np
import pytest

from irt_psychometrics import PsychometricsError
from irt_psychometrics.dimensions.indices import prmse, variance_shares
from irt_psychometrics.dimensions.loadings import communalities, standardised_loadings
from irt_psychometrics.dimensions.rotation import rotate

THREE = np.array(
    [
        [0.41, 0, 0],
        [0.45, 0, 0],
        [0.53, 0.19, -0.37],
        [0.66, -0.12, -0.23],
        [0.38, 0.27, -0.11],
        [0.66, 0, -0.49],
        [0.68, 0.22, -0.12],
        [0.56, 0.49, 0.37],
        [0.55, -0.12, -0.16],
        [0.32, 0.28, -0.02],
        [0.38, 0.43, 0.1],
        [0.37, -0.29, -0.01],
    ]
)
SCIENCE = -np.array(
    [
        [-0.617053923, 0.0436291488],
        [-0.329013566, 0.7129008753],
        [-0.581065973, 0.4484802667],
        [-0.710859695, 0.0],
    ]
)
"""Unrotated loadings of mirt(Science, 2), R mirt 1.47, TOL 1e-6."""
BIFACTOR = np.array(
    [
        [0.82, 0.10, 0, 0],
        [0.77, 0.35, 0, 0],
        [0.79, 0.32, 0, 0],
        [0.66, 0.39, 0, 0],
        [0.51, 0, 0.71, 0],
        [0.56, 0, 0.43, 0],
        [0.68, 0, 0.13, 0],
        [0.60, 0, 0.50, 0],
        [0.83, 0, 0, 0.47],
        [0.60, 0, 0, 0.27],
        [0.78, 0, 0, 0.28],
        [0.55, 0, 0, 0.75],
    ]
)
"""Loadings with which the R package BifactorIndicesCalculator 0.2.2 is tested."""


def test_loadings_and_communalities_are_those_of_mirt():
    """Items 1, 2 and 9 of mirt's bfactor of SAT12 (R mirt 1.47); `summary` prints loadings with three decimals."""
    slopes = np.array([[0.784719189, 0.4344776923], [1.489164879, 0.8157649180], [0.455081235, 1.1139251351]])
    loadings = standardised_loadings(slopes, np.eye(2))
    np.testing.assert_allclose(loadings, [[0.408, 0.226], [0.619, 0.339], [0.218, 0.534]], atol=5e-4)
    expected = [0.21736747391, 0.49881316383, 0.33326062260]
    np.testing.assert_allclose(communalities(loadings, np.eye(2)), expected, atol=1e-8)


def test_loadings_of_correlated_dimensions_leave_latent_responses_a_variance_of_1():
    slopes, correlations = np.array([[1.0, 0.5], [2.0, -0.4]]), np.array([[1, 0.6], [0.6, 1]])
    loadings = standardised_loadings(slopes, correlations)
    unique = 1 - communalities(loadings, correlations)
    np.testing.assert_allclose(slopes * np.sqrt(unique)[:, None] / 1.702, loadings)


def test_oblimin_is_that_of_gparotation():
    """GPArotation, version 2022.10.2: the best of 30 starts of oblimin(THREE), all of which agree; oblimin(SCIENCE)."""
    found = rotate(THREE, "oblimin")
    expected = [[0.194081, 0.189872, 0.181247], [0.681768, 0.060483, -0.121688], [-0.056338, 0.850805, 0.033561]]
    np.testing.assert_allclose(found.loadings[[0, 2, 7]], expected, atol=1e-5)
    upper = found.correlations[np.triu_indices(3, 1)]
    np.testing.assert_allclose(upper, [0.4149341089, 0.3776175112, 0.0636838067], atol=1e-5)
    two = rotate(SCIENCE, "oblimin")
    columns = [[0.6053978623, -0.0494205264], [0.0256814863, 0.8086142769]]
    np.testing.assert_allclose(two.loadings[:2].T, columns, atol=1e-6)
    np.testing.assert_allclose(two.correlations[0, 1], 0.498244707, atol=1e-6)


def test_varimax_is_that_of_gparotation():
    """GPArotation, version 2022.10.2: Varimax(THREE, eps = 1e-7) and, with exchanged columns, Varimax(SCIENCE)."""
    found = rotate(THREE, "varimax")
    expected = [[0.299884533, 0.22224439279, 0.1696369561], [0.815598288, 0.10000148345, 0.0223413555]]
    np.testing.assert_allclose(found.loadings[[0, 5]], expected, atol=5e-6)
    two = rotate(SCIENCE, "varimax").loadings
    np.testing.assert_allclose(two[:, 0], [0.210359472, 0.775627074, 0.590024208, 0.193984635], atol=1e-6)
    np.testing.assert_allclose(two[:, 1], [0.581728407, 0.121984533, 0.436627586, 0.683879717], atol=1e-6)


@pytest.mark.parametrize("method", ["oblimin", "varimax"])
def test_rotation_keeps_common_variances_and_does_not_depend_on_the_input_rotation(method):
    turn, _ = np.linalg.qr([[1.0, 0.3, -2], [0.5, 1, 0.2], [0.1, -0.7, 1]])
    found, turned = rotate(THREE, method), rotate(THREE @ turn, method)
    np.testing.assert_allclose(found.loadings @ found.correlations @ found.loadings.T, THREE @ THREE.T, atol=1e-10)
    np.testing.assert_allclose(turned.loadings, found.loadings, atol=1e-6)
    sums = (found.loadings**2).sum(axis=0)
    assert (np.diff(sums) < 0).all()
    assert (found.loadings.sum(axis=0) > 0).all()


def test_one_dimension_is_only_turned_to_a_positive_sum():
    np.testing.assert_array_equal(rotate(-THREE[:, :1], "varimax").loadings, THREE[:, :1])


def test_unknown_rotation_is_refused():
    with pytest.raises(PsychometricsError, match='"oblimin" or "varimax", got \'promax\''):
        rotate(THREE, "promax")


def test_bifactor_indices_are_those_of_the_bifactor_indices_calculator():
    """BifactorIndicesCalculator 0.2.2, tests/testthat: Omega_S, Omega_H and ECV_SG, which has ECV_GS of all items."""
    found = variance_shares(BIFACTOR, np.eye(4), BIFACTOR != 0)
    np.testing.assert_allclose(found["omega"], [0.9482359, 0.8915387, 0.8400528, 0.9067561], atol=1e-6)
    np.testing.assert_allclose(found["omega_h"], [0.8507481, 0.1133118, 0.3040647, 0.2642460], atol=1e-6)
    np.testing.assert_allclose(found["ecv"], [0.71381542, 0.04862725, 0.12011057, 0.11744676], atol=1e-7)


def test_indices_of_separate_dimensions_are_those_of_the_bifactor_indices_calculator():
    loadings = np.kron(np.eye(3), np.ones((3, 1))) * np.array([[3, 4, 5, 4, 6, 7, 4, 5, 3]]).T / 10
    found = variance_shares(loadings, np.eye(3), loadings != 0)
    np.testing.assert_allclose(found["omega"], [0.3654822, 0.5922131, 0.3654822], atol=1e-6)
    np.testing.assert_allclose(found["omega_h"], found["omega"])


def test_replicability_of_one_dimension_is_its_squared_determinacy():
    """Optimal weights of one dimension give the largest reliability (Hancock & Mueller 2001)."""
    loadings = np.array([[0.3], [0.5], [0.8]])
    found = variance_shares(loadings, np.eye(1), loadings > 0)
    np.testing.assert_allclose(found["determinacy"] ** 2, found["h"])


def test_correlated_dimensions_have_no_explained_common_variance():
    found = variance_shares(BIFACTOR[:8, 1:3], np.array([[1, 0.5], [0.5, 1]]), BIFACTOR[:8, 1:3] != 0)
    assert np.isnan(found["ecv"]).all()


@pytest.mark.parametrize("r", [0.2, 0.9])
def test_prmse_of_two_topics_follows_from_spearman_brown(r):
    """m = 8 parallel items per topic with true variance c, score variance 1, and correlation r of true subscores."""
    m, c = 8, 0.2
    topic = np.kron(np.eye(2), np.ones((m, 1)))
    true = c * topic @ np.array([[1, r], [r, 1]]) @ topic.T
    scores = true + (1 - c) * np.eye(2 * m)
    alone, by_total, both = prmse(true, scores, topic > 0)
    np.testing.assert_allclose(alone, m * c / (1 + (m - 1) * c))
    np.testing.assert_allclose(by_total, ((1 + r) * m * c) ** 2 / (m * c * (2 * m * c * (1 + r) + 2 * (1 - c))))
    assert (both >= np.maximum(alone, by_total)).all()
    assert (alone > by_total).all() == (r == 0.2)


def test_subscore_of_all_items_is_the_total():
    true = np.full((3, 3), 0.3)
    found = prmse(true, true + np.eye(3), np.ones((3, 1), dtype=bool))
    np.testing.assert_allclose(found[:, 0], 0.9 / 1.9)
    assert found[0, 0] == found[1, 0]
