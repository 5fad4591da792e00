"""The models of scored items: what the bank names for an item, or else what goes with its scale's.

What does not belong here: the models themselves (see `psychometrics.core.model_families`).
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, get_args

import psycopg

from irt_psychometrics.items import Model, item_model

_SCORED = 2
"""A maximum score above 1: a scored item has the same model whatever it is."""


class ModelInBank(NamedTuple):
    """The model that the bank names for an item, and the block of a rating scale that it stands in; None: not named."""

    model: str | None
    block: str | None = None


def models_in_bank(connection: psycopg.Connection, scale_id: str) -> dict[str, ModelInBank]:
    """What the bank says of the models of the scale's items, of those for which it says something."""
    rows = connection.execute(
        """SELECT item_id, meta->'irt'->>'model', meta->'irt'->>'block' FROM question
           WHERE scale_id = %s AND meta->'irt' ?| ARRAY['model', 'block']""",
        (scale_id,),
    )
    return {item: ModelInBank(model, block) for item, model, block in rows}


def model_of_scored(scale_model: Model, said: ModelInBank | None) -> Model:
    """The model of an item with more than 0 and 1. Raises PsychometricsError where none goes with the scale's."""
    named = (said.model or "").lower() if said else ""
    own = next((model for model in get_args(Model) if model == named), None)
    of_scale = item_model(scale_model).of_max_score(_SCORED).name
    return of_scale if own is None or item_model(own).two_categories else own


def as_fitted(scale_model: Model, items: Iterable[str], in_bank: Mapping[str, ModelInBank]) -> dict[str, str]:
    """Item → its model, and the block where it has its steps in common with others; empty where the scale's model has
    none beside it, which is then the reason why nothing is fitted."""
    if item_model(scale_model).guesses:
        return {}
    found = {}
    for item in sorted(items):
        said = in_bank.get(item)
        model = model_of_scored(scale_model, said)
        in_block = item_model(model).block_steps and said and said.block
        found[item] = f"{model} of block {said.block}" if said and in_block else model
    return found
