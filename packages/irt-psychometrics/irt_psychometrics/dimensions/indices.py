"""Indices of several dimensions: which share of the scores is general, and whether subscores are worth it.

ω, ECV and determinacy come from the loadings of latent responses, PRMSE from expected scores. Absolute fit is in
`model_fit`, and the comparison with one ability in `comparison`.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.models import spread
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.results import Result, format_p, format_value
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.dimensions.calibration import DimensionsCalibration
from irt_psychometrics.dimensions.comparison import compare_with_one
from irt_psychometrics.dimensions.loadings import communalities, standardised_loadings
from irt_psychometrics.dimensions.margins import Moments
from irt_psychometrics.dimensions.model_fit import form_fit
from irt_psychometrics.dimensions.rotation import rotate
from irt_psychometrics.itemfit.m2 import FormFits, have_mean_scores
from irt_psychometrics.itemfit.model_replicates import require_same_items

_MOST_FORMS = 4
"""Largest number of forms whose fit is tested."""
_GENERAL_ENOUGH = 0.7
"""ω_h from which a total measures above all the general dimension (Reise, Scheines, Widaman & Haviland 2013)."""


@dataclass(frozen=True, eq=False, repr=False)
class Dimensionality(Result):
    """Indices of D dimensions, one row per dimension, and a verdict: is one score enough, or are subscores worth it?

    The items of a dimension are the ones that measure it. ω, ω_h, ECV, H and determinacy are computed from loadings of
    latent responses (Rodriguez, Reise & Haviland 2016): they describe the sum of the items' latent responses. The
    PRMSE (proportional reduction of mean squared error, Haberman 2008) describe sums of scores: how well a score
    predicts the true subscore of a dimension's items, for persons who answer all items.

    Attributes
    ----------
    dimensions
        D names, the primary ones first.
    n_items
        Shape (D,), number of items of each dimension.
    omega
        Shape (D,), share of the variance of the items' sum that comes from all dimensions, 0 … 1.
    omega_h
        Shape (D,), share that comes from this dimension alone, 0 … 1: ω_h of the general dimension, ω_hs of others.
    ecv
        Shape (D,), share of the common variance of all items (explained common variance); the shares sum to 1. NaN if
        dimensions are correlated.
    determinacy
        Shape (D,), correlation of the dimension with its best linear prediction from all latent responses, 0 … 1.
    h
        Shape (D,), replicability of the dimension by its own items (Hancock & Mueller 2001), 0 … 1.
    by_subscore, by_total, by_both
        Shape (D,), PRMSE of the true subscore by the sum of its items, by the total, and by both, 0 … 1. NaN for an
        exploratory fit, whose dimensions have no items of their own, and if scores have no order.
    item_ids
        J names.
    item_ecv
        Shape (J,), the general dimension's share of the item's common variance; NaN if there is not one general
        dimension with specific ones, and for items without parameters.
    puc
        Percentage of uncontaminated correlations, as a share: pairs of items without a common specific dimension. NaN
        like `item_ecv`.
    forms
        M₂ or C₂ of the forms with the most persons.
    likelihood_ratio
        Twice the gain in log-likelihood against one ability. Do not compare it with χ²: see `p`.
    bic_gain
        BIC of one ability minus BIC of several dimensions; above 0, several dimensions fit better.
    p
        p-value of the likelihood ratio by parametric bootstrap under one ability; NaN without `replicates`.
    replicates
        Number of simulated data sets.
    exploratory
        Whether the dimensions were explored. They are then rotated by oblimin.

    References
    ----------
    Rodriguez, A., Reise, S. P., & Haviland, M. G. (2016). Evaluating bifactor models: Calculating and interpreting
    statistical indices. Psychological Methods, 21, 137-150.

    Haberman, S. J. (2008). When can subscores have value? Journal of Educational and Behavioral Statistics, 33,
    204-229.

    Examples
    --------
    >>> import numpy as np
    >>> from irt_psychometrics import Dimensionality
    >>> from irt_psychometrics.itemfit.m2 import FormFits
    >>> one, two = np.array([0.9, 0.8]), np.array([0.85, 0.7])
    >>> found = Dimensionality(
    ...     ("general", "algebra"), np.array([20, 5]), one, two, one, one, one, two, one, one, (), np.zeros(0), 0.9,
    ...     FormFits.from_forms([], []), 40.0, -5.0, float("nan"), 0,
    ... )
    >>> found.verdict
    'One score is enough: no subscore predicts its true subscore better than the total does.'
    """

    dimensions: tuple[str, ...]
    n_items: Ints
    omega: Floats
    omega_h: Floats
    ecv: Floats
    determinacy: Floats
    h: Floats
    by_subscore: Floats
    by_total: Floats
    by_both: Floats
    item_ids: tuple[str, ...]
    item_ecv: Floats
    puc: float
    forms: FormFits
    likelihood_ratio: float
    bic_gain: float
    p: float
    replicates: int
    exploratory: bool = False
    frame_kind: str | None = None

    @property
    def adds_value(self) -> Mask:
        """Whether each subscore predicts its true subscore better than the total does, shape (D,)."""
        return self.by_subscore > self.by_total

    @property
    def verdict(self) -> str:
        """A sentence: whether one score is enough, or which subscores are worth it."""
        if self.exploratory:
            better = "Several dimensions describe" if self.bic_gain > 0 else "One ability describes"
            return f"{better} the answers better by BIC. Fit a bifactor model to see if subscores are worth it."
        useful = [name for name, adds in zip(self.dimensions, self.adds_value, strict=True) if adds]
        if useful:
            return (
                f"Subscores are worth it: those of {some_of(useful)} predict their true subscore better than the total "
                "does."
            )
        if np.isfinite(self.puc) and self.omega_h[0] < _GENERAL_ENOUGH:
            return (
                f"No subscore predicts its true subscore better than the total does, but ω_h of the total is "
                f"{format_value(float(self.omega_h[0]), 2)}, below {_GENERAL_ENOUGH}: it mixes several dimensions."
            )
        return "One score is enough: no subscore predicts its true subscore better than the total does."

    def _title(self) -> str:
        return f"indices of {len(self.dimensions)} dimensions"

    def _facts(self) -> dict[str, str]:
        facts = {"PUC": self.puc, "BIC gain": self.bic_gain, "likelihood ratio": self.likelihood_ratio}
        found = {name: format_value(value, 2) for name, value in facts.items() if np.isfinite(value)}
        return found | ({"p (bootstrap)": format_p(self.p)} if self.replicates else {}) | self.forms._facts()

    def _columns(self) -> dict[str, Any]:
        names = ("omega", "omega_h", "ecv", "determinacy", "h", "by_subscore", "by_total", "by_both", "adds_value")
        return {"dimension": self.dimensions, "items": self.n_items} | {name: getattr(self, name) for name in names}

    def _notes(self) -> list[str]:
        better = "several dimensions" if self.bic_gain > 0 else "one ability"
        bic = f"BIC is lower with {better}, by {format_value(abs(self.bic_gain), 1)}."
        return [self.verdict, bic, *self.forms._notes()]


def dimensionality(
    responses: Responses,
    calibration: DimensionsCalibration,
    *,
    replicates: int = 0,
    random_state: int = 0,
    threads: int | None = None,
    frame_kind: str | None = None,
) -> Dimensionality:
    """Compute the indices of a fit of these responses.

    `replicates` sets of answers with one ability are simulated from `random_state`, and each is fitted twice.

    Raises PsychometricsError if responses and calibration do not have the same items, or for fewer than 0 replicates.
    """
    require_same_items(responses, calibration.item_ids)
    structure, at = calibration.dimensions, np.flatnonzero(calibration.estimated)
    loadings, phi = standardised_loadings(calibration.slopes[at], calibration.correlations), calibration.correlations
    if structure.exploratory:
        loadings, phi = rotate(loadings @ np.linalg.cholesky(phi), "oblimin")
    one = compare_with_one(responses, calibration, replicates=replicates, random_state=random_state, threads=threads)
    measured = structure.measured[at]
    by, forms = np.full((3, len(structure.names)), np.nan), []
    if have_mean_scores(calibration.item_model):
        with suppress(LinAlgError):  # two items with equal answers
            forms = form_fit(responses, calibration, most_forms=_MOST_FORMS)
        if not structure.exploratory:
            by = prmse(*Moments.from_calibration(calibration, at).score_covariances, measured)
    has_general = structure.n_primary == 1 < len(structure.names)
    together = np.bincount(structure.specific[at] + 1)[1:]
    item_ecv = loadings[:, 0] ** 2 / (loadings**2).sum(axis=1)
    return Dimensionality(
        dimensions=structure.names,
        n_items=measured.sum(axis=0),
        **variance_shares(loadings, phi, measured),
        by_subscore=by[0],
        by_total=by[1],
        by_both=by[2],
        item_ids=structure.item_ids,
        item_ecv=spread(item_ecv if has_general else np.full(len(at), np.nan), at, structure.n_items),
        puc=1 - float((together * (together - 1)).sum()) / (len(at) * (len(at) - 1)) if has_general else float("nan"),
        forms=FormFits.from_forms(forms, structure.item_ids),
        likelihood_ratio=one.likelihood_ratio,
        bic_gain=one.bic_gain,
        p=one.p,
        replicates=replicates,
        exploratory=structure.exploratory,
        frame_kind=frame_kind,
    )


def variance_shares(loadings: Floats, correlations: Floats, measured: Mask) -> dict[str, Floats]:
    """Compute ω, ω_h, ECV, determinacy and H of D dimensions, shape (D,) each, named as in `Dimensionality`.

    Arguments are the loadings (J, D), the correlations Φ (D, D) and the mask of each dimension's items (J, D).

    Sources: Reise (2012) and Rodriguez, Reise & Haviland (2016) for ω, ω_h and ECV; Grice (2001) for determinacy;
    Hancock & Mueller (2001) for H.
    """
    common, unique = loadings @ correlations @ loadings.T, 1 - communalities(loadings, correlations)
    items = measured.astype(float)
    explained = np.einsum("jd,jk,kd->d", items, common, items)
    total, squares = explained + unique @ items, (loadings**2).sum(axis=0)
    uncorrelated = np.allclose(correlations, np.eye(len(correlations)))
    with_y = loadings @ correlations
    predicted = np.einsum("jd,jd->d", with_y, np.linalg.solve(common + np.diag(unique), with_y))
    replicable = (loadings**2 / (1 - loadings**2)).sum(axis=0)
    return {
        "omega": explained / total,
        "omega_h": (loadings * items).sum(axis=0) ** 2 / total,
        "ecv": squares / squares.sum() if uncorrelated else np.full(len(squares), np.nan),
        "determinacy": np.sqrt(predicted),
        "h": replicable / (1 + replicable),
    }


def prmse(true: Floats, scores: Floats, measured: Mask) -> Floats:
    """Compute PRMSE of D true subscores by subscore, by total and by both, shape (3, D).

    `true` and `scores` (J, J) are covariances of the items' expected and observed scores, `measured` (J, D) is the mask
    of the items in each subscore. The subscore of all items is the total. Source: Haberman (2008).
    """
    out = np.empty((3, measured.shape[1]))
    for k, items in enumerate(measured.T):
        sums = np.stack([items, np.ones(len(items))])
        variance = items @ true @ items
        covariance, observed = sums @ true @ items, sums @ scores @ sums.T
        out[:2, k] = covariance**2 / observed.diagonal() / variance
        out[2, k] = covariance @ np.linalg.lstsq(observed, covariance)[0] / variance
        if items.all():
            out[:, k] = out[1, k]
    return out
