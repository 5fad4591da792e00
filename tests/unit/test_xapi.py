"""xAPI statements: conversion to attempts, and the reasons of refusals."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, strategies as st

from irt_assets.intake.report import InvalidRow
from irt_assets.intake.xapi import ANSWERED_VERB, VOIDED_VERB, Naming, VoidedStatement, attempt_of

HOME = "https://exam.example.org/accounts"
NAMING = Naming(HOME, "https://exam.example.org/items/")
ID = "6c2f1a34-90ab-4f6e-8f0e-2d1f2c3b4a59"
SESSION = "b7f0d3de-5a55-4d4c-9c5e-0b8f6f3f9a11"


def statement(**more: Any) -> dict[str, Any]:
    """Return a statement like the specification's examples, on an item of ours."""
    made = {
        "id": ID,
        "actor": {"objectType": "Agent", "name": "Ada", "account": {"homePage": HOME, "name": "u42"}},
        "verb": {"id": ANSWERED_VERB, "display": {"en-US": "answered"}},
        "object": {
            "objectType": "Activity",
            "id": "https://exam.example.org/items/q7",
            "definition": {
                "type": "http://adlnet.gov/expapi/activities/cmi.interaction",
                "interactionType": "choice",
                "correctResponsesPattern": ["golf[,]tetris"],
                "choices": [{"id": "golf", "description": {"en": "Golf"}}],
            },
        },
        "result": {
            "score": {"scaled": 1, "raw": 1, "min": 0, "max": 1},
            "success": True,
            "completion": True,
            "response": "golf[,]tetris",
            "duration": "PT1M0.25S",
            "extensions": {"https://exam.example.org/x/hints": 1},
        },
        "context": {"registration": SESSION, "instructor": {"mbox": "mailto:kim@example.org"}, "language": "en"},
        "timestamp": "2026-11-20T08:00:31.250Z",
        "stored": "2026-11-20T08:00:32.000Z",
        "authority": {"objectType": "Agent", "mbox": "mailto:lrs@example.org"},
        "version": "1.0.3",
    }
    return {name: value for name, value in (made | more).items() if value is not None}


def convert(**more: Any) -> dict[str, Any]:
    attempt = attempt_of(statement(**more), NAMING)
    assert isinstance(attempt, dict), attempt
    return attempt


def refusal_reason(naming: Naming = NAMING, **more: Any) -> tuple[str, str]:
    with pytest.raises(InvalidRow) as refusal:
        attempt_of(statement(**more), naming)
    return refusal.value.reason, refusal.value.value


def test_statement_is_converted_to_all_columns_of_an_attempt() -> None:
    assert convert() == {
        "attempt_id": ID,
        "user_id": "u42",
        "item_id": "q7",
        "completed_at": "2026-11-20T08:00:31.250Z",
        "correct": True,
        "response": "golf[,]tetris",
        "response_time_ms": 60_250,
        "session_id": SESSION,
    }


def test_attempt_has_null_columns_if_optional_properties_are_missing() -> None:
    least = convert(
        id=None, context=None, result={"success": False}, object={"id": "https://exam.example.org/items/q7"}
    )
    assert {name: value for name, value in least.items() if value is None} == dict.fromkeys(
        ("attempt_id", "response", "response_time_ms", "session_id")
    )
    assert least["correct"] is False
    assert convert(timestamp=None)["completed_at"] == "2026-11-20T08:00:32.000Z"
    assert convert(timestamp=None, stored=None)["completed_at"] is None
    assert attempt_of(statement(), Naming(HOME)) == convert() | {"item_id": "https://exam.example.org/items/q7"}


def test_statement_id_is_converted_to_lower_case() -> None:
    assert convert(id=ID.upper()) == convert()


@pytest.mark.parametrize(
    ("result", "correct"),
    [
        ({"success": False, "score": {"scaled": 1}}, False),
        ({"success": True, "score": {"scaled": 0.4}}, True),
        ({"score": {"scaled": 0}}, False),
        ({"score": {"scaled": 1.0}}, True),
    ],
)
def test_correctness_is_read_from_success_or_from_a_scaled_score_of_0_or_1(result: Any, correct: bool) -> None:
    assert convert(result=result)["correct"] is correct


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (None, ("no_success", "result")),
        ({"response": "golf[,]tetris"}, ("no_success", "result")),
        ({"score": {"raw": 1, "max": 1}}, ("no_success", "result")),
        ({"score": {"scaled": 0.5}}, ("bad_score", "0.5")),
        ({"score": {"scaled": -1}}, ("bad_score", "-1")),
        ({"score": {"scaled": True}}, ("bad_score", "True")),
        ({"success": 1}, ("bad_statement", "result.success")),
        ({"success": None}, ("bad_statement", "result.success")),
        ([], ("bad_statement", "result")),
    ],
)
def test_statement_without_success_or_a_scaled_score_of_0_or_1_is_refused(result: Any, reason: tuple[str, str]) -> None:
    assert refusal_reason(result=result) == reason


@pytest.mark.parametrize(
    ("duration", "ms"),
    [
        *(("PT0S", 0), ("PT12.34S", 12_340), ("PT1,5S", 1_500), ("PT1H30M", 5_400_000), ("P1DT1S", 86_401_000)),
        *(("P2W", 1_209_600_000), ("P0Y0M0DT0H0M7S", 7_000), ("P1M", None), ("P1Y2DT3S", None)),
    ],
)
def test_duration_is_converted_to_milliseconds_unless_it_contains_months_or_years(
    duration: str, ms: int | None
) -> None:
    assert convert(result={"success": True, "duration": duration})["response_time_ms"] == ms


@pytest.mark.parametrize(
    "duration", ["", "P", "PT", "12", "P1S", "PT1", "P1DT", "PT-1S", "1:30", "PT" + "9" * 400 + "S"]
)
def test_invalid_duration_is_refused(duration: str) -> None:
    assert refusal_reason(result={"success": True, "duration": duration}) == ("bad_response_time", duration)


def test_account_with_a_different_home_page_is_refused() -> None:
    other = {"account": {"homePage": HOME + "/", "name": "u42"}}
    assert refusal_reason(actor=other) == ("other_home_page", HOME + "/")
    assert refusal_reason(Naming(item_prefix=NAMING.item_prefix)) == ("other_home_page", HOME)


@pytest.mark.parametrize(
    ("actor", "value"),
    [
        ({"objectType": "Group", "member": [{"account": {"homePage": HOME, "name": "u"}}]}, "a group"),
        ({"objectType": "Agent", "mbox": "mailto:ada@example.org"}, "mbox"),
        ({"mbox_sha1sum": "ebd31e95054c018b10727ccffd2ef2ec3a016ee9"}, "no account"),
        ({"openid": "https://openid.example.org/ada"}, "no account"),
        ({"name": "Ada"}, "no account"),
    ],
)
def test_actors_without_an_account_are_refused(actor: Any, value: str) -> None:
    assert refusal_reason(actor=actor) == ("not_an_account", value)


def test_other_verbs_are_skipped_and_voiding_statements_return_the_voided_id() -> None:
    for verb in ("http://adlnet.gov/expapi/verbs/completed", "http://adlnet.gov/expapi/verbs/experienced", "answered"):
        assert attempt_of(statement(verb={"id": verb}, actor={"mbox": 7}), NAMING) is None
    voiding = {"objectType": "StatementRef", "id": ID.upper()}
    assert attempt_of(
        statement(verb={"id": VOIDED_VERB}, actor={"mbox": "x"}, object=voiding), NAMING
    ) == VoidedStatement(ID)
    assert refusal_reason(verb={"id": VOIDED_VERB}) == ("bad_statement", "object.objectType")
    assert refusal_reason(verb={"id": VOIDED_VERB}, object=voiding | {"id": "1"}) == ("bad_statement", "object.id")


@pytest.mark.parametrize(
    ("more", "value"),
    [
        *(({"verb": None}, "verb.id"), ({"verb": {"display": {}}}, "verb.id"), ({"verb": ANSWERED_VERB}, "verb")),
        *(({"actor": None}, "actor"), ({"actor": []}, "actor"), ({"object": None}, "object.id")),
        *(
            ({"object": {"objectType": "Agent", "id": "x"}}, "object.objectType"),
            ({"id": "1"}, "id"),
            ({"id": 1}, "id"),
        ),
        *(({"actor": {"account": {"homePage": HOME, "name": 42}}}, "actor.account.name"), ({"context": 1}, "context")),
        *(({"actor": {"account": {"homePage": HOME}}}, "actor.account.name"), ({"timestamp": 1}, "timestamp")),
        ({"context": {"registration": "42"}}, "context.registration"),
    ],
)
def test_malformed_statement_is_refused_with_the_property(more: Any, value: str) -> None:
    assert refusal_reason(**more) == ("bad_statement", value)


def test_activity_outside_the_item_prefix_is_refused() -> None:
    assert refusal_reason(object={"id": "https://elsewhere.org/q7"}) == ("other_activity", "https://elsewhere.org/q7")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["id", "actor", "verb", "object", "result", "context", "timestamp"]), JSON))
def test_arbitrary_json_is_converted_or_refused_without_other_errors(changed: dict[str, Any]) -> None:
    with suppress(InvalidRow):
        assert isinstance(attempt_of(statement() | changed, NAMING), dict | None)
