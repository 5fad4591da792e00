"""By how much a month's anchors as a group moved against the other published items, as it is stored and judged.

What does not belong here: the estimate (`Drift.of_anchors`), and which month is measured when
(calibration/group_shift.py).
"""

from dataclasses import dataclass
from typing import Self

from irt_psychometrics import PsychometricsError
from irt_psychometrics.drift import Comparison, Drift

Z = 3.0
"""Number of standard errors from 0 at which a shift counts."""


@dataclass(frozen=True)
class GroupShift:
    """By how much b of the other published items moved against b of the anchors.

    Attributes:
        why: why this is not judged, else empty; the numbers are then zero.
        items: the others: published, fitted again and not anchors.
        shift, shift_se: of the others, and its standard error.
        sd: of the scale's population, the unit of the limit.
    """

    why: str = ""
    items: int = 0
    shift: float = 0.0
    shift_se: float = 0.0
    sd: float = 1.0

    @classmethod
    def of(cls, comparison: Comparison, *, mean: float, sd: float, expected_variation: float) -> Self:
        """The shift of a month; N(mean, sd²): the scale's population."""
        try:
            found = Drift.of_anchors(comparison, mean=mean, sd=sd, expected_variation=expected_variation)
        except PsychometricsError as error:
            return cls(f"the anchors cannot be compared with others: {error}")
        return cls(items=found.items, shift=found.shift, shift_se=found.shift_se, sd=sd)

    def limit(self, largest: float) -> float:
        """The smallest |shift| that counts where one of `largest` SDs is accepted."""
        return max(largest * self.sd, Z * self.shift_se)

    def moved(self, largest: float) -> bool:
        return abs(self.shift) > self.limit(largest)

    def sentence(self, largest: float) -> str:
        if self.why:
            return self.why
        summary = (
            f"against the anchors, b of the {self.items} other published items moved by {self.shift:+.2f} as a group "
            f"(SE {self.shift_se:.2f}, limit {self.limit(largest):.2f})"
        )
        if self.moved(largest):
            anchors, others = ("easier", "harder") if self.shift > 0 else ("harder", "easier")
            summary += f": the anchors became {anchors}, or the others {others}"
        return summary
