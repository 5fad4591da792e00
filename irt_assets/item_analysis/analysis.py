"""Compute the item analysis of a scale from its judged attempts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from irt_assets.common.arrays import Floats, finite
from irt_assets.common.wording import natural_order
from irt_assets.item_analysis.answers import complete_form
from irt_assets.item_analysis.stored import FormRow, ItemRow, OptionRow, RestScore, SubscoreRow, TracePoint
from irt_assets.scales.rules import WarningRules
from irt_psychometrics import ItemParameters, PsychometricsError, Responses
from irt_psychometrics.classical import Choices, OptionStatistics, analyse_items, subscores
from irt_psychometrics.items import ItemRow as Parameters
from irt_psychometrics.scoring import rest_abilities

MAX_OPTIONS = 20
"""Number of different responses above which an item has no options: they are free text."""
OMITTED = ""
"""Option of learners without a choice. They count in the shares of the real options."""
ITEM_STATISTICS = (
    *("n", "omitted", "mean", "sd", "facility", "facility_se", "item_rest", "biserial", "alpha_if_deleted"),
    *("lower", "upper"),
)
LIMITS = ("min_facility", "max_facility", "min_item_rest", "min_option_share")
"""Rules of the scale, whose names are flags."""
MAX_NOT_REACHED = 0.05
"""Share of the learners who did not reach an item from which it is flagged as speeded; no rule of the scale."""
TIMES = {"time_median": 0.5, "time_low": 0.05, "time_high": 0.95}
"""Quantiles of the response times."""


@dataclass(frozen=True)
class Bank:
    """Right options, topics and published parameters of a scale's items, mean and SD of θ, and the rules for flags."""

    keys: Mapping[str, tuple[str, ...]]
    topics: Mapping[str, str]
    published: Mapping[str, Parameters]
    mean: float
    sd: float
    rules: WarningRules


@dataclass(frozen=True)
class Analysis:
    """The rows of a form, or of a scale's period, and its answers with their rest scores, in the column `rest`.

    `why` is the reason why there are no rows; empty if there are.
    """

    forms: list[FormRow]
    items: list[ItemRow]
    answers: pd.DataFrame
    why: str = ""


def analyse(answers: pd.DataFrame, bank: Bank, forms: pd.DataFrame) -> Analysis:
    """Analyse each form without its seed answers, and all answers, whose `form_id` is empty.

    `answers` has the columns of `answers.read_answers`, for one scale, and `forms` the columns of `forms.read_forms`.
    Complete forms are analysed by the sum score. Otherwise the rest score is θ from the other items if at least half of
    the answers have it, and their mean share of the maximum score if not. Raises PsychometricsError if no answer
    counts.
    """
    if not answers["counted"].any():
        raise PsychometricsError("no answer counts")
    labels = _labels(answers)
    parts: list[Analysis] = []
    for name, of_form in answers[~answers["seed"]].groupby("form"):
        form = forms[forms["form_id"] == name]
        complete = complete_form(of_form, form)
        counted = of_form[of_form["counted"]] if complete is None else complete
        if len(counted):
            parts.append(_analyse_form(str(name), of_form, counted, labels, bank, form, complete=complete is not None))
    if len(parts) == 1 and not answers["seed"].any():
        whole = parts[0]
    else:
        whole = _analyse_form("", answers, answers[answers["counted"]], labels, bank, forms[:0], complete=False)
    named = [part for part in parts if part.forms[0].form_id]
    return Analysis(
        [row for part in named for row in part.forms] + [replace(row, form_id="") for row in whole.forms],
        [row for part in named for row in part.items] + [replace(row, form_id="") for row in whole.items],
        whole.answers,
    )


def _labels(answers: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """The options of the items that have any, in natural order."""
    chosen = answers[answers["counted"] & (answers["max_score"] == 1) & answers["option"].notna()]
    return {
        str(item): tuple(sorted(options, key=natural_order))
        for item, options in chosen.groupby("item")["option"].unique().items()
        if len(options) <= MAX_OPTIONS
    }


def _analyse_form(
    form_id: str,
    shown: pd.DataFrame,
    counted: pd.DataFrame,
    labels: Mapping[str, tuple[str, ...]],
    bank: Bank,
    form: pd.DataFrame,
    *,
    complete: bool,
) -> Analysis:
    """Analyse the `counted` answers of a form. `shown` are all of its answers; `form` has no rows if it is unknown."""
    counted = counted.assign(person=counted.groupby(["learner", "form"]).ngroup())
    counted = counted.sort_values(["person", "item"], ignore_index=True)
    item, ids = pd.factorize(counted["item"], sort=True)
    most = counted.groupby("item")["max_score"].first().astype(int)
    persons = counted.drop_duplicates("person")
    responses = Responses(
        counted["person"].to_numpy(np.int32),
        item.astype(np.int32),
        counted["score"].to_numpy(np.int8),
        len(persons),
        tuple(ids),
        np.asarray(most, dtype=np.int64) + 1,
    )
    rest = None if complete else _theta_of_others(responses, bank)
    choices = _choices(counted, responses.item_ids, labels, bank.keys)
    found = analyse_items(
        responses,
        choices,
        forms=persons["form"].tolist(),
        omitted=(~counted["answered"] & ~counted["not_reached"]).to_numpy(bool),
        not_reached=counted["not_reached"].to_numpy(bool),
        rest=rest,
    )
    kind: RestScore = "sum" if complete else "share" if rest is None else "theta"
    columns = _item_columns(shown, counted).loc[list(ids)]
    columns = columns.assign(max_score=most, **{name: getattr(found, name) for name in ITEM_STATISTICS})
    columns["presented"] = columns[["presented", "n"]].max(axis=1)
    if complete:
        columns["not_reached"] = found.not_reached
    flags = found.flags(**{name: getattr(bank.rules, name) for name in LIMITS})
    speeded = columns["not_reached"] >= (MAX_NOT_REACHED * columns["presented"]).clip(lower=1)
    named = zip(found.item_ids, flags.items, strict=True)
    options = _options(found.options, flags.options)
    columns = columns.assign(
        options=pd.Series(options),
        flags=pd.Series({item: (*names, *["speeded"] * bool(speeded[item])) for item, names in named}),
        key=pd.Series({item: _key(options[item]) for item in labels if item in options}, dtype=object),
        position=form.set_index("item_id")["position"].astype(object),
    )
    rows = columns.rename_axis("item_id").reset_index().to_dict("records")
    totals = counted.groupby("person")["score"].sum().astype(int)
    sums = asdict(found.forms[0]) if complete else {}
    of_form = FormRow(
        form_id=form_id,
        n=counted["learner"].nunique(),
        n_items=len(most),
        max_score=int(most.sum()),
        source="".join(form["source"][:1]),
        statistics={name: finite(x) for name, x in sums.items() if isinstance(x, float)},
        scores=tuple(np.bincount(totals, minlength=most.sum() + 1).tolist()) if complete else (),
        **(_subscores(counted, responses.item_ids, bank.topics) if complete else {}),
    )
    items = [ItemRow(form_id=form_id, rest=kind, **_without_nan(row)) for row in rows]
    return Analysis([of_form], items, counted.assign(rest=found.rest))


def _subscores(counted: pd.DataFrame, items: Sequence[str], topic_of: Mapping[str, str]) -> dict[str, Any]:
    """PRMSE of the topics of a complete form, or the reason why it has no subscores. `counted` is sorted by person and
    item."""
    topics = [topic_of.get(item, "") for item in items]
    if "" in topics or len(set(topics)) < 2:
        return {"no_subscores": "an item has no topic in the bank" if "" in topics else "all items have one topic"}
    try:
        found = subscores(counted["score"].to_numpy().reshape(-1, len(items)), topics)
    except PsychometricsError as error:
        return {"no_subscores": str(error)}
    columns = (found.n_items, found.by_subscore, found.by_total)
    return {"subscores": tuple(map(SubscoreRow, found.topics, *(column.tolist() for column in columns)))}


def _item_columns(shown: pd.DataFrame, counted: pd.DataFrame) -> pd.DataFrame:
    """The counts of the answers to each item that were `shown`, and the times of the answers that are `counted`."""
    by_item = shown.assign(used=shown["counted"] & shown["answered"]).groupby("item")
    sums = by_item[["not_reached", "rapid", "used"]].sum()
    columns = sums[["not_reached"]].assign(
        presented=by_item.size(), rapid=sums["rapid"] / (sums["rapid"] + sums["used"]).clip(lower=1)
    )
    seconds = counted[counted["answered"]].groupby("item")["seconds"]
    return columns.assign(**{name: seconds.quantile(share) for name, share in TIMES.items()})


def _without_nan(values: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: finite(x) if isinstance(x, float) else x for name, x in values.items()}


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


def _key(options: Sequence[OptionRow]) -> str | None:
    return ", ".join(option.option for option in options if option.is_key) or None


def _options(found: OptionStatistics, flags: Sequence[tuple[str, ...]]) -> dict[str, tuple[OptionRow, ...]]:
    rows: dict[str, list[OptionRow]] = {}
    for m, item in enumerate(found.item_ids):
        if found.options[m] == OMITTED:
            continue
        groups = np.flatnonzero(found.trace_n[m])
        trace = zip(
            *(values[m, groups].tolist() for values in (found.trace_rest, found.trace_n, found.trace)), strict=True
        )
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
                trace=tuple(TracePoint(rest=rest, n=n, share=share) for rest, n, share in trace),
            )
        )
    return {item: tuple(options) for item, options in rows.items()}
