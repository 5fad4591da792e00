"""An item model is one entry: code outside the entries does not decide by the kind of a model.

mypy refuses to read an attribute that `ItemModel` does not have, unless the code narrows the type first, so counting
narrowings by subclasses counts these reads. Flags are the attributes of `ItemModel` that are `True` or `False`.
"""

from __future__ import annotations

import ast
import inspect
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

from irt_psychometrics.items import ItemModel
from tests.testbed.house import PRODUCT

ROOT = Path(__file__).parents[2]
READS = {
    "itemfit/model_replicates.py": "steps of a block are no parameters of an item alone",
    "estimation/em_request.py": "items of a block have their steps in common",
    "commands/simulating.py": "drawn items of a block have the same steps",
    "itemfit/m2.py": "C₂ compares mean scores, which scores without order do not have",
    "scales/scored_models.py": "the bank names the blocks of such items only",
}
"""Files outside the entries that ask for the kind of a model, each once, and why."""


def subclasses(of: type) -> Iterator[type]:
    for one in of.__subclasses__():
        yield one
        yield from subclasses(one)


def narrowed_types(node: ast.AST) -> list[ast.expr]:
    """Return the types that an expression or pattern tests."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
        return [node.args[1]]
    return [node.cls] if isinstance(node, ast.MatchClass) else []


def decisions(tree: ast.AST, models: set[str], flags: set[str]) -> int:
    """Count reads of a flag, and tests for a subclass of `ItemModel`."""
    found = 0
    for node in ast.walk(tree):
        found += isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in flags
        for of in narrowed_types(node):
            found += any(getattr(name, "id", getattr(name, "attr", "")) in models for name in ast.walk(of))
    return found


def test_five_places_at_most_decide_by_the_kind_of_an_item_model() -> None:
    classes = [one for one in subclasses(ItemModel) if one.__module__.startswith("irt_psychometrics")]
    entries = {inspect.getfile(one) for one in (ItemModel, *classes)}
    models = {one.__name__ for one in classes}
    flags = {name for name, of in get_type_hints(ItemModel).items() if of is bool}
    found: Counter[str] = Counter()
    for path in (path for folder in PRODUCT for path in (ROOT / folder).rglob("*.py") if str(path) not in entries):
        if number := decisions(ast.parse(path.read_text("utf-8")), models, flags):
            found["/".join(path.parts[-2:])] = number
    assert dict(found) == dict.fromkeys(READS, 1)
    assert found.total() <= 5


def test_decisions_by_the_kind_of_a_model_are_counted() -> None:
    code = """
if isinstance(some.model, ScoredModel | families.GradedModel) and not model.block_steps:
    model.name = "x"
match model:
    case LogisticModel():
        other.block_steps = True
"""
    assert decisions(ast.parse(code), {"ScoredModel", "GradedModel", "LogisticModel"}, {"block_steps"}) == 3
