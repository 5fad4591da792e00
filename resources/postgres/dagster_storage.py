"""Dagster's storage, in the database whose address `irt` sets in the environment of Dagster's processes."""

import os
from typing import Any, Self

import click
from dagster_postgres import DagsterPostgresStorage

ADDRESS = "IRT_DAGSTER_DATABASE_URL"


class Storage(DagsterPostgresStorage):
    """Dagster's PostgreSQL storage at ADDRESS.

    Raises ClickException, which Dagster's commands print without a traceback, if ADDRESS is not set.
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: Any, _config_value: Any) -> Self:
        if url := os.environ.get(ADDRESS):
            return cls(url, inst_data=inst_data)
        raise click.ClickException(
            f"{ADDRESS} is not set, so Dagster has no database here. Start Dagster's servers with `irt serve` instead."
        )
