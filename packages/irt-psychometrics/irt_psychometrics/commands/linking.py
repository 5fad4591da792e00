"""`link`: the constants that put one table of item parameters on the scale of another table."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from irt_psychometrics.commands.output import Report
from irt_psychometrics.commands.parameters import ParameterTable
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.errors import BreakdownError, PsychometricsError
from irt_psychometrics.core.model_families import GPCM, PCM, RASCH, TWO_PL
from irt_psychometrics.core.models import Calibration, Convergence
from irt_psychometrics.core.options import Method
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.linking.criteria import AnchorPairs, solve
from irt_psychometrics.linking.linking import link_to_anchors, match, weight_by_populations
from irt_psychometrics.linking.placement import AnchorLimits, LinkingError

FEW = 5
"""Number of common items below which a moved item cannot be distinguished from the others, and there is a warning."""
_LIMITS = AnchorLimits(min_anchor_responses=1, min_anchors=3, warn_anchor_share=0.0)


@dataclass(frozen=True)
class TableLink:
    """The constants of θ_old = slope·θ_new + intercept, so a_old = a_new/slope and b_old = slope·b_new + intercept.

    Attributes:
        slope, intercept: the constants.
        method: the criterion.
        symmetric: whether curves were compared on both scales.
        rmse: root mean squared difference of the used items' curves after linking, over θ ~ N(0, 1): a probability.
        anchors_used: the items that determine the constants.
        anchors_dropped: item in both tables → the reason why it was not used, a sentence.
        warnings: sentences about weaknesses of the result.
    """

    slope: float
    intercept: float
    method: Method
    symmetric: bool
    rmse: float
    anchors_used: tuple[str, ...]
    anchors_dropped: dict[str, str]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "warnings"}

    def report(self) -> Report:
        """Report on the constants and the dropped items."""
        criterion = f"{self.method}, symmetric" if self.symmetric else self.method
        return [
            f"θ_old = {self.slope:.5f}·θ_new + {self.intercept:.5f}   ({criterion})",
            f"  {len(self.anchors_used)} common items used; their curves differ by {self.rmse:.4f} (RMSE)",
            *(f"  dropped: {item}: {why}" for item, why in self.anchors_dropped.items()),
        ]


def link(
    new: ParameterTable,
    old: ParameterTable,
    *,
    method: Method = "stocking-lord",
    symmetric: bool = False,
    purify: bool = True,
) -> TableLink:
    """Put `new` on the scale of `old` through their common items.

    If both tables have errors, items are weighted by them, and items without errors are left out. Otherwise the
    criteria are the classical, unweighted ones, and items that moved are found with the errors of a calibration with
    500 persons. Fewer than five common items are all used, with a warning. The slope is the ratio of the tables' a if
    the a within each table are equal, as in a Rasch model, or if all errors of a in `new` are 0.

    Parameters
    ----------
    new, old
        The two tables of item parameters.
    method
        "stocking-lord", "haebara", "mean-sigma" or "mean-mean".
    symmetric
        Whether Stocking-Lord and Haebara compare curves on both scales; see `linking.link_to_anchors`.
    purify
        Whether items that moved are left out.

    Returns
    -------
    TableLink
        The constants.

    Raises
    ------
    PsychometricsError
        If no item is common, if the items determine no constants, or if `symmetric` is requested of a method that
        compares no curves.
    """
    known_items = set(new.item_ids)
    common = [item for item in old.item_ids if item in known_items]
    if not common:
        raise PsychometricsError(
            f"{new.path} has no item in common with {old.path}, so their scales cannot be related:"
            f" {some_of(new.item_ids)} here, {some_of(old.item_ids)} there. Are the ids written alike?"
        )
    weighted = new.has_errors and old.has_errors
    fit = _as_calibration(new, common, weighted, equal_slopes=_equal(new.a) and _equal(old.a))
    items = old.with_errors(common, known=weighted)
    known = np.isfinite(items.a_se) & np.isfinite(items.b_se) & (items.b_se > 0)
    why = "gives it no standard errors" if weighted else "puts it far from all abilities"
    unusable = {item: f"{old.path.name} {why}." for item, is_known in zip(common, known, strict=True) if not is_known}
    anchors = old.anchors([item for item in common if item not in unusable], with_errors=weighted)
    pairs, dropped = match(fit, anchors, _LIMITS)
    warnings = []
    if len(common) < FEW:
        warnings.append(
            f"only {len(common)} items are in both tables ({', '.join(common)}): the constants depend on few"
            " items, and items that moved cannot be detected"
        )
    if pairs.size < FEW:
        pairs = weight_by_populations(pairs, fit, symmetric)
        constants = solve(pairs, method, weighted) if pairs.size else None
        if constants is None:
            raise _no_constants(method, pairs)
        slope, intercept, used = constants.slope, constants.intercept, pairs.ids
        rmse = pairs.rmse(slope, intercept)
    else:
        try:
            with BreakdownError.explain(f"{new.path} could not be linked"):
                found = link_to_anchors(fit, anchors, method=method, symmetric=symmetric, purify=purify, limits=_LIMITS)
        except LinkingError as error:
            raise _no_constants(method, pairs) from error
        slope, intercept, rmse = found.slope, found.intercept, found.rmse
        used, dropped = found.anchors_used, found.anchors_dropped
        if len(used) < FEW:
            warnings.append(f"only {len(used)} of {len(common)} common items agree well enough to be used")
    if new.has_errors != old.has_errors:
        lacking = old.path if new.has_errors else new.path
        warnings.append(f"{lacking} has no errors (a_se, b_se), so items are not weighted")
    for table in (new, old) if weighted else ():
        if {*used} & {*table.cov_ab_assumed}:
            warnings.append(f"{table.path} has no covariances (cov_ab): the model's covariances are assumed")
    return TableLink(slope, intercept, method, symmetric, rmse, used, unusable | dropped, tuple(warnings))


def _as_calibration(table: ParameterTable, common: list[str], weighted: bool, *, equal_slopes: bool) -> Calibration:
    """The common items of a table as a fit, with the table's errors or with assumed ones.

    If `equal_slopes`, all slopes are equal and do not describe single items.
    """
    items = table.with_errors(common, known=weighted)
    a, b, a_se, b_se, cov_ab = items.a, items.b, items.a_se, items.b_se, items.cov_ab
    slopes_fixed = equal_slopes or (weighted and not a_se.any())
    if slopes_fixed:
        a_se, cov_ab = np.zeros_like(a_se), np.zeros_like(cov_ab)
    cov = np.zeros((len(common), 2, 2))  # covariance of (a, d), d = −ab, from the covariance of (a, b)
    cov[:, 0, 0] = a_se**2
    cov[:, 0, 1] = cov[:, 1, 0] = -b * a_se**2 - a * cov_ab
    cov[:, 1, 1] = b**2 * a_se**2 + a**2 * b_se**2 + 2 * a * b * cov_ab
    many = np.ones(len(common), dtype=np.int64)
    models = [(RASCH if slopes_fixed else TWO_PL).name] * len(common)
    categories, further = np.full(len(common), 2), None
    for some in items.others:
        categories[some.at] = some.categories
        further = np.full((len(common), len(some.further)), np.nan)
        further[some.at] = some.further.T
        for j in some.at.tolist():
            models[j] = (PCM if slopes_fixed else GPCM).name
    return Calibration(
        item_ids=tuple(common),
        models=tuple(models),
        engine="table",
        engine_version="",
        a=a,
        d=items.d,
        c=items.c,
        cov=cov,
        joint_cov=None,
        n=many,
        n_correct=many,
        flags=((),) * len(common),
        latent_mean=table.mean,
        latent_sd=table.sd,
        n_persons=0,
        convergence=Convergence(True, 0, 0.0, 0.0, 0.0, 0),
        categories=None if further is None else categories,
        further=further,
    )


def _equal(a: Floats) -> bool:
    """Whether there are several items and all have the same discrimination."""
    return a.size > 1 and bool(np.ptp(a) == 0)


def _no_constants(method: Method, pairs: AnchorPairs) -> PsychometricsError:
    return PsychometricsError(
        f"the {method} criterion gives no constants for the {pairs.size} items that can be used"
        f" ({some_of(pairs.ids) or 'none'}): link through more items, or by another --method"
    )
