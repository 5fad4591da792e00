"""The assets of item analysis, and the check of keys on both. Their rows are computed in `periods`."""

import shlex
from collections.abc import Callable, Mapping

import dagster as dg

from irt_assets.blocks import Table, table
from irt_assets.common.dashboard_pages import address
from irt_assets.common.job_names import ITEM_ANALYSIS_DAILY, JUDGED
from irt_assets.common.metadata import md
from irt_assets.common.partition_checks import CheckInput, partition_check
from irt_assets.common.partitions import existing_partitions
from irt_assets.common.retries import classify_failures
from irt_assets.common.wording import natural_order, quantity, some_of
from irt_assets.engines.spec import LIGHT_POOL
from irt_assets.item_analysis.analysis import Analysis
from irt_assets.item_analysis.key_evidence import describe_rival, find_option_above_key, named_options
from irt_assets.item_analysis.periods import analyse_day, analyse_month
from irt_assets.item_analysis.stored import SUMMARY, ItemRow, OptionRow, read_items
from irt_assets.scales.scale import read_scales
from resources import tables
from resources.dagster_schema import HOW_TO_FIX, ITEMS, row_table, stored_in
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database, database_settings

ITEM_ANALYSIS = "item_analysis"
KEYS_ARE_RIGHT = "keys_are_right"
REMEDY = "Read each item. If the option is right, score the answers again: "
MAX_NAMED, MAX_SHOWN = 10, 200


def build_item_analysis_assets(
    months: dg.PartitionsDefinition, days: dg.PartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """`item_analysis` of months, and `item_analysis_daily`, whose `days` include the running day."""
    schema = stored_in(tables.item_analysis)

    @dg.asset(
        name=ITEM_ANALYSIS,
        partitions_def=months,
        deps=["scored_responses"],
        description="One row per form and item of the month, before any fit: difficulty, discrimination, options "
        "and omissions; reliability of each form.",
        metadata=schema,
        pool=LIGHT_POOL,
        op_tags={"dagster/priority": "10"},  # before the fits
    )
    def item_analysis(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], store: dg.ResourceParam[ObjectStore]
    ) -> dg.MaterializeResult:
        with classify_failures():
            return _result(analyse_month(database, store, context.partition_key))

    @dg.asset(
        name=ITEM_ANALYSIS_DAILY,
        partitions_def=days,
        deps=[existing_partitions(JUDGED), "question_bank"],
        description="One row per form and item of the day: its item analysis. The running day is as of now. It also "
        "updates the evidence against each key in the year.",
        metadata=schema,
        pool=LIGHT_POOL,
    )
    def item_analysis_daily(
        context: dg.AssetExecutionContext, database: dg.ResourceParam[Database]
    ) -> dg.MaterializeResult:
        with classify_failures():
            return _result(analyse_day(database, context.partition_key))

    return [item_analysis, item_analysis_daily]


def _result(found: Mapping[str, Analysis]) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        metadata={
            "items": md(_items_table(found)),
            "forms": md(_forms_table(found)),
            "dagster/row_count": sum(len(scale.forms) + len(scale.items) for scale in found.values()),
            **{f"not analysed ({scale_id})": scale.why for scale_id, scale in found.items() if scale.why},
        }
    )


def _items_table(found: Mapping[str, Analysis]) -> Table:
    """The flagged items by all answers."""
    rows = [
        (
            *(
                scale_id,
                item.item_id,
                item.n,
                item.facility,
                item.item_rest,
                item.key or "",
                ", ".join(item.flags),
            ),
            ", ".join(f"{option.option}: {', '.join(option.flags)}" for option in item.options if option.flags),
        )
        for scale_id, scale in found.items()
        for item in sorted(scale.items, key=lambda item: natural_order(item.item_id))
        if not item.form_id and item.flags
    ]
    n = sum(not item.form_id for scale in found.values() for item in scale.items)
    return table(
        ("scale", "item", "learners", "p", "item-rest r", "key", "flags", "options"),
        rows[:MAX_SHOWN],
        numbers={"learners": ",", "p": ".2f", "item-rest r": ".2f"},
        caption=f"{len(rows)} of {quantity(n, 'item')} have a flag",
        empty="no item has a flag",
    )


def _forms_table(found: Mapping[str, Analysis]) -> Table:
    rows = [
        (scale_id, form.form_id or "all answers", form.n, form.n_items, *map(form.statistics.get, SUMMARY))
        for scale_id, scale in found.items()
        for form in scale.forms
    ]
    return table(
        ("scale", "form", "learners", "items", "mean", "SD", "α", "SEM"),
        rows[:MAX_SHOWN],
        numbers={"learners": ",", "items": ",", "mean": ".2f", "SD": ".2f", "α": ".3f", "SEM": ".2f"},
    )


def build_key_checks(months: dg.PartitionsDefinition, days: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """`keys_are_right` of the months, and of the days."""
    return [
        partition_check(
            months,
            ITEM_ANALYSIS,
            KEYS_ARE_RIGHT,
            "No option beats its item's key by an option-rest correlation that is certainly above 0 and above the "
            "key's. It holds nothing.",
            lambda look: _judge(look, lambda _: find_option_above_key),
        ),
        partition_check(
            days,
            ITEM_ANALYSIS_DAILY,
            KEYS_ARE_RIGHT,
            "The day's answers do not bring the evidence of the year that an option beats its item's key to 1,000: a "
            "right key is named with probability 0.001 a year at most. It fails on the first such day and holds "
            "nothing.",
            lambda look: _judge(look, lambda scale_id: _find_by_evidence(look, scale_id)),
        ),
    ]


Find = Callable[[ItemRow], OptionRow | None]
"""Function that returns the option that beats an item's key, or None."""


def _find_by_evidence(look: CheckInput, scale_id: str) -> Find:
    named = named_options(look.connection, scale_id, look.partition)
    return lambda item: next((option for option in item.options if option.option == named.get(item.item_id)), None)


def _judge(look: CheckInput, find_on: Callable[[str], Find]) -> dg.AssetCheckResult:
    """The result of the check, given the function with which a scale's items are examined."""
    named, rows, fixes = [], [], []
    page = database_settings(look.connection).dashboard_url
    for scale_id in read_scales(look.connection):
        find = find_on(scale_id)
        for item in read_items(look.connection, scale_id, look.partition, form_id=""):
            if option := find(item):
                why = describe_rival(item, option)
                named.append(f"{item.item_id}: {why}")
                rows.append((scale_id, item.item_id, why))
                where = f"{page}/{address('item', scale=scale_id, item=item.item_id)}" if page else ""
                fixes.append(
                    f"`irt items rekey {shlex.quote(item.item_id)} --key {shlex.quote(option.option)}` {where}".strip()
                )
    return dg.AssetCheckResult(
        passed=not named,
        severity=dg.AssetCheckSeverity.WARN,
        description=some_of(named, MAX_NAMED, between=" ") if named else "no option beats a key",
        metadata={
            ITEMS: row_table(("scale", "item", "why"), rows),
            **({HOW_TO_FIX: REMEDY + some_of(fixes, MAX_NAMED)} if fixes else {}),
        },
    )
