"""The rules and scales that a month follows. A closed month keeps the rules that it closed with.

A month that has no row in `month_state`, or whose newest row says reopened, is open. What does not belong here: reading
these rows (see `closing_records`).
"""

from dataclasses import replace

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.psychometrics.eligibility.rules import Rules, of_stage
from irt_assets.responses.closing_records import read_closed
from irt_assets.responses.scales import Scale, read_scales


def closed_rules(connection: psycopg.Connection, month: str) -> dict[str, Rules]:
    """The eligibility rules of each scale for which the month is closed; all other rules are the defaults."""
    return {
        one.scale_id: Rules.from_settings(of_stage("eligibility", one.rules))
        for one in read_closed(connection, [month])
    }


def scales_of_month(connection: psycopg.Connection, month: str) -> dict[str, Scale]:
    """`read_scales` as the month follows it. A closed month keeps the eligibility rules that it closed with."""
    found = read_scales(connection, Month(month).start)
    for scale_id, rules in closed_rules(connection, month).items():
        if scale_id in found:
            kept = found[scale_id].rules.model_copy(update={"eligibility": rules.eligibility})
            found[scale_id] = replace(found[scale_id], rules=kept)
    return found


def rules_of_month(connection: psycopg.Connection, month: str) -> dict[str, Rules]:
    """The rules of each scale that judge the answers of a month."""
    return {scale_id: scale.rules for scale_id, scale in scales_of_month(connection, month).items()}
