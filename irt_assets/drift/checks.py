"""Checks of a month's drift, DIF and information. No check holds a month.

Drift of high severity is an error; everything else is a warning. Items that could not be tested for DIF are reported
and are not failures.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import dagster as dg
import psycopg

from irt_assets.common.partition_checks import CheckInput, partition_check
from irt_assets.common.partitions import Month
from irt_assets.common.wording import quantity, sentences_by_scale, some_of
from irt_assets.decisions.proposals import settled_items
from irt_assets.drift.blocks import variation_warning
from irt_assets.drift.information import TEST_ID
from irt_assets.drift.uncompared_months import unjudged_scales
from irt_assets.drift.unestimated_items import find_missing_items
from irt_assets.ledger.publications import in_force
from irt_assets.scales.scale import read_scales
from resources.dagster_schema import HOW_TO_FIX, ITEMS, KNOWN_FROM, row_table

DRIFT_REMEDIES = {
    "high": "Look at each item under `top flagged items` of item_drift: a leaked item is withdrawn (`irt items "
    "withdraw`), a wrong key is corrected in question.meta, a drifted one is calibrated again on answers after the "
    "change. Its published value stays in force until somebody decides.",
    "medium": "Watch these items; if one is flagged again next month, treat it like one of high severity.",
}
GONE_REMEDY = (
    "Import the item again with `irt import questions FILE` if it was lost; if it was taken out on purpose, its "
    "published value stays in the ledger, and nothing is left to do."
)
ITEM_INFORMATION_REMEDY = (
    "Open `flagged items` of test_information: an item that keeps less than four fifths of its published information "
    "is scored as if it measured more. Calibrate it again on recent answers, or retire it; the plot shows what the "
    "set in force keeps without it."
)
TEST_INFORMATION_REMEDY = (
    "Open `plot: information` of test_information: standard errors are larger there than the published parameters say. "
    "If single items are flagged, decide on them; otherwise the month's learners or its linking differ: look "
    "at `linking history` of linked_item_parameters, and add items for that θ."
)
DIF_REMEDY = (
    "Have each item under `items with DIF` of dif_analysis read by somebody who knows both groups: a translation, a "
    "context, or a subject that only one of them was taught. Edit out of the text what the item measures besides "
    "ability, or retire the item; an anchor that differs leaves the anchors by a decision."
)
MAX_NAMED = 10


def build_drift_checks(months: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    return [
        *(
            _items_check(
                months,
                asset="item_drift",
                name=name,
                description=f"No item changed against the published set with {level} severity, except those that need "
                "no decision: a person has decided on them and they have not changed since, or a later month "
                "contradicts the proposal. It does not hold the month.",
                query=f"""SELECT scale_id, item_id,
                                 coalesce(details->'change'->>'kind',
                                          CASE WHEN details ? 'proportion_correct' THEN 'by proportion correct' END)
                          FROM item_drift
                          WHERE month = %s AND severity = '{level}' ORDER BY wabc DESC, scale_id, item_id""",
                why=lambda kind: kind or "",
                fine=f"no item of {level} severity",
                fix=DRIFT_REMEDIES[level],
                severity=severity,
            )
            for name, level, severity in (
                ("no_item_drifted_far", "high", dg.AssetCheckSeverity.ERROR),
                ("no_item_drifted", "medium", dg.AssetCheckSeverity.WARN),
            )
        ),
        partition_check(
            months,
            "item_drift",
            "published_items_are_in_the_bank",
            "Every item in force when the month began is still in the bank, on its scale. It does not hold the month.",
            _published_items_are_in_the_bank,
        ),
        partition_check(
            months,
            "dif_analysis",
            "items_treat_groups_alike",
            "No item is much harder for one group than for another of equal ability: by the Wald test with a "
            "difference of curves above 0.10 or, if that test was not possible, class C of Mantel-Haenszel. It does "
            "not hold the month.",
            _items_treat_groups_alike,
        ),
        _items_check(
            months,
            asset="test_information",
            name="no_item_lost_information",
            description="No item has certainly lost a fifth of its published information. It does not hold the month.",
            query=f"""SELECT scale_id, item_id, (details->>'ratio')::float FROM test_information
                      WHERE month = %s AND flagged AND item_id <> '{TEST_ID}' ORDER BY 3, 1, 2""",
            why=lambda ratio: f"keeps {ratio:.0%}",
            fine="no item lost a fifth of its information",
            fix=ITEM_INFORMATION_REMEDY,
        ),
        partition_check(
            months,
            "test_information",
            "the_test_kept_its_information",
            "The compared items together keep four fifths of their published information everywhere in the middle 95 % "
            "of the population. It passes in months in which the result is not reliable. It does not hold the month.",
            _the_test_kept_its_information,
        ),
    ]


def _items_check(
    months: dg.PartitionsDefinition,
    *,
    asset: str,
    name: str,
    description: str,
    query: str,
    why: Callable[[Any], str],
    fine: str,
    fix: str,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN,
) -> dg.AssetChecksDefinition:
    """A check that fails if a query returns items of the month that need a decision, and names them. `query` returns
    rows of scale, item and a value; `why` turns the value into the reason. `fine` is the message if there are no such
    items, and `fix` is the remedy if there are.
    """

    def judge(look: CheckInput) -> dg.AssetCheckResult:
        rows = look.connection.execute(query, (look.partition,)).fetchall()
        known = settled_items(look.connection, look.partition)
        found = [ReportedItem(scale, item, why(seen), known.get((scale, item), "")) for scale, item, seen in rows]
        first = _banks_that_vary(look.connection, look.partition) if asset == "item_drift" else ""
        unjudged = unjudged_scales(look.connection, look.partition, asset)
        return items_result(found, fine, fix, severity=severity, unjudged=unjudged, first=first)

    return partition_check(months, asset, name, description, judge)


def _banks_that_vary(connection: psycopg.Connection, month: str) -> str:
    """Sentences about scales whose items vary by more than the test for drift allows, to begin a message."""
    rows = connection.execute(
        """SELECT DISTINCT ON (scale_id) scale_id, details FROM item_drift WHERE month = %s AND details ? 'most_tau'
           ORDER BY scale_id, item_id""",
        (month,),
    ).fetchall()
    return "".join(f"{scale}: {warning}" for scale, details in rows if (warning := variation_warning([details])))


def _published_items_are_in_the_bank(look: CheckInput) -> dg.AssetCheckResult:
    connection, start = look.connection, Month(look.partition).start
    found = [
        ReportedItem(scale_id, item, why)
        for scale_id in read_scales(connection)
        for item, why in find_missing_items(
            connection, scale_id, list(in_force(connection, scale_id, start).items)
        ).items()
    ]
    return items_result(found, "all are in the bank", GONE_REMEDY)


def _items_treat_groups_alike(look: CheckInput) -> dg.AssetCheckResult:
    large = look.connection.execute(
        """SELECT scale_id, item_id, attribute, focal_group, ets_class FROM dif_analysis
           WHERE month = %s AND details->'large' = 'true'
           ORDER BY (details->'wald'->>'wabc')::float8 DESC NULLS LAST, 1, 2, 3, 4""",
        (look.partition,),
    ).fetchall()
    attributes = look.connection.execute(
        """SELECT scale_id, attribute, details->>'why_not' FROM dif_analysis
           WHERE month = %s AND item_id = '' ORDER BY 1, 2""",
        (look.partition,),
    ).fetchall()
    of_scales: dict[str, dict[str, list[str]]] = {}
    for scale, item, attribute, group, ets_class in large:
        where = f"{attribute} {group}" + (f", class {ets_class}" if ets_class else "")
        of_scales.setdefault(scale, {}).setdefault(item, []).append(where)
    items = [
        f"{scale}: {item} ({'; '.join(where)})"
        for scale, by_item in of_scales.items()
        for item, where in by_item.items()
    ]
    not_tested = {f"{scale}: {attribute}": why for scale, attribute, why in attributes if why}
    description = count_and_names(items, "no item has large DIF")
    if len(not_tested) == len(attributes):
        description = "nothing was tested"
    return dg.AssetCheckResult(
        passed=not items,
        severity=dg.AssetCheckSeverity.WARN,
        description=description + (f"; not tested: {', '.join(not_tested)}" if not_tested else ""),
        metadata={
            ITEMS: row_table(
                ("scale", "item", "differs for"),
                [
                    (scale, item, "; ".join(where))
                    for scale, by_item in of_scales.items()
                    for item, where in by_item.items()
                ],
            ),
            "not tested": row_table(("scale: attribute", "why"), list(not_tested.items())),
            **({HOW_TO_FIX: DIF_REMEDY} if items else {}),
        },
    )


def _the_test_kept_its_information(look: CheckInput) -> dg.AssetCheckResult:
    unjudged = unjudged_scales(look.connection, look.partition, "test_information")
    rows = look.connection.execute(
        """SELECT scale_id, flagged AND (details->>'trusted')::bool, details FROM test_information
           WHERE month = %s AND item_id = %s ORDER BY 1""",
        (look.partition, TEST_ID),
    ).fetchall()
    lost = [scale for scale, flagged, _ in rows if flagged]
    unknown = sentences_by_scale(unjudged)
    description = "; ".join([*unknown, *(f"{scale}: {_kept_information(details)}" for scale, _, details in rows)])
    return dg.AssetCheckResult(
        passed=not lost and not unknown,
        severity=dg.AssetCheckSeverity.WARN,
        description=description or "no scale has a test to judge",
        metadata={
            **{
                f"kept at θ = {worst['theta']:+.1f} ({scale})": dg.MetadataValue.float(worst["ratio"])
                for scale, _, details in rows
                if (worst := details["worst"]) is not None
            },
            **({HOW_TO_FIX: TEST_INFORMATION_REMEDY if lost else "; ".join(unknown)} if lost or unknown else {}),
        },
    )


def _kept_information(details: dict) -> str:
    worst = details["worst"]
    if worst is None:
        return str(details["why"])
    kept = f"it keeps at least {worst['ratio']:.0%} (θ = {worst['theta']:+.1f})"
    return f"{kept}; {details['caution']}" if details["caution"] else kept


class ReportedItem(NamedTuple):
    """An item that a check names.

    Attributes:
        why: the reason; may be empty.
        known: the earlier month or decision because of which the item is not new; empty if it is new.
    """

    scale_id: str
    item_id: str
    why: str = ""
    known: str = ""

    def __str__(self) -> str:
        return f"{self.item_id} ({self.why})" if self.why else self.item_id


def items_result(
    found: Sequence[ReportedItem],
    fine: str,
    fix: str,
    *,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN,
    unjudged: Mapping[str, str] | None = None,
    first: str = "",
) -> dg.AssetCheckResult:
    """The result of a check that fails if any of the `found` items is new.

    The message names the new items, and the metadata contain a row for each item and the remedy. The check also fails,
    as a warning, if there are `unjudged` scales, for which nothing is known about the items; they are given with the
    reasons, and each has a row without an item. `first` begins the message.
    """
    new, known = [n for n in found if not n.known], [n for n in found if n.known]
    unknown = sentences_by_scale(unjudged or {})
    description = first + "; ".join(
        [*unknown, *([count_and_names(list(map(str, new)), fine)] if new or not unknown else [])]
    )
    if known:
        description += f"; no decision needed: {', '.join(n.item_id for n in known)}"
    return dg.AssetCheckResult(
        passed=not new and not unknown,
        severity=severity if new else dg.AssetCheckSeverity.WARN,
        description=description,
        metadata={
            ITEMS: row_table(
                ("scale", "item", KNOWN_FROM, "why"),
                [(scale, "", "", why) for scale, why in (unjudged or {}).items()]
                + [(n.scale_id, n.item_id, n.known, n.why) for n in new + known],
            ),
            **({HOW_TO_FIX: fix if new else "; ".join(unknown)} if new or unknown else {}),
        },
    )


def count_and_names(named: Sequence[str], fine: str) -> str:
    """The number of items and the first ten names, or `fine` if there are no items."""
    return f"{quantity(len(named), 'item')}: {some_of(named, MAX_NAMED)}" if named else fine
