"""Publish parameters in the order of months.

`publish_ready_months` goes through a scale's months in order. It publishes every month that passes its set gates if no
earlier month is running, queued or still to come. So the first backfill of a year gives the same ledger in whatever
order its runs finish.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import psycopg

from irt_assets.calibration.group_shift import current_shift
from irt_assets.common.partitions import Month
from irt_assets.common.wording import quantity
from irt_assets.gates import gates
from irt_assets.gates.evidence import Evidence, load_evidence
from irt_assets.gates.judged_months import judge_and_store
from irt_assets.ledger.anchors import anchor_items
from irt_assets.ledger.encoding import alike
from irt_assets.ledger.proposals import NewProposal, append_proposals
from irt_assets.ledger.publications import Publication, items_ever_published, publish, settled_values
from irt_assets.ledger.steps import Step, steps, write_step
from irt_assets.ledger.testlets import publish_effects
from irt_assets.responses.closed_months import scales_of_month
from irt_assets.scales.scale import Scale
from resources.files.object_store import ObjectStore
from resources.postgres.database import advisory_lock, one_value


def publish_ready_months(
    connection: psycopg.Connection,
    store: ObjectStore,
    scale: Scale,
    month: str,
    unsettled: Collection[str],
    run_id: str | None,
) -> dict[str, Step]:
    """Run the publication step of `month` and of pending months that can now be published, in the caller's transaction.

    Each month is judged by the model and the anchors of its own window, read after the ledger is locked. A pending
    month that has been fitted again is skipped until its own run reaches this step, because its gates have not been
    evaluated. The shift of a month's anchors as a group is measured again if earlier months have been published since.

    `unsettled` are the months, except `month`, that are running, queued or still to come in a requested backfill.
    Returns the steps taken, by month.
    """
    advisory_lock(connection, "ledger", scale.scale_id)
    known = steps(connection, scale.scale_id)
    steps_taken: dict[str, Step] = {}
    waiting = {m for m, step in known.items() if step.state == "pending" and m not in unsettled}
    for candidate in sorted(waiting | {month}):
        before = known.get(candidate)
        of_month = scales_of_month(connection, candidate)[scale.scale_id]
        evidence = load_evidence(connection, candidate, of_month, store)
        fit_id = evidence.linked.fit_id if evidence.linked else None
        if candidate != month and before and before.fit_id != fit_id:
            continue  # fitted again by a run that has not reached this step: its gates have not been evaluated
        blocking = sorted(m for m in unsettled if m < candidate)
        settled = before is not None and before.state == "done" and before.fit_id == fit_id
        if evidence.linked and not settled:
            evidence = replace(evidence, group_shift=current_shift(connection, of_month, candidate, evidence.linked))
        fields: dict[str, Any] = {"month": candidate, "scale_id": scale.scale_id, "fit_id": fit_id}
        fields["settled_at"] = before.settled_at if before else None
        problems = gates.failures(judge_and_store(connection, evidence))
        if problems or not evidence.linked:
            step = Step(**fields, state="held", why=gates.hold_reasons_and_remedy(problems) or gates.NO_ANSWERS)
        elif before and settled:
            step = before
        elif blocking:
            why = f"waits for {', '.join(blocking[:3])}{' and more' if len(blocking) > 3 else ''}, not settled yet"
            step = Step(**fields, state="pending", why=why)
        else:
            later = [m for m, s in (known | steps_taken).items() if m > candidate and s.settled_at is not None]
            step = _publish(connection, evidence, before, later, run_id)
        write_step(connection, step, run_id)
        steps_taken[candidate] = step
    return steps_taken


def _publish(
    connection: psycopg.Connection, evidence: Evidence, before: Step | None, later: list[str], run_id: str | None
) -> Step:
    """Publish items that pass their gates and have never been published; propose other items that pass."""
    linked, scale, month = evidence.linked, evidence.scale, evidence.month
    assert linked is not None
    end = Month(month).end
    ever = items_ever_published(connection, scale.scale_id)
    anchors = anchor_items(connection, scale)
    settled, values = settled_values(connection, scale.scale_id, month), linked.values
    held, published, proposed = {}, [], {}
    for item, fitted in linked.items.items():
        problems = gates.item_problems(fitted, scale.rules)
        if problems:
            held[item] = problems
        elif any(alike(values[item].without_errors, earlier.without_errors) for earlier in settled.get(item, ())):
            continue  # these values have been published or decided on before
        elif (most := values[item].max_score) in values[item].absent_scores:
            proposed[item] = f"nobody got its maximum score, {most}: the ability behind full credit is unknown"
        elif item in anchors:
            proposed[item] = "it is an anchor: the anchor set is frozen"
        elif item in ever:
            proposed[item] = "it is published already: a person decides on a change"
        elif before is not None and before.settled_at is not None:
            proposed[item] = f"{month} was settled before: a later run of it only proposes"
        elif later:
            proposed[item] = f"{min(later)} was settled before {month}: an earlier month then only proposes"
        else:
            published.append(item)
    publish(
        connection,
        [
            Publication(
                scale.scale_id,
                item,
                values[item],
                effective_from=end,
                rule="first",
                reason=f"first published by the green month {month}",
                anchor_hash=linked.anchor_hash,
                data_hash=linked.data_hash,
                month=month,
                fit_id=linked.fit_id,
            )
            for item in published
        ],
        run_id,
    )
    append_proposals(
        connection,
        [NewProposal(month, scale.scale_id, item, linked.fit_id, values[item], why) for item, why in proposed.items()],
    )
    if not later and (before is None or before.settled_at is None):
        publish_effects(connection, scale.scale_id, linked.model_spec.testlets, end, month, linked.fit_id)
    why = f"{quantity(len(published), 'item')} first published, {len(proposed)} proposed, {len(held)} held back"
    settled_at = before.settled_at if before and before.settled_at else one_value(connection, "SELECT now()")
    return Step(
        month=month,
        scale_id=scale.scale_id,
        fit_id=linked.fit_id,
        state="done",
        n_published=len(published),
        n_proposed=len(proposed),
        n_held=len(held),
        held=held,
        why=why,
        settled_at=settled_at,
    )
