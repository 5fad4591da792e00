"""The models of scored items: the model that the bank names for an item, or else a model that matches the model of its
scale."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, get_args

import psycopg

from irt_psychometrics.items import Model, ScaleModel, item_model

_SCORED = 2
"""Any maximum score above 1: the model of a scored item does not depend on it."""


class ModelInBank(NamedTuple):
    """The model that the bank names for an item, and the item's block of a rating scale. Either may be None."""

    model: str | None
    block: str | None = None


def models_in_bank(connection: psycopg.Connection, scale_id: str) -> dict[str, ModelInBank]:
    """Item → the model and block that the bank names, for the scale's items for which it names either."""
    rows = connection.execute(
        """SELECT item_id, meta->'irt'->>'model', meta->'irt'->>'block' FROM question
           WHERE scale_id = %s AND meta->'irt' ?| ARRAY['model', 'block']""",
        (scale_id,),
    )
    return {item: ModelInBank(model, block) for item, model, block in rows}


def scored_item_model(scale_model: ScaleModel, in_bank: ModelInBank | None) -> Model:
    """Return the model of a scored item."""
    named = (in_bank.model or "").lower() if in_bank else ""
    own = next((model for model in get_args(Model) if model == named), None)
    of_scale = item_model(scale_model).of_max_score(_SCORED).name
    return of_scale if own is None or item_model(own).two_categories else own


def models_in_words(
    scale_model: ScaleModel, items: Iterable[str], in_bank: Mapping[str, ModelInBank]
) -> dict[str, str]:
    """Item → its model in words, with its block if the items of a block share their steps."""
    found = {}
    for item in sorted(items):
        bank_model = in_bank.get(item)
        model = scored_item_model(scale_model, bank_model)
        in_block = item_model(model).block_steps and bank_model and bank_model.block
        found[item] = f"{model} of block {bank_model.block}" if bank_model and in_block else model
    return found
