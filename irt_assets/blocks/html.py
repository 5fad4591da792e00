"""Blocks as HTML: whole documents that need no other file, and parts of the dashboard's pages.

Jinja escapes every text. Both have the same markup, and a style sheet each. What does not belong here: what a page
says.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from irt_assets.blocks import Block, Document, Figure, plain, with_minus

_TURNING = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
"""Characters that turn the direction of the text after them, to the end of a sentence."""
BOOTSTRAP = {
    "good": "success",
    "bad": "danger",
    "warning": "warning",
    "info": "info",
    "neutral": "secondary",
    "dark": "dark",
}
"""Bootstrap's name of each tone, which the dashboard's style sheet knows."""
Draw: TypeAlias = Callable[[Figure], Markup]


def page(document: Document) -> str:
    """The document as one HTML file that needs no other."""
    return _environment().get_template("document.html").render(document=document)


def part(*blocks: Block, draw: Draw | None = None) -> Markup:
    """The blocks as a part of a page; `draw`: makes the markup of a figure where it is not to be an SVG."""
    module: Any = _environment().get_template("blocks.html").module
    return Markup(module.blocks(blocks, draw or _as_svg))  # noqa: S704 - a macro, which has escaped


def _as_svg(figure: Figure) -> Markup:
    return Markup(figure.svg)  # noqa: S704 - a chart escapes its texts


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("irt_assets.blocks"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value.translate(_TURNING) if type(value) is str else value,  # Markup is made of such
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["minus"] = lambda text: with_minus(text) if type(text) is str else text
    environment.globals |= {"bootstrap": BOOTSTRAP, "plain": plain, "as_svg": _as_svg}
    return environment
