"""All items of a form on one document: choices and curves, six items a page, suspect keys and other flags first.

For a committee that reads every item. The page of an item has the same charts with more numbers (see `item_blocks`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime

import psycopg

from irt_assets.blocks import Document, Figure, Figures, Paragraph, number
from irt_assets.common.wording import quantity, shorten
from irt_assets.item_analysis.key_evidence import key_warning
from irt_assets.item_analysis.stored import ItemRow
from irt_assets.ledger.fitted_items import NOT_FITTED, FittedItem, items_of_fit
from irt_assets.reports.classical_blocks import flags_in_words, trace_lines
from irt_assets.reports.form_facts import FormFacts
from irt_assets.reports.item_blocks import curves, parameters
from irt_psychometrics.plots import Chart
from resources.version import code_version

PAIR_HEIGHT, SINGLE_HEIGHT = 122, 225
"""Height of a chart, of which a page then has six rows of two, or three rows of two."""
LEGEND = (
    "Suspect keys come first, then other flagged items. Choices: the wide line is the key. Curves: dashed blue is "
    "published, solid orange is the estimate. Bars and shades: 95 %."
)


def read_estimates(connection: psycopg.Connection, facts: FormFacts) -> Mapping[str, FittedItem]:
    """Read the estimates of the month's fit, or of the origin window's fit, by item."""
    return items_of_fit(connection, facts.fit_id) if facts.fit_id else {}


def document(form: FormFacts, estimates: Mapping[str, FittedItem], at: datetime) -> Document:
    """Return the charts of all items of the form as a document."""
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
            Figures(tuple(_figures(form, estimates))),
        ),
    )


def _figures(form: FormFacts, estimates: Mapping[str, FittedItem]) -> Iterator[Figure]:
    """Yield the choices and the curve of each item, or only the curve if no item of the form has choices."""
    items = sorted(form.items, key=lambda item: (not key_warning(item), not item.flags))
    has_choices = any(item.options for item in items)
    height = PAIR_HEIGHT if has_choices else SINGLE_HEIGHT
    for item in items:
        published = form.values.get(item.item_id)
        estimate = estimates.get(item.item_id, NOT_FITTED).values
        curve, known = curves(item.item_id, published, estimate, form.scale, form.month), estimate or published
        values = parameters(known) if known else "no values"
        if has_choices:
            yield _figure(item, trace_lines(item), height, _in_short(item))
        yield _figure(item, curve, height, values if has_choices else f"{_in_short(item)}; {values}")


def _figure(item: ItemRow, figure: Figure, height: int, caption: str) -> Figure:
    assert isinstance(figure.chart, Chart)
    chart = replace(figure.chart, height=height, heading=shorten(item.item_id, 50))
    return Figure(chart, caption)


def _in_short(item: ItemRow) -> str:
    key, flags = item.key and f", key {shorten(item.key, 20)}", flags_in_words(item.flags)
    return f"p {number(item.facility, 3)}, r {number(item.item_rest, 3)}{key or ''}" + (f"; {flags}" if flags else "")
