"""Elements of pages that are not blocks: sections, forms and links to files.

htmltools makes the markup and escapes every text.
"""

from collections.abc import Iterable, Mapping
from urllib.parse import urlencode

from htmltools import Tag, TagChild, TagList, tags
from markupsafe import Markup

from irt_assets.blocks import DASH as DASH, Block
from irt_assets.common.wording import shorten as shorten
from services.dashboard.figures import render_blocks

WITHOUT_TABLES = ("items",)
"""Documents with charts only, which have no Excel file."""


def markup(child: TagChild) -> Markup:
    """Convert an element, for use in the cell of a table or in a paragraph."""
    return Markup(TagList(child).get_html_string())  # noqa: S704 - htmltools has escaped it


def text_field(label: str, name: str, value: str) -> Tag:
    """A search field of a form."""
    return tags.div(
        tags.label(label, for_=name, class_="form-label mb-0"),
        tags.input(id=name, name=name, type="search", value=value, class_="form-control"),
        class_="col-auto",
    )


def section(title: str, *body: Block | TagChild) -> Tag:
    return tags.section(tags.h2(title, class_="h4 mt-4"), render_blocks(*body))


def choice(label: str, name: str, options: Iterable[str] | Mapping[str, str], selected: str) -> Tag:
    """A field of a form whose value is one of `options`. If these are a mapping, it maps values to the shown texts."""
    texts = options if isinstance(options, Mapping) else {option: option for option in options}
    return tags.div(
        tags.label(label, for_=name, class_="form-label mb-0"),
        tags.select(
            *(
                tags.option(text, value=value, selected="" if value == selected else None)
                for value, text in texts.items()
            ),
            name=name,
            id=name,
            class_="form-select",
        ),
        class_="col-auto",
    )


def tick_box(label: str, name: str, *, ticked: bool) -> Tag:
    """A field of a form whose value is `1` if it is ticked."""
    return tags.div(
        tags.div(
            tags.input(
                type="checkbox",
                name=name,
                value="1",
                id=name,
                class_="form-check-input",
                checked="" if ticked else None,
            ),
            tags.label(label, for_=name, class_="form-check-label ms-1"),
            class_="form-check",
        ),
        class_="col-auto",
    )


def query_form(view: str, *inputs: TagChild, kept: Mapping[str, str] | None = None, button: str = "Show") -> Tag:
    """A form that leads to the address of a view, with its inputs as fields. `kept`: hidden fields.

    If the browser runs scripts, the page follows each input, and the button is hidden.
    """
    return tags.form(
        *(
            tags.input(type="hidden", name=name, value=value)
            for name, value in ({"view": view} | dict(kept or {})).items()
            if value
        ),
        *inputs,
        tags.div(tags.button(button, type="submit", class_="btn btn-primary"), class_="col-auto"),
        method="get",
        class_="row g-3 align-items-end mb-3",
        data_live="",
    )


def download_links(text: str, table: str, **fields: str | None) -> Tag:
    """Links that download a table as CSV, Excel or Parquet."""
    return _file_links(text, "download", {"csv": "CSV", "xlsx": "Excel", "parquet": "Parquet"}, what=table, **fields)


def document_links(view: str, text: str = "This page as a file:", **fields: str | None) -> Tag:
    """Links that download the page of a view."""
    kinds = {"pdf": "PDF", "docx": "Word"} | ({} if view in WITHOUT_TABLES else {"xlsx": "Excel"}) | {"html": "HTML"}
    return _file_links(text, "document", kinds, view=view, **fields)


def _file_links(text: str, path: str, kinds: Mapping[str, str], **fields: str | None) -> Tag:
    query = {name: value for name, value in fields.items() if value}
    links = [
        tags.a(name, href=f"{path}?{urlencode(query | {'to': kind})}", download="") for kind, name in kinds.items()
    ]
    return tags.p(text, *(TagList(" ", link) for link in links))
