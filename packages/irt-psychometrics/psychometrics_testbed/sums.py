"""Sums over answers of any source, to compare a remote source with answers in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from irt_psychometrics.core import kernels
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.estimation import RemoteAnswers, reductions
from irt_psychometrics.estimation.em_request import Persons
from irt_psychometrics.estimation.marginal import Problem
from irt_psychometrics.estimation.parameter_layout import ParameterLayout
from irt_psychometrics.estimation.source import InMemory
from irt_psychometrics.items import item_model
from irt_psychometrics.responses import Responses


def number_of_shards(responses: Responses) -> int:
    return reductions.number_of_shards(responses.n_responses)


def divide_answers(monkeypatch: pytest.MonkeyPatch, *, responses_per_shard: int, bundles: int) -> None:
    """Divide answers into smaller shards, in at most this many bundles, for the time of a test."""
    monkeypatch.setattr(reductions, "RESPONSES_PER_SHARD", responses_per_shard)
    monkeypatch.setattr(reductions, "MAX_BUNDLES", bundles)


def sums_of_2pl(source: RemoteAnswers | Responses, n_items: int) -> list[list[Any]]:
    """Compute log-likelihood, gradient, observed information and numbers of answers at drawn parameters of a 2PL, for
    all answers and for the answers of every fourth person."""
    if isinstance(source, Responses):
        source = InMemory(source, Persons.from_responses(source, None, None, None))
    layout, found = ParameterLayout.from_model(item_model("2pl"), n_items), []
    x = np.random.default_rng(2).normal(0.5, 0.2, layout.size)
    laid = source.lay_out_items(np.ones(n_items, dtype=bool), rarer=False, by_category=False)
    with kernels.runner(2) as run:
        for data in (laid.answers, laid.answers.thin(4)):
            problem = Problem(data, layout, Grid.symmetric(), run)
            point = problem.evaluate(x)
            found.append([point.loglik, point.gradient, problem.observed_information(point), data.n, data.size])
    return found
