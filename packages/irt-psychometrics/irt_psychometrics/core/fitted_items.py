"""The items of a fit: responses are checked against them, and sentences say which of them have flags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from irt_psychometrics.core.arrays import Ints
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.models import Flag
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.wording import some_of

REMEDIES = {
    Flag.ALL_CORRECT: "it has no parameters; leave it out or collect more answers",
    Flag.ALL_WRONG: "it has no parameters; check its key, leave it out or collect more answers",
    Flag.NO_DATA: "it has no parameters; leave it out or collect answers",
    Flag.AT_BOUND: "give a prior on a, as priors=Priors(a=LogNormal(0, 0.5)), or collect more answers",
    Flag.UNIDENTIFIED: "fit it by a model with fewer parameters, or leave it out",
    Flag.NEGATIVE_DISCRIMINATION: "correct the key or leave it out",
    Flag.DUPLICATE: "leave one of them out",
    Flag.GUESSING_UNIDENTIFIED: "fit it as a 2pl, or read its c as the prior's",
}
"""Remedies for flagged items of a fit with one ability."""


def require_responses(x: Any, caller: str) -> None:
    """Raise PsychometricsError, which names the remedy, if `x` is not `Responses`. `caller` is the calling function."""
    if not isinstance(x, Responses):
        raise PsychometricsError(
            f"{caller} needs Responses, got {type(x).__name__}; Responses.from_wide reads a table with a row for each "
            "person"
        )


def align_responses(x: Responses, item_ids: Sequence[str], n_categories: Ints) -> Responses:
    """Give responses all items of a fit, in the fit's order.

    Raises PsychometricsError if `x` is not `Responses`, an item is not in the fit, or a score exceeds the item's
    maximum score.
    """
    require_responses(x, "score")
    place = {item: j for j, item in enumerate(item_ids)}
    if strange := [item for item in x.item_ids if item not in place]:
        raise PsychometricsError(
            f"the fit has no item {some_of(strange)}; leave such items out, as x.of_items([…]) does, or fit them, too"
        )
    code = np.array([place[item] for item in x.item_ids], dtype=np.int32)
    beyond = np.flatnonzero(x.score >= n_categories[code][x.item])
    if beyond.size:
        j = int(x.item[beyond[0]])
        raise PsychometricsError(
            f"item {x.item_ids[j]} was fitted with scores 0 … {n_categories[code[j]] - 1} and now has a score of "
            f"{x.score[beyond[0]]}; score it alike, or fit it again with this max_score"
        )
    categories = n_categories if (n_categories > 2).any() else None
    return replace(x, item=code[x.item], item_ids=tuple(item_ids), categories=categories, choices=None)


def flag_notes(
    item_ids: Sequence[str], flags: Sequence[tuple[Flag, ...]], remedies: Mapping[Flag, str] = REMEDIES
) -> Iterator[str]:
    """Yield a sentence for each kind of flag, with the flagged items and the remedy."""
    for flag in Flag:
        named = [item for item, own in zip(item_ids, flags, strict=True) if flag in own]
        if named:
            remedy = remedies.get(flag, "")
            yield f"{some_of(named)}: {flag.explanation}{'; ' if remedy else ''}{remedy}."
