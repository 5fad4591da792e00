"""The number of items that blueprints need, and the sentences about topics that run short."""

from __future__ import annotations

from datetime import date

import pytest

from irt_assets.adaptive.blueprint import Blueprint
from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.supply import TopicSupply
from irt_psychometrics import ItemParameters
from irt_psychometrics.assembly import InfeasibleError, assemble
from irt_psychometrics.items import ItemRow

JAN, MARCH, MAY = date(2027, 1, 9), date(2027, 3, 1), date(2027, 5, 31)


def can_assemble(rules: Blueprint, n: int) -> bool:
    """Check by the solver whether a bank with n items of one topic meets a blueprint."""
    bank = {f"i{k}": {"topic": "algebra", "format": None, "testlet": None, "meta": {}} for k in range(1, n + 1)}
    items = ItemParameters.from_rows([*bank], [ItemRow(a=1.0, b=b / 10) for b in range(n)])
    try:
        assemble(items, rules.design(bank, 0.0), time_limit=20)
    except InfeasibleError:
        return False
    return True


@pytest.mark.parametrize(
    ("more", "needed"),
    [
        ("", 3),
        ("forms: 2\n", 6),
        ("forms: 3\nuses: {max: 2}\n", 5),
        ("forms: 2\nuses: {}\n", 3),
        ("uses: {max: 4}\n", 3),
        ("forms: 3\nanchors: {n: 1, items: [i1]}\n", 7),
        ("forms: 2\nanchors: {n: 2, items: [i1, i2]}\nuses: {max: 1}\n", 4),
    ],
)
def test_blueprint_needs_the_fewest_items_with_which_forms_can_be_assembled(more: str, needed: int) -> None:
    text = f"name: x\nlength: {{max: 3}}\nobjective: {{certainty: null}}\ntopics: {{algebra: {{min: 3}}}}\n{more}"
    rules = Blueprint.from_yaml(text)
    assert rules.needed(3) == needed
    assert can_assemble(rules, needed)
    assert not can_assemble(rules, needed - 1)


@pytest.mark.parametrize(
    ("exposure", "needed"), [("{}", 3), ("{max: 0.25}", 12), ("{max: 0.1}", 30), ("{max: 0.4}", 8)]
)
def test_adaptive_test_needs_items_for_its_largest_exposure(exposure: str, needed: int) -> None:
    """Sessions have 3 items of the topic on average, so that n items with an exposure of at most r need n·r ≥ 3."""
    rules = Policy.from_yaml(f"test: x\nlength: {{max: 8}}\nexposure: {exposure}\n")
    assert rules.needed(3) == needed


@pytest.mark.parametrize(
    ("in_use", "changes", "sentence"),
    [
        (8, (), ""),
        (8, ((JAN, -1), (JAN, 1)), ""),
        (6, (), "algebra runs short: 8 needed for exam, 6 in use, 6 at most by the forecasts"),
        (6, ((JAN, 1),), "algebra runs short: 8 needed for exam, 6 in use, 7 at most by the forecasts"),
        (
            *(6, ((JAN, 1), (MARCH, 1), (MAY, 1))),
            "algebra runs short: 8 needed for exam, 6 in use, 8 by March 2027",
        ),
        (
            *(9, ((JAN, -1), (MARCH, -1), (MARCH, -1), (MAY, 1))),
            "algebra runs short in March 2027: 8 needed for exam, 6 left",
        ),
        (8, ((JAN, 1), (MAY, -1)), ""),
    ],
)
def test_sentence_says_when_a_topic_has_fewer_items_than_needed(
    in_use: int, changes: tuple[tuple[date, int], ...], sentence: str
) -> None:
    assert TopicSupply("algebra", in_use, changes, 0, 8, "exam").shortage == sentence
