"""Estimates of new items from few answers, with the published items and the persons' abilities by these held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.item_sources import ItemSource
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.options import Model
from irt_psychometrics.new_items.bank_prior import BankPrior


@dataclass(frozen=True)
class PersonPosteriors:
    """Posterior distributions of θ of P persons, or of persons at the time of an answer, by published items.

    Attributes
    ----------
    nodes
        Abilities, shape (P, Q), on the scale of the published items.
    weights
        Weights of the nodes, shape (P, Q); each row sums to 1.
    """

    nodes: Floats
    weights: Floats

    @classmethod
    def normal(cls, theta: npt.ArrayLike, se: npt.ArrayLike, n_nodes: int = 11) -> PersonPosteriors:
        """Build normal posteriors by Gauss-Hermite quadrature.

        Parameters
        ----------
        theta, se
            Posterior means and SDs, shape (P,); `se` may be a number.
        n_nodes
            Q, the number of nodes of each person.

        Returns
        -------
        PersonPosteriors
            Posteriors of the P persons.

        Raises
        ------
        PsychometricsError
            If a mean is not finite, or an SD is not finite and at least 0. The message tells the person's row.
        """
        raise NotImplementedError

    @classmethod
    def from_responses(
        cls, responses: npt.ArrayLike, items: ItemSource, mean: float = 0.0, sd: float = 1.0, n_nodes: int = 61
    ) -> PersonPosteriors:
        """Compute exact posteriors from answers to published items and a N(mean, sd²) population, on shared nodes.

        Parameters
        ----------
        responses
            Scores of P persons on the J items, shape (P, J); NaN or −1 for no answer.
        items
            The published items.
        mean, sd
            Mean and SD of the population.
        n_nodes
            Q, the number of nodes on mean ± 6 SD.

        Returns
        -------
        PersonPosteriors
            Posteriors of the P persons.

        Raises
        ------
        PsychometricsError
            If the responses do not have one column for each item, or a score is not one of the item's.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class NewItemEstimates:
    """Estimates of J new items.

    Attributes
    ----------
    items
        Posterior modes with errors: posterior SDs, to which the errors of the published items are added. An item
        without a finite mode has NaN.
    n
        Number of answers to each item, shape (J,).
    prior_share
        Share of the prior in the precision of the item's parameters, from 0 (flat) to 1 (no answers), shape (J,).
    converged
        Whether the mode was found, shape (J,).
    one_score
        Whether all answers to the item have the lowest score, or all have the highest, shape (J,). False for items
        without answers.
    precision
        Inverse posterior covariance of (ln a, b) without the errors of the published items, shape (J, 2, 2), for
        `expected_gain` and `days_to_precision`.
    published_cov
        Covariance of (ln a, b) due to errors of the published items, shape (J, 2, 2). More answers hardly lower it.
    misfit
        Standardised observed − expected score of the item's persons, in thirds by ability from low to high, shape
        (J, 3). A wrong key raises the first and lowers the last. NaN for items with fewer than 3 answers.
    """

    items: ItemParameters
    n: Ints
    prior_share: Floats
    converged: Mask
    one_score: Mask
    precision: Floats
    published_cov: Floats
    misfit: Floats

    @property
    def ln_a_se(self) -> Floats:
        """Standard errors of ln a, shape (J,); `items.a_se` / `items.a`."""
        raise NotImplementedError


def estimate_new_items(
    item_ids: Sequence[str],
    item: npt.ArrayLike,
    person: npt.ArrayLike,
    score: npt.ArrayLike,
    persons: PersonPosteriors,
    prior: BankPrior | None,
    *,
    models: Model | Sequence[Model] = "2pl",
    max_scores: Sequence[int] | None = None,
    topics: Sequence[str | None] | None = None,
    theta_effects: Floats | None = None,
) -> NewItemEstimates:
    """Estimate new items one by one from their answers and the persons' abilities by published items.

    The estimate is the mode of Σ log ∫ P(x | θ; item) p_i(θ) dθ + log prior over ln a, b and the item's further
    parameters. p_i is the posterior of the person by published items, which new items do not change.

    Parameters
    ----------
    item_ids
        Names of the J new items.
    item, person, score
        Index of the item, row of `persons`, and points of each answer, shape (N,).
    persons
        Posteriors of the P persons.
    prior
        Prior of the items; None for a flat prior.
    models
        Model of all items, or of each: "rasch", "1pl", "2pl", "3pl", "pcm" or "gpcm". The slope of a "1pl" is held at
        the mean of the prior, and at 1 if the prior is flat.
    max_scores
        Maximum score of each item, shape (J,). None: 1.
    topics
        Topic of each item, for the prior's `by_topic`. None: the prior of the bank.
    theta_effects
        Effects on the θ of each person of R independent errors of the published items with variance 1, shape (P, R):
        ∂θ/∂(parameters) times a root of their joint covariance. None: published items have no errors.

    Returns
    -------
    NewItemEstimates
        Estimates with errors, in the order of `item_ids`.

    Raises
    ------
    PsychometricsError
        If a score is not between 0 and the item's maximum score, if an index is out of range, or if arrays do not have
        the same length. The message names the item.
    """
    raise NotImplementedError
