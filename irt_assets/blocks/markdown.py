"""Render blocks as Markdown for the Dagster UI and the docs."""

import html
import re

from irt_assets.blocks import (
    Badge,
    Block,
    Box,
    Content,
    Details,
    Figure,
    Figures,
    List,
    Pairs,
    Paragraph,
    Section,
    Span,
    Table,
    plain,
)


def markdown(*blocks: Block) -> str:
    """Render the blocks, separated by empty lines. Every text is escaped."""
    return "\n\n".join(map(_block, blocks))


def escape(text: str) -> str:
    """Escape `text` for Markdown. Underscores inside a word need no escape."""
    return re.sub(r"([\\`*\[\]|~]|(?<!\w)_|_(?!\w))", r"\\\1", html.escape(re.sub(r"\s+", " ", text), quote=False))


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            return _words(block.text)
        case List():
            marks = [f"{k}." if block.numbered else "-" for k in range(1, len(block.items) + 1)]
            return "\n".join(f"{mark} {_words(item)}" for mark, item in zip(marks, block.items, strict=True))
        case Pairs():
            return "\n".join(f"- **{escape(name)}**: {_words(value)}" for name, value in block.rows)
        case Table():
            return _table(block)
        case Figure():
            caption = f"\n\n{escape(block.caption)}" if block.caption else ""
            return block.chart.to_markdown(block.description) + caption
        case Figures():
            return markdown(*block.figures)
        case Section() | Details():
            title, level = (block.title, block.level) if isinstance(block, Section) else (block.summary, 4)
            return f"{'#' * level} {escape(title)}\n\n{markdown(*block.blocks)}"
        case Box():
            return "\n".join(f"> {line}" for line in markdown(*block.blocks).split("\n"))


def _table(table: Table) -> str:
    if not table.rows:
        return escape(table.empty)
    alignment = "".join("--:|" if column.number else "---|" for column in table.columns)
    rows: list[list[Content]] = [[column.name for column in table.columns], *table.body("-")]
    lines = ["|" + "".join(f" {text} |" if text else " |" for text in map(str.strip, map(_words, row))) for row in rows]
    return "\n".join([lines[0], f"|{alignment}", *lines[1:]])


def _words(text: Content) -> str:
    if isinstance(text, tuple):
        return "".join(map(_words, text))
    shown = escape(plain(text))
    if isinstance(text, Span):
        shown = {"bold": f"**{shown}**", "code": f"<code>{shown}</code>"}.get(text.style, shown)
        return f"[{shown}]({text.link})" if text.link else shown
    return f"**{shown}**" if isinstance(text, Badge) else shown
