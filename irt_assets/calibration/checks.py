"""Checks of the monthly assets, made by factories: set gates, item gates, and one inventory per asset.

The set gates block the rest of their run; the others only tell. Each is partitioned by month and names
the scale. Where some scales fail and others pass, a set gate fails with a warning only, so that the
scales that pass go on; the publication step judges every scale again.

Dagster reads the annotations of the decorated functions, so this module does not postpone them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg
import psycopg

from irt_assets.calibration.agreement import read_agreement
from irt_assets.calibration.cautions import CAUTIONS
from irt_assets.calibration.fits import latest_staged
from irt_assets.calibration.gates import SET_GATES, SetGate, fit_problem, gather, item_problems
from irt_assets.calibration.green import MonthState, State, month_states
from irt_assets.partitions import last_complete_month, months_between
from irt_assets.psychometrics.models import Flag
from irt_assets.responses.scales import Scale, read_scales
from irt_assets.retries import failures_told_apart
from resources.database import Database
from resources.object_store import ObjectStore

INVENTORY = "inventory"
TO_MEND_IT = "to mend it"
"""Metadata of a failed check: what a person does about it. Alerts hand it on."""


def build_calibration_checks(
    months: dg.PartitionsDefinition, first_month: str, beside: Iterable[str] = ()
) -> tuple[list[dg.AssetChecksDefinition], dg.AssetChecksDefinition]:
    """The checks of a month, and the inventory checks over all months. `beside`: engines that have an asset."""
    monthly = [_set_gate_check(gate, months) for gate in SET_GATES]
    monthly += [_set_gate_check(caution, months, holds=False) for caution in CAUTIONS]
    monthly += [
        _item_check("item_calibration", "items_were_estimated", _unestimated, months),
        _item_check("published_item_parameters", "items_pass_their_gates", _held_back, months),
        *(_engine_check(engine, months) for engine in beside),
        _agreement_check(months),
    ]
    assets = ("scored_responses", "item_calibration", "linked_item_parameters", "published_item_parameters")
    return monthly, _inventory_checks(assets, first_month)


def _set_gate_check(gate: SetGate, months: dg.PartitionsDefinition, *, holds: bool = True) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=gate.asset,
        name=gate.name,
        description=f"{'Set gate: holds the whole month. ' if holds else ''}{gate.explanation} "
        f"Where it fails: {gate.fix}",
        blocking=holds,
        partitions_def=months,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        database: dg.ResourceParam[Database],
        store: dg.ResourceParam[ObjectStore],
    ) -> dg.AssetCheckResult:
        month = context.partition_key
        with failures_told_apart(), database.connect() as connection:
            verdicts = {
                scale_id: gate.judge(gather(connection, store, month, scale))
                for scale_id, scale in read_scales(connection).items()
            }
        failed = [scale for scale, verdict in verdicts.items() if not verdict.passed]
        return dg.AssetCheckResult(
            passed=not failed,
            severity=dg.AssetCheckSeverity.ERROR
            if holds and len(failed) == len(verdicts)
            else dg.AssetCheckSeverity.WARN,
            description=_sentence({scale: verdict.why for scale, verdict in verdicts.items()}),
            metadata={
                "scales": dg.MetadataValue.json({s: {"passed": v.passed, "why": v.why} for s, v in verdicts.items()}),
                "details": dg.MetadataValue.json({s: v.details for s, v in verdicts.items()}),
                **({TO_MEND_IT: gate.fix} if failed else {}),
            },
        )

    return check


Problems = dict[str, list[str]]


def _item_check(
    asset: str,
    name: str,
    find: Callable[[psycopg.Connection, ObjectStore, str, Scale], Problems],
    months: dg.PartitionsDefinition,
) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset,
        name=name,
        description="Item gate: holds back single items and names them; it never makes a month red.",
        partitions_def=months,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        database: dg.ResourceParam[Database],
        store: dg.ResourceParam[ObjectStore],
    ) -> dg.AssetCheckResult:
        with failures_told_apart(), database.connect() as connection:
            problems = {
                scale_id: find(connection, store, context.partition_key, scale)
                for scale_id, scale in read_scales(connection).items()
            }
        said = {
            scale: f"{len(items)} items held back: {', '.join(sorted(items)[:10])}{' …' if len(items) > 10 else ''}"
            for scale, items in problems.items()
            if items
        }
        return dg.AssetCheckResult(
            passed=not said,
            severity=dg.AssetCheckSeverity.WARN,
            description=_sentence(said) or "no item is held back",
            metadata={"items": dg.MetadataValue.md(_item_table(problems)), "all": dg.MetadataValue.json(problems)},
        )

    return check


def _engine_check(engine: str, months: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=f"item_calibration_{engine}",
        name=f"{engine}_fitted",
        description=f"Whether `{engine}` could fit the month. It never makes a month red: where a scale demands the "
        "engine, a set gate does.",
        partitions_def=months,
    )
    def check(context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        month = context.partition_key
        with failures_told_apart(), database.connect() as connection:
            fits = {
                scale_id: latest_staged(connection, month, scale_id, engine)
                for scale_id, scale in read_scales(connection).items()
                if scale.engine != engine
            }
        said = {scale: fit_problem(fit) for scale, fit in fits.items() if fit is not None}
        problems = {scale: problem for scale, problem in said.items() if problem}
        return dg.AssetCheckResult(
            passed=not problems,
            severity=dg.AssetCheckSeverity.WARN,
            description=_sentence(problems) or (f"fitted {', '.join(said)}" if said else "it has no scale to fit"),
            metadata={"scales": dg.MetadataValue.json({s: why or "fitted" for s, why in said.items()})},
        )

    return check


def _agreement_check(months: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset="engine_agreement",
        name="engines_agree",
        description="In standard errors no item is far apart between two engines, nor are all of them together.",
        partitions_def=months,
    )
    def check(context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        with failures_told_apart(), database.connect() as connection:
            found = {
                scale_id: read_agreement(connection, context.partition_key, scale)
                for scale_id, scale in read_scales(connection).items()
            }
        return dg.AssetCheckResult(
            passed=all(month.agrees for month in found.values()),
            severity=dg.AssetCheckSeverity.WARN,
            description=_sentence({scale: month.sentence for scale, month in found.items()}),
        )

    return check


def _unestimated(connection: psycopg.Connection, store: ObjectStore, month: str, scale: Scale) -> Problems:
    calibration = gather(connection, store, month, scale).calibration
    if calibration is None:
        return {}
    return {
        item: [f"{flag.value}: {Flag(flag).explanation}" for flag in flags]
        for item, flags in zip(calibration.item_ids, calibration.flags, strict=True)
        if flags
    }


def _held_back(connection: psycopg.Connection, store: ObjectStore, month: str, scale: Scale) -> Problems:
    linked = gather(connection, store, month, scale).linked
    if linked is None:
        return {}
    return {item: found for item, params in linked.items.items() if (found := item_problems(params, scale.rules))}


def _inventory_checks(assets: Sequence[str], first_month: str) -> dg.AssetChecksDefinition:
    """One look at all months, said of each asset: whichever an analyst opens, it tells the same."""
    specs = [
        dg.AssetCheckSpec(
            INVENTORY,
            asset=asset,
            description="Which months, of all that are over, are missing, stale, running, waiting or red.",
        )
        for asset in assets
    ]

    @dg.multi_asset_check(name="all_months", specs=specs, can_subset=True)  # a job has the name of the check
    def checks(
        context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]
    ) -> Iterator[dg.AssetCheckResult]:
        months = list(months_between(first_month, last_complete_month(datetime.now(UTC))))
        with failures_told_apart():
            states = month_states(database, context.instance, months)
        passed, said = _inventory_sentence(months, states)
        rows = "\n".join(
            f"| {s.month} | {s.scale_id} | {s.state} | {s.why} |" for s in states if s.state is not State.GREEN
        )
        table = f"| month | scale | state | why |\n|---|---|---|---|\n{rows}"
        for key in sorted(context.selected_asset_check_keys):
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=passed,
                severity=dg.AssetCheckSeverity.WARN,
                description=said,
                metadata={"not green": dg.MetadataValue.md(table)},
            )

    return checks


def _inventory_sentence(months: list[str], states: list[MonthState]) -> tuple[bool, str]:
    if months and not states:
        return False, "the bank has no items: `irt import questions FILE`"
    wrong = [state for state in states if state.state is not State.GREEN]
    named = ", ".join(f"{state.month} {state.state}" for state in wrong[:6]) + (" …" if len(wrong) > 6 else "")
    said = f"{len(states) - len(wrong)} of {len(states)} months are green"
    return not wrong, f"{said}; {named}" if wrong else said


def _sentence(by_scale: dict[str, str]) -> str:
    if len(by_scale) == 1:
        return next(iter(by_scale.values()))
    return "; ".join(f"{scale}: {why}" for scale, why in by_scale.items())


def _item_table(problems: dict[str, Problems]) -> str:
    rows = [
        f"| {scale} | {item} | {'; '.join(found)} |"
        for scale, items in problems.items()
        for item, found in sorted(items.items())[:10]
    ]
    return "\n".join(["| scale | item | why |", "| --- | --- | --- |", *rows]) if rows else "none"
