"""3PL items beside items with more scores in one fit: against R mirt, and in links, drift, DIF and tables."""

from __future__ import annotations

import numpy as np
import pytest

import irt_psychometrics as irt
from irt_psychometrics.core.model_families import GPCM, GRM, ItemModel
from irt_psychometrics.estimation import Flag
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = [WHERE_STATISTICS_CHANGE, pytest.mark.filterwarnings("ignore::irt_psychometrics.ItemWarning")]

CHOICE, SCORED, LEARNERS = 20, 10, 3000
IDS = [*(f"m{k}" for k in range(CHOICE)), *(f"s{k}" for k in range(SCORED))]
MIRT = {
    "gpcm": (-66832.12, {"m0": (1.298527, -1.62164), "m1": (1.601758, -1.455439), "s0": (0.8468779,)}),
    "grm": (-65902.30, {"m0": (1.383853, -1.445881), "m1": (1.651413, -1.39545), "s0": (1.569625,)}),
}
"""log L, and a and logit c, by mirt 1.47 with the prior N(ln .25, .5²) on logit c, 61 nodes and TOL 1e-7."""
MIRT_SE = {
    "gpcm": {"m0": (0.09196668, 0.4108893), "m1": (0.1569172, 0.1756714), "s0": (0.03706205,)},
    "grm": {"m0": (0.1054793, 0.4043337), "m1": (0.1720133, 0.1781609), "s0": (0.0562469,)},
}
"""Errors of the same parameters by Oakes' identity."""


class World:
    """True parameters of 20 items of multiple choice and ten scored 0 … 3, drawn by seed."""

    def __init__(self, scored: ItemModel, seed: int = 1, learners: int = LEARNERS) -> None:
        self.scored, rng = scored, np.random.default_rng(seed)
        theta = rng.standard_normal(learners)
        self.a, self.b = np.exp(rng.normal(0.2, 0.25, CHOICE)), rng.normal(0, 1, CHOICE)
        self.c = rng.beta(5, 17, CHOICE)
        choices = self.choices(rng, theta)
        a = np.exp(rng.normal(-0.3 if scored is GPCM else 0.3, 0.2, SCORED))
        b = rng.normal(0, 0.6, SCORED)
        inner = rng.normal(0.3, 0.4, (2, SCORED)) if scored is GPCM else np.log(rng.uniform(0.6, 1.6, (2, SCORED)) * a)
        self.parameters = np.vstack([a, -a * b, np.zeros(SCORED), inner, np.zeros(SCORED)])
        self.matrix = np.hstack([choices, self.scores(rng, theta)])
        self.models = dict.fromkeys(IDS[:CHOICE], "3pl") | dict.fromkeys(IDS[CHOICE:], scored.name)
        self.fit = irt.fit(self.responses(self.matrix), self.models)

    def choices(self, rng: np.random.Generator, theta: np.ndarray, moved: float = 0.0) -> np.ndarray:
        """Answers to the items of multiple choice. The b of m3 is `moved` higher."""
        b = self.b + moved * (np.arange(CHOICE) == 3)
        p = self.c + (1 - self.c) / (1 + np.exp(-self.a * (theta[:, None] - b)))
        return (rng.random(p.shape) < p).astype(float)

    def scores(self, rng: np.random.Generator, theta: np.ndarray, moved: float = 0.0) -> np.ndarray:
        """Scores on the other items. The b of s2 is `moved` higher."""
        now = self.parameters.copy()
        now[1, 2] -= moved * now[0, 2]
        p = self.scored.probabilities(theta, now, np.full(SCORED, 4))
        return (rng.random((SCORED, len(theta), 1)) > np.cumsum(p, axis=2)).sum(axis=2).T.astype(float)

    def later(self, mean: float, moved: float) -> np.ndarray:
        rng = np.random.default_rng(77)
        theta = rng.normal(mean, 1, LEARNERS)
        return np.hstack([self.choices(rng, theta, moved), self.scores(rng, theta, moved)])

    def responses(self, matrix: np.ndarray) -> irt.Responses:
        return irt.Responses.from_wide(matrix, IDS, max_score={item: 3 if item[0] == "s" else 1 for item in IDS})


@pytest.fixture(scope="module")
def world() -> World:
    return World(GPCM)


@pytest.mark.parametrize("scored", [GPCM, GRM])
def test_fit_agrees_with_mirt(scored: ItemModel, world: World) -> None:
    fit = (world if scored is GPCM else World(scored)).fit
    loglik, values = MIRT[scored.name]
    assert fit.converged
    assert fit.calibration.convergence.loglik == pytest.approx(loglik, abs=0.006)
    for item, known in values.items():
        j, se = IDS.index(item), MIRT_SE[scored.name][item]
        c = fit.calibration.c[j]
        found = (fit.calibration.a[j], *([np.log(c / (1 - c))] if len(known) > 1 else []))
        np.testing.assert_allclose(found, known, atol=2e-4)
        own = np.sqrt(fit.calibration.cov[j].diagonal())[[0, 2][: len(known)]]
        np.testing.assert_allclose(own, se, rtol=1e-3)


def test_values_of_both_kinds_are_recovered(world: World) -> None:
    fit = world.fit.calibration
    se = np.sqrt(np.einsum("jkk->jk", fit.cov))
    z = np.concatenate(
        [(fit.a[:CHOICE] - world.a) / se[:CHOICE, 0], (fit.a[CHOICE:] - world.parameters[0]) / se[CHOICE:, 0]]
    )
    assert (np.abs(z) < 3.5).all()
    assert np.corrcoef(fit.c[:CHOICE], world.c)[0, 1] > 0.6
    assert not fit.c[CHOICE:].any()
    assert {flag for flags in fit.flags for flag in flags} <= {Flag.GUESSING_UNIDENTIFIED}


def test_link_drift_and_dif_name_one_item_of_each_kind(world: World) -> None:
    later = world.later(mean=0.4, moved=0.7)
    new = irt.fit(world.responses(later), world.models)
    with pytest.warns(irt.LinkWarning, match="moved against the others: (s2.*m3|m3.*s2)"):
        link = irt.link(new, world.fit)
    assert abs(link.intercept - 0.4) < 3 * link.linking.intercept_se
    drift = irt.find_drift(new, world.fit).to_frame("pandas").set_index("item")
    assert set(drift.index[drift["q"] < 0.01]) == {"m3", "s2"}
    both = world.responses(np.vstack([world.matrix, later]))
    dif = irt.find_dif(both, np.repeat(["old", "new"], LEARNERS), model=world.models).to_frame("pandas")
    assert set(dif["item"][dif["q"] < 0.01]) == {"m3", "s2"}


def test_drift_does_not_add_errors_between_items_to_those_of_guessing() -> None:
    """The error of a 3PL item's curve can be below the error by its a and b. Covariances of a and b between items,
    added to such errors, made the covariance of all differences indefinite."""
    world, rng = World(GRM, seed=3, learners=2000), np.random.default_rng(4)
    theta = rng.normal(0.3, 1, 2000)
    new = irt.fit(world.responses(np.hstack([world.choices(rng, theta), world.scores(rng, theta)])), world.models)
    found = irt.find_drift(new, world.fit).to_frame("pandas")
    assert np.isfinite(found["p"]).all()
    assert (found["severity"] == "none").all()


def test_anchors_with_guessing_keep_their_values(world: World) -> None:
    anchors = world.fit.items.parameters.among((*IDS[:8], *IDS[CHOICE : CHOICE + 2]))
    fit = irt.fit(world.responses(world.later(mean=0.4, moved=0.0)), world.models, anchors=anchors)
    held = [IDS.index(item) for item in anchors.item_ids]
    np.testing.assert_array_equal(fit.calibration.c[held], world.fit.calibration.c[held])
    assert abs(fit.calibration.latent_mean - 0.4) < 0.15


def test_fit_statistics_and_tables_have_all_items(world: World) -> None:
    x = world.responses(world.matrix)
    found = world.fit.fit_statistics(x).to_frame("pandas")
    assert np.isfinite(found[["infit", "outfit", "rmsd", "s_x2_p"]]).to_numpy().all()
    items = world.fit.items.parameters
    assert irt.ItemParameters.from_json(items.to_json()) == items
    np.testing.assert_allclose(irt.ItemParameters.from_frame(items.to_frame("pandas")).further_cov, items.further_cov)


def test_rare_steps_have_their_prior_beside_other_models() -> None:
    """A score that five learners have moves its step less than without the prior, also if the fit has 3PL items."""
    world = World(GPCM)
    matrix = world.matrix.copy()
    few = np.flatnonzero(matrix[:, CHOICE] == 1)[5:]
    matrix[few, CHOICE] = 0.0
    steps = [
        irt.fit(world.responses(matrix), world.models, prior_on_rare_steps=on)
        .items.to_frame("pandas")
        .loc[CHOICE, "b1"]
        for on in (True, False)
    ]
    assert abs(steps[0]) < abs(steps[1]) - 0.1
