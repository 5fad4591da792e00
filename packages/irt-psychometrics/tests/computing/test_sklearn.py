"""Item response models in scikit-learn: pipelines, searches, and the same numbers as the library's."""

import doctest
import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

import irt_psychometrics.sklearn
from irt_psychometrics import Responses
from irt_psychometrics.estimation import fit_em
from irt_psychometrics.scoring.abilities import Curves, eap_by
from irt_psychometrics.sklearn import ItemResponseModel

N_PERSONS = 400
TWO_ITEMS = {
    "check_estimators_overwrite_params",
    "check_estimators_fit_returns_self",
    "check_readonly_memmap_input",
    "check_fit_idempotent",
    "check_fit_check_is_fitted",
    "check_n_features_in",
}
"""Checks that are left out: their data has two columns, and two items do not determine a partial credit model."""
ARRAY_API = {"check_array_api_input"}
"""Left out as well: scikit-learn runs the check only if SCIPY_ARRAY_API is set."""
CHECKS = [
    pytest.param(*one, id=one[1].func.__name__)
    for one in estimator_checks_generator(ItemResponseModel("pcm", max_score=20))
    if one[1].func.__name__ not in TWO_ITEMS | ARRAY_API
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_checks_of_scikit_learn_pass(estimator, check) -> None:
    """The data of these checks is noise without a common slope, so a fit may warn that it did not converge."""
    check(estimator)


@pytest.fixture(scope="module")
def matrix() -> np.ndarray:
    rng = np.random.default_rng(1)
    theta, b = rng.standard_normal(N_PERSONS), np.linspace(-1.5, 1.5, 6)
    x = (rng.random((N_PERSONS, 6)) < 1 / (1 + np.exp(b - theta[:, None]))).astype(float)
    x[rng.random(x.shape) < 0.2] = np.nan
    return x


@pytest.fixture(scope="module")
def fitted(matrix) -> ItemResponseModel:
    return ItemResponseModel(with_se=True).fit(matrix)


def test_parameters_and_abilities_match_the_library(matrix, fitted) -> None:
    fit = fit_em(Responses.from_wide(matrix))
    scores = eap_by(Responses.from_wide(matrix), Curves.from_items(fit.curves, population=fit.latent[0]))
    assert np.array_equal(fitted.discrimination_, fit.a)
    assert np.array_equal(fitted.difficulty_, fit.b)
    # the order of summation differs
    np.testing.assert_allclose(fitted.transform(matrix), np.column_stack([scores.theta, scores.se]), atol=1e-12)


def test_log_likelihoods_of_persons_add_up_to_the_log_likelihood_of_the_fit(matrix, fitted) -> None:
    """Both sum over the same 61 nodes; only the order of the sums differs."""
    loglik = fitted.score_samples(matrix)
    assert loglik.sum() == pytest.approx(fitted.calibration_.convergence.loglik, abs=1e-8)
    assert fitted.score(matrix) == pytest.approx(loglik.mean())
    assert fitted.score_samples(np.full((1, 6), np.nan)) == pytest.approx([0.0], abs=1e-12)


def test_standard_errors_are_a_column_with_a_name(matrix, fitted) -> None:
    assert fitted.get_feature_names_out().tolist() == ["theta", "se"]
    alone = ItemResponseModel().fit(matrix)
    assert alone.get_feature_names_out().tolist() == ["theta"]
    assert np.array_equal(alone.transform(matrix), fitted.transform(matrix)[:, :1])


def test_person_without_scores_has_the_mean_of_the_population(fitted) -> None:
    theta, se = fitted.transform(np.full((1, 6), np.nan))[0]
    # the prior N(0, 1), summed over nodes on [-6, 6]
    assert (theta, se) == pytest.approx((0, 1), abs=1e-6)


def test_model_is_cloned_and_pickled(matrix, fitted) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.transform(matrix), fitted.transform(matrix))
    with pytest.raises(NotFittedError):
        clone(fitted).transform(matrix)


def test_search_in_a_pipeline_chooses_a_model_by_likelihood(matrix) -> None:
    pipeline = make_pipeline(FunctionTransformer(feature_names_out="one-to-one"), ItemResponseModel())
    search = GridSearchCV(pipeline, {"itemresponsemodel__model": ["rasch", "2pl"]}, cv=2).fit(matrix)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.transform(matrix).shape == (N_PERSONS, 1)


def test_scored_items_have_abilities_in_the_order_of_their_sums() -> None:
    rng = np.random.default_rng(2)
    theta = rng.standard_normal(300)
    x = np.clip(np.round(1.5 + theta[:, None] + rng.normal(0, 0.7, (300, 4))), 0, 3)
    x[:, 3] = x[:, 3] >= 2
    found = ItemResponseModel("pcm", max_score=[3, 3, 3, 1]).fit(x)
    sums, abilities = x.sum(axis=1), found.transform(x)[:, 0]
    # the sum is sufficient for θ in a Rasch or partial credit model
    order = np.argsort(sums, kind="stable")
    assert np.all(np.diff(abilities[order]) > -1e-9)


@pytest.mark.parametrize(
    ("estimator", "value", "message"),
    [
        (ItemResponseModel(), 2.0, "item x1: score 2 in row 3, and its scores are 0 … 1"),
        (ItemResponseModel(), 0.5, "item x1: score 0.5 in row 3"),
        (ItemResponseModel("5pl"), 1.0, "model must be one of rasch"),
        (ItemResponseModel(method="mean"), 1.0, "method must be one of eap"),
        (ItemResponseModel("gpcm", max_score=21), 1.0, "max_score must be from 1 to 20"),
        (ItemResponseModel("gpcm", max_score=[3, 3]), 1.0, "one for each of 6 items"),
    ],
)
def test_invalid_requests_are_refused_with_the_item_or_the_parameter(
    matrix, estimator, value: float, message: str
) -> None:
    x = matrix.copy()
    x[3, 1] = value
    with pytest.raises(ValueError, match=message):
        estimator.fit(x)


def test_items_of_a_data_frame_keep_their_names(matrix) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(matrix, columns=[f"q{j}" for j in range(6)])
    found = ItemResponseModel().set_output(transform="pandas").fit(frame)
    assert found.calibration_.item_ids == tuple(frame.columns)
    assert found.transform(frame).columns.tolist() == ["theta"]


def test_import_without_scikit_learn_fails_with_the_remedy() -> None:
    program = (
        "import sys\n"
        "sys.modules['sklearn'] = None\n"
        "try:\n"
        "    import irt_psychometrics.sklearn\n"
        "except ImportError as error:\n"
        "    assert 'pip install scikit-learn' in str(error)\n"
        "else:\n"
        "    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_examples_of_docstrings_run() -> None:
    assert doctest.testmod(irt_psychometrics.sklearn).failed == 0
