"""Conversion of an xAPI statement (1.0.x, or 2.0 as in IEEE 9274.1.1) to an attempt; see docs/how-to/xapi.md.

Most of an attempt's values are checked later (see `posted` and `ingest`).
"""

import re
from dataclasses import dataclass
from typing import Any

from irt_assets.intake.report import InvalidRow

ANSWERED_VERB = "http://adlnet.gov/expapi/verbs/answered"
VOIDED_VERB = "http://adlnet.gov/expapi/verbs/voided"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
NUMBER = r"(\d{1,9}(?:[.,]\d{1,9})?)"
DURATION = re.compile(
    rf"P(?=.)(?:{NUMBER}W|(?:{NUMBER}Y)?(?:{NUMBER}M)?(?:{NUMBER}D)?"
    rf"(?:T(?=.)(?:{NUMBER}H)?(?:{NUMBER}M)?(?:{NUMBER}S)?)?)"
)
MAX_POINTS = 1e9
MS = (604_800_000, 86_400_000, 3_600_000, 60_000, 1_000)
"""Milliseconds of a week, a day, an hour, a minute and a second."""
REMEDIES = {
    "bad_statement": "The statement does not conform to xAPI 1.0.3: value names the property.",
    "not_an_account": "The actor must be an Agent with an account (homePage and name), because a mailbox is an "
    "e-mail address.",
    "other_home_page": "The account's homePage must be the one in IRT_XAPI_HOME_PAGE; value shows both.",
    "other_activity": "The id of the object has to begin with IRT_XAPI_ITEM_PREFIX.",
    "no_success": "Send result.success, or a result.score with scaled 0 or 1: no other property shows whether the "
    "answer is right. For an item with partial credit, the bank needs its maximum score (irt import questions, columns "
    "item_id,max_score).",
    "bad_scaled": "result.score.scaled, or raw of max, must be a whole number of the points that the bank has as the "
    "item's max_score: value shows both.",
    "nothing_to_void": "No answer in the log has this id: send the statement first, then the statement that voids it.",
}


@dataclass(frozen=True)
class Naming:
    """Home page of the accounts whose names are learners' ids, and prefix of the item ids."""

    home_page: str | None = None
    item_prefix: str = ""


@dataclass(frozen=True)
class VoidedStatement:
    """A voiding statement, which withdraws this attempt."""

    attempt_id: str


def attempt_of(statement: dict[str, Any], naming: Naming) -> dict[str, Any] | VoidedStatement | None:
    """The attempt's fields, or the attempt that the statement voids. Returns None for any other verb.

    Beside our fields, an attempt has `share`, the share of the points, for `result_of`.

    Raises InvalidRow if the statement is refused.
    """
    verb = _required_value(statement, "verb.id")
    if verb == ANSWERED_VERB:
        return _attempt(statement, naming)
    if verb != VOIDED_VERB:
        return None
    if _required_value(statement, "object.objectType") != "StatementRef":
        raise InvalidRow("bad_statement", "object.objectType")
    _required_value(statement, "object.id")
    return VoidedStatement(_uuid(statement, "object.id"))


def _attempt(statement: dict[str, Any], naming: Naming) -> dict[str, Any]:
    if (_optional_value(statement, "object.objectType") or "Activity") != "Activity":
        raise InvalidRow("bad_statement", "object.objectType")
    activity = _required_value(statement, "object.id")
    if not activity.startswith(naming.item_prefix):
        raise InvalidRow("other_activity", activity)
    return {
        "attempt_id": _uuid(statement, "id"),
        "user_id": _learner(statement, naming),
        "item_id": activity[len(naming.item_prefix) :],
        "completed_at": _optional_value(statement, "timestamp") or _optional_value(statement, "stored"),
        "correct": _optional_value(statement, "result.success", bool),
        "share": _share(statement),
        "response": _optional_value(statement, "result.response"),
        "response_time_ms": _milliseconds(_optional_value(statement, "result.duration")),
        "session_id": _uuid(statement, "context.registration"),
    }


def _learner(statement: dict[str, Any], naming: Naming) -> str:
    actor = _required_value(statement, "actor", dict)
    if actor.get("objectType", "Agent") != "Agent":
        raise InvalidRow("not_an_account", "a group")
    if "account" not in actor:
        raise InvalidRow("not_an_account", "mbox" if "mbox" in actor else "no account")
    home_page = _required_value(statement, "actor.account.homePage")
    if naming.home_page is None or home_page.rstrip("/") != naming.home_page.rstrip("/"):
        raise InvalidRow("other_home_page", f"{home_page}, not {naming.home_page or '(unset)'}")
    return _required_value(statement, "actor.account.name")


def _share(statement: dict[str, Any]) -> float | None:
    """Read the share of the points: `scaled`, or else `raw` from `min` to `max`. Returns None if it is unknown."""
    score = {x: _optional_value(statement, f"result.score.{x}", (int, float)) for x in ("scaled", "raw", "min", "max")}
    if wrong := [x for x, value in score.items() if isinstance(value, bool) or abs(value or 0) > MAX_POINTS]:
        raise InvalidRow("bad_statement", f"result.score.{wrong[0]}")
    if score["scaled"] is not None:
        return float(score["scaled"])
    low, points = score["min"] or 0, (score["max"] or 0) - (score["min"] or 0)
    return None if score["raw"] is None or points <= 0 else float((score["raw"] - low) / points)


def result_of(correct: bool | None, share: float | None, most: int) -> tuple[bool | None, int | None]:
    """Return whether the answer is right, and its score if the item has a maximum score `most` above 1.

    The score follows from the share, of which two decimals suffice, and then implies whether the answer is right.
    Otherwise, the answer is right by `success` or a share of 0 or 1. The pattern of correct responses is not used,
    because it does not determine how a program scores. Raises InvalidRow if the result is unknown.
    """
    if most > 1 and share is not None:
        if not (0 <= share <= 1 and abs(share * most - round(share * most)) <= 0.005 * most + 1e-9):
            raise InvalidRow("bad_scaled", f"{share:g} of {most} points")
        return None, round(share * most)
    if correct is None:
        if share not in (0, 1):
            raise InvalidRow("no_success", "result" if share is None else f"{share:g}")
        return bool(share), None
    return correct, None


def _milliseconds(duration: str | None) -> int | None:
    """A duration in milliseconds. Returns None if it is unknown, also for months and years, which vary in length."""
    if duration is None:
        return None
    found = DURATION.fullmatch(duration)
    if found is None:
        raise InvalidRow("bad_response_time", duration)
    weeks, years, months, *rest = (float((part or "0").replace(",", ".")) for part in found.groups())
    if years or months:
        return None
    return round(sum(count * ms for count, ms in zip((weeks, *rest), MS, strict=True)))


def _uuid(statement: dict[str, Any], path: str) -> Any:
    """The UUID in lower case, so that equal UUIDs are equal text. Returns None if it is absent."""
    text = _optional_value(statement, path)
    if text is not None and UUID.fullmatch(text) is None:
        raise InvalidRow("bad_statement", path)
    return text and text.lower()


def _required_value(statement: dict[str, Any], path: str, kind: Any = str) -> Any:
    """Return the value at the path `a.b.c`. Raises InvalidRow if it is absent, empty, or of another type."""
    found = _optional_value(statement, path, kind)
    if found in (None, ""):
        raise InvalidRow("bad_statement", path)
    return found


def _optional_value(statement: dict[str, Any], path: str, kind: Any = str) -> Any:
    """Find the value at the path `a.b.c`. Returns None if a part is absent. Raises InvalidRow if its type
    differs."""
    found: Any = statement
    *parents, last = path.split(".")
    for name in parents:
        found = found.get(name, {})
        if not isinstance(found, dict):
            raise InvalidRow("bad_statement", name)
    if last in found and not isinstance(found[last], kind):
        raise InvalidRow("bad_statement", path)
    return found.get(last)
