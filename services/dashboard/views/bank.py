"""The items of a scale, searched and sorted: values in force, findings of the newest month, and waiting decisions.

The search and the order are fields of the address, which `downloads` reads as well.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from htmltools import Tag

from irt_assets.blocks import DASH, Badge, Cell, Column, Paragraph, Span, Table, Text, Tone, value_with_error
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import natural_order, quantity
from irt_assets.decisions.bank import IN_USE, NOT_PUBLISHED, WITHDRAWN, BankItem, bank_items
from irt_assets.ledger.linked_windows import newest_window
from irt_assets.scales.scale import Scale, read_scales
from irt_psychometrics.items import ItemRow
from services.dashboard.address_fields import changed_address, paginate, require_known
from services.dashboard.elements import choice, download_links, query_form, shorten, text_field
from services.dashboard.figures import render_blocks
from services.dashboard.page import NotFound, Page, ViewRequest

PAGE_SIZE = 200
STATUS_TONES: Mapping[str, Tone] = {IN_USE: "good", NOT_PUBLISHED: "neutral", WITHDRAWN: "dark"}
FLAGS: Mapping[str, tuple[str, Callable[[BankItem], bool]]] = {
    "any": ("any", lambda item: bool(_flagged(item))),
    "key": ("a suspect key", lambda item: bool(item.suspect_key)),
    "drift": ("drift", lambda item: item.drifted is not None),
    "dif": ("large DIF", lambda item: bool(item.dif)),
    "estimate": ("a doubtful estimate", lambda item: bool(item.problems)),
    "decision": ("a decision waits", lambda item: item.proposal is not None),
    "none": ("none", lambda item: not _flagged(item)),
}
STATUSES = {"use": IN_USE, "unpublished": NOT_PUBLISHED, "withdrawn": WITHDRAWN}
SEVERITIES = {"medium": 1, "high": 2}
Key = Callable[[BankItem], Any]
COLUMNS: Mapping[str, tuple[str, str, Key]] = {
    "item": ("item", "t", lambda item: natural_order(item.item_id)),
    "status": ("status", "t", lambda item: item.status),
    "flags": ("flags", "t", lambda item: _severity_rank(item)),
    "max_score": ("max score", "n", lambda item: item.max_score),
    "a": ("a ± SE", "n", lambda item: item.values and item.values.a),
    "a_m": (f"{ItemRow.WHOLE_SLOPE} ± SE", "n", lambda item: item.values and item.values.a * item.max_score),
    "b": ("b ± SE (θ)", "n", lambda item: item.values and item.values.b),
    "c": ("c ± SE", "n", lambda item: item.values and item.values.c),
    "since": ("in force since", "t", lambda item: item.since),
    "n": ("answers", "n", lambda item: item.n),
    "anchor": ("anchor", "t", lambda item: item.anchor),
    "topic": ("topic", "t", lambda item: item.topic),
}
"""Columns by name in the address: the header, `n` for numbers or `t` for text, and the sort key. a, b and c have their
standard errors."""
SCORED_COLUMNS = ("max_score", "a_m")
"""Columns that are shown only for scales with scored items."""


@dataclass(frozen=True)
class BankSelection:
    """The items of a scale that the address chooses, in its order. `all`: every item of the scale."""

    scale: Scale
    scales: tuple[str, ...]
    window: str | None
    all: Sequence[BankItem]
    items: Sequence[BankItem]
    sort: str


def read_selection(request: ViewRequest, at: datetime) -> BankSelection:
    """Read the items that the address chooses. Raises NotFound if a field has an unknown value."""
    search, status, flag = (request.field(name) for name in ("search", "status", "flag"))
    sort = request.field("sort", "item")
    if status:
        require_known("status", status, STATUSES)
    if flag:
        require_known("flag", flag, FLAGS)
    require_known("order", sort.removeprefix("-"), COLUMNS)
    with request.reader.connect() as connection:
        scale, scales = choose_scale(request, read_scales(connection))
        window = newest_window(connection, scale)
        items = bank_items(connection, scale, at)
    text = search.casefold()
    selected = [
        item
        for item in items
        if (not text or text in item.item_id.casefold() or text in (item.topic or "").casefold())
        and (not status or item.status == STATUSES[status])
        and (not flag or FLAGS[flag][1](item))
    ]
    return BankSelection(scale, scales, window, items, sort_items(selected, sort), sort)


def choose_scale(request: ViewRequest, scales: Mapping[str, Scale]) -> tuple[Scale, tuple[str, ...]]:
    """The scale of the address, or else the first scale that has an origin. Also returns the names of all scales."""
    name = request.field("scale")
    if name:
        require_known("scale", name, scales)
        return scales[name], tuple(scales)
    for scale in sorted(scales.values(), key=lambda each: not each.initialised):
        return scale, tuple(scales)
    raise NotFound("The bank has no items yet: `irt import questions FILE`.")


def sort_items(items: Sequence[BankItem], sort: str) -> list[BankItem]:
    """The items sorted by a column; with `-` before its name, largest first. Items without a value come last."""
    key = COLUMNS[sort.removeprefix("-")][2]
    with_value = [item for item in items if key(item) is not None]
    with_value.sort(key=key, reverse=sort.startswith("-"))
    return with_value + [item for item in items if key(item) is None]


def page(request: ViewRequest) -> Page:
    selection = read_selection(request, request.reader.now())
    first, pages = paginate(request, len(selection.items), PAGE_SIZE)
    rows = selection.items[first : first + PAGE_SIZE]
    has_c = any(item.values and item.values.c for item in selection.all)
    hidden = [*([] if selection.scale.scored else SCORED_COLUMNS), *([] if has_c else ["c"])]
    columns = [name for name in COLUMNS if name not in hidden]
    column = selection.sort.removeprefix("-")
    position = columns.index(column) if column in columns else 0
    caption = f"Items {first + 1}–{first + len(rows)} of {len(selection.items)}" if rows else "No item matches"
    table = Table(
        tuple(Column(_header(request, name, selection.sort), number=COLUMNS[name][1] == "n") for name in columns),
        tuple(tuple(map(_row(item, selection.scale.scale_id).__getitem__, columns)) for item in rows),
        f"{caption}. Answers are those of {selection.window or 'no month yet'}.",
        small=True,
        sorted_by=(position, "descending" if selection.sort.startswith("-") else "ascending"),
    )
    return Page(
        f"Bank of scale {selection.scale.scale_id}",
        render_blocks(
            Paragraph(summary(selection), "lead"),
            form(request, selection),
            table,
            pages,
            _files(request, selection),
        ),
    )


def summary(selection: BankSelection) -> Text:
    """Counts of the scale's items, with links to them."""
    scale = selection.scale.scale_id
    n = {name: sum(item.status == status for item in selection.all) for name, status in STATUSES.items()}
    waiting = sum(item.proposal is not None for item in selection.all)
    drifted = sum(item.drifted is not None for item in selection.all)
    parts = [f"{n['use']} of {quantity(len(selection.all), 'item')} are in use"]
    parts += [f"{n['unpublished']} not published"] * bool(n["unpublished"])
    parts += [f"{n['withdrawn']} withdrawn"] * bool(n["withdrawn"])
    waits = page_link(f"{waiting} wait for a decision", "decisions", scale=scale), "."
    return (
        f"{', '.join(parts)}; ",
        page_link(f"{drifted} drifted", "bank", scale=scale, flag="drift") if drifted else "no item has drifted",
        ", ",
        waits if waiting else "nothing waits for a decision.",
    )


def _flagged(item: BankItem) -> object:
    return item.suspect_key or item.drifted or item.dif or item.problems or item.proposal


def form(request: ViewRequest, selection: BankSelection) -> Tag:
    sort = "" if selection.sort == "item" else selection.sort
    return query_form(
        "bank",
        choice("Scale", "scale", selection.scales, selection.scale.scale_id) if len(selection.scales) > 1 else None,
        text_field("Item or topic", "search", request.field("search")),
        choice("Status", "status", {"": "all"} | STATUSES, request.field("status")),
        choice("Flag", "flag", {"": "all"} | {k: v for k, (v, _) in FLAGS.items()}, request.field("flag")),
        kept={"sort": sort},
    )


def flags(item: BankItem) -> Text:
    """Build badges and links for everything that needs review: a proposal, a suspect key, drift, DIF and estimates."""
    badges: list[Text] = []
    if (p := item.proposal) is not None:
        badges.append(page_link(f"decision waits ({p.window})", "proposal", proposal=str(p.reference)))
    if item.suspect_key:
        badges += [Badge("suspect key", "bad")]
    if (drifted := item.drifted) is not None:
        badges.append(Badge(drifted.sentence, "bad" if drifted.severity == "high" else "warning"))
    if item.dif:
        badges.append(Badge(f"large DIF: {', '.join(item.dif)}", "warning"))
    badges += [Badge(problem.partition(":")[0].replace("_", " ")) for problem in item.problems]
    return tuple((flag, " ") for flag in badges) or DASH


def state(item: BankItem) -> Text:
    """The item's status, and a decision on its use that is not in force yet."""
    word = Badge(item.status, STATUS_TONES[item.status])
    last = item.decided
    if last is None or last.is_withdrawn == item.withdrawn:
        return word, f" since {last.effective_from:%Y-%m-%d}" if last is not None and item.withdrawn else ""
    return word, f" {last.state} from {last.effective_from:%Y-%m-%d} on"


FILE_COLUMNS = (
    *("scale_id", "item_id", "topic_id", "anchor", "status", "decided_on_its_use", "a", "b", "c", "a_se", "b_se"),
    *("c_se", "effective_from", "decided_values", "n_responses", "drift", "dif", "estimate", "proposal", "max_score"),
)


def as_row(item: BankItem, scale: str) -> tuple[Any, ...]:
    """The item as a row of a file with the columns `FILE_COLUMNS`."""
    v = item.values
    return (
        *(scale, item.item_id, item.topic, item.anchor, item.status, item.decided.sentence if item.decided else None),
        *((v.a, v.b, v.c, v.a_se, v.b_se, v.c_se) if v else [None] * 6),
        *(item.since, item.to_come or None, item.n),
        item.drifted.sentence if item.drifted else None,
        ", ".join(item.dif) or None,
        "; ".join(item.problems) or None,
        str(item.proposal.reference) if item.proposal else None,
        item.max_score,
    )


def _row(item: BankItem, scale: str) -> dict[str, Cell]:
    """The cells of an item, by column."""
    values = item.values.in_brief if item.values else {}
    whole = values.get(ItemRow.WHOLE_SLOPE)
    return {
        "item": page_link(item.item_id, "item", scale=scale, item=item.item_id),
        "status": state(item),
        "flags": flags(item),
        "max_score": item.max_score,
        "a": _by_error(*values["a"]) if values else DASH,
        "a_m": _by_error(*whole) if whole else None,
        "b": _by_error(*values["b"]) if values else DASH,
        "c": _by_error(*values.get("c", (0.0, None))) if values else DASH,
        "since": "; ".join(filter(None, (f"{item.since:%Y-%m-%d}" if item.since else "", item.to_come))) or DASH,
        "n": DASH if item.n is None else f"{item.n:,}",
        "anchor": "anchor" if item.anchor else DASH,
        "topic": shorten(item.topic or DASH, 30),
    }


def _by_error(value: float, error: float | None) -> str:
    """The value with its error, to the digits that the error leaves: 0.962 ± 0.021, 0.96 ± 0.12, −14 ± 15."""
    digits = 2 if not error or not math.isfinite(error) else -math.floor(math.log10(error / 3.55))
    return value_with_error(value, error, min(max(digits, 0), 3))


def _severity_rank(item: BankItem) -> tuple[int, int]:
    severity = SEVERITIES.get(item.drifted.severity, 0) if item.drifted else 0
    return severity, bool(item.suspect_key) + (item.proposal is not None) + len(item.dif) + len(item.problems)


def _header(request: ViewRequest, name: str, sort: str) -> Span:
    """A link that sorts by this column, or reverses the order if the table is already sorted by it."""
    mark = {name: " ▲", f"-{name}": " ▼"}.get(sort, "")
    text, kind, _ = COLUMNS[name]
    first = f"-{name}" if kind == "n" or name in ("flags", "anchor", "since") else name
    reversed_order = {f"-{name}": name, name: f"-{name}"}
    return Span(text + mark, link=changed_address(request, sort=reversed_order.get(sort, first), page=None))


def _files(request: ViewRequest, selection: BankSelection) -> Tag:
    chosen_by = {name: request.field(name) for name in ("search", "status", "flag")}
    text = f"{quantity(len(selection.items), 'item').capitalize()} as a file, as chosen here:"
    return download_links(text, "bank", scale=selection.scale.scale_id, sort=selection.sort, **chosen_by)
