"""The job by which a person decides from the UI's launchpad; `irt release` does the same.

What does not belong here: what a decision is (see `calibration.release`).

Dagster reads the annotations of the decorated functions, so this module does not postpone them.
"""

from datetime import UTC, datetime
from enum import Enum

import dagster as dg
from pydantic import Field

from irt_assets.calibration import release
from irt_assets.calibration.proposals import EVERY, Proposal, Reference, State, chosen
from irt_assets.calibration.release_impact import Impact, impact
from irt_assets.responses.scales import read_scales
from irt_assets.retries import failures_told_apart
from resources.database import Database
from resources.failures import PermanentFailure

RELEASE_JOB = "release_decision"


class Choice(Enum):
    """What is decided; the launchpad wants the names."""

    accept = "accept"
    reject = "reject"


class ReleaseConfig(dg.Config):
    """What the launchpad asks for. Nothing is decided while `dry_run` is true."""

    month: str = Field(description="Month whose proposals are meant, e.g. 2026-09; FIRST:LAST of a recalibration.")
    scale: str = Field(default="default", description="Scale that the items belong to.")
    items: list[str] = Field(default=[EVERY], description=f"Items; [{EVERY}]: those that ask for a decision.")
    decision: Choice = Field(default=Choice.accept, description="accept or reject.")
    decided_by: str = Field(default="", description="Who decides. Needed unless dry_run.")
    reason: str = Field(default="", description="Why. Needed unless dry_run.")
    effective_from: str = Field(
        default="", description="First day (UTC) that new values are in force, e.g. 2026-11-01; empty: the next 1st."
    )
    dry_run: bool = Field(default=True, description="Show evidence and effect, and decide nothing.")


def build_release_job(tags: dict[str, str]) -> dg.JobDefinition:
    """The job, without partitions; evidence and effect are metadata of its step."""

    @dg.op(name="decide_on_proposals", out=dg.Out(dg.Nothing))
    def decide_on_proposals(
        context: dg.OpExecutionContext, config: ReleaseConfig, database: dg.ResourceParam[Database]
    ) -> None:
        with failures_told_apart():
            now = datetime.now(UTC)
            since = release.start_of(config.effective_from) if config.effective_from else release.next_month(now)
            references = [Reference(config.month, item) for item in config.items]
            with database.connect() as connection:
                found = chosen(connection, references)
                strays = [p.item_id for p in found if p.scale_id != config.scale]
                if strays:
                    raise PermanentFailure(f"not on scale {config.scale}: {', '.join(strays)}")
                open_ones = {p.item_id: (p.new.a, p.new.b, p.new.c) for p in found if p.state is State.OPEN}
                effect = impact(connection, read_scales(connection)[config.scale], open_ones, since)
            context.add_output_metadata(_metadata(found, effect, config, since))
            context.log.info(effect.sentence)
            if config.dry_run:
                context.log.info(f"dry run: nothing was decided on {len(found)} proposals")
                return
            decided = [p.reference for p in found]
            if config.decision is Choice.reject:
                release.reject(database, decided, by=config.decided_by, reason=config.reason)
            else:
                release.accept(
                    database,
                    decided,
                    by=config.decided_by,
                    reason=config.reason,
                    effective_from=since,
                    now=now,
                    run_id=context.run_id,
                )
            context.log.info(f"{config.decision.value}ed by {config.decided_by}: {', '.join(map(str, decided))}")

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


def _metadata(
    found: list[Proposal], effect: Impact, config: ReleaseConfig, since: datetime
) -> dict[str, dg.MetadataValue]:
    outcome = "shown, nothing decided" if config.dry_run else f"{config.decision.value}ed by {config.decided_by}"
    if config.decision is Choice.accept:
        outcome += (
            f", to be in force from {since:%Y-%m-%d} on" if config.dry_run else f", in force from {since:%Y-%m-%d}"
        )
    lines = ["| proposal | proposed | published | wABC | drift | state | look at |", "|---|---|---|--:|---|---|---|"]
    lines += [
        f"| {p.reference} | {p.new} | {p.old or 'nothing'} | {'' if p.wabc is None else format(p.wabc, '.3f')} "
        f"| {p.severity} {p.kind} | {p.state} | {'; '.join([*p.cautions, *(p.dif or ())])} |"
        for p in found
    ]
    return {
        "outcome": dg.MetadataValue.text(outcome),
        "effect": dg.MetadataValue.text(effect.sentence),
        "proposals": dg.MetadataValue.md("\n".join(lines)),
        "effect in numbers": dg.MetadataValue.json(effect.as_dict()),
    }
