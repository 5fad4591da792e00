"""Early warnings from a nightly fit: its linking and difficulties compared with the published ones.

Nothing here holds a month or publishes. Drift is judged on whole months and on a and b together, in `irt_assets.drift`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import psycopg
from scipy.special import ndtr

from irt_assets.common.arrays import Floats
from irt_assets.common.partitions import Month
from irt_assets.common.wording import quantity, some_of
from irt_assets.ledger.fits import LinkedFit, linked_fit
from irt_assets.ledger.linked_windows import last_sound_month
from irt_assets.ledger.publications import publications_in_force
from irt_assets.scales.rules import PublicationRules
from irt_assets.scales.scale import Scale

MAX_SHIFT = {"slope": 0.20, "intercept": 0.30}
"""Largest change of a linking constant since the last month without a warning (mean and SD of the learners' θ)."""
SHIFT_Z = 3.0
MAX_DIFFERENCE = 0.25
"""Smallest difference in b that counts as drift."""
FALSE_DISCOVERIES = 0.05
"""Expected share of the named items that have not moved (Benjamini & Hochberg 1995)."""
MAX_NAMED = 5

Value = tuple[float, float]
"""An estimate and its standard error."""


@dataclass(frozen=True)
class Shift:
    """A linking constant of the night and of the last linked month."""

    name: str
    night: Value
    month: Value

    @property
    def difference(self) -> Value:
        """Night minus month, and its standard error. The error is too large, as it assumes independent windows."""
        return self.night[0] - self.month[0], float(np.hypot(self.night[1], self.month[1]))

    @property
    def is_large(self) -> bool:
        value, se = self.difference
        return abs(value) > max(MAX_SHIFT[self.name], SHIFT_Z * se)


@dataclass(frozen=True)
class Difficulties:
    """Nightly and published b of J items with standard errors; arrays of shape (J,), in units of θ."""

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
        """SE of the difference. It is too large if the published value also comes from answers of this window."""
        return np.hypot(self.night_se, self.published_se)

    @property
    def moved(self) -> np.ndarray:
        """Whether each item's difference is large and significant, shape (J,)."""
        if not self.item_ids:
            return np.zeros(0, dtype=bool)
        from scipy.stats import false_discovery_control  # takes half a second to import

        p = 2 * ndtr(-np.abs(self.difference) / self.se)
        return (np.abs(self.difference) > MAX_DIFFERENCE) & (false_discovery_control(p) < FALSE_DISCOVERIES)

    def moved_items(self) -> dict[str, str]:
        """Published and nightly b in words, for each item that moved."""
        return {
            self.item_ids[j]: f"b {self.published[j]:+.2f} to {self.night[j]:+.2f}" for j in np.flatnonzero(self.moved)
        }

    def largest_differences(self, n: int) -> np.ndarray:
        """Indices of the n items with the largest differences in standard errors; items that moved come first."""
        return np.lexsort((-np.abs(self.difference) / self.se, ~self.moved))[:n]


@dataclass(frozen=True)
class EarlyWarning:
    """Comparison of a night's fit of a scale with the published values and the last linked month.

    `month` is None and `shifts` is empty if no month has been linked yet.
    """

    month: str | None
    shifts: tuple[Shift, ...]
    difficulties: Difficulties
    disagreement: str = ""

    def problems(self) -> list[str]:
        """Sentences on points that a psychometrician should check; empty on most nights."""
        found = [
            f"the {shift.name} of linking is {shift.night[0]:.2f}, and was {shift.month[0]:.2f} in {self.month}"
            for shift in self.shifts
            if shift.is_large
        ]
        if self.disagreement:
            found.append(f"the anchors do not carry the night: {self.disagreement}")
        d = self.difficulties
        if n := int(d.moved.sum()):
            largest = d.largest_differences(min(n, MAX_NAMED))
            named = [f"{d.item_ids[j]} ({d.published[j]:+.2f} to {d.night[j]:+.2f})" for j in largest]
            found.append(f"b differs from the published value of {quantity(n, 'item')}: {some_of(named, MAX_NAMED, n)}")
        return found


def compare(
    night: LinkedFit, month: tuple[str, LinkedFit] | None, published: Mapping[str, Value], limits: PublicationRules
) -> EarlyWarning:
    """Compare a night with a month's linking and with `published` (b and SE of each item in force).

    Items without an SE are not compared.
    """
    usable = {
        item: (values.b, values.b_se) for item, values in night.values.items() if values.b_se and item in published
    }
    b = np.array([(*usable[i], *published[i]) for i in usable], dtype=float).reshape(-1, 4)
    kept = np.isfinite(b).all(axis=1)
    item_ids = tuple(item for item, is_kept in zip(usable, kept, strict=True) if is_kept)
    constants = night.constants
    return EarlyWarning(
        month[0] if month else None,
        tuple(Shift(name, constants.value(name), month[1].constants.value(name)) for name in MAX_SHIFT)
        if month
        else (),
        Difficulties(item_ids, *b[kept].T),
        (constants.diagnosis or "no single one stands out") if constants.disagreement(limits) else "",
    )


def read_warning(connection: psycopg.Connection, scale: Scale, night: LinkedFit, end: datetime) -> EarlyWarning:
    """Compare `night`, the fit of the window that ends at `end`, with the values and linkings known at that time."""
    name = last_sound_month(connection, scale, end)
    fit = linked_fit(connection, scale.scale_id, "monthly", Month(name).start, scale.engine) if name else None
    month = (name, fit) if name and fit else None
    published = {
        item.item_id: (item.values.b, np.nan if item.values.b_se is None else item.values.b_se)
        for item in publications_in_force(connection, scale.scale_id, end)
    }
    return compare(night, month, published, scale.rules.publication)
