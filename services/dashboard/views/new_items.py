"""The queue of new items: stages, progress, forecasts, and obstacles with remedies.

The filters are fields of the address, which `downloads` reads as well.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from htmltools import Tag
from shiny import Inputs, Outputs, Session, ui

from irt_assets.blocks import DASH, Badge, Block, Cell, Column, Details, Paragraph, Table, Text, notice, prose, table
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import in_words, is_or_are, natural_order, quantity, with_capital
from irt_assets.new_items.queue import QueuedItem, read_queue
from irt_assets.new_items.stages import Stage
from irt_assets.reports.item_history_blocks import STAGE_TONES
from irt_assets.scales.scale import Scale, read_scales
from services.dashboard import decision_form
from services.dashboard.address_fields import paginate, require_known
from services.dashboard.decisions import STAGE_KINDS, may_decide
from services.dashboard.elements import choice, download_links, query_form, section, shorten, text_field, tick_box
from services.dashboard.figures import render_blocks
from services.dashboard.page import Page, ViewRequest
from services.dashboard.views.bank import PAGE_SIZE, choose_scale

STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class QueueSelection:
    """The items of a scale that the address chooses. `all`: every item of the scale, published ones included."""

    scale: Scale
    scales: tuple[str, ...]
    all: Sequence[QueuedItem]
    items: Sequence[QueuedItem]


def read_selection(request: ViewRequest, at: datetime) -> QueueSelection:
    """Read the items that the address chooses: by default the unpublished items that are not rejected.

    Raises NotFound if the scale or the stage is unknown.
    """
    stage, text = request.field("stage"), request.field("search").casefold()
    if stage:
        require_known("stage", stage, STAGES)
    with request.reader.connect() as connection:
        scale, scales = choose_scale(request, read_scales(connection))
        queue = read_queue(connection, scale, at)
    selected = [
        item
        for item in queue
        if (item.stage.stage == stage if stage else item.is_open)
        and (not text or text in item.stage.item_id.casefold() or text in (item.topic or "").casefold())
        and (item.stuck or not request.field("stuck"))
    ]
    return QueueSelection(scale, scales, queue, sorted(selected, key=lambda item: natural_order(item.stage.item_id)))


def page(request: ViewRequest) -> Page:
    selection = read_selection(request, request.reader.now())
    scale_id = selection.scale.scale_id
    first, pages = paginate(request, len(selection.items), PAGE_SIZE)
    chosen = {name: request.field(name) for name in ("stage", "search", "stuck")}
    files = f"{quantity(len(selection.items), 'item').capitalize()} as a file, as chosen here:"
    return Page(
        f"New items of scale {scale_id}",
        render_blocks(
            *_head(selection),
            _board(selection),
            _form(request, selection),
            _table(selection, first),
            pages,
            download_links(files, "pipeline", scale=scale_id, **chosen),
            _decide(request, selection),
        ),
    )


def server(request: ViewRequest, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    decision_form.handle_events(request, inputs, [*STAGE_KINDS], list)


def _decide(request: ViewRequest, selection: QueueSelection) -> Tag | None:
    """Return a form to decide on some of the items. None if no item is listed."""
    stages, items = {item.stage.stage for item in selection.items}, [item.stage.item_id for item in selection.items]
    kinds = [name for name, kind in STAGE_KINDS.items() if not stages.isdisjoint(kind.stages)]
    if not items:
        return None
    chosen = ui.input_select("options", "Items", items, multiple=True, size="8", width="100%")
    return section(
        "Decide on items", chosen if may_decide(request.identity) else None, decision_form.form(request, kinds)
    )


def _head(selection: QueueSelection) -> Sequence[Block]:
    """Return the state of the queue in a sentence, after a notice if the scale has no published items."""
    queue, scale_id = [item for item in selection.all if item.is_open], selection.scale.scale_id
    blocks: list[Block] = []
    if not any(item.stage.stage == "published" for item in selection.all):
        first = (
            f"The scale has no published items yet, and its origin comes first: `irt scale init --scale {scale_id}`."
        )
        blocks = [notice(prose(first), "warning")]
    if not queue:
        begin = "Import rows without values by `irt import questions FILE`, then seed them by `irt items seed ITEM`."
        return [*blocks, Paragraph(prose(f"There are no new items. {begin}"), "lead")]
    coming = sum(item.stage.counts_from is not None for item in queue)
    publishable = sum(item.stage.stage == "publishable" and item.stage.counts_from is None for item in queue)
    stuck = sum(bool(item.stuck) for item in queue)
    link = page_link(f"{in_words(stuck)} {is_or_are(stuck)} stuck", "new_items", scale=scale_id, stuck="1")
    known = (
        f"{with_capital(quantity(len(queue), 'item'))} {is_or_are(len(queue))} not published yet: "
        f"{in_words(publishable)} of them {is_or_are(publishable)} publishable; "
        + (f"{in_words(coming)} will count from the next month on; " if coming else "")
    )
    return [*blocks, Paragraph((known, link if stuck else "none is stuck", "."), "lead")]


def _board(selection: QueueSelection) -> Table:
    """Count the items at each stage, with links to them."""
    n = Counter(item.stage.stage for item in selection.all)
    counts = [
        page_link(f"{n[stage]:,}", "new_items", scale=selection.scale.scale_id, stage=stage) if n[stage] else "0"
        for stage in STAGES
    ]
    return table(STAGES, [counts], numbers=STAGES, caption="Items by stage", small=True)


def _form(request: ViewRequest, selection: QueueSelection) -> Tag:
    stages = {"": "all new items"} | {stage: stage for stage in STAGES}
    return query_form(
        "new_items",
        choice("Scale", "scale", selection.scales, selection.scale.scale_id) if len(selection.scales) > 1 else None,
        text_field("Item or topic", "search", request.field("search")),
        choice("Stage", "stage", stages, request.field("stage")),
        tick_box("stuck only", "stuck", ticked=bool(request.field("stuck"))),
        kept={} if len(selection.scales) > 1 else {"scale": selection.scale.scale_id},
    )


def _table(selection: QueueSelection, first: int) -> Table:
    rules, shown = selection.scale.rules.seeding, selection.items[first : first + PAGE_SIZE]
    hint = (
        f"The least of: answers ÷ {rules.seed_min_responses}, ({rules.seed_max_b_se:g} ÷ SE of b)², and "
        f"({rules.seed_max_ln_a_se:g} ÷ SE of ln a)². 100%: precise enough to be published."
    )
    columns = (
        *(Column("item"), Column("stage"), Column("topic"), Column("answers", number=True, format=",")),
        Column("progress", number=True, format=".0%", hint=hint, bar=True),
        Column("SE(b)", number=True, format=".2f"),
        Column("SE(ln a)", number=True, format=".2f"),
        Column("publishable on", hint="Forecast with an 80 % interval, from the item's rate of answers."),
        *(Column("seeding"), Column("flags"), Column("stuck", share=3)),
    )
    nights = [item.new.evaluated_at for item in selection.all if item.new]
    as_of = f", with the answers before {max(nights):%Y-%m-%d}" if nights else ""
    caption = f"Items {first + 1}–{first + len(shown)} of {len(selection.items)}{as_of}" if shown else ""
    rows = tuple(_row(item) for item in shown)
    return Table(columns, rows, caption, empty="no item matches", small=True)


def _row(item: QueuedItem) -> tuple[Cell, ...]:
    stage, new = item.stage, item.new
    return (
        page_link(stage.item_id, "item", scale=stage.scale_id, item=stage.item_id),
        Badge(stage.stage, STAGE_TONES[stage.stage]),
        shorten(item.topic or DASH, 30),
        *(stage.n, item.progress, *((new.b_se, new.ln_a_se) if new else (None, None))),
        _forecast(item),
        item.limits.in_words if item.limits else "not seeded",
        ", ".join(new.flags if new else ()) or DASH,
        Details(item.stuck, (Paragraph(prose(new.remedy)),)) if new and item.stuck else DASH,
    )


def _forecast(item: QueuedItem) -> Text:
    """Describe the day on which the item is expected to be publishable, with the interval."""
    if item.stage.counts_from:
        return f"counts from {item.stage.counts_from:%Y-%m-%d}"
    if item.stage.stage == "publishable" and item.stage.since:
        return f"since {item.stage.since:%Y-%m-%d}"
    if item.new is None or not item.is_open:
        return DASH
    if item.new.ready_at is None:
        return "not foreseen"
    return f"{item.new.ready_at} ({item.new.ready_from} to {item.new.ready_to or 'later'})"
