"""A new item model in one file: the 4PL. The fixture `trial_model` registers the model for a test."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from irt_psychometrics import LogitNormal
from irt_psychometrics.items import ItemModel, item_model

THREE_PL = item_model("3pl")


class FourParameterLogistic(ItemModel):
    """P(1) = c + (u − c)/(1 + exp(−(aθ + d))) (Barton & Lord 1981): even a learner who knows the answer misses it with
    probability 1 − u."""

    name = "4pl"  # type: ignore[assignment]
    spoken = "4PL"
    min_items = 5
    highest_score = 1
    priors_on = ("a", "b", "c")
    further_priors = (("logit u", LogitNormal(float(logit(0.95)), 0.5)),)  # 95 % of u are between .88 and .98

    def parameter_names(self, categories):
        return ("a", "d", "logit c", "logit u")

    def bounds(self, parameter):
        low, high = THREE_PL.bounds("logit c" if parameter == "logit u" else parameter)
        return (-high, -low) if parameter == "logit u" else (low, high)

    def start(self, shares, categories, priors):
        u = np.full(len(shares), 0.95)
        return np.vstack([THREE_PL.start(np.minimum(shares / 0.95, 1), categories, priors), logit(u)])

    def log_probabilities(self, theta, parameters, categories):
        return np.log(np.stack(self._curves(theta, parameters)[:2], axis=2))

    def by_parameters(self, theta, parameters, categories):
        by_eta, by_c, by_u = self._curves(theta, parameters)[2:]
        return self._by_score(np.stack([by_eta * theta, by_eta, by_c, by_u]), theta, parameters)

    def by_theta(self, theta, parameters, categories):
        return self._by_score(parameters[0][:, None] * self._curves(theta, parameters)[2], theta, parameters)

    def _curves(self, theta, parameters):
        """P(0), P(1), and the derivatives of P(1) by aθ + d, logit c and logit u, shape (J, Q) each."""
        eta = np.multiply.outer(parameters[0], theta) + parameters[1][:, None]
        right, wrong, (c, u) = expit(eta), expit(-eta), expit(parameters[2:4, :, None])
        missed, chosen = (1 - c) * wrong + (1 - u) * right, c * wrong + u * right
        return missed, chosen, (u - c) * right * wrong, c * (1 - c) * wrong, u * (1 - u) * right

    def _by_score(self, by, theta, parameters):
        """∂ log P of both scores, from derivatives of P(1)."""
        missed, chosen = self._curves(theta, parameters)[:2]
        return np.stack([-by / missed, by / chosen], axis=-1)


MODEL = FourParameterLogistic()
