"""Python names on pages exist: functions, methods and keyword arguments of the library, and modules of the platform.

An expression is followed as a reader would: `f.score(x).plot()` is looked up from the class of a fit through the
annotations of its properties and methods. An object whose class is not known is not followed.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import FunctionType, MethodType, ModuleType
from typing import Any

import pytest

import irt_psychometrics as irt
from tests.helpers.written_commands import FENCED, ROOT, fenced_blocks
from tests.unit.test_library_boundary import PUBLIC
from tests.unit.test_pages import PAGES

LIBRARY = ROOT / "packages/irt-psychometrics"
LIBRARY_PAGES = [
    LIBRARY / "README.md",
    ROOT / "docs/how-to/coming-from-mirt.md",
    *(page for page in PAGES if page.parent.name == "library"),
]
"""Pages on which `irt`, `f`, `x` and the names of modules mean the library. Elsewhere they have other meanings."""
SPAN = re.compile(r"`([^`\n]+)`")
DOTTED = re.compile(r"\b[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
FILE = re.compile(r"(?:[\w*-]+/)+[\w*-]+\.py")
SUFFIXES = re.compile(r"\.(json|csv|py|md|yaml|toml|service|timer|html|pdf|xlsx|parquet|npz|txt|sh|lock|R|ini|sql)\b")
ANYTHING = object()
"""An object whose class is not known."""
CLASSES = {
    name: found
    for module in walk_packages(irt.__path__, "irt_psychometrics.")
    if not module.name.endswith("__main__")
    for name, found in vars(import_module(module.name)).items()
    if inspect.isclass(found) and found.__module__.startswith("irt_psychometrics")
}


def roots() -> dict[str, Any]:
    """Return the object by the first name of an expression on a page."""
    found: dict[str, Any] = {"irt": irt, "irt_psychometrics": irt}
    for name in PUBLIC:
        module = import_module(f"irt_psychometrics.{name}")
        found |= {name: module} | {public: getattr(module, public) for public in module.__all__}
    found |= {name: getattr(irt, name) for name in irt.__all__}
    return found | dict.fromkeys(("f", "f1", "f2"), irt.Fit) | {"x": irt.Responses}


ROOTS = roots()


class Reader:
    """Looks up the names in one page's expressions and collects the missing ones."""

    def __init__(self, variables: dict[str, Any]) -> None:
        self.variables = dict(variables)
        self.faults: list[str] = []

    def value(self, node: ast.expr) -> Any:
        """Return the object of an expression. An instance is represented by its class."""
        if isinstance(node, ast.Name):
            return self.variables.get(node.id, ANYTHING)
        if isinstance(node, ast.Attribute):
            return self.attribute(self.value(node.value), node.attr)
        if isinstance(node, ast.Call):
            return self.result(node)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)
        return ANYTHING

    def attribute(self, owner: Any, name: str) -> Any:
        if owner is ANYTHING:
            return ANYTHING
        if isinstance(owner, type) and name in (fields := fields_of(owner)):
            return class_of(fields[name], owner)
        found = inspect.getattr_static(owner, name, None)
        if found is None and isinstance(owner, (type, FunctionType)):
            self.faults.append(f"{owner.__name__}.{name}")
            return ANYTHING
        if isinstance(owner, ModuleType):
            if not hasattr(owner, name):
                try:
                    return import_module(f"{owner.__name__}.{name}")
                except ImportError:
                    self.faults.append(f"{owner.__name__}.{name}")
                    return ANYTHING
            return getattr(owner, name)
        if isinstance(found, property) and found.fget:
            return class_of(found.fget.__annotations__.get("return", ""), owner)
        return getattr(owner, name, ANYTHING)

    def result(self, node: ast.Call) -> Any:
        called = self.value(node.func)
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
            self.value(argument)
        if not isinstance(called, (type, FunctionType, MethodType)):
            return ANYTHING
        known: set[str] = set()
        for one in inspect.signature(called).parameters.values():
            typed = re.fullmatch(r"Unpack\[(\w+)\]", str(one.annotation).strip("'"))
            known |= set(CLASSES[typed[1]].__annotations__) if typed else {one.name}
            known |= {str(word.arg) for word in node.keywords} if one.kind is one.VAR_KEYWORD and not typed else set()
        if known:
            self.faults += [
                f"{called.__qualname__}({word.arg}=)" for word in node.keywords if word.arg and word.arg not in known
            ]
        if isinstance(called, type):
            return called
        owner = called.__self__ if isinstance(called, MethodType) else ANYTHING
        return class_of(called.__annotations__.get("return", ""), owner)

    def statement(self, text: str) -> None:
        """Look up the names of a block of Python. Variables keep their classes for later blocks of the page."""
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("irt_psychometrics"):
                module = import_module(str(node.module))
                self.variables |= {one.asname or one.name: self.attribute(module, one.name) for one in node.names}
            elif isinstance(node, ast.Assign):
                names = [one.id for one in ast.walk(node.targets[0]) if isinstance(one, ast.Name)]
                self.variables |= dict.fromkeys(names, self.value(node.value) if len(names) == 1 else ANYTHING)
            elif isinstance(node, ast.Expr):
                self.value(node.value)


def fields_of(owner: type) -> dict[str, str]:
    return {one.name: str(one.type) for one in dataclasses.fields(owner)} if dataclasses.is_dataclass(owner) else {}


def class_of(annotation: object, owner: Any) -> Any:
    """Return the class that an annotation names, if it is a class of the library."""
    name = str(annotation).strip("'\"").removesuffix(" | None")
    return owner if name == "Self" else CLASSES.get(name, ANYTHING)


def without_columns_of_others(text: str) -> str:
    """Leave out the first column of each table whose second column is "here": it has names of other programs."""
    found, others = [], False
    for line in text.splitlines():
        others = line.startswith("|") and (others or bool(re.match(r"\|[^|]*\| here\b", line)))
        found.append(line[1:].partition("|")[2] if others else line)
    return "\n".join(found)


def faults_of(text: str, variables: dict[str, Any]) -> list[str]:
    """Return the names in a page's Python blocks and in its spans of code that do not exist."""
    reader = Reader(variables)
    for language, block in fenced_blocks(text):
        if language == "python":
            reader.statement(block.replace("…", "..."))
    reader.variables |= variables
    for span in SPAN.findall(without_columns_of_others(FENCED.sub("", text))):
        if SUFFIXES.search(span):
            continue
        try:
            reader.value(ast.parse(span.replace("…", "..."), mode="eval").body)
        except SyntaxError:  # a part of an expression, or another language
            for name in DOTTED.findall(span):
                reader.value(ast.parse(name, mode="eval").body)
    return list(dict.fromkeys(reader.faults))


@pytest.mark.parametrize("page", sorted({*PAGES, *LIBRARY_PAGES}), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_names_on_pages_exist(page: Path) -> None:
    variables = ROOTS if page in LIBRARY_PAGES else {"irt_psychometrics": irt}
    assert faults_of(page.read_text("utf-8"), variables) == []


def test_names_that_do_not_exist_are_found() -> None:
    wrong = "`fit.m2.form_fit` `f.scores(x)` `irt.fit(x, modle='2pl')` `f.plot(item='q1')` `irt.scoring.Table`"
    right = "`f.plot('q1')` `irt.fit(x, model='2pl')` `f.items.to_frame()` `f.score(x).plot()`"
    assert faults_of(wrong, ROOTS) == [
        *("fit.m2", "Fit.scores", "fit(modle=)", "Fit.plot(item=)", "irt_psychometrics.scoring.Table"),
    ]
    assert faults_of(right, ROOTS) == []


def test_python_files_on_pages_exist() -> None:
    """A page names a file relative to the repository, the platform, the library or the tests.

    A name in capitals is any file. Files of the exam service, `apps/…`, are elsewhere.
    """
    folders = [ROOT, ROOT / "irt_assets", ROOT / "tests", LIBRARY, LIBRARY / "irt_psychometrics"]
    named = {(page.name, name) for page in PAGES for name in FILE.findall(FENCED.sub("", page.read_text("utf-8")))}
    patterns = {one: re.sub(r"\b[A-Z]+\b", "*", one[1]) for one in named if not one[1].startswith("apps/")}
    assert len(patterns) > 150
    assert [one for one, path in sorted(patterns.items()) if not any([*folder.glob(path)] for folder in folders)] == []
