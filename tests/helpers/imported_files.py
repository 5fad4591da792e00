"""Files of the repository that a file imports, directly or indirectly."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path


@cache
def imported_files(root: Path, file: Path) -> frozenset[Path]:
    """Paths below `root`: the file itself and all files it imports, directly or indirectly, also within functions."""
    found: set[Path] = set()
    to_read = [file]
    while to_read:
        if (one := to_read.pop()) not in found:
            found.add(one)
            to_read += _imported(root, one)
    return frozenset(found)


@cache
def _imported(root: Path, file: Path) -> list[Path]:
    parts = [name.split(".") for name in {name for _, name in imported_names(root, file)}]
    roots = (root, root / "packages/irt-psychometrics")
    modules = {base.joinpath(*each[:n]) for base in roots for each in parts for n in range(1, len(each) + 1)}
    candidates = (path for module in modules for path in (module.with_suffix(".py"), module / "__init__.py"))
    return [path for path in candidates if path.is_file()]


def imported_names(root: Path, file: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of each imported module or object, also of imports within functions."""
    package = file.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, one.name) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            yield from ((node.lineno, ".".join(filter(None, (*above, node.module, one.name)))) for one in node.names)
