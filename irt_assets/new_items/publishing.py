"""Publish new items with the values of `item_pipeline`, by a person's decision, and test them once they are scored."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg
from pydantic import BaseModel

from irt_assets.common.partitions import Month, month_of
from irt_assets.common.wording import first_sentences, join_names, quantity
from irt_assets.ledger.anchors import anchor_hash
from irt_assets.ledger.decision_rows import DecisionRow, Entry, Kind, Plan
from irt_assets.ledger.encoding import item_from_json
from irt_assets.ledger.publications import Publication, in_force_query, items_ever_published, publish
from irt_assets.new_items.decided import MAX_NAMED, forms_with_items, missing_items
from irt_assets.new_items.progress import PipelineItem, read_pipeline
from irt_assets.new_items.stages import ItemStage, item_stages
from irt_assets.scales.item_status import read_withdrawals
from irt_assets.scales.scale import read_scales
from irt_psychometrics.items import ItemRow
from resources.failures import PermanentFailure
from resources.postgres.database import named_rows

BY_PIPELINE = "pipeline"
"""Rule of publications whose values come from `item_pipeline`."""
SETTING_TEST_AT = 500
"""Number of scored answers after which a month tests an item that the pipeline published."""


class PipelineValues(BaseModel):
    """Value of a decision to publish a new item.

    Attributes:
        n: number of answers from which the pipeline estimated the values.
        parameters: as `ledger.encoding.item_as_json` encodes them.
    """

    n: int
    parameters: dict[str, Any]


@dataclass(frozen=True)
class PublishRequest:
    """New items to publish. The values are in force from the start of the month after `now`."""

    items: Sequence[str]
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


class PublishNewItems(Kind):
    """Publish the items of a `PublishRequest`."""

    name, value, subject = "publish new items", PipelineValues, "item"
    stages = ("publishable",)
    why_no_undo = "θ may have been reported with the values. `irt items withdraw ITEM` takes the item out of use"

    def plan(self, connection: psycopg.Connection, request: PublishRequest) -> Plan:
        """Plan the publications. Raises PermanentFailure, naming the rule and the number, if an item may not be
        published."""
        items, since = [*dict.fromkeys(request.items)], month_of(request.now).end
        stages = {stage.item_id: stage for stage in item_stages(connection, items=items)}
        rows = {row.item_id: row for row in read_pipeline(connection, items=items)}
        problems = [*missing_items(items, stages)]
        for item, stage in stages.items():
            problems += [f"{item} {why}" for why in _refusals(connection, stage, rows.get(item), since)]
        if problems:
            raise PermanentFailure(f"nothing was decided: {'; '.join(problems[:MAX_NAMED])}")
        return Plan(
            [
                Entry(
                    stages[item].scale_id,
                    PipelineValues(n=rows[item].n, parameters=dict(rows[item].parameters)),
                    item,
                    effective_from=since,
                )
                for item in items
            ],
            first_sentences([_effect(rows[item], since) for item in items], MAX_NAMED),
            {f"the estimate of {item}": _estimate(rows[item]) for item in items},
            effects=lambda connection: [*forms_with_items(connection, items), *_tests_with(connection, items, since)],
        )

    def apply(self, connection: psycopg.Connection, decisions: Sequence[DecisionRow]) -> None:
        scales = read_scales(connection)
        publish(
            connection,
            [
                Publication(
                    made.scale_id,
                    made.subject,
                    item_from_json(made.value["parameters"]),
                    effective_from=made.effective_from,
                    rule=BY_PIPELINE,
                    reason=made.reason,
                    anchor_hash=anchor_hash(connection, made.scale_id, scales[made.scale_id].anchor_version),
                    data_hash=None,
                    decided_by=made.decided_by,
                )
                for made in decisions
                if made.effective_from is not None
            ],
        )


PUBLISH = PublishNewItems()


def _refusals(
    connection: psycopg.Connection, stage: ItemStage, row: PipelineItem | None, since: datetime
) -> Iterator[str]:
    """Yield why an item may not be published at `since`."""
    if stage.item_id in items_ever_published(connection, stage.scale_id):
        yield "has published values already. Months propose changes of them: `irt release list`"
    elif stage.stage in ("rejected", "retired"):
        yield f"is {stage.stage}: `irt items bring-back {shlex.quote(stage.item_id)}` first"
    elif read_withdrawals(connection).covers(stage.item_id, since):
        yield f"is withdrawn: `irt items restore {shlex.quote(stage.item_id)}` first"
    elif row is None:
        yield "has no row in item_pipeline: it is estimated in the night after its first answers"
    else:
        yield from row.shortfalls(read_scales(connection)[stage.scale_id].rules.seeding)


def _tests_with(connection: psycopg.Connection, items: Sequence[str], since: datetime) -> list[str]:
    """Name the adaptive tests in force at `since` whose limits on topic and format allow the items, a sentence for each
    item."""
    rows = connection.execute(
        """SELECT item_id, array_agg(test_id ORDER BY test_id)
           FROM question JOIN (SELECT DISTINCT ON (test_id) test_id, scale_id, policy FROM adaptive_test
                               WHERE effective_from <= %s ORDER BY test_id, version DESC) in_force USING (scale_id)
           WHERE item_id = ANY(%s) AND policy IS NOT NULL
             AND policy #>> ARRAY['topics', topic_id, 'max'] IS DISTINCT FROM '0'
             AND policy #>> ARRAY['formats', meta->>'format', 'max'] IS DISTINCT FROM '0'
           GROUP BY 1 ORDER BY 1""",
        (since, [*items]),
    )
    sentences = [f"{item} may be given in adaptive tests: {join_names(tests, MAX_NAMED)}" for item, tests in rows]
    return first_sentences(sentences, MAX_NAMED)


def _estimate(row: PipelineItem) -> str:
    return f"{item_from_json(row.parameters)} from {quantity(row.n, 'answer')}"


def _effect(row: PipelineItem, since: datetime) -> str:
    """Describe the publication and its evidence."""
    gates = ", ".join(f"{gate} {p:.0%}" for gate, p in row.p_gates.items())
    key = "no evidence on the key" if row.e_value is None else f"key not accused (e-value {row.e_value:.3g})"
    return (
        f"item {row.item_id} counts towards θ from {since:%Y-%m-%d} on, with {_estimate(row)}. "
        f"{row.prior_share or 0:.0%} of the precision is the prior's; {key}. Probability of passing: {gates}."
    )


def items_to_test(connection: psycopg.Connection, scale_id: str, month: str) -> dict[str, ItemRow]:
    """Read the items that the pipeline published and that had their first 500 scored answers in a month, with the
    published values.

    Seeded items were not scored before, and learners may take a scored item more seriously. So the month's estimate is
    tested against the pipeline's, once.
    """
    found = named_rows(
        connection,
        f"""SELECT item_id, parameters FROM ({in_force_query("rule, effective_from, parameters")}) p
            CROSS JOIN LATERAL (
              SELECT count(*) AS n, count(*) FILTER (WHERE completed_at < %(start)s) AS before
              FROM attempt_verdict v
              WHERE (v.scale_id, v.item_id) = (p.scale_id, p.item_id) AND v.reason IS NULL
                AND v.completed_at >= p.effective_from AND v.completed_at < %(at)s) answers
            WHERE scale_id = %(scale)s AND rule = %(rule)s AND before < %(n)s AND n >= %(n)s""",
        {
            "at": Month(month).end,
            "start": Month(month).start,
            "scale": scale_id,
            "rule": BY_PIPELINE,
            "n": SETTING_TEST_AT,
        },
    )
    return {row["item_id"]: item_from_json(row["parameters"]) for row in found}
