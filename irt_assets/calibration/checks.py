"""Checks of the monthly assets: set gates, item gates, and one inventory check per asset.

A failed set gate is an error, and the other checks warn. The checks judge the set gates of their asset, keep the
results in the ledger, and show them. No check stops its run: the publication step judges every scale again by all set
gates, and fails if all scales are held. Checks are partitioned by month, except the inventory checks, and their results
name the scale.
"""

import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from irt_assets.common.job_names import INVENTORY
from irt_assets.common.partition_checks import CheckInput, dated_result, earlier_failures, partition_check
from irt_assets.common.partitions import last_complete_month, months_between
from irt_assets.common.retries import classify_failures
from irt_assets.common.wording import quantity, sentences_by_scale
from irt_assets.gates.advisory_checks import ADVISORY_CHECKS
from irt_assets.gates.agreement import read_agreement
from irt_assets.gates.evidence import Evidence, load_evidence
from irt_assets.gates.gates import SET_GATES, SetGate, fit_problem, item_problems, judge_gates
from irt_assets.gates.judged_months import judge_and_store
from irt_assets.gates.month_classification import MONTHLY_ASSETS, SCORED, MonthState, State
from irt_assets.gates.month_status import month_states
from irt_assets.ledger.fits import explanation, latest_staged
from irt_assets.ledger.month_verdicts import GateVerdict
from irt_assets.responses.closed_months import scales_of_month
from irt_assets.scales.scale import read_scales
from irt_psychometrics.estimation import Flag
from resources.dagster_schema import HOW_TO_FIX, ITEMS, KNOWN_FROM, row_table
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database

_log = logging.getLogger(__name__)
Verdicts = Mapping[str, Mapping[str, GateVerdict]]
"""Results of set gates, by scale and gate."""


@dataclass(frozen=True)
class _MonthCheck:
    """A check of a month.

    Attributes:
        judge: returns the result, from the month's evidence and the stored results of set gates, both by scale.
        gate: the set gate whose stored result the check shows, or None.
    """

    name: str
    description: str
    severity: dg.AssetCheckSeverity
    judge: Callable[[Mapping[str, Evidence], Verdicts], dg.AssetCheckResult]
    gate: SetGate | None = None


def build_calibration_checks(
    months: dg.PartitionsDefinition, first_month: str, comparison_engines: Iterable[str] = ()
) -> tuple[list[dg.AssetChecksDefinition], dg.AssetChecksDefinition]:
    """Return the monthly checks, and the inventory checks over all months. `comparison_engines` have own assets."""
    gates = [(gate.asset, _gate_check(gate)) for gate in SET_GATES]
    gates += [(caution.asset, _gate_check(caution, holds=False)) for caution in ADVISORY_CHECKS]
    gates += [
        ("item_calibration", _item_check("items_were_estimated", _unestimated_items)),
        ("published_item_parameters", _item_check("items_pass_their_gates", _held_items)),
    ]
    monthly = [
        _build_asset_checks(asset, [check for checked_asset, check in gates if checked_asset == asset], months)
        for asset in MONTHLY_ASSETS
    ]
    monthly += [_engine_check(engine, months) for engine in comparison_engines]
    agree = "Two engines differ by few standard errors, on each item and on all items together."
    monthly.append(partition_check(months, "engine_agreement", "engines_agree", agree, _engines_agree))
    return monthly, _inventory_checks(first_month)


def _build_asset_checks(
    asset: str, checks: Sequence[_MonthCheck], months: dg.PartitionsDefinition
) -> dg.AssetChecksDefinition:
    """Return a step that judges and stores the selected set gates of the asset, and evaluates its selected checks.

    If the evidence cannot be read, or a check raises an error, the check fails with the reason.
    """
    by_name = {check.name: check for check in checks}

    @dg.multi_asset_check(
        name=f"{asset}_checks",
        specs=[
            dg.AssetCheckSpec(check.name, asset=asset, description=check.description, partitions_def=months)
            for check in checks
        ],
        can_subset=True,
        op_tags={"dagster/priority": "100"},  # before the next asset is made
    )
    def judge(
        context: dg.AssetCheckExecutionContext,
        database: dg.ResourceParam[Database],
        store: dg.ResourceParam[ObjectStore],
    ) -> Iterator[dg.AssetCheckResult]:
        selected = sorted(context.selected_asset_check_keys)
        gates = [gate for key in selected if (gate := by_name[key.name].gate)]
        judged: tuple[Mapping[str, Evidence], Verdicts] | str
        try:
            with classify_failures():
                judged = _judge(asset, context.partition_key, gates, database, store)
        except dg.RetryRequested:
            raise
        except dg.Failure as failure:
            judged = failure.description or str(failure)
        except Exception as error:  # noqa: BLE001 – for any error, the check must fail
            _log.exception("the evidence on %s cannot be read", context.partition_key)
            judged = explanation(error)
        failing = earlier_failures(context.instance, context.selected_asset_check_keys, context.partition_key)
        for key in selected:
            yield dated_result(_result(by_name[key.name], judged), context, key, failing[key])

    return judge


def _judge(
    asset: str, month: str, gates: Sequence[SetGate], database: Database, store: ObjectStore
) -> tuple[Mapping[str, Evidence], Verdicts]:
    """Load the month's evidence by scale, and judge and store the gates, in one transaction.

    The snapshot's file is read only for the checks of scored_responses.
    """
    read_from = store if asset == SCORED else None
    with database.connect() as connection:
        evidence = {
            scale_id: load_evidence(connection, month, scale, read_from)
            for scale_id, scale in scales_of_month(connection, month).items()
        }
        judged = {scale_id: judge_and_store(connection, own, gates) for scale_id, own in evidence.items() if gates}
        return evidence, judged


def _result(check: _MonthCheck, judged: tuple[Mapping[str, Evidence], Verdicts] | str) -> dg.AssetCheckResult:
    """Evaluate a check. `judged`: evidence and results of set gates, or the reason why they cannot be read."""
    if isinstance(judged, str):
        why = judged
    else:
        try:
            return check.judge(*judged)
        except Exception as error:  # noqa: BLE001 – the other checks are still evaluated
            _log.exception("the check %s could not be evaluated", check.name)
            why = explanation(error)
    return dg.AssetCheckResult(passed=False, severity=check.severity, description=f"could not be judged: {why}")


def gates_of_rules(rules: Collection[str]) -> tuple[SetGate, ...]:
    """Return the set gates that read one of the scale's `rules`."""
    return tuple(gate for gate in SET_GATES if {*gate.rules} & {*rules})


def _gate_check(gate: SetGate, *, holds: bool = True) -> _MonthCheck:
    severity = dg.AssetCheckSeverity.ERROR if holds else dg.AssetCheckSeverity.WARN

    def judge(evidence: Mapping[str, Evidence], stored: Verdicts) -> dg.AssetCheckResult:
        found = stored if holds else {scale_id: judge_gates(own, [gate]) for scale_id, own in evidence.items()}
        verdicts = {scale_id: of_scale[gate.name] for scale_id, of_scale in found.items()}
        failed = [scale for scale, verdict in verdicts.items() if not verdict.passed]
        return dg.AssetCheckResult(
            passed=not failed,
            severity=severity,
            description="; ".join(sentences_by_scale({scale: verdict.why for scale, verdict in verdicts.items()})),
            metadata={
                "scales": row_table(("scale", "passed", "why"), [(s, v.passed, v.why) for s, v in verdicts.items()]),
                **_moved_anchors(verdicts, evidence),
                **_evidence(verdicts),
                **({HOW_TO_FIX: gate.fix} if failed else {}),
            },
        )

    kind = (
        "Set gate: it holds the whole month, after all steps have run (so Dagster calls it non-blocking). "
        if holds
        else ""
    )
    return _MonthCheck(
        gate.name, f"{kind}{gate.explanation} If it fails: {gate.fix}", severity, judge, gate if holds else None
    )


def _moved_anchors(
    verdicts: Mapping[str, GateVerdict], evidence: Mapping[str, Evidence]
) -> dict[str, dg.MetadataValue]:
    rows = [
        (scale, item, round(anchor.delta_b, 2), round(anchor.delta_a, 2), anchor.parameter, round(anchor.z, 1))
        for scale, verdict in verdicts.items()
        if "suspects" in verdict.details and (constants := evidence[scale].constants)
        for item, anchor in constants.moved_anchors.items()
    ]
    columns = ("scale", "anchor", "Δb", "Δa", "what moved", "in standard errors")
    return {"moved anchors": row_table(columns, rows)} if rows else {}


def _evidence(verdicts: Mapping[str, GateVerdict]) -> dict[str, dg.MetadataValue]:
    """Details of the verdicts as metadata: numbers, whose trend Dagster plots, and tables."""
    found: dict[str, dg.MetadataValue] = {}
    for scale, verdict in verdicts.items():
        for name, value in verdict.details.items():
            label = name.replace("_", " ") + (f" ({scale})" if len(verdicts) > 1 else "")
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                found[label] = dg.MetadataValue.float(float(f"{value:.4g}"))
            elif isinstance(value, dict) and value and name != "suspects":
                found[label] = row_table(("item", ""), [(str(item), str(content)) for item, content in value.items()])
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                found[label] = row_table(tuple(value[0]), [[_cell(cell) for cell in row.values()] for row in value])
    return found


def _cell(value: object) -> str | float:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return round(value, 3) if isinstance(value, float) else str(value)


Problems = dict[str, list[str]]


def _item_check(name: str, find: Callable[[Evidence], Problems]) -> _MonthCheck:
    def judge(evidence: Mapping[str, Evidence], _: Verdicts) -> dg.AssetCheckResult:
        rows = [
            (scale, item, of_scale.held_before.get(item, ""), "; ".join(why))
            for scale, of_scale in evidence.items()
            for item, why in sorted(
                find(of_scale).items(), key=lambda entry: (entry[0] in of_scale.held_before, entry[0])
            )
        ]
        new = [item for _, item, since, _ in rows if not since]
        before = [item for _, item, since, _ in rows if since]
        parts = [f"{quantity(len(new), 'item')} held back: {', '.join(new)}"] if new else ["no item is newly held back"]
        parts += [f"{len(before)} as in the month before: {', '.join(before)}"] if before else []
        return dg.AssetCheckResult(
            passed=not new,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(parts),
            metadata={ITEMS: row_table(("scale", "item", KNOWN_FROM, "why"), rows)},
        )

    return _MonthCheck(
        name,
        "Item gate: holds back single items and names them. It never makes a month red, and it passes if the month "
        "before held back the same items.",
        dg.AssetCheckSeverity.WARN,
        judge,
    )


def _engine_check(engine: str, months: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    def judge(look: CheckInput) -> dg.AssetCheckResult:
        fits = {
            scale_id: latest_staged(look.connection, look.partition, scale_id, engine)
            for scale_id, scale in read_scales(look.connection).items()
            if scale.engine != engine
        }
        problem_of = {scale: fit_problem(fit) for scale, fit in fits.items() if fit is not None}
        problems = {scale: problem for scale, problem in problem_of.items() if problem}
        return dg.AssetCheckResult(
            passed=not problems,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(sentences_by_scale(problems))
            or (f"fitted {', '.join(problem_of)}" if problem_of else "it has no scale to fit"),
            metadata={"scales": row_table(("scale", "fit"), [(s, why or "fitted") for s, why in problem_of.items()])},
        )

    description = (
        f"Whether `{engine}` could fit the month. Informational: if a scale requires this engine, the gate "
        "`demanded_engines_fitted` blocks the month instead."
    )
    return partition_check(months, f"item_calibration_{engine}", f"{engine}_fitted", description, judge)


def _engines_agree(look: CheckInput) -> dg.AssetCheckResult:
    found = {
        scale_id: read_agreement(look.connection, look.partition, scale)
        for scale_id, scale in scales_of_month(look.connection, look.partition).items()
    }
    return dg.AssetCheckResult(
        passed=all(month.agrees for month in found.values()),
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(sentences_by_scale({scale: month.sentence for scale, month in found.items()})),
    )


def _unestimated_items(evidence: Evidence) -> Problems:
    calibration = evidence.calibration
    if calibration is None:
        return {}
    return {
        item: [f"{flag.value}: {Flag(flag).explanation}" for flag in flags]
        for item, flags in zip(calibration.item_ids, calibration.flags, strict=True)
        if flags
    }


def _held_items(evidence: Evidence) -> Problems:
    """Estimated items that are held back. The check `items_were_estimated` names the items without an estimate."""
    linked = evidence.linked
    if linked is None:
        return {}
    return {
        item: found
        for item, fitted in linked.items.items()
        if not fitted.flags and (found := item_problems(fitted, evidence.scale.rules))
    }


def _inventory_checks(first_month: str) -> dg.AssetChecksDefinition:
    """Return the inventory checks. Each asset lists the months that stopped at it, so each month is listed once."""
    specs = [
        dg.AssetCheckSpec(
            INVENTORY,
            asset=asset,
            description="Lists completed months that stopped at this asset: missing, empty, stale, running, waiting or "
            "red.",
        )
        for asset in MONTHLY_ASSETS
    ]

    @dg.multi_asset_check(name="all_months", specs=specs, can_subset=True)  # a job already has the check's name
    def checks(
        context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]
    ) -> Iterator[dg.AssetCheckResult]:
        months = list(months_between(first_month, last_complete_month(datetime.now(UTC))))
        with classify_failures():
            states = month_states(database, context.instance, months)
        waiting = [state for state in states if state.state not in (State.GREEN, State.ORIGIN)]
        for key in sorted(context.selected_asset_check_keys):
            stopped = [state for state in waiting if state.asset == key.asset_key.to_user_string()]
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=not stopped and bool(states or not months),
                severity=dg.AssetCheckSeverity.WARN,
                description=_inventory_sentence(months, states, stopped),
                metadata={
                    "not green": row_table(
                        ("month", "scale", "state", "why"),
                        [(s.month, s.scale_id, s.state.value, s.why) for s in stopped],
                    )
                },
            )

    return checks


def _inventory_sentence(months: Sequence[str], states: list[MonthState], stopped: list[MonthState]) -> str:
    if months and not states:
        return "the bank has no items: `irt import questions FILE`"
    if not stopped:
        return f"none of {len(states)} months waits for it" if states else "no month is over yet"
    newest = sorted(stopped, key=lambda state: state.month, reverse=True)
    named = ", ".join(f"{state.month} {state.state}" for state in newest[:6])
    more = f" and {len(newest) - 6} before" if len(newest) > 6 else ""
    return f"{len(stopped)} of {len(states)} months: {named}{more}"
