"""Size of the product, the dependencies between its rooms, and habits that are counted: long functions, locks.

    python -m benchmarks.house        # from the root of the repository

A room is a package, or a module outside all packages. Imports inside functions count as dependencies, too, because they
become so when the function runs.
"""

import ast
import io
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from subprocess import check_output

import numpy as np
from grimp import build_graph
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tests.testbed.house import PRODUCT, imports_within_functions, is_docstring, statements

COLUMNS = ("files", "statements", "lines", "docstrings", "comments", "inner")
LONG, MANY = (50, 80), (8, 10)
"""Lines of a long function, and its arguments if they are many."""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LOCKS = ("advisory_lock", "pg_advisory", "pg_try_advisory")


def counts(path: Path) -> Counter[str]:
    """Statements, lines, lines of docstrings and of comments, and imports inside functions of one file."""
    text = path.read_text()
    tree = ast.parse(text)
    docstrings = [node for node in ast.walk(tree) if is_docstring(node)]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return Counter(
        files=1,
        statements=statements(tree),
        lines=text.count("\n"),
        docstrings=sum(node.end_lineno - node.lineno + 1 for node in docstrings),
        comments=len({token.start[0] for token in tokens if token.type == tokenize.COMMENT}),
        inner=len(imports_within_functions(tree)),
    )


def measure_functions(trees: Iterable[ast.Module]) -> Iterator[str]:
    """Yield a sentence on the functions' lines and one on their arguments, with `self` and `cls`."""
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]
    lines = np.array([node.end_lineno - node.lineno + 1 for node in functions])
    arguments = np.array([len([*a.posonlyargs, *a.args, *a.kwonlyargs]) for a in (node.args for node in functions)])
    over = ", ".join(f"{(lines > limit).sum()} over {limit}" for limit in LONG)
    yield f"{lines.size:,} functions: median {np.median(lines):.0f} lines, 90 % {np.quantile(lines, 0.9):.0f}, {over}"
    yield "arguments: " + ", ".join(f"{(arguments >= limit).sum()} functions with {limit} or more" for limit in MANY)


def uses_of_locks(text: str) -> int:
    """Count the lines that take an advisory lock of PostgreSQL."""
    return sum(any(f"{lock}(" in line or f"{lock}_" in line for lock in LOCKS) for line in text.splitlines())


def private_names(tree: ast.Module) -> set[str]:
    """Names that a file imports from private modules of Dagster, or that are private themselves."""
    return {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("dagster")
        for alias in node.names
        if "._" in f"{node.module}.{alias.name}"
    }


def room(module: str) -> str:
    """Room of a module: for `irt_assets.ledger.fits` it is `irt_assets.ledger`."""
    return ".".join(module.split(".")[:2])


def circles(arrows: set[tuple[str, str]]) -> list[list[str]]:
    """Strongly connected components of two or more rooms."""
    nodes = sorted({node for arrow in arrows for node in arrow})
    index = {node: i for i, node in enumerate(nodes)}
    rows, columns = zip(*((index[start], index[end]) for start, end in arrows), strict=True)
    matrix = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(nodes), len(nodes)))
    components = defaultdict(list)
    for node, component in zip(nodes, connected_components(matrix, connection="strong")[1], strict=True):
        components[component].append(node)
    return [component for component in components.values() if len(component) > 1]


def main() -> None:
    folders = {Path(folder).name: Path(folder) for folder in PRODUCT}
    graph = build_graph(*folders)
    rooms: dict[str, Counter[str]] = defaultdict(Counter)
    for module in graph.modules:
        package, *names = module.split(".")
        path = folders[package].joinpath(*names)
        rooms[room(module)] += counts(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"))
    arrows = {(start, end) for start in graph.modules for end in graph.find_modules_directly_imported_by(start)}
    between = {(room(start), room(end)) for start, end in arrows if room(start) != room(end)}

    rooms["product"] = sum((rooms[name] for name in sorted(rooms)), Counter())
    for name in ("tests", "benchmarks"):
        rooms[name] = sum((counts(path) for path in Path(name).rglob("*.py")), Counter())
    print(f"{'':36}" + "".join(f"{column:>11}" for column in COLUMNS))
    for name in [*sorted(rooms.keys() - {"product", "tests", "benchmarks"}), "product", "tests", "benchmarks"]:
        print(f"{name:36}" + "".join(f"{rooms[name][column]:11,}" for column in COLUMNS))
    entries = {name.split("/")[0] for name in check_output(["git", "ls-files"], text=True).splitlines()}
    print(f"\n{len(entries)} entries at the root; {len(rooms) - 3} rooms, {len(between)} arrows between them")
    for kind, components in (("rooms", circles(between)), ("modules", circles(arrows))):
        print(
            f"{len(components)} circles of {kind}" + "".join(f"\n  {', '.join(component)}" for component in components)
        )
    texts = [path.read_text("utf-8") for folder in PRODUCT for path in Path(folder).rglob("*.py")]
    trees = [ast.parse(text) for text in texts]
    print(*measure_functions(trees), sep="\n")
    print(f"{sum(map(uses_of_locks, texts))} lines with advisory locks")
    print(f"{len(set().union(*map(private_names, trees)))} private names of Dagster")


if __name__ == "__main__":
    main()
