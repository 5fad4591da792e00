"""Prior distributions of unpublished items, estimated from the published items of a bank (Mislevy 1986)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from irt_psychometrics.core.item_sources import ItemSource
from irt_psychometrics.core.priors import Priors


class Spread(NamedTuple):
    """Mean and SD of a normal distribution."""

    mean: float
    sd: float


@dataclass(frozen=True)
class BankPrior:
    """Prior distribution of items that are not published yet.

    Attributes
    ----------
    slope
        Mean and SD of ln(a·m), where m is an item's maximum score and a the slope of one point.
    difficulty
        Mean and SD of b, the mean of an item's steps.
    step_sd
        SD of the steps around b.
    guessing
        Mean and SD of logit c.
    by_topic
        Topic → (slope, difficulty), for topics with at least 20 items.

    Examples
    --------
    >>> from irt_psychometrics.new_items import BankPrior
    >>> BankPrior().difficulty
    Spread(mean=0.0, sd=1.0)
    """

    slope: Spread = Spread(0.0, 0.5)
    difficulty: Spread = Spread(0.0, 1.0)
    step_sd: float = 1.0
    guessing: Spread = Spread(-1.386, 0.5)
    by_topic: Mapping[str, tuple[Spread, Spread]] = field(default_factory=dict)

    @classmethod
    def from_items(cls, items: ItemSource, topics: Sequence[str | None] | None = None) -> BankPrior:
        """Estimate the prior from a bank's published items and their errors.

        Parameters
        ----------
        items
            Published items with their errors: a `Fit`, a `ScaleLink` or `ItemParameters`.
        topics
            Topic of each item, shape (J,); None for an item without a topic. None: no item has one.

        Returns
        -------
        BankPrior
            The prior. Numbers for which fewer than 20 items have finite errors are the defaults.

        Raises
        ------
        PsychometricsError
            If there is not one topic for each item.
        """
        raise NotImplementedError

    def priors(self, only: Sequence[str] | None = None) -> Priors:
        """Build priors on a, b and c for a fit of one month.

        Parameters
        ----------
        only
            Items to which the priors on a and b apply, each with a maximum score of 1. None: all items.

        Returns
        -------
        Priors
            ln a ~ N, b ~ N and logit c ~ N with the bank's means and SDs.
        """
        raise NotImplementedError
