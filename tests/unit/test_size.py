"""Sizes of the project may not grow unnoticed: they are in `size.toml`, and a commit that raises a size names its user.

`python -m tests.unit.test_size > tests/unit/size.toml`, from the root, writes the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from irt_assets.definitions import build_defs
from irt_assets.scales.rules import STAGE_OF
from resources.settings import Settings
from resources.tables import METADATA
from tests.helpers.written_commands import irt_commands
from tests.testbed.house import LIBRARY_TESTS, PRODUCT, Source, read_source
from tests.unit.test_library_boundary import names_of_the_library

ROOT = Path(__file__).parents[2]
SIZES = Path(__file__).with_name("size.toml")


def sources(*folders: str) -> Iterator[Source]:
    return (read_source(path) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def measure() -> dict[str, int]:
    product = [*sources(*PRODUCT)]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    repository = build_defs(Settings(_env_file=None)).get_repository_def()
    return {
        "statements of the product": sum(source.n_statements for source in product),
        "statements of tests": sum(source.n_statements for source in sources("tests", *LIBRARY_TESTS)),
        "imports inside functions": sum(source.n_inner_imports for source in product),
        "settings": len(Settings.model_fields),
        "commands": sum(1 for _ in irt_commands()),
        "tables": len(METADATA.tables),
        "sensors": len(repository.sensor_defs),
        "rules of a scale": len(STAGE_OF),
        "direct dependencies": len(project["dependencies"]),
        "names of the library that the platform uses": len({one[1:] for one in names_of_the_library()}),
    }


def test_sizes_of_the_project_do_not_exceed_the_stored_sizes() -> None:
    allowed, found = tomllib.loads(SIZES.read_text("utf-8")), measure()
    assert allowed.keys() == found.keys()
    grown = [f"{name}: {size - allowed[name]} more" for name, size in found.items() if size > allowed[name]]
    assert not grown, (
        f"than in {SIZES.name}. Remove as much elsewhere, or raise the number in a commit of its own that names the "
        f"user who needs it: {'; '.join(grown)}"
    )


if __name__ == "__main__":
    print("# Sizes that may fall and not grow. A commit that raises one names the user who needs it.")
    print("# Written by: python -m tests.unit.test_size > tests/unit/size.toml")
    for name, size in measure().items():
        print(f'"{name}" = {size}')
