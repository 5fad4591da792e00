"""Which files of the repository a file imports, and these, and so on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path


def imported_files(root: Path, file: Path) -> set[Path]:
    """Paths below `root`: the file itself, and all that it imports, at its head or within a function."""
    found: set[Path] = set()
    to_read = [file]
    while to_read:
        if (one := to_read.pop()) not in found:
            found.add(one)
            to_read += _imported(root, one)
    return found


@cache
def _imported(root: Path, file: Path) -> list[Path]:
    package = file.relative_to(root).parent.parts
    named = {name for node in ast.walk(ast.parse(file.read_text("utf-8"))) for name in _names(node, package)}
    parts = [name.split(".") for name in named]
    modules = {root.joinpath(*each[:n]) for each in parts for n in range(1, len(each) + 1)}
    candidates = (path for module in modules for path in (module.with_suffix(".py"), module / "__init__.py"))
    return [path for path in candidates if path.is_file()]


def _names(node: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """Of modules, or of what is in them."""
    if isinstance(node, ast.Import):
        yield from (one.name for one in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package[: len(package) + 1 - node.level] if node.level else ()
        yield from (".".join(filter(None, (*above, node.module, one.name))) for one in node.names)
