"""Item analysis by classical test theory, without a model: the items, with their options and complete forms.

Does not belong here: statistics that need a fit (`itemfit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.classical import correlations_with_rest
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.form_statistics import (
    FormStatistics,
    alphas_if_deleted,
    covariance_of,
    form_statistics,
)
from irt_psychometrics.core.item_flags import (
    MAX_FACILITY,
    MIN_FACILITY,
    MIN_ITEM_REST,
    MIN_OPTION_SHARE,
    Flags,
    compare_with_keys,
    names_where,
)
from irt_psychometrics.core.option_statistics import Choices, OptionStatistics, option_statistics
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.results import Result, format_value

OUTER_SHARE = 0.27
"""Share of learners in the upper and in the lower group of the discrimination index D (Kelley 1939)."""


@dataclass(frozen=True, eq=False, repr=False)
class ItemAnalysis(Result):
    """Item statistics of classical test theory.

    Attributes
    ----------
    item_ids
        The J items.
    n
        Shape (J,), learners with a score, omitted answers included.
    omitted, not_reached
        Shape (J,), how many of them omitted the item, and how many of these did not reach it.
    mean, sd
        Shape (J,), mean and standard deviation of the scores.
    facility, facility_se
        Shape (J,), the mean as a share of the maximum score (proportion correct), and its standard error.
    item_rest
        Shape (J,), correlation of the item's score with the rest score, in [−1, 1].
    biserial
        Shape (J,), biserial form of `item_rest`; NaN for items with more than two scores.
    alpha_if_deleted
        Shape (J,), Cronbach's α of the form without the item; NaN if the item is not in exactly one
        complete form of two learners or more.
    lower, upper
        Shape (J,), facility among the 27 % of learners with the lowest and with the highest total scores. Learners with
        equal scores at a border count in part.
    rest
        Shape (R,), the rest score of each response; NaN if it is not known.
    options
        The options, or the scores of items without choices.
    forms
        Statistics of the complete forms.
    """

    item_ids: tuple[str, ...]
    n: Ints
    omitted: Ints
    not_reached: Ints
    mean: Floats
    sd: Floats
    facility: Floats
    facility_se: Floats
    item_rest: Floats
    biserial: Floats
    alpha_if_deleted: Floats
    lower: Floats
    upper: Floats
    rest: Floats
    options: OptionStatistics
    forms: tuple[FormStatistics, ...]
    frame_kind: str | None = None

    @property
    def discrimination(self) -> Floats:
        """The index D, `upper` − `lower`, shape (J,)."""
        return self.upper - self.lower

    def flags(
        self,
        choices: Choices | None = None,
        *,
        min_facility: float = MIN_FACILITY,
        max_facility: float = MAX_FACILITY,
        min_item_rest: float = MIN_ITEM_REST,
        min_option_share: float = MIN_OPTION_SHARE,
    ) -> Flags:
        """Compare the statistics with limits.

        Parameters
        ----------
        choices
            The choices that were analysed. Only their options have flags; an option without a name is an omission.
        min_facility, max_facility, min_item_rest
            Limits of `facility` and `item_rest`.
        min_option_share
            Smallest share of a wrong option.

        Returns
        -------
        Flags
            Names of the limits that each of the J items and M options breaks. A wrong option and its item have the flag
            `above_key` if the option-rest correlation is above 0 and above the key's, and `beats_key` if this is
            certain: 3.3 standard errors above 0, and 2 above the key's (Meng, Rosenthal & Rubin 1992).
        """
        options, J = self.options, len(self.item_ids)
        place = {name: j for j, name in enumerate(self.item_ids)}
        item = np.array([place[name] for name in options.item_ids], dtype=np.int64)
        has_options = np.array([bool(found) for found in choices.labels] if choices else [False] * J)
        named = has_options[item] & (np.array(options.options) != "")
        shares = (named, options.is_key, options.share, options.rest_correlation)
        of_options = compare_with_keys(item, self.n, *shares, min_option_share)
        of_items = {
            "min_facility": self.facility < min_facility,
            "max_facility": self.facility > max_facility,
            "min_item_rest": self.item_rest < min_item_rest,
            **{name: np.bincount(item, of_options[name], J) > 0 for name in ("above_key", "beats_key")},
        }
        return Flags(names_where(of_items), names_where(of_options))

    def _title(self) -> str:
        return f"{len(self.item_ids):,} items"

    def _facts(self) -> dict[str, str]:
        if len(self.forms) != 1:
            return {"complete forms": f"{len(self.forms):,}"}
        (form,) = self.forms
        return {
            "learners": format_value(form.n),
            "mean": format_value(form.mean, 2),
            "SD": format_value(form.sd, 2),
            "α": f"{format_value(form.alpha)} ({format_value(form.alpha_low)} … {format_value(form.alpha_high)})",
            "SEM": format_value(form.sem, 2),
        }

    def _columns(self) -> dict[str, Any]:
        names = ("n", "omitted", "not_reached", "mean", "sd", "facility", "facility_se", "item_rest", "biserial")
        more = ("alpha_if_deleted", "lower", "upper", "discrimination")
        return {"item": self.item_ids, **{name: getattr(self, name) for name in (*names, *more)}}


@np.errstate(divide="ignore", invalid="ignore")  # a statistic of no learners is NaN
def analyse_items(
    responses: Responses,
    choices: Choices | None = None,
    *,
    forms: Sequence[str] | None = None,
    omitted: Mask | None = None,
    not_reached: Mask | None = None,
    rest: Floats | None = None,
) -> ItemAnalysis:
    """Compute the item statistics of classical test theory.

    The rest score of a single complete form, all of whose learners have a score on all of its items, is the sum of the
    other scores. Otherwise it is the mean share of the maximum score over the other items, standardised within the
    form, so that learners of easier forms do not seem abler.

    Parameters
    ----------
    responses
        R responses of N persons; omitted answers have the score 0.
    choices
        The chosen options, if items have any.
    forms
        N names, the form of each person. None: all persons have the same form.
    omitted, not_reached
        Shape (R,), whether the response was omitted, and whether the person did not reach it. None: neither is known.
    rest
        Shape (R,), rest score of each response that replaces the above, such as θ from the other items
        (`scoring.rest_abilities`); NaN if it is not known.

    Returns
    -------
    ItemAnalysis
        The statistics of items, options and complete forms.

    Raises
    ------
    PsychometricsError
        If the lengths of the arguments differ.
    """
    x = responses
    for name, values, size in (
        ("forms", forms, x.n_persons),
        ("omitted", omitted, x.n_responses),
        ("not_reached", not_reached, x.n_responses),
        ("choices.option", None if choices is None else choices.option, x.n_responses),
        ("rest", rest, x.n_responses),
    ):
        if values is not None and len(values) != size:
            raise PsychometricsError(f"{name} must have {size} entries, got {len(values)}")
    item, J, most = x.item.astype(np.int64), x.n_items, (x.n_categories - 1).astype(float)
    names, form = np.unique(["all"] * x.n_persons if forms is None else list(forms), return_inverse=True)
    complete = _complete_forms(x, form, names.tolist())
    own_rest, total = _sums(x) if len(names) == len(complete) == 1 else _standardised_shares(x, form)
    rest = own_rest if rest is None else rest
    score, has_rest = x.score.astype(float), ~np.isnan(rest)

    def by_item(weights: Floats | Mask | None = None) -> Floats:
        return np.bincount(item, weights=weights, minlength=J).astype(float)

    n = by_item()
    mean = by_item(score) / n
    sd = np.sqrt(by_item((score - mean[item]) ** 2) / (n - 1))
    item_rest = correlations_with_rest(item[has_rest], score[has_rest], rest[has_rest], J)
    lower, upper = (by_item(weight * score) / by_item(weight) / most for weight in _outer_groups(x, form, total))
    alpha_if_deleted, uses, of_forms = np.full(J, np.nan), np.zeros(J), []
    for name, (items, scores) in complete.items():
        covariance = covariance_of(scores)
        of_forms.append(form_statistics(name, scores, covariance, int(most[items].sum())))
        if len(scores) > 1:
            alpha_if_deleted[items] = alphas_if_deleted(covariance)
            uses[items] += 1
    return ItemAnalysis(
        x.item_ids,
        n.astype(np.int64),
        np.zeros(J, int) if omitted is None else by_item(omitted).astype(int),
        np.zeros(J, int) if not_reached is None else by_item(not_reached).astype(int),
        mean,
        sd,
        mean / most,
        sd / most / np.sqrt(n),
        item_rest,
        np.where(most == 1, _biserial(item_rest, mean), np.nan),
        np.where(uses == 1, alpha_if_deleted, np.nan),
        lower,
        upper,
        rest,
        option_statistics(x, choices, rest),
        tuple(of_forms),
        x.frame_kind,
    )


def _complete_forms(x: Responses, form: Ints, names: Sequence[str]) -> dict[str, tuple[Ints, Floats]]:
    """The items (K,) and the scores (n, K) of each form all of whose n learners have a score on all of its items."""
    found = {}
    for k, name in enumerate(names):
        rows = form[x.person] == k
        items, column = np.unique(x.item[rows], return_inverse=True)
        persons, row = np.unique(x.person[rows], return_inverse=True)
        if len(items) and len(row) == len(persons) * len(items):
            scores = np.empty((len(persons), len(items)))
            scores[row, column] = x.score[rows]
            found[name] = items, scores
    return found


def _sums(x: Responses) -> tuple[Floats, Floats]:
    """The sum of the other scores of each response (R,), NaN without another response, and each person's sum (N,)."""
    total = np.bincount(x.person, x.score, minlength=x.n_persons).astype(float)
    others = np.bincount(x.person)[x.person] > 1
    return np.where(others, total[x.person] - x.score, np.nan), total


def _standardised_shares(x: Responses, form: Ints) -> tuple[Floats, Floats]:
    """The mean share of the maximum score on the other items (R,), and on all items (N,), standardised in the form."""
    share = x.score / (x.n_categories - 1)[x.item]
    n, shares = (np.bincount(x.person, weights, minlength=x.n_persons) for weights in (None, share))
    total, rest = shares / n, (shares[x.person] - share) / (n[x.person] - 1)
    of_forms = [total[form == k] for k in range(form.max(initial=-1) + 1)]
    centre, spread = (np.array([compute(of_form) for of_form in of_forms])[form] for compute in (np.nanmean, np.nanstd))
    spread[spread == 0] = np.nan
    return (rest - centre[x.person]) / spread[x.person], (total - centre) / spread


def _biserial(correlation: Floats, p: Floats) -> Floats:
    """The biserial correlation for a point-biserial one, r·√(pq)/φ(Φ⁻¹(p)) (Lord & Novick 1968, eq. 15.9.4)."""
    from scipy.special import ndtri

    density = np.exp(-(ndtri(p) ** 2) / 2) / np.sqrt(2 * np.pi)
    return correlation * np.sqrt(p * (1 - p)) / density


def _outer_groups(x: Responses, form: Ints, total: Floats) -> Floats:
    """Weights of the responses in the lower and upper 27 % of their form, shape (2, R), from 0 to 1."""
    answered = np.bincount(x.person, minlength=x.n_persons) > 0
    weights = np.zeros((2, x.n_persons))
    for k in np.unique(form):
        persons = np.flatnonzero((form == k) & answered)
        _, group, sizes = np.unique(total[persons], return_inverse=True, return_counts=True)
        lower = np.cumsum(sizes) - sizes
        nearer_the_end = np.stack([lower, len(persons) - lower - sizes])
        weights[:, persons] = np.clip((OUTER_SHARE * len(persons) - nearer_the_end) / sizes, 0.0, 1.0)[:, group]
    return weights[:, x.person]
