"""Show the ability of a month's groups to people, from the rows of `group_ability`."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import psycopg

from irt_assets.abilities.groups import MIN_LEARNERS, SIGNIFICANT, Row
from irt_assets.blocks import Block, Cell, Paragraph, Table, table, value_with_error
from irt_assets.common.intervals import Z95
from irt_assets.common.wording import quantity
from irt_assets.scales.scale import Scale
from resources.postgres.database import named_rows

ABOVE = "above the mark"
FORMATS = {
    "learners": ",",
    "mean θ": "+.2f",
    "SE": ".3f",
    "SD": ".2f",
    "SE of SD": ".3f",
    "difference": "+.2f",
    "SE of difference": ".3f",
    "change": "+.2f",
    "SE of change": ".3f",
    ABOVE: ".1%",
}
"""Columns of numbers. Differences are to the largest group, changes to the month before."""
ESTIMATES = ("mean θ", "SD", "difference", "change")
EXPLAINED = (
    "± is half of a 95 % interval. Ability is estimated from the answers, and is normal in each group. Change: "
    "since the month before, by the same published values. Learners' θ and scores never use attributes."
)
MAX_SHOWN = 40


def read_groups(connection: psycopg.Connection, scale_id: str, month: str) -> list[Row]:
    """The rows of a scale's month: each attribute as a whole, followed by its groups, the largest first."""
    return named_rows(
        connection,
        """SELECT * FROM group_ability WHERE (scale_id, month) = (%s, %s)
           ORDER BY attribute, group_name <> '', n DESC, group_name""",
        (scale_id, month),
    )


def groups_table(found: Mapping[str, Sequence[Row]]) -> Table:
    """The groups with estimates, by scale and attribute, with standard errors."""
    rows = [(scale_id, row) for scale_id, rows in found.items() for row in rows if row["mean"] is not None]
    return table(
        ("scale", "attribute", "group", *FORMATS),
        [(scale_id, row["attribute"], row["group_name"], *_numbers(row)) for scale_id, row in rows],
        numbers=FORMATS,
        empty="no group has been described",
    )


def _numbers(row: Row) -> Iterator[Cell]:
    passing = row["details"]["passing"]
    yield row["n"]
    for name in ("mean", "sd", "difference", "change"):
        yield row[name]
        yield row[f"{name}_se"]
    yield passing and passing["share"]


def changed_groups(rows: Sequence[Row], scale: Scale) -> list[Row]:
    """The groups whose change is significant and larger than the scale's rule allows."""
    limit = scale.rules.warnings.max_group_shift * scale.sigma
    tested = [row for row in rows if row["change_q"] is not None]
    return [row for row in tested if row["change_q"] < SIGNIFICANT and abs(row["change"]) > limit]


def group_blocks(rows: Sequence[Row], scale: Scale) -> Iterator[Block]:
    """Yield the groups of a scale's month: who changed, a table for each attribute, and groups without estimates."""
    if not rows:
        return
    changed = [f"{row['attribute']} {row['group_name']} {describe_change(row)}" for row in changed_groups(rows, scale)]
    yield Paragraph(f"{'; '.join(changed)}." if changed else "No group changed by more than its error and the limit.")
    for attribute, found in groupby(rows, key=lambda row: row["attribute"]):
        described = [row for row in found if row["mean"] is not None]
        if described:
            yield table(
                ("group", "learners", *ESTIMATES, *([ABOVE] if scale.pass_theta is not None else [])),
                [(row["group_name"], row["n"], *_estimates(row, scale)) for row in described[:MAX_SHOWN]],
                numbers={"learners": ","},
                caption=f"{attribute}, compared with {described[0]['reference_group']}",
                small=True,
            )
    for _, attribute, group, why in undescribed({"": rows}):
        yield Paragraph(f"Not described: {' '.join(filter(None, (attribute, group)))}: {why}.", "quiet")
    yield Paragraph(EXPLAINED, "quiet")


def _estimates(row: Row, scale: Scale) -> Iterator[Cell]:
    for name in ("mean", "sd", "difference", "change"):
        se = row[f"{name}_se"]
        yield value_with_error(row[name], se and Z95 * se, sign=name != "sd")
    if scale.pass_theta is not None:
        passing = row["details"]["passing"]
        yield passing and f"{passing['share']:.0%} ± {Z95 * passing['se']:.0%}"


class Undescribed(NamedTuple):
    """A group without estimates, or an attribute without groups (an empty group), and why."""

    scale_id: str
    attribute: str
    group: str
    why: str


def undescribed(found: Mapping[str, Sequence[Row]]) -> list[Undescribed]:
    """List the groups without estimates, and the attributes without groups."""
    rows = []
    for scale_id, of_scale in found.items():
        for row in of_scale:
            key, details = (scale_id, row["attribute"], row["group_name"]), row["details"]
            if details["why_not"]:
                rows.append(Undescribed(*key, details["why_not"]))
            if (small := details.get("smaller_groups")) and small["groups"]:
                groups, learners = quantity(small["groups"], "group"), quantity(small["learners"], "learner")
                rows.append(Undescribed(*key, f"{groups} with fewer than {MIN_LEARNERS} learners each ({learners})"))
            if unknown := details.get("n_unknown"):
                rows.append(Undescribed(*key, f"{quantity(unknown, 'learner')} without a group"))
    return rows


def describe_change(row: Row) -> str:
    """A group's change since the month before, in words."""
    return f"changed by {row['change']:+.2f} (SE {row['change_se']:.2f}) since the month before, to {row['mean']:+.2f}"
