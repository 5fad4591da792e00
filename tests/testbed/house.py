"""Statements of a file, its imports inside functions, and its strings.

A statement is a node of `ast.stmt` other than a string, as docstrings are.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PRODUCT = ("irt_assets", "packages/irt-psychometrics/irt_psychometrics", "resources", "jobs", "services")
LIBRARY_TESTS = tuple(f"packages/irt-psychometrics/{folder}" for folder in ("tests", "psychometrics_testbed"))
CONTAINERS = (ast.stmt, ast.ExceptHandler, ast.match_case)
"""Nodes that are or contain statements."""


def is_docstring(node: ast.AST) -> bool:
    """Whether a node is a string statement, such as a docstring or a string after a constant or field."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def statements_in(node: ast.AST) -> Iterator[ast.AST]:
    """Statements below a node, and the parts of `try` and `match` that contain statements. Expressions are skipped."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, CONTAINERS):
            yield child
            yield from statements_in(child)


def statements(tree: ast.Module) -> int:
    return sum(isinstance(node, ast.stmt) and not is_docstring(node) for node in statements_in(tree))


def imports_within_functions(tree: ast.Module) -> set[ast.Import | ast.ImportFrom]:
    return {
        node
        for function in statements_in(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in statements_in(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }


@dataclass(frozen=True)
class Source:
    """Facts about a Python file. Strings are pairs of line and text."""

    n_statements: int
    n_inner_imports: int
    docstrings: list[tuple[int, str]]
    strings: list[tuple[int, str]]


@cache
def read_source(path: Path) -> Source:
    """Read a file, once for all tests of a process.

    The syntax tree is not kept, because a thousand in memory would slow down garbage collection.
    """
    tree = ast.parse(path.read_text("utf-8"))
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return Source(
        statements(tree),
        len(imports_within_functions(tree)),
        [(node.lineno, node.value.value) for node in statements_in(tree) if is_docstring(node)],  # type: ignore[attr-defined]
        [(node.lineno, node.value) for node in constants if isinstance(node.value, str)],
    )
