"""A company's table of answers in some database, the file of sources that names it, and pulls from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml
from sqlalchemy.pool import NullPool

from irt_assets.intake.pulling.pull import Pull
from irt_assets.intake.pulling.sources_file import PullSource, find_source
from irt_assets.intake.report import ImportReport
from resources.postgres.database import Database
from resources.settings import Settings

NAME = "lms"
TABLE = """CREATE TABLE answers (
    id bigint PRIMARY KEY, learner varchar(40), question varchar(40), answered {time}, score {score},
    written {time})"""
MAPPING = {
    "columns": {
        "attempt_id": "id",
        "user_id": "learner",
        "item_id": "question",
        "completed_at": "answered",
        "correct": "score",
    }
}

POINTS = {
    "columns": {ours: name for ours, name in MAPPING["columns"].items() if ours != "correct"} | {"score": "score"},
    "max_scores": {"q*": 4},
}
"""Mapping of the same table, with 0 to 4 points per answer."""


class Company:
    """The company's database, by its SQLAlchemy URL."""

    def __init__(self, address: str, file: Path) -> None:
        self.address, self.file = address, file
        self._engine = sa.create_engine(address.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)

    def run(self, *statements: str) -> None:
        with self._engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    @contextmanager
    def open_transaction(self, *statements: str) -> Iterator[None]:
        """Context whose statements are committed at its end."""
        with self._engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
            yield

    def write_file(self, settings: Settings, name: str = NAME, **keys: Any) -> Settings:
        """Write a file of sources with one source. Returns the settings that name the file."""
        given = {
            "address": self.address,
            "table": "answers",
            "mapping": MAPPING,
            "cursor": {"column": "written", "key": "id"},
        }
        source = {key: value for key, value in (given | keys).items() if value is not None}
        self.file.write_text(yaml.safe_dump({name: source}), "utf-8")
        self.file.chmod(0o600)
        return settings.model_copy(update={"irt_pull_sources": self.file})


def pull(database: Database, settings: Settings, name: str = NAME, **options: Any) -> ImportReport:
    return Pull(database, source(settings, name)).run(**options)


def source(settings: Settings, name: str = NAME) -> PullSource:
    return find_source(settings, name)


def clock_after(checks: int) -> Callable[[], float]:
    """A clock by which a pull limited to one second has time left at its first `checks` checks, but not afterwards."""
    return chain(repeat(0.0, 1 + checks), repeat(2.0)).__next__
