"""Compute the item analysis of a scale from its judged attempts."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from irt_assets.common.arrays import Floats, finite
from irt_assets.common.wording import natural_order
from irt_assets.item_analysis.answers import complete_form
from irt_assets.item_analysis.forms import Form
from irt_assets.item_analysis.stored import FormRow, ItemRow, OptionRow, RestScore, TracePoint
from irt_assets.responses.eligibility.rules import WarningRules
from irt_psychometrics import ItemParameters, Responses
from irt_psychometrics.classical import Choices, ItemAnalysis, OptionStatistics, analyse_items
from irt_psychometrics.itemfit import Observed
from irt_psychometrics.items import ItemRow as Parameters
from irt_psychometrics.scoring import rest_abilities

MAX_OPTIONS = 20
"""Number of different responses above which an item has no options: they are free text."""
OMITTED = ""
"""Option of learners without a choice. They count in the shares of the real options."""
ITEM_STATISTICS = (
    *("mean", "sd", "facility", "facility_se", "item_rest", "biserial", "alpha_if_deleted", "lower", "upper"),
)
LIMITS = ("min_facility", "max_facility", "min_item_rest", "min_option_share")
"""Rules of the scale, whose names are flags."""
MAX_NOT_REACHED = 0.05
"""Share of the learners who did not reach an item from which it is flagged as speeded; no rule of the scale."""
FORM_STATISTICS = {field.name for field in fields(FormRow)} - {"n", "n_items", "max_score"}
TIMES = (0.5, 0.05, 0.95)


@dataclass(frozen=True)
class Bank:
    """Right options and published parameters of a scale's items, mean and SD of θ, and the rules for flags."""

    keys: Mapping[str, tuple[str, ...]]
    published: Mapping[str, Parameters]
    mean: float
    sd: float
    rules: WarningRules


@dataclass(frozen=True)
class Analysis:
    """The rows of a scale's period, and its answers with their rest scores, in the column `rest`."""

    forms: list[FormRow]
    items: list[ItemRow]
    answers: pd.DataFrame


def analyse(answers: pd.DataFrame, bank: Bank, forms: Mapping[str, Form]) -> Analysis | None:
    """Analyse each form, and all answers, whose `form_id` is empty. Returns None if no answer counts.

    `answers` has the columns of `answers.read_answers`, for one scale. Complete forms are analysed by the sum score.
    Otherwise the rest score is θ from the other items if at least half of the answers have it, and their mean share of
    the maximum score if not.
    """
    if not answers["counted"].any():
        return None
    labels = _labels(answers)
    parts: list[_Part] = []
    for name, of_form in answers.groupby("form"):
        form = forms.get(str(name))
        complete = complete_form(of_form, form.items if form else None)
        counted = of_form[of_form["counted"]] if complete is None else complete
        if len(counted):
            parts.append(_analyse_part(str(name), of_form, counted, labels, bank, form, complete=complete is not None))
    if len(parts) == 1:  # also the analysis of all answers
        whole = replace(parts[0], form_id="")
    else:
        whole = _analyse_part("", answers, answers[answers["counted"]], labels, bank, None, complete=False)
    rows = [*(part for part in parts if part.form_id), whole]
    return Analysis(
        [_form_row(part) for part in rows], [row for part in rows for row in _item_rows(part)], whole.counted
    )


@dataclass(frozen=True)
class _Part:
    """The analysis of a form or of all answers.

    Attributes:
        shown: its answers, including answers that do not count.
        counted: the answers that were analysed, with their rest scores.
        form: the form, if it is known.
        item_flags, option_flags: flags of each item and option, without "speeded".
        max_score: the maximum score of each item.
        labelled: the items with options.
    """

    form_id: str
    shown: pd.DataFrame
    counted: pd.DataFrame
    form: Form | None
    analysis: ItemAnalysis
    item_flags: Sequence[tuple[str, ...]]
    option_flags: Sequence[tuple[str, ...]]
    rest: RestScore
    max_score: Sequence[int]
    labelled: Collection[str]


def _labels(answers: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """The options of the items that have any, in natural order."""
    chosen = answers[answers["counted"] & (answers["max_score"] == 1) & answers["option"].notna()]
    return {
        str(item): tuple(sorted(options, key=natural_order))
        for item, options in chosen.groupby("item")["option"].unique().items()
        if len(options) <= MAX_OPTIONS
    }


def _analyse_part(
    form_id: str,
    shown: pd.DataFrame,
    counted: pd.DataFrame,
    labels: Mapping[str, tuple[str, ...]],
    bank: Bank,
    form: Form | None,
    *,
    complete: bool,
) -> _Part:
    person = counted.groupby(["learner", "form"]).ngroup()
    counted = counted.assign(person=person).sort_values(["person", "item"], ignore_index=True)
    item, ids = pd.factorize(counted["item"], sort=True)
    most = counted.groupby("item")["max_score"].first().to_numpy(int)
    persons = counted.drop_duplicates("person")
    responses = Responses(
        counted["person"].to_numpy(np.int32),
        item.astype(np.int32),
        counted["score"].to_numpy(np.int8),
        len(persons),
        tuple(ids),
        most + 1,
    )
    rest = None if complete else _theta_of_others(responses, bank)
    choices = _choices(counted, responses.item_ids, labels, bank.keys)
    analysis = analyse_items(
        responses,
        choices,
        forms=persons["form"].tolist(),
        omitted=(~counted["answered"] & ~counted["not_reached"]).to_numpy(bool),
        not_reached=counted["not_reached"].to_numpy(bool),
        rest=rest,
    )
    flags = analysis.flags(choices, **{name: getattr(bank.rules, name) for name in LIMITS})
    kind: RestScore = "sum" if complete else "share" if rest is None else "theta"
    counted = counted.assign(rest=analysis.rest)
    return _Part(form_id, shown, counted, form, analysis, *flags, kind, most.tolist(), labels.keys())


def _theta_of_others(responses: Responses, bank: Bank) -> Floats | None:
    """θ from the other items of each response. Returns None if fewer than half of the responses have θ."""
    known = [bank.published.get(name) for name in responses.item_ids]
    if not any(known):
        return None
    rest = rest_abilities(responses, ItemParameters.from_rows(responses.item_ids, known), mean=bank.mean, sd=bank.sd)
    return rest if np.isfinite(rest).mean() >= 0.5 else None


def _choices(
    answers: pd.DataFrame,
    item_ids: Sequence[str],
    labels: Mapping[str, tuple[str, ...]],
    keys: Mapping[str, tuple[str, ...]],
) -> Choices:
    """The options chosen; omissions are one more option. An item without a key in the bank has the options whose
    answers are mostly right."""
    code = {(item, option): k for item, options in labels.items() for k, option in enumerate((*options, OMITTED))}
    chosen = answers["option"].where(answers["answered"], OMITTED)
    right = answers.groupby(["item", "option"])["score"].mean().to_dict()

    def key_of(item: str) -> tuple[str, ...]:
        mostly_right = (option for option in labels.get(item, ()) if right.get((item, option), 0) > 0.5)
        return keys.get(item) or tuple(mostly_right)

    return Choices(
        np.array([code.get(pair, -1) for pair in zip(answers["item"], chosen, strict=True)], np.int64),
        tuple((*labels[item], OMITTED) if item in labels else () for item in item_ids),
        tuple(frozenset(key_of(item)) for item in item_ids),
    )


def _form_row(part: _Part) -> FormRow:
    complete, statistics = part.rest == "sum", part.analysis.forms
    names = [field.name for field in fields(statistics) if field.name in FORM_STATISTICS]
    known: dict[str, Any] = {name: finite(getattr(statistics, name)[0]) for name in names} if complete else {}
    if complete:
        totals = part.counted.groupby("person")["score"].sum().astype(int)
        known["scores"] = tuple(np.bincount(totals, minlength=sum(part.max_score) + 1).tolist())
    return FormRow(
        form_id=part.form_id,
        n=part.counted["learner"].nunique(),
        n_items=len(part.max_score),
        max_score=sum(part.max_score),
        complete=complete,
        source=part.form.source if part.form else "",
        **known,
    )


def _item_rows(part: _Part) -> Iterator[ItemRow]:
    found, shown = part.analysis, part.shown
    options = _options(found.options, part.option_flags)
    by_item = shown.groupby("item")
    presented, unreached, rapid = by_item.size(), by_item["not_reached"].sum(), by_item["rapid"].sum()
    answered = (shown["counted"] & shown["answered"]).groupby(shown["item"]).sum()
    seconds = dict(iter(part.counted[part.counted["answered"]].groupby("item")["seconds"]))
    for j, item in enumerate(found.item_ids):
        known = seconds[item].dropna().to_numpy() if item in seconds else np.empty(0)
        times = np.quantile(known, TIMES).tolist() if known.size else [None] * len(TIMES)
        keys = [option.option for option in options[item] if option.is_key]
        place = part.form.items.get(item) if part.form else None
        values: dict[str, Any] = {name: finite(getattr(found, name)[j]) for name in ITEM_STATISTICS}
        shown_to = max(int(presented.get(item, 0)), int(found.n[j]))
        not_reached = int(found.not_reached[j] if part.rest == "sum" else unreached[item])
        speeded = not_reached >= MAX_NOT_REACHED * shown_to > 0
        yield ItemRow(
            item_id=item,
            form_id=part.form_id,
            position=place.position if place else None,
            max_score=part.max_score[j],
            presented=shown_to,
            n=int(found.n[j]),
            omitted=int(found.omitted[j]),
            not_reached=not_reached,
            **values,
            **dict(zip(("time_median", "time_low", "time_high"), times, strict=True)),
            rapid=float(rapid[item] / max(rapid[item] + answered[item], 1)) if item in rapid else None,
            rest=part.rest,
            key=", ".join(keys) if part.max_score[j] == 1 and keys and item in part.labelled else None,
            flags=(*part.item_flags[j], *["speeded"] * speeded),
            options=options[item],
        )


def _options(found: OptionStatistics, flags: Sequence[tuple[str, ...]]) -> dict[str, tuple[OptionRow, ...]]:
    rows: dict[str, list[OptionRow]] = {}
    for m, item in enumerate(found.item_ids):
        if found.options[m] == OMITTED:
            continue
        groups = np.flatnonzero(found.trace_n[m])
        rest, n, share = found.trace_rest[m, groups], found.trace_n[m, groups], found.trace[m, groups]
        trace = zip(rest, n, share, *Observed(rest, share, n).interval(), strict=True)
        rows.setdefault(item, []).append(
            OptionRow(
                option=found.options[m],
                is_key=bool(found.is_key[m]),
                n=int(found.n[m]),
                share=finite(found.share[m]),
                mean_rest=finite(found.mean_rest[m]),
                rest_correlation=finite(found.rest_correlation[m]),
                thirds=tuple(map(finite, found.group_shares[m])),
                flags=flags[m],
                trace=tuple(
                    TracePoint(rest=float(r), n=int(k), share=float(p), low=float(low), high=float(high))
                    for r, k, p, low, high in trace
                ),
            )
        )
    return {item: tuple(options) for item, options in rows.items()}
