"""Whether items differ between groups of learners at equal ability: the Wald test over groups fitted separately.

Belongs here: the groups' scales put on one another by the items that do not differ, and the test of each item. Does not
belong here: which learners make a group (analysis.py), how large a difference is (effects.py), methods that match on
scores (mantel_haenszel.py, logistic.py).

Each group's fit has a scale of its own, θ_ref = A·θ + B, so that an item without DIF has a = A·a_ref and
d = d_ref + B·a_ref (Lord 1980, ch. 14; several groups at once: Kim, Cohen & Park 1995). With x the estimates of all
groups, Σ their covariance and f(x; A, B) these equations' left sides minus right sides, stacked over the anchors, the
constants and the anchors' true parameters ξ are those of

    min (x − ξ)ᵀ Σ⁻¹ (x − ξ)   subject to   f(ξ; A, B) = 0   (Deming 1943; the steps are those of Britt & Luecke 1973),

which is what a common fit with equal anchors and free items does, to the order in which estimates are normal. An
item's differences are then estimated with all the others of its kind given: those of an anchor from the other anchors.

**Anchors** are all items at first, by medians that a few with DIF cannot pull; those with p < 0.05 leave, and come
back when they no longer have it, until none does either (Lord 1980; Candell & Drasgow 1988).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import chdtrc

from irt_assets.psychometrics.core.arrays import Floats, Ints, Mask
from irt_assets.psychometrics.core.curves import HIGH_WABC, MEDIUM_WABC
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.models import Calibration
from irt_assets.psychometrics.core.significance import q_values
from irt_assets.psychometrics.dif.differences import Differences, Given
from irt_assets.psychometrics.dif.effects import effects

Severity = Literal["none", "small", "medium", "high"]

FALSE_DISCOVERIES = 0.05
ANCHOR_P = 0.05
"""An item with a p below this is not an anchor. That excludes a twentieth of the items without DIF, at hardly any
cost."""
LEAST_ANCHORS = 0.5
"""Half of the items are anchors whatever their p: DIF is defined against the majority of items."""
FEWEST_ITEMS = 4
_MOST_ROUNDS = 30


@dataclass(frozen=True, kw_only=True)
class Wald:
    """J items compared between a reference group and F focal groups, on the reference group's scale.

    Attributes:
        groups: F + 1 names, the reference first.
        mean, sd: shape (F + 1,), of θ in each group; 0 and 1 for the reference (the SD its own under a common slope).
        anchors: the items that hold the scales together.
        df: shape (J,), the number of differences tested; 0 for items that cannot be compared.
        wald, p, q: shape (J,), of "no group differs"; NaN where df is 0. q is Benjamini & Hochberg's (1995).
        delta: shape (F, J, 2), focal minus reference in (a, b); NaN where a group has no estimate. b's also where
            |b| > 6 or a < 0.2 in either group: such a difficulty is an extrapolation.
        se: shape (F, J, 2), with the errors of both fits and of the constants, and what these have in common.
        wabc: shape (F, J), ∫ |P_focal − P_reference| over both groups' θ (Edelen, Stucky & Chandra 2015).
        shift: shape (F, J), the same without the bars, the difference of expected scores at equal ability: below 0 the
            item is harder for the focal group.
        shift_se: shape (F, J), its errors.
        warnings: sentences.
    """

    item_ids: tuple[str, ...]
    groups: tuple[str, ...]
    mean: Floats
    sd: Floats
    anchors: tuple[str, ...]
    df: Ints
    wald: Floats
    p: Floats
    q: Floats
    delta: Floats
    se: Floats
    wabc: Floats
    shift: Floats
    shift_se: Floats
    warnings: tuple[str, ...] = ()

    @property
    def flagged(self) -> tuple[str, ...]:
        """Items with q < 0.05, whatever the size of the difference."""
        return tuple(item for item, q in zip(self.item_ids, self.q, strict=True) if q < FALSE_DISCOVERIES)

    @property
    def severity(self) -> tuple[Severity, ...]:
        """J of "none" (q ≥ 0.05), "small", "medium" (some group's wABC above 0.05) or "high" (above 0.10)."""
        most = np.where(np.isnan(self.wabc), 0.0, self.wabc).max(axis=0)
        return tuple(severity_of(q, area) for q, area in zip(self.q, most, strict=True))


def severity_of(q: float, wabc: float) -> Severity:
    """How much an item's difference from one group matters, of the item's q and the group's wABC."""
    if not q < FALSE_DISCOVERIES:
        return "none"
    return "high" if wabc > HIGH_WABC else "medium" if wabc > MEDIUM_WABC else "small"


def compare_groups(fits: Sequence[Calibration], groups: Sequence[str]) -> Wald:
    """Test each item for DIF between groups.

    Args:
        fits: one of each group, the reference first; the same items in the same order, one model without guessing,
            each on its own scale.
        groups: their names.

    Two differences an item and focal group are tested, of slope and intercept; one, of the intercept, where the model
    has no slopes of items' own.

    Raises PsychometricsError where fits cannot be compared, or fewer than 4 items can.
    """
    _check(fits, groups)
    differences = Differences.of(fits, groups)
    item_ids = fits[0].item_ids
    if len(differences.items) < FEWEST_ITEMS:
        raise PsychometricsError(
            f"{len(differences.items)} items have estimates and errors in group {groups[0]} and another, and"
            f" {FEWEST_ITEMS} are needed to distinguish DIF from a difference in ability. Compare groups that answered"
            f" the same items"
        )
    warnings: list[str] = []
    is_anchor, near = _purified(differences, warnings)
    found = differences.given(is_anchor, near)
    p = found.p
    q = np.full(len(p), np.nan)
    q[differences.items] = q_values(p[differences.items])
    mean = np.array([0.0, *found.constants[:, 1]])
    sd = np.array([1.0, *found.constants[:, 0]])
    if differences.common_slope:  # all slopes are 1 here, and each group's SD that of its θ in logits
        mean = mean + _in_logits(fits[0])[0]
        sd = np.array([_in_logits(fit)[1] for fit in fits])
    seen = effects(differences, found, fits, mean, sd)
    if differences.common_slope:
        unit = fits[0].a[differences.items[0]]  # back from logits to the reference fit's scale
        mean, sd = mean / unit, sd / unit
        seen.delta[:, :, 1] /= unit
        seen.se[:, :, 1] /= unit
    anchors = tuple(item for item, anchor in zip(item_ids, is_anchor, strict=True) if anchor)
    return Wald(
        item_ids=item_ids, groups=tuple(groups), mean=mean, sd=sd, anchors=anchors, df=differences.df,
        wald=found.wald, p=p, q=q, delta=seen.delta, se=seen.se, wabc=seen.wabc,
        shift=seen.shift, shift_se=seen.shift_se, warnings=tuple(warnings),
    )  # fmt: skip


def _in_logits(fit: Calibration) -> tuple[float, float]:
    slope = fit.a[fit.estimated][0]
    return slope * fit.latent_mean, slope * fit.latent_sd


def _check(fits: Sequence[Calibration], groups: Sequence[str]) -> None:
    if len(fits) != len(groups) or len(fits) < 2:
        raise PsychometricsError(f"two groups or more are compared, each with its fit; got {len(groups)} groups")
    models = sorted({model for fit in fits for model in fit.models})
    if len(models) > 1 or fits[0].item_model.guesses:
        raise PsychometricsError(
            f"groups are compared by fits of one model without guessing, got {', '.join(models)}: what guessing and"
            f" difficulty explain of an easy item cannot be separated within a group. Fit a 2pl"
        )
    for fit, group in zip(fits, groups, strict=True):
        if fit.item_ids != fits[0].item_ids:
            raise PsychometricsError(f"the fit of group {group} has other items, or another order, than {groups[0]}'s")


def _purified(differences: Differences, warnings: list[str]) -> tuple[Mask, Given]:
    """Shape (J,): the items without sign of DIF, at least half of the comparable ones; and the estimate
    with nearly these."""
    constants = differences.medians()
    e, V = differences.residuals(differences.x, constants), differences.covariance(constants)
    p = np.full(len(differences.df), np.nan)
    for j in differences.items:
        rows = np.flatnonzero(differences.item == j)
        p[j] = chdtrc(rows.size, max(e[rows] @ np.linalg.solve(V[np.ix_(rows, rows)], e[rows]), 0.0))
    is_anchor = _sound(p)
    found, seen = None, list[bytes]()
    while found is None or (is_anchor.tobytes() not in seen and len(seen) < _MOST_ROUNDS):
        seen.append(is_anchor.tobytes())
        found = differences.given(is_anchor, found)
        p = found.p
        is_anchor = _sound(p)
    if np.nansum(p >= ANCHOR_P) < LEAST_ANCHORS * len(differences.items):
        warnings.append(
            f"anchors disagree: {int(np.nansum(p < ANCHOR_P))} of {len(differences.items)} items differ between the"
            f" groups, so it cannot be determined which of them are free of DIF. Judge by content"
        )
    return is_anchor, found


def _sound(p: Floats) -> Mask:
    least = int(np.ceil(LEAST_ANCHORS * np.isfinite(p).sum()))
    limit = min(ANCHOR_P, np.sort(p[np.isfinite(p)])[::-1][least - 1])
    return np.nan_to_num(p, nan=-1.0) >= limit
