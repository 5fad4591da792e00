"""Effect of a decision on learners: the last measured month, scored without and with the change.

θ is computed by the code that measures abilities (`abilities`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from irt_assets.abilities.batch import estimate
from irt_assets.common.arrays import Floats
from irt_assets.common.partitions import Month
from irt_assets.decisions.proposals import Proposal, open_changes
from irt_assets.ledger.publications import in_force
from irt_assets.ledger.steps import last_done_month
from irt_assets.responses.facts import ability_start
from irt_assets.responses.scored_answers import scoring_groups
from irt_assets.scales.scale import Scale, read_scales
from irt_psychometrics import Responses
from irt_psychometrics.items import ItemRow

LARGE_SHIFT = 0.2
"""θ shift that is considered large: close to the SE of a good test, so learners may notice it."""


@dataclass(frozen=True)
class ThetaShift:
    """Difference in θ of the same learners with and without a change.

    Attributes:
        learners: number of learners who are measured both with and without the change.
        mean, sd: mean and SD of Δθ, which is θ with the change minus θ without it.
        largest: the Δθ with the largest absolute value.
        large_share: share of `learners` with |Δθ| > 0.2.
        pass_theta: the scale's pass mark, or None if it has none.
        newly_passed, newly_failed: numbers of learners who cross the pass mark.
    """

    learners: int = field(default=0, kw_only=True)
    mean: float = field(default=0.0, kw_only=True)
    sd: float = field(default=0.0, kw_only=True)
    largest: float = field(default=0.0, kw_only=True)
    large_share: float = field(default=0.0, kw_only=True)
    pass_theta: float | None = field(default=None, kw_only=True)
    newly_passed: int = field(default=0, kw_only=True)
    newly_failed: int = field(default=0, kw_only=True)

    @classmethod
    def from_thetas(cls, old: Floats, new: Floats, pass_theta: float | None) -> "ThetaShift":
        """Compute the shift from `old` to `new` θ of N ≥ 1 learners; both have shape (N,)."""
        shift = new - old
        mark = np.inf if pass_theta is None else pass_theta
        return ThetaShift(
            learners=old.size,
            mean=float(shift.mean()),
            sd=float(shift.std()),
            largest=float(shift[np.argmax(np.abs(shift))]),
            large_share=float((np.abs(shift) > LARGE_SHIFT).mean()),
            pass_theta=pass_theta,
            newly_passed=int(((old < mark) & (new >= mark)).sum()),
            newly_failed=int(((old >= mark) & (new < mark)).sum()),
        )

    @property
    def shift_in_words(self) -> str:
        """The shift of θ, in words."""
        return (
            f"mean Δθ {self.mean:+.3f}, SD {self.sd:.3f}, largest {self.largest:+.2f}; "
            f"{self.large_share:.1%} move by more than {LARGE_SHIFT:g}"
        )

    @property
    def passing_in_words(self) -> str:
        """The numbers of learners who cross the pass mark, in words."""
        if self.pass_theta is None:
            return "no pass mark is set"
        return f"at θ = {self.pass_theta:g} {self.newly_passed:,} newly pass and {self.newly_failed:,} newly fail"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Impact(ThetaShift):
    """Effect of a change of parameters on the learners of `month`.

    Attributes:
        month: the last month whose publication step is done; "" without one.
        items: number of items whose parameters change.
        why: the reason why there is no learner to compare; empty if there are some. If it is set, `learners` is 0.
        touched: number of `learners` with an answer to an item whose parameters change.
        added: number of learners who are measured only with the change.
    """

    scale_id: str
    month: str
    items: int
    why: str = ""
    touched: int = 0
    added: int = 0

    @property
    def sentence(self) -> str:
        """A sentence that a person reads before deciding."""
        if self.why:
            return f"the effect on learners cannot be shown: {self.why}"
        many = f"{self.learners:,} learners of {self.month} ({self.touched:,} of them answered items that change)"
        passing = f"no pass mark is set for scale {self.scale_id}" if self.pass_theta is None else self.passing_in_words
        added = f"; {self.added:,} more would be measured" if self.added else ""
        return f"{many}: {self.shift_in_words}; {passing}{added}"


def impacts(connection: psycopg.Connection, found: Sequence[Proposal], since: datetime) -> list[Impact]:
    """The impact of accepting the open proposals among `found` from `since` on, for each scale."""
    scales = read_scales(connection)
    changes = {
        scale_id: open_changes(p for p in found if p.scale_id == scale_id) for scale_id in {p.scale_id for p in found}
    }
    return [impact(connection, scales[scale_id], items, since) for scale_id, items in sorted(changes.items()) if items]


def impact(
    connection: psycopg.Connection,
    scale: Scale,
    changes: Mapping[str, ItemRow],
    effective_from: datetime,
) -> Impact:
    """Compare θ of the last done month's learners without and with `changes` to the set in force.

    The set in force is that at `effective_from`.
    """
    month = last_done_month(connection, scale.scale_id)
    if month is None:
        return Impact(scale.scale_id, "", len(changes), "no month of the scale is green yet")
    end = Month(month).end
    published = in_force(connection, scale.scale_id, effective_from)
    before = published.items
    after = {**before, **changes}
    start = ability_start(end, scale)
    groups = scoring_groups(connection, start, end, list(after), published.withdrawn)
    found = [
        (
            *(_has_answers(responses, items) for items in (before, changes)),
            *(estimate(responses, items, scale).theta for items in (before, after)),
        )
        for responses, _ in groups
    ]
    measured, touched, old, new = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if measured.size == 0:
        return Impact(scale.scale_id, month, len(changes), f"no answers to published items before {end:%Y-%m-%d}")
    old, new = old[measured], new[measured]
    if not old.size:
        return Impact(
            scale.scale_id, month, len(changes), "no learner is measured with the present set", added=len(measured)
        )
    return Impact(
        scale.scale_id,
        month,
        len(changes),
        touched=int((touched & measured).sum()),
        added=int((~measured).sum()),
        **ThetaShift.from_thetas(old, new, scale.pass_theta).as_dict(),
    )


def _has_answers(responses: Responses, items: Collection[str]) -> npt.NDArray[np.bool_]:
    """Whether each person answered one of `items`, shape (n_persons,)."""
    among = np.array([item in items for item in responses.item_ids], dtype=bool)
    n: npt.NDArray[np.intp] = np.bincount(responses.person[among[responses.item]], minlength=responses.n_persons)
    return n > 0
