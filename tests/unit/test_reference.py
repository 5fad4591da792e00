"""The reference page is the registry's, not somebody's memory of it."""

from pathlib import Path

from irt_assets.engines import reference as engines
from resources.postgres.reference import markdown


def test_the_page_of_the_tables_is_the_one_the_registry_makes() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "tables.md"
    assert page.read_text("utf-8") == markdown(), (
        "run: python -m resources.postgres.reference > docs/reference/tables.md"
    )


def test_the_page_of_the_engines_is_the_one_the_registry_makes() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "engine-table.md"
    assert page.read_text("utf-8") == engines.markdown(), (
        "run: python -m irt_assets.engines.reference > docs/reference/engine-table.md"
    )
