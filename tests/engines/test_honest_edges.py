"""Data that do not determine the parameters, fitted by every engine: each reports item and reason.

More cases for the em engine are in test_em.py of the library, for pymc in test_pymc.py.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.util import find_spec

import numpy as np
import pytest
from scipy.special import expit

from irt_assets.engines import registry
from irt_assets.engines.em import EmEngine
from irt_assets.engines.pymc_engine import PymcEngine
from irt_assets.engines.r_engines import REngine, Sampling
from irt_psychometrics import PsychometricsError
from irt_psychometrics.estimation import Flag
from irt_psychometrics.responses import Responses
from tests.engines.r_service import missing_packages, running
from tests.helpers.what_changed import WHERE_ENGINES_CHANGE

SLOW = [pytest.mark.ci, WHERE_ENGINES_CHANGE]
ENGINES = (
    "em",
    *(pytest.param(name, marks=SLOW) for name in ("pymc", "mirt")),
    pytest.param("brms", marks=pytest.mark.long),
    pytest.param("remote", marks=[*SLOW, pytest.mark.xdist_group("r")]),
)
BAYESIAN = ("pymc", "brms")
MODELS = {name: registry.spec_of(name).models for name in ("pymc", "brms")}
SHORT = Sampling(draws=100, tune=200, chains=2, cores=2)
SOUND = 8


@pytest.fixture(scope="module")
def remote(require, compiled, tmp_path_factory):
    """R behind HTTP: mirt if the service has it, otherwise brms."""
    require(not missing_packages(), "R packages of the R IRT service")
    with running(tmp_path_factory.mktemp("service"), R_IRT_CACHE=compiled) as service:
        kind = "mirt" if "mirt" in service.health()["engines"] else "brms"
        yield REngine(kind, service.client.call, SHORT if kind == "brms" else None)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, require, require_r, compiled):
    """An engine. Samplers draw too little to converge, because the tests check only flags and estimates of items."""
    name = request.param
    if name == "em":
        return EmEngine()
    if name == "pymc":
        require(find_spec("pymc") is not None, "PyMC (make venv EXTRAS=bayes)")
        return PymcEngine(draws=100, tune=100, chains=2)
    if name == "remote":
        return request.getfixturevalue("remote")
    require_r(name)
    if name == "mirt":
        return REngine("mirt")
    return REngine("brms", sampling=replace(SHORT, cache=compiled))


def answers(n_persons, n_items, seed=20):
    """Persons × items, a = 1.2 and difficulties spread over ±1."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(n_persons, 1))
    return (rng.random((n_persons, n_items)) < expit(1.2 * (theta - np.linspace(-1, 1, n_items)))).astype(float)


def calibrate(engine, x, model="2pl"):
    return engine.calibrate(Responses.from_wide(x), model=model, data_hash="")


@cache
def spoil_items():
    """Eight sound items, then items with all answers right, all wrong, no answer, a single answer, and a wrong key. Ten
    learners have all answers right, ten have all wrong, and learner 21 (counted from 0) has a single answer."""
    x = answers(400, SOUND + 5)
    x[:, -1] = 1 - x[:, -1]
    x[1:11], x[11:21] = 1.0, 0.0
    x[:, SOUND], x[:, SOUND + 1], x[:, SOUND + 2], x[1:, SOUND + 3] = 1.0, 0.0, np.nan, np.nan
    x[0, SOUND + 3], x[21, 1:] = 1.0, np.nan
    return x


@pytest.fixture(scope="module")
def spoiled_fit(engine):
    return calibrate(engine, spoil_items())


@pytest.mark.parametrize(
    ("offset", "flag"), [(0, Flag.ALL_CORRECT), (1, Flag.ALL_WRONG), (2, Flag.NO_DATA), (3, Flag.ALL_CORRECT)]
)
def test_items_with_constant_answers_are_flagged_and_have_no_estimates(spoiled_fit, offset, flag):
    j = SOUND + offset
    assert spoiled_fit.flags[j] == (flag,)
    assert np.isnan([spoiled_fit.a[j], spoiled_fit.d[j], spoiled_fit.c[j], spoiled_fit.a_se[j]]).all()


def test_wrong_key_is_flagged_and_has_no_positive_slope(engine, spoiled_fit):
    assert Flag.NEGATIVE_DISCRIMINATION in spoiled_fit.flags[-1]
    if engine.name in BAYESIAN:  # priors of these engines exclude negative slopes
        assert np.isnan(spoiled_fit.a[-1])
    else:
        assert spoiled_fit.a[-1] < -3 * spoiled_fit.a_se[-1]


def test_sound_items_keep_their_estimates_if_further_items_are_spoiled(spoiled_fit):
    assert np.isfinite(spoiled_fit.a_se[:SOUND]).all()
    assert all(flags == () for flags in spoiled_fit.flags[:SOUND])
    # true values 1.2, errors about 0.2 with perfect patterns added: four standard errors of eight items
    assert np.all(np.abs(spoiled_fit.a[:SOUND] - 1.2) < 4 * spoiled_fit.a_se[:SOUND] + 0.5)


def test_learners_with_a_single_answer_or_a_perfect_pattern_are_counted(spoiled_fit):
    assert spoiled_fit.n_persons == 400


def test_fit_has_a_reason_if_and_only_if_convergence_failed(spoiled_fit):
    convergence = spoiled_fit.convergence
    assert convergence.converged == (convergence.reason == "")


def test_identical_items_are_flagged_and_the_fit_does_not_converge(engine):
    x = answers(400, 6)
    x[:, 1] = x[:, 0]
    fit = calibrate(engine, x)
    assert not fit.convergence.converged
    assert all(Flag.DUPLICATE in fit.flags[j] for j in (0, 1))
    assert "the same answers by the same learners as another item (i1, i2)" in fit.convergence.reason


def test_disconnected_forms_are_refused_with_the_remedy(engine):
    x = answers(200, 8)
    x[:100, 4:], x[100:, :4] = np.nan, np.nan
    with pytest.raises(PsychometricsError, match=r"2 groups.*anchors"):
        calibrate(engine, x)


@pytest.mark.parametrize("x", [np.ones((50, 4)), np.zeros((50, 4))], ids=["all right", "all wrong"])
def test_constant_data_are_refused_with_the_items(engine, x):
    with pytest.raises(PsychometricsError, match=r"found 0; left out: i1 \(all_"):
        calibrate(engine, x)


def test_data_without_any_answer_are_refused(engine):
    with pytest.raises(PsychometricsError, match="no responses"):
        calibrate(engine, np.full((9, 4), np.nan))


def test_three_learners_are_refused(engine):
    with pytest.raises(PsychometricsError, match="only 3 learners"):
        calibrate(engine, np.array([[1.0, 0, 1, 0, 1], [0, 1, 1, 0, 0], [1, 1, 0, 1, 0]]))


def test_guessing_is_flagged_if_the_answers_do_not_determine_the_parameter(engine):
    """Nearly all learners answer item 1 correctly, so the answers do not show the effect of guessing."""
    if "3pl" not in MODELS.get(engine.name, ("3pl",)):
        with pytest.raises(PsychometricsError, match=f"the {engine.name} engine fits .*; got model '3pl'"):
            calibrate(engine, answers(400, 8), "3pl")
        return
    x = answers(1000, 8)
    x[:, 0] = np.maximum(x[:, 0], np.random.default_rng(1).random(1000) < 0.85)
    fit = calibrate(engine, x, "3pl")
    assert Flag.GUESSING_UNIDENTIFIED in fit.flags[0]
