"""The job by which a person decides from the UI's launchpad; `irt release` does the same.

What does not belong here: what a decision is (see `calibration.release`).

Dagster reads the annotations of the decorated functions, so this module does not postpone them.
"""

from datetime import UTC, datetime
from enum import Enum

import dagster as dg
from pydantic import Field

from irt_assets.calibration import release
from irt_assets.calibration.anchor_versions import consider, drop_anchors
from irt_assets.calibration.assets import RELEASE_JOB
from irt_assets.calibration.proposals import EVERY, Proposal, Reference, chosen, open_changes
from irt_assets.calibration.recalibration import recalibrate
from irt_assets.calibration.release_impact import impact
from irt_assets.responses.scales import read_scales
from irt_assets.retries import failures_told_apart
from resources.database import Database
from resources.failures import PermanentFailure
from resources.object_store import ObjectStore
from resources.settings import Settings


class Choice(Enum):
    """What is decided, or asked for; the launchpad wants the names."""

    accept = "accept"
    reject = "reject"
    drop_anchors = "drop_anchors"
    recalibrate = "recalibrate"


class ReleaseConfig(dg.Config):
    """What the launchpad asks for. Nothing is decided, and nothing fitted, while `dry_run` is true."""

    month: str = Field(
        description="Month whose proposals are meant, e.g. 2026-09; FIRST:LAST of a recalibration; of anchors the "
        "first month that is linked without them."
    )
    scale: str = Field(default="default", description="Scale that the items belong to.")
    items: list[str] = Field(
        default=[EVERY], description=f"Items; [{EVERY}]: those that ask for a decision, or all that are not anchors."
    )
    decision: Choice = Field(
        default=Choice.accept, description="accept or reject proposals, drop_anchors, or recalibrate for new proposals."
    )
    decided_by: str = Field(default="", description="Who decides. Needed for a decision.")
    reason: str = Field(default="", description="Why. Needed for a decision.")
    effective_from: str = Field(
        default="", description="First day (UTC) that new values are in force, e.g. 2026-11-01; empty: the next 1st."
    )
    dry_run: bool = Field(default=True, description="Show evidence and effect, and decide nothing.")


def build_release_job(settings: Settings, tags: dict[str, str]) -> dg.JobDefinition:
    """The job, without partitions; evidence and effect are metadata of its step."""

    @dg.op(name="decide_on_proposals", out=dg.Out(dg.Nothing))
    def decide_on_proposals(
        context: dg.OpExecutionContext,
        config: ReleaseConfig,
        database: dg.ResourceParam[Database],
        store: dg.ResourceParam[ObjectStore],
    ) -> None:
        with failures_told_apart():
            if config.decision is Choice.drop_anchors:
                metadata = _drop_anchors(config, database)
            elif config.decision is Choice.recalibrate:
                metadata = _recalibrate(config, database, store, settings)
            else:
                metadata = _decide(config, database, context.run_id)
        context.add_output_metadata(metadata)
        for name in ("outcome", "effect"):
            context.log.info(str(metadata[name].value))

    @dg.job(
        name=RELEASE_JOB,
        executor_def=dg.in_process_executor,
        tags=tags,
        description="A person's decision on what a month proposes. Shows evidence and effect, and decides nothing, "
        "until dry_run is false.",
    )
    def release_job() -> None:
        decide_on_proposals()

    return release_job


Metadata = dict[str, dg.MetadataValue]


def _decide(config: ReleaseConfig, database: Database, run_id: str) -> Metadata:
    """Show the proposals and what accepting them would do; decide, unless it is a dry run."""
    now = datetime.now(UTC)
    since = release.in_force_since(config.effective_from, now)
    with database.connect() as connection:
        found = chosen(connection, [Reference(config.month, item) for item in config.items])
        strays = [p.item_id for p in found if p.scale_id != config.scale]
        if strays:
            raise PermanentFailure(f"not on scale {config.scale}: {', '.join(strays)}")
        effect = impact(connection, read_scales(connection)[config.scale], open_changes(found), since)
    outcome = "dry run, nothing was decided"
    if not config.dry_run and config.decision is Choice.reject:
        release.reject(database, [p.reference for p in found], by=config.decided_by, reason=config.reason)
        outcome = f"{len(found)} rejected by {config.decided_by}"
    elif not config.dry_run:
        release.accept(
            database,
            [p.reference for p in found],
            by=config.decided_by,
            reason=config.reason,
            effective_from=since,
            now=now,
            run_id=run_id,
        )
        outcome = f"{len(found)} accepted by {config.decided_by}, in force from {since:%Y-%m-%d} on"
    return {
        "outcome": dg.MetadataValue.text(outcome),
        "effect": dg.MetadataValue.text(effect.sentence),
        "proposals": dg.MetadataValue.md(_table(found)),
        "effect in numbers": dg.MetadataValue.json(effect.as_dict()),
    }


def _drop_anchors(config: ReleaseConfig, database: Database) -> Metadata:
    with database.connect() as connection:
        effect = consider(connection, config.scale, config.items, config.month)
    outcome = "dry run, nothing was decided"
    if not config.dry_run:
        drop_anchors(database, config.scale, config.items, config.month, by=config.decided_by, reason=config.reason)
        outcome = f"dropped by {config.decided_by}"
    return {"outcome": dg.MetadataValue.text(outcome), "effect": dg.MetadataValue.text(effect.sentence)}


def _recalibrate(config: ReleaseConfig, database: Database, store: ObjectStore, settings: Settings) -> Metadata:
    first, _, last = config.month.partition(":")
    last = last or first
    if config.dry_run:
        effect = f"{first} to {last} would be fitted as one; what comes out is only proposed"
        return {
            "outcome": dg.MetadataValue.text("dry run, nothing was fitted"),
            "effect": dg.MetadataValue.text(effect),
        }
    items = () if config.items == [EVERY] else config.items
    done = recalibrate(database, store, config.scale, first, last, items, settings.irt_threads)
    since = [f"{item} from {at:%Y-%m-%d}" for item, at in done.changed.items()]
    return {
        "outcome": dg.MetadataValue.text(f"{len(done.proposed)} items proposed as {done.window}"),
        "effect": dg.MetadataValue.text(
            f"{done.n_responses:,} answers in {', '.join(done.months)}; only answers since a change: "
            f"{', '.join(since) or 'of none'}"
        ),
        "passed over": dg.MetadataValue.json(dict(done.passed_over)),
        "held back": dg.MetadataValue.json(dict(done.held)),
    }


def _table(found: list[Proposal]) -> str:
    lines = ["| proposal | proposed | published | wABC | drift | state | look at |", "|---|---|---|--:|---|---|---|"]
    lines += [
        f"| {p.reference} | {p.new} | {p.old or 'nothing'} | {'' if p.wabc is None else format(p.wabc, '.3f')} "
        f"| {p.severity} {p.kind} | {p.state} | {'; '.join([*p.cautions, *(p.dif or ())])} |"
        for p in found
    ]
    return "\n".join(lines)
