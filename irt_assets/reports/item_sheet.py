"""All items of a form on one document: choices and curves, six items a page, suspect keys and other flags first.

For a committee that reads every item. The page of an item has the same charts with more numbers (see `item_blocks`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import psycopg

from irt_assets.blocks import Document, Figure, Figures, Paragraph, number
from irt_assets.common.partitions import Month
from irt_assets.common.wording import quantity, shorten
from irt_assets.item_analysis.stored import ItemRow
from irt_assets.ledger.fitted_items import FittedItem, items_of_month, items_of_origin
from irt_assets.ledger.origin_fit import overlapping_origin
from irt_assets.ledger.publications import publications_in_force
from irt_assets.reports.classical_blocks import flags_in_words, key_warning, trace_lines
from irt_assets.reports.form_facts import FormFacts, form_facts
from irt_assets.reports.item_blocks import curves, parameters
from irt_assets.scales.scale import Scale
from irt_psychometrics.items import ItemRow as Values
from irt_psychometrics.plots import Chart
from resources.version import code_version

PAIR_HEIGHT, SINGLE_HEIGHT = 122, 225
"""Height of a chart, of which a page then has six rows of two, or three rows of two."""
LEGEND = (
    "Suspect keys come first, then other flagged items. Choices: the wide line is the key. Curves: dashed blue is "
    "published, solid orange is the estimate. Bars and shades: 95 %."
)


@dataclass(frozen=True, kw_only=True)
class ItemSheet:
    """A form, and the curves of its items.

    Attributes:
        published: the values in force at the month's end, by item.
        estimates: the items of the month's fit, or of the origin window's fit.
    """

    form: FormFacts
    published: Mapping[str, Values]
    estimates: Mapping[str, FittedItem]


def read_item_sheet(connection: psycopg.Connection, scale: Scale, form_id: str, month: str | None = None) -> ItemSheet:
    """Read all items of the form in the month. Raises PermanentFailure as `form_facts` does."""
    form = form_facts(connection, scale, form_id, month)
    start, end = Month(form.month).bounds
    estimates = items_of_month(connection, scale, form.month)
    if not estimates and overlapping_origin(connection, scale.scale_id, start, end):
        estimates = items_of_origin(connection, scale.scale_id)
    published = {row.item_id: row.values for row in publications_in_force(connection, scale.scale_id, end)}
    return ItemSheet(form=form, published=published, estimates=estimates)


def document(sheet: ItemSheet, at: datetime) -> Document:
    """Return the charts of all items as a document."""
    form = sheet.form
    title = f"Items of {'form ' * bool(form.form.form_id)}{form.name}, {form.month}"
    flagged = quantity(sum(bool(item.flags) for item in form.items), "flagged item")
    return Document(
        title=title,
        subtitle=f"scale {form.scale.scale_id} · written on {at:%Y-%m-%d at %H:%M} UTC · irt-assets {code_version()}",
        running=f"{title} · scale {form.scale.scale_id}",
        language="en",
        kind="bank",
        blocks=(
            Paragraph(f"{quantity(len(form.items), 'item')}, {flagged}. {LEGEND}"),
            Figures(tuple(_figures(sheet))),
        ),
    )


def _figures(sheet: ItemSheet) -> Iterator[Figure]:
    """Yield the choices and the curve of each item, or only the curve if no item of the form has choices."""
    items = sorted(sheet.form.items, key=lambda item: (not key_warning(item), not item.flags))
    has_choices = any(item.options for item in items)
    height = PAIR_HEIGHT if has_choices else SINGLE_HEIGHT
    for item in items:
        published = sheet.published.get(item.item_id)
        fitted = sheet.estimates.get(item.item_id)
        values = fitted.values if fitted else None
        curve = curves(item.item_id, published, values, sheet.form.scale, sheet.form.month)
        known = values or published
        fitted_values = parameters(known) if known else "no values"
        if has_choices:
            yield _figure(item, trace_lines(item), height, _in_short(item))
        yield _figure(item, curve, height, fitted_values if has_choices else f"{_in_short(item)}; {fitted_values}")


def _figure(item: ItemRow, figure: Figure, height: int, caption: str) -> Figure:
    assert isinstance(figure.chart, Chart)
    chart = replace(figure.chart, height=height, heading=shorten(item.item_id, 50))
    return Figure(chart, caption)


def _in_short(item: ItemRow) -> str:
    known = {"p": item.facility, "r": item.item_rest}
    statistics = [f"{name} {number(value, 3)}" for name, value in known.items()]
    key = [f"key {shorten(item.key, 20)}"] if item.key else []
    return "; ".join([", ".join(statistics + key), *filter(None, [flags_in_words(item.flags)])])
