"""The equations that items without DIF satisfy between groups, and what anchors say of every item.

Belongs here: constants between the groups' scales, and each item's differences with their errors, given the anchors;
wald.py has the model. Does not belong here: which items are anchors, and how much a difference matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.special import chdtrc

from irt_assets.psychometrics.core.arrays import Floats, Ints, Mask
from irt_assets.psychometrics.core.covariances import block_diagonal
from irt_assets.psychometrics.core.curves import slope_at
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.models import Calibration
from irt_assets.psychometrics.core.quadrature import Grid

_MOST_STEPS, _STILL = 50, 1e-5


@dataclass(frozen=True)
class Given:
    """What anchors say: constants (F, 2) = (A, B); wald (J,); delta, a list of the items' differences.

    `joint`: of each comparable item the covariance of (a, d in the reference, its differences, A_1, B_1, A_2, …).
    """

    constants: Floats
    wald: Floats
    df: Ints
    delta: list[Floats]
    joint: list[Floats]

    @property
    def p(self) -> Floats:
        return np.where(self.df > 0, chdtrc(np.maximum(self.df, 1), np.maximum(self.wald, 0)), np.nan)


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
    df: Ints

    @classmethod
    def of(cls, fits: Sequence[Calibration], groups: Sequence[str]) -> Differences:
        common = not fits[0].item_model.own_slopes
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
        """Position of each row's parameter in (a_1, d_1, a_2, d_2, …)."""
        return 2 * self.item + self.parameter

    def residuals(self, x: Floats, constants: Floats) -> Floats:
        """f(x; A, B), shape (R,), linear in x."""
        a_ref, d_ref = x[0, self.item, 0], x[0, self.item, 1]
        A, B = constants[self.group].T
        expected = np.where(self.parameter == 0, A * a_ref, d_ref + B * a_ref)
        return x[1 + self.group, self.item, self.parameter] - expected

    def covariance(self, constants: Floats) -> Floats:
        """Cov f(x), shape (R, R)."""
        return self._with_spread(constants)[0]

    def _with_spread(self, constants: Floats) -> tuple[Floats, Floats]:
        """Cov f(x), shape (R, R), and the covariance of f(x) with the reference's estimates, shape (R, 2J)."""
        A, B = constants[self.group].T
        own, slope = np.where(self.parameter == 0, -A, -1.0)[:, None], np.where(self.parameter == 1, -B, 0.0)[:, None]

        def through(matrix: Floats) -> Floats:
            """∂f/∂x_reference @ matrix, (2J, …) to (R, …)."""
            out: Floats = own * matrix[self._place]
            out += slope * matrix[2 * self.item]
            return out

        spread = through(self.cov[0])
        V = through(np.ascontiguousarray(spread.T))
        for g, rows in self._rows_of_focal:
            V[np.ix_(rows, rows)] += self.cov[g][np.ix_(self._place[rows], self._place[rows])]
        return V, spread

    @property
    def _rows_of_focal(self) -> list[tuple[int, npt.NDArray[np.intp]]]:
        """Each focal group's place among the groups, and its rows: ∂f/∂x of its own estimates is 1 there."""
        return [(1 + f, np.flatnonzero(self.group == f)) for f in range(self.n_focal)]

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

    def given(self, is_anchor: Mask, near: Given | None = None) -> Given:
        """Constants by the anchors, and each item's differences given the (other) anchors.

        `near`: the estimate with other anchors, to start from.
        """
        S = is_anchor[self.item]
        missing = np.setdiff1d(np.arange(self.n_focal), self.group[S])
        if missing.size or is_anchor.sum() < 2:
            raise PsychometricsError(
                f"{int(is_anchor.sum())} anchors hold the groups' scales together, in every pair of groups at least 2"
                f" are needed. Give other anchor items, or compare groups that answered the same items"
            )
        try:
            rough = self._solved(S, self.medians() if near is None else near.constants, self.x)
            smooth = self._with_errors_at(np.where(is_anchor[:, None], rough[1], self.x))
            return smooth._tested(S, *smooth._solved(S, *rough))
        except np.linalg.LinAlgError as error:
            raise PsychometricsError(
                f"the errors of groups {', '.join(self.groups)} do not determine their differences ({error}). Leave"
                f" out the group with the fewest answers"
            ) from error

    def _solved(self, S: Mask, constants: Floats, xi: Floats) -> tuple[Floats, Floats]:
        """Constants and ξ by the rows S, from a start."""
        for _ in range(_MOST_STEPS):
            V, spread = self._with_spread(constants)
            root = cho_factor(V[np.ix_(S, S)], overwrite_a=True, check_finite=False)
            X = self.by_constants(xi)[S]
            e = self.residuals(self.x, constants)[S]
            solved = cho_solve(root, np.column_stack([X, e]), check_finite=False)
            VX, Ve = solved[:, :-1], solved[:, -1]
            step: Floats = -np.linalg.solve(X.T @ VX, X.T @ Ve)
            pull = np.zeros(len(S))
            pull[S] = Ve + VX @ step
            pulls = [spread.T @ pull]
            for g, rows in self._rows_of_focal:
                pulls.append(self.cov[g][:, self._place[rows]] @ pull[rows])
            xi = self.x - np.stack(pulls).reshape(self.x.shape)
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

    def _tested(self, S: Mask, constants: Floats, xi: Floats) -> Given:
        """Each item's difference. With e = f(x) and
        W = V_SS⁻¹ − V_SS⁻¹X(XᵀV_SS⁻¹X)⁻¹XᵀV_SS⁻¹ over the anchors' rows S, an anchor j differs by (W_jj)⁻¹(We)_j with
        covariance (W_jj)⁻¹, which is what its deletion gives (Cook & Weisberg 1982), and another item by e_j − V_jS
        V_SS⁻¹ e_S, whose covariance has the error of the constants, too."""
        V, spread = self._with_spread(constants)
        X, e = self.by_constants(xi), self.residuals(self.x, constants)
        inverse = cho_solve(cho_factor(V[np.ix_(S, S)], check_finite=False), np.eye(int(S.sum())), check_finite=False)
        VX = inverse @ X[S]
        of_constants = np.linalg.inv(X[S].T @ VX)
        W = inverse - VX @ of_constants @ VX.T
        weighted = W @ e[S]
        others = ~S
        foreseen = V[np.ix_(others, S)] @ inverse
        rest = e[others] - foreseen @ e[S]
        lever = X[others] - foreseen @ X[S]
        # with the reference's estimates
        constants_with = -of_constants @ (VX.T @ spread[S])
        weighted_with = W @ spread[S]
        rest_with = spread[others] - foreseen @ spread[S] + lever @ constants_with
        # of each row, its place among the anchors' or among the others'
        place = np.where(S, np.cumsum(S), np.cumsum(others)) - 1
        free = slice(1, None, 2) if self.common_slope else slice(None)
        wald, deltas, joints = np.full(len(self.df), np.nan), list[Floats](), list[Floats]()
        for j in range(len(self.df)):
            rows, ad = np.flatnonzero(self.item == j), slice(2 * j, 2 * j + 2)
            own, k = place[rows], rows.size
            if k and S[rows[0]]:
                cov = np.linalg.inv(W[np.ix_(own, own)])
                delta = cov @ weighted[own]
                with_reference, with_constants = cov @ weighted_with[own, ad], np.zeros((k, X.shape[1]))
            else:
                delta = rest[own]
                cov = V[np.ix_(rows, rows)] - foreseen[own] @ V[np.ix_(S, rows)]
                cov = cov + lever[own] @ of_constants @ lever[own].T
                with_reference, with_constants = rest_with[own, ad], lever[own] @ of_constants
            if k:
                wald[j] = delta @ np.linalg.solve(cov, delta)
            joint = np.zeros((2 + k + 2 * self.n_focal,) * 2)
            head, middle, tail = joint[:2], joint[2 : 2 + k], joint[2 + k :][free]
            head[:, :2], middle[:, 2 : 2 + k] = self.cov[0][ad, ad], cov
            head[:, 2 : 2 + k], middle[:, :2] = with_reference.T, with_reference
            tail[:, 2 + k :][:, free] = of_constants
            tail[:, :2], head[:, 2 + k :][:, free] = constants_with[:, ad], constants_with[:, ad].T
            tail[:, 2 : 2 + k], middle[:, 2 + k :][:, free] = with_constants.T, with_constants
            deltas.append(delta)
            joints.append(joint)
        return Given(constants, wald, self.df, deltas, joints)


def _expected_root(x: Floats) -> Floats:
    """Shape (J, 2, 2): Cholesky root of the covariance of (a, d) that one answer by θ ~ N(0, 1) leaves."""
    grid = Grid.spanning()
    weight = slope_at(np.multiply.outer(x[:, 0], grid.nodes) + x[:, 1, None], 0.0) * np.exp(grid.log_weights())
    powers = np.stack([grid.nodes**k for k in range(3)])
    one, first, second = (weight @ powers.T).T
    information = np.stack([[second, first], [first, one]]).transpose(2, 0, 1)
    return np.linalg.cholesky(np.linalg.inv(information))
