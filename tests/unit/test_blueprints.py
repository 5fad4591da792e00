"""Blueprints of forms as people write them: the lines that are wrong, and the rules for the library."""

from __future__ import annotations

from typing import Any

import pytest

from irt_assets.adaptive.blueprint import Blueprint
from resources.failures import PermanentFailure

RULES = "name: exam\nlength: {max: 8}\n"
BANK: dict[str, dict[str, Any]] = {
    "a1": {"topic": "algebra", "format": "mc", "testlet": "t1", "meta": {"words": 40}},
    "a2": {"topic": "algebra", "format": "mc", "testlet": "t1", "meta": {"words": 50}},
    "a3": {"topic": "algebra", "format": "cr", "testlet": "t1", "meta": {"words": 60}},
    "g1": {"topic": "geometry", "format": "mc", "testlet": None, "meta": {"words": 0}},
}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RULES + "lenght: 3\n", "line 3: lenght: unknown field; did you mean length?"),
        ("name: exam\nlength:\n  min: 3\n  max: none\n", "line 4: length.max: Input should be a valid integer"),
        (RULES + "topics:\n  algebra: {min: 3, max: 2}\n", "line 4: topics.algebra: min 3 is larger than max 2"),
        (RULES + "columns: {words: {most: 3}}\n", "line 3: columns.words.most"),
        (RULES + "objective: {kind: best}\n", "line 3: objective.kind: Input should be 'maximum', 'maximin'"),
        (RULES + "objective:\n  kind: target\n", "needs a target"),
        (RULES + "uses: {min: 2, max: 1}\n", "line 3: uses: min 2 is larger than max 1"),
        (RULES + "seed_places: [3, 10, 12]\n", "seed_places must be different positions from 1 to 11, got [3, 10, 12]"),
        (RULES + "seed_places: [3, 3]\n", "seed_places must be different positions from 1 to 10, got [3, 3]"),
        (RULES + "seed_places: [0]\n", "line 3: seed_places.0: Input should be greater than or equal to 1"),
        ("name: exam\nlength: {min: 4, max: 8}\nseed_places: [6]\n", "positions from 1 to 5, got [6]"),
        ("- a list\n", "line 1"),
        ("name: [\n", "this is not YAML"),
    ],
)
def test_wrong_blueprint_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(PermanentFailure) as raised:
        Blueprint.from_yaml(text)
    assert message in str(raised.value)


def test_forms_are_numbered_if_there_are_several() -> None:
    assert Blueprint.from_yaml(RULES).names == ["exam"]
    assert Blueprint.from_yaml(RULES + "forms: 3\n").names == ["exam-1", "exam-2", "exam-3"]


@pytest.mark.parametrize(
    ("places", "form"),
    [
        ("[]", {1: "a1", 2: "a2", 3: "g1"}),
        ("[4, 2]", {1: "a1", 2: "", 3: "a2", 4: "", 5: "g1"}),
        ("[1, 2, 6]", {1: "", 2: "", 3: "a1", 4: "a2", 5: "g1", 6: ""}),
    ],
)
def test_items_have_the_positions_beside_the_seed_places(places: str, form: dict[int, str]) -> None:
    blueprint = Blueprint.from_yaml(f"name: exam\nlength: {{max: 3}}\nseed_places: {places}\n")
    assert [*blueprint.places(("a1", "a2", "g1")).items()] == [*form.items()]


def test_rules_of_groups_have_the_items_of_the_bank() -> None:
    text = "topics: {algebra: {min: 2}}\nformats: {cr: {max: 1}}\n"
    text += "enemies: [[a1, g1, gone]]\ncolumns: {words: {max: 100}}\n"
    design = Blueprint.from_yaml(RULES + text).design(BANK, 0.5, (), {"items that may have leaked": ("a2",)})
    assert {limit.name: (limit.items, limit.least, limit.most) for limit in design.limits} == {
        "topic algebra": (("a1", "a2", "a3"), 2, None),
        "format cr": (("a3",), 0, 1),
        "enemies a1, g1, gone": (("a1", "g1"), 0, 1),
        "items that may have leaked": (("a2",), 0, 0),
    }
    assert (design.theta, design.min_items, design.max_items, design.certainty) == ((0.5,), 8, 8, 0.95)
    [words] = design.sums
    assert (dict(words.values), words.most) == ({"a1": 40, "a3": 60, "g1": 0}, 100)


@pytest.mark.parametrize(
    ("rule", "limits"), [("{}", (3, None)), ("{min: 2}", (2, None)), ("{max: 2}", (1, 2)), ("{min: 4, max: 5}", (3, 5))]
)
def test_testlets_are_given_with_the_numbers_of_their_items(rule: str, limits: tuple[int, int | None]) -> None:
    [testlet] = Blueprint.from_yaml(RULES + f"testlets: {rule}\n").design(BANK, 0.0).testlets
    assert (testlet.name, testlet.items, (testlet.least, testlet.most)) == ("t1", ("a1", "a2", "a3"), limits)
    assert Blueprint.from_yaml(RULES).design(BANK, 0.0).testlets == ()


def test_item_without_a_number_in_a_column_is_named() -> None:
    blueprint = Blueprint.from_yaml(RULES + "columns: {minutes: {max: 30}}\n")
    with pytest.raises(PermanentFailure, match="4 items have no number minutes in `meta`, such as a1"):
        blueprint.design(BANK, 0.0)
