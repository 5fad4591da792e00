"""Metadata of assets and checks for the Dagster UI: blocks as Markdown, and numbers, whose trend Dagster plots.

Short tables that programs read use `dagster_schema.rows_shown` instead.
"""

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import TypeAlias

import dagster as dg

from irt_assets.blocks import Block
from irt_assets.blocks.markdown import markdown
from irt_assets.common.dashboard_pages import month_page

Metadata: TypeAlias = dict[str, dg.MetadataValue]
Entry: TypeAlias = "Block | tuple[Block, ...] | str | float | dg.MetadataValue | None"


def md(*blocks: Block) -> dg.MetadataValue:
    return dg.MetadataValue.md(markdown(*blocks))


def metadata(
    shown: Mapping[str, Entry], by_subject: Iterable[tuple[str, Iterable[tuple[str, Entry]]]] = ()
) -> Metadata:
    """Convert values to metadata by name. Empty and non-finite values are left out.

    `by_subject`: the names and values of each subject, which is added to its names in brackets.
    """
    found: Metadata = {}
    of_subjects = {f"{name} ({subject})": value for subject, shown in by_subject for name, value in shown}
    for key, value in (dict(shown) | of_subjects).items():
        match value:
            case None | "":
                continue
            case dg.MetadataValue():
                found[key] = value
            case str():
                found[key] = dg.MetadataValue.text(value)
            case Integral():
                found[key] = dg.MetadataValue.int(int(value))
            case float() | Real():
                if math.isfinite(value):
                    found[key] = dg.MetadataValue.float(float(f"{value:.4g}"))
            case tuple():
                found[key] = md(*value)
            case _:
                found[key] = md(value)
    return found


def decide_in(dashboard_url: str | None, month: str) -> Metadata:
    """Metadata with a link to the page on which people decide on a month that is held or has proposals."""
    page = dashboard_url and dg.MetadataValue.url(month_page(dashboard_url, month))
    return {"decide in": page or dg.MetadataValue.text("the dashboard, or `irt release`")}
