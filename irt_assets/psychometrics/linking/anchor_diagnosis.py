"""Which anchors moved, where the anchors disagree: shown to people, never used to link or to judge.

Belongs here: finding the largest group of anchors that agree with each other, and naming the others. Does not belong
here: purification and the constants (link.py), the test of agreement (criteria.py).

Answers show how far anchors moved against each other, never which of two groups stood still (Bechger & Maris 2015). So
a diagnosis rests on one assumption, that a clear majority stayed; where no group is one, none is given.

A group has constants (slope, intercept) of its own, and is found as Halpin (2024) finds the items without DIF: by the
least of a loss that stops growing, Σ min(W, limit) over the anchors' Wald statistics W at the constants, here cut off
sharply (Hinich & Talwar 1975), so that its minimum is least squares within the group. Where two groups explain the
anchors much better than one, W is that of the nearer group: otherwise constants halfway between two groups that lie
3 standard errors apart call both of them sound.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri, ndtr

from irt_assets.psychometrics.core.anchors import AnchorSet
from irt_assets.psychometrics.core.arrays import Floats, Mask
from irt_assets.psychometrics.core.covariances import of_each, times
from irt_assets.psychometrics.core.models import Calibration
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.psychometrics.linking.criteria import Pairs, medians
from irt_assets.psychometrics.linking.linking import ROBUST_Z, match
from irt_assets.psychometrics.linking.placement import Suspect

Constants = tuple[float, float]  # slope, intercept
CLEAR_MAJORITY = 0.8  # of its members, at most, may the other group have: 16 against 13 is a tie, 17 against 13 is not
_FEWEST = 5  # three against two are a clear majority of nothing
_SPLITTING_CHANCE = 8.0  # by K + 8 a second group lowers the loss of K = 6 … 100 sound anchors in 1 of 100 months
_MOST_STARTS = 100  # anchors to start from; their pairs are all tried
_MOST_STEPS = 50


@dataclass(frozen=True)
class Diagnosis:
    """The anchors that moved against the others, the suspects (largest |z| first), and that in words.

    `suspects` is empty where no group is a clear majority; `sentence` says why.
    """

    suspects: dict[str, Suspect]
    sentence: str

    def as_constants(self) -> dict[str, dict[str, Any]]:
        """What `linking_constants` stores under `suspects`."""
        return {item: asdict(suspect) for item, suspect in self.suspects.items()}


def diagnose(new: Calibration, anchors: AnchorSet, rules: Rules | None = None) -> Diagnosis:
    """Name the anchors of the fit `new` that moved against the others.

    All anchors with enough responses are looked at, those that purification dropped among them. An anchor is a suspect
    where the Wald test of its ln a and b together, given the errors of both sides and of the group's constants, has a
    p below that of |z| = 2.7, purification's limit: among 30 sound anchors 0.2 are named falsely.

    Simulated with 30 anchors, 1000 responses a side and b moved by 0.6: of 12 moved anchors it names 11.5 and 0.1
    others in 98 % of the months, and names none in the rest; with 15 moved ones it names none in 98 %. Groups only 0.4
    apart blur: with 15 moved it names wrong ones in a fifth of the months.
    """
    pairs, _ = match(new, anchors, rules or Rules())
    if pairs.size < _FEWEST:
        return Diagnosis({}, f"{pairs.size} anchors are too few to find out which of them moved")
    groups = _groups(pairs)
    homes = _homes(pairs, groups)
    sizes = [int((homes == g).sum()) for g in range(len(groups))]
    largest = int(np.argmax(sizes))
    n, n_rival = sizes[largest], sum(sizes) - sizes[largest]
    if 2 * n <= pairs.size or n_rival > CLEAR_MAJORITY * n:
        two = f" and {n_rival} others agree with each other, too" if n_rival > 1 else ""
        what = f"which anchors moved cannot be determined: of {pairs.size}, {n} agree with each other{two}"
        return Diagnosis({}, what)
    suspects = _suspects(pairs, homes == largest, groups[largest])
    named = [f"{item} ({suspect.shown})" for item, suspect in suspects.items()]
    sentence = f"moved against the others: {', '.join(named)}" if named else "no anchor stands out"
    return Diagnosis(suspects, sentence)


def _groups(pairs: Pairs) -> list[Constants]:
    """The constants of the one or two groups that explain the anchors best."""
    starts = _starts(pairs)
    cut = np.minimum([_wald(pairs, *s) for s in starts], _limit(pairs))
    one = _settle(pairs, [starts[int(cut.sum(axis=1).argmin())]])
    by_partner = [np.minimum(cut, own).sum(axis=1) for own in cut]
    i, j = divmod(int(np.argmin(by_partner)), len(starts))
    two = _settle(pairs, [starts[i], starts[j]])
    return two if _loss(pairs, one) - _loss(pairs, two) > pairs.size + _SPLITTING_CHANCE else one


def _starts(pairs: Pairs) -> list[Constants]:
    """Constants for which one anchor did not move in b, with the median slope and with its own."""
    median, _ = medians(pairs)
    found = []
    for k in range(0, pairs.size, -(-pairs.size // _MOST_STARTS)):
        for slope in (median, float(pairs.new.a[k] / pairs.old.a[k]))[: 1 + int(pairs.tests_slopes[k])]:
            found.append((slope, float(pairs.old.b[k] - slope * pairs.new.b[k])))
    return found


def _limit(pairs: Pairs) -> Floats:
    """Shape (K,)."""
    return np.asarray(chdtri(1 + pairs.tests_slopes, 2 * ndtr(-ROBUST_Z)))


def _scores(pairs: Pairs, d: Floats, block: Floats) -> tuple[Floats, Floats]:
    """V⁻¹D of each anchor and the diagonal of V⁻¹, both (K, 2), from its D, (K, 2), and V, (K, 2, 2).

    Where slopes testify nothing, of D₂ alone, with 0 and 1 in the place of D₁.
    """
    d, block, silent = d.copy(), block.copy(), ~pairs.tests_slopes
    d[silent, 0], block[silent, 0], block[silent, :, 0] = 0.0, 0.0, 0.0
    block[silent, 0, 0] = 1.0
    inverse = np.linalg.inv(block)
    return np.einsum("kij,kj->ki", inverse, d), np.einsum("kii->ki", inverse)


def _quadratic(pairs: Pairs, d: Floats, v: Floats) -> Floats:
    """Dᵀ V⁻¹ D of each anchor, shape (K,)."""
    return (d * _scores(pairs, d, v)[0]).sum(axis=1)


def _wald(pairs: Pairs, slope: float, intercept: float) -> Floats:
    return _quadratic(pairs, pairs.differences(slope, intercept), of_each(pairs.covariance_of_differences(slope)))


def _homes(pairs: Pairs, groups: list[Constants]) -> npt.NDArray[np.intp]:
    """Shape (K,): the index of the nearer group, −1 for an anchor that is near none."""
    wald = np.array([_wald(pairs, *g) for g in groups])
    return np.where(wald.min(axis=0) <= _limit(pairs), wald.argmin(axis=0), -1)


def _loss(pairs: Pairs, groups: list[Constants]) -> float:
    return float(np.minimum(np.min([_wald(pairs, *g) for g in groups], axis=0), _limit(pairs)).sum())


def _settle(pairs: Pairs, groups: list[Constants]) -> list[Constants]:
    """Least squares within each group and each anchor to the nearer group in turn, until none changes place."""
    homes = _homes(pairs, groups)
    for _ in range(_MOST_STEPS):
        groups = [
            _least_squares(pairs, homes == g, constants)[0] if (homes == g).sum() > 2 else constants
            for g, constants in enumerate(groups)
        ]
        before, homes = homes, _homes(pairs, groups)
        if (homes == before).all():
            break
    return groups


def _least_squares(pairs: Pairs, members: Mask, at: Constants) -> tuple[Constants, Floats]:
    """The members' constants by one step of Gauss-Newton, and shape (m, 2K): their derivatives by D."""
    slope, intercept = at
    inside = np.repeat(members, 2) & pairs.tested
    x = pairs.differences_by_constants(slope)
    d = pairs.differences(slope, intercept).ravel()
    cov = pairs.keep(members).errors_of_tested(slope)
    solved = np.linalg.solve(cov, x[inside].reshape(*cov.shape[:2], -1)).reshape(-1, x.shape[1])
    by_d = np.zeros((x.shape[1], d.size))
    by_d[:, inside] = -np.linalg.solve(x[inside].T @ solved, solved.T)
    step = by_d @ d
    return (slope * float(np.exp(step[0])) if pairs.free_slope else slope, intercept + float(step[-1])), by_d


def _suspects(pairs: Pairs, members: Mask, at: Constants) -> dict[str, Suspect]:
    """Every anchor tested against the members' constants; a member, which is among these, against the other members.

    With variances known, a residual over its own standard error *is* the difference from the others over its own.
    """
    (slope, intercept), by_d = _least_squares(pairs, members, at)
    d = pairs.differences(slope, intercept)
    cov = pairs.covariance_of_differences(slope)
    x = pairs.differences_by_constants(slope).reshape(pairs.size, 2, -1)
    moved = times(by_d, cov)
    shared = x @ moved.reshape(-1, pairs.size, 2).swapaxes(0, 1)
    v = of_each(cov) + shared + shared.swapaxes(1, 2) + x @ (moved @ by_d.T) @ x.swapaxes(1, 2)
    scores, information = _scores(pairs, d, v)
    alone = scores / np.sqrt(information)
    parameter = np.abs(alone).argmax(axis=1)
    z = alone[np.arange(pairs.size), parameter]
    delta_a = pairs.new.a / slope - pairs.old.a
    found = np.flatnonzero(_quadratic(pairs, d, v) > _limit(pairs))
    return {
        pairs.ids[k]: Suspect(float(d[k, 1]), float(delta_a[k]), float(z[k]), "b" if parameter[k] else "a")
        for k in found[np.argsort(-np.abs(z[found]), kind="stable")]
    }
