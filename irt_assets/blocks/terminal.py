"""Print blocks on a terminal. Control characters in texts are shown, never sent to the terminal."""

import re
from collections.abc import Iterator, Sequence

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
    """Print the blocks. A table is as wide as the terminal, or 160 characters if no terminal is attached.

    A table that needs more is printed in parts, each with some of the columns after the first column.
    """
    width = console.width if console.is_terminal else PIPED_WIDTH
    for title, block in walk(blocks):
        for part in _parts(title, block, width):
            if isinstance(part, Grid):
                Console(highlight=False, width=max(width, _width(part))).print(part)
            else:
                console.print(part)


def visible(text: str) -> str:
    """Replace control characters by their escape sequences, such as x1b."""
    return CONTROL_CHARACTERS.sub(lambda match: ascii(match[0])[1:-1], text)


def _width(grid: Grid) -> int:
    """Return the smallest width of a grid that breaks no word, in characters."""
    wide = Console(width=10_000)
    return Measurement.get(wide, wide.options, grid).minimum


def _parts(title: str, block: Block, width: int) -> Iterator[RenderableType]:
    match block:
        case Paragraph():
            yield _words(block.text)
        case List():
            for k, item in enumerate(block.items, 1):
                yield Styled(f"{k}. " if block.numbered else "- ") + _words(item)
        case Table() if not block.rows:
            yield Styled(block.empty)
        case Table():
            yield from _grids(block, width)
        case Pairs():
            yield _grid(block)
        case Figure():
            yield Styled(visible(block.description))
            yield from _parts(title, block.numbers, width) if block.numbers else ()
        case Section() | Details() if title:
            yield Styled(visible(title), "bold")


def _grids(block: Table, width: int) -> Iterator[RenderableType]:
    """Divide a table into grids that fit the width, each with the first column."""
    chosen = [0]
    for column in range(1, len(block.columns)):
        if len(chosen) > 1 and _width(_grid(block, [*chosen, column])) > width:
            yield _grid(block, chosen)
            yield ""
            chosen = [0]
        chosen.append(column)
    yield _grid(block, chosen)


def _grid(block: Table | Pairs, chosen: Sequence[int] = ()) -> Grid:
    """Return a grid of the rows; of a table, with the chosen columns."""
    columns = [block.columns[k] for k in chosen] if isinstance(block, Table) else []
    grid = Grid(box=None, pad_edge=False, show_header=any(plain(column.name) for column in columns))
    for column in columns:
        grid.add_column(
            _words(column.name), justify="right" if column.number else "left", overflow="fold", no_wrap=column.number
        )
    for row in block.body("-") if isinstance(block, Table) else block.rows:
        grid.add_row(*map(_words, [row[k] for k in chosen] if chosen else row))
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
