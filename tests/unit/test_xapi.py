"""xAPI statements: conversion to attempts, and the reasons of refusals."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, strategies as st

from irt_assets.intake.report import InvalidRow
from irt_assets.intake.xapi import ANSWERED_VERB, VOIDED_VERB, Naming, VoidedStatement, attempt_of, result_of

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
        "share": 1.0,
        "response": "golf[,]tetris",
        "response_time_ms": 60_250,
        "session_id": SESSION,
    }


def test_attempt_has_null_columns_if_optional_properties_are_missing() -> None:
    least = convert(
        id=None, context=None, result={"success": False}, object={"id": "https://exam.example.org/items/q7"}
    )
    assert {name: value for name, value in least.items() if value is None} == dict.fromkeys(
        ("attempt_id", "response", "response_time_ms", "session_id", "share")
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
        ({"score": {"raw": 1, "max": 1}}, True),
        ({"score": {"raw": 1, "min": 1, "max": 5}}, False),
    ],
)
def test_correctness_is_read_from_success_or_from_a_share_of_0_or_1(result: Any, correct: bool) -> None:
    attempt = convert(result=result)
    assert result_of(attempt["correct"], attempt["share"], 1) == (correct, None)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (None, ("no_success", "result")),
        ({"response": "golf[,]tetris"}, ("no_success", "result")),
        ({"score": {"raw": 1}}, ("no_success", "result")),
        ({"score": {"raw": 1, "max": 0}}, ("no_success", "result")),
        ({"score": {"scaled": 0.5}}, ("no_success", "0.5")),
        ({"score": {"scaled": -1}}, ("no_success", "-1")),
        ({"score": {"scaled": True}}, ("bad_statement", "result.score.scaled")),
        ({"score": {"raw": 10**400, "max": 1}}, ("bad_statement", "result.score.raw")),
        ({"success": 1}, ("bad_statement", "result.success")),
        ({"success": None}, ("bad_statement", "result.success")),
        ([], ("bad_statement", "result")),
    ],
)
def test_statement_without_success_or_a_share_of_0_or_1_is_refused(result: Any, reason: tuple[str, str]) -> None:
    with pytest.raises(InvalidRow) as refusal:
        result_of(*(convert(result=result)[name] for name in ("correct", "share")), 1)
    assert (refusal.value.reason, refusal.value.value) == reason


@pytest.mark.parametrize(
    ("result", "score"),
    [
        ({"success": False, "score": {"scaled": 0.6667, "raw": 2, "min": 0, "max": 3}}, 2),  # as H5P sends it
        ({"score": {"scaled": 0.67}}, 2),
        ({"score": {"raw": 4, "max": 6}}, 2),
        ({"success": True, "score": {"scaled": 1}}, 3),
        ({"success": True, "score": {"scaled": 0}}, 0),
    ],
)
def test_share_of_the_points_is_the_score_of_a_scored_item(result: Any, score: int) -> None:
    attempt = convert(result=result)
    assert result_of(attempt["correct"], attempt["share"], 3) == (None, score)


@pytest.mark.parametrize("share", [0.5, -1, 1.34, float("inf")])
def test_share_that_is_no_whole_number_of_points_is_refused(share: float) -> None:
    with pytest.raises(InvalidRow) as refusal:
        result_of(True, share, 3)
    assert (refusal.value.reason, refusal.value.value) == ("bad_scaled", f"{share:g} of 3 points")
    assert result_of(True, None, 3) == (True, None)


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


def test_account_with_a_different_home_page_is_refused_with_both() -> None:
    other = {"account": {"homePage": HOME + "/2", "name": "u42"}}
    assert refusal_reason(actor=other) == ("other_home_page", f"{HOME}/2, not {HOME}")
    assert refusal_reason(Naming(item_prefix=NAMING.item_prefix)) == ("other_home_page", f"{HOME}, not (unset)")


def test_slash_at_the_end_of_a_home_page_makes_no_difference() -> None:
    account = {"account": {"homePage": HOME + "/", "name": "u42"}}
    assert convert(actor=account)["user_id"] == "u42"
    assert attempt_of(statement(), Naming(HOME + "/", NAMING.item_prefix)) == convert()


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
