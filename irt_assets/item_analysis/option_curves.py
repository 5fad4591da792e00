"""Curves of options by the nominal model, of a month. Does not belong here: observed shares of options (`analysis`)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from irt_assets.common.arrays import finite
from irt_assets.item_analysis.analysis import Analysis
from irt_assets.item_analysis.stored import ItemRow, OptionCurve, OptionInformation
from irt_psychometrics import PsychometricsError, Responses
from irt_psychometrics.classical import Choices
from irt_psychometrics.itemfit import fit_options

MIN_LEARNERS, MAX_LEARNERS = 200, 2_000
"""Numbers of learners: an option that 5 % of 200 choose has 10, and of more than 2,000 a random sample is fitted."""
MIN_CHOSEN = 10
"""Number of learners below which an option is left out: with few, its slope may have no finite estimate."""
ABILITIES = (-1.0, 0.0, 1.0)
"""Abilities at which the information in the options is stored."""
SEED = 20260901


def add_curves(analysis: Analysis) -> Analysis:
    """Add the curves of options, or the reason for their absence, to the items of all answers that have a key."""
    keyed = {item.item_id: item for item in analysis.items if not item.form_id and item.key}
    if not keyed:
        return analysis
    found, why = {}, f"fewer than {MIN_LEARNERS} learners chose its options, or the fit could not estimate them"
    try:
        found = _fit(analysis.answers, keyed)
    except PsychometricsError as error:
        why = str(error)
    added: dict[str, dict[str, Any]] = {item: found.get(item, {"no_curves": why}) for item in keyed}
    items = [item if item.form_id else replace(item, **added.get(item.item_id, {})) for item in analysis.items]
    return replace(analysis, items=items)


def _fit(answers: pd.DataFrame, keyed: Mapping[str, ItemRow]) -> dict[str, dict[str, Any]]:
    """Fit all items together. Returns the values of the fields `curves` and `information` by item."""
    learners = np.unique(answers["learner"])
    if len(learners) < MIN_LEARNERS:
        raise PsychometricsError(f"they need {MIN_LEARNERS} learners, got {len(learners)}")
    if len(learners) > MAX_LEARNERS:
        learners = np.random.default_rng(SEED).choice(learners, MAX_LEARNERS, replace=False)
    fit = fit_options(_responses(answers[answers["learner"].isin(learners)], keyed), threads=1)
    if not fit.estimates.convergence.converged:
        raise PsychometricsError(f"the fit did not converge: {fit.estimates.convergence.reason}")
    informed = np.stack([fit.key_information(ABILITIES), fit.distractor_information(ABILITIES)], axis=-1)
    found: dict[str, dict[str, Any]] = {}
    for j, item in enumerate(dict.fromkeys(fit.item_ids)):
        rows = [m for m, name in enumerate(fit.item_ids) if name == item]
        estimated = np.isfinite([fit.slope[rows], fit.intercept[rows]]).all()
        if estimated and fit.is_key[rows].any() and fit.n[rows].sum() >= MIN_LEARNERS:
            found[item] = {
                "curves": tuple(
                    OptionCurve(
                        option=fit.options[m],
                        is_key=bool(fit.is_key[m]),
                        slope=float(fit.slope[m]),
                        slope_se=finite(fit.slope_se[m]),
                        intercept=float(fit.intercept[m]),
                        intercept_se=finite(fit.intercept_se[m]),
                    )
                    for m in rows
                ),
                "information": tuple(map(OptionInformation, ABILITIES, *informed[:, j].T.tolist())),
            }
    return found


def _responses(answers: pd.DataFrame, keyed: Mapping[str, ItemRow]) -> Responses:
    """Select the first answer of each learner to each item, with the options of the items that have a key.

    Rare options are left out. By the model, slopes and intercepts of the others keep their differences.
    """
    answers = answers.sort_values(["learner", "item", "at"]).drop_duplicates(["learner", "item"])
    often = answers.groupby(["item", "option"])["learner"].transform("size") >= MIN_CHOSEN
    person = pd.factorize(answers["learner"])[0]
    item, names = pd.factorize(answers["item"], sort=True)
    labels = {name: tuple(option.option for option in row.options) for name, row in keyed.items()}
    code = {(name, option): k for name, options in labels.items() for k, option in enumerate(options)}
    chosen = zip(answers["item"], answers["option"].where(often), strict=True)
    keys = {name: frozenset(option.option for option in row.options if option.is_key) for name, row in keyed.items()}
    return Responses(
        person.astype(np.int32),
        item.astype(np.int32),
        answers["score"].to_numpy(np.int8),
        int(person.max()) + 1,
        tuple(names),
        answers.groupby("item")["max_score"].first().to_numpy(np.int64) + 1,
        choices=Choices(
            np.array([code.get(pair, -1) for pair in chosen], np.int64),
            tuple(labels.get(name, ()) for name in names),
            tuple(keys.get(name, frozenset()) for name in names),
        ),
    )
