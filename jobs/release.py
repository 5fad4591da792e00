"""The job by which a person decides from the UI's launchpad; `irt release` does the same.

Its partitions are months. Picking one fills in what waits for a decision in it: each proposal, and of a month whose
anchors disagree each anchor that moved. A line that stays undecided decides nothing. What does not belong here:
what a decision is (see `decisions.release`).

Dagster reads the annotations of the decorated functions, so this module does not postpone them.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import dagster as dg
import psycopg
from pydantic import Field

from irt_assets.common.partitions import month_bounds, monthly
from irt_assets.common.release_job import RELEASE_JOB
from irt_assets.common.retries import classify_failures
from irt_assets.common.wording import counted
from irt_assets.decisions import release, release_undo
from irt_assets.decisions.anchor_versions import What, change_anchors, moved_anchors, preview_change
from irt_assets.decisions.proposals import Proposal, open_changes, parse_reference, waiting_proposals
from irt_assets.decisions.recalibration import recalibrate
from irt_assets.decisions.release_impact import impact
from irt_assets.responses.scales import read_scales
from jobs.launched_by import LAUNCHED_BY
from resources.dagster_compat import BACKFILL_ID_TAG
from resources.dagster_schema import rows_shown
from resources.failures import PermanentFailure
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database
from resources.settings import Settings

OP = "decide_on_proposals"
PUBLISHED = dg.AssetKey("published_item_parameters")
Metadata = dict[str, dg.MetadataValue]


class Decision(Enum):
    """Decisions on a proposal, under the names that the launchpad shows."""

    undecided = "undecided"
    accept = "accept"
    reject = "reject"
    undo = "undo"


class AnchorDecision(Enum):
    """On an anchor of a month that is red, or on one that was dropped."""

    undecided = "undecided"
    drop = "drop"
    restore = "restore"


CHANGES: dict[AnchorDecision, What] = {AnchorDecision.drop: "drop_anchor", AnchorDecision.restore: "restore_anchor"}


class OnProposal(dg.Config):
    """A line of the launchpad."""

    decision: Decision = Field(
        default=Decision.undecided,
        description="undecided, accept, reject, or undo, which takes back an earlier decision.",
    )
    although_it_leaked: bool = Field(
        default=False, description="Required to accept a value estimated from leaked answers."
    )
    evidence: str = Field(default="", description="The evidence; for reading only, its value is ignored.")


class OnAnchor(dg.Config):
    """A line of the launchpad."""

    decision: AnchorDecision = Field(
        default=AnchorDecision.undecided, description="undecided, drop, or restore of one that was dropped."
    )
    evidence: str = Field(default="", description="How far it moved; for reading only, its value is ignored.")


class Recalibration(dg.Config):
    """A fit of several months as one, for new proposals."""

    first_month: str = Field(description="The first month, e.g. 2026-09; the last is the one that was picked.")
    scale: str = Field(default="default", description="The scale that is fitted.")
    items: list[str] = Field(default=[], description="Items to propose; none: all that are not anchors.")


class ReleaseConfig(dg.Config):
    """What the launchpad asks for."""

    note: str = Field(default="", description="What waits; for reading only, its value is ignored.")
    decided_by: str = Field(
        default="",
        description="Who decides. Required for a decision, unless the page has a login, which then supplies the name.",
    )
    reason: str = Field(default="", description="The reason. Required for a decision.")
    effective_from: str = Field(
        default="",
        description="First day (UTC) that values are in force, e.g. 2026-11-01; empty: the next 1st, or of an undo as "
        "soon as it changes nothing reported.",
    )
    proposals: dict[str, OnProposal] = Field(default={}, description="By MONTH/ITEM: what is decided on each proposal.")
    anchors: dict[str, OnAnchor] = Field(
        default={}, description="By item: which anchors the month and later ones are linked without, or with again."
    )
    recalibrate: list[Recalibration] = Field(default=[], description="Fits of several months as one.")


def build_release_job(settings: Settings, tags: dict[str, str]) -> dg.JobDefinition:
    """The job, a partition a month; evidence, effect and outcome are metadata of its step."""

    @dg.op(name=OP, out=dg.Out(dg.Nothing))
    def decide_on_proposals(
        context: dg.OpExecutionContext,
        config: ReleaseConfig,
        database: dg.ResourceParam[Database],
        store: dg.ResourceParam[ObjectStore],
    ) -> None:
        month = context.partition_key
        with classify_failures():
            who = who_decides(config.decided_by, context.run.tags, has_login=settings.has_login)
            metadata = _decide(config, who, month, database, context.run_id)
            for asked in config.recalibrate:
                metadata |= _recalibrate(asked, month, database, store, settings)
        context.add_output_metadata(metadata)
        outcome = str(metadata["outcome"].value)
        if outcome != NOTHING:
            context.log_event(dg.AssetObservation(PUBLISHED, description=outcome, partition=month, metadata=metadata))
        for name in ("outcome", "effect"):
            context.log.info(str(metadata[name].value))

    @dg.job(
        name=RELEASE_JOB,
        config=dg.PartitionedConfig(
            partitions_def=monthly(settings.irt_first_month),
            run_config_for_partition_key_fn=lambda month: {"ops": {OP: {"config": waiting(Database(settings), month)}}},
        ),
        executor_def=dg.in_process_executor,
        tags=tags,
        description="A person's decisions on what a month proposes. Pick the month: what waits is filled in, each line "
        "undecided. Launched unchanged, it shows evidence and effect, and decides nothing.",
    )
    def release_job() -> None:
        decide_on_proposals()

    return release_job


NOTHING = "nothing was decided"


def waiting(database: Database, month: str) -> dict[str, Any]:
    """The launchpad's config of a month: everything that waits for a decision, undecided."""
    try:
        with database.connect() as connection:
            found = [p for p in waiting_proposals(connection) if p.window[-7:] == month]
            anchors = anchors_that_moved(connection, month)
    except (psycopg.Error, PermanentFailure, OSError) as error:
        note = f"what waits could not be read, so nothing is listed: {str(error).strip().partition(chr(10))[0]}"
        return {"note": note, "proposals": {}}
    note = f"{len(found)} proposals of {month} wait" if found else f"no proposal of {month} waits"
    note += f", and {len(anchors)} anchors moved" if anchors else ""
    if found or anchors:
        note += ". Replace `undecided` with your decisions, add your name and the reason, and launch"
    lines = {
        str(p.reference): {"decision": "undecided", "evidence": _evidence(p)}
        | ({"although_it_leaked": False} if p.leaked else {})
        for p in found
    }
    filled: dict[str, Any] = {"note": note, "decided_by": "", "reason": "", "effective_from": "", "proposals": lines}
    return filled | ({"anchors": anchors} if anchors else {})


def anchors_that_moved(connection: psycopg.Connection, month: str) -> dict[str, dict[str, str]]:
    """A line for each of a month that is held, without those that a person has dropped since."""
    return {
        item: {"decision": "undecided", "evidence": anchor.evidence}
        for scale in read_scales(connection, month_bounds(month)[0]).values()
        for item, anchor in moved_anchors(connection, month, scale).items()
    }


def _evidence(p: Proposal) -> str:
    area = "" if p.wabc is None else f"; wABC {p.wabc:.3f}"
    return f"{p.old or 'nothing'} → {p.new}{area}; {' '.join(filter(None, (p.severity, p.kind)))}" + "".join(
        f"; {caution}" for caution in (*p.cautions, *(p.dif or ()))
    )


def who_decides(typed: str, tags: Mapping[str, str], *, has_login: bool) -> str:
    """The name that was verified when the run was launched; without a login, the typed one.

    Empty if unknown. Raises PermanentFailure for a typed name that is not the verified one.
    """
    verified = tags.get(LAUNCHED_BY, "")
    if has_login and (not verified or BACKFILL_ID_TAG in tags):
        if typed.strip():
            raise PermanentFailure(
                f"no login vouches for {typed!r}: launch the job of one month from the page, or use `irt release`"
            )
        return ""
    if verified and typed.strip() not in ("", verified):
        raise PermanentFailure(
            f"decided_by says {typed!r}, and the run was launched by {verified!r}: leave it empty, or write that name"
        )
    return verified or typed


def _decide(config: ReleaseConfig, who: str, month: str, database: Database, run_id: str) -> Metadata:
    """Show the named proposals and their effect; carry out the decisions, all or none."""
    now = datetime.now(UTC)
    since = release.in_force_since(config.effective_from, now)
    references = [parse_reference(name) for name in config.proposals]
    strays = [str(r) for r in references if r.window[-7:] != month]
    if strays:
        raise PermanentFailure(f"not of {month}, the month that was picked: {', '.join(strays)}")
    by_change = {
        what: [item for item, line in config.anchors.items() if line.decision is decision]
        for decision, what in CHANGES.items()
    }
    undone = [r for r in references if config.proposals[str(r)].decision is Decision.undo]
    again_from = since if config.effective_from else None
    with database.connect() as connection:
        to_undo = release_undo.preview(connection, undone, effective_from=again_from, now=now) if undone else []
        others = [r for r in references if r not in undone]
        found = release.open_proposals(connection, others) if others else []
        by_decision = {d: [p for p in found if config.proposals[str(p.reference)].decision is d] for d in Decision}
        accepted, rejected = by_decision[Decision.accept], by_decision[Decision.reject]
        release.refuse_leaks((p for p in accepted if not _leak_confirmed(config, p)), "set although_it_leaked: true")
        if accepted or rejected or undone or any(by_change.values()):
            release.require_text("name", who)
            release.require_text("reason", config.reason)
        changes = [
            (what, scale, items)
            for what, named in by_change.items()
            for scale, items in _by_scale(connection, named).items()
        ]
        undecided = _by_scale(connection, [] if changes else [*config.anchors])
        shown = [*changes, *((CHANGES[AnchorDecision.drop], *of_scale) for of_scale in undecided.items())]
        scales = read_scales(connection)
        to_publish = (
            accepted if accepted or rejected or undone else found
        )  # undecided ones: what accepting them would do
        effects = [
            impact(
                connection, scales[scale], open_changes([p for p in to_publish if p.scale_id == scale]), since
            ).sentence
            for scale in sorted({p.scale_id for p in to_publish})
        ]
        effects += [release.effect_of_reject(rejected)] if rejected else []
        effects += [one.sentence for one in to_undo]
        effects += [preview_change(connection, what, scale, items, month).sentence for what, scale, items in shown]
    why = config.reason
    if accepted:
        names = [p.reference for p in accepted]
        release.accept(database, names, by=who, reason=why, effective_from=since, now=now, run_id=run_id)
    if rejected:
        release.reject(database, [p.reference for p in rejected], by=who, reason=why)
    if undone:
        release_undo.undo(database, undone, by=who, reason=why, effective_from=again_from, now=now, run_id=run_id)
    for what, scale, items in changes:
        change_anchors(database, what, scale, items, month, by=who, reason=why)
    done = [f"{_named(accepted)} accepted, in force from {since:%Y-%m-%d} on"] if accepted else []
    done += [f"{_named(rejected)} rejected"] if rejected else []
    done += [f"{_named(one.proposal for one in to_undo)}: what was decided is undone"] if undone else []
    done += [
        f"{', '.join(items)} {'dropped from' if what == 'drop_anchor' else 'restored to'} the anchors from {month} on"
        for what, _, items in changes
    ]
    return {
        "outcome": dg.MetadataValue.text(f"{'; '.join(done)}; by {who}: {why}" if done else NOTHING),
        "effect": dg.MetadataValue.text("; ".join(effects) or "none"),
        "proposals": _table(
            [*found, *(one.proposal for one in to_undo)], lambda p: config.proposals[str(p.reference)].decision.value
        ),
    }


def _leak_confirmed(config: ReleaseConfig, p: Proposal) -> bool:
    return config.proposals[str(p.reference)].although_it_leaked


def _named(found: Iterable[Proposal]) -> str:
    return ", ".join(str(p.reference) for p in found)


def _by_scale(connection: psycopg.Connection, items: list[str]) -> dict[str, list[str]]:
    """The items by their scales. Raises PermanentFailure for one that the bank does not have."""
    known: dict[str, str] = dict(
        connection.execute("SELECT item_id, scale_id FROM question WHERE item_id = ANY(%s)", (items,)).fetchall()
    )
    strange = [item for item in items if item not in known]
    if strange:
        raise PermanentFailure(f"the bank has no items {', '.join(strange)}: ids are case-sensitive")
    found: dict[str, list[str]] = {}
    for item in items:
        found.setdefault(known[item], []).append(item)
    return found


def _recalibrate(
    asked: Recalibration, month: str, database: Database, store: ObjectStore, settings: Settings
) -> Metadata:
    done = recalibrate(database, store, asked.scale, asked.first_month, month, asked.items, settings.irt_threads)
    since = [f"{item} from {at:%Y-%m-%d}" for item, at in done.changed.items()]
    return {
        "outcome": dg.MetadataValue.text(f"{counted(len(done.proposed), 'item')} proposed as {done.window}"),
        "effect": dg.MetadataValue.text(
            f"{done.n_responses:,} answers in {', '.join(done.months)}; only answers since a change: "
            f"{', '.join(since) or 'of none'}"
        ),
        "passed over": rows_shown(("month", "why"), list(done.passed_over.items())),
        "held back": rows_shown(("item", "why"), [(item, "; ".join(why)) for item, why in done.held.items()]),
    }


def _table(found: list[Proposal], decision: Callable[[Proposal], str]) -> dg.MetadataValue:
    return rows_shown(
        ("proposal", "decision", "proposed", "published", "wABC", "drift", "look at"),
        [
            (
                str(p.reference),
                decision(p),
                str(p.new),
                str(p.old or "nothing"),
                None if p.wabc is None else round(p.wabc, 3),
                f"{p.severity} {p.kind}".strip(),
                "; ".join([*p.cautions, *(p.dif or ())]),
            )
            for p in found
        ],
    )
