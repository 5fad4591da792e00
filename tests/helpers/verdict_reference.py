"""Verdicts computed directly from the rules of eligibility, an attempt at a time: slow but easy to verify.

The module is plain Python over dicts, so that it shares nothing with the code that it checks. `verdict_worlds` has the
worlds to judge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from statistics import median
from typing import Any, NamedTuple

Attempt = Mapping[str, Any]
"""A row of the view `attempt`; its time is in UTC."""
Key = tuple[str, datetime]
DAY = timedelta(days=1)
USUAL = {"lookback_months": 12, "rapid_share": 0.1, "rapid_cap_ms": 10_000, "rapid_min_times": 100, "hinted": "wrong"}


class Verdict(NamedTuple):
    scale_id: str
    reason: str | None
    score: int | None
    max_score: int | None


@dataclass(frozen=True)
class Log:
    """A log, with the bank's and the scales' data about it.

    Attributes:
        items: scale and maximum score of each item in the bank.
        draws: session, item and learner of each seed draw.
        rule: value of a rule for a month and a scale, by its name.
    """

    attempts: Sequence[Attempt]
    items: Mapping[str, tuple[str, int]]
    test_accounts: Collection[str]
    rule: Callable[[str, str, str], Any]
    draws: Collection[tuple[str, str, str]] = ()


def months_before(time: datetime, months: int) -> datetime:
    """The same time of day some months earlier, or the last day of that month if it is shorter."""
    year, month = divmod(time.year * 12 + time.month - 1 - months, 12)
    day = time.day
    while True:
        try:
            return time.replace(year=year, month=month + 1, day=day)
        except ValueError:
            day -= 1


def judge_log(log: Log) -> dict[Key, Verdict]:
    """Verdict of each attempt, by id and time, as of the night after it, if the log was complete by then."""
    answered, meetings, times = defaultdict(list), defaultdict(list), defaultdict(list)
    for a in log.attempts:
        meetings[a["user_id"], a["item_id"]].append(a)
        if a["correct"] is None:
            continue
        if a["session_id"] is not None:
            answered[a["user_id"], a["session_id"]].append(a)
        if a["mode"] == "live" and a["response_time_ms"] is not None:
            times[a["item_id"], _month(a["completed_at"])].append((a["completed_at"], a["response_time_ms"]))

    def omitted(a: Attempt, until: datetime) -> bool:
        """Whether an item was omitted in an exam: a later item of the session was answered before `until`."""
        if a["correct"] is not None or a["form_id"] is None or a["session_id"] is None:
            return False
        return any(_comes_later(b, a) for b in answered[a["user_id"], a["session_id"]] if b["completed_at"] < until)

    @cache
    def usual_time(item: str, end: datetime, least: int) -> float | None:
        """Median time in the month before or, with too few times, in the same month up to `end`.

        Returns None if these are too few, too.
        """
        own = _month(end - DAY)
        before = [ms for _, ms in times[item, _month(months_before((end - DAY).replace(day=1), 1))]]
        so_far = [ms for at, ms in times[item, own] if at < end]
        return next((median(some) for some in (before, so_far) if len(some) >= least), None)

    found = {}
    for a in log.attempts:
        when = a["completed_at"]
        end = when.replace(hour=0, minute=0, second=0, microsecond=0) + DAY
        known = a["item_id"] in log.items
        scale, most = log.items.get(a["item_id"], ("default", 1))

        def rule(name: str, when: datetime = when, scale: str = scale) -> Any:
            return log.rule(_month(when), scale, name)

        since = months_before(when, rule("lookback_months"))
        met = any(
            since <= b["completed_at"]
            and (b["completed_at"], b["id"]) < (when, a["id"])
            and (b["correct"] is not None or omitted(b, end + DAY))
            for b in meetings[a["user_id"], a["item_id"]]
        )
        hinted = a["correct"] is not None and (a["hints_used"] or 0) > 0
        score = _points(a, most)
        usual = usual_time(a["item_id"], end, rule("rapid_min_times"))
        reason = None
        if a["mode"] != "live":
            reason = "sandbox"
        elif a["user_id"] in log.test_accounts:
            reason = "test_account"
        elif not known or _contradicts_itself(a, most):
            reason = "unusable"
        elif met:
            reason = "repeat"
        elif a["correct"] is None:
            reason = None if omitted(a, end + DAY) else "not_reached"
            score = 0
        elif hinted and rule("hinted") == "wrong":
            score = 0
        elif score is None:
            reason = "score_missing"
        elif hinted:
            reason = "hinted"
        is_timed = a["correct"] is not None and a["response_time_ms"] is not None and usual is not None
        if is_timed and a["response_time_ms"] < min(rule("rapid_share") * usual, rule("rapid_cap_ms")):
            reason = reason or "rapid"
        if (a["session_id"], a["item_id"], a["user_id"]) in log.draws:
            reason = reason or "seed"
        found[a["id"], when] = Verdict(scale, reason, None if reason else score, most if most > 1 else None)
    return found


def _month(at: datetime) -> str:
    return f"{at:%Y-%m}"


def _comes_later(b: Attempt, a: Attempt) -> bool:
    if a["position"] is None or b["position"] is None:
        return bool(b["completed_at"] > a["completed_at"])
    return bool(b["position"] > a["position"])


def _points(a: Attempt, most: int) -> int | None:
    """Score of an answer, or None if unknown. Full credit is the maximum score."""
    if most > 1 and a.get("score") is not None:
        return int(a["score"])
    if most > 1:
        return most if a["correct"] else None
    return int(bool(a["correct"]))


def _contradicts_itself(a: Attempt, most: int) -> bool:
    given = a.get("score")
    if most == 1 or given is None:
        return False
    return not 0 <= given <= most or a["correct"] is not (given == most)
