"""Items scored 0 … m together with items scored 0 and 1: true parameters, estimates with known errors, and answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.item_models import model_of
from irt_psychometrics.core.models import Calibration, Convergence, places_of_parameters
from irt_psychometrics.core.options import Model
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from psychometrics_testbed.linked_months import ids
from psychometrics_testbed.made_anchors import anchors_of_items

LOST = 1.2
"""Approximate ratio of variances of estimates with θ integrated out to those with θ known, for 30 to 60 items."""


@dataclass(frozen=True)
class ScoredItems:
    """K items of a scale; `parameters`: the parameters of their models, shape (P, K)."""

    models: tuple[Model, ...]
    parameters: np.ndarray
    categories: np.ndarray

    @classmethod
    def draw(
        cls, rng: np.random.Generator, max_scores: tuple[int, ...], scored: Model = "gpcm", others: Model = "2pl"
    ) -> ScoredItems:
        """Draw items. Slopes a·m are about as large as for items scored 0 and 1, and steps are about .9 apart."""
        m = np.array(max_scores)
        a = rng.lognormal(0.1, 0.3, m.size) * 1.5 / (0.5 + m)
        parameters = np.zeros((3 + m.max() if (m > 1).any() else 2, m.size))
        parameters[:2] = a, -a * rng.normal(0, 1, m.size)
        for j in np.flatnonzero(m > 1):
            inner = np.arange(1, m[j])
            parameters[2 + inner, j] = a[j] * 0.45 * inner * (m[j] - inner) + rng.normal(0, 0.3, inner.size)
        if scored == "pcm":
            parameters[0] = 1.0
        for j in np.flatnonzero((m > 1) & (scored == "grm")):  # thresholds about 0.8 apart, a of a whole item
            inner = np.arange(1, m[j])
            parameters[:2, j] *= m[j]
            parameters[2 + inner, j] = np.log(0.8 * parameters[0, j]) + rng.normal(0, 0.1, inner.size)
        return cls(tuple(scored if one > 1 else others for one in max_scores), parameters, m + 1)

    @property
    def size(self) -> int:
        return len(self.models)

    def select(self, order: np.ndarray) -> ScoredItems:
        return ScoredItems(tuple(self.models[j] for j in order), self.parameters[:, order], self.categories[order])

    def moved(self, by: np.ndarray) -> ScoredItems:
        """Move all steps of each item by `by`."""
        d = self.parameters[1] - self.parameters[0] * by
        return replace(self, parameters=np.vstack([self.parameters[:1], d, self.parameters[2:]]))

    def with_step_moved(self, j: int, k: int, by: float) -> ScoredItems:
        """Move the step, or the threshold, k of item `j` by `by`, and no other one."""
        model, n, x = model_of(self.models[j]), self.categories[j], self.parameters.copy()
        own, (steps, _) = x[: 2 + n, j], model.steps(x[: 2 + n, j])
        steps[k - 1] += by
        own[1] = -own[0] * steps.mean()
        if model.path == "scores":
            own[2:] = np.r_[0.0, -np.cumsum(own[0] * (steps - steps.mean()))]
            own[-1] = 0.0
        else:
            own[3:-1] = np.log(own[0] * np.diff(steps))
        return replace(self, parameters=x)

    def rescaled(self, slope: float, intercept: float) -> ScoredItems:
        """The same items on the scale θ, if their scale is θ* = slope·θ + intercept."""
        a, d, *t = self.parameters
        return replace(self, parameters=np.stack([a * slope, d + a * intercept, *t]))

    def estimated(self, rng: np.random.Generator, n: int) -> Calibration:
        """Draw estimates from n learners with θ ~ N(0, 1).

        Errors consist of each item's own part, and a part that all items share, from the sample's mean and SD of θ.
        """
        model, grid = model_of(self.models), Grid.symmetric()
        p = model.probabilities(grid.nodes, self.parameters, self.categories)
        by = model.by_parameters(grid.nodes, self.parameters, self.categories)
        information = n / LOST * np.einsum("q,jqk,xjqk,yjqk->jxy", np.exp(grid.log_weights()), p, by, by)
        free = model.free(self.categories).T
        used = free[:, :, None] & free[:, None]
        own = np.where(used, np.linalg.inv(np.where(used, information, np.eye(len(by)))), 0.0)
        a = self.parameters[0]
        common = np.stack([np.stack([np.zeros_like(a), -a], 1), np.stack([-a, np.zeros_like(a)], 1)], 1)
        common = common * free[:, :2, None]  # the mean of θ shifts d, its SD scales a
        of_sample = np.diag([1 / n, 1 / (2 * n)])
        roots = np.linalg.cholesky(own + 1e-18 * np.eye(len(by)))
        x = self.parameters.T + np.einsum("jxy,jy->jx", roots, rng.standard_normal(self.parameters.T.shape)) * free
        x[:, :2] += common @ (np.sqrt(of_sample) @ rng.normal(size=2))
        cov, by_sample = own.copy(), common.reshape(-1, 2)
        cov[:, :2, :2] += common @ of_sample @ common.swapaxes(1, 2)
        has = np.arange(len(by) - 2) < np.where(self.categories > 2, self.categories, 0)[:, None]
        further = np.where(has, x[:, 2:], np.nan) if has.size else None
        places = places_of_parameters(model, self.categories, further)
        joint = np.zeros((places.max() + 1,) * 2)
        for of, at in zip(own, places, strict=True):
            joint[np.ix_(at[at >= 0], at[at >= 0])] = of[np.ix_(at >= 0, at >= 0)]
        joint[: len(by_sample), : len(by_sample)] += by_sample @ of_sample @ by_sample.T
        return Calibration(
            item_ids=ids(self.size), models=self.models, engine="em", engine_version="test", a=x[:, 0], d=x[:, 1],
            c=np.zeros(self.size), cov=cov, joint_cov=joint,
            n=np.full(self.size, n), n_correct=np.full(self.size, n // 2),
            flags=((),) * self.size, latent_mean=0.0, latent_sd=1.0, n_persons=n,
            convergence=Convergence(True, 10, 0.0, 0.0, -1.0, int(free.sum())),
            categories=self.categories, further=further,
        )  # fmt: skip

    def answers(self, rng: np.random.Generator, theta: np.ndarray) -> Responses:
        """Draw each learner's responses to all items."""
        p = model_of(self.models).probabilities(theta, self.parameters, self.categories)
        drawn = (rng.random(p.shape[:2])[:, :, None] > p.cumsum(axis=2)[:, :, :-1]).sum(axis=2).T
        return Responses.from_wide(drawn.astype(float), ids(self.size), self.categories)


def frozen(origin: Calibration) -> AnchorSet:
    """Anchor set of all items of an origin's fit."""
    return anchors_of_items(origin.items)
