"""What a night shows before the next month does: its linking and difficulties against the published ones.

Pure comparisons of stored rows, and the query that finds them. What does not belong here: drift, which is judged on
whole months and on a and b together. Nothing in this module holds or publishes anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import psycopg
from scipy.special import ndtr

from irt_assets.common.arrays import Floats
from irt_assets.common.partitions import Month
from irt_assets.common.wording import counted, some_of
from irt_assets.ledger.fits import LinkedFit, linked_fit
from irt_assets.ledger.linked_windows import last_sound_month
from irt_assets.ledger.publications import publications_in_force
from irt_assets.responses.eligibility.rules import PublicationRules
from irt_assets.responses.scales import Scale

LARGEST_SHIFT = {"slope": 0.20, "intercept": 0.30}
"""How far the mean and SD of the learners, in θ, may move from one month to the next without a warning."""
SHIFT_Z = 3.0
LARGEST_DIFFERENCE = 0.25
"""Difference in b from which on the documents call a change drift."""
FALSE_DISCOVERIES = 0.05
"""Share of the named items, on average, that have not moved (Benjamini & Hochberg 1995)."""
MOST_NAMED = 5

Value = tuple[float, float]
"""An estimate and its standard error."""


@dataclass(frozen=True)
class Shift:
    """A linking constant of the night and of the last month that is linked."""

    name: str
    night: Value
    month: Value

    @property
    def difference(self) -> Value:
        """Night minus month. The error is that of windows and anchors of their own, hence on the large side."""
        return self.night[0] - self.month[0], float(np.hypot(self.night[1], self.month[1]))

    @property
    def is_large(self) -> bool:
        value, se = self.difference
        return abs(value) > max(LARGEST_SHIFT[self.name], SHIFT_Z * se)


@dataclass(frozen=True)
class Difficulties:
    """b of J items with its standard error, of the night and as published; arrays of shape (J,), in θ."""

    item_ids: tuple[str, ...]
    night: Floats
    night_se: Floats
    published: Floats
    published_se: Floats

    @property
    def difference(self) -> Floats:
        return self.night - self.published

    @property
    def se(self) -> Floats:
        """SE of the difference. It is too large where the published value also comes from answers of this window."""
        return np.hypot(self.night_se, self.published_se)

    @property
    def moved(self) -> np.ndarray:
        """Shape (J,): whether an item lies far from its published value, and not by chance."""
        if not self.item_ids:
            return np.zeros(0, dtype=bool)
        from scipy.stats import false_discovery_control  # takes half a second to import

        p = 2 * ndtr(-np.abs(self.difference) / self.se)
        return (np.abs(self.difference) > LARGEST_DIFFERENCE) & (false_discovery_control(p) < FALSE_DISCOVERIES)

    def moved_items(self) -> dict[str, str]:
        """Item → where it was published and where it is."""
        return {
            self.item_ids[j]: f"b {self.published[j]:+.2f} to {self.night[j]:+.2f}" for j in np.flatnonzero(self.moved)
        }

    def furthest(self, n: int) -> np.ndarray:
        """The indices of the n items furthest apart in standard errors, those that moved first."""
        return np.lexsort((-np.abs(self.difference) / self.se, ~self.moved))[:n]


@dataclass(frozen=True)
class EarlyWarning:
    """A night of a scale against what is published; `month` is None and `shifts` empty where none is linked yet."""

    month: str | None
    shifts: tuple[Shift, ...]
    difficulties: Difficulties
    disagreement: str = ""

    def problems(self) -> list[str]:
        """What a psychometrician should look at, as sentences; empty on most nights."""
        found = [
            f"the {shift.name} of linking is {shift.night[0]:.2f}, and was {shift.month[0]:.2f} in {self.month}"
            for shift in self.shifts
            if shift.is_large
        ]
        if self.disagreement:
            found.append(f"the anchors do not carry the night: {self.disagreement}")
        d = self.difficulties
        if n := int(d.moved.sum()):
            furthest = d.furthest(min(n, MOST_NAMED))
            named = [f"{d.item_ids[j]} ({d.published[j]:+.2f} to {d.night[j]:+.2f})" for j in furthest]
            found.append(f"b differs from the published value of {counted(n, 'item')}: {some_of(named, MOST_NAMED, n)}")
        return found


def compare(
    night: LinkedFit, month: tuple[str, LinkedFit] | None, published: Mapping[str, Value], limits: PublicationRules
) -> EarlyWarning:
    """`published`: b and its SE of every item in force; those without an SE are not compared."""
    usable = {
        item: (values.b, values.b_se) for item, values in night.values.items() if values.b_se and item in published
    }
    b = np.array([(*usable[i], *published[i]) for i in usable], dtype=float).reshape(-1, 4)
    kept = np.isfinite(b).all(axis=1)
    item_ids = tuple(item for item, is_kept in zip(usable, kept, strict=True) if is_kept)
    constants = night.constants
    return EarlyWarning(
        month[0] if month else None,
        tuple(Shift(name, constants.value(name), month[1].constants.value(name)) for name in LARGEST_SHIFT)
        if month
        else (),
        Difficulties(item_ids, *b[kept].T),
        (constants.diagnosis or "no single one stands out") if constants.disagreement(limits) else "",
    )


def read_warning(connection: psycopg.Connection, scale: Scale, night: LinkedFit, end: datetime) -> EarlyWarning:
    """`night`: what was fitted on the window that ends at `end`, against what was known then."""
    name = last_sound_month(connection, scale, end)
    fit = linked_fit(connection, scale.scale_id, "monthly", Month(name).start, scale.engine) if name else None
    month = (name, fit) if name and fit else None
    published = {
        one.item_id: (one.values.b, np.nan if one.values.b_se is None else one.values.b_se)
        for one in publications_in_force(connection, scale.scale_id, end)
    }
    return compare(night, month, published, scale.rules.publication)
