"""Assets of item parameters. The steps (fit, link, publish) are in `month`."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NoReturn

import dagster as dg

from irt_assets.blocks import Paragraph, Span
from irt_assets.calibration import blocks
from irt_assets.calibration.group_shift import measure_month
from irt_assets.calibration.month import (
    FitOutcome,
    UnlinkedMonthError,
    fit_month,
    fit_month_for_comparison,
    link_month,
    publish_month,
)
from irt_assets.common.dashboard_pages import month_page
from irt_assets.common.metadata import Metadata, decide_in, md
from irt_assets.common.retries import HELD, classify_failures
from irt_assets.common.wording import sentences_by_scale
from irt_assets.engines import Calibrator
from irt_assets.engines.registry import DEFAULT, asset_of, spec_of
from irt_assets.engines.spec import LIGHT_POOL
from irt_assets.gates.agreement import read_agreement
from irt_assets.gates.month_classification import State
from irt_assets.gates.month_status import ledger_states, unsettled_months
from irt_assets.ledger.decisions import newest_decisions
from irt_assets.ledger.steps import Step
from irt_assets.responses.closed_months import scales_of_month
from resources import tables
from resources.cluster.relational import application
from resources.dagster_schema import row_table, stored_in, taken_over
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database

MONTH_STATE_TAG = "irt/month_state"
"""Run tag: the state of the run's month after its publication step."""
Fit = Callable[[Database, ObjectStore, str, str], list[FitOutcome]]


def build_calibration_asset(
    *, engine: str, months: dg.PartitionsDefinition, fit: Fit, priority: int
) -> dg.AssetsDefinition:
    """Return the asset that fits a month with a registered engine, with the kind and the pool of its spec.

    `fit` is called with database, store, month and run id. Within a run the asset with the highest `priority` starts
    first, because the engines' assets do not depend on each other.
    """

    spec = spec_of(engine)

    @dg.asset(
        name=asset_of(engine),
        partitions_def=months,
        deps=["scored_responses", "question_bank"],
        description=f"One row per scale: the month's item parameters estimated by the engine `{engine}`, before "
        "linking, or the reason why there is no fit.",
        kinds={spec.kind, "postgres"},
        pool=spec.pool,
        op_tags={"dagster/priority": str(priority)},
        metadata=stored_in(tables.fit_staging),
    )
    def item_calibration(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
    ) -> dg.MaterializeResult:
        with classify_failures():
            outcomes = fit(database, store, context.partition_key, context.run.run_id)
        fitted = [o.calibration for o in outcomes if o.calibration is not None]
        n_items = sum(int(c.estimated.sum()) for c in fitted)
        on_spark = any(outcome.summed for outcome in outcomes)
        return dg.MaterializeResult(
            metadata=blocks.fit_metadata(outcomes)
            | (application(database.settings) if on_spark else {})
            | {"dagster/row_count": dg.MetadataValue.int(n_items)}
        )

    return item_calibration


def linked_item_parameters(
    context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
) -> dg.MaterializeResult:
    month = context.partition_key
    with classify_failures():
        try:
            outcomes = link_month(database, month, context.run.run_id)
        except UnlinkedMonthError as error:
            metadata = blocks.link_metadata(error.outcomes) | blocks.history_metadata(database, month)
            metadata |= decide_in(database.settings.dashboard_url, month)
            raise dg.Failure(description=str(error), metadata=metadata, allow_retries=False) from error
        measure_month(database, month)
        more = blocks.history_metadata(database, month) | blocks.parameters_metadata(database, month)
    linked = [o.placed.linked for o in outcomes if o.placed is not None and o.placed.linked is not None]
    return dg.MaterializeResult(
        metadata=blocks.link_metadata(outcomes)
        | more
        | taken_over({"item_calibration": ("fit_id",)})
        | {"dagster/row_count": dg.MetadataValue.int(sum(c.n_items for c in linked))}
    )


def published_item_parameters(
    context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
) -> dg.MaterializeResult:
    month = context.partition_key
    with classify_failures():
        unsettled = unsettled_months(context.instance, besides_run=context.run.run_id) - {month}
        steps_taken = publish_month(database, store, month, unsettled, context.run.run_id)
        decided = database.call(newest_decisions, month=month)
    own = [steps[month] for steps in steps_taken.values() if month in steps]
    state = _state_of_month(context, database, month)
    if own and all(step.state == "held" for step in own):
        _fail_as_held(context, month, own, state, decide_in(database.settings.dashboard_url, month))
    return dg.MaterializeResult(
        metadata={
            **state,
            **taken_over({"linked_item_parameters": ("fit_id", "item_id")}),
            "steps": md(blocks.step_table(steps_taken)),
            "held back": row_table(
                ("scale", "item", "why"),
                [(s.scale_id, item, "; ".join(why)) for s in own for item, why in s.held.items()],
            ),
            "decisions": row_table(
                ("on", "decision", "by", "at (UTC)", "in force from", "why"),
                [(d.subject, d.kind, d.by, f"{d.at:%Y-%m-%d %H:%M}", d.in_force_from, d.reason) for d in decided],
            ),
            "items first published": dg.MetadataValue.int(sum(s.n_published for s in own)),
            "items proposed": dg.MetadataValue.int(sum(s.n_proposed for s in own)),
            "items held back": dg.MetadataValue.int(sum(s.n_held for s in own)),
            "dagster/row_count": dg.MetadataValue.int(sum(s.n_published for s in own)),
            **(decide_in(database.settings.dashboard_url, month) if any(s.n_proposed for s in own) else {}),
        }
    )


def build_calibration_assets(
    *,
    build: Callable[[str], Calibrator],
    comparison_engines: Mapping[str, Collection[str] | None],
    months: dg.PartitionsDefinition,
) -> list[dg.AssetsDefinition]:
    """Return the assets of item parameters.

    `build` returns an engine by its name. `comparison_engines` are the engines that also fit the month, in the order
    in which they run, each with the scales that it fits (None: all).
    """
    of_a_month: dict[str, Any] = {"partitions_def": months, "pool": LIGHT_POOL}

    linked = dg.asset(
        **of_a_month,
        # Fits of other engines are read too, but are no dependencies: otherwise Dagster would call every month from
        # before an engine was enabled unsynced. engine_agreement, which compares them, depends on them.
        deps=["item_calibration"],
        description="One row per item and engine: its parameters in the month on the bank's scale, linked through the "
        "frozen anchor set. Only the fit of the scale's own engine is published.",
        metadata=stored_in(tables.mirt_item_params),
    )(linked_item_parameters)

    published = dg.asset(
        **of_a_month,
        deps=["linked_item_parameters"],
        description="One row per publication: an item's parameters for scoring, in force from a date on. A green month "
        "publishes new items, and proposes values of all others to a person.",
        metadata=stored_in(tables.item_parameter_publication),
    )(published_item_parameters)

    @dg.asset(
        **of_a_month,
        deps=["linked_item_parameters", *(asset_of(engine) for engine in comparison_engines)],
        description="One sentence per scale: how closely the month's engines agree, item by item, on the bank's scale. "
        "It stores nothing.",
        op_tags={"dagster/priority": "-1"},  # publication does not wait for it
    )
    def engine_agreement(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult:
        with classify_failures(), database.connect() as connection:
            scales = scales_of_month(connection, context.partition_key).values()
            compared = [read_agreement(connection, context.partition_key, scale) for scale in scales]
        return dg.MaterializeResult(metadata=blocks.agreement_metadata(compared))

    default = build(DEFAULT)
    fits: dict[str, Fit] = {
        DEFAULT: lambda database, store, month, run_id: fit_month(database, store, month, default, run_id, build)
    } | {
        engine: partial(fit_month_for_comparison, engine=engine, scales=scales, build=build)
        for engine, scales in comparison_engines.items()
    }
    fitted = (
        build_calibration_asset(engine=engine, months=months, fit=fit, priority=len(fits) - position)
        for position, (engine, fit) in enumerate(fits.items())
    )
    return [*fitted, linked, published, engine_agreement]


def _state_of_month(context: dg.AssetExecutionContext, database: Database, month: str) -> Metadata:
    """Tag the run with the month's state, so that the list of runs can be filtered, and return the state as metadata.

    Dagster's dot stays green if a check fails, so the state is the first line of metadata, with a link. Of several
    scales, the worst state counts.
    """
    states = database.call(ledger_states, [month])
    if not states:
        return {}
    worst = min((state.state for state in states), key=[*State].index)
    context.instance.add_run_tags(context.run.run_id, {MONTH_STATE_TAG: worst.value})
    why = "; ".join(sentences_by_scale({state.scale_id: state.why for state in states}))
    url = database.settings.dashboard_url
    link = (" – ", Span("dashboard", link=month_page(url, month))) if url else ()
    return {"state": md(Paragraph((Span(worst.value, "bold"), f": {why}", *link)))}


def _fail_as_held(
    context: dg.AssetExecutionContext, month: str, held: list[Step], state: Metadata, where: Metadata
) -> NoReturn:
    """Fail the step, with the reason why nothing is published on the asset's page and at the end of the run's log."""
    reasons = {step.scale_id: step.why for step in held}
    sentence = f"{month} is held: {'; '.join(sentences_by_scale(reasons))}"
    metadata: Metadata = state | {HELD: dg.MetadataValue.text(sentence)} | where
    context.log_event(dg.AssetObservation(context.asset_key, description=sentence, partition=month, metadata=metadata))
    raise dg.Failure(description=sentence, metadata=metadata, allow_retries=False)
