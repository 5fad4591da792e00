"""Checks of the monthly assets, made by factories: set gates, item gates, and one inventory per asset.

A set gate that fails is an error, the others warn. None stops its run: the publication step judges every scale again,
by the same functions, and fails with the reason where all of them are held. Each is partitioned by month and names the
scale.

Dagster reads the annotations of the decorated functions, so this module does not postpone them.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg
import psycopg

from irt_assets.calibration.agreement import read_agreement
from irt_assets.calibration.assets import DECIDE_IN, RELEASE_LAUNCHPAD
from irt_assets.calibration.cautions import CAUTIONS
from irt_assets.calibration.evidence import Verdict, gather
from irt_assets.calibration.fits import latest_staged
from irt_assets.calibration.gates import SET_GATES, SetGate, fit_problem, item_problems
from irt_assets.calibration.green import MonthState, State, month_states
from irt_assets.calibration.linking_gates import anchors_agree
from irt_assets.dated import partition_check
from irt_assets.partitions import last_complete_month, month_bounds, months_between
from irt_assets.psychometrics.core.models import Flag
from irt_assets.psychometrics.linking.anchor_diagnosis import moved
from irt_assets.responses.scales import Scale, read_scales
from irt_assets.retries import classify_failures
from irt_assets.wording import counted
from resources.dagster_schema import rows_shown
from resources.database import Database
from resources.object_store import ObjectStore

INVENTORY = "inventory"
HOW_TO_FIX = "how to fix it"
"""Metadata of a failed check: what a person does about it. Alerts hand it on."""
ITEMS, KNOWN_FROM = "items", "known from"
"""Metadata of a check that names items: a row for each, and the column of the month that has told of it before."""


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
    @partition_check(
        asset=gate.asset,
        name=gate.name,
        description=f"{'Set gate: holds the whole month. ' if holds else ''}{gate.explanation} "
        f"Where it fails: {gate.fix}",
        partitions_def=months,
        first=holds,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        database: dg.ResourceParam[Database],
        store: dg.ResourceParam[ObjectStore],
    ) -> dg.AssetCheckResult:
        month = context.partition_key
        with classify_failures(), database.connect() as connection:
            verdicts = {
                scale_id: gate.judge(gather(connection, store, month, scale))
                for scale_id, scale in read_scales(connection, month_bounds(month)[0]).items()
            }
        failed = [scale for scale, verdict in verdicts.items() if not verdict.passed]
        return dg.AssetCheckResult(
            passed=not failed,
            severity=dg.AssetCheckSeverity.ERROR if holds else dg.AssetCheckSeverity.WARN,
            description=_sentence({scale: verdict.why for scale, verdict in verdicts.items()}),
            metadata={
                "scales": rows_shown(("scale", "passed", "why"), [(s, v.passed, v.why) for s, v in verdicts.items()]),
                **_moved_anchors(verdicts),
                **_evidence(verdicts),
                **({HOW_TO_FIX: gate.fix} if failed else {}),
                **({DECIDE_IN: RELEASE_LAUNCHPAD} if failed and gate.judge is anchors_agree else {}),
            },
        )

    return check


def _moved_anchors(verdicts: Mapping[str, Verdict]) -> dict[str, dg.MetadataValue]:
    rows = [
        (scale, item, round(anchor.delta_b, 2), round(anchor.delta_a, 2), anchor.parameter, round(anchor.z, 1))
        for scale, verdict in verdicts.items()
        for item, anchor in moved(verdict.details).items()
    ]
    columns = ("scale", "anchor", "Δb", "Δa", "what moved", "in standard errors")
    return {"moved anchors": rows_shown(columns, rows)} if rows else {}


def _evidence(verdicts: Mapping[str, Verdict]) -> dict[str, dg.MetadataValue]:
    """What a gate judged by: numbers, whose trend Dagster draws, and what it counts by item as tables."""
    found: dict[str, dg.MetadataValue] = {}
    for scale, verdict in verdicts.items():
        for name, value in verdict.details.items():
            label = name.replace("_", " ") + (f" ({scale})" if len(verdicts) > 1 else "")
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                found[label] = dg.MetadataValue.float(float(f"{value:.4g}"))
            elif isinstance(value, dict) and value and name != "suspects":
                found[label] = rows_shown(("item", ""), [(str(item), str(of)) for item, of in value.items()])
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                found[label] = rows_shown(tuple(value[0]), [[_cell(cell) for cell in row.values()] for row in value])
    return found


def _cell(value: object) -> str | float:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return round(value, 3) if isinstance(value, float) else str(value)


Problems = dict[str, list[str]]


def _item_check(
    asset: str,
    name: str,
    find: Callable[[psycopg.Connection, ObjectStore, str, Scale], Problems],
    months: dg.PartitionsDefinition,
) -> dg.AssetChecksDefinition:
    @partition_check(
        asset=asset,
        name=name,
        description="Item gate: holds back single items and names them; it never makes a month red, and passes where "
        "the month before held back the same items.",
        partitions_def=months,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        database: dg.ResourceParam[Database],
        store: dg.ResourceParam[ObjectStore],
    ) -> dg.AssetCheckResult:
        with classify_failures(), database.connect() as connection:
            scales = read_scales(connection, month_bounds(context.partition_key)[0])
            problems = {s: find(connection, store, context.partition_key, scale) for s, scale in scales.items()}
            known = {s: held_before(connection, s, context.partition_key) for s in scales}
        rows = [
            (scale, item, known[scale].get(item, ""), "; ".join(why))
            for scale, items in problems.items()
            for item, why in sorted(items.items(), key=lambda of: (of[0] in known[scale], of[0]))
        ]
        new = [item for _, item, since, _ in rows if not since]
        before = [item for _, item, since, _ in rows if since]
        said = [f"{counted(len(new), 'item')} held back: {', '.join(new)}"] if new else ["no item is newly held back"]
        said += [f"{len(before)} as in the month before: {', '.join(before)}"] if before else []
        return dg.AssetCheckResult(
            passed=not new,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(said),
            metadata={ITEMS: rows_shown(("scale", "item", KNOWN_FROM, "why"), rows)},
        )

    return check


def _engine_check(engine: str, months: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    @partition_check(
        asset=f"item_calibration_{engine}",
        name=f"{engine}_fitted",
        description=f"Whether `{engine}` could fit the month. It never makes a month red: where a scale demands the "
        "engine, a set gate does.",
        partitions_def=months,
    )
    def check(context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        month = context.partition_key
        with classify_failures(), database.connect() as connection:
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
            metadata={"scales": rows_shown(("scale", "fit"), [(s, why or "fitted") for s, why in said.items()])},
        )

    return check


def _agreement_check(months: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    @partition_check(
        asset="engine_agreement",
        name="engines_agree",
        description="In standard errors no item is far apart between two engines, nor are all of them together.",
        partitions_def=months,
    )
    def check(context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        with classify_failures(), database.connect() as connection:
            found = {
                scale_id: read_agreement(connection, context.partition_key, scale)
                for scale_id, scale in read_scales(connection, month_bounds(context.partition_key)[0]).items()
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
    """Estimated items that are held back; of those that were not, `items_were_estimated` tells."""
    linked = gather(connection, store, month, scale).linked
    if linked is None:
        return {}
    return {
        item: found
        for item, params in linked.items.items()
        if not params["flags"] and (found := item_problems(params, scale.rules))
    }


def held_before(connection: psycopg.Connection, scale_id: str, month: str) -> dict[str, str]:
    """Items that the last month before `month` that was taken to the ledger held back, and that month."""
    row = connection.execute(
        """SELECT month, held FROM publication_step
           WHERE scale_id = %s AND month < %s AND state = 'done' ORDER BY month DESC LIMIT 1""",
        (scale_id, month),
    ).fetchone()
    return {item: str(row[0]) for item in row[1]} if row else {}


def _inventory_checks(assets: Sequence[str], first_month: str) -> dg.AssetChecksDefinition:
    """One look at all months; each asset names those that stopped at it, so that each month is named once."""
    specs = [
        dg.AssetCheckSpec(
            INVENTORY,
            asset=asset,
            description="Which of the months that are over stand here: missing, stale, running, waiting or red.",
        )
        for asset in assets
    ]

    @dg.multi_asset_check(name="all_months", specs=specs, can_subset=True)  # a job has the name of the check
    def checks(
        context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]
    ) -> Iterator[dg.AssetCheckResult]:
        months = list(months_between(first_month, last_complete_month(datetime.now(UTC))))
        with classify_failures():
            states = month_states(database, context.instance, months)
        for key in sorted(context.selected_asset_check_keys):
            standing = [s for s in states if s.state is not State.GREEN and s.asset == key.asset_key.to_user_string()]
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=not standing and bool(states or not months),
                severity=dg.AssetCheckSeverity.WARN,
                description=_inventory_sentence(months, states, standing),
                metadata={
                    "not green": rows_shown(
                        ("month", "scale", "state", "why"),
                        [(s.month, s.scale_id, s.state.value, s.why) for s in standing],
                    )
                },
            )

    return checks


def _inventory_sentence(months: list[str], states: list[MonthState], standing: list[MonthState]) -> str:
    if months and not states:
        return "the bank has no items: `irt import questions FILE`"
    if not standing:
        return f"none of {len(states)} months waits for it" if states else "no month is over yet"
    newest = sorted(standing, key=lambda state: state.month, reverse=True)
    named = ", ".join(f"{state.month} {state.state}" for state in newest[:6])
    more = f" and {len(newest) - 6} before" if len(newest) > 6 else ""
    return f"{len(standing)} of {len(states)} months: {named}{more}"


def _sentence(by_scale: dict[str, str]) -> str:
    if len(by_scale) == 1:
        return next(iter(by_scale.values()))
    return "; ".join(f"{scale}: {why}" for scale, why in by_scale.items())
