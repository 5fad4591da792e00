"""Days of the look-back that must be judged again because a scale's rules changed or the scale is new.

Days of closed months are left out, because a closed month keeps its rules. `responses.verdicts` judges the days;
`responses.snapshot` finds the months that become stale.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import psycopg

from irt_assets.common.partitions import day_bounds, day_of
from irt_assets.common.wording import join_names, quantity
from irt_assets.responses.closing_records import read_closed
from irt_assets.responses.facts import abilities_start
from irt_assets.responses.verdicts import JUDGING_RULES, days_without_verdicts, rules_hash
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import RuleChange, Scale, read_scales
from resources.postgres.database import first_column

_JUDGED_DAYS = """
    SELECT midnight::date FROM generate_series(%s::timestamptz, %s, interval '1 day') midnight
    CROSS JOIN LATERAL (
      SELECT FROM attempt_verdict
      WHERE completed_at >= midnight AND completed_at < midnight + interval '1 day' AND scale_id = %s LIMIT 1
    ) verdict
"""
"""Days with verdicts of a scale, looked up day by day, because the planner would join an EXISTS to the whole
look-back."""


@dataclass(frozen=True)
class DaysToJudge:
    """Days to judge, oldest first, and the closed `months` of the same period, whose days are left out."""

    days: list[date]
    months: list[str]

    @property
    def sentence(self) -> str:
        """The days in words; empty without days."""
        if not self.days:
            return ""
        days_text = f"to be judged: {quantity(len(self.days), 'day')}, {self.days[0]} to {self.days[-1]}"
        if self.months:
            days_text += f"; closed months keep their rules: {join_names(self.months)}"
        return days_text


def days_of_change(connection: psycopg.Connection, change: RuleChange, now: datetime) -> DaysToJudge:
    """The days up to the last midnight that must be judged again after a change. No days if only minima change."""
    if not {*change.rules} & {*JUDGING_RULES}:
        return DaysToJudge([], [])
    return _days(connection, change.after, now, judged_too=True)


def days_of_new_scale(connection: psycopg.Connection, scale_id: str, now: datetime) -> DaysToJudge:
    """The days up to the last midnight with answers to a new scale that have not been judged by its rules yet.

    Until a scale has rules of its own, its answers are judged by the defaults.
    """
    scale = read_scales(connection)[scale_id]
    return _days(connection, scale, now, judged_too=rules_hash(scale.rules) != rules_hash(Rules()))


def _days(connection: psycopg.Connection, scale: Scale, now: datetime, *, judged_too: bool) -> DaysToJudge:
    today = day_bounds(day_of(now))[0]
    start = abilities_start(today, read_scales(connection))
    closed = [closing.month for closing in read_closed(connection) if closing.scale_id == scale.scale_id]
    days = {*days_without_verdicts(connection, start, today)}
    if judged_too:
        days |= {*first_column(connection, _JUDGED_DAYS, (start, today - timedelta(days=1), scale.scale_id))}
    open_days = sorted(day for day in days if f"{day:%Y-%m}" not in closed)
    return DaysToJudge(open_days, [month for month in closed if day_of(start)[:7] <= month])
