"""Which items, and which population of θ, an argument means: a fit, a link, or parameters of items.

A fit and a link carry the population that was estimated with the items. Parameters of items do not.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np

from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.models import Calibration, Population
from irt_psychometrics.core.wording import some_of


class Fitted(Protocol):
    """A `Fit`."""

    @property
    def calibration(self) -> Calibration:
        """All estimates of the fit."""


class Linked(Protocol):
    """A `ScaleLink`, which means the new fit on the old scale."""

    @property
    def fit(self) -> Fitted:
        """The new fit on the old scale."""


class Tabulated(Protocol):
    """An `ItemTable`."""

    @property
    def parameters(self) -> ItemParameters:
        """The parameters in the table."""


ItemSource: TypeAlias = ItemParameters | Calibration | Fitted | Linked | Tabulated

_REMEDIES = {
    "DimensionsFit": "its items measure several abilities. Fit them without dimensions; the method dimensionality"
    " compares the two models, and fits with dimensions have bic",
    "DimensionsCalibration": "its items measure several abilities. Fit them without dimensions",
    "Responses": "irt.fit(x) makes a fit of responses",
    "ItemDrift": "give its attribute link",
    "Linking": "give the ScaleLink that irt.link returns",
    "OptionCurves": "options have no order, so there are no scores, sum scores or expected scores of them: irt.fit(x)"
    " fits the items scored by the key",
    "PersonScores": "give the fit by which the persons were scored",
}


def find_calibration(source: object) -> Calibration | None:
    """Return the calibration of a fit, a link or a calibration, and None for any other object."""
    if isinstance(source, Calibration):
        return source
    linked = getattr(source, "fit", None)
    found = getattr(source if linked is None else linked, "calibration", None)
    return found if isinstance(found, Calibration) else None


def require_items(source: ItemSource, caller: str) -> ItemParameters:
    """Return the parameters of the items that `source` means.

    Parameters
    ----------
    source
        A `Fit`, a `ScaleLink` (its new fit on the old scale), a `Calibration`, an `ItemTable` or `ItemParameters`.
    caller
        The name of the calling function, for the message.

    Returns
    -------
    ItemParameters
        The items with their errors.

    Raises
    ------
    PsychometricsError
        If `source` is anything else. The message names the remedy.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> bank = irt.ItemParameters.from_frame({"item": ["q1"], "a": [1.5], "b": [0.2]})
    >>> require_items(bank, "this") is bank
    True
    """
    if isinstance(source, ItemParameters):
        return source
    if (calibration := find_calibration(source)) is not None:
        return calibration.items
    found: Any = getattr(source, "parameters", None)
    if isinstance(found, ItemParameters):
        return found
    kind = type(source).__name__
    remedy = _REMEDIES.get(kind, "irt.fit makes a fit, and ItemParameters.from_frame reads a data frame of items")
    raise PsychometricsError(f"{caller} needs a Fit, a ScaleLink or ItemParameters, got {kind}; {remedy}")


def require_population(
    source: ItemSource, caller: str, *, mean: float | None = None, sd: float | None = None, group: str | None = None
) -> Population:
    """Return the distribution of θ that belongs to the items of `source`.

    Parameters
    ----------
    source
        As in `require_items`.
    caller
        The name of the calling function, for the message.
    mean, sd
        Mean and SD of a normal population, which takes the place of the population of `source`.
    group
        The group of a fit with groups.

    Returns
    -------
    Population
        N(mean, sd²) if these are given, or the population of the fit or of the group.

    Raises
    ------
    PsychometricsError
        If nothing determines the population: for parameters of items without `mean` and `sd`, for a fit with several
        groups without `group`, for an unknown group, and for an SD that is not above 0.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> bank = irt.ItemParameters.from_frame({"item": ["q1"], "a": [1.5], "b": [0.2]})
    >>> require_population(bank, "this", mean=0, sd=1.2).sd
    1.2
    """
    if mean is not None and sd is not None:
        if group is not None:
            raise PsychometricsError(f"{caller} needs group= or mean= and sd=, got both; leave one of them out")
        if not (np.isfinite(mean) and 0 < sd < np.inf):
            raise PsychometricsError(f"mean must be finite and sd above 0, got mean={mean:g} and sd={sd:g}")
        return Population.normal(float(mean), float(sd))
    if mean is not None or sd is not None:
        given, lacking = ("mean", "sd") if sd is None else ("sd", "mean")
        raise PsychometricsError(f"{caller} needs mean= and sd= together, got {given}= alone; give {lacking}=, too")
    calibration = find_calibration(source)
    if calibration is None:
        require_items(source, caller)
        raise PsychometricsError(
            f"{caller} needs the population of θ, which parameters of items do not contain: give the fit instead of its"
            " items, or mean= and sd= of θ, for example mean=0, sd=1 on a scale with this population"
        )
    by_name = {population.name: population for population in calibration.latent}
    if group is not None:
        if group not in by_name:
            raise PsychometricsError(f"the fit has no group {group!r}; its groups are {some_of(by_name)}")
        return by_name[group]
    if len(by_name) > 1:
        raise PsychometricsError(
            f"the fit has the groups {some_of(by_name)}, each with a population of its own: give group=, or mean= and"
            " sd="
        )
    return calibration.latent[0]
