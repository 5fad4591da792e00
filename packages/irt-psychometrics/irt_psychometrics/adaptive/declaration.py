"""The declaration of an adaptive test: how items are chosen, when the test ends, and the limits on its content.

How the rules are applied is in `plan`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from irt_psychometrics.core.errors import PsychometricsError

Method = Literal["maximum-information", "expected-information", "kullback-leibler", "posterior-variance", "progressive"]
Estimator = Literal["eap", "wle"]
Content = Literal["priority", "shadow"]
CutRule = Literal["sprt", "interval"]


def require(*rules: tuple[bool, str]) -> None:
    """Raise PsychometricsError with the message of the first rule that does not hold."""
    if broken := [message for holds, message in rules if not holds]:
        raise PsychometricsError(broken[0])


@dataclass(frozen=True)
class ItemLimit:
    """The numbers of items of a group that a test or form may have.

    A topic has a minimum and a maximum, enemies are a group with a maximum of 1.

    Attributes
    ----------
    name
        The group's name in messages.
    items
        Ids of the items in the group.
    least, most
        The minimum and the maximum number; None: no maximum.

    Raises
    ------
    PsychometricsError
        For a minimum below 0, and for a maximum below the minimum.

    Examples
    --------
    >>> from irt_psychometrics.adaptive import ItemLimit
    >>> ItemLimit("enemies", ("q1", "q2"), most=1).least
    0
    """

    name: str
    items: tuple[str, ...]
    least: int = 0
    most: int | None = None

    def __post_init__(self) -> None:
        is_range = self.least >= 0 and (self.most is None or self.least <= self.most)
        require((is_range, f"the limits of {self.name} must satisfy 0 ≤ {self.least} ≤ {self.most}"))

    @classmethod
    def of_groups(
        cls, groups: Sequence[str | None], item_ids: Sequence[str], limits: dict[str, tuple[int, int | None]]
    ) -> tuple[ItemLimit, ...]:
        """Make the limits of groups, such as topics.

        Parameters
        ----------
        groups
            J groups, one for each item; None: the item is in no group.
        item_ids
            J names of items.
        limits
            The minimum and the maximum number of items by group; None: no maximum.

        Returns
        -------
        tuple of ItemLimit
            A limit for each group in `limits`.

        Raises
        ------
        PsychometricsError
            As `ItemLimit`.

        Examples
        --------
        >>> from irt_psychometrics.adaptive import ItemLimit
        >>> ItemLimit.of_groups(["algebra", None, "algebra"], ["q1", "q2", "q3"], {"algebra": (1, 2)})[0].items
        ('q1', 'q3')
        """
        return tuple(
            cls(name, tuple(item for item, own in zip(item_ids, groups, strict=True) if own == name), *limit)
            for name, limit in limits.items()
        )


@dataclass(frozen=True, kw_only=True)
class AdaptiveTest:
    """The rules of an adaptive test.

    Attributes
    ----------
    method
        The criterion by which the next item is chosen: Fisher information at the current θ; information of the
        expected response function (Mislevy, Wingersky & Sheehan 1994), which uses the errors of the items;
        Kullback-Leibler information weighted by the likelihood (Chang & Ying 1996); minimum expected posterior
        variance (van der Linden 1998); or progressive, information with a random part that decreases over the test
        (Revuelta & Ponsoda 1998).
    estimator
        The estimator of θ, "eap" or "wle".
    min_items, max_items
        The minimum and the maximum number of scored items.
    max_se
        The standard error at which the test ends; None: it does not end for this reason.
    cut
        θ of the pass mark by which the test classifies; None: it does not classify.
    cut_rule
        "sprt": Wald's sequential test of cut − indifference against cut + indifference (Eggen 1999);
        "interval": the test ends if the interval of θ with this `confidence` does not contain the cut.
    indifference
        Half the width of the indifference region, in units of θ.
    false_pass, false_fail
        Error rates of the sequential test.
    confidence
        Probability of the interval by which a test with the rule "interval" ends.
    limits
        Limits on the content.
    testlets
        Ids of items that are given together, in this order.
    content
        How the limits are met: by the maximum priority index (Cheng & Chang 2009) with a look-ahead, or by
        shadow tests (van der Linden & Reese 1998).
    max_exposure
        The largest share of persons who may see an item, held by eligibility probabilities (van der
        Linden & Veldkamp 2004); None: no limit.
    exposure_cuts
        θ between the intervals in each of which `max_exposure` holds; empty: over all θ.
    randomesque
        The next item is drawn at random from this many best items.
    unscored
        The number of additional places, at random positions, for unscored items.

    Raises
    ------
    PsychometricsError
        For an unknown choice, and for a number outside the range of the attribute.

    Examples
    --------
    >>> from irt_psychometrics.adaptive import AdaptiveTest
    >>> AdaptiveTest(min_items=8, max_items=20, max_se=0.33, max_exposure=0.3).estimator
    'eap'
    """

    method: Method = "maximum-information"
    estimator: Estimator = "eap"
    min_items: int = 1
    max_items: int
    max_se: float | None = None
    cut: float | None = None
    cut_rule: CutRule = "sprt"
    indifference: float = 0.2
    false_pass: float = 0.05
    false_fail: float = 0.05
    confidence: float = 0.95
    limits: tuple[ItemLimit, ...] = ()
    testlets: tuple[tuple[str, ...], ...] = ()
    content: Content = "priority"
    max_exposure: float | None = None
    exposure_cuts: tuple[float, ...] = ()
    randomesque: int = 1
    unscored: int = 0

    def __post_init__(self) -> None:
        choices = {"method": Method, "estimator": Estimator, "content": Content, "cut_rule": CutRule}
        shares = {name: getattr(self, name) for name in ("false_pass", "false_fail", "confidence", "max_exposure")}
        require(
            *(
                (getattr(self, name) in get_args(allowed), f"{name} must be one of {', '.join(get_args(allowed))}")
                for name, allowed in choices.items()
            ),
            *(
                (share is None or 0 < share <= 1, f"{name} must be a share between 0 and 1, got {share}")
                for name, share in shares.items()
            ),
            (self.false_pass + self.false_fail < 1, "false_pass and false_fail must have a sum below 1"),
            (
                1 <= self.min_items <= self.max_items,
                f"a test needs 1 ≤ min_items ≤ max_items, got {self.min_items} and {self.max_items}",
            ),
            (
                min(self.randomesque, self.indifference, self.max_se or 1) > 0 and self.unscored >= 0,
                "randomesque, indifference and max_se must be positive, and unscored at least 0",
            ),
            (
                list(self.exposure_cuts) == sorted(set(self.exposure_cuts)),
                f"exposure_cuts must increase, got {self.exposure_cuts}",
            ),
        )
