"""Statements of a file and its imports inside functions.

A statement is a node of `ast.stmt` other than a string, as docstrings are.
"""

import ast
from collections.abc import Iterator

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
