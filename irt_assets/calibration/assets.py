"""Assets of the room of item parameters: fit, link, publish, measure.

Thin: the steps are in `month` and `abilities`. Dagster reads the annotations of the decorated
functions, so this module does not postpone them.
"""

from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

import dagster as dg
import numpy as np
from dagster._core.execution.plan.objects import StepFailureData

from irt_assets.calibration import plots
from irt_assets.calibration.abilities import ScaleAbilities, measure
from irt_assets.calibration.agreement import MonthAgreement, read_agreement
from irt_assets.calibration.green import unsettled_months
from irt_assets.calibration.linking_history import history_plot, history_table, read_history
from irt_assets.calibration.month import (
    FitOutcome,
    LinkOutcome,
    UnlinkedMonthError,
    fit_month,
    fit_month_beside,
    link_month,
    publish_month,
)
from irt_assets.calibration.publication import Step
from irt_assets.engines import Calibrator
from irt_assets.psychometrics.models import Calibration, Flag
from irt_assets.responses.scales import read_scales
from irt_assets.retries import failures_told_apart
from resources import tables
from resources.dagster_schema import column_schema
from resources.database import Database
from resources.object_store import ObjectStore

GROUP = "calibration"
OWNERS = ["team:psychometrics"]
POOL = "calibration"
HEAVY_POOL = "heavy_engines"
"""Engines that take gigabytes or hours: two runs of any of them never go on at once (the limit is in dagster.yaml)."""
HELD = "held"
"""Metadata of a publication that failed because every scale of the month is held: the sentence that says why."""
RELEASE_JOB, CODE_LOCATION = "release_decision", "irt_assets"
DECIDE_IN = "decide in"
RELEASE_LAUNCHPAD = dg.MetadataValue.job(f"{RELEASE_JOB}/launchpad", CODE_LOCATION)
"""A link of the page's own, which holds behind a proxy and below a path."""
Metadata = dict[str, dg.MetadataValue]
Fit = Callable[[Database, ObjectStore, str, str], list[FitOutcome]]


def build_calibration_asset(
    *, engine: str, name: str, months: dg.PartitionsDefinition, fit: Fit, kind: str, pool: str, priority: int
) -> dg.AssetsDefinition:
    """The asset that fits a month with an engine.

    `fit` is handed database, store, month and run. Of the engines' assets in one run the highest `priority` goes
    first: they wait for the same answers and not for each other.
    """

    @dg.asset(
        name=name,
        group_name=GROUP,
        partitions_def=months,
        deps=["scored_responses", "question_bank"],
        description=f"Item parameters of the month as the engine `{engine}` estimates them, not linked yet.",
        kinds={kind, "postgres"},
        owners=OWNERS,
        pool=pool,
        op_tags={"dagster/priority": str(priority)},
        metadata={"dagster/column_schema": column_schema(tables.fit_staging)},
    )
    def item_calibration(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
    ) -> dg.MaterializeResult:
        with failures_told_apart():
            outcomes = fit(database, store, context.partition_key, context.run.run_id)
        fitted = [o.calibration for o in outcomes if o.calibration is not None]
        metadata: Metadata = {
            "fits": dg.MetadataValue.md(_fit_table(outcomes)),
            "flagged items": dg.MetadataValue.md(_flag_table(outcomes)),
            "dagster/row_count": dg.MetadataValue.int(sum(int(c.estimated.sum()) for c in fitted)),
        }
        for outcome in outcomes:
            if outcome.calibration is not None:
                flagged = list(_flagged(outcome.calibration))[:9]
                shown = [
                    i for i in flagged if np.isfinite(outcome.calibration.a[outcome.calibration.item_ids.index(i)])
                ]
                if shown:
                    metadata[f"plot: curves of flagged items ({outcome.scale_id}, {outcome.engine})"] = plot(
                        plots.item_curves(outcome.calibration, shown), "curves of flagged items"
                    )
        return dg.MaterializeResult(metadata=metadata)

    return item_calibration


def build_calibration_assets(
    *, build: Callable[[str], Calibrator], beside: Mapping[str, Collection[str] | None], months: dg.PartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """Every asset of the room.

    `build` makes an engine by its name. `beside`: the engines that fit the month beside the scales' own, in the order
    in which they run, each with the scales that it fits (None: all).
    """

    @dg.asset(
        group_name=GROUP,
        partitions_def=months,
        # Fits of other engines are read too. As a dependency each of them would make Dagster call every month that was
        # made before the engine was enabled unsynced; what compares them, engine_agreement, depends on them.
        deps=["item_calibration"],
        description="The month's parameters on the bank's scale, linked to the frozen anchor set: every engine's fit, "
        "of which the scale's own is published.",
        kinds={"postgres"},
        owners=OWNERS,
        pool=POOL,
        metadata={"dagster/column_schema": column_schema(tables.mirt_item_params)},
    )
    def linked_item_parameters(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult:
        with failures_told_apart():
            try:
                outcomes = link_month(database, context.partition_key, context.run.run_id)
            except UnlinkedMonthError as error:
                metadata = _link_metadata(error.outcomes) | _history_metadata(database, context.partition_key)
                raise dg.Failure(description=str(error), metadata=metadata, allow_retries=False) from error
            history = _history_metadata(database, context.partition_key)
        linked = [o.linked for o in outcomes if o.linked is not None]
        return dg.MaterializeResult(
            metadata=_link_metadata(outcomes)
            | history
            | {"dagster/row_count": dg.MetadataValue.int(sum(c.n_items for c in linked))}
        )

    @dg.asset(
        group_name=GROUP,
        partitions_def=months,
        deps=["linked_item_parameters"],
        description="The ledger of what scoring uses. A green month publishes what was never published; everything "
        "else it proposes, for a person to decide.",
        kinds={"postgres"},
        owners=OWNERS,
        pool=POOL,
        metadata={"dagster/column_schema": column_schema(tables.item_parameter_publication)},
    )
    def published_item_parameters(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
    ) -> dg.MaterializeResult:
        month = context.partition_key
        with failures_told_apart():
            unsettled = unsettled_months(context.instance, besides_run=context.run.run_id) - {month}
            taken = publish_month(database, store, month, unsettled, context.run.run_id)
        own = [steps[month] for steps in taken.values() if month in steps]
        if own and all(step.state == "held" for step in own):
            _fail_as_held(context, month, own)
        return dg.MaterializeResult(
            metadata={
                "steps": dg.MetadataValue.md(_step_table(taken)),
                "held back": dg.MetadataValue.json({s.scale_id: s.held for s in own}),
                "dagster/row_count": dg.MetadataValue.int(sum(s.n_published for s in own)),
            }
        )

    @dg.asset(
        group_name=GROUP,
        partitions_def=months,
        deps=[
            "published_item_parameters",
            dg.AssetDep(
                "attempts",
                partition_mapping=dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True),
            ),
        ],
        description="θ and its standard error of every learner with an answer to a published item in the 365 days "
        "that end with the month (EAP against the scale's population).",
        kinds={"postgres"},
        owners=OWNERS,
        pool=POOL,
        metadata={"dagster/column_schema": column_schema(tables.mirt_ability)},
    )
    def abilities(context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]) -> dg.MaterializeResult:
        with failures_told_apart():
            measured = measure(database, context.partition_key, context.run.run_id)
        return dg.MaterializeResult(
            metadata={
                "abilities": dg.MetadataValue.md(ability_table(measured)),
                "dagster/row_count": dg.MetadataValue.int(sum(len(m.theta) for m in measured)),
            }
        )

    @dg.asset(
        group_name=GROUP,
        partitions_def=months,
        deps=["linked_item_parameters", *(asset_of(engine) for engine in beside)],
        description="How far the month's engines agree, item by item, on the bank's scale.",
        kinds={"postgres"},
        owners=OWNERS,
        pool=POOL,
        op_tags={"dagster/priority": "-1"},  # publication does not wait for it
    )
    def engine_agreement(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult:
        with failures_told_apart(), database.connect() as connection:
            compared = [
                read_agreement(connection, context.partition_key, scale) for scale in read_scales(connection).values()
            ]
        return dg.MaterializeResult(metadata=_agreement_metadata(compared))

    em = build("em")
    own = build_calibration_asset(
        engine="em",
        name="item_calibration",
        months=months,
        fit=lambda database, store, month, run_id: fit_month(database, store, month, em, run_id, build),
        kind="numba",
        pool=POOL,
        priority=len(beside) + 1,
    )
    optional = [
        build_calibration_asset(
            engine=name,
            name=asset_of(name),
            months=months,
            fit=_beside(build, name, scales),
            kind="pymc" if name == "pymc" else "r",
            pool=HEAVY_POOL,
            priority=len(beside) - place,
        )
        for place, (name, scales) in enumerate(beside.items())
    ]
    return [own, *optional, linked_item_parameters, published_item_parameters, abilities, engine_agreement]


def asset_of(engine: str) -> str:
    """The name of the asset that fits a month with an engine beside the scales' own."""
    return f"item_calibration_{engine}"


def _beside(build: Callable[[str], Calibrator], engine: str, scales: Collection[str] | None) -> Fit:
    def fit(database: Database, store: ObjectStore, month: str, run_id: str) -> list[FitOutcome]:
        return fit_month_beside(database, store, month, engine, scales, run_id, build)

    return fit


def plot(png: bytes, alt: str) -> dg.MetadataValue:
    return dg.MetadataValue.md(plots.as_markdown(png, alt))


def _flagged(calibration: Calibration) -> dict[str, tuple[Flag, ...]]:
    return {item: flags for item, flags in zip(calibration.item_ids, calibration.flags, strict=True) if flags}


def _flag_table(outcomes: list[FitOutcome]) -> str:
    rows = [
        f"| {o.scale_id} | {item} | {'; '.join(f'{flag.value}: {flag.explanation}' for flag in flags)} |"
        for o in outcomes
        if o.calibration is not None
        for item, flags in _flagged(o.calibration).items()
    ]
    more = [f"| | … and {len(rows) - 10} more | |"] if len(rows) > 10 else []
    return "\n".join(["| scale | item | why |", "|---|---|---|", *rows[:10], *more]) if rows else "none"


def _fit_table(outcomes: list[FitOutcome]) -> str:
    lines = [
        "| scale | engine | learners | items | responses | log-likelihood | converged | s |",
        "|---|---|--:|--:|--:|--:|---|--:|",
    ]
    for o in outcomes:
        if o.calibration is None:
            lines.append(f"| {o.scale_id} | {o.engine} | | | | | {o.error} | {o.seconds:.1f} |")
            continue
        f, c = o.calibration, o.calibration.convergence
        ended = f"after {c.iterations} iterations" if c.converged else f"no: {c.reason}"
        lines.append(
            f"| {o.scale_id} | {o.engine} | {f.n_persons:,} | {int(f.estimated.sum())} | {f.n_responses:,} "
            f"| {c.loglik:,.1f} | {ended} | {o.seconds:.1f} |"
        )
    return "\n".join(lines)


def _link_metadata(outcomes: list[LinkOutcome]) -> Metadata:
    lines = ["| scale | engine | slope | intercept | anchors used | dropped | outcome |"]
    lines.append("|---|---|--:|--:|--:|---|---|")
    metadata: Metadata = {}
    for o in outcomes:
        if o.linking is None:
            lines.append(f"| {o.scale_id} | {o.engine} | | | | | {o.error} |")
            continue
        k = o.linking
        dropped = ", ".join(sorted(k.anchors_dropped)) or "none"
        lines.append(
            f"| {o.scale_id} | {o.engine} | {k.slope:.3f} ± {k.slope_se:.3f} "
            f"| {k.intercept:+.3f} ± {k.intercept_se:.3f} "
            f"| {len(k.anchors_used)} | {dropped} | {'not linked' if o.error else 'linked'} |"
        )
        if not o.own:
            continue
        if k.diagnosis:
            metadata[f"anchors that disagree ({o.scale_id})"] = dg.MetadataValue.text(k.diagnosis)
        if o.raw is not None and o.anchors is not None:
            metadata[f"plot: linking ({o.scale_id})"] = plot(
                plots.linking_scatter(o.raw, o.anchors, k), "anchors against the month's estimates"
            )
        if o.linked is not None:
            metadata[f"plot: parameters ({o.scale_id})"] = plot(
                plots.parameters_with_intervals(o.linked), "parameters with 95 % intervals"
            )
            metadata[f"plot: test information ({o.scale_id})"] = plot(
                plots.test_information(o.linked), "test information"
            )
        metadata[f"constants ({o.scale_id})"] = dg.MetadataValue.json(k.as_constants())
    return {"linking": dg.MetadataValue.md("\n".join(lines))} | metadata


def _history_metadata(database: Database, month: str) -> Metadata:
    metadata: Metadata = {}
    with database.connect() as connection:
        for scale in read_scales(connection).values():
            history = read_history(connection, scale, month)
            if history:
                metadata[f"linking history ({scale.scale_id})"] = dg.MetadataValue.md(history_table(history))
                metadata[f"plot: linking history ({scale.scale_id})"] = plot(history_plot(history), "linking history")
    return metadata


def _agreement_metadata(compared: list[MonthAgreement]) -> Metadata:
    said = [f"{m.scale.scale_id}: {m.sentence}" if len(compared) > 1 else m.sentence for m in compared]
    lines = [
        "| scale | engines | items | | correlation | RMSD | all apart (SE) | 95 % intervals overlap |",
        "|---|---|--:|---|--:|--:|--:|--:|",
    ]
    apart = ["| scale | engines | item | parameter | first | second | apart (SE) |", "|---|---|---|---|--:|--:|--:|"]
    metadata: Metadata = {}
    for month in compared:
        for pair in month.pairs:
            head = f"| {month.scale.scale_id} | {', '.join(pair.engines)} |"
            lines += [
                f"{head} {len(pair.item_ids)} | {name} | {of.correlation:.4f} | {of.rmsd:.3f} | {of.rms_apart:.2f} "
                f"| {of.overlap:.0%} |"
                for name, of in (("b", pair.b), ("a", pair.a))
            ]
            apart += [
                f"{head} {d.item_id} | {d.parameter} | {d.first:.3f} | {d.second:.3f} | {d.apart:.2f} |"
                for d in pair.most_apart()
            ]
            alone = {engine: list(items) for engine, items in pair.only_one.items()}
            if alone:
                key = f"items that only one could estimate ({month.scale.scale_id}, {', '.join(pair.engines)})"
                metadata[key] = dg.MetadataValue.json(alone)
            if pair.item_ids:
                name = f"{month.scale.scale_id}, {' and '.join(pair.engines)}"
                metadata[f"plot: agreement ({name})"] = plot(
                    plots.agreement_scatter(pair, month.scale.rules), f"parameters by {' and '.join(pair.engines)}"
                )
    tables_shown = {"pairs of engines": lines, "items that differ most": apart} if len(lines) > 2 else {}
    return (
        {"agreement": dg.MetadataValue.text("; ".join(said))}
        | {name: dg.MetadataValue.md("\n".join(rows)) for name, rows in tables_shown.items()}
        | metadata
    )


def _fail_as_held(context: dg.AssetExecutionContext, month: str, held: list[Step]) -> NoReturn:
    """Say why nothing is published where people look: on the asset's page, and as the run's last words."""
    reasons = {step.scale_id: step.why for step in held}
    said = next(iter(reasons.values())) if len(reasons) == 1 else "; ".join(f"{s}: {why}" for s, why in reasons.items())
    sentence = f"{month} is held: {said}"
    metadata: Metadata = {HELD: dg.MetadataValue.text(sentence), DECIDE_IN: RELEASE_LAUNCHPAD}
    context.log_event(dg.AssetObservation(context.asset_key, description=sentence, partition=month, metadata=metadata))
    raise dg.Failure(description=sentence, metadata=metadata, allow_retries=False)


def says_held(failed: StepFailureData) -> bool:
    """Whether a step failed because its month is held."""
    return failed.user_failure_data is not None and HELD in failed.user_failure_data.metadata


def _step_table(taken: dict[str, dict[str, Step]]) -> str:
    lines = ["| scale | month | state | published | proposed | held back | why |", "|---|---|---|--:|--:|--:|---|"]
    for steps in taken.values():
        lines += [
            f"| {s.scale_id} | {s.month} | {s.state} | {s.n_published} | {s.n_proposed} | {s.n_held} | {s.why} |"
            for s in steps.values()
        ]
    return "\n".join(lines)


def ability_table(measured: list[ScaleAbilities]) -> str:
    lines = ["| scale | items in force | learners | mean θ | SD θ | mean SE | |", "|---|--:|--:|--:|--:|--:|---|"]
    for m in measured:
        if not len(m.theta):
            lines.append(f"| {m.scale_id} | {m.n_published} | 0 | | | | {m.why} |")
            continue
        lines.append(
            f"| {m.scale_id} | {m.n_published} | {len(m.theta):,} | {m.theta.mean():+.3f} | {m.theta.std():.3f} "
            f"| {m.se.mean():.3f} | |"
        )
    return "\n".join(lines)
