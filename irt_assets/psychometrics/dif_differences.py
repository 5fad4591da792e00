"""The equations that items without DIF satisfy between groups, and what anchors say of every item.

Belongs here: constants between the groups' scales, and each item's differences with their errors, given the anchors;
dif_wald.py has the model. Does not belong here: who is an anchor, and what a difference matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import chi2

from irt_assets.psychometrics.errors import PsychometricsError
from irt_assets.psychometrics.linking_criteria import block_diagonal
from irt_assets.psychometrics.models import Calibration, Floats
from irt_assets.psychometrics.quadrature import Grid

Bools = npt.NDArray[np.bool_]

_MOST_STEPS, _STILL = 50, 1e-5


@dataclass(frozen=True)
class Given:
    """What anchors say: constants (F, 2) = (A, B); wald (J,); delta, a list of the items' differences with `cov`."""

    constants: Floats
    wald: Floats
    df: npt.NDArray[np.int64]
    delta: list[Floats]
    cov: list[Floats]

    @property
    def p(self) -> Floats:
        return np.where(self.df > 0, chi2.sf(self.wald, np.maximum(self.df, 1)), np.nan)


@dataclass(frozen=True)
class Differences:
    """The equations of all comparable items: row r says of item `item[r]`, focal group `group[r]` and parameter
    `parameter[r]` (0 the slope, 1 the intercept) that it equals the reference's.

    `groups` are G names; `x` (G, J, 2) are the estimates and `cov` G matrices (2J, 2J); in logits (a = 1) where
    slopes are common.
    """

    groups: tuple[str, ...]
    x: Floats
    cov: tuple[Floats, ...]
    common_slope: bool
    item: npt.NDArray[np.intp]
    group: npt.NDArray[np.intp]
    parameter: npt.NDArray[np.intp]
    df: npt.NDArray[np.int64]

    @classmethod
    def of(cls, fits: Sequence[Calibration], groups: Sequence[str]) -> Differences:
        common = fits[0].model != "2pl"
        usable = np.stack([np.isfinite(f.cov).all(axis=(1, 2)) & (f.cov[:, 1, 1] > 0) for f in fits])
        x = np.stack([np.stack([np.ones_like(f.a) if common else f.a, f.d], axis=1) for f in fits])
        x = np.where(usable[:, :, None], x, [1.0, 0.0])
        cov = []
        for fit in fits:
            whole = np.nan_to_num(block_diagonal(fit.cov) if fit.joint_cov is None else fit.joint_cov)
            if common:
                whole[::2] = 0.0
                whole[:, ::2] = 0.0
            cov.append(whole)
        both = usable[0] & usable[1:]
        item, group = np.nonzero(both.T)
        tested = [1] if common else [0, 1]
        rows = len(tested)
        return cls(
            tuple(groups),
            x,
            tuple(cov),
            common,
            np.repeat(item, rows),
            np.repeat(group, rows),
            np.tile(tested, len(item)),
            rows * both.sum(axis=0),
        )

    @property
    def items(self) -> npt.NDArray[np.intp]:
        """The comparable items."""
        return np.flatnonzero(self.df > 0)

    @property
    def n_focal(self) -> int:
        return len(self.x) - 1

    @property
    def _place(self) -> npt.NDArray[np.intp]:
        """Where in (a_1, d_1, a_2, d_2, …) each row's parameter stands."""
        return 2 * self.item + self.parameter

    def residuals(self, x: Floats, constants: Floats) -> Floats:
        """f(x; A, B), shape (R,), linear in x."""
        a_ref, d_ref = x[0, self.item, 0], x[0, self.item, 1]
        A, B = constants[self.group].T
        expected = np.where(self.parameter == 0, A * a_ref, d_ref + B * a_ref)
        return x[1 + self.group, self.item, self.parameter] - expected

    def through(self, group: int, constants: Floats, matrix: Floats) -> Floats:
        """∂f/∂x_group @ matrix, (2J, …) to (R, …), for group 0 … F, the reference first."""
        if group:
            return np.where((self.group == group - 1)[:, None], matrix[self._place], 0.0)
        A, B = constants[self.group].T
        own, slope = np.where(self.parameter == 0, -A, -1.0), np.where(self.parameter == 1, -B, 0.0)
        out: Floats = own[:, None] * matrix[self._place] + slope[:, None] * matrix[2 * self.item]
        return out

    def covariance(self, constants: Floats) -> Floats:
        """Cov f(x), shape (R, R)."""
        return self._with_spread(constants)[0]

    def _with_spread(self, constants: Floats) -> tuple[Floats, list[Floats]]:
        """Cov f(x), and the covariances of f(x) with the groups' estimates, G matrices (R, 2J)."""
        spread = [self.through(g, constants, cov) for g, cov in enumerate(self.cov)]
        V: Floats = np.sum([self.through(g, constants, s.T) for g, s in enumerate(spread)], axis=0)
        return V, spread

    def by_constants(self, x: Floats) -> Floats:
        """∂f/∂(A_1, B_1, A_2, …), shape (R, 2F); (R, F), by B alone, where slopes are common."""
        out = np.zeros((len(self.item), 2 * self.n_focal))
        out[np.arange(len(self.item)), 2 * self.group + self.parameter] = -x[0, self.item, 0]
        return out[:, 1::2] if self.common_slope else out

    def medians(self) -> Floats:
        """Constants that a minority of items cannot pull, shape (F, 2)."""
        out = np.ones((self.n_focal, 2))
        for f in range(self.n_focal):
            own = np.unique(self.item[self.group == f])
            (a_ref, d_ref), (a, d) = self.x[0, own].T, self.x[1 + f, own].T
            up = (a_ref > 0) & (a > 0)
            if up.sum() < 2:
                raise PsychometricsError(
                    f"groups {self.groups[0]} and {self.groups[1 + f]} share {up.sum()} items that abler learners"
                    f" answer better in both, too few to put their abilities on one scale. Leave one of the groups out"
                )
            A = float(np.exp(np.median(np.log(a[up] / a_ref[up]))))
            out[f] = A, np.median((d - d_ref)[up] / a_ref[up])
        return out

    def given(self, is_anchor: Bools) -> Given:
        """Constants by the anchors, and each item's differences given the (other) anchors."""
        S = is_anchor[self.item]
        missing = np.setdiff1d(np.arange(self.n_focal), self.group[S])
        if missing.size or is_anchor.sum() < 2:
            raise PsychometricsError(
                f"{int(is_anchor.sum())} anchors hold the groups' scales together, in every pair of groups at least 2"
                f" are needed. Give other anchor items, or compare groups that answered the same items"
            )
        rough = self._solved(S, self.medians(), self.x)
        smooth = self._with_errors_at(np.where(is_anchor[:, None], rough[1], self.x))
        return smooth._tested(S, *smooth._solved(S, *rough))

    def _solved(self, S: Bools, constants: Floats, xi: Floats) -> tuple[Floats, Floats]:
        """Constants and ξ by the rows S, from a start."""
        for _ in range(_MOST_STEPS):
            V, spread = self._with_spread(constants)
            V = V[np.ix_(S, S)]
            X = self.by_constants(xi)[S]
            e = self.residuals(self.x, constants)[S]
            solved = np.linalg.solve(V, np.column_stack([X, e]))
            VX, Ve = solved[:, :-1], solved[:, -1]
            step: Floats = -np.linalg.solve(X.T @ VX, X.T @ Ve)
            pull = Ve + VX @ step
            xi = self.x - np.stack([(s[S].T @ pull).reshape(-1, 2) for s in spread])
            constants = constants + self._as_constants(step)
            if np.abs(step).max() < _STILL:
                break
        return constants, xi

    def _with_errors_at(self, xi: Floats) -> Differences:
        """The same estimates with the errors that they have where parameters are `xi` (G, J, 2).

        An estimate and its error err together (a slope that came out steep looks badly known), which pulls the
        constants: with 250 learners a group and means 1 apart, by 0.1. Item by item the covariance is turned by the
        ratio of the roots of two expected ones, θ ~ N(0, 1) known.
        """
        if self.common_slope:
            return self
        turned = []
        for x, cov, at in zip(self.x, self.cov, xi, strict=True):
            turn = block_diagonal(_expected_root(at) @ np.linalg.inv(_expected_root(x)))
            turned.append(turn @ cov @ turn.T)
        return replace(self, cov=tuple(turned))

    def _as_constants(self, step: Floats) -> Floats:
        if self.common_slope:
            return np.stack([np.zeros_like(step), step], axis=1)
        return step.reshape(-1, 2)

    def _tested(self, S: Bools, constants: Floats, xi: Floats) -> Given:
        """With e = f(x) and W = V_SS⁻¹ − V_SS⁻¹X(XᵀV_SS⁻¹X)⁻¹XᵀV_SS⁻¹ over the anchors' rows S, an anchor j differs by
        (W_jj)⁻¹(We)_j with covariance (W_jj)⁻¹, which is what its deletion gives (Cook & Weisberg 1982), and another
        item by e_j − V_jS V_SS⁻¹ e_S, whose covariance has the error of the constants, too."""
        V = self.covariance(constants)
        X, e = self.by_constants(xi), self.residuals(self.x, constants)
        inverse = np.linalg.inv(V[np.ix_(S, S)])
        VX = inverse @ X[S]
        of_constants = np.linalg.inv(X[S].T @ VX)
        W = inverse - VX @ of_constants @ VX.T
        weighted = W @ e[S]
        place = np.cumsum(S) - 1
        foreseen = V[:, S] @ inverse
        rest = e - foreseen @ e[S]
        lever = X - foreseen @ X[S]
        wald, deltas, covs = np.full(len(self.df), np.nan), [], []
        for j in range(len(self.df)):
            rows = np.flatnonzero(self.item == j)
            if rows.size and S[rows[0]]:
                own = place[rows]
                cov = np.linalg.inv(W[np.ix_(own, own)])
                delta = cov @ weighted[own]
            else:
                delta = rest[rows]
                cov = V[np.ix_(rows, rows)] - foreseen[rows] @ V[np.ix_(S, rows)]
                cov = cov + lever[rows] @ of_constants @ lever[rows].T
            if rows.size:
                wald[j] = delta @ np.linalg.solve(cov, delta)
            deltas.append(delta)
            covs.append(cov)
        return Given(constants, wald, self.df, deltas, covs)


def _expected_root(x: Floats) -> Floats:
    """Shape (J, 2, 2): Cholesky root of the covariance of (a, d) that one answer by θ ~ N(0, 1) leaves."""
    grid = Grid.spanning()
    p = expit(np.multiply.outer(x[:, 0], grid.nodes) + x[:, 1, None])
    weight = p * (1 - p) * np.exp(grid.log_weights())
    powers = np.stack([grid.nodes**k for k in range(3)])
    one, first, second = (weight @ powers.T).T
    information = np.stack([[second, first], [first, one]]).transpose(2, 0, 1)
    return np.linalg.cholesky(np.linalg.inv(information))
