"""The rules and scales that apply to a month. A closed month keeps the rules with which it closed.

A month is open if it has no row in `month_state`, or if the state of its newest row is reopened.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.responses.closing_records import ClosedMonth, read_closed
from irt_assets.scales.rules import Rules, settings_of_stage
from irt_assets.scales.scale import Scale, read_scales_of_windows


def scales_of_month(connection: psycopg.Connection, month: str) -> dict[str, Scale]:
    """The scales with the rules and decisions that apply to the month."""
    return scales_of_months(connection, [month])[month]


def scales_of_months(connection: psycopg.Connection, months: Collection[str]) -> dict[str, dict[str, Scale]]:
    """The scales with the rules and decisions that apply to each of the months, by month."""
    found = read_scales_of_windows(connection, {month: Month(month).start for month in months})
    closed = read_closed(connection, months)
    return {month: _with_closed_rules(scales, closed, month) for month, scales in found.items()}


def apply_closed_rules(connection: psycopg.Connection, scales: Mapping[str, Scale], month: str) -> dict[str, Scale]:
    """Give each scale for which the month is closed the eligibility rules with which the month closed."""
    return _with_closed_rules(scales, read_closed(connection, [month]), month)


def _with_closed_rules(scales: Mapping[str, Scale], closed: Iterable[ClosedMonth], month: str) -> dict[str, Scale]:
    found = dict(scales)
    for record in closed:
        if record.month == month and (scale := scales.get(record.scale_id)):
            eligibility = Rules.from_settings(settings_of_stage("eligibility", record.rules)).eligibility
            rules = scale.rules.model_copy(update={"eligibility": eligibility})
            found[record.scale_id] = replace(scale, rules=rules)
    return found


def rules_of_month(connection: psycopg.Connection, month: str) -> dict[str, Rules]:
    """Scale → the rules by which a month's answers are judged."""
    return {scale_id: scale.rules for scale_id, scale in scales_of_month(connection, month).items()}
