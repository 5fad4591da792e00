"""The asset of the nightly calibration, its metadata and its check. `nightly` computes the night."""

from collections.abc import Callable, Iterator, Sequence

import dagster as dg

from irt_assets.abilities.blocks import ability_metadata
from irt_assets.blocks import Block, Figure, Paragraph, Table, table
from irt_assets.calibration import plots
from irt_assets.calibration.blocks import link_numbers
from irt_assets.calibration.nightly import Night, NightOutcome, calibrate_night
from irt_assets.common.job_names import JUDGED, NIGHTLY
from irt_assets.common.metadata import Entry, Metadata, metadata
from irt_assets.common.partitions import existing_partitions
from irt_assets.common.retries import classify_failures
from irt_assets.common.wording import some_of
from irt_assets.engines import Calibrator
from irt_assets.engines.spec import LIGHT_POOL
from irt_assets.gates.early_warning import EarlyWarning
from resources import tables
from resources.dagster_schema import HOW_TO_FIX, ITEMS, row_table, stored_in
from resources.failures import PermanentFailure
from resources.postgres.database import Database

CHECK = "nightly_links_like_the_month"
_MAX_ITEMS_SHOWN = 8  # Dagster shows only a link to longer tables
_UNFITTED_REMEDY = "The night's table shows why the scale has no fit. Remove the cause, then materialise the day again."
_MOVED_REMEDY = (
    "Look at the night's plots. Nothing was published from this night. Wait for the month, which tests drift, and "
    "find out whether the learners or the named items have changed. Withdraw a leaked item at once."
)


def build_nightly_asset(*, build: Callable[[str], Calibrator], days: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """Return the asset of the nightly calibration. `build` returns an engine by its name."""

    @dg.asset(
        name=NIGHTLY,
        partitions_def=days,
        deps=[
            existing_partitions(JUDGED, before=29),
            "question_bank",
            dg.AssetDep("published_item_parameters", partition_mapping=dg.LastPartitionMapping()),
        ],
        description="One row per item: its parameters in the 30 days that end with the day, linked through the frozen "
        "anchors, as an early warning that publishes nothing. The year's answers give every learner's θ.",
        kinds={"numba", "postgres"},
        pool=LIGHT_POOL,
        metadata=stored_in(tables.mirt_item_params),
        # It has no partitions, so a problem that lasts gives one warning, not one per night.
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=NIGHTLY,
                description="Every scale was fitted. Within their errors, its linking constants agree with the last "
                "month and its difficulties with the published parameters. Its anchors agree.",
            )
        ],
    )
    def nightly_calibration(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult:
        with classify_failures():
            night = calibrate_night(database, context.partition_key, context.run.run_id, build)
            metadata, problem = night_metadata(night), night.problem
            if isinstance(problem, PermanentFailure):
                raise dg.Failure(description=str(problem), metadata=metadata, allow_retries=False) from problem
            if problem is not None:
                raise problem
        return dg.MaterializeResult(metadata=metadata, check_results=[check_night(night)])

    return nightly_calibration


def check_night(night: Night) -> dg.AssetCheckResult:
    """Fail if a scale has no fit, and warn about changes that a psychometrician should check."""
    warned = {o.scale_id: o.warning for o in night.outcomes if o.warning}
    problems = night.failed | {s: "; ".join(found) for s, warning in warned.items() if (found := warning.problems())}
    quiet = "; ".join(o.quiet for o in night.outcomes if o.quiet)
    parts = [f"{scale}: {why}" if len(night.outcomes) > 1 else why for scale, why in problems.items()]
    moved = {scale: warning.difficulties.moved_items() for scale, warning in warned.items()}
    return dg.AssetCheckResult(
        check_name=CHECK,
        passed=not problems,
        severity=dg.AssetCheckSeverity.ERROR if night.failed else dg.AssetCheckSeverity.WARN,
        description=f"{night.day}: {'; '.join(parts) or quiet or 'agrees with the last month and published parameters'}"
        + (f"; judged on {_sample(night)}" if night.share < 1 else ""),
        metadata={
            ITEMS: row_table(
                ("scale", "item", "moved"),
                [(scale, item, str(by)) for scale, items in moved.items() for item, by in items.items()],
            ),
            **({HOW_TO_FIX: _UNFITTED_REMEDY if night.failed else _MOVED_REMEDY} if problems else {}),
        },
    )


def _sample(night: Night) -> str:
    return f"a random sample of {night.share:.2%} of the learners"


def night_metadata(night: Night) -> Metadata:
    """Metadata of a night for the Dagster UI."""
    linked = [(o, o.warning) for o in night.outcomes if o.warning is not None]
    unpublished = [(o.scale_id, o.provisional) for o, _ in linked if o.provisional]
    provisional = [f"{scale}: {len(items)}: {some_of(items, _MAX_ITEMS_SHOWN)}" for scale, items in unpublished]
    return metadata(
        {
            "night": _night_table(night.outcomes),
            "linking against the last month": _shift_table(linked),
            "difficulties against the published": tuple(_difficulties(linked)),
            "published items that moved": sum(int(w.difficulties.moved.sum()) for _, w in linked),
            "provisional items": "; ".join(provisional) or "every fitted item is published",
            **ability_metadata(night.measured),
            "dagster/row_count": dg.MetadataValue.int(sum(o.raw.n_items for o, _ in linked if o.raw)),
            "fitted to": _sample(night) if night.share < 1 else None,
        },
        ((o.scale_id, _night_entries(o)) for o in night.outcomes),
    )


def _night_entries(o: NightOutcome) -> Iterator[tuple[str, Entry]]:
    placed = o.placed
    if placed and placed.linking and placed.anchors and o.raw:
        yield from link_numbers(placed.linking).items()
        drawn = plots.linking_scatter(
            o.raw, placed.anchors, placed.linking, agree=placed.used_agree, disagreement=placed.disagreement
        )
        yield "plot: linking", Figure(drawn, alt="anchors against the night")
    if o.warning and o.warning.difficulties.item_ids:
        drawn = plots.difficulty_scatter(o.warning.difficulties)
        yield "plot: nightly b against published", Figure(drawn, alt="nightly b against published")


def _night_table(outcomes: list[NightOutcome]) -> Table:
    rows = []
    for o in outcomes:
        fit = ["", "", ""]
        if o.raw:
            fit = [f"{o.raw.n_persons:,}", f"{o.raw.estimated.sum()}", f"{o.raw.n_responses:,}"]
        link = ["", "", "", ""]
        if linking := o.placed.linking if o.placed else None:
            link = [
                f"{linking.slope:.3f} ± {linking.slope_se:.3f}",
                f"{linking.intercept:+.3f} ± {linking.intercept_se:.3f}",
                f"{len(linking.anchors_used)}",
                ", ".join(sorted(linking.anchors_dropped)) or "none",
            ]
        rows.append((o.scale_id, o.engine, f"{o.loaded:,}", *fit, *link, str(o.error or o.quiet or "linked")))
    numbers = ("answers", "learners", "items", "responses", "slope", "intercept", "anchors used")
    return table(("scale", "engine", *numbers, "dropped", ""), rows, numbers=numbers)


def _shift_table(linked: Sequence[tuple[NightOutcome, EarlyWarning]]) -> Table:
    rows = []
    for o, warning in linked:
        for shift in warning.shifts:
            by, se = shift.difference
            moved = shift.month[0], shift.night[0], f"{by:+.3f} ± {se:.3f}"
            rows.append((o.scale_id, f"{warning.month}", shift.name, *moved, "far" if shift.is_large else ""))
    formats = {"then": ".3f", "tonight": ".3f", "moved by": ""}
    return table(("scale", "month", "", *formats, ""), rows, numbers=formats, empty="no month is linked yet")


def _difficulties(linked: Sequence[tuple[NightOutcome, EarlyWarning]]) -> Iterator[Block]:
    rows = []
    compared = moved = 0
    for o, warning in linked:
        d = warning.difficulties
        is_moved, by, se = d.moved, d.difference, d.se
        compared += len(d.item_ids)
        moved += int(is_moved.sum())
        for j in d.largest_differences(_MAX_ITEMS_SHOWN):
            change = d.published[j], d.night[j], f"{by[j]:+.3f} ± {se[j]:.3f}"
            rows.append((o.scale_id, d.item_ids[j], *change, "moved" if is_moved[j] else ""))
    if compared:
        yield Paragraph(f"{moved} of {compared} published items moved; furthest, in standard errors:")
    formats = {"published b": "+.3f", "tonight": "+.3f", "moved by": ""}
    yield table(("scale", "item", *formats, ""), rows, numbers=formats, empty="no published item was fitted")
