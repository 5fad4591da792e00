"""Import the names of a public module when they are first used, so that importing the module itself is fast.

A public module lists its imports once, below `if TYPE_CHECKING:`. Type checkers and editors read the same list.
"""

import ast
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any


def names_when_used(module: str) -> Callable[[str], Any]:
    """Return a `__getattr__` for `module` that imports names as the module's `if TYPE_CHECKING:` does.

    A name that is imported from `module` itself is one of its submodules.
    """

    def find(name: str) -> Any:
        home = names_of(module).get(name)
        if home is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = import_module(f"{module}.{name}") if home == module else getattr(import_module(home), name)
        setattr(sys.modules[module], name, found)
        return found

    return find


@cache
def names_of(module: str) -> dict[str, str]:
    """Map each name that `module` imports when it is used to the module that has the name."""
    loader: Any = sys.modules[module].__loader__
    tree = ast.parse(loader.get_source(module))
    return {
        name.name: node.module
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for name in node.names
    }
