"""Item analysis by classical test theory, without a model: the items, with their options and complete forms.

Does not belong here: statistics that need a fit (`itemfit`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from irt_psychometrics.classical.form_statistics import (
    FormStatistics,
    alphas_if_deleted,
    form_statistics,
)
from irt_psychometrics.classical.item_flags import (
    EQUAL_REST,
    MAX_FACILITY,
    MIN_FACILITY,
    MIN_ITEM_REST,
    MIN_OPTION_SHARE,
    Flags,
    compare_with_keys,
    names_where,
)
from irt_psychometrics.classical.key_evidence import KeyEvidence
from irt_psychometrics.classical.option_statistics import OptionStatistics, option_statistics
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.choices import Choices
from irt_psychometrics.core.classical import correlations_with_rest
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.results import Result, format_value

BLOCK = 2**19
"""Number of responses that are analysed at once."""
OUTER_SHARE = 0.27
"""Share of persons in the upper and in the lower group of the discrimination index D (Kelley 1939)."""


@dataclass(frozen=True, eq=False, repr=False)
class ItemAnalysis(Result):
    """Item statistics of classical test theory, with flags of suspicious items.

    Attributes
    ----------
    item_ids
        The J items.
    n
        Shape (J,), persons with a score, omitted answers included.
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
        complete form of two persons or more.
    lower, upper
        Shape (J,), facility among the 27 % of persons with the lowest and with the highest total scores. Persons with
        equal scores at a border count in part.
    rest
        Shape (R,), the rest score of each response; NaN if it is not known. Empty if it was not kept.
    options
        The options, or the scores of items without choices.
    forms
        Statistics of the complete forms.
    key_evidence
        Item → sequential evidence against the key, for each item with an option above its key (flag `above_key`).
        Answers count in order of time or, if their times are not known, in order of the persons. Empty if rest scores
        were not kept.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> table = {"q1": [*"ABAC"], "q2": [*"DDEE"], "q3": [*"FGFG"]}
    >>> analysis = irt.classical.analyse_items(irt.Responses.from_wide(table, key={"q1": "A", "q2": "D", "q3": "F"}))
    >>> analysis.facility.tolist(), analysis.options.options
    ([0.5, 0.5, 0.5], ('A', 'B', 'C', 'D', 'E', 'F', 'G'))
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
    key_evidence: Mapping[str, KeyEvidence]
    frame_kind: str | None = None

    @property
    def discrimination(self) -> Floats:
        """The index D, `upper` − `lower`, shape (J,)."""
        return self.upper - self.lower

    def flags(
        self,
        *,
        min_facility: float = MIN_FACILITY,
        max_facility: float = MAX_FACILITY,
        min_item_rest: float = MIN_ITEM_REST,
        min_option_share: float = MIN_OPTION_SHARE,
    ) -> Flags:
        """Compare the statistics with limits.

        Parameters
        ----------
        min_facility, max_facility, min_item_rest
            Limits of `facility` and `item_rest`.
        min_option_share
            Smallest share of a wrong option.

        Returns
        -------
        Flags
            Names of the limits that each of the J items and M options breaks. An item has the flag `equals_rest` if its
            item-rest correlation is at least .99, as of a total among the items. A wrong option and its item have the
            flag `above_key` if the option-rest correlation is above 0 and above the key's, and `beats_key` if this is
            certain: 3.3 standard errors above 0, and 2 above the key's (Meng, Rosenthal & Rubin 1992). Scores and
            omissions have no flags.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> analysis = irt.classical.analyse_items(irt.Responses.from_wide({"q1": [1, 1, 0, 1], "q2": [1, 0, 0, 1]}))
        >>> analysis.flags(max_facility=0.7).items
        [('max_facility',), ()]
        """
        options, J = self.options, len(self.item_ids)
        place = {name: j for j, name in enumerate(self.item_ids)}
        item = np.array([place[name] for name in options.item_ids], dtype=np.int64)
        shares = (options.is_choice, options.is_key, options.share, options.rest_correlation)
        of_options = compare_with_keys(item, self.n, *shares, min_option_share)
        of_items = {
            "min_facility": self.facility < min_facility,
            "max_facility": self.facility > max_facility,
            "min_item_rest": self.item_rest < min_item_rest,
            "equals_rest": self.item_rest >= EQUAL_REST,
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
            "persons": format_value(form.n),
            "mean": format_value(form.mean, 2),
            "SD": format_value(form.sd, 2),
            "α": f"{format_value(form.alpha)} ({format_value(form.alpha_low)} … {format_value(form.alpha_high)})",
            "SEM": format_value(form.sem, 2),
        }

    def _columns(self) -> dict[str, Any]:
        names = ("n", "omitted", "not_reached", "mean", "sd", "facility", "facility_se", "item_rest", "biserial")
        more = ("alpha_if_deleted", "lower", "upper", "discrimination")
        columns = {"item": self.item_ids, **{name: getattr(self, name) for name in (*names, *more)}}
        return columns | {"flags": [", ".join(flags) for flags in self.flags().items]}

    def _notes(self) -> list[str]:
        options = zip(self.options.item_ids, self.options.options, self.flags().options, strict=True)
        return [
            f"{item}: option {option} attracts abler persons than the key, beyond chance; check the key."
            for item, option, flags in options
            if "beats_key" in flags
        ]


@np.errstate(divide="ignore", invalid="ignore")  # a statistic of no persons is NaN
def analyse_items(
    responses: Responses,
    choices: Choices | None = None,
    *,
    forms: Sequence[str] | None = None,
    omitted: Mask | None = None,
    not_reached: Mask | None = None,
    rest: Floats | None = None,
    keep_rest: bool = True,
) -> ItemAnalysis:
    """Compute the item statistics of classical test theory.

    The rest score of a single complete form, in which all persons have a score on all items, is the sum of the
    other scores. Otherwise it is the mean share of the maximum score over the other items, standardised within the
    form, so that persons with easier forms do not seem abler.

    Parameters
    ----------
    responses
        R responses of N persons; omitted answers have the score 0.
    choices
        The chosen options. None: the choices that the responses contain, if they were read with a key.
    forms
        N names, the form of each person. None: all persons have the same form.
    omitted, not_reached
        Shape (R,), whether the response was omitted, and whether the person did not reach it. None: neither is known.
    rest
        Shape (R,), rest score of each response that replaces the above, such as θ from the other items
        (`scoring.rest_abilities`); NaN if it is not known.
    keep_rest
        Whether the result contains the rest scores, which take eight bytes a response.

    Returns
    -------
    ItemAnalysis
        The statistics of items, options and complete forms.

    Raises
    ------
    PsychometricsError
        If the lengths of the arguments differ, or `responses` or `choices` have another type.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> table = {"q1": [*"AAAABBBB"], "q2": [*"CCCDDDDC"], "q3": [*"EEEEFFFF"], "q4": [*"GGHGHHHH"]}
    >>> x = irt.Responses.from_wide(table, key={"q1": "B", "q2": "C", "q3": "E", "q4": "G"})
    >>> irt.classical.analyse_items(x).to_frame("pandas").set_index("item")["flags"].to_dict()
    {'q1': 'min_item_rest, above_key', 'q2': '', 'q3': '', 'q4': ''}
    """
    if not isinstance(responses, Responses):
        raise PsychometricsError(
            f"analyse_items needs Responses, got {type(responses).__name__}; Responses.from_wide(table, key=...) reads "
            "a table and keeps the choices"
        )
    choices = responses.choices if choices is None else choices
    if not isinstance(choices, Choices | None):
        raise PsychometricsError(
            f"choices must be Choices, got {type(choices).__name__}; Responses.from_wide(table, key=...) reads a table "
            "and keeps the choices, so that analyse_items needs nothing else"
        )
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
    J, most = x.n_items, (x.n_categories - 1).astype(float)
    names, form = np.unique(["all"] * x.n_persons if forms is None else list(forms), return_inverse=True)
    persons = _person_totals(x)
    complete = [*_complete_forms(x, form, names.tolist(), persons)]
    is_sum = len(names) == len(complete) == 1
    shares = persons.sums if is_sum else persons.shares / persons.n
    centre, spread = _moments_of_forms(shares, form)
    outer = _outer_groups(persons.n > 0, form, shares if is_sum else (shares - centre) / spread)
    all_rest, columns, options = np.full(x.n_responses if keep_rest else 0, np.nan), [], []
    step = max(1, BLOCK * J // max(x.n_responses, 1))
    for first, end in ((first, min(first + step, J)) for first in range(0, J, step)):
        rows = np.flatnonzero((x.item >= first) & (x.item < end))
        person, score = x.person[rows], x.score[rows].astype(float)
        own = Responses(
            person, x.item[rows] - first, x.score[rows], x.n_persons, x.item_ids[first:end], x.n_categories[first:end]
        )
        item, n_items, highest = own.item.astype(np.int64), end - first, most[first:end]
        if rest is not None:
            block_rest = rest[rows]
        elif is_sum:
            block_rest = np.where(persons.n[person] > 1, persons.sums[person] - score, np.nan)
        else:
            others = (persons.shares[person] - score / highest[item]) / (persons.n[person] - 1)
            block_rest = (others - centre[person]) / spread[person]
        if keep_rest:
            all_rest[rows] = block_rest
        has_rest = ~np.isnan(block_rest)

        def by_item(weights: Floats | Mask | None = None, item: Ints = item, n_items: int = n_items) -> Floats:
            return np.bincount(item, weights=weights, minlength=n_items).astype(float)

        n = by_item()
        mean = by_item(score) / n
        sd = np.sqrt(by_item((score - mean[item]) ** 2) / (n - 1))
        item_rest = correlations_with_rest(item[has_rest], score[has_rest], block_rest[has_rest], n_items)
        lower, upper = (by_item(weight[person] * score) / by_item(weight[person]) / highest for weight in outer)
        counts = (np.zeros(n_items) if mask is None else by_item(mask[rows]) for mask in (omitted, not_reached))
        columns.append((n, *counts, mean, sd, item_rest, lower, upper))
        part = choices and Choices(choices.option[rows], choices.labels[first:end], choices.keys[first:end])
        options.append(option_statistics(own, part, block_rest))
    n, n_omitted, n_not_reached, mean, sd, item_rest, lower, upper = map(np.concatenate, zip(*columns, strict=True))
    alpha_if_deleted, uses, of_forms = np.full(J, np.nan), np.zeros(J), []
    for name, items, covariance, totals in complete:
        of_forms.append(form_statistics(name, totals, covariance, int(most[items].sum()), x.frame_kind))
        if len(totals) > 1:
            alpha_if_deleted[items] = alphas_if_deleted(covariance)
            uses[items] += 1
    analysis = ItemAnalysis(
        x.item_ids,
        n.astype(np.int64),
        n_omitted.astype(int),
        n_not_reached.astype(int),
        mean,
        sd,
        mean / most,
        sd / most / np.sqrt(n),
        item_rest,
        np.where(most == 1, _biserial(item_rest, mean), np.nan),
        np.where(uses == 1, alpha_if_deleted, np.nan),
        lower,
        upper,
        all_rest,
        OptionStatistics.join(options, x.frame_kind),
        tuple(of_forms),
        {},
        x.frame_kind,
    )
    flags = analysis.flags()
    suspected = [j for j, names_of_item in enumerate(flags.items) if "above_key" in names_of_item]
    evidence = _key_evidence(x, choices, all_rest, form, suspected) if choices and suspected and keep_rest else {}
    return replace(analysis, options=replace(analysis.options, flags=tuple(flags.options)), key_evidence=evidence)


def _key_evidence(
    x: Responses, choices: Choices, rest: Floats, form: Ints, items: Sequence[int]
) -> dict[str, KeyEvidence]:
    """Return the evidence against the keys of some items, by item."""
    of_form = form[x.person]
    by_form = [own[~np.isnan(own)] for own in (rest[of_form == k] for k in range(form.max(initial=-1) + 1))]
    # a form whose sittings have one answer each has no rest scores
    mean, sd = np.array([(own.mean(), own.std()) if own.size else (np.nan, np.nan) for own in by_form]).T
    z = (rest - mean[of_form]) / sd[of_form]
    found = {}
    for j in items:
        rows = np.flatnonzero(x.item == j)
        if x.at is not None:
            rows = rows[np.argsort(x.at[rows], kind="stable")]
        labels = [*(label or None for label in choices.labels[j]), None]  # an option without a name is an omission
        options = [labels[k] for k in choices.option[rows].tolist()]
        found[x.item_ids[j]] = KeyEvidence.start(choices.keys[j], 0).update(options, z[rows])
    return found


def _person_blocks(x: Responses) -> Iterator[slice]:
    """Yield slices of responses, each with all responses of its persons, so that scratch arrays stay small."""
    step = max(1, BLOCK * x.n_persons // max(x.n_responses, 1))
    starts = np.searchsorted(x.person, np.arange(0, x.n_persons + step, step))
    yield from map(slice, starts[:-1].tolist(), starts[1:].tolist())


class _CompleteForm(NamedTuple):
    """A form: the items (K,), covariance of the scores (K, K), and sums of the persons (n,)."""

    name: str
    items: Ints
    covariance: Floats
    sums: Floats


def _complete_forms(x: Responses, form: Ints, names: Sequence[str], persons: _PersonTotals) -> Iterator[_CompleteForm]:
    """Yield each form if all n persons have a score on all K items."""
    sums = np.zeros((2, len(names) * x.n_items))
    for rows in _person_blocks(x):
        cell = form[x.person[rows]] * x.n_items + x.item[rows]
        sums += [np.bincount(cell, weights, sums.shape[1]) for weights in (None, x.score[rows])]
    for k, name in enumerate(names):
        n, total = sums.reshape(2, len(names), -1)[:, k]
        items, present = np.flatnonzero(n), (form == k) & (persons.n > 0)
        if items.size and n.sum() == items.size * present.sum():
            column, squares = np.cumsum(n > 0) - 1, np.zeros((items.size, items.size))
            for rows in _person_blocks(x):
                of_form = form[x.person[rows]] == k
                person, row = np.unique(x.person[rows][of_form], return_inverse=True)
                away = np.empty((person.size, items.size))
                away[row, column[x.item[rows][of_form]]] = x.score[rows][of_form]
                away -= total[items] / n[items]
                squares += away.T @ away
            yield _CompleteForm(name, items, squares / (present.sum() - 1), persons.sums[present])


class _PersonTotals(NamedTuple):
    """Number of responses, sum of scores and sum of shares of the maximum score of each person, shape (N,)."""

    n: Floats
    sums: Floats
    shares: Floats


def _person_totals(x: Responses) -> _PersonTotals:
    found, most = np.zeros((3, x.n_persons)), x.n_categories - 1
    for rows in _person_blocks(x):
        score = x.score[rows]
        for total, weights in zip(found, (None, score, score / most[x.item[rows]]), strict=True):
            total += np.bincount(x.person[rows], weights, x.n_persons)
    return _PersonTotals(*found)


def _moments_of_forms(shares: Floats, form: Ints) -> tuple[Floats, Floats]:
    """Compute mean and SD of the shares in each person's form, shape (N,) each; NaN instead of an SD of 0."""
    of_forms = [shares[form == k] for k in range(form.max(initial=-1) + 1)]
    centre, spread = (np.array([compute(of_form) for of_form in of_forms])[form] for compute in (np.nanmean, np.nanstd))
    return centre, np.where(spread == 0, np.nan, spread)


def _biserial(correlation: Floats, p: Floats) -> Floats:
    """The biserial correlation for a point-biserial one, r·√(pq)/φ(Φ⁻¹(p)) (Lord & Novick 1968, eq. 15.9.4)."""
    from scipy.special import ndtri

    density = np.exp(-(ndtri(p) ** 2) / 2) / np.sqrt(2 * np.pi)
    return correlation * np.sqrt(p * (1 - p)) / density


def _outer_groups(answered: Mask, form: Ints, total: Floats) -> Floats:
    """Compute the weights, from 0 to 1, of the persons in the lower and upper 27 % of their form, shape (2, N)."""
    weights = np.zeros((2, len(form)))
    for k in np.unique(form):
        persons = np.flatnonzero((form == k) & answered)
        _, group, sizes = np.unique(total[persons], return_inverse=True, return_counts=True)
        lower = np.cumsum(sizes) - sizes
        nearer_the_end = np.stack([lower, len(persons) - lower - sizes])
        weights[:, persons] = np.clip((OUTER_SHARE * len(persons) - nearer_the_end) / sizes, 0.0, 1.0)[:, group]
    return weights
