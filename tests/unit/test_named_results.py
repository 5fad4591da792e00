"""Functions that return three values or more return a record or a mapping, so that each value has a name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.testbed.house import PRODUCT

ROOT = Path(__file__).parents[2]
BY_POSITION = {
    "irt_assets/cli/__init__.py _Irt.resolve_command": "click's own method",
    "services/theta_api/app.py read": "the history and the arguments of `_answer`",
    "irt_assets/scores/releases.py moved_tables": "unpacked at once by the check and the page",
    "irt_assets/scores/issued.py IssuedScore.sitting": "a key, compared as a whole",
    "irt_assets/decisions/rekey.py read_options": "rows of a table",
    "irt_assets/kpis/weekly.py _read_inputs": "the arguments of `kpi_parts`, in its order",
    "services/dashboard/views/learners.py _search": "unpacked at once by the page",
    "services/dashboard/views/form.py _choose": "unpacked at once by the pages that share it",
    "irt_psychometrics/classical/option_statistics.py by_group": "columns of a record, in its order",
    "irt_assets/drift/dif_page.py _weight": "a sort key, compared as a whole",
    "irt_psychometrics/core/items.py ItemRow.abc": "(a, b, c), hashed and compared as a whole",
    "irt_psychometrics/core/assumed_errors.py assumed_errors": "in the order in which `from_errors` takes them",
    "irt_psychometrics/dif/wald.py curve_difference": "two integrals and the slopes of the second",
    "irt_psychometrics/drift/errors.py repeat_linking": "a linking, its constants, and the places of its anchors",
    "irt_psychometrics/itemfit/dependence.py answers_and_probabilities": "matrices of a block, multiplied at once",
    "irt_psychometrics/itemfit/fit_summary.py _sample_persons": "the arguments that it was given, of fewer persons",
    "irt_psychometrics/estimation/likelihood.py _counts": "what a kernel adds up, in the kernel's order",
    "irt_psychometrics/scoring/moving_filter.py Lattice.prior": "arguments of a kernel, in the kernel's order",
    "irt_psychometrics/estimation/reductions.py pieces": "arguments of a kernel, in the kernel's order",
    "irt_assets/responses/window.py timed_responses_of": "columns of the same answers, unpacked at once",
    "irt_psychometrics/adaptive/item_posterior.py fit_bank": "fields of the record `ItemPosterior`",
    "irt_psychometrics/adaptive/shadow.py ShadowTests._make_solvers": "a pool's entry, unpacked at once",
    "irt_psychometrics/assembly/forms.py _with_certainty": "fields of the record that its only caller makes",
    "irt_psychometrics/assembly/forms.py solve": "a solution with its objective and bound, as from `Program.solve`",
    "irt_psychometrics/cells/notes.py sums_of": "the arguments of `describe_cells`, in its order",
    "irt_psychometrics/core/item_models.py ItemCurves.score_rows": "arguments of kernels, in the kernels' order",
    "irt_psychometrics/core/nominal_model.py NominalModel._lines": "the terms of one formula, unpacked at once",
    "irt_psychometrics/itemfit/option_curves.py _code_options": "unpacked at once by its only caller",
    "irt_psychometrics/dimensions/margins.py _arguments": "arguments of `curves`",
    "irt_psychometrics/regression/maximum.py _moved": "the terms of one formula, unpacked at once",
    "irt_psychometrics/scoring/total_error.py ParameterErrors._score_rows": "arguments of a kernel",
    "irt_psychometrics/core/linear_programs.py Program.solve": "a solution with its objective and bound",
}
"""Functions that return three values or more by position, each with the reason."""


def tuples_in(annotation: ast.AST) -> bool:
    """Whether an annotation is or contains a tuple with three parts or more, except as the key of a mapping."""
    if isinstance(annotation, ast.Subscript):
        name, parts = ast.unparse(annotation.value), annotation.slice
        elements = parts.elts if isinstance(parts, ast.Tuple) else [parts]
        if name == "tuple" and len(elements) > 2:
            return True
        return any(map(tuples_in, elements[1:] if "dict" in name or "Mapping" in name else elements))
    return any(map(tuples_in, ast.iter_child_nodes(annotation)))


def by_position(source: str) -> Iterator[str]:
    """Yield a module's functions that return three values or more by position, prefixed with their class."""
    module = ast.parse(source)
    named = {
        ast.unparse(node.targets[0])
        for node in module.body
        if isinstance(node, ast.Assign) and tuples_in(node.value) and isinstance(node.value, ast.Subscript)
    }
    classes = {id(cls): node.name for node in ast.walk(module) if isinstance(node, ast.ClassDef) for cls in node.body}
    for node in ast.walk(module):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.returns is None:
            continue
        aliases = {name.id for name in ast.walk(node.returns) if isinstance(name, ast.Name)} & named
        if aliases or tuples_in(node.returns):
            cls = classes.get(id(node))
            yield f"{cls}.{node.name}" if cls else node.name


def path_text(path: Path) -> str:
    return path.relative_to(ROOT).as_posix().removeprefix("packages/irt-psychometrics/")


def test_functions_that_return_three_values_or_more_name_these_values() -> None:
    found = {
        f"{path_text(path)} {function}"
        for folder in PRODUCT
        for path in (ROOT / folder).rglob("*.py")
        if not path.name.endswith("kernels.py")  # compiled code cannot return records
        if re.search(r"tuple\[[^:=]*,[^:=]*,", text := path.read_text())
        for function in by_position(text)
    }
    assert found - BY_POSITION.keys() == set(), "name what these hand back, or say here why not"
    assert BY_POSITION.keys() - found == set(), "these are named by now: take them out of the list"


def test_annotations_with_tuples_are_found_in_all_forms() -> None:
    source = """
Row = tuple[str, str, int]
def direct() -> tuple[int, int, int]: ...
def perhaps() -> tuple[int, int, int] | None: ...
def each() -> Iterator[tuple[str, int, int]]: ...
def by_name() -> Row: ...
def key() -> dict[tuple[str, str, str], int]: ...
def value() -> dict[str, tuple[str, str, str]]: ...
def two() -> tuple[int, tuple[int, ...]]: ...
class Of:
    def method(self) -> tuple[int, int, int]: ...
"""
    assert [*by_position(source)] == ["direct", "perhaps", "each", "by_name", "value", "Of.method"]


def test_functions_do_not_return_either_a_result_or_a_text() -> None:
    """A function without a result raises, or returns `Refusal`, so callers cannot mistake a reason for a result."""
    found = {
        f"{path_text(path)} {node.name}: {ast.unparse(node.returns)}"
        for folder in PRODUCT
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"->(?=[^:]*\|)[^:]*\bstr\b", text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and isinstance(node.returns, ast.BinOp)
        if {"str"} < {*ast.unparse(node.returns).split(" | ")} - {"None", "int", "float", "bytes", "T"}
    }
    assert found == set()
