"""The brms engine, run on small data: a single program is compiled for all of these tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from irt_assets.engines.r_engines import REngine, Sampling
from irt_assets.engines.screening import ITEM_PRIORS
from irt_psychometrics.estimation import Flag, fit_em
from irt_psychometrics.responses import Responses
from resources.failures import PermanentFailure
from tests.helpers.what_changed import WHERE_ENGINES_CHANGE

pytestmark = pytest.mark.ci

PERSONS, ITEMS = 300, 6


@pytest.fixture(scope="module", autouse=True)
def _brms(require_r):
    require_r("brms")


@pytest.fixture(scope="module")
def responses():
    rng = np.random.default_rng(3)
    a, b = np.exp(rng.normal(0, 0.3, ITEMS)), np.linspace(-1, 1, ITEMS)
    return Responses.from_wide(
        (rng.random((PERSONS, ITEMS)) < expit(a * (rng.normal(size=(PERSONS, 1)) - b))).astype(float)
    )


@pytest.fixture(scope="module")
def fit(responses, compiled):
    engine = REngine("brms", sampling=Sampling(draws=1500, tune=300, chains=4, cores=2, cache=compiled))
    return engine.calibrate(responses, model="2pl", data_hash="f00")


@WHERE_ENGINES_CHANGE
def test_posterior_means_are_near_the_posterior_mode_of_the_em_engine(responses, fit):
    """The priors are the same; θ is sampled instead of integrated out. The mean of a skewed posterior differs from the
    mode by up to 0.4 posterior SDs with 300 answers per item; a wrong prior or sign would be many SDs. The SDs have
    errors of 2 to 3 % with 1000 independent draws, and the posterior is not normal, which the information assumes."""
    mode = fit_em(responses, priors=ITEM_PRIORS)
    np.testing.assert_array_less(np.abs(fit.a - mode.a) / fit.a_se, 0.5)
    np.testing.assert_array_less(np.abs(fit.d - mode.d) / fit.d_se, 0.5)
    np.testing.assert_allclose(fit.a_se, mode.a_se, rtol=0.25)
    np.testing.assert_allclose(fit.d_se, mode.d_se, rtol=0.25)


@pytest.mark.long
def test_sound_fit_converges_and_records_its_software_and_priors(responses, fit):
    assert fit.convergence.converged, fit.convergence.reason
    assert set(fit.software) == {"brms", "rstan", "R"}
    assert all(f"{name} {version}" in fit.engine_version for name, version in fit.software.items())
    assert (fit.engine, fit.data_hash, fit.n_persons, fit.latent_mean, fit.latent_sd) == ("brms", "f00", PERSONS, 0, 1)
    assert fit.convergence.n_parameters == 2 * ITEMS
    assert fit.convergence.iterations == 4 * 1800
    assert fit.priors == ITEM_PRIORS.as_dict()
    # the likelihood at the posterior means lies below its maximum, by about half the number of parameters or less
    assert 0 < fit_em(responses).convergence.loglik - fit.convergence.loglik < ITEMS


@pytest.mark.long
@WHERE_ENGINES_CHANGE
def test_graded_fit_is_near_the_posterior_mode_of_the_em_engine(shared, compiled):
    """Science with one item scored 0/1. em has no prior on w, but N(0, 1) is wide beside 392 answers."""
    frame = pd.read_csv(shared / "data" / "science_wide.csv").drop(columns=["person"]) - 1
    frame["work"] = frame["work"] > 1
    x = Responses.from_wide(frame.to_numpy(float), [*frame], np.array([4, 2, 4, 4]))
    models = ("grm", "2pl", "grm", "grm")
    engine = REngine("brms", sampling=Sampling(draws=500, tune=300, chains=2, cores=2, cache=compiled))
    fit, mode = engine.calibrate(x, model=models, data_hash=""), fit_em(x, model=models, priors=ITEM_PRIORS)
    assert fit.models == models
    free = mode.cov.diagonal(axis1=1, axis2=2).T > 0
    se = np.sqrt(mode.cov.diagonal(axis1=1, axis2=2).T[free])
    np.testing.assert_array_less(np.abs(fit.parameters[free] - mode.parameters[free]) / se, 0.6)
    np.testing.assert_allclose(np.sqrt(fit.cov.diagonal(axis1=1, axis2=2).T[free]), se, rtol=0.35)
    assert 0 < fit_em(x, model=models).convergence.loglik - fit.convergence.loglik < mode.convergence.n_parameters / 2


@pytest.mark.long
def test_compiled_program_is_reused_for_different_data(responses, compiled):
    hurried = REngine("brms", sampling=Sampling(draws=50, tune=100, chains=1, cache=compiled))
    hurried.calibrate(responses, model="2pl", data_hash="")
    made = {program: program.stat().st_mtime_ns for program in compiled.glob("brms-*.rds")}
    assert made
    few = Responses.from_wide((np.random.default_rng(1).random((60, 5)) < 0.5).astype(float))
    found = hurried.calibrate(few, model="2pl", data_hash="")
    assert {program: program.stat().st_mtime_ns for program in compiled.glob("*")} == made
    assert not found.convergence.converged
    assert "ESS" in found.convergence.reason
    assert any(f"of item i{j}" in found.convergence.reason for j in range(1, 6))


@pytest.mark.long
def test_fit_does_not_converge_if_only_the_prior_determines_an_item(responses, compiled):
    matrix = responses.score.reshape(PERSONS, ITEMS).astype(float)
    barely = np.full(PERSONS, np.nan)
    by_total = np.argsort(matrix.sum(axis=1))
    barely[by_total[-20]], barely[by_total[20]] = 1.0, 0.0
    engine = REngine("brms", sampling=Sampling(draws=200, tune=200, chains=2, cores=2, cache=compiled))
    found = engine.calibrate(Responses.from_wide(np.column_stack([matrix, barely])), model="2pl", data_hash="")
    assert Flag.UNIDENTIFIED in found.flags[-1]
    assert np.isnan([found.a_se[-1], found.d_se[-1]]).all()
    assert "do not determine the parameters of 1 items (i7)" in found.convergence.reason
    assert not any(Flag.UNIDENTIFIED in flags for flags in found.flags[:-1])


def test_compiler_errors_are_reported_in_the_failure(
    responses: Responses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rstan alone reports only "invalid connection"."""
    (tmp_path / "Makevars").write_text("CXX14 = /nowhere/g++\n")
    monkeypatch.setenv("R_MAKEVARS_USER", str(tmp_path / "Makevars"))
    engine = REngine("brms", sampling=Sampling(draws=10, tune=10, chains=1, cores=1, cache=tmp_path))
    with pytest.raises(PermanentFailure, match=r"cannot be compiled: .*/nowhere/g\+\+: No such file"):
        engine.calibrate(responses, model="2pl", data_hash="f00")
