"""Fit statistics of fits with groups, histograms and anchors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import irt_psychometrics as irt
from irt_psychometrics.core.curves import probability
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.models import Population
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.itemfit.dependence import local_dependence, parallel_analysis
from irt_psychometrics.itemfit.item_statistics import item_fit
from irt_psychometrics.itemfit.m2 import form_fit
from irt_psychometrics.itemfit.model_replicates import Abilities
from irt_psychometrics.itemfit.person_patterns import person_fit
from irt_psychometrics.itemfit.sum_score_fit import sum_score_fit
from psychometrics_testbed.fit_worlds import known, two_sided, unseen
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = [pytest.mark.ci, WHERE_STATISTICS_CHANGE]

PERSONS, LENGTH = 1500, 16
LEVELS = np.array(["low", "middle", "high"])[np.arange(PERSONS) % 3]
MEANS = {"low": -1.2, "middle": 0.0, "high": 1.2}


@pytest.fixture(autouse=True)
def quick(simulate_about):
    simulate_about(150_000)


def by_level(seed):
    """Three forms of rising difficulty, each given to learners of its level."""
    rng = np.random.default_rng(seed)
    items = 2 * LENGTH
    a, b = np.exp(rng.normal(0, 0.3, items)), np.linspace(-2, 2, items)
    theta = rng.normal([MEANS[level] for level in LEVELS], 0.5)
    x = (rng.random((PERSONS, items)) < probability(theta, a, -a * b, np.zeros(items))).astype(float)
    return Responses.from_wide(np.where(unseen(PERSONS, LENGTH), np.nan, x))


def test_items_given_by_level_fit_within_groups_but_not_under_a_common_normal():
    """The statistics that a month's gates use, with adaptive forms: 5 sets of 32 items, binomial error 1.7 %."""
    rejected: dict[str, list[np.ndarray]] = {"infit": [], "rmsd": [], "s_x2": [], "m2": [], "one normal": []}
    for seed in range(5):
        responses = by_level(seed)
        fit = fit_em(responses, groups=LEVELS, reference="middle")
        found = item_fit(responses, fit, groups=LEVELS)
        rejected["infit"].append(two_sided(found.infit_z) < 0.05)
        rejected["rmsd"].append(found.rmsd_p < 0.05)
        rejected["s_x2"].append(sum_score_fit(responses, fit, groups=LEVELS).p < 0.05)
        rejected["m2"].append(np.array([form.p for form in form_fit(responses, fit, groups=LEVELS)]) < 0.05)
        assert local_dependence(responses, fit, groups=LEVELS).flagged == ()
        one = fit_em(responses)
        rejected["one normal"].append(sum_score_fit(responses, one).p < 0.05)
    rate = {name: np.concatenate(parts).mean() for name, parts in rejected.items()}
    for name in ("infit", "rmsd", "s_x2"):
        assert rate[name] == pytest.approx(0.05, abs=0.07)  # four binomial errors
    assert rate["m2"] <= 0.3  # at most 4 of 15 forms
    assert rate["one normal"] > 0.07


def test_fit_statistics_of_a_fit_with_groups_require_group_labels():
    responses = by_level(0)
    fit = fit_em(responses, groups=LEVELS, reference="middle")
    for statistic in (item_fit, sum_score_fit, local_dependence, parallel_analysis, form_fit):
        with pytest.raises(PsychometricsError, match="give the group of each person"):
            statistic(responses, fit)
    with pytest.raises(PsychometricsError, match="no such group in the fit: strange"):
        item_fit(responses, fit, groups=["strange", *LEVELS[1:]])
    with pytest.raises(PsychometricsError, match="1500 labels"):
        item_fit(responses, fit, groups=LEVELS[1:])
    assert np.isfinite(person_fit(responses, fit).p).mean() > 0.99  # lz* at the WLE needs no group


def test_abilities_are_drawn_from_the_distribution_of_each_persons_group():
    populations = (Population("a", 2, -1.0, 0.5, 0, 0), Population("b", 2, 2.0, 1.0, 0, 0))
    fit = replace(known(np.ones(3), np.zeros(3)), populations=populations)
    groups = np.repeat(["b", "a"], 20_000)
    abilities = Abilities.from_calibration(fit, groups, 40_000)
    np.testing.assert_allclose(abilities.weights.sum(axis=1), 1)
    np.testing.assert_allclose(abilities.weights @ abilities.nodes, [-1, 2], atol=1e-6)
    theta = abilities.nodes[abilities.draw(np.random.default_rng(1))]
    for name, mean, sd in (("a", -1.0, 0.5), ("b", 2.0, 1.0)):
        here = theta[groups == name]
        assert here.mean() == pytest.approx(mean, abs=4 * sd / np.sqrt(20_000))
        # nodes 0.1 apart widen a distribution by 0.1²/12 at most
        assert here.std() == pytest.approx(sd, abs=4 * sd / np.sqrt(40_000) + 0.002)


def test_nodes_and_weights_of_a_histogram_are_used_unchanged():
    nodes, weights = (-1.0, 0.0, 1.0), (0.25, 0.5, 0.25)
    fit = replace(known(np.ones(3), np.zeros(3)), populations=(Population("all", 9, 0.0, 0.7, 0, 0, nodes, weights),))
    abilities = Abilities.from_calibration(fit, None, 5)
    assert abilities.nodes.tolist() == list(nodes)
    np.testing.assert_allclose(abilities.weights, [weights])


def test_anchors_cost_no_degrees_of_freedom():
    rng = np.random.default_rng(4)
    a, d = np.exp(rng.normal(0, 0.3, 8)), rng.normal(0, 1, 8)
    x = (rng.random((2000, 8)) < probability(rng.normal(size=2000), a, d, np.zeros(8))).astype(float)
    responses = Responses.from_wide(x)
    free = known(a, d)
    held = replace(free, anchored=free.item_ids[:3])
    difference = sum_score_fit(responses, held).df - sum_score_fit(responses, free).df
    assert difference.tolist() == [2] * 3 + [0] * 5
    assert form_fit(responses, held)[0].df - form_fit(responses, free)[0].df == 6
    # an estimated latent mean and SD count as two parameters with anchors, and as zero if all items are free
    moved = (Population("all", 2000, 0.0, 1.0, 0.1, 0.1),)
    assert form_fit(responses, replace(held, populations=moved))[0].df == form_fit(responses, held)[0].df - 2
    assert form_fit(responses, replace(free, populations=moved))[0].df == form_fit(responses, free)[0].df
    # estimation shrinks the residuals of a free item, so a given residual has a larger z
    assert abs(item_fit(responses, held).infit_z[0]) < abs(item_fit(responses, free).infit_z[0])


@pytest.mark.parametrize(("sizes", "reference"), [((200, 400), "b"), ((300, 300), "a")])
def test_largest_group_is_the_reference_of_a_fit_and_of_dif(sizes: tuple[int, int], reference: str) -> None:
    """The first by name is chosen of equally large groups. Persons without a response do not count."""
    rng = np.random.default_rng(5)
    items = irt.ItemParameters.from_frame(
        {"item": [f"q{j}" for j in range(8)], "a": [1.2] * 8, "b": rng.normal(size=8)}
    )
    answers = irt.simulate_responses(items, rng.normal(size=600), random_state=5)
    x, groups = replace(answers, n_persons=1000), ["a"] * sizes[0] + ["b"] * sizes[1] + ["ab"[reference == "a"]] * 400
    fit = irt.fit(x, groups=groups)
    assert fit.calibration.populations[0].name == reference
    assert fit.calibration.populations[0].mean == 0.0
    assert irt.find_dif(x, groups).reference == reference
