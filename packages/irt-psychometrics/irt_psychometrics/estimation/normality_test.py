"""Score test of normal ability: skewness and kurtosis of θ, tested at a fit that assumes a normal distribution."""

from dataclasses import dataclass

import numpy as np

from irt_psychometrics.core import kernels
from irt_psychometrics.core.arrays import Floats, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.models import Calibration, Flag
from irt_psychometrics.core.priors import Priors
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.marginal import Point, Problem
from irt_psychometrics.estimation.parameter_layout import ParameterLayout
from irt_psychometrics.estimation.response_layout import Counts, ResponseLayout
from irt_psychometrics.estimation.standard_errors import scaled_inverse


@dataclass(frozen=True)
class Normality:
    """Result of a score test of θ ~ N(0, 1) against non-zero skewness γ₁ or excess kurtosis γ₂.

    Attributes
    ----------
    statistic
        χ² with 2 degrees of freedom if θ is normal and the item model is right.
    p
        Probability of a statistic at least this large under that assumption.
    skewness_z, kurtosis_z
        One-step estimates of γ₁ and γ₂ divided by their standard errors, each with the other and the items' parameters
        free. Their signs show the direction. The estimates themselves are not given, because they hold only near 0.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> slopes = {"item": ["q1", "q2", "q3", "q4"], "a": [1, 2, 1, 2], "b": [-1, 0, 0, 1]}
    >>> items = irt.ItemParameters.from_frame(slopes)
    >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> from irt_psychometrics.estimation import normality
    >>> 0 <= normality(x, irt.fit(x, "2pl").calibration).p <= 1
    True
    """

    statistic: float
    p: float
    skewness_z: float
    kurtosis_z: float


def normality(responses: Responses, calibration: Calibration, *, threads: int | None = None) -> Normality:
    """Test the normal distribution of θ that a calibration assumed.

    Parameters
    ----------
    responses
        The responses that were calibrated.
    calibration
        A fit of one population without anchors, by maximum likelihood or to the posterior mode, with θ normal. It needs
        a joint covariance, because the test uses a matrix of the same size.
    threads
        Number of threads. None: all processors.

    Returns
    -------
    Normality
        The statistic, its p-value, and the direction of the deviation.

    Raises
    ------
    PsychometricsError
        If the calibration has several populations, anchors, fixed slopes, or no joint covariance.

    Notes
    -----
    The alternative is the Gram-Charlier density φ(θ)·(1 + γ₁·He₃(θ)/6 + γ₂·He₄(θ)/24) (Kendall & Stuart 1977, section
    6.17), whose log has the derivatives He₃/6 and He₄/24 at 0. The score is their mean given the answers (Fisher's
    identity). Its variance is their information minus the part that the items' parameters can explain (Rao 1948). The
    information of γ₁ and γ₂ is the sum of squared scores, which stays positive if θ is far from normal. The information
    shared with the items is the observed one (Louis 1982). The items' own information comes from the fit's errors, so
    nothing is fitted and six E-steps suffice (with guessing, the items' information is computed again).

    If θ is far from normal, these are not consistent, and the remaining variance may not be positive. The items'
    parameters then count as known, which makes the statistic smaller.

    Guessing under a model without c looks like skewness, and so do dependent answers. A rejection therefore concerns
    the normal distribution together with the item model.

    References
    ----------
    Kendall, M. & Stuart, A. (1977). The advanced theory of statistics, vol. 1 (4th ed.). Griffin.
    Rao, C. R. (1948). Large sample tests of statistical hypotheses concerning several parameters.
    Louis, T. A. (1982). Finding the observed information matrix when using the EM algorithm. JRSS B, 44, 226-233.

    Examples
    --------
    Abilities with two modes are not normal:

    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.estimation import normality
    >>> columns = {"item": [f"q{j}" for j in range(8)], "a": [1.5] * 8, "b": [0.5 * j - 2 for j in range(8)]}
    >>> items = irt.ItemParameters.from_frame(columns)
    >>> x = irt.simulate_responses(items, [-1.5] * 500 + [1.5] * 500, random_state=7)
    >>> found = normality(x, irt.fit(x, "2pl").calibration)
    >>> found.p < 0.001, found.kurtosis_z < 0
    (True, True)
    """
    of = calibration.item_model
    if len(calibration.populations) > 1 or calibration.anchored or of.fixed_slopes:
        raise PsychometricsError("the test of normality needs one population with mean 0 and SD 1, without anchors")
    if calibration.joint_cov is None:
        raise PsychometricsError(
            "the test of normality needs the joint covariance of a fit, and this fit has too many items for it"
        )
    counts = Counts.from_responses(responses, np.ones(responses.n_persons))
    keep = np.isfinite(calibration.a) & counts.estimable(of)
    kept = responses.of_items(keep)
    structure = ParameterLayout.from_model(
        calibration.select(keep).item_model,
        kept.n_items,
        categories=kept.n_categories,
        given_scores=counts.table[keep] > 0,
    )
    full = np.zeros(len(structure.index))
    full[: structure.means.start] = calibration.parameters[: structure.K, keep].ravel()
    data = ResponseLayout.from_responses(kept, rarer=structure.guessing, by_category=not of.logistic)
    at_bound = [Flag.AT_BOUND in flags for flags, part in zip(calibration.flags, keep, strict=True) if part]
    with kernels.runner(threads) as run:
        problem = Problem(data, structure, Grid.symmetric(), run, Priors.from_dict(calibration.priors))
        point = problem.evaluate(full[structure.places])
        scores = _gram_charlier_scores(problem.grid.nodes, np.exp(point.log_weights[0]))
        shared, own = problem.latent_information(point, scores[None])
        covariance = _covariance_of_items(calibration, problem, point, keep, np.array(at_bound))
    score, shared = scores @ point.expected.mass[0], shared[:, 0]
    remaining = own[0] - shared.T @ covariance @ shared
    if np.linalg.eigvalsh(remaining).min() <= 0:
        remaining = own[0]
    estimates = np.linalg.solve(remaining, score)
    statistic = float(score @ estimates)
    z = estimates / np.sqrt(np.diag(np.linalg.inv(remaining)))
    p = float(np.exp(-statistic / 2))  # of χ² with 2 degrees of freedom
    return Normality(statistic, p, float(z[0]), float(z[1]))


def _covariance_of_items(
    calibration: Calibration, problem: Problem, point: Point, keep: Mask, at_bound: Mask
) -> Floats:
    """Covariance of the items' parameters, shape (KJ, KJ), in the order of `ParameterLayout`; 0 for items at a bound.

    It is computed again if the calibration lacks covariances between items of a free parameter, such as logit c.
    """
    s, size = problem.structure, problem.structure.means.start
    at, found = np.full((s.K, s.n_items), -1), np.zeros((size, size))
    in_joint = calibration.places_of_parameters[keep, : s.K].T
    at[: len(in_joint)] = in_joint
    has = at.ravel() >= 0
    if has[s.index[:size] >= 0].all():
        assert calibration.joint_cov is not None
        found[np.ix_(has, has)] = np.nan_to_num(calibration.joint_cov[np.ix_(at[at >= 0], at[at >= 0])])
        return found
    places, free = s.listed[s.listed < size], np.zeros(s.size, dtype=bool)
    used = ~np.tile(at_bound, s.K)[places] & (s.index[places] >= 0)
    free[s.index[places][used]] = True
    columns, own = s.shared_columns(places, free), slice(0, places.size)
    information = columns.add_up(problem.observed_information(point)[own, own])
    found[np.ix_(places, places)] = columns.spread(scaled_inverse(information))
    return found


def _gram_charlier_scores(z: Floats, weights: Floats) -> Floats:
    """He₃/6 and He₄/24 at the nodes, minus their means under the weights, shape (2, Q)."""
    scores = np.stack([(z**3 - 3 * z) / 6, (z**4 - 6 * z**2 + 3) / 24])
    return scores - (scores @ weights)[:, None]
