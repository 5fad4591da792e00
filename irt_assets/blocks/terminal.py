"""Print blocks on a terminal. Control characters in texts are shown, never sent to the terminal."""

import re
from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table as Grid
from rich.text import Text as Styled

from irt_assets.blocks import (
    Badge,
    Block,
    Content,
    Details,
    Figure,
    List,
    Pairs,
    Paragraph,
    Section,
    Span,
    Table,
    plain,
    walk,
)

CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that move a terminal's cursor, set its title, or change the direction of the text after them."""
COLOURS = {"good": "green", "bad": "red", "warning": "yellow", "info": "blue", "neutral": "", "dark": ""}
PIPED_WIDTH = 160
"""Width of a table in characters if there is no terminal."""
STYLES = {"bold": "bold", "quiet": "dim"}


def show(*blocks: Block, console: Console) -> None:
    """Print the blocks. A table is as wide as the terminal, or 160 characters if there is none.

    If a table needs more, it is wider and the terminal wraps its lines.
    """
    for title, block in walk(blocks):
        for part in _parts(title, block):
            if isinstance(part, Grid):
                needed = Measurement.get(console, console.options.update(max_width=10_000), part).minimum
                width = max(console.width if console.is_terminal else PIPED_WIDTH, needed)
                Console(highlight=False, width=width).print(part)
            else:
                console.print(part)


def visible(text: str) -> str:
    """Replace control characters by their escape sequences, such as x1b."""
    return CONTROL_CHARACTERS.sub(lambda match: ascii(match[0])[1:-1], text)


def _parts(title: str, block: Block) -> Iterator[RenderableType]:
    match block:
        case Paragraph():
            yield _words(block.text)
        case List():
            for k, item in enumerate(block.items, 1):
                yield Styled(f"{k}. " if block.numbered else "- ") + _words(item)
        case Table() if not block.rows:
            yield Styled(block.empty)
        case Table() | Pairs():
            yield _grid(block)
        case Figure():
            yield Styled(visible(block.description))
            yield from _parts(title, block.numbers) if block.numbers else ()
        case Section() | Details() if title:
            yield Styled(visible(title), "bold")


def _grid(block: Table | Pairs) -> Grid:
    columns = block.columns if isinstance(block, Table) else ()
    grid = Grid(box=None, pad_edge=False, show_header=any(plain(column.name) for column in columns))
    for column in columns:
        grid.add_column(
            _words(column.name), justify="right" if column.number else "left", overflow="fold", no_wrap=column.number
        )
    for row in block.body("-") if isinstance(block, Table) else block.rows:
        grid.add_row(*map(_words, row))
    return grid


def _words(content: Content) -> Styled:
    match content:
        case tuple():
            return Styled("").join(map(_words, content))
        case Badge():
            return Styled(visible(content.text), COLOURS[content.tone])
        case Span():
            return Styled(visible(content.text), STYLES.get(content.style, ""))
        case _:
            return Styled(visible(plain(content)))
