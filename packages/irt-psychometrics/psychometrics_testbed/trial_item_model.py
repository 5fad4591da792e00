"""A new item model in one file: a 2PL with an upper asymptote u. The fixture `trial_model` registers the model."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, log_expit, logit

from irt_psychometrics.items import ItemModel


class UpperAsymptote(ItemModel):
    """P(1) = u/(1 + exp(−(aθ + d))) (Barton & Lord 1981, c = 0): a learner who knows the answer gives it with
    probability u."""

    name = "2plu"  # type: ignore[assignment]
    spoken = "2PL with an upper asymptote"
    highest_score = 1

    def parameter_names(self, categories):
        return ("a", "d", "logit u")

    def bounds(self, parameter):
        return (0.0, float(logit(0.999))) if parameter == "logit u" else super().bounds(parameter)

    def start(self, shares, categories, priors):
        p = np.clip(shares[:, 1] / 0.9, 0.05, 0.95)
        return np.stack([np.ones_like(p), 1.16 * logit(p), np.full_like(p, logit(0.9))])

    def log_probabilities(self, theta, parameters, categories):
        eta, u = self._eta(theta, parameters), expit(parameters[2])[:, None]
        return np.stack([np.log1p(-u * expit(eta)), np.log(u) + log_expit(eta)], axis=2)

    def by_parameters(self, theta, parameters, categories):
        by_eta, u = self._by_eta(theta, parameters), expit(parameters[2])[:, None]
        p = u * expit(self._eta(theta, parameters))
        by_logit_u = np.stack([-p * (1 - u) / (1 - p), np.broadcast_to(1 - u, p.shape)], axis=2)
        return np.stack([by_eta * theta[:, None], by_eta, by_logit_u])

    def by_theta(self, theta, parameters, categories):
        return parameters[0][:, None, None] * self._by_eta(theta, parameters)

    def _eta(self, theta, parameters):
        return np.multiply.outer(parameters[0], theta) + parameters[1][:, None]

    def _by_eta(self, theta, parameters):
        """∂ log P/∂(aθ + d), shape (J, Q, 2)."""
        right, u = expit(self._eta(theta, parameters)), expit(parameters[2])[:, None]
        return np.stack([-u * right * (1 - right) / (1 - u * right), 1 - right], axis=2)


MODEL = UpperAsymptote()
