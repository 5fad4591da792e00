"""Render blocks as HTML: self-contained documents, and parts of the dashboard's pages.

Jinja escapes every text. Documents and the dashboard share the markup, and each has its own style sheet.
"""

from base64 import b64encode
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from irt_assets.blocks import Block, Document, Figure, plain, with_minus

_DIRECTION_CONTROLS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
"""Control characters that change the direction of the text after them. They are removed."""
BOOTSTRAP = {
    "good": "success",
    "bad": "danger",
    "warning": "warning",
    "info": "info",
    "neutral": "secondary",
    "dark": "dark",
}
"""Bootstrap's name of each tone, for the dashboard's style sheet."""
Draw: TypeAlias = Callable[[Figure], Markup]


def page(document: Document) -> str:
    """Render the document as one self-contained HTML file."""
    return _environment().get_template("document.html").render(document=document)


def part(*blocks: Block, draw: Draw | None = None) -> Markup:
    """Render the blocks as a part of a page. `draw` returns the markup of a figure; default: its SVG."""
    module: Any = _environment().get_template("blocks.html").module
    return Markup(module.blocks(blocks, draw or _as_svg))  # noqa: S704 - the macro has escaped all texts


def _data_url(picture: bytes) -> str:
    """Return the picture as an address, so that the page needs no other file."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{b64encode(picture).decode()}"


def _as_svg(figure: Figure) -> Markup:
    return Markup(figure.svg)  # noqa: S704 - a chart escapes its texts


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("irt_assets.blocks"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: (
            value.translate(_DIRECTION_CONTROLS) if type(value) is str else value
        ),  # Markup has no such characters
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["minus"] = lambda text: with_minus(text) if type(text) is str else text
    environment.globals |= {"bootstrap": BOOTSTRAP, "plain": plain, "as_svg": _as_svg, "data_url": _data_url}
    return environment
