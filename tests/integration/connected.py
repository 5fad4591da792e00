"""Calls that need a connection, each in a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg

from resources.postgres.database import Database

P = ParamSpec("P")
T = TypeVar("T")


def connected(
    database: Database, call: Callable[Concatenate[psycopg.Connection[Any], P], T], *args: P.args, **options: P.kwargs
) -> T:
    """Call a function with a connection and these arguments, and commit. Returns what the function returns."""
    with database.connect() as connection:
        return call(connection, *args, **options)
