"""Item analysis by classical test theory: items, options, scores and forms, without a model.

Does not belong here: statistics that need a fit (`itemfit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.classical import rest_correlation
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_flags import (
    MAX_FACILITY,
    MIN_FACILITY,
    MIN_ITEM_REST,
    MIN_OPTION_SHARE,
    Flags,
    compare_with_keys,
    names_where,
)
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.results import Result, format_value

OUTER_SHARE = 0.27
"""Share of learners in the upper and in the lower group of the discrimination index D (Kelley 1939)."""
MAX_STEPS = 10_000
COUNTS = ("n", "n_items", "max_score")
ABILITY_GROUPS, TRACE_GROUPS = 3, 8
"""Groups of equal size by rest score in which the options' shares are given, and in which they are traced."""


@dataclass(frozen=True)
class Choices:
    """The options that were chosen in the R responses of a `Responses`.

    Attributes
    ----------
    option
        Shape (R,), index into the labels of the response's item; −1 if no choice is known.
    labels
        The options of each of the J items, as text.
    keys
        The right options of each item; empty for items without options.
    """

    option: Ints
    labels: tuple[tuple[str, ...], ...]
    keys: tuple[frozenset[str], ...]


@dataclass(frozen=True, eq=False, repr=False)
class OptionStatistics(Result):
    """Statistics of the M options, or scores, of all items; a row for each.

    Attributes
    ----------
    item_ids, options
        The item and the option of each row.
    is_key
        Shape (M,), whether the option is right; of scored items, whether the score is the maximum.
    n, share
        Shape (M,), number of learners who chose the option, and their share of the item's learners.
    mean_rest
        Shape (M,), mean rest score of these learners.
    rest_correlation
        Shape (M,), correlation of choosing the option with the rest score.
    group_shares
        Shape (M, 3), share of the option in the lower, middle and upper third of the item's learners by rest score.
    trace_n, trace_rest, trace
        Shape (M, 8), groups of (nearly) equal size of the item's learners by rest score: their number, their mean rest
        score and the share of the option. Equal rest scores are in one group, so groups may be empty (NaN).
    """

    item_ids: tuple[str, ...]
    options: tuple[str, ...]
    is_key: Mask
    n: Ints
    share: Floats
    mean_rest: Floats
    rest_correlation: Floats
    group_shares: Floats
    trace_n: Ints
    trace_rest: Floats
    trace: Floats
    frame_kind: str | None = None

    def _title(self) -> str:
        return f"{len(self.options):,} options of {len(set(self.item_ids)):,} items"

    def _columns(self) -> dict[str, Any]:
        groups = dict(zip(("lower", "middle", "upper"), self.group_shares.T, strict=True))
        return {
            "item": self.item_ids,
            "option": self.options,
            "key": self.is_key,
            "n": self.n,
            "share": self.share,
            "mean_rest": self.mean_rest,
            "rest_correlation": self.rest_correlation,
            **groups,
        }


@dataclass(frozen=True, eq=False, repr=False)
class FormStatistics(Result):
    """Statistics of the sum scores of F forms that all their learners answered completely.

    Attributes
    ----------
    forms
        Names of the forms.
    n, n_items, max_score
        Shape (F,), learners, items and the highest possible score.
    mean, sd, median, skewness, kurtosis
        Shape (F,), moments of the sum scores. Skewness and excess kurtosis are the unbiased ones under normality (G₁
        and G₂ of Joanes & Gill 1998).
    alpha, alpha_low, alpha_high
        Shape (F,), Cronbach's α and its 95 % interval (Feldt 1965).
    lambda2
        Shape (F,), Guttman's (1945) λ₂ of the raw scores.
    omega
        Shape (F,), McDonald's (1999) ω of one factor, for standardised items; the factor minimises the squared residual
        correlations (Harman & Jones 1966). NaN if an item has no variance.
    split_half
        Shape (F,), correlation of the odd and the even items' scores, stepped up by Spearman–Brown.
    sem
        Shape (F,), standard error of measurement SD·√(1 − α).
    """

    forms: tuple[str, ...]
    n: Ints
    n_items: Ints
    max_score: Ints
    mean: Floats
    sd: Floats
    median: Floats
    skewness: Floats
    kurtosis: Floats
    alpha: Floats
    alpha_low: Floats
    alpha_high: Floats
    lambda2: Floats
    omega: Floats
    split_half: Floats
    sem: Floats
    frame_kind: str | None = None

    def _title(self) -> str:
        return f"{len(self.forms):,} form{'' if len(self.forms) == 1 else 's'}"

    def _columns(self) -> dict[str, Any]:
        return {"form": self.forms, **{field.name: getattr(self, field.name) for field in fields(self)[1:-1]}}


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
        Shape (J,), Cronbach's α of the form without the item; NaN if the item is not in exactly one complete form.
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
    forms: FormStatistics
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
        if len(self.forms.forms) != 1:
            return {"complete forms": f"{len(self.forms.forms):,}"}
        form = self.forms
        alpha, low, high = (format_value(values[0]) for values in (form.alpha, form.alpha_low, form.alpha_high))
        return {
            "learners": format_value(form.n[0]),
            "mean": format_value(form.mean[0], 2),
            "SD": format_value(form.sd[0], 2),
            "α": f"{alpha} ({low} … {high})",
            "SEM": format_value(form.sem[0], 2),
        }

    def _columns(self) -> dict[str, Any]:
        names = ("n", "omitted", "not_reached", "mean", "sd", "facility", "facility_se", "item_rest", "biserial")
        more = ("alpha_if_deleted", "lower", "upper", "discrimination")
        return {"item": self.item_ids, **{name: getattr(self, name) for name in (*names, *more)}}


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
    x, J = responses, responses.n_items
    for name, values, size in (
        ("forms", forms, x.n_persons),
        ("omitted", omitted, x.n_responses),
        ("not_reached", not_reached, x.n_responses),
        ("choices.option", None if choices is None else choices.option, x.n_responses),
        ("rest", rest, x.n_responses),
    ):
        if values is not None and len(values) != size:
            raise PsychometricsError(f"{name} must have {size} entries, got {len(values)}")
    names, form = np.unique(["all"] * x.n_persons if forms is None else list(forms), return_inverse=True)
    item = x.item.astype(np.int64)
    complete = _complete_forms(x, form, len(names))
    own_rest, total = _rest_scores(x, form, complete & (len(names) == 1))
    rest = own_rest if rest is None else rest
    most = (x.n_categories - 1).astype(float)
    score = x.score.astype(float)

    def by_item(weights: Floats | Mask | None = None) -> Floats:
        return np.bincount(x.item, weights=weights, minlength=J).astype(float)

    n = by_item().astype(np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = by_item(score) / n
        sd = np.sqrt((by_item((score - mean[x.item]) ** 2)) / (n - 1))
    has_rest = ~np.isnan(rest)
    item_rest = _correlations(item[has_rest], score[has_rest], rest[has_rest], J)
    outer = _outer_groups(x, form, total)
    with np.errstate(divide="ignore", invalid="ignore"):
        lower, upper = (by_item(weight * score) / by_item(weight) / most for weight in outer)
    matrices = {k: _matrix(x, form == k) for k in np.flatnonzero(complete).tolist()}
    return ItemAnalysis(
        x.item_ids,
        n,
        np.zeros(J, int) if omitted is None else by_item(omitted).astype(int),
        np.zeros(J, int) if not_reached is None else by_item(not_reached).astype(int),
        mean,
        sd,
        mean / most,
        sd / most / np.sqrt(n),
        item_rest,
        np.where(most == 1, _biserial(item_rest, mean), np.nan),
        _alphas_if_deleted(matrices, J),
        lower,
        upper,
        rest,
        _option_statistics(x, choices, rest),
        _form_statistics([(str(names[k]), items, scores, most) for k, (items, scores) in matrices.items()]),
        x.frame_kind,
    )


def _complete_forms(x: Responses, form: Ints, n_forms: int) -> Mask:
    """Whether all persons of each form who have a response have one on each item of the form, shape (F,)."""
    seen = np.zeros((n_forms, x.n_items), dtype=bool)
    seen[form[x.person], x.item] = True
    answers = np.bincount(x.person, minlength=x.n_persons)
    return np.array([not (answers[form == k] % max(seen[k].sum(), 1)).any() for k in range(n_forms)])


def _rest_scores(x: Responses, form: Ints, complete: Mask) -> tuple[Floats, Floats]:
    """The rest score of each response, shape (R,), NaN without another response, and each person's total, shape (N,).

    Totals are sums in the `complete` forms, and otherwise mean shares of the maximum score standardised within the
    form.
    """
    share = x.score / (x.n_categories - 1)[x.item]
    n = np.bincount(x.person, minlength=x.n_persons)
    shares = np.bincount(x.person, share, minlength=x.n_persons)
    with np.errstate(divide="ignore", invalid="ignore"):
        proportion = shares / n
        rest = (shares[x.person] - share) / (n[x.person] - 1)
    total = np.bincount(x.person, x.score, minlength=x.n_persons).astype(float)
    rest = np.where(complete[form[x.person]], np.where(n[x.person] > 1, total[x.person] - x.score, np.nan), rest)
    for k in np.flatnonzero(~complete):
        persons, rows = form == k, form[x.person] == k
        centre, spread = np.nanmean(proportion[persons]), np.nanstd(proportion[persons]) or np.nan
        total[persons] = (proportion[persons] - centre) / spread
        rest[rows] = (rest[rows] - centre) / spread
    return rest, total


def _correlations(group: Ints, x: Floats, rest: Floats, n_groups: int) -> Floats:
    """Correlation of x with the rest score within each group, shape (G,)."""
    centred = rest - np.bincount(group, rest, n_groups)[group] / np.bincount(group, minlength=n_groups)[group]
    sums = [np.bincount(group, values, n_groups) for values in (np.ones_like(x), x, centred, x * centred, centred**2)]
    return rest_correlation(np.stack(sums, axis=1), np.bincount(group, x**2, n_groups).astype(float))


def _biserial(correlation: Floats, p: Floats) -> Floats:
    """The biserial correlation for a point-biserial one, r·√(pq)/φ(Φ⁻¹(p)) (Lord & Novick 1968, eq. 15.9.4)."""
    from scipy.special import ndtri

    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.exp(-(ndtri(p) ** 2) / 2) / np.sqrt(2 * np.pi)
        return correlation * np.sqrt(p * (1 - p)) / density


def _outer_groups(x: Responses, form: Ints, total: Floats) -> tuple[Floats, Floats]:
    """Weights of the responses in the lower and upper 27 % of their form, shape (R,) each, from 0 to 1."""
    answered = np.bincount(x.person, minlength=x.n_persons) > 0
    lower, upper = np.zeros(x.n_persons), np.zeros(x.n_persons)
    for k in np.unique(form):
        persons = np.flatnonzero((form == k) & answered)
        _, group, sizes = np.unique(total[persons], return_inverse=True, return_counts=True)
        quota = OUTER_SHARE * len(persons)
        for weights, ties in ((lower, sizes), (upper, sizes[::-1])):
            part = np.clip((quota - (np.cumsum(ties) - ties)) / ties, 0.0, 1.0)
            weights[persons] = (part if weights is lower else part[::-1])[group]
    return lower[x.person], upper[x.person]


def _matrix(x: Responses, persons: Mask) -> tuple[Ints, Floats]:
    """The items of a complete form, shape (K,), and its scores, shape (n, K)."""
    rows = persons[x.person]
    items = np.unique(x.item[rows]).astype(np.int64)
    answered, place = np.unique(x.person[rows], return_inverse=True)
    scores = np.empty((len(answered), len(items)))
    scores[place, np.searchsorted(items, x.item[rows])] = x.score[rows]
    return items, scores


def _alpha(covariance: Floats) -> float:
    """Cronbach's (1951) α of items with this covariance."""
    k, total = len(covariance), covariance.sum()
    return k / (k - 1) * (1 - np.trace(covariance) / total) if k > 1 and total > 0 else np.nan


def _alphas_if_deleted(matrices: dict[int, tuple[Ints, Floats]], n_items: int) -> Floats:
    out, uses = np.full(n_items, np.nan), np.zeros(n_items, dtype=int)
    for items, scores in matrices.values():
        if len(scores) < 2:
            continue
        covariance = np.atleast_2d(np.cov(scores, rowvar=False))
        k, trace, total = len(items), np.trace(covariance), covariance.sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            without = total - 2 * covariance.sum(axis=0) + np.diag(covariance)
            out[items] = (k - 1) / (k - 2) * (1 - (trace - np.diag(covariance)) / without) if k > 2 else np.nan
        uses[items] += 1
    return np.where(uses == 1, out, np.nan)


def _form_statistics(forms: Sequence[tuple[str, Ints, Floats, Floats]]) -> FormStatistics:
    from scipy.special import fdtri

    rows = []
    for _, items, scores, most in forms:
        total, n, k = scores.sum(axis=1), len(scores), len(items)
        covariance = np.atleast_2d(np.cov(scores, rowvar=False)) if n > 1 else np.full((k, k), np.nan)
        variance, alpha = covariance.sum(), _alpha(covariance)
        skewness, kurtosis = _skewness_and_kurtosis(total)
        off = covariance - np.diag(np.diag(covariance))
        odd, even = scores[:, ::2].sum(axis=1), scores[:, 1::2].sum(axis=1)
        df = (n - 1, (n - 1) * (k - 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            lambda2 = (off.sum() + np.sqrt(k / (k - 1) * (off**2).sum())) / variance if k > 1 else np.nan
            halves = np.corrcoef(odd, even)[0, 1] if k > 1 and n > 1 else np.nan
            low, high = (1 - (1 - alpha) * fdtri(*df, q) for q in (0.975, 0.025))
            sem = np.sqrt(variance * (1 - alpha))
        rows.append(
            {
                "n": n,
                "n_items": k,
                "max_score": int(most[items].sum()),
                "mean": total.mean(),
                "sd": np.sqrt(variance),
                "median": np.median(total),
                "skewness": skewness,
                "kurtosis": kurtosis,
                "alpha": alpha,
                "alpha_low": low,
                "alpha_high": high,
                "lambda2": lambda2,
                "omega": _omega(covariance),
                "split_half": 2 * halves / (1 + halves),
                "sem": sem,
            }
        )
    columns: dict[str, Any] = {
        field.name: np.array([row[field.name] for row in rows], dtype=np.int64 if field.name in COUNTS else float)
        for field in fields(FormStatistics)[1:-1]
    }
    return FormStatistics(tuple(name for name, *_ in forms), **columns)


def _skewness_and_kurtosis(x: Floats) -> tuple[float, float]:
    """G₁ and G₂ of Joanes & Gill (1998); NaN for fewer than 4 values or without variance."""
    n, deviation = len(x), x - x.mean()
    m2, m3, m4 = ((deviation**power).mean() for power in (2, 3, 4))
    if n < 4 or m2 == 0:
        return np.nan, np.nan
    g1, g2 = m3 / m2**1.5, m4 / m2**2 - 3
    return g1 * np.sqrt(n * (n - 1)) / (n - 2), (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * g2 + 6)


def _omega(covariance: Floats) -> float:
    """ω of one factor of standardised items: 1 − the sum of the items' unique variances over the sum of correlations.

    The loadings minimise the squared residual correlations: each is in turn the least squares solution given the
    others, and the sum of squares falls at each step (Harman & Jones 1966).
    """
    sd = np.sqrt(np.diag(covariance))
    if len(sd) < 3 or not (sd > 0).all():
        return np.nan
    correlation = covariance / np.outer(sd, sd)
    off = correlation - np.eye(len(sd))
    values, vectors = np.linalg.eigh(correlation)
    loadings = vectors[:, -1] * np.sqrt(values[-1])
    for _ in range(MAX_STEPS):
        before, squares = loadings.copy(), loadings @ loadings
        for j in range(len(loadings)):
            rest = squares - loadings[j] ** 2
            loadings[j] = np.clip(off[j] @ loadings / rest, -1.0, 1.0)
            squares = rest + loadings[j] ** 2
        if np.abs(loadings - before).max() < 1e-10:
            break
    return float(1 - (1 - loadings**2).sum() / correlation.sum())


def _option_statistics(x: Responses, choices: Choices | None, rest: Floats) -> OptionStatistics:
    """The rows of all items' options or, for an item without options, of its scores."""
    sizes = x.n_categories
    labels = [tuple(map(str, range(size))) for size in sizes] if choices is None else list(choices.labels)
    keys = [frozenset((str(size - 1),)) for size in sizes]
    code = x.score.astype(np.int64)
    if choices is not None:
        has_options = np.array([bool(found) for found in choices.labels])
        code = np.where(has_options[x.item], choices.option, code)
        for j in np.flatnonzero(~has_options):
            labels[j] = tuple(map(str, range(sizes[j])))
        keys = [key if has else own for key, has, own in zip(choices.keys, has_options, keys, strict=True)]
    lengths = np.array([len(found) for found in labels])
    start, M = np.cumsum(lengths) - lengths, int(lengths.sum())
    known = (code >= 0) & ~np.isnan(rest)
    row, item, rest = (start[x.item] + code)[known], x.item[known].astype(np.int64), rest[known]
    n, of_item = np.bincount(row, minlength=M), np.bincount(item, minlength=x.n_items)
    owner = np.repeat(np.arange(x.n_items), lengths)
    with np.errstate(divide="ignore", invalid="ignore"):
        share, mean_rest = n / of_item[owner], np.bincount(row, rest, M) / n
        mean, square = np.bincount(item, rest, x.n_items) / of_item, np.bincount(item, rest**2, x.n_items) / of_item
        spread = np.sqrt(square - mean**2)[owner]
        correlation = np.where(n > 0, (mean_rest - mean[owner]) / spread * np.sqrt(share / (1 - share)), np.nan)

    def by_group(groups: int) -> tuple[Ints, Floats, Floats]:
        """Learners, mean rest score and share of the option in groups by rest score, shape (M, G) each."""
        of_item, of_row = (place * groups + _groups(item, rest, groups) for place in (item, row))
        cells = np.bincount(of_row, minlength=M * groups).reshape(M, groups)
        sums = np.bincount(of_item, minlength=x.n_items * groups).reshape(-1, groups)
        rests = np.bincount(of_item, rest, x.n_items * groups).reshape(-1, groups)
        with np.errstate(divide="ignore", invalid="ignore"):
            return sums[owner], (rests / sums)[owner], cells / sums[owner]

    return OptionStatistics(
        tuple(x.item_ids[j] for j in owner.tolist()),
        tuple(option for found in labels for option in found),
        np.array([option in key for found, key in zip(labels, keys, strict=True) for option in found], dtype=bool),
        n,
        share,
        mean_rest,
        correlation,
        by_group(ABILITY_GROUPS)[2],
        *by_group(TRACE_GROUPS),
        x.frame_kind,
    )


def _groups(item: Ints, rest: Floats, groups: int) -> Ints:
    """The group of its item's learners by rest score to which each response belongs; equal scores share a group."""
    order = np.lexsort((rest, item))
    sizes = np.bincount(item)
    rank = np.arange(len(item)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    new = np.ones(len(item), dtype=bool)
    new[1:] = (np.diff(item[order]) != 0) | (np.diff(rest[order]) != 0)
    same = np.cumsum(new) - 1
    middle = np.empty(len(item))
    middle[order] = (np.bincount(same, rank) / np.bincount(same))[same]
    return np.minimum((middle * groups / sizes[item]).astype(np.int64), groups - 1)
