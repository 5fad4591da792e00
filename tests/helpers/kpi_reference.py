"""Features and KPIs computed directly from their formulas, a learner and an answer at a time: slow but easy to verify.

The module uses nothing of the platform except names of columns and settings. An attempt is a dictionary with the
columns of the view `attempt`; times are datetimes in UTC.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import NormalDist, fmean, median
from typing import Any

import numpy as np
from scipy.optimize import brentq

from tests.helpers.verdict_reference import USUAL, Log, judge_log

Attempt = dict[str, Any]
DAY = timedelta(days=1)
NODES = np.linspace(-6, 6, 61)


@dataclass(frozen=True)
class World:
    """All inputs: `items` by id as (scale, topic), `published` as scale → item → (a, b, c), learners' goals, rules."""

    attempts: list[Attempt]
    items: dict[str, tuple[str, str | None]]
    published: dict[str, dict[str, tuple[float, float, float]]]
    learners: dict[str, dict[str, Any]]
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    population: dict[str, tuple[float, float]] = field(default_factory=dict)

    def scales(self) -> set[str]:
        return {scale for scale, _ in self.items.values()}

    def scale_of(self, item: str) -> str:
        return self.items.get(item, ("default", None))[0]


def live_answers(world: World, start: datetime, end: datetime) -> list[Attempt]:
    return [
        a
        for a in world.attempts
        if start <= a["completed_at"] < end
        and a["mode"] == "live"
        and a["correct"] is not None
        and not world.learners.get(a["user_id"], {}).get("is_test", False)
    ]


def features(world: World, start: datetime, end: datetime) -> dict[tuple[str, str, Any], tuple[Any, ...]]:
    """Returns (attempts, correct, rt_median, hints) by (learner, topic, day)."""
    groups = defaultdict(list)
    for a in live_answers(world, start, end):
        groups[
            a["user_id"], world.items.get(a["item_id"], ("", None))[1] or "unknown", a["completed_at"].date()
        ].append(a)
    found = {}
    for key, answers in groups.items():
        times = [a["response_time_ms"] for a in answers if a["correct"] and a["response_time_ms"]]
        hints = [a["hints_used"] for a in answers if a["hints_used"] is not None]
        found[key] = (
            len(answers),
            sum(a["correct"] for a in answers),
            median(times) if times else None,
            sum(hints) if hints else None,
        )
    return found


# -- answers that may score a learner ----------------------------------------------------------------------------------


def verdicts(world: World) -> list[tuple[Attempt, int]]:
    """The attempts that count, each with its score."""
    log = Log(
        world.attempts,
        {item: (scale, 1) for item, (scale, _) in world.items.items()},
        {user for user, values in world.learners.items() if values.get("is_test")},
        lambda _, scale, name: world.rules.get(scale, {}).get(name, USUAL[name]),
    )
    log_verdicts = judge_log(log)
    found = ((a, log_verdicts[a["id"], a["completed_at"]]) for a in world.attempts)
    return [(a, verdict.score) for a, verdict in found if verdict.score is not None]


def eligible(world: World, scale: str, end: datetime) -> dict[str, list[tuple[datetime, str, int]]]:
    """Returns, by learner, (time, item, score) of counted answers to a scale's published items within 365 days."""
    found = defaultdict(list)
    for a, score in verdicts(world):
        if end - 365 * DAY <= a["completed_at"] < end and a["item_id"] in world.published.get(scale, {}):
            found[a["user_id"]].append((a["completed_at"], a["item_id"], score))
    return found


# -- abilities ---------------------------------------------------------------------------------------------------------


def curve(theta: float, a: float, b: float, c: float) -> tuple[float, float, float, float]:
    """Returns P, P', P'' and the information."""
    logistic = 1 / (1 + math.exp(-a * (theta - b)))
    p = c + (1 - c) * logistic
    first = (1 - c) * a * logistic * (1 - logistic)
    second = (1 - c) * a**2 * logistic * (1 - logistic) * (1 - 2 * logistic)
    return p, first, second, first**2 / (p * (1 - p))


def wle(answers: list[tuple[float, float, float, int]]) -> float:
    """Warm (1989): the root of Σ (x − P)P'/(PQ) + J/(2I), J = Σ P'P''/(PQ)."""

    def equation(theta: float) -> float:
        slope = information = bias = 0.0
        for a, b, c, x in answers:
            p, first, second, info = curve(theta, a, b, c)
            slope += (x - p) * first / (p * (1 - p))
            information += info
            bias += first * second / (p * (1 - p))
        return slope + bias / (2 * information)

    low, high = -1.0, 1.0
    while equation(low) < 0:
        low -= 1
    while equation(high) > 0:
        high += 1
    return brentq(equation, low, high, xtol=1e-13)


def eap(answers: list[tuple[float, float, float, int]], mean: float, sd: float) -> tuple[float, float]:
    theta = mean + sd * NODES
    posterior = np.exp(-(NODES**2) / 2)
    for a, b, c, x in answers:
        p = c + (1 - c) / (1 + np.exp(-a * (theta - b)))
        posterior = posterior * (p if x else 1 - p)
    posterior = posterior / posterior.sum()
    centre = float((posterior * theta).sum())
    return centre, math.sqrt(float((posterior * (theta - centre) ** 2).sum()))


# -- KPIs --------------------------------------------------------------------------------------------------------------


Scoreable = dict[str, dict[str, list[tuple[datetime, str, int]]]]


def on_scale(
    world: World, scoreable: Scoreable, user: str, scale: str | None, end: datetime
) -> dict[str, float | None]:
    """I_t, E_t, R_t, R_t_coverage and P of a learner on a scale. Undefined values are None."""
    found: dict[str, float | None] = dict.fromkeys(("I_t", "E_t", "R_t", "R_t_coverage", "P"))
    if scale is None:
        return found
    parameters = world.published.get(scale, {})
    user_answers = sorted(scoreable.get(scale, {}).get(user, []))
    rows = [(end - when, *parameters[item], score) for when, item, score in user_answers]
    recent = [row[1:] for row in rows if row[0] <= 14 * DAY]
    previous = [row[1:] for row in rows if 14 * DAY < row[0] <= 28 * DAY]
    if len(recent) >= 5 and len(previous) >= 5:
        centre = wle(recent + previous)
        variance = sum(1 / sum(curve(centre, *row[:3])[3] for row in part) for part in (recent, previous))
        change = (wle(recent) - wle(previous)) * 0.25 / (0.25 + variance)
        found["I_t"] = max(-1.0, min(1.0, change))
    target = world.learners.get(user, {})
    mean, sd = world.population.get(scale, (0.0, 1.0))
    if rows and target.get("target_theta") is not None and scale == target_scale(world, user):
        theta, se = eap([row[1:] for row in rows], mean, sd)
        weeks = min(row[0] for row in rows) / timedelta(weeks=1)
        found["P"] = NormalDist().cdf((theta - target["target_theta"]) / math.sqrt(se**2 + 0.05**2 * weeks))

    timed = [a for a in live_answers(world, end - 180 * DAY, end) if a["correct"] and a["response_time_ms"]]
    logs = defaultdict(list)
    for a in timed:
        logs[a["item_id"]].append(math.log(a["response_time_ms"]))
    slow: tuple[list[float], list[float]] = [], []
    for a in timed:
        age = end - a["completed_at"]
        if a["user_id"] == user and world.scale_of(a["item_id"]) == scale and age <= 56 * DAY:
            slow[age > 28 * DAY].append(math.log(a["response_time_ms"]) - median(logs[a["item_id"]]))
    if min(len(slow[0]), len(slow[1])) >= 20:
        found["E_t"] = max(0.0, min(1.0, 1 - math.exp(median(slow[0]) - median(slow[1]))))

    last: dict[bool, dict[str, tuple[datetime, bool]]] = {True: {}, False: {}}
    for a in live_answers(world, end - 56 * DAY, end):
        if a["user_id"] == user and world.scale_of(a["item_id"]) == scale:
            items = last[end - a["completed_at"] <= 28 * DAY]
            item_parameters = items.get(a["item_id"])
            # the later answer wins; at the same instant, the wrong answer
            if item_parameters is None or (a["completed_at"], not a["correct"]) > (
                item_parameters[0],
                not item_parameters[1],
            ):
                items[a["item_id"]] = (a["completed_at"], a["correct"])
    wrong = [item for item, (_, correct) in last[False].items() if not correct]
    again = [last[True][item][1] for item in wrong if item in last[True]]
    if wrong:
        found["R_t_coverage"] = len(again) / len(wrong)
    if again:
        found["R_t"] = sum(again) / len(again)
    return found


def target_scale(world: World, user: str) -> str | None:
    own = world.learners.get(user, {}).get("target_scale_id")
    return own or (next(iter(world.scales())) if len(world.scales()) == 1 else None)


def engagement(world: World, user: str, end: datetime) -> tuple[float, list[str]]:
    answers = [a for a in live_answers(world, end - 28 * DAY, end) if a["user_id"] == user]
    if not answers:
        return 0.0, []
    parts: dict[str, tuple[float, float | None]] = {}
    sessions = {a["session_id"] for a in answers} - {None}
    parts["sessions"] = 0.35, min(1, len(sessions) / 28) if sessions else None
    gaps = [(b - a).days for a, b in pairwise(sorted({a["completed_at"].date() for a in answers}))]
    parts["gaps"] = 0.25, min(1, 1 / fmean(gaps)) if gaps else None
    hints = [a["hints_used"] for a in answers if a["hints_used"] is not None]
    parts["hints"] = 0.20, 1 - min(1, fmean(hints) / 3) if hints else None
    dwells = []
    for session in sessions:
        starts = [a["started_at"] for a in answers if a["session_id"] == session and a["started_at"] is not None]
        ends = [a["completed_at"] for a in answers if a["session_id"] == session]
        if starts:
            dwells.append(max(0.0, (max(ends) - min(starts)).total_seconds()))
    parts["dwell"] = 0.20, min(1, fmean(dwells) / 900) if dwells else None
    return _sum(parts)


def churn(world: World, user: str, end: datetime) -> tuple[float, list[str]]:
    answers = [a for a in live_answers(world, end - 56 * DAY, end) if a["user_id"] == user]
    if not answers:
        return 1.0, []
    since = (end - max(a["completed_at"] for a in answers)) / DAY
    gaps = [(b - a).days for a, b in pairwise(sorted({a["completed_at"].date() for a in answers}))]
    sessions = {a["session_id"] for a in answers} - {None}
    return _sum(
        {
            "last": (0.60, min(1, since / 14)),
            "gaps": (0.25, min(1, fmean(gaps) / 7) if gaps else 1.0),
            "sessions": (0.15, 1 - min(1, len(sessions) / 10) if sessions else None),
        }
    )


def _sum(parts: dict[str, tuple[float, float | None]]) -> tuple[float, list[str]]:
    unknown = [name for name, (_, value) in parts.items() if value is None]
    return sum(weight * (0.5 if value is None else value) for weight, value in parts.values()), unknown


def kpis(world: World, end: datetime) -> dict[str, dict[str, Any]]:
    """Returns records by learner. `why` contains the names of the values that are null instead of sentences."""
    year = live_answers(world, end - 365 * DAY, end)
    scoreable = {scale: eligible(world, scale, end) for scale in world.published}
    found = {}
    for user in Counter(a["user_id"] for a in year):
        target = target_scale(world, user)
        record: dict[str, Any] = on_scale(world, scoreable, user, target, end)
        others = {world.scale_of(a["item_id"]) for a in year if a["user_id"] == user} - {target}
        record["by_scale"] = {scale: on_scale(world, scoreable, user, scale, end) for scale in others}
        record["A_t"], engaged = engagement(world, user, end)
        record["S"], quiet = churn(world, user, end)
        record["assumed"] = {name: parts for name, parts in (("A_t", engaged), ("S", quiet)) if parts}
        found[user] = record
    return found
