"""The declaration of forms: their number and length, the rules of their content, and the objective.

How forms are assembled is in `forms`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from irt_psychometrics.adaptive.declaration import ItemLimit, require

Objective = Literal["maximum", "maximin", "target", "shortest"]


@dataclass(frozen=True)
class SumLimit:
    """Limits on the sum of a numeric column over the items of a form, such as words or minutes.

    Attributes
    ----------
    name
        The column's name in messages.
    values
        The column's value by item; 0 for items that are not in it.
    least, most
        The minimum and the maximum of the sum.

    Examples
    --------
    >>> from irt_psychometrics.assembly import SumLimit
    >>> SumLimit("words", {"q1": 120, "q2": 80}, most=150).most
    150
    """

    name: str
    values: Mapping[str, float]
    least: float = -math.inf
    most: float = math.inf


@dataclass(frozen=True, kw_only=True)
class FormDesign:
    """The rules of one or more forms, and the objective (van der Linden 2005).

    Attributes
    ----------
    forms
        The number of forms.
    min_items, max_items
        The length of a form.
    objective
        "maximum": maximise the sum of the information at the points `theta`; "maximin": maximise the
        smallest information at a point, relative to `target` if it is given; "target": minimise the greatest
        distance to `target`; "shortest": minimise the number of items of a form that reaches `target`. With several
        forms, the worst form counts.
    theta
        The points at which information counts.
    target
        The information at each point.
    values
        A value of each item that takes the place of its information, such as minutes; `target` then has one
        number, the sum.
    certainty
        The probability, over the errors of the items, with which a form has its information at all points
        together. "target" and "shortest" reach the target with this probability; "maximum" and "maximin" maximise
        the information that is reached with it. None: the estimates count as the truth.
    limits
        Limits on the content of each form. Items of a limit with `most=0` are in no form, such as leaked items.
    sums
        Limits on sums of numeric columns in each form.
    testlets
        Items that belong together; a form has none of a testlet's items, or from `least` to `most` of them.
    anchors
        The candidates for anchor items, and the number of them in a form. They may be in all forms, whatever
        `max_uses` and `max_overlap` are. They are a small copy of the form: in each group of `limits` and in each
        band of b their number differs from the proportional number by at most 1.
    anchor_bands
        The number of bands of b with equal numbers of the bank's items.
    min_uses, max_uses
        The number of forms that an item is in; `min_uses=1`: every item is used.
    max_overlap
        The maximum number of items that two forms have in common; None: no maximum.
    included
        Ids of items that are in each form.

    Raises
    ------
    PsychometricsError
        For an unknown objective, a length or a number of forms below 1, a missing target, and a certainty that is not
        between 0 and 1.

    References
    ----------
    van der Linden, W. J. (2005). Linear models for optimal test design. New York: Springer.

    Examples
    --------
    >>> from irt_psychometrics.assembly import FormDesign
    >>> FormDesign(min_items=20, max_items=20, objective="maximin", theta=(-1, 0, 1)).has_floor
    False
    """

    forms: int = 1
    min_items: int
    max_items: int
    objective: Objective = "maximum"
    theta: tuple[float, ...] = (0.0,)
    target: tuple[float, ...] | None = None
    values: Mapping[str, float] | None = None
    certainty: float | None = None
    limits: tuple[ItemLimit, ...] = ()
    sums: tuple[SumLimit, ...] = ()
    testlets: tuple[ItemLimit, ...] = ()
    anchors: ItemLimit | None = None
    anchor_bands: int = 3
    min_uses: int = 0
    max_uses: int = 1
    max_overlap: int | None = None
    included: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        points = 1 if self.values is not None else len(self.theta)
        target = (1.0,) * points if self.target is None else self.target
        require(
            (self.objective in get_args(Objective), f"objective must be one of {', '.join(get_args(Objective))}"),
            (
                1 <= self.min_items <= self.max_items,
                f"forms need 1 ≤ min_items ≤ max_items, got {self.min_items} and {self.max_items}",
            ),
            (self.forms >= 1, f"forms must be at least 1, got {self.forms}"),
            (
                self.target is not None or not self.has_floor,
                f'objective "{self.objective}" needs a target: the information at each θ',
            ),
            (
                len(target) == points > 0 and min(target) > 0,
                f"target must have a positive number for each of the {points} points, got {self.target}",
            ),
            (
                self.certainty is None or (0 < self.certainty < 1 and self.values is None),
                "certainty must be between 0 and 1, and belongs to information, not to `values`",
            ),
        )

    @property
    def has_floor(self) -> bool:
        """Whether a form must reach the target, rather than have as much information as possible."""
        return self.objective in ("target", "shortest")
