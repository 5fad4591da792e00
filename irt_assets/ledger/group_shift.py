"""Movement of a month's anchors as a group against the other published items, as it is stored and judged.

`Drift.shift_against_anchors` computes the estimate; calibration/group_shift.py decides when a month is measured.
"""

from dataclasses import dataclass
from typing import Self

from irt_psychometrics import PsychometricsError
from irt_psychometrics.drift import Comparison, Drift

Z = 3.0
"""Number of standard errors by which a shift must differ from 0 to count."""


@dataclass(frozen=True)
class GroupShift:
    """Mean shift in b of the other published items against the anchors.

    Attributes:
        why: reason why the shift could not be measured, else empty. The numbers are zero if it is set.
        items: number of other items: published, fitted again, and not anchors.
        shift, shift_se: shift of the other items and its standard error, in units of the scale.
        sd: SD of the scale's population, the unit of the limit.
    """

    why: str = ""
    items: int = 0
    shift: float = 0.0
    shift_se: float = 0.0
    sd: float = 1.0

    @classmethod
    def from_comparison(cls, comparison: Comparison, *, mean: float, sd: float, expected_variation: float) -> Self:
        """Estimate the shift of a month. N(mean, sd²) is the scale's population."""
        try:
            found = Drift.shift_against_anchors(comparison, mean=mean, sd=sd, expected_variation=expected_variation)
        except PsychometricsError as error:
            return cls(f"the anchors cannot be compared with other items: {error}")
        return cls(items=found.items, shift=found.shift, shift_se=found.shift_se, sd=sd)

    def limit(self, largest: float) -> float:
        """Largest accepted |shift|: `largest` SDs of the population, or Z standard errors if that is more."""
        return max(largest * self.sd, Z * self.shift_se)

    def exceeds_limit(self, largest: float) -> bool:
        return abs(self.shift) > self.limit(largest)

    def sentence(self, largest: float) -> str:
        if self.why:
            return self.why
        summary = (
            f"against the anchors, b of the {self.items} other published items moved by {self.shift:+.2f} as a group "
            f"(SE {self.shift_se:.2f}, limit {self.limit(largest):.2f})"
        )
        if self.exceeds_limit(largest):
            anchors, others = ("easier", "harder") if self.shift > 0 else ("harder", "easier")
            summary += f": the anchors became {anchors}, or the others {others}"
        return summary
