"""Sums over persons are the same bit for bit, whoever works them out and in whatever process."""

from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from irt_assets.psychometrics.core import kernels
from irt_assets.psychometrics.core.item_models import item_model
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.core.quadrature import Grid
from irt_assets.psychometrics.estimation import sums
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.estimation.marginal import Problem
from irt_assets.psychometrics.estimation.parameter_layout import ParameterLayout
from irt_assets.psychometrics.estimation.response_layout import ResponseLayout
from tests.helpers.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE

ITEMS = 12


def drawn(n_persons: int, seed: int = 3) -> Responses:
    rng = np.random.default_rng(seed)
    x = (rng.random((n_persons, ITEMS)) < rng.random((n_persons, 1))).astype(float)
    x[rng.random(x.shape) < 0.3] = np.nan
    responses = Responses.from_wide(x)
    key = np.array([zlib.crc32(f"u{k}".encode()) for k in range(n_persons)], dtype=np.uint32)
    return dataclasses.replace(responses, key=key)


def test_how_many_shards():
    assert [sums.number_of_shards(n) for n in (0, 99_999, 100_000, 1_500_000, 10**8, 10**9)] == [1, 1, 2, 16, 16, 50]


@pytest.mark.parametrize("shards", [1, 7, 64, 65, 500])
def test_groups_are_consecutive_shards(shards):
    found = sums.bundles(shards)
    assert len(found) == min(shards, 64)
    assert [shard for group in found for shard in group] == list(range(shards))
    # what Spark says of the group of a shard
    assert [((s + 1) * len(found) - 1) // shards for s in range(shards)] == [
        k for k, group in enumerate(found) for _ in group
    ]


def test_shards_hold_every_person_once_by_their_key():
    responses = drawn(500)
    data = ResponseLayout.of(responses, shards=5)
    seen = np.bincount(sums.shard_of(responses.key, 500, 5), minlength=5)
    assert [len(people.set_of) for people in data.shards] == seen.tolist()
    assert data.size == data.n_persons == 500


@pytest.mark.parametrize("shards", [1, 3, 70])
def test_an_e_step_in_shards_is_that_of_all_persons_for_any_number_of_threads(shards):
    responses, structure, found = drawn(800), ParameterLayout.of(item_model("2pl"), ITEMS), []
    x = np.random.default_rng(1).normal(0.5, 0.2, structure.size)
    for threads in (1, 3):
        with kernels.runner(threads) as run:
            data = ResponseLayout.of(responses, shards=shards)
            problem = Problem(data, structure, Grid.spanning(), run)
            point = problem.evaluate(x)
            found.append((point.loglik, point.gradient, problem.observed_information(point)))
    with kernels.runner(1) as run:
        problem = Problem(ResponseLayout.of(responses, shards=1), structure, Grid.spanning(), run)
        whole = problem.evaluate(x)
        information = problem.observed_information(whole)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    # sums of 800 terms in another order: 1e-13 of their size
    assert found[0][0] == pytest.approx(whole.loglik, rel=1e-13)
    np.testing.assert_allclose(found[0][1], whole.gradient, atol=1e-10)
    # persons of one set are taken together from 8 on, and one by one else, which is good to 1e-5 of a covariance
    np.testing.assert_allclose(found[0][2], information, atol=1e-5)


@pytest.mark.ci
def test_a_process_that_compiles_gives_the_bits_of_one_that_loads(tmp_path: Path):
    """Once, helpers of kernels had copies, and which of them was used depended on this."""
    script = tmp_path / "fit.py"
    script.write_text(
        "import pickle, sys\n"
        "from irt_assets.psychometrics.estimation.em import fit_em\n"
        "answers = pickle.load(open(sys.argv[1], 'rb'))\n"
        "for model in ('2pl', '3pl'):\n"
        "    fit = fit_em(answers, model=model, threads=1)\n"
        "    print(fit.a.tobytes().hex(), fit.cov.tobytes().hex())\n"
    )
    (tmp_path / "answers").write_bytes(pickle.dumps(drawn(600)))
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


def test_a_fit_in_shards_is_the_fit_of_all(monkeypatch):
    responses = drawn(3000)
    whole = fit_em(responses)
    monkeypatch.setattr(sums, "RESPONSES_PER_SHARD", 2000)
    found = fit_em(responses)
    assert sums.number_of_shards(responses.n_responses) == 13
    # both within the fit's tolerance of one maximum
    np.testing.assert_allclose(found.a, whole.a, atol=2e-5)
    np.testing.assert_allclose(found.a_se, whole.a_se, rtol=1e-4)
    assert found.convergence.loglik == pytest.approx(whole.convergence.loglik, abs=1e-6)
